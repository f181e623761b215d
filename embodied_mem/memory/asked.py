"""The side of a memory that is asked: recall, questions in words, and feedback on the answers."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from embodied_mem.errors import InputError
from embodied_mem.memory.contents import Contents
from embodied_mem.memory.recall.ask import Answer, ask
from embodied_mem.memory.recall.encoder import ImageEncoder
from embodied_mem.memory.recall.recall import recall
from embodied_mem.memory.recall.recent import RecentRecalls
from embodied_mem.memory.recall.sentences import SentenceEncoder, SentenceIndex
from embodied_mem.types import NS_PER_S, Command, Percept, Query, Recall

if TYPE_CHECKING:
    from collections.abc import Callable


class Asked:
    """Answers questions about contents; the base of `Memory`.

    Attributes:
        encoder: makes embeddings of images for `Query.like`; None where only embeddings are given.
        on_recall: called with every query and its answers, for viewers.
    """

    on_recall: list[Callable[[Query, list[Recall]], None]]
    _contents: Contents
    _recent: RecentRecalls
    encoder: ImageEncoder | None
    _sentences: SentenceIndex | None = None
    apply: Callable[[Command], None]
    _has_snapshot: Callable[[int], bool]

    def use_sentences(self, encoder: SentenceEncoder | None) -> None:
        """Lets `Query.text` find words by their meaning too.

        Args:
            encoder: with a method `encode`: `recall.sentence_model.SentenceModel("minishlab/potion-base-8M")`
                (the extra "text"), or a model of sentence-transformers; None finds by the words alone again.
        """
        self._sentences = None if encoder is None else SentenceIndex(encoder)

    def recall(self, query: Query) -> list[Recall]:
        """Answers a question, best first; every field of the query that is given must hold.

        Raises:
            InputError: the query makes no sense.
        """
        if isinstance(query.like, np.ndarray) and query.like.ndim == 3:
            if self.encoder is None:
                raise InputError("like is an image, but this memory has no encoder; set memory.encoder")
            self._contents.embedders.check(self.encoder)
            query = replace(query, like=self.encoder.image(query.like))
        answers = recall(query, self._contents, self._has_snapshot, self._sentences)
        numbered = self._recent.number(answers, self._contents.stamp or 0)
        for tell in self.on_recall:
            tell(query, numbered)
        return numbered

    def ask(self, words: str, k: int = 5) -> Answer:
        """Answers a question in words, such as "where did I last see the red mug"; no model is needed.

        Args:
            words: where, when or what, with rooms ("in the kitchen") and times ("at step 40",
                "2 minutes ago"). A question that fits no pattern is answered by its words, and says so.
            k: how many answers at most.

        Raises:
            InputError: an empty question, or a room that is not there.
        """
        return ask(words, self._contents, self.recall, k)

    def feedback(self, recall_id: int, *, useful: bool) -> None:
        """Says whether an answer was useful, which `recall` learns from where `recall.utility` is on.

        Args:
            recall_id: of an answer that `recall` gave.
            useful: whether it helped.

        Raises:
            InputError: no such answer, or too long ago.
        """
        entries = list(self._recent.evidence(recall_id))
        if entries:
            self.apply(Command("feedback", {"entries": entries, "value": 1.0 if useful else -1.0}))

    def _credit(self, percept: Percept) -> None:
        """Notes what was recalled since the last write, and credits a reward to it: commands of their own."""
        stamp, config = self._contents.stamp, self._contents.config
        budget, settings = config.budget, config.recall
        used = self._recent.take_new()
        if used and budget.limit and budget.evict == "lru":
            self.apply(Command("recalled", {"entries": list(used)}))
        if not settings.utility or percept.reward == 0 or not stamp:
            return
        entries = self._recent.since(stamp - round(settings.utility_horizon * NS_PER_S))
        if entries:
            self.apply(Command("feedback", {"entries": list(entries), "value": float(percept.reward)}))
