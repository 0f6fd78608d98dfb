"""Several agents that take turns: `--agents claude,gpt,search`."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import msgspec

from loop.agents.base import Agent, Emit, Proposal, ResearchContext


class AgentsInTurn:
    """One agent that hands each experiment to the next of several. A repair goes to whoever had the idea."""

    def __init__(self, agents: Sequence[Agent]) -> None:
        self._agents = list(agents)
        self.name = ",".join(agent.name for agent in agents)
        self.model = ", ".join(agent.model for agent in agents if agent.model)
        self.secrets = tuple(secret for agent in agents for secret in agent.secrets)

    def of(self, n: int) -> Agent:
        """The agent that works on experiment `n`: a fixed order, so that a restarted engine asks the same."""
        return self._agents[n % len(self._agents)]

    async def propose(self, context: ResearchContext, emit: Emit) -> Proposal:
        agent = self.of(context.n)
        return msgspec.structs.replace(await agent.propose(context, emit), agent=agent.name)

    async def close(self) -> None:
        await asyncio.gather(*(agent.close() for agent in self._agents), return_exceptions=True)
