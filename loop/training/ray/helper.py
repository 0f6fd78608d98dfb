"""The process that speaks with a Ray cluster for the engine, which never imports Ray.

    python helper.py FD

Ray ends the process of a driver without an exception when the head has been away for a minute, so the engine
must not be one. This process may end at any time: what it has started are detached actors, found again by
name. It needs Ray and the standard library, so that it can run in another Python that fits the cluster's.

`FD` is a socket. Both sides write frames: the length of a JSON object and of the bytes after it as two 32-bit
numbers, then both. Each request has an `id` and an `op`, the name of a method of `Helper`; the answer has the
same `id`, and `error` with a kind of `ERRORS` where it failed. When the engine closes the socket, this ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import struct
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING or __name__ != "__main__":
    from loop.training.ray.worker import Worker
else:  # as a program it is not in its package: its neighbour is found beside it
    sys.path.append(str(Path(__file__).parent))
    from worker import Worker

HEADER = struct.Struct("!II")
PROBE_S = 3.0
"""How long the head's port may take to accept a connection; `ray.init` itself would wait for minutes."""
QUEUE_S = 15.0
"""How long an actor may wait for its resources before the engine is told that it waits."""
NOTED_IN = "ray/ray_current_cluster"
"""File in the folder for temporary files where `ray start` notes the cluster's address."""
NAME_S = 20.0
"""How long the name of an actor that was ended may stay taken."""
ERRORS = ("gone", "unavailable", "cluster")
"""Kinds of failures: the actor has died or there is none; it cannot be reached now; everything else."""


class Failed(Exception):
    """A request failed; the first argument is the kind, the second a sentence."""


def encode(header: dict[str, Any], payload: bytes = b"") -> bytes:
    """A frame."""
    words = json.dumps(header).encode()
    return HEADER.pack(len(words), len(payload)) + words + payload


async def read_frame(reader: asyncio.StreamReader) -> tuple[dict[str, Any], bytes]:
    """The next frame. Raises `asyncio.IncompleteReadError` when the other side has closed."""
    words, payload = HEADER.unpack(await reader.readexactly(HEADER.size))
    header: dict[str, Any] = json.loads(await reader.readexactly(words))
    return header, await reader.readexactly(payload)


