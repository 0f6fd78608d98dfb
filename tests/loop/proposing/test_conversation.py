"""What one conversation shows and keeps: notes of several that overlap stay whole, and short."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

from hypothesis import given
from hypothesis import strategies as st

from loop import events as ev
from loop.agents.base import NOTES_MOST
from loop.proposing import conversation
from loop.proposing.conversation import joined
from loop.store import Store

notes = st.lists(st.sampled_from("abcdefgh"), max_size=6, unique=True).map(
    lambda x: "".join(f"{c}\n" for c in x)
)


async def test_half_a_character_in_an_edit_can_be_shown() -> None:
    """JSON can hold one, so a model can send it; it can be written nowhere."""
    shown = list[ev.LiveEvent]()
    edits = conversation._Edits(cast(Store, SimpleNamespace(show=shown.append)), ())
    edits.show(ev.CandidateEdited(1, "train.py", "X = 1\n", "X = 1  # \ud800\n"))
    await edits.shown()
    (edited,) = shown
    ev.encode(edited)
    assert isinstance(edited, ev.CandidateEdited)
    assert edited.after == "X = 1  # ?\n"


def test_both_conversations_keep_their_new_lines() -> None:
    assert joined("a\n", "a\nrepair\n", "a\nidea\n") == "repair\na\nidea\n"
    assert joined("a\n", "a\n", "shorter\n") == "shorter\n"


@given(notes, notes, notes)
def test_no_new_line_is_lost(before: str, now: str, after: str) -> None:
    lines = joined(before, now, after).splitlines()
    assert set(after.splitlines()) <= set(lines)
    assert set(now.splitlines()) - set(before.splitlines()) <= set(lines) or now == before
    assert len(lines) == len(set(lines))


def test_what_is_too_much_loses_the_oldest_lines_of_the_other() -> None:
    full = "".join(f"line {i:04d}\n" for i in range(390))
    kept = joined("", full, "newest idea\n")
    assert len(kept) <= NOTES_MOST
    assert kept.endswith("line 0389\nnewest idea\n")
