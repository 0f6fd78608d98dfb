"""What the surrogate model tells agents, where the truth is known."""

from __future__ import annotations

import random

import pytest

from loop.agents.base import ResearchContext
from loop.agents.expected import Expected, Unknown
from loop.experiment import Experiment
from tests.loop.agents.world import Past, context

SOURCE = "LR = 0.1  # [0.01, 1.0]\nDECAY = 0.5  # [0.0, 1.0]\nMODE = 3  # [1, 8]\nprint('x')\n"


def world(count: int, direction: str = "min", **fields: object) -> ResearchContext:
    """A run in which a lower DECAY is better, and LR does next to nothing."""
    chance, sign = random.Random(1), 1 if direction == "min" else -1
    rows, sources = [Experiment(1, "p", "keep", "c1", "baseline", value=1.0)], {1: SOURCE}
    for n in range(2, count + 2):
        decay, rate = round(chance.uniform(0.2, 0.9), 2), round(chance.uniform(0.05, 0.3), 2)
        sources[n] = SOURCE.replace("DECAY = 0.5", f"DECAY = {decay}").replace("LR = 0.1", f"LR = {rate}")
        value = 1.0 + sign * (0.1 * (decay - 0.5) + chance.gauss(0, 0.001))
        rows.append(Experiment(n, "c1", "discard", f"c{n}", value=value))
    given = {"n": count + 2, "experiments": rows, "archive": Past(sources), "source": SOURCE, **fields}
    return context(direction=direction, **given)


@pytest.mark.parametrize(("direction", "sign"), [("min", "-"), ("max", "+")])
def test_it_predicts_in_the_metric_and_its_direction(direction: str, sign: str) -> None:
    known = Expected(world(16, direction))
    said = known.predict({"DECAY": 0.3})
    assert said.startswith(f"val_bpb {sign}0.01")
    assert said.endswith("from 17 results (DECAY varied in 16).")
    assert "give or take 0.00" in said


def test_what_matters_comes_first_and_what_was_never_varied_last() -> None:
    lines = Expected(world(16)).importance().splitlines()
    assert [line.split()[0] for line in lines] == ["DECAY", "LR", "never"]
    assert "varied in 16, moved val_bpb by 0.0" in lines[0]
    assert "best next step 0." in lines[0]
    assert lines[-1] == "never varied: MODE"


def test_the_table_has_room_for_the_most_important() -> None:
    known = Expected(world(16))
    assert known.table(4000) == known.importance()
    assert [line.split()[0] for line in known.table(160).splitlines()] == ["DECAY", "never"]
    assert Expected(world(2)).table(4000) == ""


def test_only_what_is_clearly_worse_is_doubted() -> None:
    known = Expected(world(16))
    doubt = known.doubt(SOURCE.replace("DECAY = 0.5", "DECAY = 0.9"))
    assert doubt is not None
    assert "expects val_bpb +0.0" in doubt
    assert known.doubt(SOURCE.replace("DECAY = 0.5", "DECAY = 0.3")) is None
    assert known.doubt(SOURCE.replace("MODE = 3", "MODE = 8")) is None, "nobody knows what that does"
    other = SOURCE.replace("DECAY = 0.5", "DECAY = 0.9").replace("print('x')", "print('y')")
    assert known.doubt(other) is None, "it changes code that the surrogate model knows nothing of"
    assert Expected(world(4)).doubt(SOURCE.replace("DECAY = 0.5", "DECAY = 0.9")) is None


@pytest.mark.parametrize(
    ("count", "changes", "said"),
    [
        (16, {"RATE": 1.0}, "there is no RATE; there is LR, DECAY, MODE"),
        (16, {}, "name at least one"),
        (16, {"LR": "high"}, "LR is to be a number"),
        (2, {"LR": 0.2}, "there are 3 results and it takes 4"),
    ],
)
def test_what_it_cannot_be_asked(count: int, changes: dict[str, object], said: str) -> None:
    with pytest.raises(Unknown, match=said):
        Expected(world(count)).predict(changes)


def test_a_script_without_hyperparameters_says_so() -> None:
    with pytest.raises(Unknown, match=r"train\.py has no hyperparameters"):
        Expected(world(16, source="print(1)\n")).importance()
