"""Agent `acp`: any CLI agent that speaks the Agent Client Protocol, such as Claude Code, Codex or Gemini CLI.

For each experiment the CLI agent is started in a scratch directory of its own. The file that it has edited is
checked like any other proposal. Its process, and every process it has started, is ended with the proposal.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Mapping

import msgspec
from msgspec import Struct

from loop.agents import checks
from loop.agents.acp import process
from loop.agents.acp.scratch import Scratch, sweep
from loop.agents.acp.session import Session
from loop.agents.base import (
    AgentFailed,
    AgentStopped,
    Bounds,
    Emit,
    Proposal,
    ResearchContext,
)
from loop.text import redact


class Cli(Struct, frozen=True):
    """A CLI agent: how it is started, and which variables of the environment are for it."""

    command: list[str]
    vendor: tuple[str, ...] = ()
    """Names of variables, or beginnings of names that end in `_`."""


KNOWN = {
    "claude-code": Cli(["npx", "-y", "@agentclientprotocol/claude-agent-acp"], ("ANTHROPIC_", "CLAUDE_")),
    "codex": Cli(["npx", "-y", "@agentclientprotocol/codex-acp"], ("OPENAI_", "CODEX_")),
    "gemini": Cli(["gemini", "--acp"], ("GEMINI_", "GOOGLE_")),
}


class AcpAgent:
    """Proposes experiments through a CLI agent."""

    def __init__(
        self,
        name: str,
        cli: Cli,
        environ: Mapping[str, str],
        model: str = "",
        bounds: Bounds | None = None,
    ) -> None:
        self.name, self.model = name, model
        self._cli, self._environ, self._bounds = cli, environ, bounds or Bounds()
        self.secrets = process.secrets(environ)
        self._tried = checks.Tried()
        self._swept = False

    async def propose(self, context: ResearchContext, emit: Emit) -> Proposal:
        if not self._swept:
            await asyncio.to_thread(sweep)
            self._swept = True
        await asyncio.to_thread(self._tried.update, context)
        scratch = await asyncio.to_thread(Scratch, context)
        session = Session(context, emit, scratch, self.name, self._tried, self.secrets)
        started = time.monotonic()
        try:
            async with asyncio.timeout(self._bounds.seconds) as limit, self._connected(session):
                session.limit = limit
                proposal = await session.run(self.model)
        except TimeoutError as error:
            if not limit.expired():
                raise
            raise AgentFailed(
                f"{self.name} made no proposal in {self._bounds.seconds:.0f} s", session.usage
            ) from error
        finally:
            await asyncio.to_thread(scratch.close)
        return msgspec.structs.replace(proposal, usage=session.final_usage(time.monotonic() - started))

    @contextlib.asynccontextmanager
    async def _connected(self, session: Session) -> AsyncIterator[None]:
        """Start the CLI agent and open a session; afterwards end its process and all its descendants."""
        mark = session.scratch.folder.name
        env = process.agent_environment(self._environ, self._cli.vendor, mark)
        try:
            child = await process.start(self._cli.command, str(session.scratch.folder), env)
            stdin, stdout, stderr = process.pipes(child)
        except OSError as error:
            raise AgentStopped(
                f"cannot start {self._cli.command[0]} ({error.strerror}): install it or set --agent-command"
            ) from error
        last_words = asyncio.create_task(_last_words(stderr))
        try:
            await session.open(stdin, stdout)
            yield
        except ConnectionError as error:
            await process.end(child, mark)
            said = redact(await last_words, self.secrets)
            raise AgentFailed(
                f"{self.name} ended before it was done ({said or 'no word why'})", session.usage
            ) from error
        finally:
            await session.close()
            await asyncio.shield(process.end(child, mark))
            last_words.cancel()

    async def close(self) -> None:
        """Does nothing: no process or connection outlives a proposal."""


async def _last_words(stderr: asyncio.StreamReader) -> str:
    """The last line of a process's standard error. Reading it keeps the pipe from filling up."""
    kept = b""
    while chunk := await stderr.read(4096):
        kept = (kept + chunk)[-2000:]
    lines = [line for line in kept.decode("utf-8", "replace").splitlines() if line.strip()]
    return lines[-1] if lines else ""
