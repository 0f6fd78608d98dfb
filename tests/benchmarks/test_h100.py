"""benchmarks/h100.py: pieces are done once, times add up, the table lands in the docs."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from benchmarks import h100
from benchmarks.h100 import State, Training
from loop import events as ev
from loop.errors import UsageError
from loop.training.selftest import Check

STATE = State(
    "NVIDIA H100, 80 GB, driver 580, torch 2.13.0+cu130",
    "0123456789ab",
    [Check("warn", 0.1, "compiler", "no gcc")],
    {
        "baseline, seed 1337": Training("finished", "", 0.93, 12, 20, 300, 4, 6, 342, 38.5, 900, 61.2),
        "baseline, seed 1338": Training("finished", "", 0.94, 12, 5, 300, 4, 6, 327, 38.5, 900, 61.2),
        "60 s": Training("crashed", "OutOfMemoryError", total=40),
    },
)


def test_the_table_has_every_training_the_noise_and_what_the_self_test_said() -> None:
    text = h100.table(STATE, 300)
    assert "- warn: compiler: no gcc (0.1 s)" in text
    row = "| baseline, seed 1337 | 0.9300 | 38.5% | 900 | 61.2 | 12.0 | 20.0 | 300.0 | 4.0 | 6.0 | 342.0 |"
    assert row in text
    assert "| 60 s | crashed: OutOfMemoryError |" in text
    assert text.endswith("Baseline, 300 s: 0.9350, deviation 0.0071 (2 seeds).")


def test_the_time_of_a_training_is_split_into_its_phases() -> None:
    found = ev.TrainingFinished(
        1, 1, "finished", value=0.9, training_seconds=300.0, total_seconds=345.0, judge_seconds=6.0,
        summary={"mfu_percent": 38.0, "num_steps": 900.0},
    )  # fmt: skip
    measured = h100._measured(found, 1000.0, 339.0, {"training": 1012.0, "evaluating": 1334.0})
    assert (measured.start, measured.compile, measured.train, measured.end) == (12.0, 22.0, 300.0, 5.0)
    assert (
        measured.start + measured.compile + measured.train + measured.end + measured.judge == measured.total
    )


def test_the_table_replaces_what_stands_between_its_marks(tmp_path: Path) -> None:
    docs = tmp_path / "benchmarks.md"
    docs.write_text(f"before\n{h100.BEGIN}\nold\n{h100.END}\nafter\n")
    h100.write("new", docs)
    assert docs.read_text() == f"before\n{h100.BEGIN}\n\nnew\n\n{h100.END}\nafter\n"
    docs.write_text("no marks\n")
    with pytest.raises(UsageError, match="lacks the lines"):
        h100.write("new", docs)


def test_the_projects_own_docs_have_the_marks() -> None:
    text = h100.DOCS.read_text()
    assert text.index(h100.BEGIN) < text.index(h100.END)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_all_of_it_runs_on_a_cpu_in_pieces_and_every_piece_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUTORESEARCH_CACHE", str(tmp_path / "cache"))
    docs = tmp_path / "benchmarks.md"
    docs.write_text(h100.DOCS.read_text())
    words = ["--folder", str(tmp_path / "h100"), "--budget", "1", "--short", "0.5", "--docs", str(docs)]
    assert h100.main([*words, "--minutes", "0.01"]) == 3
    assert "start again to go on with baseline, seed 1337" in capsys.readouterr().out
    assert h100.main([*words, "--write"]) == 0
    out = capsys.readouterr().out
    assert "self test ..." not in out
    state = msgspec.json.decode((tmp_path / "h100/state.json").read_bytes(), type=State)
    assert len(state.trainings) == 6
    for training in state.trainings.values():
        assert training.outcome == "finished", training.reason
        assert training.value
        assert training.start > 0
        assert training.train > 0
    without = [t.value for name, t in state.trainings.items() if "without" in name and t.value]
    assert min(without) > (state.trainings["0.5 s"].value or 9)  # both techniques are worth something
    assert "baseline, seed 1339" in docs.read_text()
    (tmp_path / "h100/state.json").write_bytes(
        msgspec.json.encode(State("another machine", state.code, state.checks))
    )
    assert h100.main(words) == 2
    assert "is of another machine" in capsys.readouterr().err
