"""Near misses put together: the best first, only what fits, and nothing that does not parse."""

from __future__ import annotations

from loop.experiment import Experiment
from loop.proposing.combination import combine

LINES = {"base": "A = 1\n\n\nB = 1\n\n\nC = 1\n"}
SOURCES = {
    **LINES,
    "a": LINES["base"].replace("A = 1", "A = 2"),
    "b": LINES["base"].replace("B = 1", "B = 2"),
    "c": LINES["base"].replace("C = 1", "C = 2"),
    "a too": LINES["base"].replace("A = 1", "A = 3"),
    "broken": LINES["base"].replace("C = 1", "C = (1"),
}


def miss(n: int, commit: str, delta: float) -> Experiment:
    return Experiment(n, "base", "discard", commit, f"idea {n}", delta=delta, stderr=0.1)


def test_changes_that_fit_become_one_proposal() -> None:
    found = combine(SOURCES.__getitem__, "train.py", "base", [miss(2, "a", -0.01), miss(3, "c", -0.02)])
    assert found is not None
    proposal, numbers = found
    assert proposal.source == "A = 2\n\n\nB = 1\n\n\nC = 2\n"
    assert numbers == [2, 3]
    assert proposal.description == "combine #2, #3: idea 2; idea 3"


def test_of_two_changes_of_the_same_line_the_better_is_taken() -> None:
    misses = [miss(2, "a", -0.01), miss(3, "a too", -0.02), miss(4, "b", -0.01)]
    found = combine(SOURCES.__getitem__, "train.py", "base", misses)
    assert found is not None
    assert "A = 3" in found[0].source
    assert found[1] == [3, 4]


def test_what_would_not_parse_is_left_out() -> None:
    misses = [miss(2, "a", -0.01), miss(3, "broken", -0.02), miss(4, "b", -0.01)]
    found = combine(SOURCES.__getitem__, "train.py", "base", misses)
    assert found is not None
    assert found[1] == [2, 4]


def test_one_change_alone_is_no_combination() -> None:
    misses = [miss(2, "a", -0.01), miss(3, "a too", -0.02)]
    assert combine(SOURCES.__getitem__, "train.py", "base", misses) is None


def test_a_long_description_is_cut() -> None:
    misses = [miss(2, "a", -0.01), miss(3, "b", -0.02)]
    for e in misses:
        e.description = "word " * 60
    found = combine(SOURCES.__getitem__, "train.py", "base", misses)
    assert found is not None
    assert len(found[0].description) == 300
