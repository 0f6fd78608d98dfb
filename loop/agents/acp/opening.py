"""Starts a CLI agent and opens a session with it; afterwards ends it with everything that it has started."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from loop.agents.acp import faults, fence, npx, process
from loop.agents.acp.home import Home
from loop.agents.acp.known import Cli
from loop.agents.base import AgentFailed, AgentStopped
from loop.text import clean, redact

if TYPE_CHECKING:
    from acp.client.connection import ClientSideConnection

    from loop.agents.acp.client import AcpClient

BY_KEY = "api-key"
"""Codex' name for a login by the key in its environment; it does not take the key unasked."""
START_S = 60.0
"""How long a CLI agent may take to open a session, once its program is there."""


class Opened(Struct):
    """An open session, and what the agent has said of itself."""

    connection: ClientSideConnection
    id: str
    program: str
    """Name and version of the agent."""
    modes: list[str]
    models: list[tuple[str, str]]
    """Ids and names of the models that it offers."""
    model: str
    """Id of the model that it uses now; empty when it does not tell."""
    option: str
    """Id of the setting that chooses the model; empty when `session/set_model` does."""
    steers: bool
    """It takes messages in mid-turn."""
    deletes: bool
    """It deletes a session's files when asked to."""
    protection: str = ""
    """What keeps it from the rest of the machine, in words."""

    async def ask(self, method: str, **parameters: Any) -> Any:
        """Send a request that the protocol's library does not know."""
        return await self.connection._conn.send_request(method, {"sessionId": self.id, **parameters})


class Place(Struct, frozen=True):
    """Where and how an agent is started."""

    name: str
    cli: Cli
    environ: Mapping[str, str]
    secrets: tuple[str, ...]
    fenced: bool
    offline: bool = False
    """Do not download its program."""


@contextlib.asynccontextmanager
async def opened(place: Place, folder: Path, client: AcpClient) -> AsyncIterator[Opened]:
    """A session with the agent in `folder`. Raises `AgentFailed` or `AgentStopped`.

    Beside the folder lies a private one with the same name and `.own` (see home.py). When the session ends,
    all processes of the agent are ended, and both its private folder and its traces are deleted.
    """
    command = await npx.program(place.cli.command, place.environ, offline=place.offline)
    home = await asyncio.to_thread(Home, folder.with_name(f"{folder.name}.own"), place.cli, place.environ)
    session: Opened | None = None
    try:
        async with _running(place, command, folder, home) as (child, last_words):
            stdin, stdout, _ = process.pipes(child)
            try:
                session = await _open(place.name, folder, client, stdin, stdout)
                session.protection = await asyncio.to_thread(_protection, place)
                yield session
            except ConnectionError as error:
                await process.end(child, folder.name)
                said = redact(await last_words, place.secrets)
                raise AgentFailed(
                    f"{place.name} ended before it was done ({said or 'no word why'})"
                ) from error
            finally:
                if session:
                    await _leave(session)
    finally:
        await asyncio.shield(asyncio.to_thread(home.close, folder.name, session.id if session else ""))


@contextlib.asynccontextmanager
async def _running(
    place: Place, command: list[str], folder: Path, home: Home
) -> AsyncIterator[tuple[asyncio.subprocess.Process, asyncio.Task[str]]]:
    """The agent's process, and the last line that it writes to standard error."""
    mark = folder.name
    env = process.agent_environment(place.environ, place.cli.vendor, mark) | home.environment
    if not shutil.which(command[0], path=env.get("PATH")):
        raise AgentStopped(f"cannot start {command[0]}: install it, or set --agent-command")
    start = command
    if place.cli.sandboxes_itself:
        programs = fence.programs(command, place.environ) if place.fenced else None
        await asyncio.to_thread(home.give_codex_its_own, programs)
        env |= home.environment
    elif place.fenced and await asyncio.to_thread(fence.possible):
        start = fence.around(command, [folder, home.folder, *home.kept], env)
    try:
        child = await process.start(start, str(folder), env)
    except OSError as error:
        raise AgentStopped(
            f"cannot start {command[0]} ({error.strerror}): install it or set --agent-command"
        ) from error
    last_words = asyncio.create_task(_last_words(process.pipes(child)[2]))
    try:
        yield child, last_words
    finally:
        await asyncio.shield(process.end(child, mark))
        last_words.cancel()


