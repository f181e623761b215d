from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from embodied_mem.errors import InputError
from embodied_mem.geometry import Pose
from embodied_mem.memory import Memory, MemoryConfig, RecallConfig
from embodied_mem.memory.episodes.entries import Episode
from embodied_mem.memory.episodes.vectors import Vectors, quantise, unit
from embodied_mem.memory.recall.search import most_similar
from embodied_mem.memory.recall.sentence_model import SentenceModel
from embodied_mem.types import NS_PER_S, Query
from embodied_mem.verbs.bench_memory.recall import NumpyPeer, scattered
from embodied_mem.verbs.bench_memory.trust import bench_trust


@pytest.fixture(scope="module")
def memory() -> Memory:
    return scattered(3000, np.random.default_rng(5))[0]


def vectors_of(rows: np.ndarray) -> Vectors:
    vectors = Vectors()
    for row in rows:
        vectors.append(quantise(row))
    return vectors


@pytest.mark.parametrize("size", [3, 64, 128, 768])
def test_the_best_by_integers_are_the_best_over_the_stored_vectors(size: int):
    rng = np.random.default_rng(size)
    vectors = vectors_of(rng.normal(size=(400, size)))
    for _ in range(20):
        query = rng.normal(size=size)
        query /= np.linalg.norm(query)
        rows = np.sort(rng.choice(400, 200, replace=False))
        exact = np.array([unit(vectors.rows[row]) @ query for row in rows])
        chosen, cosines = most_similar(rows, np.empty(0), vectors, query, 10)
        best = set(np.argsort(-exact)[: min(10, int((exact > 0).sum()))].tolist())
        assert best <= set(chosen.tolist())
        assert np.allclose(cosines, exact[chosen], atol=1e-6)


def test_what_a_row_has_beside_its_similarity_counts_too():
    rng = np.random.default_rng(0)
    vectors = vectors_of(rng.normal(size=(50, 16)))
    base = np.zeros(50)
    base[31] = 5.0
    query = rng.normal(size=16)
    chosen, _ = most_similar(np.arange(50), base, vectors, query / np.linalg.norm(query), 1)
    assert 31 in chosen.tolist()


def test_rows_without_a_vector_are_never_similar():
    vectors = Vectors()
    for row in (None, np.array([1.0, 2.0]), None, np.array([-1.0, 0.5])):
        vectors.append(quantise(row))
    chosen, _ = most_similar(np.arange(4), np.empty(0), vectors, np.array([1.0, 0.0]), 4)
    assert chosen.tolist() == [1, 3]
    vectors.keep(np.array([True, False, True, True]))
    assert len(vectors) == 3 and vectors.at(2) is not None and vectors.at(0) is None


def test_place_time_and_embedding_together_find_what_brute_force_finds(memory: Memory):
    rng = np.random.default_rng(1)
    brute = NumpyPeer(memory)
    for _ in range(30):
        x, y = rng.uniform(0, 60, 2)
        start = int(rng.integers(0, 2000))
        query = Query(
            kind="episode", near=(x, y, 0.0), radius=25.0, like=rng.normal(size=128).astype(np.float32),
            since=start * NS_PER_S // 2, until=(start + 900) * NS_PER_S // 2, k=7,
        )  # fmt: skip
        assert [a.id for a in memory.recall(query)] == brute(query)


