"""The engine's socket: one snapshot, then every record, to any number of clients."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from loop import client as client_module
from loop import events as ev
from loop.client import Client, ConnectionLost, Refused
from loop.service import server
from loop.service.server import Server
from tests.loop.scripted import Bench, ScriptedAgent, until


@pytest.fixture
async def bench(repository: Path) -> AsyncIterator[tuple[Bench, Server]]:
    """An engine that does not run by itself, served."""
    bench = Bench(repository, ScriptedAgent())
    served = Server(bench.paths.socket())
    bench.store.listen(served.publish)
    await served.open(bench.engine)
    yield bench, served
    await served.close()
    bench.close()


async def take(client: Client, count: int) -> list[ev.AnyEvent]:
    found: list[ev.AnyEvent] = []
    async with asyncio.timeout(5):
        async for record in client.records():
            found.append(record.event)
            if len(found) == count:
                break
    return found


async def test_a_client_gets_the_state_of_now_and_then_what_happens(bench: tuple[Bench, Server]) -> None:
    engine, path = bench[0].engine, bench[1].path
    engine.store.record(ev.Steered("before"))
    client = await Client.connect(path)
    assert client.state == engine.state
    engine.store.record(ev.Steered("after"))
    engine.store.show(ev.Notice("info", "live"))
    assert await take(client, 2) == [ev.Steered("after"), ev.Notice("info", "live")]
    assert [m.text for m in client.state.steering] == ["before", "after"]
    await client.close()


async def test_a_long_run_comes_in_parts_and_what_changes_meanwhile_comes_again(
    bench: tuple[Bench, Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "PART", 3)
    engine, served = bench[0].engine, bench[1]
    for n in range(1, 11):
        engine.store.record(ev.ExperimentStarted(n, "p" * 40))
    flushed, turns = server._Outbox.flushed, itertools.count(11)

    async def meanwhile(outbox: server._Outbox) -> None:
        """After each part an old experiment changes, another begins, and something is only shown."""
        await flushed(outbox)
        if not outbox.introduced:
            engine.store.record(ev.ExperimentStarted(next(turns), "p" * 40))
            engine.store.record(ev.Spent(2, ev.Usage(5)))
            engine.store.record(ev.Rejected(1, "no"))
            engine.store.show(ev.Notice("info", "not for who has no state yet"))

    monkeypatch.setattr(server._Outbox, "flushed", meanwhile)
    client = await Client.connect(served.path)
    assert len(client.state.experiments) > 12
    assert client.state == engine.state
    engine.store.record(ev.Steered("after"))
    assert await take(client, 1) == [ev.Steered("after")]
    assert client.state == engine.state
    await client.close()


async def test_a_client_that_leaves_before_it_has_the_state_holds_up_nothing(
    bench: tuple[Bench, Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "PART", 1)
    for n in range(1, 300):
        bench[0].store.record(ev.ExperimentStarted(n, "p" * 40))
        bench[0].store.record(ev.CandidateCommitted(n, "c" * 40, "p" * 40, "x" * 4000))
    _, writer = await asyncio.open_unix_connection(str(bench[1].path))
    await until(lambda: bench[1]._clients)
    writer.transport.abort()
    await until(lambda: not bench[1]._clients)


async def test_two_clients_see_the_same_and_both_may_command(bench: tuple[Bench, Server]) -> None:
    one, two = await Client.connect(bench[1].path), await Client.connect(bench[1].path)
    assert await one.send(ev.Pause()) == "paused"
    with pytest.raises(Refused, match="paused already: paused by hand"):
        await two.send(ev.Pause())
    assert await two.send(ev.Steer(" look at the optimizer ")) == "the agent reads it at its next proposal"
    assert await take(one, 2) == await take(two, 2)
    assert one.state == two.state == bench[0].engine.state
    await one.close()
    assert await two.send(ev.Resume()) == "going on"
    await two.close()


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        (ev.Resume(), "not paused"),
        (ev.Approve(), "no candidate waits"),
        (ev.Reject("x", n=7), "there is no experiment 7"),
        (ev.StopTraining(), "no training to stop"),
        (ev.Steer("  "), "an empty message"),
        (ev.Override(3, "keep"), "there is no experiment 3"),
        (ev.GetExperiment(0), "there is no experiment 0"),
    ],
)
async def test_what_cannot_be_done_is_refused_with_the_reason(
    bench: tuple[Bench, Server], command: ev.AnyCommand, reason: str
) -> None:
    client = await Client.connect(bench[1].path)
    with pytest.raises(Refused, match=reason):
        await (client.experiment(0) if isinstance(command, ev.GetExperiment) else client.send(command))
    await client.close()


async def test_a_full_disk_refuses_a_command_and_keeps_the_client(
    bench: tuple[Bench, Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    client = await Client.connect(bench[1].path)
    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", lambda fd: (_ for _ in ()).throw(OSError(28, "No space left on device")))
        with pytest.raises(Refused, match="No space left on device"):
            await client.send(ev.Pause())
    assert bench[0].engine.state.paused is None
    assert await client.send(ev.Pause()) == "paused"
    await client.close()


async def test_a_client_that_does_not_read_loses_live_records_but_no_durable_one(
    bench: tuple[Bench, Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "LIVE_BACKLOG", 200_000)
    engine = bench[0].engine
    reader, writer = await asyncio.open_unix_connection(str(bench[1].path), limit=1 << 16)
    await until(lambda: bench[1]._clients)
    for i in range(3000):
        engine.store.show(ev.LogLines(1, 1, "x" * 1000))
        if i % 100 == 0:
            engine.store.record(ev.Steered(str(i)))
    engine.store.record(ev.Steered("last"))
    lines: list[bytes] = []
    async with asyncio.timeout(10):
        while not lines or b'"last"' not in lines[-1]:
            lines.append(await reader.readuntil(b"\n"))
    records = [ev.decode_record(line) for line in lines[2:]]
    assert sum(isinstance(r.event, ev.LogLines) for r in records) < 3000
    steered = [r.event.text for r in records if isinstance(r.event, ev.Steered)]
    assert steered == [*(str(i) for i in range(0, 3000, 100)), "last"]
    writer.close()


async def connected(
    serving: Server,
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter, server._Outbox]:
    """A client that reads nothing by itself, and what the server keeps for it."""
    reader, writer = await asyncio.open_unix_connection(str(serving.path), limit=1 << 16)
    await until(lambda: serving._clients)
    (client,) = serving._clients
    return reader, writer, client


async def test_a_client_that_asks_and_does_not_read_waits_and_fills_no_memory(
    bench: tuple[Bench, Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "LIVE_BACKLOG", 100_000)
    reader, writer, client = await connected(bench[1])
    writer.write(b"x\n" * 30_000)
    await asyncio.sleep(0.3)  # the engine answers as many as it will: all of them are three megabytes
    assert 0 < client.backlog < server.LIVE_BACKLOG + 1000
    for _ in range(30_002):  # a greeting, the state, and all the answers
        await reader.readuntil(b"\n")
    writer.close()


async def test_a_client_that_never_reads_is_dropped_at_last(
    bench: tuple[Bench, Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "BACKLOG_MOST", 100_000)
    _, writer, client = await connected(bench[1])
    for i in range(500):
        bench[0].engine.store.record(ev.Steered(f"{i:01000}"))
        await asyncio.sleep(0)
    assert client.backlog < server.BACKLOG_MOST + 2000
    await until(lambda: not bench[1]._clients)
    writer.close()


async def test_nonsense_from_a_client_harms_no_one(bench: tuple[Bench, Server]) -> None:
    good = await Client.connect(bench[1].path)
    reader, writer = await asyncio.open_unix_connection(str(bench[1].path))
    writer.write(b'{"type":"request","id":1,"command":{"type":"FromTheFuture"}}\nnot json\n\xff\xfe\n')
    for _ in range(2):
        await reader.readuntil(b"\n")
    for number in (1, 0, 0):
        reply = msgspec.json.decode(await reader.readuntil(b"\n"), type=ev.Reply)
        assert (reply.id, reply.ok) == (number, False)
        assert "not a request of this version" in reply.text
    writer.close()
    assert await good.send(ev.Pause()) == "paused"
    await good.close()


async def test_the_end_of_the_engine_ends_records_and_requests(bench: tuple[Bench, Server]) -> None:
    client = await Client.connect(bench[1].path)
    bench[0].engine.store.record(ev.Steered("last words"))
    await bench[1].close()
    seen = [record.event async for record in client.records()]
    assert seen == [ev.Steered("last words")]
    with pytest.raises(ConnectionLost):
        await client.send(ev.Pause())
    await client.close()


async def test_something_else_behind_the_socket_is_not_taken_for_an_engine(tmp_path: Path) -> None:
    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    async with await asyncio.start_unix_server(speak, str(tmp_path / "s")):
        with pytest.raises(ConnectionLost):
            await Client.connect(tmp_path / "s")


async def test_a_diverged_loss_reaches_clients(bench: tuple[Bench, Server]) -> None:
    engine = bench[0].engine
    engine.store.record(ev.ExperimentStarted(1, "c"))
    engine.store.record(ev.TrainingStarted(1, 1, "c", seed=1337, budget_s=1.0))
    engine.store.show(ev.Progress(1, 1, 5, 0.5, loss=float("nan")))
    client = await Client.connect(bench[1].path)
    assert client.state.seat.progress is not None
    assert client.state.seat.progress.step == 5
    await client.close()


def heard_by_another_user(path: Path) -> bytes:
    """What an ordinary user is sent who connects to this socket, in a process of his own."""
    reading, writing = os.pipe()
    if (child := os.fork()) == 0:
        with contextlib.suppress(BaseException):
            os.setgroups([])
            os.setresgid(65534, 65534, 65534)
            os.setresuid(65534, 65534, 65534)
            with socket.socket(socket.AF_UNIX) as theirs:
                theirs.settimeout(10)
                theirs.connect(str(path))
                os.write(writing, b"connected " + theirs.recv(100))
        os._exit(0)
    os.close(writing)
    os.waitpid(child, 0)
    with open(reading, "rb") as said:
        return said.read()


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
async def test_another_user_is_sent_nothing_even_where_the_folder_of_the_socket_is_open(
    bench: tuple[Bench, Server],
) -> None:
    path = bench[1].path
    assert await asyncio.to_thread(heard_by_another_user, path) == b""
    modes = {above: above.stat().st_mode for above in (path, *path.parents)}
    for above, mode in modes.items():
        if above.stat().st_uid == os.getuid():
            above.chmod(mode | 0o777)
    try:
        assert await asyncio.to_thread(heard_by_another_user, path) == b"connected "
    finally:
        for above, mode in modes.items():
            above.chmod(mode)


async def test_an_engine_of_another_user_is_not_obeyed(
    bench: tuple[Bench, Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who owns a folder above the socket can put another one in its place."""
    monkeypatch.setattr(client_module, "peer", lambda writer: (1, os.getuid() + 1))
    with pytest.raises(ConnectionLost, match="belongs to another user"):
        await Client.connect(bench[1].path)
