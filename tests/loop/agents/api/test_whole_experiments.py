"""Whole experiments through each API, in a real engine and against a real server."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import pytest

from loop import events as ev
from loop.records import results
from loop.service import commands
from tests.conftest import git
from tests.loop.agents.api.mock import APIS, KEY, Mock, agent, call, say, set_x
from tests.loop.agents.api.wire import Wire, spoken
from tests.loop.agents.running import finish, texts
from tests.loop.agents.world import everything_under
from tests.loop.scripted import Bench, until


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
    assert [m.text for m in state.steering] == ["keep it simple"]


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
    first, submit = set_x(2.0)
    told = f"My key is {KEY}."
    submit["tool_calls"][0]["arguments"] |= {"description": told, "hypothesis": told}
    mock.script(
        {"type": "fail", "status": 401, "message": f"Incorrect API key provided: {KEY}"},
        say(told),
        call("note", text=told),
        first,
        submit,
    )
    bench = Bench(repository, agent(api, mock.url(api)), max_experiments=2, budget_s=0.1)
    running = asyncio.create_task(bench.run())
    await until(lambda: bench.engine.state.paused and bench.engine.state.incumbent, 60.0)
    await commands.obey(bench.engine, ev.Steer(f"Is {KEY} the key that you use?"))
    await until(lambda: "My key is [key]." in texts(bench, 2, "text"), 60.0)
    await commands.obey(bench.engine, ev.Steer(f"Do not tell {KEY} to anybody."))
    await commands.obey(bench.engine, ev.Resume())
    await running
    assert bench.engine.state.experiment(2).description == "My key is [key]."
    log = (bench.paths.training(2, 1) / "run.log").read_text()
    assert "AUTORESEARCH_BUDGET_S" in log, "the trainer did not print its environment"
    assert KEY.encode() not in everything_under(repository)
    assert KEY not in msgspec.json.encode(bench.records).decode()


@pytest.mark.parametrize("api", APIS)
async def test_no_piece_is_lost_or_doubled_on_its_way_to_the_disk(repository: Path, api: str) -> None:
    async with Wire(*spoken(api)) as peer:
        bench = Bench(repository, agent(api, peer.url), max_experiments=2, budget_s=0.05)
        await finish(bench)
    sent = [text for _, event in peer.sent if (text := _text(event))]
    assert len(sent) > 5
    lines = bench.paths.transcript(2).read_bytes().splitlines()
    kept = [msgspec.json.decode(line, type=ev.AgentDelta) for line in lines]
    assert [delta.text for delta in kept if delta.kind == "text"] == sent
    shown = [delta.text for delta in bench.events(ev.AgentDelta) if delta.n == 2 and delta.kind == "text"]
    assert shown == sent


def _text(event: dict[str, Any]) -> str:
    """What a streamed event says."""
    if event.get("type") == "response.output_text.delta":
        return str(event["delta"])
    delta = event.get("delta")
    if isinstance(delta, dict) and delta.get("type") == "text_delta":
        return str(delta["text"])
    choices = event.get("choices") or [{}]
    return str(choices[0].get("delta", {}).get("content") or "")
