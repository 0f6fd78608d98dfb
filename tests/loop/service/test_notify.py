"""Messages to a human elsewhere: which, and that a real service gets them."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from loop import events as ev
from loop.errors import UsageError
from loop.service.notify import VARIABLE, Notifier, message
from loop.state import RunState, fold

C = "c" * 40


def state(*crashes: bool) -> RunState:
    """A run with one experiment for each item; True: it crashed."""
    events: list[ev.AnyEvent] = [ev.RunCreated("nov23", "/r", C, "train.py", [])]
    for n, crash in enumerate(crashes, 1):
        events += [
            ev.ExperimentStarted(n, C),
            ev.CandidateCommitted(n, C, C, f"idea {n}"),
            ev.TrainingStarted(n, 1, C, 1, 300.0),
            ev.TrainingFinished(n, 1, "crashed" if crash else "finished", "", 1, None if crash else 1.0),
            ev.Judged(n, "crash" if crash else "discard", C, None if crash else 1.0, 0.0, ""),
        ]
    return fold(ev.Record(seq, 1000.0 + seq, event) for seq, event in enumerate(events, 1))


@pytest.mark.parametrize(
    ("event", "text"),
    [
        (
            ev.Judged(1, "keep", C, 0.9979, 4.0, "", delta=-0.002),
            "#1 new best val_bpb 0.997900 (-0.002000): idea 1",
        ),
        (ev.Judged(1, "keep", C, 0.9979, 4.0, ""), None),  # the baseline is no news
        (ev.Judged(1, "discard", C, 0.9979, 4.0, "", delta=0.002), None),
        (ev.Paused("limit reached: 100 experiments", "engine"), "paused: limit reached: 100 experiments"),
        (ev.Paused("paused by hand"), None),
        (ev.ApprovalRequested(1), "#1 waits for your approval: idea 1"),
        (ev.EngineStopped("stopped by hand"), "the engine stopped: stopped by hand"),
        (ev.Notice("error", "something"), None),
    ],
)
def test_what_is_worth_a_message(event: ev.AnyEvent, text: str | None) -> None:
    assert message(event, state(False)) == text


def test_a_streak_of_crashes_is_told_once() -> None:
    crash = ev.Judged(3, "crash", C, None, 0.0, "")
    assert message(crash, state(True, True, True)) == "3 crashes in a row, the last: idea 3"
    assert message(crash, state(False, True, True)) is None
    assert message(ev.Judged(4, "crash", C, None, 0.0, ""), state(True, True, True, True)) is None


@pytest.fixture
def service() -> Iterator[tuple[str, list[dict[str, str]]]]:
    """A real web hook on this machine: its URL for apprise, and what it got."""
    got: list[dict[str, str]] = []

    class Hook(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            got.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200 if "broken" not in self.path else 500)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Hook)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"json://127.0.0.1:{server.server_port}/", got
    server.shutdown()
    server.server_close()


async def test_the_service_gets_it(service: tuple[str, list[dict[str, str]]]) -> None:
    url, got = service
    complaints: list[ev.Notice] = []
    notifier = Notifier({VARIABLE: url}, complaints.append)
    notifier.tell(ev.Paused("limit reached", "engine"), state(False))
    notifier.tell(ev.Notice("info", "not this"), state(False))
    await notifier.close(patience_s=30)
    assert [(m["title"], m["message"]) for m in got] == [("autoresearch/nov23", "paused: limit reached")]
    assert complaints == []


async def test_what_an_agent_wrote_is_no_html_where_messages_are(
    service: tuple[str, list[dict[str, str]]],
) -> None:
    """As in a mail."""
    url, got = service
    notifier = Notifier({VARIABLE: f"{url}?format=html"}, lambda notice: None)
    notifier.tell(ev.Paused("<img src='http://evil/'>", "engine"), state(False))
    await notifier.close(patience_s=30)
    assert "&lt;img" in got[0]["message"]


async def test_a_service_that_fails_is_a_warning_and_no_more(
    service: tuple[str, list[dict[str, str]]],
) -> None:
    complaints: list[ev.Notice] = []
    notifier = Notifier({VARIABLE: f"{service[0]}broken"}, complaints.append)
    notifier.tell(ev.EngineStopped("stopped by hand"), state(False))
    await notifier.close(patience_s=30)
    await asyncio.sleep(0)
    assert complaints == [ev.Notice("warning", "a notification could not be delivered")]


async def test_off_by_default_and_clear_when_wrong() -> None:
    Notifier({}, lambda notice: None).tell(ev.EngineStopped("over"), state(False))
    with pytest.raises(UsageError, match="AUTORESEARCH_NOTIFY: URL 2 is not one that apprise knows") as error:
        Notifier({VARIABLE: "json://127.0.0.1/ nonsense://secret"}, lambda notice: None)
    assert "secret" not in str(error.value)
