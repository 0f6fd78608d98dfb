"""Both ends of the engine's socket meet bytes that no end of ours sends: each drops the other, or answers."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from loop import client as client_module
from loop import events as ev
from loop.client import Client, ConnectionLost, Past, Refused, Snapshot
from loop.service import server as server_module
from loop.service.server import Server
from loop.state import Experiment, RunState
from tests.hostile.test_parsers import LINES, REPLY, REQUEST, mangled
from tests.loop.scripted import Bench, ScriptedAgent

HELLO = ev.encode(ev.Hello("1", 2, 1))
PART = ev.encode(Past([Experiment(n, "p") for n in range(1, 4)]))
STATE = ev.encode(Snapshot(RunState(tag="t", experiments=[Experiment(2, "q"), Experiment(4, "q")])))
GREETING = [HELLO, PART, STATE]


def lines(valid: list[bytes], first: list[bytes]) -> st.SearchStrategy[bytes]:
    """Some lines, understood or not, the last one torn perhaps."""
    some = st.lists(st.sampled_from(valid) | mangled(valid), max_size=6)
    return st.tuples(some, st.sampled_from([b"\n", b"\n\n", b"\r\n", b"\0\n", b""])).map(
        lambda made: b"\n".join([*first, *made[0]]) + made[1]
    )


def checked(examples: int) -> settings:
    return settings(
        max_examples=examples, suppress_health_check=list(HealthCheck), database=None, deadline=None
    )


def ask_engine(repository: Path, examples: int) -> None:
    """Send an engine odd requests. It must still serve whoever comes then."""

    async def talk(path: Path, content: bytes) -> None:
        reader, writer = await asyncio.open_unix_connection(str(path))
        with contextlib.suppress(OSError):
            writer.write(content)
            writer.write_eof()
            async with asyncio.timeout(20):
                await reader.read()
        writer.close()

    async def all_of(contents: list[bytes]) -> None:
        bench = Bench(repository, ScriptedAgent())
        served = Server(bench.paths.socket())
        bench.store.listen(served.publish)
        await served.open(bench.engine)
        try:
            for content in contents:
                await talk(served.path, content)
            found = await Client.connect(served.path)
            assert await found.send(ev.SetMode(True))
            await found.close()
        finally:
            await served.close()
            bench.close()

    @checked(examples)
    @given(st.lists(lines([REQUEST, ev.encode(ev.Request(1, ev.Pause()))], []), min_size=1, max_size=8))
    def check(contents: list[bytes]) -> None:
        asyncio.run(all_of(contents))

    check()


def answer_client(examples: int) -> None:
    """Let a client connect to something that answers oddly, and send it a command."""

    async def once(folder: str, content: bytes) -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(content)
            writer.close()

        async with await asyncio.start_unix_server(serve, f"{folder}/s"):
            try:
                found = await Client.connect(Path(folder, "s"), timeout_s=20)
            except ConnectionLost:
                return
            with contextlib.suppress(ConnectionLost, Refused):
                await found.send(ev.Pause())
            async for _ in found.records():
                pass
            await found.close()

    @checked(examples)
    @given(
        lines([HELLO, PART, STATE, REPLY, *LINES], GREETING)
        | lines([HELLO, PART, STATE], [])
        | lines([STATE, *LINES], [HELLO])
    )
    def check(content: bytes) -> None:
        with tempfile.TemporaryDirectory() as folder:
            asyncio.run(once(folder, content))

    check()


def test_an_engine_meets_odd_requests(repository: Path) -> None:
    ask_engine(repository, 1)


def test_a_client_meets_an_odd_engine() -> None:
    answer_client(10)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_an_engine_meets_many_odd_requests(repository: Path) -> None:
    ask_engine(repository, 100)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_client_meets_many_odd_engines() -> None:
    answer_client(3000)


async def test_a_line_without_an_end_is_dropped_by_both(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "REQUEST_MOST", 2**16)
    monkeypatch.setattr(client_module, "LINE_LIMIT", 2**16)
    bench = Bench(repository, ScriptedAgent())
    served = Server(bench.paths.socket())
    await served.open(bench.engine)
    reader, writer = await asyncio.open_unix_connection(str(served.path))
    writer.write(bytes(2**20))
    with contextlib.suppress(OSError):
        while await asyncio.wait_for(reader.read(2**16), 20):
            pass
    writer.close()
    await served.close()
    bench.close()

    async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(HELLO + b"\n" + bytes(2**20))
        writer.close()

    async with await asyncio.start_unix_server(flood, str(served.path)):
        with pytest.raises(ConnectionLost):
            await Client.connect(served.path)
