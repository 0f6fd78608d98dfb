"""Past experiments as points of a space."""

from __future__ import annotations

from loop.agents import hyperparameters, space
from loop.experiment import Experiment
from tests.loop.agents.world import Past, context

SOURCE = "LR = 0.1  # [0.01, 1.0]\nWIDTH = 64  # a multiple of 32 [32, 128]\nON = True\n"
FOUND = hyperparameters.find(SOURCE)


def test_the_past_becomes_settings_values_and_what_was_changed() -> None:
    rows = [
        Experiment(1, "p", "keep", "c1", value=1.0),
        Experiment(2, "c1", "discard", "c2", value=1.1),
        Experiment(3, "c1", "crash", "c3", reason="out of memory"),
        Experiment(4, "c1", "training", "c4"),
    ]
    sources = {
        1: SOURCE,
        2: SOURCE.replace("0.1", "0.2", 1),
        3: SOURCE.replace("64", "128", 1),
        4: SOURCE + "print(1)\n",
    }
    given = context(n=5, experiments=rows, archive=Past(sources), source=SOURCE)
    found = space.history(given, FOUND)
    assert [t.changed for t in found] == [(), ("LR",), ("WIDTH",), ()]
    assert [t.value for t in found] == [1.0, 1.1, None, None]
    assert [bool(t.crashed) for t in found] == [False, False, True, False]
    assert [t.pending for t in found] == [False, False, False, True]
    assert [t.n for t in space.history(given, FOUND, most=2)] == [3, 4]
    limits = space.Space(FOUND, found)
    assert limits.allows({"WIDTH": 32})
    assert not limits.allows({"WIDTH": 48}), "no multiple of 32"
    assert not limits.allows({"WIDTH": 128}), "that crashed"


def test_few_values_lie_close_together() -> None:
    """A truth value has one other value: it is no further away than a step of a number."""
    limits = space.Space(FOUND, [])
    off = [abs(a - b) for a, b in zip(limits.place_with({}), limits.place_with({"ON": False}), strict=True)]
    assert off == [0.0, 0.0, space.STEP]


def test_a_change_that_does_nothing_is_not_worth_a_training() -> None:
    source = """
TABLES = 0  # [0, 2]
ROWS = 64  # only with TABLES [16, 512]
START = 1  # [1, 9]
MOMENTUM = 0.9  # only with START [0.8, 0.99]
DECAY = 0.5  # only with AdamW, which has no number here [0.1, 1.0]
SHARE = 0.5  # only with WINDOWS, which is a word [0.1, 1.0]
"""
    limits = space.Space(hyperparameters.find(source), [])
    nothing: list[space.Setting] = [
        {"ROWS": 128},
        {"MOMENTUM": 0.95},
        {"TABLES": 1, "MOMENTUM": 0.95},
    ]
    assert [change for change in nothing if limits.allows(change)] == []
    assert limits.allows({"ROWS": 128, "TABLES": 1})
    assert limits.allows({"START": 2, "MOMENTUM": 0.95})
    assert limits.allows({"DECAY": 0.25, "SHARE": 0.25}), "nobody knows whether these do anything"
