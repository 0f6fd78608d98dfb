"""Three-way merge by lines, held against git's own."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loop.merge import count, merge

texts = st.lists(st.sampled_from(["a\n", "b\n", "c\n", "d\n"]), max_size=8).map("".join)


def test_changes_far_apart_are_both_taken() -> None:
    assert merge("1\n2\n3\n4\n5\n", "one\n2\n3\n4\n5\n", "1\n2\n3\n4\nfive\n") == "one\n2\n3\n4\nfive\n"


def test_changes_to_the_same_or_the_next_line_conflict() -> None:
    assert merge("1\n2\n3\n", "one\n2\n3\n", "eins\n2\n3\n") is None
    assert merge("1\n2\n3\n", "one\n2\n3\n", "1\ntwo\n3\n") is None


def test_the_same_change_on_both_sides_is_taken_once() -> None:
    assert merge("1\n2\n", "1\n2\n3\n", "1\n2\n3\n") == "1\n2\n3\n"


def test_added_and_removed_lines_are_counted() -> None:
    assert count("1\n2\n3\n", "1\nzwei\n3\n4\n") == (2, 1)


@given(base=texts, other=texts)
def test_without_a_change_on_one_side_the_other_wins(base: str, other: str) -> None:
    assert merge(base, base, other) == other
    assert merge(base, other, base) == other


@given(base=texts, ours=texts, theirs=texts)
def test_a_merge_is_the_same_from_both_sides(base: str, ours: str, theirs: str) -> None:
    assert merge(base, ours, theirs) == merge(base, theirs, ours)


def test_git_agrees_on_a_clean_merge(tmp_path: Path) -> None:
    base = "".join(f"LINE_{i} = {i}\n" for i in range(30))
    ours, theirs = base.replace("= 3\n", "= 33\n"), base.replace("= 20\n", "= 22\nNEW = 1\n")
    for name, text in (("base", base), ("ours", ours), ("theirs", theirs)):
        (tmp_path / name).write_text(text)
    git = ["git", "merge-file", "-p", "ours", "base", "theirs"]
    expected = subprocess.run(git, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert merge(base, ours, theirs) == expected


@pytest.mark.parametrize("text", ["", "no newline at the end"])
def test_texts_without_a_last_newline_merge(text: str) -> None:
    assert merge(text, text, text + "x") == text + "x"


def test_thousands_of_equal_lines_do_not_take_hours() -> None:
    """Compared pair by pair these would be ten thousand million pairs."""
    before = "a = 1\n" + "\n" * 100_000 + "b = 2\n"
    after = "a = 2\n" + "\n" * 100_005 + "b = 3\n"
    added, removed = count(before, after)
    assert added - removed == 5
    assert merge(before, before, after) == after
