"""Who answers what a CLI agent asks leave for."""

from __future__ import annotations

import asyncio
from pathlib import Path

from loop import events as ev
from loop.agents.base import Wish
from loop.proposing.permissions import Permissions
from loop.store import Store

GRANTED, REFUSED = Wish("edit train.py", "edit", ["train.py"], True), Wish("rm -rf", "execute", [], False)


def permissions(tmp_path: Path, approval: bool) -> tuple[Permissions, Store]:
    store = Store.open(tmp_path / "journal.jsonl")
    store.record(ev.ModeSet(approval))
    return Permissions(store), store


async def test_outside_approval_mode_the_policy_answers(tmp_path: Path) -> None:
    found, store = permissions(tmp_path, approval=False)
    assert await found.ask(2, GRANTED) is True
    assert await found.ask(2, REFUSED) is False
    assert store.state.live.asked == []


async def test_in_approval_mode_the_human_answers_the_oldest_first(tmp_path: Path) -> None:
    found, store = permissions(tmp_path, approval=True)
    asking = [asyncio.create_task(found.ask(n, wish)) for n, wish in ((2, GRANTED), (3, REFUSED))]
    await asyncio.sleep(0)
    assert [(asked.n, asked.title) for asked in store.state.live.asked] == [
        (2, "edit train.py"),
        (3, "rm -rf"),
    ]
    assert found.answer("", allow=False) == "edit train.py"
    assert await asking[0] is False
    assert found.answer(store.state.live.asked[0].id, allow=True) == "rm -rf"
    assert await asking[1] is True
    assert store.state.live.asked == []
    assert found.answer("", allow=True) is None


async def test_when_approval_mode_ends_the_policy_answers_what_is_open(tmp_path: Path) -> None:
    found, _ = permissions(tmp_path, approval=True)
    asking = [asyncio.create_task(found.ask(2, wish)) for wish in (GRANTED, REFUSED)]
    await asyncio.sleep(0)
    found.leave_to_policy()
    assert await asyncio.gather(*asking) == [True, False]


async def test_a_proposal_that_is_cancelled_takes_its_request_along(tmp_path: Path) -> None:
    found, store = permissions(tmp_path, approval=True)
    asking = asyncio.create_task(found.ask(2, GRANTED))
    await asyncio.sleep(0)
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    assert store.state.live.asked == []
    assert found.answer("", allow=True) is None
