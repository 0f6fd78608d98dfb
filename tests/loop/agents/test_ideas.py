"""Ideas of the past: their places, what came of them, near repeats, and when research is in a rut."""

from __future__ import annotations

import pytest

from loop import events as ev
from loop.agents import ideas
from loop.agents.base import ResearchContext
from loop.experiment import Experiment
from tests.loop.agents.world import Past, baseline, context, long_run

SOURCE = '''"""A trainer."""
LR = 0.1  # [0.01, 1.0]
DEPTH = 4


class Block:
    def forward(self, x):
        return x + 1


def norm(x):
    return x / 2


print(norm(LR))
'''
GELU = SOURCE.replace("x + 1", "gelu(x)")


def tried(
    n: int,
    words: str,
    delta: float | None,
    error: float = 0.001,
    phase: ev.Status = "discard",
    agent: str = "",
) -> Experiment:
    return Experiment(
        n,
        "c1",
        phase,
        f"c{n}",
        words,
        "it may help",
        value=1.0,
        delta=delta,
        stderr=error,
        agent=agent,
        reason="NaN loss",
    )


def run(*rows: tuple[Experiment, str]) -> ResearchContext:
    sources = {1: SOURCE, **{e.n: source for e, source in rows}}
    experiments = [baseline(), *(e for e, _ in rows)]
    return context(n=len(rows) + 2, source=SOURCE, experiments=experiments, archive=Past(sources))


def test_a_place_is_a_function_a_method_or_a_value() -> None:
    assert ideas.places(SOURCE, GELU) == {"Block.forward"}
    assert ideas.places(SOURCE, SOURCE.replace("x / 2", "x / 3").replace("LR = 0.1", "LR = 0.2")) == {
        "norm",
        "LR",
    }
    assert ideas.places(SOURCE, SOURCE.replace("print(norm(LR))", "print(1)")) == {"(other statements)"}
    assert ideas.places(SOURCE, SOURCE.replace("A trainer", "Words  # and comments")) == frozenset()
    assert ideas.places(SOURCE, "def broken(") == ideas.places(SOURCE, "")


def test_what_came_of_an_idea() -> None:
    given = run(
        (tried(2, "GELU in the MLP", 0.004), GELU),
        (tried(3, "GELU, scaled", 0.0005), GELU.replace("gelu(x)", "gelu(2 * x)")),
        (tried(4, "LR 0.2", -0.004, phase="keep"), SOURCE.replace("LR = 0.1", "LR = 0.2")),
        (tried(5, "deeper", None, phase="crash"), SOURCE.replace("DEPTH = 4", "DEPTH = 8")),
    )
    found = ideas.ideas(given)
    assert [i.outcome for i in found] == ["refuted", "open", "kept", "open"]
    assert [i.kind for i in found] == ["architecture", "architecture", "hyperparameter", "hyperparameter"]
    assert found[2].moves == {"LR": pytest.approx(0.1)}
    assert ideas.told(given, 4000).splitlines() == [
        "Refuted, measured as worse:",
        "#2 architecture: GELU in the MLP (val_bpb +0.0040 +- 0.0010)",
        "Open, too close to tell or crashed:",
        "#5 hyperparameter: deeper (crashed: NaN loss). Hoped: it may help",
        "#3 architecture: GELU, scaled (val_bpb +0.0005 +- 0.0010). Hoped: it may help",
    ]


@pytest.mark.parametrize("most", [300, 1000, 8000])
def test_it_is_bounded_and_says_what_is_left_out(most: int) -> None:
    rows = [(tried(n, f"attention, number {n}", 0.01), GELU + f"x = {n}\n") for n in range(2, 100)]
    said = ideas.told(run(*rows), most)
    assert len(said.encode()) <= most
    assert said.splitlines()[-1].endswith(" older ones)")
    assert ideas.told(run(), 8000) == ""


def test_a_near_repeat_of_what_is_refuted_is_named() -> None:
    higher = SOURCE.replace("LR = 0.1", "LR = 0.2")
    given = run((tried(2, "GELU in the MLP", 0.004), GELU), (tried(3, "LR 0.2", 0.004), higher))
    again = GELU.replace("gelu(x)", "gelu(x) * 1.0")
    assert "close to experiment 2 (GELU in the MLP)" in (
        ideas.repeat(given, again, "the MLP with GELU") or ""
    )
    assert ideas.repeat(given, again, "normalise what attention reads") is None
    assert ideas.repeat(given, SOURCE.replace("x / 2", "gelu(x)"), "GELU in the MLP") is None, "another place"
    further, nearer, lower = (SOURCE.replace("LR = 0.1", f"LR = {v}") for v in (0.3, 0.15, 0.05))
    assert "close to experiment 3" in (ideas.repeat(given, further, "LR 0.3") or "")
    assert ideas.repeat(given, nearer, "LR 0.15") is None
    assert ideas.repeat(given, lower, "LR 0.05") is None
    promising = run((tried(2, "GELU in the MLP", 0.0005), GELU))
    assert ideas.repeat(promising, again, "GELU in the MLP") is None, "that one is open"


def test_a_rut_is_measured_and_named() -> None:
    sources = {n: SOURCE.replace("0.1", f"0.2{n}", 1) for n in range(2, 12)}
    rates = [(tried(n, f"LR 0.2{n}", 0.004), source) for n, source in sources.items()]
    said = ideas.rut(run(*rates))
    assert said.startswith("The last 8 experiments were close to earlier ones (novelty 0.00")
    assert "They changed LR 8 times." in said
    assert ideas.rut(run(*rates[:7])) == ""
    new = [(tried(n, f"idea {n}", 0.004), SOURCE + f"\nplace{n} = 1\n") for n in range(2, 12)]
    assert ideas.rut(run(*new)) == ""
    searched = [
        (tried(n, f"LR {n / 100}", 0.004, agent="search"), source) for n, (_, source) in enumerate(rates, 2)
    ]
    assert ideas.rut(run(*searched)) == "", "small steps are the work of agent search"


def test_a_long_run_is_looked_at_in_part() -> None:
    given = context(n=1001, experiments=long_run(1000))
    assert len(ideas.ideas(given)) <= ideas.NEWEST