class Helper:
    """Answers the engine's requests. Each public method is one kind of them."""

    def __init__(self, ray: Any) -> None:
        self._ray = ray

    async def connect(self, address: str, namespace: str) -> dict[str, Any]:
        """Become a driver of the cluster at `address`: `HOST:PORT`, or `auto` for the one of this machine."""
        where = address if address != "auto" else _local_address()
        await asyncio.to_thread(_probe, where)
        try:
            await asyncio.to_thread(
                self._ray.init, address=where, namespace=namespace, log_to_driver=False, logging_level="ERROR"
            )
        except Exception as error:  # whatever it is, a sentence is made of it
            raise Failed("cluster", _sentence(error, where)) from error
        return {"address": where}

    async def nodes(self) -> dict[str, Any]:
        """The living machines of the cluster and their resources."""
        found = await asyncio.to_thread(self._ray.nodes)
        return {
            "nodes": [
                {"id": node["NodeID"], "host": node["NodeManagerHostname"], "resources": node["Resources"]}
                for node in found
                if node["Alive"]
            ]
        }

    async def describe(self, node: str, python: str) -> dict[str, Any]:
        """What a machine says of itself: exit code and output of remote/node.py with `--describe`.

        The code is -1 where the machine is gone: Ray lists one for a while after its end.
        """
        task = self._ray.remote(describe).options(num_cpus=0, max_retries=0, **self._on(node))
        try:
            code, output = await task.remote(python)
        except self._ray.exceptions.RayError as error:
            code, output = -1, str(error)
        return {"code": code, "output": output}

    async def begin(
        self, key: str, payload: bytes, files: dict[str, int], python: str, root: str, options: dict[str, Any]
    ) -> dict[str, Any]:
        """Let an actor with the name `key` carry out an order, if it does not do so already.

        `files` are the order's files and their sizes, in the order in which `payload` holds them. `options`
        are the actor's resources; `node` among them is the machine that it has to be on.
        """
        actor = await self._find(key) or await self._make(key, dict(options))
        begun = actor.begin.remote(_cut(payload, files), python, root)
        done, _ = await asyncio.wait({asyncio.ensure_future(_awaited(begun))}, timeout=QUEUE_S)
        if not done:
            return {"waiting": True}
        found: dict[str, Any] = done.pop().result()
        return found

    async def news(self, key: str, offset: int, wait_s: float) -> tuple[dict[str, Any], bytes]:
        """What a training has printed since `offset`, and whether it has ended."""
        log, ended = await (await self._get(key)).news.remote(offset, wait_s)
        return {"ended": ended}, log

    async def read(self, key: str, name: str, offset: int) -> tuple[dict[str, Any], bytes]:
        """Some bytes of a file of the order's folder."""
        return {}, await (await self._get(key)).read.remote(name, offset)

    async def stop(self, key: str) -> dict[str, Any]:
        """End the training of an actor and wait for its end; says whether it was under way."""
        return {"under_way": await (await self._get(key)).stop.remote()}

    async def end(self, key: str) -> dict[str, Any]:
        """End an actor together with its training and its folder, so that its name is free again.

        `ray.kill` alone would leave it to the lease to end the training.
        """
        actor, under_way = await self._find(key), False
        if actor is None:
            return {"under_way": False}
        with contextlib.suppress(self._ray.exceptions.RayActorError, TimeoutError):
            under_way = await asyncio.wait_for(_awaited(actor.remove.remote()), NAME_S)
        await asyncio.to_thread(self._ray.kill, actor)
        async with asyncio.timeout(NAME_S):
            while await self._find(key) is not None:  # noqa: ASYNC110 - Ray tells nobody of it
                await asyncio.sleep(0.02)
        return {"under_way": under_way}

    async def names(self) -> dict[str, Any]:
        """The names of all actors of this run."""
        return {"names": await asyncio.to_thread(self._ray.util.list_named_actors)}

    async def answer(self, header: dict[str, Any], payload: bytes) -> bytes:
        """The frame that answers a request."""
        identity, op = header.pop("id"), header.pop("op")
        try:
            if op == "begin":
                header["payload"] = payload
            found = await getattr(self, op)(**header)
            answer, data = found if isinstance(found, tuple) else (found, b"")
            return encode({**answer, "id": identity}, data)
        except Exception as error:  # the engine decides what to do about it
            kind, text = self._kind(error)
            return encode({"id": identity, "error": kind, "text": text})

    def _kind(self, error: Exception) -> tuple[str, str]:
        """The kind of a failure, and its sentence."""
        exceptions = self._ray.exceptions
        if isinstance(error, Failed):
            return error.args[0], error.args[1]
        if isinstance(error, exceptions.ActorUnavailableError):
            return "unavailable", "its machine does not answer"
        if isinstance(error, exceptions.RayActorError):
            lost = "node has died" in str(error) or "node died" in str(error)
            return "gone", "its machine is gone" if lost else "its Ray worker was killed"
        return "cluster", " ".join(f"{type(error).__name__}: {error}".split())[:300]

    async def _find(self, key: str) -> Any:
        """The actor of this name; None when there is none."""
        try:
            return await asyncio.to_thread(self._ray.get_actor, key)
        except ValueError:
            return None

    async def _get(self, key: str) -> Any:
        actor = await self._find(key)
        if actor is None:
            raise Failed("gone", "its Ray actor is gone")
        return actor

    async def _make(self, key: str, options: dict[str, Any]) -> Any:
        """A new actor, which outlives this process. One that dies is not made again: it would be empty."""
        if node := options.pop("node", ""):
            options |= self._on(node)
        kind = self._ray.remote(Worker).options(
            name=key, lifetime="detached", get_if_exists=True, max_restarts=0, max_task_retries=0,
            max_concurrency=16, **options,
        )  # fmt: skip
        return await asyncio.to_thread(kind.remote)

    def _on(self, node: str) -> dict[str, Any]:
        """Options that let a task or an actor run on one machine and on no other."""
        strategy = self._ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy
        return {"scheduling_strategy": strategy(node, soft=False)}


