"""The engine's end of the Unix socket: the state to each client, then every record."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections import deque
from pathlib import Path

import msgspec
import psutil

from loop import __version__
from loop import events as ev
from loop.client import Past, Refused, Snapshot, is_own, peer
from loop.engine import Engine
from loop.errors import UNREADABLE, describe
from loop.service import commands

PART = 100
"""How many experiments are sent at once to a client that connects: a long run has many megabytes of them."""
REQUEST_MOST = 64 * 2**20
"""Bytes that a request may have: the longest is a file that a human has edited."""
LIVE_BACKLOG = 8 * 2**20
"""Bytes a slow client may lag behind before live records are dropped for it and its requests have to wait."""
BACKLOG_MOST = 256 * 2**20
"""Bytes it may lag behind with durable records. Then it is dropped; when it is back, it gets the state."""


class Server:
    """Serves one engine to many clients. Any may watch, any may command; all belong to this user."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.engine: Engine | None = None
        self._clients: set[_Outbox] = set()
        self._server: asyncio.Server | None = None

    async def open(self, engine: Engine) -> None:
        """Listen. Call it with engine.lock held: a socket file that is there belongs to no one."""
        self.engine = engine
        self.path.unlink(missing_ok=True)
        self._server = await asyncio.start_unix_server(self._serve, str(self.path), limit=REQUEST_MOST)
        self.path.chmod(0o600)

    async def close(self) -> None:
        """Send each client what still waits for it, for a second at most, then close all connections."""
        self.path.unlink(missing_ok=True)
        if self._server:
            self._server.close()
        for client in list(self._clients):
            with contextlib.suppress(TimeoutError, OSError):
                await asyncio.wait_for(client.flushed(), 1)
            client.writer.close()

    def publish(self, record: ev.Record) -> None:
        """Send a record to everyone, encoded once."""
        if self._clients:
            line = ev.encode(record) + b"\n"
            for client in self._clients:
                if client.introduced:
                    client.put(line, live=record.seq == 0)
                elif record.seq:
                    client.changed.add(getattr(record.event, "n", 0))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert self.engine is not None, "open() sets the engine before it listens"
        if not _welcome(writer, self.engine.executor.processes()):
            writer.close()
            return
        client = _Outbox(writer)
        self._clients.add(client)
        sending = asyncio.create_task(client.send())
        try:
            await self._introduce(client)
            while line := await reader.readline():
                client.put(ev.encode(await self._answer(line)) + b"\n", live=False)
                if client.backlog > LIVE_BACKLOG:  # it asks and does not read the answers
                    await client.flushed()
        except (OSError, ValueError):
            pass  # the client is gone, or sent a line no client of ours sends
        finally:
            self._clients.discard(client)
            sending.cancel()
            writer.close()

    async def _introduce(self, client: _Outbox) -> None:
        """Send who this is, and the state of now.

        The experiments of a long run go first, in parts, so that neither end holds all of them as one
        message and the event loop goes on in between. Those that change meanwhile go again with the rest.
        """
        assert self.engine is not None, "open() sets the engine before it listens"
        state, sent = self.engine.state, 0
        client.put(ev.encode(ev.Hello(__version__, ev.FORMAT, os.getpid())) + b"\n", live=False)
        while len(state.experiments) - sent > PART:
            client.put(ev.encode(Past(state.experiments[sent : sent + PART])) + b"\n", live=False)
            sent += PART
            await client.flushed()
        newer = [state.experiments[n - 1] for n in sorted(client.changed) if 0 < n <= sent]
        rest = msgspec.structs.replace(state, experiments=newer + state.experiments[sent:])
        client.put(ev.encode(Snapshot(rest)) + b"\n", live=False)
        client.introduced = True

    async def _answer(self, line: bytes) -> ev.Reply:
        assert self.engine is not None, "open() sets the engine before it listens"
        try:
            request = ev.decode_request(line)
        except UNREADABLE as error:
            return ev.Reply(_number(line), False, f"not a request of this version: {error}")
        try:
            if isinstance(request.command, ev.GetExperiment):
                detail = await commands.detail(self.engine, request.command.n)
                return ev.Reply(request.id, True, detail=detail)
            if isinstance(request.command, ev.GetOthers):
                return ev.Reply(request.id, True, rows=await commands.others(self.engine))
            return ev.Reply(request.id, True, await commands.obey(self.engine, request.command))
        except Refused as error:
            return ev.Reply(request.id, False, str(error))
        except OSError as error:
            return ev.Reply(request.id, False, describe(error))


class _Numbered(msgspec.Struct):
    """What every request has, of whatever version."""

    id: int = 0


def _number(line: bytes) -> int:
    """The number of a request that is not understood, so that its sender need not wait; 0 without one."""
    with contextlib.suppress(*UNREADABLE):
        return msgspec.json.decode(line, type=_Numbered).id
    return 0


class _Outbox:
    """What still has to be sent to one client. `put` never waits: a stalled client cannot stop the engine."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self.writer = writer
        self._lines: deque[bytes] = deque()
        self.backlog = 0
        """Bytes that still have to be sent."""
        self._more = asyncio.Event()
        self._empty = asyncio.Event()
        self.introduced = False
        """It has the state. Before, it gets no records: `changed` are the experiments that they are about."""
        self.changed = set[int]()

    def put(self, line: bytes, *, live: bool) -> None:
        if self.backlog > BACKLOG_MOST:
            self.writer.transport.abort()
        elif not live or self.backlog < LIVE_BACKLOG:
            self._lines.append(line)
            self.backlog += len(line)
            self._empty.clear()
            self._more.set()

    async def flushed(self) -> None:
        """Wait until everything is sent. Raises OSError when the client is gone."""
        await self._empty.wait()
        if self._lines:
            raise BrokenPipeError

    async def send(self) -> None:
        try:
            with contextlib.suppress(OSError):
                while True:
                    while self._lines:
                        self.writer.write(self._lines[0])
                        await self.writer.drain()
                        self.backlog -= len(self._lines.popleft())
                    self._empty.set()
                    self._more.clear()
                    await self._more.wait()
        finally:
            self._empty.set()


def _welcome(writer: asyncio.StreamWriter, trainers: list[int]) -> bool:
    """Whether the peer belongs to this user and is no trainer.

    The private folder of the socket keeps other users off already. On old kernels the fence cannot keep
    trainers off; they are known by their supervisors, which are among their ancestors: `trainers` holds the
    process ids of these supervisors.
    """
    found = peer(writer)
    if found is None or not is_own(writer):
        return found is None
    if not found[0] or not trainers:  # process 0: another pid namespace, so not our child
        return True
    with contextlib.suppress(psutil.Error):
        return not {parent.pid for parent in psutil.Process(found[0]).parents()} & set(trainers)
    return False
