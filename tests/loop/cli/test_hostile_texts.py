"""Hostile text in journals, settings, names and answers: no command prints what a terminal obeys."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from loop import events as ev
from loop.cli import report_page
from loop.cli.__main__ import main
from loop.paths import RunPaths
from loop.records.journal import Journal
from loop.records.repository import Repository
from loop.service import attach
from tests.conftest import make_repository
from tests.hostile.texts import TEXTS, TOGETHER, longest_stack, poisoned, unsafe
from tests.tui.recorded import Script

COMMANDS = (
    ["status"], ["status", "--json"], ["logs"], ["report"], ["report", "--json"], ["report", "--csv"],
    ["doctor"], ["pause"], ["stop"], ["resume"], ["sample", "1", "text"], ["model", "export", "1", "there"],
    ["run", "--headless", "--tag", "t", "--agent", "gpt", "--max-experiments", "1"], ["prepare"],
    ["noise", "--runs", "1"], ["attach"], ["serve"],
)  # fmt: skip


def recorded(root: Path, text: str) -> RunPaths:
    """A run of this repository whose journal holds `text` in every free field."""
    paths = RunPaths(root, "t")
    paths.create()
    repository = Repository.discover(root)
    base = repository.head()
    repository.close()
    journal = Journal.open(paths.journal)
    for record in Script().night(3).propose(4).records:
        event = poisoned(record.event, text)
        if isinstance(event, ev.RunCreated):
            event = ev.RunCreated("t", str(root), base, "train.py", ["python"], metric=text or "m")
        if not isinstance(event, ev.Live):
            journal.append(event)
    journal.append(ev.EngineStopped(text))
    journal.close()
    return paths


@pytest.mark.parametrize("name", [name for name in TEXTS if name != "surrogate"])
def test_no_command_prints_what_a_terminal_obeys(
    repository: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    """A lone surrogate cannot be in a journal: it is no JSON."""
    monkeypatch.chdir(repository)
    text = TEXTS[name]
    recorded(repository, text)
    config = {"metric": text[:80] or "m", "model": text, "agent_env": [text], "data": [text], "program": text}
    lines = [f"{key} = {json.dumps(value)}" for key, value in config.items()]
    (repository / "autoresearch.toml").write_text("\n".join([*lines, 'editable = ["train.py"]']))
    for words in COMMANDS:
        main(words)
        out, err = capsys.readouterr()
        for printed in (out, err):
            assert unsafe(printed.replace("\t", " ")) == [], words
            assert longest_stack(printed) <= 4, words
        assert "Traceback" not in err
    page = (repository / ".autoresearch/t/report/report.html").read_text()
    assert unsafe(page.replace("\t", " ")) == []
    assert "<a" not in page
    assert "<script" not in page
    assert page.count("<img") == 1


@pytest.mark.parametrize("name", TOGETHER)
def test_a_journal_that_a_stranger_has_written_steers_no_terminal(
    repository: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    """Not even by its tag, or what stands in the place of a commit."""
    monkeypatch.chdir(repository)
    paths = RunPaths(repository, "t")
    paths.create()
    journal = Journal.open(paths.journal)
    text = TOGETHER[name].replace("\ud800", "")  # which is no JSON
    for record in Script().night(3).propose(4).records:
        event = poisoned(record.event, text, kept=())
        if not isinstance(event, ev.Live):
            journal.append(event)
    journal.close()
    again = ["run", "--headless", "--tag", "t", "--agent", "search", "--max-experiments", "1"]
    for words in (["status"], ["status", "--json"], ["logs"], ["report", "--csv"], ["finish"], again):
        assert main(words) == (2 if words[0] in ("finish", "run") else 0), words
        printed = "".join(capsys.readouterr())
        assert unsafe(printed.replace("\t", " ")) == [], words


@pytest.mark.parametrize("cell", ["=1+1", "+1", "-1", "@SUM(1)", "\t=1", "\r=1", "＝1", "plain", "-"])
def test_no_cell_of_the_csv_begins_a_formula(cell: str) -> None:
    script = Script().begin()
    for event in Script().night(2).records[3:]:
        script.add(poisoned(event.event, cell))
    rows = list(csv.DictReader(io.StringIO(report_page.as_csv(script.state))))
    assert rows
    for row in rows:
        for name in ("description", "hypothesis", "reason", "evidence"):
            assert row[name] == "" or row[name][0] not in "=+-@\t\r＝"
        assert all(float(row[name]) is not None for name in ("value", "delta", "seconds") if row[name])
    assert "'" not in "".join(rows[-1][name] for name in ("value", "delta", "n"))


def test_a_folder_whose_name_steers_a_terminal_is_named_in_plain_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root = make_repository(tmp_path / "a\x1b]0;b\x07\n\u202ec")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.chdir(root)
    (root / "autoresearch.toml").write_text('sandbox = "off"\neditable = ["\\u001b[2J"]\n')
    for words in (
        ["doctor"],
        ["run", "--headless"],
        ["init", str(root)],
        ["prepare"],
        ["model", "export", "x"],
    ):
        main(words)
        assert unsafe("".join(capsys.readouterr())) == [], words
    main(["init", str(tmp_path / "new\x1b[2J")])
    assert unsafe("".join(capsys.readouterr())) == []


class Evil(BaseHTTPRequestHandler):
    """A model server whose models have hostile names."""

    def do_GET(self) -> None:
        body = json.dumps({"data": [{"id": text} for text in TEXTS.values()]}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self) -> None:
        self.send_response(404, "no\x1b]0;x\x07")
        self.end_headers()
        self.wfile.write(json.dumps({"error": {"message": TEXTS["clipboard"]}}).encode())

    def log_message(self, *_: object) -> None:
        pass


def test_what_a_server_says_cannot_steer_a_terminal(
    repository: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    server = HTTPServer(("127.0.0.1", 0), Evil)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.chdir(repository)
    monkeypatch.setenv("OPENAI_BASE_URL", f"http://127.0.0.1:{server.server_port}/v1")
    main(["doctor"])
    printed = "".join(capsys.readouterr())
    command = [sys.executable, "-m", "loop.cli", "run", "--headless", "--tag", "t", "--agent", "gpt"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as engine:
        assert engine.stdout is not None
        while "agent" not in (line := engine.stdout.readline()) or "engine" in line:
            printed += line  # until the agent has failed, with the server's words
        engine.terminate()
        printed += line + engine.stdout.read()
    server.shutdown()
    server.server_close()
    assert "serves" in printed
    assert [line for line in printed.splitlines() if unsafe(line)] == []
    assert longest_stack(printed) <= 4


class Answering:
    """A connection to an engine that answers with hostile text."""

    async def send(self, command: ev.AnyCommand) -> str:
        return TEXTS["clipboard"]

    async def close(self) -> None:
        pass


def test_the_answer_of_an_engine_cannot_steer_a_terminal(
    repository: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def connect(paths: RunPaths) -> Answering:
        return Answering()

    monkeypatch.setattr(attach, "connect", connect)
    monkeypatch.chdir(repository)
    recorded(repository, "x")
    assert main(["pause"]) == 0
    assert capsys.readouterr().out == "vw\n"
