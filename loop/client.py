"""The client's side of the engine's socket: it keeps a `RunState` up to date and sends commands."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket as sockets
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Literal, Protocol

import msgspec

from loop import events as ev
from loop.errors import UNREADABLE
from loop.records import other_rows
from loop.sharing import share_experiment
from loop.state import Experiment, RunState


class Refused(Exception):
    """The engine refused a command; the message is its reason."""


class ConnectionLost(Exception):
    """The engine has closed the connection, or does not answer."""


class Past(msgspec.Struct, frozen=True, tag="past"):
    """The next experiments of a long run, which are sent in parts before the rest of its state."""

    experiments: list[Experiment]


class Snapshot(msgspec.Struct, frozen=True, tag="snapshot"):
    """The state at the moment of connecting, but for experiments that a `Past` before it holds and that have
    not changed since."""

    state: RunState


ServerMessage = ev.Hello | Past | Snapshot | ev.Record | ev.Reply
_decode = msgspec.json.Decoder(ServerMessage).decode

LINE_LIMIT = 256 * 1024 * 1024
"""Most bytes of one message. The state of a long run is far more than asyncio's default of 64 KiB."""


class RunOverview(msgspec.Struct, frozen=True):
    """One run in the list of all runs."""

    root: str
    """The top folder of its repository."""
    tag: str
    phase: str = ""
    """What it did last, one word of `RunState.phase`."""
    running: bool = False
    """Its engine is alive."""
    attention: str = ""
    """What it wants of the human; empty while it wants nothing."""
    metric: str = "val_bpb"
    baseline: float | None = None
    best: float | None = None
    experiments: int = 0
    kept: int = 0
    dollars: float | None = None
    agent: str = ""
    began: float = 0.0
    """When the run was made; `seen` is when something happened last. Seconds since the epoch."""
    seen: float = 0.0


class NewRun(msgspec.Struct, frozen=True):
    """What a human wants of a new run, as it was typed; what is empty is as the repository has it."""

    root: str
    """A folder of the repository."""
    agent: str = ""
    model: str = ""
    budget: str = ""
    """Seconds that each training trains."""
    workers: str = ""
    """Trainings at once: a number, or `auto`."""
    limits: str = ""
    """A line such as `experiments 100, until val_bpb < 1.2`."""
    approve: bool = False
    """Every candidate waits for the human."""


class Finding(msgspec.Struct, frozen=True):
    """What was found about one of the choices for a new run."""

    about: str
    """An agent, or a field of `NewRun`."""
    state: Literal["ok", "none", "wrong"]
    """`none`: it is not set up; `wrong`: it is, and would not work."""
    text: str


class Runs(Protocol):
    """The runs that the cockpit can show, and how a new one is started."""

    @property
    def agents(self) -> Sequence[str]:
        """The agents that a new run can have."""
        ...

    def known(self) -> list[RunOverview]:
        """All of them, those that want something of the human first. Reads files: not for an event loop."""
        ...

    def opener(self, run: RunOverview) -> Callable[[], Awaitable[Connection]]:
        """How to connect to one of them."""
        ...

    def look(self, root: str, tell: Callable[[Finding], object]) -> None:
        """Find out what there is for a new run, and tell it bit by bit, from several threads. It takes
        seconds, and starts, sends and downloads nothing of weight: not for an event loop."""
        ...

    def start(self, wanted: NewRun) -> RunOverview:
        """Start a new run's engine, which outlives this process. Takes seconds: not for an event loop.

        Raises `Refused` with what is wrong.
        """
        ...


class Connection(Protocol):
    """What the cockpit shows a run through: `Client` for a live engine, `Replay` for a recorded run."""

    state: RunState

    def records(self) -> AsyncIterator[ev.Record]:
        """Records as they arrive, each already applied to `state`; ends when the connection is lost."""
        ...

    async def send(self, command: ev.AnyCommand) -> str:
        """Send a command; returns the engine's answer. Raises `Refused` or `ConnectionLost`."""
        ...

    async def experiment(self, n: int) -> ev.ExperimentDetail:
        """Files, log, transcript and curve of experiment `n`. Raises `Refused` or `ConnectionLost`."""
        ...

    async def others(self) -> list[Experiment]:
        """Rows of results.tsv that other runs or tools wrote. Raises `Refused` or `ConnectionLost`."""
        ...

    async def close(self) -> None: ...