def _protection(place: Place) -> str:
    if not place.fenced:
        return "no fence"
    if place.cli.sandboxes_itself:
        return "in its own sandbox"
    return "behind a fence" if fence.possible() else "no fence: this machine has none"


async def _open(
    name: str, folder: Path, client: AcpClient, stdin: asyncio.StreamWriter, stdout: asyncio.StreamReader
) -> Opened:
    from acp import PROTOCOL_VERSION, RequestError, connect_to_agent
    from acp.schema import ClientCapabilities, Implementation

    from loop import __version__

    connection = connect_to_agent(client, stdin, stdout)  # type: ignore[arg-type]
    try:
        async with asyncio.timeout(START_S) as limit:
            us = Implementation(name="autoresearch-tui", version=__version__)
            greeted = await connection.initialize(PROTOCOL_VERSION, ClientCapabilities(), us)
            offered = [method.id for method in greeted.auth_methods or []]
            raw = await _new_session(connection, folder, BY_KEY in offered)
    except TimeoutError as error:
        if not limit.expired():
            raise
        raise AgentFailed(f"{name} did not open a session in {START_S:.0f} s") from error
    except RequestError as error:
        raise faults.of_request(error, name, "").as_end() from error
    info, meta = greeted.agent_info, greeted.field_meta or {}
    models, model, option = _models(raw)
    can = greeted.agent_capabilities.session_capabilities if greeted.agent_capabilities else None
    return Opened(
        connection=connection,
        id=str(raw["sessionId"]),
        program=clean(f"{info.title or info.name} {info.version}") if info else name,
        modes=[str(mode["id"]) for mode in (raw.get("modes") or {}).get("availableModes", [])],
        models=models,
        model=model,
        option=option,
        steers=bool((meta.get("steering") or {}).get("supported")),
        deletes=bool(can and can.delete),
    )


async def _new_session(connection: ClientSideConnection, folder: Path, by_key: bool) -> Any:
    """Open a session. Where nobody is logged in, the key in the environment is the login, if that can be.

    The library drops the models that some agents list in their answer, so its own method is not used.
    """
    from acp import RequestError

    wanted = {"cwd": str(folder), "mcpServers": []}
    try:
        return await connection._conn.send_request("session/new", wanted)
    except RequestError as error:
        if error.code != faults.AUTH_REQUIRED or not by_key:
            raise
    await connection.authenticate(BY_KEY)
    return await connection._conn.send_request("session/new", wanted)


def _models(raw: dict[str, Any]) -> tuple[list[tuple[str, str]], str, str]:
    """The models that an agent offers, the one that it uses, and the setting that chooses one."""
    for option in raw.get("configOptions") or []:
        if option.get("category") == "model" and option.get("type") == "select":
            values = [inner for o in option["options"] for inner in o.get("options", [o])]  # groups, or none
            found = [(str(v["value"]), str(v.get("name", ""))) for v in values]
            return found, str(option.get("currentValue", "")), str(option["id"])
    listed = raw.get("models") or {}
    found = [(str(m["modelId"]), str(m.get("name", ""))) for m in listed.get("availableModels", [])]
    return found, str(listed.get("currentModelId", "")), ""


async def _leave(session: Opened) -> None:
    """Have the agent forget the session, where it can, and close the connection."""
    with contextlib.suppress(Exception):
        async with asyncio.timeout(1.0):
            if session.deletes:
                await session.ask("session/delete")
    with contextlib.suppress(Exception):
        await session.connection.close()


async def _last_words(stderr: asyncio.StreamReader) -> str:
    """The last line of a process's standard error. Reading it keeps the pipe from filling up."""
    kept = b""
    while chunk := await stderr.read(4096):
        kept = (kept + chunk)[-2000:]
    lines = [line for line in kept.decode("utf-8", "replace").splitlines() if line.strip()]
    return lines[-1] if lines else ""
