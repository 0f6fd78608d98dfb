"""The store: journal, state and listeners change together, or not at all."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from loop import events as ev
from loop.records import journal
from loop.store import Store


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.jsonl"


def created(tag: str = "t") -> ev.RunCreated:
    return ev.RunCreated(tag, "/r", "b" * 40, "train.py", ["python"])


async def test_a_decision_is_on_disk_before_anyone_hears_of_it(path: Path) -> None:
    store, on_disk = Store.open(path), list[int]()
    store.listen(lambda record: on_disk.append(len(journal.read(path))))
    store.record(created())
    store.record(ev.Steered("smaller"))
    assert on_disk == [1, 2]
    assert [m.text for m in store.state.steering] == ["smaller"]


async def test_a_store_begins_where_its_journal_ends(path: Path) -> None:
    first = Store.open(path)
    for event in (created(), ev.Paused("for lunch"), ev.Steered("smaller")):
        first.record(event)
    again = Store.open(path)
    assert again.state == first.state
    again.record(ev.Resumed())
    assert [record.seq for record in journal.read(path)] == [1, 2, 3, 4]


async def test_what_the_disk_refuses_has_not_happened(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, heard = Store.open(path), list[ev.Record]()
    store.listen(heard.append)
    store.record(created())

    def full(fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        store.record(ev.Paused("never"))
    assert store.state.paused is None
    assert len(heard) == len(journal.read(path)) == 1


async def test_what_is_only_shown_is_told_and_not_journaled(path: Path) -> None:
    store, heard = Store.open(path), list[ev.Record]()
    store.listen(heard.append)
    store.show(ev.Preparing("half way"))
    assert store.state.live.preparing == "half way"
    assert [record.event for record in heard] == [ev.Preparing("half way")]
    assert journal.read(path) == []


async def test_everyone_who_waits_goes_on_after_a_decision(path: Path) -> None:
    store = Store.open(path)
    waiting = [asyncio.create_task(store.changed()) for _ in range(3)]
    conditional = asyncio.create_task(store.until(lambda state: state.paused is not None))
    await asyncio.sleep(0)
    store.show(ev.Preparing("shown events wake nobody"))
    await asyncio.sleep(0)
    assert not any(task.done() for task in waiting)
    store.record(created())
    await asyncio.gather(*waiting)
    assert not conditional.done()
    store.record(ev.Paused("now"))
    await conditional


async def test_a_condition_that_holds_is_not_waited_for(path: Path) -> None:
    await Store.open(path).until(lambda state: state.paused is None)
