"""A new run from the cockpit: what is found beside each choice, and what starts."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from msgspec.structs import replace

from loop.cli.__main__ import main
from loop.cli.new_run import MachineRuns
from loop.client import Finding, NewRun, Refused, RunOverview
from loop.paths import RunPaths
from loop.records import journal
from loop.service import attach, launch, runs
from loop.state import fold
from tests.conftest import make_repository


def look(root: Path, environ: dict[str, str]) -> dict[str, Finding]:
    found: dict[str, Finding] = {}

    def tell(finding: Finding) -> None:
        found[finding.about] = finding

    MachineRuns(environ).look(str(root), tell)
    return found


@pytest.mark.parametrize("key", ["", "secret-key-of-mine"])
def test_there_is_a_word_for_every_agent_and_no_key_in_any(repository: Path, key: str) -> None:
    found = look(repository, {"ANTHROPIC_API_KEY": key, "PATH": "/nowhere"})
    assert set(MachineRuns.agents) <= set(found)
    assert found["search"].state == "ok"
    assert found["claude"].state == ("ok" if key else "none")
    assert found["auto"].text.startswith("claude: ANTHROPIC_API_KEY is set" if key else "search: No model is")
    assert found["gpt"] == Finding("gpt", "none", "OPENAI_API_KEY or OPENAI_BASE_URL is not set")
    assert found["codex"].state == "none"
    assert found["budget"].text == "seconds a training; empty: 0.2"
    assert "secret-key-of-mine" not in repr(found)


def test_what_does_not_count_and_who_else_trains_is_said(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = RunOverview("/r", "nov22", "training", running=True)
    monkeypatch.setattr(runs, "known", lambda: [other])
    (repository / "autoresearch.toml").write_text('network = true\neditable = ["train.py"]\napprove = true\n')
    found = look(repository, {"PATH": "/nowhere"})
    assert found["root"].state == "none"
    assert found["root"].text.startswith("not trusted, so ignored: network")
    (repository / "train.py").write_text("changed\n")
    assert look(repository, {"PATH": "/nowhere"})["root"].text.endswith(
        "; train.py has changes that are not committed: what is committed is trained"
    )
    assert found["approve"].text == "as the repository asks: every candidate waits for you"
    assert found["workers"].text.startswith("shared with nov22, which runs:")


def test_a_folder_that_is_no_repository_is_said(tmp_path: Path) -> None:
    assert look(tmp_path, {"PATH": "/nowhere"})["root"].state == "wrong"


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        (NewRun("", budget="soon"), "the budget must be a number of seconds above 0, not 'soon'"),
        (NewRun("", budget="-3"), "the budget must be a number of seconds above 0, not '-3'"),
        (NewRun("", workers="many"), "workers must be a whole number above 0, or auto, not 'many'"),
        (NewRun("", workers="257"), "--workers (auto: 0) must be 0 to 256"),
        (NewRun("", limits="hours"), "hours '' must be a number above 0"),
        (NewRun("", limits="until accuracy > 1"), "--until 'accuracy > 1' must be such as"),
    ],
)
def test_what_cannot_be_started_is_refused_with_its_reason(
    repository: Path, wanted: NewRun, said: str
) -> None:
    with pytest.raises(Refused) as error:
        MachineRuns({}).start(replace(wanted, root=str(repository)))
    assert str(error.value).startswith(said)
    assert not (repository / ".autoresearch").exists()


def test_no_repository_no_run(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="is not in a git repository"):
        MachineRuns({}).start(NewRun(str(tmp_path)))


def test_what_was_typed_becomes_the_engine_s_flags(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[tuple[RunPaths, dict[str, object]]] = []
    monkeypatch.setattr(launch, "start_detached", lambda *words: started.append(words))
    wanted = NewRun(str(repository), "search", " m ", "60", "auto", "experiments 9, until val_bpb < 1", True)
    run = MachineRuns({}).start(wanted)
    ((paths, flags),) = started
    assert (run.root, run.tag, run.running) == (str(repository), paths.tag, True)
    assert flags == {
        "agent": "search",
        "model": "m",
        "budget_s": 60.0,
        "workers": 0,
        "approve": True,
        "max_experiments": 9,
        "until": "val_bpb < 1",
    }
    MachineRuns({}).start(NewRun(str(repository), "auto"))
    assert started[1][1] == {"agent": "auto"}


@pytest.mark.slow
def test_an_engine_starts_and_can_be_shown(
    tmp_path: Path, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = make_repository(tmp_path / "other")
    monkeypatch.chdir(repository)
    made = MachineRuns(os.environ)
    run = made.start(NewRun(str(other), "search", budget="5", limits="experiments 3"))
    paths = RunPaths(other, run.tag)
    assert attach.engine_runs(paths)
    assert next(found.root for found in made.known()) == str(other)
    monkeypatch.chdir(other)
    assert main(["stop", "--now"]) == 0
    state = fold(journal.read(paths.journal))
    assert state.engine is not None
    assert (state.engine.agent, state.engine.budget_s) == ("search", 5.0)
    assert state.limits.max_experiments == 3
