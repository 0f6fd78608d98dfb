"""Decides which experiments match what was typed after `/`; pure functions."""

from __future__ import annotations

from collections.abc import Callable

from loop.state import Experiment

FIELDS: dict[str, Callable[[Experiment], str]] = {
    "status": lambda e: e.phase,
    "commit": lambda e: e.commit,
    "n": lambda e: str(e.n),
    "author": lambda e: e.author,
}


def matches(query: str, e: Experiment) -> bool:
    """Whether `e` matches all words of the query.

    `status:keep` asks for a field, `!lr` excludes a word, the letters of `wdth` must occur in that order.
    """
    return all(_word(word, e) for word in query.casefold().split())


def _word(word: str, e: Experiment) -> bool:
    if word.startswith("!"):
        return not _word(word[1:], e) if word != "!" else True
    field, colon, value = word.partition(":")
    if colon and field in FIELDS:
        return FIELDS[field](e).casefold().startswith(value)
    text = f"{e.n} {e.commit[:7]} {e.phase} {e.description}".casefold()
    return word in text or any(_fuzzy(word, part) for part in text.split())


def _fuzzy(word: str, text: str) -> bool:
    """Whether the letters of `word` occur in `text` in order.

    Words of one or two letters never match: their letters occur in nearly every text.
    """
    letters = iter(text)
    return len(word) > 2 and all(letter in letters for letter in word)
