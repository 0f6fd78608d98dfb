"""The process of a tracker: it says what fails once, and goes on."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Callable

import pytest

from loop.tracking import __main__ as process
from tests.loop.tracking.world import Remembers, World

Start = Callable[[Remembers], tuple[process.Service, io.StringIO]]


@pytest.fixture
def start(world: World, monkeypatch: pytest.MonkeyPatch) -> Start:
    """Makes a service around a tracker of the test, and what it says."""

    def make(tracker: Remembers) -> tuple[process.Service, io.StringIO]:
        monkeypatch.setattr(process, "open_tracker", lambda name, place, environ: tracker)
        said = io.StringIO()
        environ = {"WANDB_API_KEY": "no route to"}
        return process.Service("wandb", world.paths, said, environ), said

    return make


def texts(said: io.StringIO) -> list[tuple[str, str]]:
    return [(line["level"], line["text"]) for line in map(json.loads, said.getvalue().splitlines())]


def test_a_failure_is_said_once_without_secrets_and_so_is_its_end(world: World, start: Start) -> None:
    world.night()
    tracker = Remembers(failures=3)
    service, said = start(tracker)
    assert [service.look() for _ in range(5)] == [False, False, False, True, True]
    assert texts(said) == [
        ("info", "wandb: experiments go to a list"),
        ("error", "wandb: [key] the server; it is tried again, the research goes on"),
        ("info", "wandb: works again; what was missing is sent"),
    ]
    assert [run.n for run in tracker.told] == [1, 2, 3]


def test_where_experiments_go_is_said_without_a_password(world: World, start: Start) -> None:
    tracker = Remembers()
    tracker.where = "https://no route to@host"
    service, said = start(tracker)
    assert service.look()
    assert texts(said) == [("info", "wandb: experiments go to https://[key]@host")]


def test_the_last_things_are_sent_when_the_engine_has_ended(world: World, start: Start) -> None:
    tracker = Remembers()
    service, _ = start(tracker)
    world.night()
    ended = threading.Event()
    ended.set()
    service.run(ended)
    assert [run.n for run in tracker.told] == [1, 2, 3]


def test_a_journal_that_cannot_be_read_is_said(world: World, start: Start) -> None:
    service, said = start(Remembers())
    with world.paths.journal.open("a") as file:
        file.write('{"nonsense": 1}\n')
    assert not service.look()
    assert texts(said)[-1][0] == "error"
