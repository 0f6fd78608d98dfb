"""Agent `acp`: any CLI agent that speaks the Agent Client Protocol, such as Claude Code, Codex or Gemini CLI.

For each experiment the CLI agent is started in a scratch directory of its own. The file that it has edited is
checked like any other proposal. Its process, and every process it has started, is ended with the proposal.
"""

from __future__ import annotations

import asyncio
import time

import msgspec

from loop.agents import checks
from loop.agents.acp import npx
from loop.agents.acp.opening import Place, opened
from loop.agents.acp.scratch import Scratch, sweep
from loop.agents.acp.session import Session
from loop.agents.base import AgentFailed, Bounds, Emit, NoProposal, Proposal, ResearchContext


class AcpAgent:
    """Proposes experiments through a CLI agent."""

    def __init__(
        self,
        place: Place,
        model: str = "",
        bounds: Bounds | None = None,
    ) -> None:
        self.name, self.secrets, self.model = place.name, place.secrets, model
        self._place, self._bounds = place, bounds or Bounds()
        self._tried = checks.Tried()
        self._mean: float | None = None
        """What a request to the model has cost so far, in dollars."""
        self._ready = False

    async def propose(self, context: ResearchContext, emit: Emit) -> Proposal:
        await asyncio.to_thread(self._tried.update, context)
        scratch = await asyncio.to_thread(Scratch, context)
        session = Session(context, emit, scratch, self.name, self._tried, self.secrets, self._mean)
        started = time.monotonic()
        try:
            if not self._ready:
                await self._get_ready(session)
            async with asyncio.timeout(self._bounds.seconds) as limit:
                session.clock.limit = limit
                async with opened(self._place, scratch.folder, session.client) as agent:
                    proposal = await session.run(agent, self.model, self._bounds)
        except TimeoutError as error:
            if not limit.expired():
                raise
            usage = session.final_usage(time.monotonic() - started)
            raise AgentFailed(
                f"{self.name} made no proposal in {self._bounds.seconds:.0f} s", usage
            ) from error
        except NoProposal as error:
            error.usage = session.final_usage(time.monotonic() - started)
            raise
        finally:
            self._mean = session.meter.mean
            await asyncio.shield(asyncio.to_thread(scratch.close))
        return msgspec.structs.replace(proposal, usage=session.final_usage(time.monotonic() - started))

    async def _get_ready(self, session: Session) -> None:
        """Before the first proposal: delete what killed engines have left, and find the agent's program."""
        await asyncio.to_thread(sweep)
        if found := npx.packaged(self._place.cli.command):
            session.transcript.say("note", f"npx looks for {found[0]}")
            if old := await npx.old_node(self._place.environ):
                session.transcript.say("note", old)
            program = await npx.program(self._place.cli.command, self._place.environ)
            cli = msgspec.structs.replace(self._place.cli, command=program)
            self._place = msgspec.structs.replace(self._place, cli=cli)
        self._ready = True

    async def close(self) -> None:
        """Does nothing: no process or connection outlives a proposal."""
