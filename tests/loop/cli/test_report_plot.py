"""The picture of a report."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from loop import events as ev
from loop.cli import report_plot
from loop.state import RunState, fold

matplotlib = pytest.importorskip("matplotlib")
C = "c" * 40


def state(*values: float | None, hidden: float | None = None) -> RunState:
    """A run with an experiment for each value; None: it crashed."""
    events: list[ev.AnyEvent] = [ev.RunCreated("t", "/r", C, "train.py", [])]
    best = float("inf")
    for n, value in enumerate(values, 1):
        status: ev.Status = "crash" if value is None else "keep" if value < best else "discard"
        best = min(best, value or best)
        events += [
            ev.ExperimentStarted(n, C),
            ev.CandidateCommitted(n, C, C, f"idea {n} with $ and _ in it"),
            ev.TrainingStarted(n, 1, C, 1337, 300),
            ev.TrainingFinished(n, 1, "crashed" if value is None else "finished", value=value, hidden=hidden),
            ev.Judged(n, status, C, value, 0.5, ""),
        ]
    return fold(ev.Record(seq, 1000.0 + seq, event) for seq, event in enumerate(events, 1))


def pixels(picture: bytes) -> tuple[int, int]:
    from matplotlib import image

    height, width = image.imread(io.BytesIO(picture), "png").shape[:2]
    return width, height


@pytest.mark.parametrize("values", [(), (None,), (1.0,), (1.0, 0.9, None, 0.95, 50.0, 0.8)])
def test_every_run_can_be_drawn(values: tuple[float | None, ...], tmp_path: Path) -> None:
    assert pixels(report_plot.progress(state(*values))) == (1430, 715)


def test_a_value_changes_the_picture() -> None:
    assert report_plot.progress(state(1.0, 0.9)) != report_plot.progress(state(1.0, 0.8))
    assert report_plot.progress(state(1.0, 0.9)) != report_plot.progress(state(1.0, 0.9, hidden=0.95))


@pytest.mark.filterwarnings("error")
def test_what_the_font_has_not_got_is_a_box_and_no_warning() -> None:
    drawn = []
    for words in ("\u6f22 and \U0001f9ea", "\u5b57 and \U0001f680", "x and y"):
        made = state(1.0)
        made.experiment(1).description = words
        drawn.append(report_plot.progress(made))
    assert drawn[0] == drawn[1] != drawn[2]


def test_the_audit_split_counts_where_it_was_measured() -> None:
    assert report_plot.hidden(state(1.0, hidden=1.5).experiment(1)) == 1.5
    assert report_plot.hidden(state(1.0).experiment(1)) is None


def test_settings_of_matplotlib_in_the_repository_do_not_count(tmp_path: Path) -> None:
    """They can have it run TeX, which reads any file, and choose a module that it loads."""
    (tmp_path / "matplotlibrc").write_text("text.usetex: True\nno key\x1b]0;x\x07\n")
    program = (
        "from loop.cli import report_plot; from loop.state import RunState; report_plot.progress(RunState())"
    )
    command = [
        sys.executable,
        "-c",
        f"{program}; import matplotlib; print(matplotlib.rcParams['text.usetex'])",
    ]
    environment = {**os.environ, "PYTHONPATH": str(Path(report_plot.__file__).parents[2])}
    found = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    assert (found.stdout, found.stderr) == ("False\n", "")