class Client:
    """A `Connection` to a live engine, over its socket."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, hello: ev.Hello, state: RunState
    ) -> None:
        self.hello = hello
        self.state = state
        self._reader = reader
        self._writer = writer
        self._next_id = 0
        self._replies: dict[int, asyncio.Future[ev.Reply]] = {}
        self._records: asyncio.Queue[ev.Record | None] = asyncio.Queue()
        self._task = asyncio.create_task(self._receive())

    @classmethod
    async def connect(cls, socket: Path, timeout_s: float = 10.0) -> Client:
        """Connect to the engine that listens on `socket` and take in its state.

        Raises OSError when nobody listens, `ConnectionLost` when it is not an engine or does not answer.
        """
        reader, writer = await asyncio.open_unix_connection(str(socket), limit=LINE_LIMIT)
        if not is_own(writer):
            writer.close()
            raise ConnectionLost(f"{socket} belongs to another user")
        try:
            async with asyncio.timeout(timeout_s):
                hello = await _read(reader)
                past: list[Experiment] = []
                while isinstance(message := await _read(reader), Past):
                    past += map(share_experiment, message.experiments)
        except (TimeoutError, asyncio.IncompleteReadError) as error:
            writer.close()
            raise ConnectionLost(f"the engine behind {socket} does not answer") from error
        except (asyncio.LimitOverrunError, *UNREADABLE) as error:
            writer.close()
            raise ConnectionLost(f"{socket} does not speak this program's protocol") from error
        if not isinstance(hello, ev.Hello) or not isinstance(message, Snapshot):
            writer.close()
            raise ConnectionLost(f"{socket} does not speak this program's protocol")
        state = message.state
        newer = {e.n: share_experiment(e) for e in state.experiments}
        state.experiments = [newer.pop(e.n, e) for e in past] + list(newer.values())
        return cls(reader, writer, hello, state)

    async def records(self) -> AsyncIterator[ev.Record]:
        while (record := await self._records.get()) is not None:
            self.state.apply(record)
            yield record

    async def send(self, command: ev.AnyCommand) -> str:
        return (await self._request(command)).text

    async def experiment(self, n: int) -> ev.ExperimentDetail:
        detail = (await self._request(ev.GetExperiment(n))).detail
        assert detail is not None, "the engine answers GetExperiment with a detail"
        return detail

    async def others(self) -> list[Experiment]:
        return other_rows.experiments((await self._request(ev.GetOthers())).rows)

    async def close(self) -> None:
        self._task.cancel()
        self._writer.close()
        with contextlib.suppress(OSError, asyncio.CancelledError):
            await self._task

    async def _request(self, command: ev.AnyCommand) -> ev.Reply:
        """Send a command and wait for the reply to it. Raises `Refused` or `ConnectionLost`."""
        if self._task.done():
            raise ConnectionLost("the engine is gone")
        self._next_id += 1
        request_id = self._next_id
        future: asyncio.Future[ev.Reply] = asyncio.get_running_loop().create_future()
        self._replies[request_id] = future
        try:
            self._writer.write(ev.encode(ev.Request(request_id, command)) + b"\n")
            await self._writer.drain()
            reply = await future
        except OSError as error:
            raise ConnectionLost("the engine is gone") from error
        finally:
            self._replies.pop(request_id, None)
            future.cancel()
        if not reply.ok:
            raise Refused(reply.text)
        return reply

    async def _receive(self) -> None:
        """Pass on records and replies until the connection ends; then end whoever waits for one."""
        try:
            while True:
                message = await _read(self._reader)
                if isinstance(message, ev.Record):
                    self._records.put_nowait(message)
                elif isinstance(message, ev.Reply):
                    asked = self._replies.get(message.id)
                    if asked and not asked.done():  # whoever asked may have been cancelled just now
                        asked.set_result(message)
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, OSError, *UNREADABLE):
            pass
        finally:
            self._records.put_nowait(None)
            for future in self._replies.values():
                if not future.done():
                    future.set_exception(ConnectionLost("the engine is gone"))


def peer(writer: asyncio.StreamWriter) -> tuple[int, int] | None:
    """Process and user at the other end of a Unix socket; None where the system does not say."""
    if not hasattr(sockets, "SO_PEERCRED"):
        return None
    size = struct.calcsize("3i")
    found = writer.get_extra_info("socket").getsockopt(sockets.SOL_SOCKET, sockets.SO_PEERCRED, size)
    pid, uid, _ = struct.unpack("3i", found)
    return pid, uid


def is_own(writer: asyncio.StreamWriter) -> bool:
    """Whether this user, or root, is at the other end."""
    found = peer(writer)
    return found is None or found[1] in (os.getuid(), 0)


async def _read(reader: asyncio.StreamReader) -> ServerMessage:
    message: ServerMessage = _decode(await reader.readuntil(b"\n"))
    return message
