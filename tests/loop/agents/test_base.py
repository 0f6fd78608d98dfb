"""What a context allows when nobody says otherwise, and what errors carry."""

from __future__ import annotations

import pytest

from loop.agents.base import AgentFailed, AgentStopped, Bounds, NoProposal, Proposal, Wish
from loop.events import Usage
from tests.loop.agents.world import context


@pytest.mark.parametrize("granted", [True, False])
async def test_without_a_human_the_policy_answers(granted: bool) -> None:
    assert await context().permit(Wish("run it", "execute", [], granted)) is granted


async def test_a_context_refuses_nothing_by_itself() -> None:
    assert await context().refuse("import subprocess\n") is None


def test_a_context_hears_no_human_by_itself_and_shares_no_list() -> None:
    one, two = context(), context()
    assert one.hear() == []
    one.steering.append("hurry")
    assert two.steering == []


@pytest.mark.parametrize("kind", [AgentFailed, AgentStopped])
def test_an_attempt_without_a_proposal_says_what_it_cost(kind: type[NoProposal]) -> None:
    assert kind("no luck").usage == Usage()
    spent = Usage(10, 5, 2, dollars=0.5)
    error = kind("no luck", spent)
    assert (str(error), error.usage) == ("no luck", spent)


def test_a_proposal_changes_no_notes_unless_it_says_so() -> None:
    assert Proposal("wider", "WIDTH = 2\n").notes is None


def test_a_provider_may_be_down_longer_than_a_proposal_takes() -> None:
    assert Bounds().outage_s > Bounds().seconds
