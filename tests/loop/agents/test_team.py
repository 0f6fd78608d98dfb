"""Several agents that take turns."""

from __future__ import annotations

from loop.agents.base import Proposal, ResearchContext
from loop.agents.team import AgentsInTurn
from tests.loop.agents.world import context
from tests.loop.scripted import ScriptedAgent


class Named(ScriptedAgent):
    """Proposes its own name."""

    def __init__(self, name: str) -> None:
        def script(found: ResearchContext) -> Proposal:
            return Proposal(f"{name} {found.n}", f"X = {found.n}\n")

        super().__init__(script)
        self.name, self.model, self.secrets, self.closed = name, f"{name}-1", (f"{name}-key",), False

    async def close(self) -> None:
        self.closed = True


async def test_each_experiment_has_its_agent_and_a_repair_the_same_one() -> None:
    team = [Named("claude"), Named("gpt"), Named("search")]
    agents = AgentsInTurn(team)
    assert (agents.name, agents.model) == ("claude,gpt,search", "claude-1, gpt-1, search-1")
    assert agents.secrets == ("claude-key", "gpt-key", "search-key")
    found = [await agents.propose(context(n=n), lambda event: None) for n in (2, 3, 4, 5, 2)]
    assert [proposal.agent for proposal in found] == ["search", "claude", "gpt", "search", "search"]
    assert all(proposal.description.startswith(proposal.agent) for proposal in found)
    await agents.close()
    assert all(agent.closed for agent in team)
