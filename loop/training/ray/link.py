"""The engine's end of the connection to the process that speaks with Ray (helper.py).

That process is started again whenever it has ended: it holds nothing that is not found again.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import msgspec

from loop.errors import UsageError
from loop.text import is_secret
from loop.training.ray import helper
from loop.training.remote.mirror import Gone

CONNECT_S = 9.0
"""How long the first connection to the cluster may take."""
DESCRIBE_S = 60.0
"""How long its machines may take to describe themselves: the first worker on one starts slowly."""
ANSWER_S = 60.0
"""How long a request may take before the cluster counts as out of reach."""
AGAIN_S = 2.0
"""Pause before another process is started in the place of one that has ended."""

Request = tuple[str, dict[str, Any]]
"""The name of a method of `helper.Helper`, and its arguments."""


class Unavailable(Exception):
    """The cluster cannot be reached now, which says nothing about what runs there; the reason in words."""


class Link:
    """A connection to one Ray cluster."""

    def __init__(self, python: str, address: str, namespace: str, log: Path) -> None:
        """`python` runs the helper; `log` takes what Ray prints. `open` has to be called next."""
        self._python, self._log = python or sys.executable, log
        self._connect: Request = ("connect", {"address": address, "namespace": namespace})
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._reading: asyncio.Task[None] | None = None
        self._answers: dict[int, asyncio.Future[tuple[dict[str, Any], bytes]]] = {}
        self._last = 0
        self._opening = asyncio.Lock()

    @property
    def helper(self) -> int:
        """The process id of the helper; 0 while there is none."""
        return self._process.pid if self._process else 0

    # --- at the start, before there is anything to wait for besides ---

    def open(self) -> dict[str, Any]:
        """Connect for the first time; returns what `connect` answers. Raises `UsageError`."""
        self._spawn()
        return self.ask_now([self._connect], CONNECT_S)[0]

    def ask_now(self, requests: list[Request], patience_s: float) -> list[dict[str, Any]]:
        """Make requests at once and wait for all answers. Raises `UsageError` when one fails or is late."""
        assert self._socket is not None, "open has been called"
        deadline = time.monotonic() + patience_s
        found: dict[int, dict[str, Any]] = {}
        try:
            for number, (op, fields) in enumerate(requests):
                self._socket.sendall(helper.encode({**fields, "op": op, "id": number}))
            while len(found) < len(requests):
                words, payload = helper.HEADER.unpack(self._receive(helper.HEADER.size, deadline))
                answer = msgspec.json.decode(self._receive(words, deadline), type=dict[str, Any])
                self._receive(payload, deadline)
                if "error" in answer:
                    raise UsageError(answer["text"])
                found[answer["id"]] = answer
        except TimeoutError as error:
            where = self._connect[1]["address"]
            raise UsageError(
                f"the Ray cluster ({where}) does not answer within {patience_s:.0f} s: is its head alive, "
                "and this machine a part of it?"
            ) from error
        except ConnectionError as error:
            raise UsageError(f"Ray's helper ended: {self._last_words()}") from error
        return [found[number] for number in range(len(requests))]

    def _receive(self, size: int, deadline: float) -> bytes:
        assert self._socket is not None, "open has been called"
        found = b""
        while len(found) < size:
            self._socket.settimeout(max(0.01, deadline - time.monotonic()))
            part = self._socket.recv(size - len(found))
            if not part:
                raise ConnectionError
            found += part
        return found

    # --- afterwards ---

    async def ask(
        self, op: str, payload: bytes = b"", *, patience_s: float = ANSWER_S, **fields: Any
    ) -> tuple[dict[str, Any], bytes]:
        """Make a request; several may be under way. Raises `Gone` and `Unavailable`."""
        try:
            async with asyncio.timeout(patience_s):
                writer = await self._opened()
                return await self._ask(writer, op, payload, fields)
        except TimeoutError as error:
            raise Unavailable(f"the Ray cluster has not answered for {patience_s:.0f} s") from error
        except OSError as error:
            raise Unavailable(f"Ray's helper ended: {self._last_words()}") from error

    async def _ask(
        self, writer: asyncio.StreamWriter, op: str, payload: bytes, fields: dict[str, Any]
    ) -> tuple[dict[str, Any], bytes]:
        self._last += 1
        identity, future = self._last, asyncio.get_running_loop().create_future()
        self._answers[identity] = future
        try:
            writer.write(helper.encode({**fields, "op": op, "id": identity}, payload))
            await writer.drain()
            answer, data = await future
        finally:
            del self._answers[identity]
        match answer.get("error"):
            case None:
                return answer, data
            case "gone":
                raise Gone(answer["text"])
            case _:
                raise Unavailable(answer["text"])

    async def _opened(self) -> asyncio.StreamWriter:
        """The stream to a living helper that is connected to the cluster."""
        async with self._opening:
            if self._writer and self._reading and not self._reading.done():
                return self._writer
            again = self._socket is None
            if again:
                await asyncio.sleep(AGAIN_S)
                self._spawn()
            assert self._socket is not None, "a helper was started"
            self._socket.settimeout(0)
            reader, self._writer = await asyncio.open_connection(sock=self._socket)
            self._reading = asyncio.create_task(self._read(reader, self._writer))
            if again:
                try:
                    await self._ask(self._writer, self._connect[0], b"", self._connect[1])
                except BaseException:
                    self._end()
                    raise
            return self._writer

    async def _read(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Hand out answers until the helper ends; then whoever waits for one is told so."""
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while True:
                answer, payload = await helper.read_frame(reader)
                waiting = self._answers.get(answer["id"])
                if waiting and not waiting.done():
                    waiting.set_result((answer, payload))
        if self._writer is not writer:
            return  # another helper is in its place already
        self._forget()
        for future in self._answers.values():
            if not future.done():
                future.set_exception(ConnectionError("the helper ended"))

    def _spawn(self) -> None:
        """Start the helper. It gets no key of ours, but the cluster's token."""
        self._end()
        ours, theirs = socket.socketpair()
        environment = {
            name: value
            for name, value in os.environ.items()
            if name.startswith("RAY_") or not is_secret(name, value)
        }
        with theirs, self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [self._python, helper.__file__, str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[theirs.fileno()],
                env=environment,
                start_new_session=True,
            )
        self._socket = ours

    def _forget(self) -> None:
        """Let go of a helper that has ended, or is to end."""
        if self._writer:
            self._writer.close()
        elif self._socket:
            self._socket.close()
        self._socket = self._writer = None

    def _end(self) -> None:
        """End the helper if there is one. It has nothing to tidy up."""
        self._forget()
        if self._process:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _last_words(self) -> str:
        with contextlib.suppress(OSError):
            lines = self._log.read_text("utf-8", "replace").strip().splitlines()
            return lines[-1][:200] if lines else "it printed nothing"
        return f"see {self._log}"

    def abandon(self) -> None:
        """End the helper of a connection that could not be opened."""
        self._end()

    async def close(self) -> None:
        """End the helper. What it has started on the cluster goes on."""
        if self._reading:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)
        self._end()
