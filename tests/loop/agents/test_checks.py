"""What a submission must keep to, and the sentence with which each check answers."""

from __future__ import annotations

import asyncio
import time

import pytest

from loop.agents import checks
from loop.agents.base import Failure, ResearchContext
from loop.experiment import Experiment
from tests.conftest import TRAINER
from tests.loop.agents.world import Past, baseline, context

EVALUATED = '''\
"""A trainer."""
from prepare import evaluate

WIDTH = 128  # of the model
print(f"val_bpb: {evaluate(WIDTH)}")
'''


async def objection(given: ResearchContext, source: str) -> str:
    """What is said against `source`; empty when it can be trained."""
    tried = checks.Tried()
    tried.update(given)
    return await checks.objection(given, source, tried) or ""


async def test_another_program_can_be_trained() -> None:
    assert await objection(context(), TRAINER.replace("X = 3.0", "X = 2.0")) == ""


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("128  # of the model", "128  # of something", "unchanged"),
        ('"""A trainer."""', '"""Another."""', "unchanged"),
        ("evaluate(WIDTH)", "WIDTH / 200", "no longer calls evaluate()"),
        ("WIDTH = 128", "def evaluate(x): return 0\nWIDTH = 128", "defines its own evaluate"),
        ("val_bpb: ", "loss: ", "no longer prints `val_bpb:`"),
    ],
)
async def test_the_contract_of_the_trainer_is_kept(old: str, new: str, said: str) -> None:
    assert said in await objection(context(source=EVALUATED), EVALUATED.replace(old, new))


async def test_only_what_the_incumbent_keeps_of_the_contract_is_asked_for() -> None:
    assert await objection(context(source="X = 1\n"), "X = 2\n") == ""
    assert await objection(context(source="X = 1\n", path="train.sh"), "X = (2\n") == ""


async def test_an_experiment_is_not_repeated_whatever_its_comments() -> None:
    past = [
        baseline(),
        Experiment(2, "c1", "discard", "c2", "X to 2.0", value=1.5),
        Experiment(3, "c1", "training", "c3", "X to 1.0"),
    ]
    sources = {n: TRAINER.replace("X = 3.0", f"X = {x}") for n, x in ((2, 2.0), (3, 1.0))}
    given = context(n=4, experiments=past, archive=Past(sources))
    second = TRAINER.replace("X = 3.0  # where", "X = 2.0  # here is where")
    assert "experiment 2 (val_bpb 1.500000, discard) again" in await objection(given, second)
    third = TRAINER.replace("X = 3.0", "X = 1.0")
    assert "experiment 3 (training) again" in await objection(given, third)
    assert await objection(given, TRAINER.replace("X = 3.0", "X = 0.5")) == ""


async def test_a_repair_must_change_what_crashed() -> None:
    broken = TRAINER.replace("X = 3.0", "X = oops")
    given = context(failure=Failure(1, "NameError", "Traceback", broken))
    assert "the program that crashed, unchanged" in await objection(given, broken + "# again\n")
    assert await objection(given, TRAINER.replace("X = 3.0", "X = 2.0")) == ""


async def test_the_engine_is_asked_last_and_while_others_run() -> None:
    asked: list[str] = []

    async def refuse(source: str) -> str | None:
        await asyncio.sleep(0)
        asked.append(source)
        return "it opens a socket"

    given = context(refuse=refuse)
    assert "unchanged" in await objection(given, TRAINER)
    assert asked == []
    other = TRAINER.replace("X = 3.0", "X = 2.0")
    assert await objection(given, other) == "it opens a socket"
    assert asked == [other]


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("X = (3.0\nY = 1\n", "train.py does not parse: '(' was never closed, line 1: 'X = (3.0'."),
        ("X = \0\n", "train.py does not parse: source code string cannot contain null bytes"),
        ("(" * 1000, "train.py does not parse: too many nested parentheses"),
    ],
)
def test_what_does_not_parse_is_told_with_its_line(source: str, said: str) -> None:
    told = checks.unreadable("train.py", source) or ""
    assert said in told
    assert told.endswith("Mend it and submit again.")


def test_another_language_is_not_parsed() -> None:
    assert checks.unreadable("train.sh", "X = (3.0\n") is None


@pytest.mark.parametrize("path", ["train.py", "train.sh"])
def test_a_source_that_is_too_long_is_refused_before_it_is_parsed(path: str) -> None:
    dense = "x=[a+b*c for a in(1,2,3)if a<b]+f(a,b,c=d)[1:2].e\n" * 80_000
    started = time.perf_counter()
    said = checks.unreadable(path, dense) or ""
    assert time.perf_counter() - started < 0.1, "to parse it takes more than ten seconds"
    assert said == f"{path} has 4,000,000 characters: keep it under 200,000."


async def test_a_large_source_is_checked_while_others_run() -> None:
    """No stop of the event loop is as long as the check: it works in a thread."""
    big = TRAINER + "\n".join(f"Y{i} = f({i}, [{i} + 1 for x in range({i})])" for i in range(4_000))
    assert len(big) < checks.SOURCE_MOST
    running = asyncio.create_task(objection(context(), big))
    longest, last, started = 0.0, time.perf_counter(), time.perf_counter()
    while not running.done():
        await asyncio.sleep(0)
        longest, last = max(longest, time.perf_counter() - last), time.perf_counter()
    assert await running == ""
    assert longest < 0.5 * (time.perf_counter() - started)


def test_each_commit_is_read_once() -> None:
    class Counting(Past):
        reads = 0

        def source(self, n: int) -> str:
            self.reads += 1
            return super().source(n)

    archive, tried = Counting(), checks.Tried()
    given = context(archive=archive)
    tried.update(given)
    tried.update(given)
    assert archive.reads == 1
    assert tried.find(given, TRAINER + "# words\n") == 1
    assert tried.find(given, "X = 1\n") is None
