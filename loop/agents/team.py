"""Several agents that share a run: `--agents claude,gpt,search`."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import msgspec

from loop.agents.base import Agent, Answering, Emit, Proposal, ResearchContext


def can_answer(agent: Agent) -> Answering | None:
    """Who answers questions: the agent, or the first of a team that can. None where nobody can."""
    each: list[Agent] = agent.agents if isinstance(agent, Team) else [agent]
    return next((one for one in each if isinstance(one, Answering)), None)


class Team:
    """Hands each experiment to one of several agents. A repair goes to whoever had the idea."""

    def __init__(self, agents: Sequence[Agent]) -> None:
        self.agents = list(agents)
        self.names = tuple(agent.name for agent in agents)
        self.name = ",".join(self.names)
        self.model = ", ".join(agent.model for agent in agents if agent.model)
        self.secrets = tuple(secret for agent in agents for secret in agent.secrets)

    def of(self, context: ResearchContext) -> Agent:
        """The agent that the context names. A run that an older engine began names none: then they take
        turns by the number of the experiment."""
        found = (agent for agent in self.agents if agent.name == context.agent)
        return next(found, self.agents[context.n % len(self.agents)])

    async def propose(self, context: ResearchContext, emit: Emit) -> Proposal:
        agent = self.of(context)
        return msgspec.structs.replace(await agent.propose(context, emit), agent=agent.name)

    async def close(self) -> None:
        await asyncio.gather(*(agent.close() for agent in self.agents), return_exceptions=True)
