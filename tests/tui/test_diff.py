"""The difference between two versions of a file."""

from __future__ import annotations

import difflib

from hypothesis import given
from hypothesis import strategies as st

from tui.diff import changed_words, counts, rows, side_by_side

LINES = st.lists(st.sampled_from(["a", "b", "c = 1", "c = 2", ""]), max_size=12).map(
    lambda lines: "".join(line + "\n" for line in lines)
)


@given(LINES, LINES)
def test_a_diff_holds_exactly_both_files(before: str, after: str) -> None:
    found = rows(before, after, context=100)
    if before == after:
        assert found == []
    else:
        assert [r.text for r in found if r.kind in " -"] == before.splitlines()
        assert [r.text for r in found if r.kind in " +"] == after.splitlines()


@given(LINES, LINES)
def test_counts_agree_with_difflib(before: str, after: str) -> None:
    unified = list(difflib.unified_diff(before.splitlines(), after.splitlines(), lineterm=""))[2:]
    added = sum(line.startswith("+") for line in unified)
    removed = sum(line.startswith("-") for line in unified)
    assert counts(rows(before, after)) == (added, removed)


@given(LINES, LINES)
def test_two_columns_hold_the_same_rows(before: str, after: str) -> None:
    found = rows(before, after)
    pairs = side_by_side(found)
    assert [r for r in found if r.kind == "-"] == [a for a, b in pairs if a and a is not b]
    assert [r for r in found if r.kind == "+"] == [b for a, b in pairs if b and a is not b]


def test_changed_words_are_marked() -> None:
    assert changed_words("WIDTH = 128", "WIDTH = 160") == (((8, 11),), ((8, 11),))
    assert changed_words("return x", "completely_other(1, 2)") == ((), ())
