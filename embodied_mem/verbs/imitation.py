"""The first stage of a training that has a teacher: collect demonstrations, and imitate."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from embodied_mem.policy import MemoPPO
    from embodied_mem.policy.config import ImitationConfig

DEMONSTRATIONS = "demonstrations"
IMITATED = "imitated.zip"
HISTORY = "imitation.json"
SEED = 10_000_000
"""First seed of the demonstrations' episodes, far from those of training and evaluation."""
SKETCHES = 500_000
"""Episodes of the task have seeds so much later than those of the sketch."""


@dataclass(frozen=True)
class Imitation:
    """What an imitation needs.

    Attributes:
        model: its policy is trained.
        config: how.
        make: makes the task.
        out: folder of the run; what is there already is gone on with.
        seed: of the run.
        say: is told of progress, a line at a time.
        hidden: parts of the memory that the policy does not see; whoever collects first does.
    """

    model: MemoPPO
    config: ImitationConfig
    make: Callable[[], Any]
    out: Path
    seed: int
    say: Callable[[str], None]
    hidden: tuple[str, ...] = ()

    def run(self) -> list[dict[str, float]]:
        """Collects, imitates, and lets the policy act in further rounds; returns the history of epochs.

        A run that was cut off keeps its demonstrations, and the weights after every round.
        """
        history = self.history()
        done = max((int(row["round"]) for row in history), default=-1) + 1
        if done:
            self.model.policy.load_state_dict(self.imitated().state_dict())
        else:
            self._keep_company()
        for number in range(done, self.config.rounds + 1):
            self._collect(number)
            history += self._imitate(number)
            self.model.save(self.out / IMITATED)
            (self.out / HISTORY).write_text(json.dumps(history, indent=1))
        return history

    def imitated(self) -> Any:
        """Returns the policy as the last round left it."""
        return type(self.model).load(self.out / IMITATED, device=self.model.device).policy

    def history(self) -> list[dict[str, float]]:
        """Returns the epochs of the rounds that are done."""
        path = self.out / HISTORY
        if not path.exists() or not (self.out / IMITATED).exists():
            return []
        found: list[dict[str, float]] = json.loads(path.read_text())
        return found

    @property
    def _first(self) -> Path:
        """Folder of the first collection, which several trainings may share."""
        return self._of_seed(self.config.collected) if self.config.collected else self.out / DEMONSTRATIONS

    def _of_seed(self, path: str) -> Path:
        return Path(path.replace("{seed}", str(self.seed)))

    def _collections(self, number: int) -> Iterator[tuple[str, Path, range]]:
        """Yields where a round is played ("sketch", "task"), the folder of it, and its episodes' seeds."""
        c, first = self.config, SEED + (0 if self.config.collected else 1_000_000 * self.seed)
        folder = self.out / DEMONSTRATIONS if number else self._first
        for where, name, begin, each in (
            ("sketch", "sketch", c.sketched, c.round_sketched),
            ("task", "round", c.demonstrations, c.round_demonstrations),
        ):
            start = first if number == 0 else first + begin + (number - 1) * each
            yield where, folder / f"{name}_{number}", range(start, start + (each if number else begin))
            first += SKETCHES

    def _collect_by_policy(self, number: int) -> None:
        from embodied_mem.policy.teacher import collect_by, load_teacher

        model, c = self.model, self.config
        teacher = load_teacher(self._of_seed(c.teacher), model.observation_space, model.action_space)
        learner = model.policy if number else None
        for _, folder, seeds in self._collections(number):
            collect_by(
                self.make, folder, seeds, teacher.to(model.device), learner, self._teller(number, "task")
            )

    def _teller(self, number: int, where: str) -> Callable[[int, Any], None]:
        """Returns what tells of a round's episodes, ten by ten."""
        count = 0

        def tell(seed: int, demonstration: Any) -> None:
            nonlocal count
            count += 1
            if count % 10 == 0:
                size = len(demonstration)
                self.say(f"round {number}, {where}: {count} episodes, the last of {size} decisions")

        return tell

    def _collect(self, number: int) -> None:
        if self.config.teacher:
            return self._collect_by_policy(number)
        from embodied_mem.sim.pointing.collection import (
            Choose,
            ChoosePolicy,
            choose_astray,
            choose_heuristic,
            collect,
            is_taught,
        )
        from embodied_mem.sim.pointing.sketch import make_sketch

        first = choose_astray if is_taught(self.make()) else choose_heuristic
        choosers: dict[str, Choose] = {"demonstrator": first}
        if number:
            choosers = {"policy": ChoosePolicy(self.model.policy, self.hidden)}
        for where, folder, seeds in self._collections(number):
            if seeds:
                make = make_sketch if where == "sketch" else self.make
                collect(make, folder, seeds, choosers, self._teller(number, where))

    def _keep_company(self) -> None:
        """Counts which things keep company in houses of the training split, for a pointer that can use it."""
        from embodied_mem.policy.whole_file import whole_file
        from embodied_mem.sim.house.catalog import HOUSE_LABELS
        from embodied_mem.sim.house.company import company
        from embodied_mem.sim.house.house import SPLITS, make_house

        things = getattr(self.model.policy.action_net, "things", None)
        if things is None or not self.config.houses:
            return
        path = self._first / f"company_{self.config.houses}.npy"
        if not path.exists():
            self.say(f"counting in {self.config.houses} houses which things keep company")
            seeds = SPLITS["train"][-self.config.houses :]
            counted = company((make_house(seed) for seed in seeds), HOUSE_LABELS)
            path.parent.mkdir(parents=True, exist_ok=True)
            with whole_file(path, ".npy") as part:
                np.save(part, counted)
        things.start_from(np.load(path, allow_pickle=False))

    def _imitate(self, number: int) -> list[dict[str, float]]:
        from embodied_mem.policy.demonstrations import Demonstration
        from embodied_mem.policy.imitation import Imitator
        from embodied_mem.sim.pointing.candidates import hide

        parts = [part for n in range(number + 1) for part in self._collections(n)]
        episodes = []
        for path in (folder / f"{seed}.npz" for _, folder, seeds in parts for seed in seeds):
            episode = Demonstration.load(path)
            if self.hidden:
                episode = replace(episode, observations=hide(episode.observations, self.hidden))
            episodes.append(episode)
        imitator = Imitator(self.model.policy, self.config, self.model.gamma, self.seed + number)
        rows = []
        for epoch in range(self.config.epochs):
            begun = time.perf_counter()
            told = imitator.train(episodes, epoch)
            spent = round(time.perf_counter() - begun, 1)
            rows.append({"round": number, "epoch": epoch, **told, "seconds": spent})
            self.say(f"round {number}, epoch {epoch}: " + ", ".join(f"{k} {v:.3f}" for k, v in told.items()))
        return rows
