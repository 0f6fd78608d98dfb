"""Edits change one place or nothing, and are told in one line."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loop.agents import edits

TEXT = "WIDTH = 128  # of the model\nDEPTH = 3\nDEPTH = 3\n"


@given(st.text(), st.text(min_size=1), st.text())
def test_replacing_changes_one_place_or_nothing(text: str, old: str, new: str) -> None:
    try:
        result = edits.replace(text, old, new)
    except edits.NoMatch:
        assert text.count(old) != 1 or old == new
    else:
        before, after = text.split(old)
        assert result == before + new + after


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("DEPTH", "DEPTH", "nothing would change"),
        ("DEPTH = 3", "DEPTH = 4", "2 times (lines 2, 3): take in more lines"),
        ("WIDTH = 129", "WIDTH = 130", "The nearest is line 1: 'WIDTH = 128  # of the model'"),
        ("qqqqqqqqqqqqqqq", "", "View the file first"),
    ],
)
def test_what_cannot_be_replaced_says_why(old: str, new: str, said: str) -> None:
    with pytest.raises(edits.NoMatch) as error:
        edits.replace(TEXT, old, new)
    assert said in str(error.value)


def test_only_ten_places_are_named() -> None:
    with pytest.raises(edits.NoMatch, match=r"20 times \(lines 1, 2, 3, 4, 5, 6, 7, 8, 9, 10\)"):
        edits.replace("x\n" * 20, "x", "y")


@pytest.mark.parametrize(
    ("after", "first"),
    [
        (TEXT.replace("128", "160"), "train.py +1 -1: WIDTH = 128 -> 160"),
        (TEXT + "print(1)\n", "train.py +1 -0: print(1)"),
        ("DEPTH = 3\nDEPTH = 3\n", "train.py +0 -1: WIDTH = 128  # of the model"),
        (TEXT, "train.py +0 -0"),
    ],
)
def test_an_edit_has_a_first_line_that_tells_it(after: str, first: str) -> None:
    assert edits.headline("train.py", TEXT, after).splitlines()[0] == first


def test_an_edit_is_told_with_its_diff() -> None:
    told = edits.headline("train.py", TEXT, TEXT.replace("128", "160\x1b[31m"))
    assert told.splitlines()[1:] == [
        "--- train.py", "+++ train.py", "@@ -1,3 +1,3 @@",
        "-WIDTH = 128  # of the model", "+WIDTH = 160  # of the model", " DEPTH = 3", " DEPTH = 3",
    ]  # fmt: skip


def test_a_diff_has_two_lines_of_context() -> None:
    before = "".join(f"line {i}\n" for i in range(9))
    changed = edits.diff("a.py", before, before.replace("line 4", "other"))
    assert [line for line in changed.splitlines() if line.startswith(" ")] == [
        " line 2", " line 3", " line 5", " line 6",
    ]  # fmt: skip