def test_equal_entries_come_newest_first_whatever_their_number():
    memory = Memory()
    for i in range(200):
        memory.episodes.add(Episode(i, i // 2 * NS_PER_S, i, Pose(), embedding=np.array([3, 4], np.int8)))
    answers = memory.recall(Query(kind="episode", like=np.array([3.0, 4.0], np.float32), k=4))
    assert [a.id for a in answers] == [198, 199, 196, 197]  # equal stamps: the lower id first
    assert [a.id for a in memory.recall(Query(kind="episode", k=3))] == [198, 199, 196]


def test_an_image_is_asked_for_through_the_encoder():
    memory = scattered(50, np.random.default_rng(2))[0]
    picture = np.zeros((4, 4, 3), np.uint8)
    with pytest.raises(Exception, match="encoder"):
        memory.recall(Query(like=picture))

    class Encoder:
        def image(self, image: np.ndarray) -> np.ndarray:
            return unit(memory.episodes.embeddings[17])

    memory.encoder = Encoder()
    assert memory.recall(Query(kind="episode", like=picture, k=1))[0].id == 17


def facts(texts: list[str], consensus: bool = True) -> Memory:
    """Entries about one thing: nearly the same embedding, the texts in the order of their writing."""
    rng = np.random.default_rng(3)
    view = rng.normal(size=32)
    memory = Memory(MemoryConfig(recall=RecallConfig(consensus=consensus)))
    for i, text in enumerate(texts):
        vector = quantise(view + 0.2 * rng.normal(size=32))
        memory.episodes.add(Episode(i, i * NS_PER_S, i, Pose(), embedding=vector, text=text, source="camera"))
    memory.view = view.astype(np.float32)
    return memory


KITCHEN, BATH = "the red mug is on the kitchen table", "the red mug is on the bathroom shelf"


def told(memory: Memory) -> list[str]:
    return [a.text for a in memory.recall(Query(kind="episode", like=memory.view, k=10))]


def test_a_lone_contradiction_goes_last_and_says_what_it_contradicts():
    memory = facts([KITCHEN, KITCHEN, BATH, KITCHEN, KITCHEN])
    answers = memory.recall(Query(kind="episode", like=memory.view, k=5))
    assert [a.text for a in answers[:4]] == [KITCHEN] * 4 and answers[-1].text == BATH
    assert "contradicts 4 entries" in answers[-1].why and answers[-1].trust < 0.5
    assert all(a.trust == 1.0 and "contradicts" not in a.why for a in answers[:4])
    kept = memory.recall(Query(kind="episode", like=memory.view, k=5, min_trust=0.5))
    assert [a.text for a in kept] == [KITCHEN] * 4


def test_a_change_is_believed_once_it_is_confirmed():
    memory = facts([KITCHEN] * 5 + [BATH])
    assert told(memory)[-1] == BATH
    memory = facts([KITCHEN] * 5 + [BATH, BATH])
    answers = memory.recall(Query(kind="episode", like=memory.view, k=10))
    assert not any("contradicts" in a.why for a in answers if a.text == BATH)


def test_nothing_is_flagged_where_nobody_agrees_or_nothing_is_claimed():
    different = ["it is warm", "a dog barks", "the lamp is on", "somebody sings"]
    for texts in (different, [KITCHEN, BATH], [""] * 6):
        memory = facts(texts)
        answers = memory.recall(Query(kind="episode", like=memory.view, k=10))
        assert not any("contradicts" in a.why for a in answers)


def test_poisoned_records_hardly_get_into_the_best_answers():
    report = bench_trust(7)
    for spread in report.values():
        assert spread["undefended"]["poison_in_top5"] >= 0.15  # the attack works without a defence
        assert spread["defended"]["poison_in_top5"] <= 0.05
        assert spread["true_recall_lost"] <= 0.02 and spread["clean"]["true_recall"] >= 0.98


class Thesaurus:
    """A sentence encoder that knows a few words, some of which mean the same."""

    MEANING = ({"mug", "cup"}, {"kitchen", "stove"}, {"dog", "puppy"}, {"bath", "shower"})

    def encode(self, sentences: list[str]) -> np.ndarray:
        rows = [[float(bool(m & set(s.split()))) for m in self.MEANING] for s in sentences]
        return np.array(rows, np.float32)


def test_words_are_found_by_their_meaning_where_a_model_tells():
    memory = Memory()
    texts = ["the cup is near the stove", "a puppy sleeps", "the shower drips", "nothing at all"]
    for i, text in enumerate(texts):
        memory.episodes.add(Episode(i, i * NS_PER_S, i, Pose(), text=text))
    query = Query(kind="episode", text="mug kitchen", k=5)
    assert memory.recall(query) == []
    memory.use_sentences(Thesaurus())
    (found,) = memory.recall(query)
    assert found.id == 0 and "similar in meaning" in found.why and found.score == pytest.approx(1.0)
    assert [a.id for a in memory.recall(Query(kind="episode", text="puppy sleeps"))] == [1]
    assert memory.recall(Query(kind="episode", text="mug kitchen", since=NS_PER_S)) == []
    memory.use_sentences(None)
    assert memory.recall(query) == []


@pytest.fixture
def word_model(tmp_path: Path) -> Path:
    """A model2vec model of eight words, made here: synonyms have nearly the same vector."""
    from model2vec import StaticModel
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace

    words = ("[UNK]", "the", "mug", "cup", "sofa", "couch", "is", "stands")
    meanings = np.eye(4, dtype=np.float32)[[3, 3, 0, 0, 1, 1, 3, 2]]
    meanings[[0, 1, 6]] = 0.0
    tokenizer = Tokenizer(WordLevel({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    folder = tmp_path / "tiny"
    StaticModel(meanings, tokenizer, config={"normalize": True}).save_pretrained(folder)
    return folder


def test_a_real_sentence_model_finds_synonyms(word_model: Path):
    memory = Memory()
    for i, text in enumerate(["the cup is there", "the couch", "nothing"]):
        memory.episodes.add(Episode(i, i * NS_PER_S, i, Pose(), text=text))
    assert memory.recall(Query(kind="episode", text="mug")) == []
    memory.use_sentences(SentenceModel(str(word_model)))
    assert [a.id for a in memory.recall(Query(kind="episode", text="mug"))] == [0]
    assert [a.id for a in memory.recall(Query(kind="episode", text="sofa"))] == [1]


def test_a_sentence_model_that_is_not_there_is_said_in_one_line(tmp_path: Path):
    with pytest.raises(InputError, match="no such folder") as told:
        SentenceModel(str(tmp_path / "nowhere"))
    assert "\n" not in str(told.value)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="cannot load the sentence model") as told:
        SentenceModel(str(tmp_path / "empty"))
    assert "\n" not in str(told.value)
