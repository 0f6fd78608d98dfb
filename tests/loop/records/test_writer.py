"""One thread writes: in order, off the event loop, and what it raises is raised where it was asked for."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest

from loop.records.repository import Repository
from loop.records.writer import Writer
from tests.conftest import git


@pytest.fixture
def writer(repository: Path) -> Writer:
    return Writer(Repository.discover(repository))


async def test_writes_are_done_in_the_order_in_which_they_were_asked_for(writer: Writer) -> None:
    done: list[tuple[int, int]] = []

    def note(number: int) -> None:
        done.append((number, threading.get_ident()))

    await asyncio.gather(*(writer.do(lambda git, n=n: note(n)) for n in range(20)))  # type: ignore[misc]
    assert [number for number, _ in done] == list(range(20))
    assert {thread for _, thread in done} - {threading.get_ident()} == {done[0][1]}
    writer.close()


async def test_what_a_write_raises_is_raised_where_it_was_asked_for(writer: Writer) -> None:
    def fail(git: Repository) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        await writer.do(fail)
    assert await writer.do(lambda git: git.head()) is not None
    writer.close()


async def test_the_event_loop_goes_on_while_a_ref_lock_is_held(writer: Writer, repository: Path) -> None:
    """The lock goes only when the event loop lets it go: a loop that stood still would wait in vain."""
    head = git(repository, "rev-parse", "HEAD")
    lock = repository / ".git/refs/autoresearch/t/0001.lock"
    lock.parent.mkdir(parents=True)
    lock.touch()
    writing = asyncio.create_task(writer.do(lambda git: git.keep_candidate("t", 1, head)))
    for _ in range(50):
        await asyncio.sleep(0.01)
        assert not writing.done()
        lock.touch()  # young, so it is not taken for one that a killed process left
    lock.unlink()
    await writing
    assert git(repository, "rev-parse", "refs/autoresearch/t/0001") == head
    writer.close()
