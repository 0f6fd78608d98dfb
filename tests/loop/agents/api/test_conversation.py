"""Whole experiments through each API, against a real llmock server, and the ways a turn can fail."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import pytest

from loop import events as ev
from loop.records import results
from loop.records.archive import read_transcript
from loop.service import commands
from tests.conftest import git
from tests.loop.agents.api.mock import APIS, KEY, QUICK, Mock, agent, call, finish, paused, say, set_x
from tests.loop.agents.world import everything_under
from tests.loop.scripted import Bench, until

RETRIED: dict[str, dict[str, Any]] = {
    "rate limit": {"type": "fail", "status": 429, "retry_after": 0.3},
    "overloaded": {"type": "fail", "status": 529, "retry_after": 0.05},
    "server error": {"type": "fail", "status": 500, "retry_after": 0.05},
    "conflict": {"type": "fail", "status": 409, "retry_after": 0.05},
    "cut": {"type": "stream_fault", "kind": "disconnect", "after_chunks": 4},
    "early end": {"type": "stream_fault", "kind": "truncate", "after_chunks": 4},
    "garbled": {"type": "stream_fault", "kind": "malformed", "after_chunks": 4},
    "silence": {"type": "stream_fault", "kind": "stall", "after_chunks": 4, "stall_seconds": 3},
}
STOPPED = {
    401: "refuses the key",
    402: "has no credit left",
    404: "does not know model",
}


def kinds(bench: Bench, n: int) -> list[str]:
    return [d.kind for d in read_transcript(bench.paths.transcript(n))]


def texts(bench: Bench, n: int, kind: str) -> list[str]:
    return [d.text for d in read_transcript(bench.paths.transcript(n)) if d.kind == kind]


@pytest.mark.parametrize("api", APIS)
async def test_a_model_researches(repository: Path, mock: Mock, api: str) -> None:
    mock.script(
        say("First I look. " * 5, ("view", {"first": 1, "last": 6})),
        *set_x(2.0),
        say("", ("note", {"text": "X wants to be smaller."}), ("read_experiment", {"experiment": 1})),
        call("str_replace", old="STEPS = 4", new="STEPS = 2"),
        call("submit", description="fewer steps"),
    )
    bench = Bench(repository, agent(api, mock.url(api)), max_experiments=3, budget_s=1.0)
    assert await finish(bench) == "limit reached: 3 experiments"
    assert results.read(repository / "results.tsv")["description"].to_list()[1:] == [
        "X to 2.0",
        "fewer steps",
    ]
    assert [e.phase for e in bench.engine.state.experiments] == ["keep", "keep", "discard"]
    assert bench.paths.notes.read_text() == "X wants to be smaller.\n"
    # What the server sent is in the transcript, whole and once.
    assert texts(bench, 2, "text") == ["First I look. " * 5, "I set X to 2.0."]
    tools = texts(bench, 2, "tool")
    assert tools[1].splitlines()[0] == "train.py +1 -1: X = 3.0 -> 2.0"
    assert "+X = 2.0  # where we stand [0.1, 10.0]" in tools[1].splitlines()
    assert tools[2] == "X to 2.0\ncloser to the minimum"
    # The live diff moved with the edit, before the submission.
    edits = [e for e in bench.events(ev.CandidateEdited) if e.n == 2]
    assert [("X = 2.0" in e.after, "X = 3.0" in e.before) for e in edits] == [(True, True)] * 2
    usage = bench.engine.state.experiment(2).usage
    assert usage.input_tokens > 1000
    assert usage.output_tokens > 10
    assert (usage.dollars is None) == (api != "claude")  # nobody has told the price of a server of one's own
    assert mock.findings() == []
    # Answers went back to the model; the next experiment begins anew and knows the results.
    bodies = [msgspec.json.encode(r["body"]).decode() for r in mock.requests()]
    assert "train.py is changed." in bodies[2]
    assert "experiment 1" in bodies[4]
    assert "First I look" not in bodies[3]


@pytest.mark.parametrize("api", APIS)
async def test_a_broken_turn_is_asked_for_again_as_a_whole(repository: Path, mock: Mock, api: str) -> None:
    """Every fault in a row, in one turn: each attempt streams words and a call; only the last one counts."""
    look = say("I look.", ("view", {}))
    broken = [fault for fault in RETRIED.values() if fault["type"] == "stream_fault"]
    mock.script(*RETRIED.values(), *[look for _ in broken], look, *set_x(2.0))
    bench = Bench(repository, agent(api, mock.url(api), silence_s=0.5), max_experiments=2, budget_s=0.1)
    await finish(bench)
    waits = texts(bench, 2, "retry")
    assert len(waits) == len(RETRIED)
    assert all("again in" in wait for wait in waits)
    tools = [tool.splitlines()[0] for tool in texts(bench, 2, "tool")]
    assert tools == ["train.py from line 1", "train.py +1 -1: X = 3.0 -> 2.0", "X to 2.0"]
    assert mock.pending() == []
    # llmock cannot see that the garbled stream, which it had sent to its end, was asked for again.
    assert set(mock.findings()) <= {"malformed_chunk_ignored"}
    bodies = [request["body"] for request in mock.requests()]
    assert bodies[: len(RETRIED)] == [bodies[0]] * len(RETRIED), "a broken turn left something in the history"


@pytest.mark.parametrize("api", APIS)
async def test_retry_after_is_kept(repository: Path, mock: Mock, api: str) -> None:
    mock.script({"type": "fail", "status": 429, "retry_after": 1.0}, *set_x(2.0))
    bench = Bench(repository, agent(api, mock.url(api)), max_experiments=2, budget_s=0.1)
    await finish(bench)
    limited, again = mock.requests()[:2]
    assert again["started_at"] - limited["ended_at"] >= 1.0
    assert "(as it asked)" in texts(bench, 2, "retry")[0]


@pytest.mark.parametrize("api", APIS)
async def test_what_a_human_must_mend_pauses_the_engine_until_resumed(
    repository: Path, mock: Mock, api: str
) -> None:
    bench = Bench(repository, agent(api, mock.url(api)), max_experiments=2, budget_s=0.1)
    state = bench.engine.state
    mock.script({"type": "fail", "status": 401, "message": f"Incorrect: {KEY[:9]}***{KEY[-4:]} {KEY}"})
    running = asyncio.create_task(bench.run())
    for status, words in STOPPED.items():
        await until(lambda: state.paused and state.incumbent)
        assert words in (state.paused or "")
        assert KEY[-4:] not in (state.paused or "")
        following = [code for code in STOPPED if code > status][:1]
        mock.script(
            *({"type": "fail", "status": code} for code in following), *([] if following else set_x(2.0))
        )
        await commands.obey(bench.engine, ev.Resume())
    await until(running.done)
    assert state.experiment(2).phase == "keep"
    assert len(mock.requests()) == len(STOPPED) + 2, "a fault that cannot pass was tried again"


async def test_no_credit_by_another_name_stops_too(repository: Path, mock: Mock) -> None:
    mock.script({"type": "fail", "status": 429, "code": "insufficient_quota", "message": "You exceeded it"})
    bench = Bench(repository, agent("chat", mock.url("chat")), max_experiments=2, budget_s=0.1)
    assert "no credit" in await paused(bench)


@pytest.mark.parametrize("api", APIS)
async def test_wrong_tool_input_comes_back_and_is_mended(repository: Path, mock: Mock, api: str) -> None:
    mock.script(
        {"type": "tool_fault", "kind": "malformed_arguments"},
        call("submit", description="broken arguments"),
        call("view", path="/etc/passwd"),
        call("view", first="one"),
        call("str_replace", old="X = 4.0", new="X = 2.0"),
        call("submit", description="nothing"),
        call("frobnicate"),
        *set_x(2.0),
    )
    bench = Bench(repository, agent(api, mock.url(api)), max_experiments=2, budget_s=0.1)
    await finish(bench)
    said = texts(bench, 2, "result")
    assert "not JSON" in said[0]
    assert "there is no '/etc/passwd' here" in said[1]
    assert "Expected `int`, got `str` - at `$.first`" in said[2]
    assert "The nearest is line 5: 'X = 3.0" in said[3]
    assert "incumbent's program unchanged" in said[4]
    assert "no tool 'frobnicate'" in said[5]
    assert said[6:] == ["train.py is changed.", "submitted."]
    assert bench.engine.state.experiment(2).phase == "keep"


@pytest.mark.parametrize("api", APIS)
async def test_bad_input_for_ever_is_given_up(repository: Path, mock: Mock, api: str) -> None:
    mock.script({"type": "reply", "tool_calls": [{"name": "view", "arguments": {"x": 1}}], "times": None})
    bench = Bench(repository, agent(api, mock.url(api)), max_experiments=2, budget_s=0.1)
    assert "8 tool calls" in await paused(bench)
    assert bench.engine.state.usage.output_tokens > 0, "what failed attempts cost is not counted"


@pytest.mark.parametrize("api", APIS)
async def test_a_model_that_does_not_submit_is_given_up(repository: Path, mock: Mock, api: str) -> None:
    """Three proposals: one only talks, one is always too long, one is refused."""
    talk, long = say("I would rather talk."), say("So much to say", finish="length")
    refusal = say("I cannot help.", finish="content_filter")
    mock.script(*[talk] * 4, *[long] * 4, refusal, *[talk] * 3)
    bench = Bench(repository, agent(api, mock.url(api)), max_experiments=2, budget_s=0.1)
    await paused(bench)
    errors = texts(bench, 2, "error")
    assert errors[0].endswith("ended 4 turns in a row without a tool call")
    assert errors[1] == errors[0]
    # llmock has no word for a refusal in Responses: test_wire.py has that case.
    assert ("refused to answer" in errors[2]) == (api != "responses")
    bodies = [msgspec.json.encode(r["body"]).decode() for r in mock.requests()]
    assert "no tool call. Edit the file" in bodies[1]
    assert "longer than allowed and is lost" in bodies[5]
    assert "So much to say" not in bodies[5]


@pytest.mark.parametrize("api", APIS)
async def test_a_proposal_has_a_time_limit(repository: Path, mock: Mock, api: str) -> None:
    mock.script({"type": "delay", "seconds": 100, "times": None})
    limits = msgspec.structs.replace(QUICK, seconds=0.3)
    bench = Bench(repository, agent(api, mock.url(api), limits), max_experiments=2, budget_s=0.1)
    assert "submitted nothing in 0 s" in await paused(bench)


@pytest.mark.parametrize("api", APIS)
async def test_a_proposal_has_a_turn_limit(repository: Path, mock: Mock, api: str) -> None:
    mock.script({**call("view"), "times": None})
    limits = msgspec.structs.replace(QUICK, turns=6)
    bench = Bench(repository, agent(api, mock.url(api), limits), max_experiments=2, budget_s=0.1)
    assert "submitted nothing in 6 turns" in await paused(bench)
    bodies = [msgspec.json.encode(r["body"]).decode() for r in mock.requests()]
    assert len(bodies) == 3 * 6, "three proposals, then the engine pauses"
    assert ["Three turns are left" in body for body in bodies[:6]] == [False] * 3 + [True] * 3


async def test_a_server_that_asks_to_wait_for_days_pauses_the_engine(repository: Path, mock: Mock) -> None:
    mock.script({"type": "fail", "status": 429, "retry_after": 172800})
    bench = Bench(repository, agent("claude", mock.url("claude")), max_experiments=2, budget_s=0.1)
    assert "asks to wait 48.0 hours: resume then" in await paused(bench)


async def test_what_the_audit_refuses_comes_back_to_the_model(repository: Path, mock: Mock) -> None:
    first, submit = set_x(2.0)
    cheat = call("str_replace", old="STEPS = 4", new="import subprocess\nSTEPS = 4")
    mend = call("str_replace", old="import subprocess\n", new="")
    mock.script(first, cheat, submit, mend, submit)
    bench = Bench(repository, agent("chat", mock.url("chat")), max_experiments=2, budget_s=0.1)
    await finish(bench)
    said = texts(bench, 2, "result")
    assert "not submitted: the change is refused, because it is more than training" in said[2]
    assert said[4] == "submitted."
    assert [e.phase for e in bench.engine.state.experiments] == ["keep", "keep"]


async def test_the_spending_limit_ends_a_proposal_under_way(repository: Path, mock: Mock) -> None:
    mock.script({**call("view"), "times": None})
    bench = Bench(
        repository, agent("claude", mock.url("claude")), max_experiments=9, max_cost=0.01, budget_s=0.1
    )
    assert (await finish(bench)).startswith("limit reached: $0.01 spent of $0.01")
    spent = bench.engine.state.usage
    assert spent.dollars is not None
    assert 0.01 <= spent.dollars < 0.02
    assert spent == bench.engine.state.experiment(2).usage
    assert "the spending limit was reached" in texts(bench, 2, "error")[0]


async def test_a_spending_limit_that_cannot_be_kept_is_not_ignored(repository: Path, mock: Mock) -> None:
    mock.script(*set_x(2.0))
    bench = Bench(repository, agent("chat", mock.url("chat")), max_experiments=9, max_cost=1.0, budget_s=0.1)
    assert "no price is known" in await finish(bench)


@pytest.mark.parametrize("api", APIS)
async def test_a_server_that_is_not_there_is_named(repository: Path, api: str) -> None:
    bench = Bench(repository, agent(api, "http://127.0.0.1:9/v1"), max_experiments=2, budget_s=0.1)
    reason = await paused(bench)
    assert "cannot be reached" in reason
    assert "then resume" in reason


async def test_a_human_is_heard_in_the_middle_of_a_conversation(repository: Path, mock: Mock) -> None:
    mock.script(
        say("I look.", ("view", {})),
        {"type": "delay", "seconds": 0.6},
        say("I look again.", ("view", {})),
        *set_x(2.0),
    )
    bench = Bench(repository, agent("claude", mock.url("claude")), max_experiments=2, budget_s=0.1)
    await commands.obey(bench.engine, ev.Steer("think big"))
    running = asyncio.create_task(bench.run())
    await until(lambda: bench.paths.transcript(2).exists() and "I look." in texts(bench, 2, "text"))
    await commands.obey(bench.engine, ev.Steer("try a smaller X"))
    await running
    assert texts(bench, 2, "human") == ["think big", "try a smaller X"]
    assert bench.engine.state.steering == []
    bodies = [msgspec.json.encode(r["body"]).decode() for r in mock.requests()]
    assert "think big" in bodies[0]
    heard = ["The human says: try a smaller X" in body for body in bodies]
    assert not heard[0]
    assert heard[-1]  # which turn begins after the message is the scheduler's business
    assert heard == sorted(heard)  # and what was heard stays in the conversation


@pytest.mark.parametrize("api", APIS)
async def test_a_crash_is_repaired_by_the_model(repository: Path, mock: Mock, api: str) -> None:
    mock.script(
        say("", ("str_replace", {"old": "X = 3.0", "new": "X = unknown"})),
        call("submit", description="X to something"),
        say("", ("submit", {"description": "the same again"})),
        say("", ("str_replace", {"old": "X = unknown", "new": "X = 1.5"})),
        call("submit", description="X to something, repaired"),
    )
    bench = Bench(repository, agent(api, mock.url(api)), max_experiments=2, budget_s=0.1)
    await finish(bench)
    assert bench.engine.state.experiment(2).phase == "keep"
    commits = [run.commit for run in bench.engine.state.experiment(2).trainings]
    assert len(set(commits)) == 2, "a repair is a commit of its own"
    refs = ("refs/autoresearch/t/0002-1", "refs/autoresearch/t/0002")
    assert [git(repository, "rev-parse", ref) for ref in refs] == commits
    assert [git(repository, "rev-parse", f"{c}~1") for c in commits] == [
        git(repository, "rev-parse", "HEAD")
    ] * 2
    assert len(results.read(repository / "results.tsv")) == 2, "and one row in the end"
    assert "the program that crashed, unchanged" in texts(bench, 2, "result")[2]
    repair = msgspec.json.encode(mock.requests()[2]["body"]).decode()
    assert "NameError" in repair
    assert "+X = unknown" in repair


@pytest.mark.parametrize("attempts", [0, 2])
async def test_repairs_are_bounded_and_end_as_one_row(repository: Path, mock: Mock, attempts: int) -> None:
    def set_to(before: str, after: str) -> list[dict[str, Any]]:
        edit = call("str_replace", old=f"X = {before}", new=f"X = {after}")
        return [edit, call("submit", description=after)]

    repairs = [turn for k in range(attempts) for turn in set_to(f"oops{k}", f"oops{k + 1}")]
    mock.script(*set_to("3.0", "oops0"), *repairs)
    bench = Bench(
        repository, agent("chat", mock.url("chat")), max_experiments=2, budget_s=0.1, fix_attempts=attempts
    )
    await finish(bench)
    second = bench.engine.state.experiment(2)
    assert (second.phase, len(second.trainings)) == ("crash", attempts + 1)
    assert results.read(repository / "results.tsv")["status"].to_list() == ["keep", "crash"]
    assert mock.pending() == []


async def test_a_repair_hears_the_human_and_leaves_the_message_to_the_next_idea(
    repository: Path, mock: Mock
) -> None:
    mock.script(
        call("str_replace", old="X = 3.0", new="X = oops"),
        call("submit", description="oops"),
        {"type": "delay", "seconds": 0.5},
        call("str_replace", old="X = oops", new="X = 2.0"),
        call("submit", description="mended"),
    )
    bench = Bench(repository, agent("claude", mock.url("claude")), max_experiments=2, budget_s=0.1)
    running = asyncio.create_task(bench.run())
    state = bench.engine.state
    await until(lambda: state.experiments[1:] and state.experiment(2).trainings)
    await commands.obey(bench.engine, ev.Steer("keep it simple"))
    await running
    assert texts(bench, 2, "human") == ["keep it simple"]
    assert state.steering == ["keep it simple"]


async def test_notes_survive_a_restart(repository: Path, mock: Mock) -> None:
    first, submit = set_x(2.0)
    mock.script(call("note", text="X wants to be smaller."), first, submit)
    await finish(Bench(repository, agent("claude", mock.url("claude")), max_experiments=2, budget_s=0.1))
    mock.script(*set_x(1.5, "X = 2.0  # where we stand"))
    await finish(Bench(repository, agent("claude", mock.url("claude")), max_experiments=3, budget_s=0.1))
    last = msgspec.json.encode(mock.requests()[-1]["body"]).decode()
    assert "X wants to be smaller." in last
    assert "#2 keep" in last


@pytest.mark.parametrize("api", APIS)
async def test_the_key_is_nowhere(repository: Path, mock: Mock, api: str, monkeypatch: Any) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    (repository / "train.py").write_text(
        (repository / "train.py").read_text() + "print(sorted(os.environ.items()))\n"
    )
    git(repository, "commit", "-qam", "print the environment")
    mock.script(
        {"type": "fail", "status": 401, "message": f"Incorrect API key provided: {KEY}"},
        *set_x(2.0),
    )
    bench = Bench(repository, agent(api, mock.url(api)), max_experiments=2, budget_s=0.1)
    running = asyncio.create_task(bench.run())
    await until(lambda: bench.engine.state.paused and bench.engine.state.incumbent)
    await commands.obey(bench.engine, ev.Resume())
    await running
    log = (bench.paths.training(2, 1) / "run.log").read_text()
    assert "AUTORESEARCH_BUDGET_S" in log, "the trainer did not print its environment"
    assert KEY.encode() not in everything_under(repository)
    assert KEY not in msgspec.json.encode(bench.records).decode()
