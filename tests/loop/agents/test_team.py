"""Several agents that share a run."""

from __future__ import annotations

from loop.agents.base import Proposal, ResearchContext
from loop.agents.team import Team
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


async def test_each_experiment_goes_to_the_agent_that_it_names() -> None:
    team = [Named("claude"), Named("gpt"), Named("search")]
    agents = Team(team)
    assert (agents.name, agents.model) == ("claude,gpt,search", "claude-1, gpt-1, search-1")
    assert agents.names == ("claude", "gpt", "search")
    assert agents.secrets == ("claude-key", "gpt-key", "search-key")
    asked = [(2, "search"), (3, "search"), (4, "gpt"), (5, "")]
    found = [await agents.propose(context(n=n, agent=name), lambda event: None) for n, name in asked]
    assert [proposal.agent for proposal in found] == ["search", "search", "gpt", "search"]
    assert all(proposal.description.startswith(proposal.agent) for proposal in found)
    await agents.close()
    assert all(agent.closed for agent in team)
