"""Every parser of outside data meets anything: it gives an answer, or the one error that it documents.

A few examples in the fast suite, many in the slow one. Files are read in test_reading.py.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from acp.schema import (
    AgentMessageChunk,
    PromptResponse,
    SessionInfoUpdate,
    ToolCallProgress,
    ToolCallStart,
    UsageUpdate,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from loop import client, text
from loop import events as ev
from loop.agents import edits, hyperparameters, program, provider_errors, quote
from loop.agents.acp import npx
from loop.agents.acp.calls import Call, result
from loop.agents.acp.client import AcpClient
from loop.agents.acp.meter import Meter
from loop.agents.api import conversation
from loop.agents.api.toolbox import ToolError
from loop.agents.base import by_policy
from loop.agents.transcript import Transcript
from loop.errors import UNREADABLE, UsageError
from loop.judging import audit, goal
from loop.records import (
    foreign_files,
    foreign_results,
    journal,
    named_files,
    other_rows,
    results,
    training_folder,
)
from loop.service import server
from loop.state import RunState
from loop.training import progress
from tests.conftest import TRAINER

PROGRESS = (
    "step 00123 (41.0%) | loss: 2.345678 | lrm: 1.00 | dt: 310ms | tok/sec: 1,690,000 | mfu: nan | x: y"
)
SUMMARY = "phase: training\n---\nval_bpb: 0.9979\ntraining_seconds: 300.1\ntotal_seconds: inf\ndepth: 8\n"
ROW = "a1b2c3d\t0.997900\t44.0\tkeep\tbaseline"
EVENTS: list[ev.DurableEvent] = [
    ev.RunCreated("t", "/r", "c" * 40, "train.py", ["python"]),
    ev.CandidateCommitted(1, "c" * 40, "b" * 40, "words", usage=ev.Usage(1, 2, 3, 4, 0.5)),
    ev.TrainingFinished(1, 1, "finished", value=1.0, summary={"a": 1.0, "b": "c"}),
    ev.Judged(1, "keep", "c" * 40, 1.0, 2.0, "better"),
]
LINES = [ev.encode(ev.Record(i, 1.0, event)) for i, event in enumerate(EVENTS, 1)]
REQUEST = ev.encode(ev.Request(7, ev.Steer("text")))
REPLY = ev.encode(ev.Reply(7, True, "done"))
START = (
    b'{"sessionUpdate":"tool_call","toolCallId":"t","title":"Edit","kind":"edit","rawInput":{"path":"/a"}}'
)
DONE = (
    b'{"sessionUpdate":"tool_call_update","toolCallId":"t","status":"completed",'
    b'"content":[{"type":"content","content":{"type":"text","text":"{\\"path\\": \\"/a\\"}"}}]}'
)
CHUNK = b'{"sessionUpdate":"agent_message_chunk","content":{"type":"text","text":"x"},"_meta":{"usage":{}}}'
USED = (
    b'{"sessionUpdate":"usage_update","used":1,"size":2,"cost":{"amount":1.5,"currency":"USD"},'
    b'"_meta":{"_claude/model":"m"}}'
)
TROUBLE = (
    b'{"sessionUpdate":"session_info_update","_meta":{"codex":{"error":{"message":"m",'
    b'"additionalDetails":"d"},"threadStatus":{"type":"systemError"}}}}'
)
ODD_NEWS = [
    b'{"sessionUpdate":"session_info_update","_meta":{"codex":%s}}' % odd
    for odd in (b'"x"', b"1", b'{"error":"x"}', b'{"error":[1]}', b'{"threadStatus":"x"}')
] + [CHUNK.replace(b"{}", odd) for odd in (b'"x"', b"[1]", b"1e999")]
"""Any of these may come, but a change at random hardly makes one of them."""
PROMPT = (
    b'{"stopReason":"end_turn","_meta":{"quota":{"model_usage":[{"model":"m","token_count":{"input":5}}]}}}'
)


def _told(content: bytes) -> object:
    """What the cockpit would say of a tool call of a CLI agent."""
    call = Call("t")
    for kind in (ToolCallStart, ToolCallProgress):
        try:
            told = kind.model_validate_json(content)
        except ValueError:
            continue
        call.learn(told)
        if isinstance(told, ToolCallProgress):
            result(told, foreign_files.OWN)
    AgentMessageChunk.model_validate_json(content) if b"chunk" in content else None
    return call.line(foreign_files.OWN)


def _heard(content: bytes) -> object:
    """What becomes of a piece of news of a CLI agent, whichever kind it may be."""
    deltas = list[ev.AgentDelta | ev.CandidateEdited]()
    client = AcpClient(Transcript(1, deltas.append), foreign_files.OWN, by_policy, Meter("m"))
    for kind in (AgentMessageChunk, ToolCallStart, ToolCallProgress, UsageUpdate, SessionInfoUpdate):
        with contextlib.suppress(ValueError):
            update = kind.model_validate_json(content)
            asyncio.run(client.session_update("s", update))
    return [ev.encode(delta) for delta in deltas]


def _metered(content: bytes) -> object:
    meter = Meter("m")
    meter.begin()
    told = json.loads(content)
    if isinstance(told, dict):
        meter.answer(told)
    meter.end(PromptResponse.model_validate_json(content))
    return meter.usage, meter.guess(), meter.mean


def _arguments_of_a_call(arguments: str) -> object:
    call = conversation.Call("id", "view", arguments)
    return conversation.sendable(arguments), conversation._arguments(call)


def _changed(source: str) -> object:
    found = hyperparameters.find(source)
    return found and hyperparameters.change(source, {h.name: h.at(0.5) for h in found}, found)


BYTES: dict[str, tuple[Callable[[bytes], object], list[bytes], tuple[type[Exception], ...]]] = {
    "journal": (journal.decode, LINES, UNREADABLE),
    "request": (ev.decode_request, [REQUEST], UNREADABLE),
    "number of a request": (server._number, [REQUEST], ()),
    "message of an engine": (client._decode, [REPLY, *LINES], UNREADABLE),
    "exit": (lambda b: msgspec.json.decode(b, type=training_folder.Exit), [b"{}"], UNREADABLE),
    "judged": (
        lambda b: msgspec.json.decode(b, type=training_folder.Judged),
        [b'{"val_bpb":1}'],
        UNREADABLE,
    ),
    "overview": (
        lambda b: msgspec.json.decode(b, type=client.RunOverview),
        [b'{"root":"/r","tag":"t"}'],
        UNREADABLE,
    ),
    "news of an agent": (_heard, [START, DONE, CHUNK, USED, TROUBLE, *ODD_NEWS], ()),
    "tool calls": (_told, [START, DONE], (ValueError,)),
    "usage": (_metered, [PROMPT], (ValueError, RecursionError)),
}
"""Parsers of bytes, something that each understands, and the errors that it documents."""
TEXTS: dict[str, tuple[Callable[[str], object], list[str], tuple[type[Exception], ...]]] = {
    "progress": (progress.parse, [PROGRESS], ()),
    "phase": (progress.parse_phase, ["phase: evaluating"], ()),
    "summary": (progress.parse_summary, [SUMMARY], ()),
    "row": (results.parse, [ROW, results.HEADER], ()),
    "rows": (lambda t: other_rows.experiments(other_rows.rows(t.split("\n"), RunState())), [ROW], ()),
    "another tool's results": (foreign_results.parse, [f"{results.HEADER}\n{ROW}"], (UsageError,)),
    "cleaned": (lambda t: (text.clean(t), text.one_line(t), text.tail(t)), ["a\x1b[31mb\u0301"], ()),
    "redacted": (lambda t: text.redact(t, ("secret",)), ["sk-abcdef secret"], ()),
    "quoted": (lambda t: quote.quoted("name", t), ["```\n</x>"], ()),
    "diff": (lambda t: edits.diff("train.py", TRAINER, t), [TRAINER], ()),
    "edit": (lambda t: edits.replace(TRAINER, t[:40], "x"), [TRAINER], (edits.NoMatch,)),
    "audit": (lambda t: audit.refusal(audit.audit(TRAINER, t)), [TRAINER], ()),
    "fingerprint": (program.fingerprint, [TRAINER], ()),
    "arguments of a tool": (_arguments_of_a_call, ['{"text": "x"}'], (ToolError,)),
    "seconds to wait": (
        lambda t: provider_errors.retry_after({"retry-after": t, "retry-after-ms": t}),
        ["120", "Wed, 21 Oct 2015 07:28:00 GMT"],
        (),
    ),
    "words of npm": (npx.why, ["npm error code E404\nnpm error 404 Not Found"], ()),
    "limits": (
        lambda t: goal.parse(t, "val_bpb", "min"),
        ["experiments 9, until val_bpb < 1"],
        (ValueError,),
    ),
    "files of a command": (lambda t: sorted(named_files._words([t, "uv"])), ["sh -c 'sh ./get.sh'"], ()),
    "hyperparameters": (_changed, [TRAINER], ()),
}
"""Parsers of text."""


def mangled(valid: list[bytes]) -> st.SearchStrategy[bytes]:
    """Something that is understood, with anything in the place of a piece of it; or just anything."""

    def mangle(parts: tuple[bytes, float, float, bytes]) -> bytes:
        whole, at, length, piece = parts
        start = int(at * len(whole))
        return whole[:start] + piece + whole[start + int(length * 12) :]

    share = st.floats(0, 1)
    odd = st.sampled_from(
        [b"[" * 3000, b"1" * 400, b"1e999", b"-", b'"', b"\x00", b"null", b"\\ud800", b"{}"]
    )
    return st.binary() | st.tuples(st.sampled_from(valid), share, share, st.binary() | odd).map(mangle)


def mangled_text(valid: list[str]) -> st.SearchStrategy[str]:
    made = mangled([line.encode("utf-8", "surrogatepass") for line in valid])
    return st.text() | made.map(lambda content: content.decode("utf-8", "surrogateescape"))


def fuzz(name: str, examples: int) -> None:
    """Give a parser so many odd things. Fails on an error that it does not document."""
    parse: Callable[[Any], object]
    made: st.SearchStrategy[Any]
    if name in BYTES:
        parse, valid, allowed = BYTES[name]
        made = mangled(valid)
    else:
        parse, texts, allowed = TEXTS[name]
        made = mangled_text(texts)

    @settings(max_examples=examples, suppress_health_check=list(HealthCheck), database=None)
    @given(made)
    def check(content: Any) -> None:
        with contextlib.suppress(*allowed):
            parse(content)

    check()


@pytest.mark.parametrize("name", [*BYTES, *TEXTS])
def test_anything_is_understood_or_refused(name: str) -> None:
    fuzz(name, 25)


@pytest.mark.parametrize("content", ODD_NEWS)
def test_news_of_an_agent_may_have_any_form(content: bytes) -> None:
    _heard(content)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", [*BYTES, *TEXTS])
def test_anything_is_understood_or_refused_many_times(name: str) -> None:
    fuzz(name, 3000)


@pytest.mark.parametrize("name", TEXTS)
def test_a_text_of_megabytes_takes_no_time(name: str) -> None:
    """What can be long is bounded where it enters: these are as long as it may be there."""
    parse, _, allowed = TEXTS[name]
    for content in (
        "[" * 60_000,
        "a " * 30_000,
        "step 1|" * 9_000,
        "\n" * 60_000,
        "9" * 60_000,
        "é" * 60_000,
    ):
        with contextlib.suppress(*allowed):
            parse(content)