def describe(python: str) -> tuple[int, str]:
    """Run as a Ray task: what the machine says of itself, or why it cannot."""
    command = [python or sys.executable, "-P", "-m", "loop.training.remote.node", "--describe"]
    try:
        said = subprocess.run(command, capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.SubprocessError) as error:
        return 1, f"{command[0]}: {getattr(error, 'strerror', error)}"
    return said.returncode, said.stdout if said.returncode == 0 else said.stderr


async def _awaited(ref: Any) -> Any:
    return await ref


def _cut(payload: bytes, sizes: dict[str, int]) -> dict[str, bytes]:
    """The files in `payload` by their names."""
    files, at = {}, 0
    for name, size in sizes.items():
        files[name] = payload[at : at + size]
        at += size
    return files


def _local_address() -> str:
    """The address of the cluster that this machine belongs to, as `ray start` noted it. Raises `Failed`."""
    if where := os.environ.get("RAY_ADDRESS"):
        return where
    for folder in filter(None, (os.environ.get("RAY_TMPDIR"), "/tmp", tempfile.gettempdir())):
        with contextlib.suppress(OSError):
            return Path(folder, NOTED_IN).read_text().strip()
    raise Failed(
        "cluster",
        "no Ray cluster is known here: start this machine's part with `ray start`, "
        "or name the head with --ray-address HOST:PORT",
    )


def _probe(address: str) -> None:
    """Raise `Failed` when nothing listens at the address."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit() or "/" in host:
        raise Failed("cluster", f"--ray-address {address!r} must be HOST:PORT or auto")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=PROBE_S).close()
    except OSError as error:
        why = error.strerror or "no answer"
        text = f"no Ray head answers at {address} ({why}): start it, or give another --ray-address"
        raise Failed("cluster", text) from error


def _sentence(error: Exception, address: str) -> str:
    """Why `ray.init` failed, and what to do."""
    causes: list[BaseException] = [error]
    while cause := causes[-1].__cause__ or causes[-1].__context__:
        causes.append(cause)
    text = " ".join(" ".join(f"{type(cause).__name__}: {cause}" for cause in causes).split())
    if "ersion mismatch" in text:
        versions = " ".join(str(error).partition("mismatch:")[2].split())[:160]
        return f"this Ray or Python is not the cluster's: set `ray_python` to one that is ({versions})"
    if "AuthenticationError" in text or "InvalidAuthToken" in text:
        return (
            f"the Ray cluster at {address} does not take our token: set RAY_AUTH_MODE=token and "
            "RAY_AUTH_TOKEN_PATH as on its head"
        )
    if "raylet" in text or "node info" in text or "node_ip_address" in text:
        return (
            f"this machine is no part of the Ray cluster at {address}: run "
            f"`ray start --address={address} --num-gpus=0` here first"
        )
    return f"cannot use the Ray cluster at {address}: {text[:200]}"


async def serve(helper: Helper, connection: socket.socket) -> None:
    """Answer requests until the engine closes the connection; several of them at a time."""
    reader, writer = await asyncio.open_connection(sock=connection)
    waiting = set[asyncio.Task[None]]()

    async def answer(header: dict[str, Any], payload: bytes) -> None:
        writer.write(await helper.answer(header, payload))
        await writer.drain()

    with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
        while True:
            task = asyncio.create_task(answer(*await read_frame(reader)))
            waiting.add(task)
            task.add_done_callback(waiting.discard)


def main() -> None:
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ["RAY_NUM_REDIS_GET_RETRIES"] = "1"
    connection = socket.socket(fileno=int(sys.argv[1]))
    try:
        import ray
        import ray.cloudpickle
        import ray.util
        import ray.util.scheduling_strategies
    except ImportError:
        text = f"Ray is not installed for {sys.executable}: pip install 'autoresearch-tui[ray]'"
        connection.sendall(encode({"id": 0, "error": "cluster", "text": text}))
        return
    register: Any = ray.cloudpickle.register_pickle_by_value
    register(sys.modules["worker"])  # no machine needs that file
    asyncio.run(serve(Helper(ray), connection))


if __name__ == "__main__":
    main()
    os._exit(0)  # Ray's own tidying up takes half a second and more
