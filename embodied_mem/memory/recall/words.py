"""Words of a text, so that a question and what is remembered can be compared."""

from __future__ import annotations

import re

_FILLERS = """
a an and any are at been did do does for have how i in is it last me my near of on our please saw see
seen show tell that the there thing this to was we were what when where which who with you your
"""
_WORD = re.compile(r"\w+")
_FILLER_WORDS = frozenset(_FILLERS.split())


def words_of(text: str) -> tuple[str, ...]:
    """Returns the distinct words of a text in order, lower case, without the s of a plural."""
    words = _WORD.findall(text.lower())
    return tuple(dict.fromkeys(_singular(word) for word in words))


class WordReader:
    """Reads the words of many texts: each spelling is looked at once."""

    def __init__(self) -> None:
        self._known: dict[str, str] = {}

    def __call__(self, text: str) -> list[str]:
        """Returns what `words_of` gives, words that come twice perhaps twice."""
        known, found = self._known, []
        for word in _WORD.findall(text.lower()):
            single = known.get(word)
            if single is None:
                single = known[word] = _singular(word)
            found.append(single)
        return found


def content_words(text: str) -> tuple[str, ...]:
    """Returns the words of a question that carry meaning; all of them where none does."""
    words = words_of(text)
    return tuple(word for word in words if word not in _FILLER_WORDS) or words


def _singular(word: str) -> str:
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word
