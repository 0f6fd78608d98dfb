"""The client's side of the socket, against servers that do not behave."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import msgspec
import pytest

from loop import events as ev
from loop.client import Client, ConnectionLost, Refused, Snapshot
from loop.state import RunState

HELLO = ev.Hello("0.1", 1, 4321)
Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@contextlib.asynccontextmanager
async def engine(folder: Path, talk: Talk, *first: bytes) -> AsyncIterator[Path]:
    """A server that sends `first` as lines, then talks, then closes the connection."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            writer.writelines(line + b"\n" for line in first)
            await talk(reader, writer)
            writer.close()

    server = await asyncio.start_unix_server(serve, str(folder / "s"))
    async with server:
        yield folder / "s"


async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Say nothing more."""


async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Stay until the client leaves."""
    await reader.read()


def greeting() -> list[bytes]:
    return [msgspec.json.encode(HELLO), msgspec.json.encode(Snapshot(RunState(tag="t")))]


@pytest.mark.parametrize(
    ("first", "message"),
    [
        ([], "does not answer"),
        ([b"SSH-2.0-OpenSSH_9.9", b""], "does not speak this program's protocol"),
        ([msgspec.json.encode(HELLO)] * 2, "does not speak this program's protocol"),
    ],
)
async def test_what_is_no_engine_is_refused(tmp_path: Path, first: list[bytes], message: str) -> None:
    async with engine(tmp_path, hang_up, *first) as path:
        with pytest.raises(ConnectionLost, match=message):
            await Client.connect(path)


async def test_an_engine_that_says_nothing_is_given_up(tmp_path: Path) -> None:
    async with engine(tmp_path, listen) as path:
        with pytest.raises(ConnectionLost, match="does not answer"):
            await Client.connect(path, timeout_s=0.1)


async def test_nobody_there_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        await Client.connect(tmp_path / "s")


async def test_records_end_and_waiting_commands_fail_when_the_engine_goes(tmp_path: Path) -> None:
    async def read_one_and_go(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()

    record = ev.Record(1, 1000.0, ev.Paused("enough"))
    async with engine(tmp_path, read_one_and_go, *greeting(), msgspec.json.encode(record)) as path:
        client = await Client.connect(path)
        with pytest.raises(ConnectionLost, match="the engine is gone"):
            await client.send(ev.Pause())
        assert [found.event async for found in client.records()] == [ev.Paused("enough")]
        assert client.state.paused == "enough"
        with pytest.raises(ConnectionLost, match="the engine is gone"):
            await client.send(ev.Pause())
        await client.close()


async def test_each_command_gets_its_own_reply(tmp_path: Path) -> None:
    async def answer_in_reverse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked = [msgspec.json.decode(await reader.readline(), type=ev.Request) for _ in range(2)]
        for request in reversed(asked):
            ok = isinstance(request.command, ev.Pause)
            reply = ev.Reply(request.id, ok, "pausing" if ok else "not paused")
            writer.write(msgspec.json.encode(reply) + b"\n")
        await reader.read()

    async with engine(tmp_path, answer_in_reverse, *greeting()) as path:
        client = await Client.connect(path)
        pause, resume = await asyncio.gather(
            client.send(ev.Pause()), client.send(ev.Resume()), return_exceptions=True
        )
        assert pause == "pausing"
        assert isinstance(resume, Refused)
        assert str(resume) == "not paused"
        await client.close()
