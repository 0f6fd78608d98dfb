"""The page of a report, and the table."""

from __future__ import annotations

import csv
import io

from loop import events as ev
from loop.cli import report_page
from loop.state import Experiment, RunState, fold

C, D = "c" * 40, "d" * 40
EVENTS: list[ev.AnyEvent] = [
    ev.RunCreated("t", "/r", C, "train.py", []),
    ev.ExperimentStarted(1, C),
    ev.CandidateCommitted(1, C, C, "baseline"),
    ev.TrainingStarted(1, 1, C, 1337, 300),
    ev.TrainingFinished(1, 1, "finished", value=1.25, training_seconds=300.0),
    ev.Judged(1, "keep", C, 1.25, 0.5, "baseline"),
    ev.ExperimentStarted(2, C),
    ev.CandidateCommitted(2, D, C, "<b>more</b> heads", "they see more", usage=ev.Usage(1200, 200, 300)),
    ev.TrainingStarted(2, 1, D, 1337, 300),
    ev.TrainingFinished(2, 1, "finished", value=1.0, training_seconds=299.0, verified=True),
    ev.Judged(2, "keep", D, 1.0, 0.5, "better", -0.25, "9 standard errors"),
    ev.ExperimentStarted(3, D),
]


def state(count: int = len(EVENTS)) -> RunState:
    return fold(ev.Record(seq, 1000.0 + seq, event) for seq, event in enumerate(EVENTS[:count], 1))


def source(e: Experiment) -> tuple[str, str]:
    return "HEADS = 4\nDEPTH = 2\n", "HEADS = 8  # <wide>\nDEPTH = 2\n"


def test_the_page_says_where_the_model_is_or_that_there_is_none() -> None:
    page = report_page.html(state(), b"", source, "/r/<b>/model.pt")
    assert "The model of #2 is /r/&lt;b&gt;/model.pt; `autoresearch-tui model export --tag t DIR`" in page
    assert "No model of the incumbent is kept." in report_page.html(state(), b"", source)


def test_the_headline_is_the_result_in_a_sentence() -> None:
    assert report_page.headline(state()) == (
        "2 experiments, 2 kept, 0 crashed. val_bpb 1.250000 → 1.000000 (-20.00%)."
    )
    assert report_page.headline(state(1)) == "0 experiments, 0 kept, 0 crashed; no baseline yet."


def test_a_reader_is_told_what_to_doubt() -> None:
    found = report_page.caveats(state())
    assert found[0] == "2 trainings were measured."
    assert "1 value was read from printed text, not measured by a judge." in found
    assert "#2: 9 standard errors" in found


def test_spending_is_told_in_tokens_and_dollars() -> None:
    assert report_page.spending(state()).startswith("1,200 tokens in (")


def test_the_page_shows_the_diff_and_escapes_what_agents_wrote() -> None:
    page = report_page.html(state(), b"PNG", source)
    assert "<span class='removed'>-HEADS = 4</span>" in page
    assert "<span class='added'>+HEADS = 8  # &lt;wide&gt;</span>" in page
    assert "&lt;b&gt;more&lt;/b&gt; heads" in page
    assert "<b>" not in page
    assert "they see more" in page
    assert "data:image/png;base64,UE5H" in page
    assert page.count("<details>") == 1  # the baseline changed nothing


def test_the_table_holds_judged_experiments_only_and_the_csv_the_same() -> None:
    rows = report_page.table(state())
    assert [row["n"] for row in rows] == [1, 2]
    assert tuple(rows[0]) == report_page.COLUMNS
    assert (rows[1]["value"], rows[1]["delta"], rows[1]["runs"], rows[1]["seconds"]) == (1.0, -0.25, 1, 299.0)
    read = list(csv.DictReader(io.StringIO(report_page.as_csv(state()))))
    assert [row["description"] for row in read] == ["baseline", "<b>more</b> heads"]
    assert [float(row["value"]) for row in read] == [1.25, 1.0]
