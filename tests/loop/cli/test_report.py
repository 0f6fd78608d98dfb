"""The report: a page that needs nothing else, a picture, tables for programs."""

from __future__ import annotations

import csv
import io
import json
from html.parser import HTMLParser
from pathlib import Path

import pytest

from loop.agents.base import Proposal, ResearchContext
from loop.cli import report, report_page
from loop.cli.__main__ import main
from tests.loop.scripted import Bench, ScriptedAgent, set_x

NASTY = "X to <script>alert(1)</script> & $x_1$ \x1b[31m"


def nasty(context: ResearchContext) -> Proposal:
    """Proposes what a careless report would run, or choke on."""
    proposal = set_x(context)
    return Proposal(NASTY, proposal.source + "# </pre><b>\n", "<img src=x onerror=alert(2)>")


@pytest.fixture
async def over(repository: Path) -> Bench:
    bench = Bench(
        repository, ScriptedAgent(nasty), max_experiments=3, budget_s=0.1, rule="improved", baseline_runs=1
    )
    await bench.run()
    return bench


class Tags(HTMLParser):
    """Every tag with its attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attributes)))


async def test_the_page_stands_alone_and_runs_nothing(over: Bench, tmp_path: Path) -> None:
    path = report.write(over.paths, over.repository, tmp_path / "out")
    text = path.read_text()
    tags = Tags()
    tags.feed(text)
    assert "script" not in [tag for tag, _ in tags.seen]
    sources = [attributes["src"] or "" for _, attributes in tags.seen if "src" in attributes]
    assert len(sources) == 1
    assert sources[0].startswith("data:image/png;base64,")
    assert "3 experiments, 3 kept, 0 crashed" in text
    assert "&lt;script&gt;" in text
    assert "<span class='added'>+X = 2.5</span>" in text
    assert (tmp_path / "out/progress.png").read_bytes().startswith(b"\x89PNG")


async def test_tables_hold_every_figure(
    over: Bench, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(over.repository.root)
    assert main(["report", "--csv"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [row["status"] for row in rows] == ["keep", "keep", "keep"]
    assert tuple(rows[0]) == report_page.COLUMNS
    assert main(["report", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["tag"] == "t"
    assert [e["value"] for e in found["experiments"]] == [float(row["value"]) for row in rows]
    assert main(["report"]) == 0
    assert capsys.readouterr().out.strip() == str(over.paths.folder / "report/report.html")


async def test_a_run_without_results_has_a_report_too(repository: Path, tmp_path: Path) -> None:
    bench = Bench(repository, ScriptedAgent())
    bench.close()
    assert "no baseline yet" in report.write(bench.paths, bench.repository, tmp_path).read_text()
