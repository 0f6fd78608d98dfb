"""Agent `acp` with a real CLI agent in a process of its own, and nothing of it left behind."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path

import msgspec
import psutil
import pytest

from loop import events as ev
from loop.agents.acp.agent import AcpAgent
from loop.agents.acp.known import Cli
from loop.agents.acp.opening import Place
from loop.agents.base import AgentFailed
from loop.client import Refused
from loop.records import results
from loop.service import commands
from tests.loop.agents.acp.scenarios import cli
from tests.loop.agents.api.mock import KEY
from tests.loop.agents.running import finish, paused
from tests.loop.agents.world import Heard, context, everything_under, propose
from tests.loop.scripted import Bench, until


async def test_a_cli_agent_researches(repository: Path, temporary: Path) -> None:
    bench = Bench(repository, cli("good", temporary), max_experiments=2, budget_s=0.1)
    await finish(bench)
    frame = results.read(repository / "results.tsv")
    assert frame["description"].to_list() == ["baseline", "X to 2.0"]
    assert frame["status"].to_list() == ["keep", "keep"]
    second = bench.engine.state.experiment(2)
    assert second.hypothesis == "Closer to the minimum."
    usage = second.usage
    assert (usage.input_tokens, usage.cached_tokens, usage.output_tokens) == (100, 60, 50)
    assert bench.paths.notes.read_text() == "X wants to be smaller.\n"
    said = [d for d in bench.events(ev.AgentDelta) if d.n == 2]
    assert [d.text for d in said if d.kind == "text"] == ["I ", "set ", "X. "]
    assert len({d.id for d in said if d.kind == "text"}) == 1
    assert "mode acceptEdits" in [d.text for d in said if d.kind == "thinking"]
    tools = [d.text.splitlines()[0] for d in said if d.kind == "tool"]
    assert tools == ["Edit train.py", "train.py +1 -1: X = 3.0 -> 2.0"]
    assert any("X = 2.0" in e.after for e in bench.events(ev.CandidateEdited))
    assert list(temporary.glob("autoresearch-[0-9]*")) == [], "a scratch directory is left"


async def test_a_crash_is_repaired(repository: Path, temporary: Path) -> None:
    bench = Bench(repository, cli("repair", temporary), max_experiments=2, budget_s=0.1)
    await finish(bench)
    assert bench.engine.state.experiment(2).phase == "keep"
    assert len(bench.engine.state.experiment(2).trainings) == 2


async def test_a_greedy_agent_gets_little_and_leaves_nothing(temporary: Path) -> None:
    heard = Heard()
    proposal = await propose(
        cli("greedy", temporary), heard, context(readonly={"prepare.py": "evaluate = print\n"})
    )
    told = json.loads(proposal.notes or "")
    assert told["answers"] == {"run": "no", "outside": "no", "inside": "yes", "up": "no"}
    assert set(told["environment"]) - {"LC_CTYPE"} == {
        "PATH", "HOME", "TMPDIR", "MINE_API_KEY", "OURS_A", "OURS_PIDS", "AUTORESEARCH_CHILD",
    }  # fmt: skip
    notes = heard.texts("note")
    assert notes[1:5] == [
        "not allowed: run", "not allowed: outside /etc/hosts", "allowed: inside train.py",
        "not allowed: up ../x",
    ]  # fmt: skip
    assert "thrown away: cheat/sheet.txt, prepare.py" in notes
    assert sorted(path.name for path in temporary.iterdir()) == ["far", "near"]
    for name in ("near", "far"):
        assert not _alive(int((temporary / name).read_text())), f"the {name} child lives on"


async def test_in_approval_mode_the_human_answers(repository: Path, temporary: Path) -> None:
    bench = Bench(repository, cli("greedy", temporary), max_experiments=2, budget_s=0.1, approve=True)
    running = asyncio.create_task(bench.run())
    state = bench.engine.state
    asked = []
    for allow in (True, False, True):
        await until(lambda: state.live.asked)
        (question,) = state.live.asked
        asked.append((question.title, question.kind, question.advised))
        words = "allowed" if allow else "not allowed"
        assert await commands.obey(bench.engine, ev.Permit(allow)) == f"{words}: {question.title}"
        await until(lambda: question not in state.live.asked)  # noqa: B023 - awaited at once
    assert asked == [("run", "execute", False), ("outside", "edit", False), ("inside", "edit", True)]
    await until(lambda: state.live.asked)
    await commands.obey(bench.engine, ev.SetMode(False))  # nobody answers any more: the policy does
    await until(lambda: running.done() or state.paused)
    assert state.paused is None
    await running
    told = json.loads(bench.paths.notes.read_text())
    assert told["answers"] == {"run": "yes", "outside": "no", "inside": "yes", "up": "no"}
    assert state.live.asked == []
    with pytest.raises(Refused, match="no agent asks"):
        await commands.obey(bench.engine, ev.Permit(True))


async def test_a_question_ends_with_its_proposal(repository: Path, temporary: Path) -> None:
    bench = Bench(repository, cli("greedy", temporary), max_experiments=2, budget_s=0.1, approve=True)
    running = asyncio.create_task(bench.run())
    await until(lambda: bench.engine.state.live.asked)
    bench.engine.stop("enough", now=True)
    await running
    assert bench.engine.state.live.asked == []


async def test_what_a_cli_agent_knows_of_keys_is_nowhere(repository: Path, temporary: Path) -> None:
    bench = Bench(repository, cli("leaky", temporary), max_experiments=2, budget_s=0.1)
    await finish(bench)
    assert bench.engine.state.experiment(2).description == "X to 2.0 [key]"
    assert bench.paths.notes.read_text() == "remember [key]"
    said = [d.text for d in bench.events(ev.AgentDelta) if d.n == 2]
    assert "my key is [key]" in said
    assert "curl -H [key]" in said
    kept = everything_under(repository)
    assert b"KEY = '[key]'" in kept
    assert KEY.encode() not in kept
    assert KEY not in msgspec.json.encode(bench.records).decode()


async def test_what_a_killed_engine_left_is_ended_by_the_next(temporary: Path) -> None:
    """The engine's process is killed in mid-proposal: no code of ours runs any more."""
    code = (
        "import asyncio, sys; sys.path[:0] = sys.argv[3:];"
        "from pathlib import Path; from tests.loop.agents.acp.scenarios import cli;"
        "from tests.loop.agents.world import Heard, propose;"
        "asyncio.run(propose(cli(sys.argv[1], Path(sys.argv[2])), Heard()))"
    )
    engine = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, "hangs", str(temporary), *sys.path
    )
    try:
        await until(
            lambda: all((temporary / n).exists() and (temporary / n).read_text() for n in ("near", "far"))
        )
    finally:
        engine.kill()
        await engine.wait()
    pids = [int((temporary / name).read_text()) for name in ("near", "far")]
    assert any(_alive(pid) for pid in pids)
    folders = [path for path in temporary.iterdir() if path.is_dir()]
    assert len(folders) == 2, "the scratch folder and the private one"
    for folder in folders:
        os.utime(folder, (0, 0))
    await propose(cli("good", temporary), Heard())
    await until(lambda: not any(_alive(pid) for pid in pids))
    assert sorted(path.name for path in temporary.iterdir()) == ["far", "near"]


async def test_cancelling_a_proposal_ends_the_whole_tree(temporary: Path) -> None:
    proposing = asyncio.create_task(propose(cli("hangs", temporary), Heard()))
    await until(
        lambda: all((temporary / n).exists() and (temporary / n).read_text() for n in ("near", "far"))
    )
    proposing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await proposing
    assert not any(_alive(int((temporary / name).read_text())) for name in ("near", "far"))
    assert sorted(path.name for path in temporary.iterdir()) == ["far", "near"]


def _alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


async def test_a_cli_agent_has_a_time_limit(temporary: Path) -> None:
    with pytest.raises(AgentFailed, match="made no proposal in 3 s"):
        await propose(cli("hangs", temporary, seconds=3.0), Heard())


async def test_a_command_that_is_not_there_pauses_the_engine(repository: Path) -> None:
    agent = AcpAgent(Place("acp", Cli(["no-such-agent"]), {"PATH": "/usr/bin"}, (), fenced=True))
    bench = Bench(repository, agent, max_experiments=2, budget_s=0.1)
    assert "cannot start no-such-agent" in await paused(bench)
