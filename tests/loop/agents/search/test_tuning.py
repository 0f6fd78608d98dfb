"""What a keep of another agent has moved, and that `search` tunes it first."""

from __future__ import annotations

import msgspec
import pytest

from loop.agents import hyperparameters
from loop.agents.base import ResearchContext
from loop.agents.search import agent, tuning
from loop.experiment import Experiment
from tests.loop.agents.world import Past, context

BEFORE = """\
LR = 0.1  # [0.01, 1.0]
WIDTH = 64  # [16, 256]
SCALE = 1.0  # [0.5, 2.0]


def block(x):
    y = x * WIDTH
    return y + 1


print(block(LR) * SCALE)
"""
GATED = BEFORE.replace("    return y + 1", "    return y * GATE").replace(
    "SCALE = ", "GATE = 0.5  # [0, 1]\nSCALE = "
)


@pytest.mark.parametrize(
    ("after", "names"),
    [
        (GATED, {"GATE"}),  # it brings one of its own, and the changed line names it
        (BEFORE.replace("LR = 0.1", "LR = 0.2"), {"LR"}),
        (BEFORE.replace("y + 1", "y + 2"), {"WIDTH"}),  # no changed line names one: those of its function
        (BEFORE.replace("x * WIDTH", "x"), set()),
        (BEFORE, set()),
        ("def broken(", set()),
    ],
)
def test_what_a_change_moves_is_named_where_it_changes_the_code(after: str, names: set[str]) -> None:
    assert tuning.named_in_change(BEFORE, after) == names


def after_a_keep(by: str, tuned: int = 0) -> ResearchContext:
    """A run whose incumbent, of agent `by`, has a new gate; `search` has varied it so many times."""
    start = Experiment(1, "p", "keep", "c1", value=1.0, author="engine")
    others = [Experiment(n, "c1", "discard", f"c{n}", value=1.1, agent="search") for n in (2, 3, 4, 5)]
    kept = Experiment(6, "c1", "keep", "c6", value=0.9, agent=by)
    since = [Experiment(7 + i, "c6", "discard", f"c{7 + i}", value=1.0, agent="search") for i in range(tuned)]
    lr = {n: BEFORE.replace("LR = 0.1", f"LR = 0.{n}") for n in (2, 3, 4, 5)}
    gate = {7 + i: GATED.replace("GATE = 0.5", f"GATE = 0.{i + 1}") for i in range(tuned)}
    past = Past({1: BEFORE, 6: GATED, **lr, **gate})
    rows = [start, *others, kept, *since]
    return context(n=len(rows) + 1, source=GATED, experiments=rows, incumbent=6, archive=past)


@pytest.mark.parametrize("tuned", range(tuning.TUNED))
def test_search_tunes_what_another_agents_keep_has_moved(tuned: int) -> None:
    given = after_a_keep("claude", tuned)
    assert tuning.moved(given) == {"GATE"}
    idea, source = agent.find_idea(given)
    assert set(idea.changes) == {"GATE"}
    assert hyperparameters.find(source)[1].value != 0.5


@pytest.mark.parametrize(
    "given", [after_a_keep("claude", tuning.TUNED), after_a_keep("search"), after_a_keep(""), context()]
)
def test_then_and_after_others_it_varies_what_promises_most(given: ResearchContext) -> None:
    assert tuning.moved(given) == frozenset()


def test_what_is_in_training_counts_as_tuned() -> None:
    given = after_a_keep("claude", tuning.TUNED)
    waiting = [msgspec.structs.replace(e) for e in given.experiments]
    waiting[-1].phase, waiting[-1].value = "training", None
    assert tuning.moved(msgspec.structs.replace(given, experiments=waiting)) == frozenset()
