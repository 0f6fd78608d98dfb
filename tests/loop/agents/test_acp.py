"""Agent `acp` with a real CLI agent in a process of its own."""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
from pathlib import Path

import psutil
import pytest

from loop import events as ev
from loop import results
from loop.agents.acp import AcpAgent, Cli
from loop.agents.base import AgentFailed, AgentStopped
from loop.agents.conversation import Bounds
from tests.loop.agents.mock import KEY, finish, paused
from tests.loop.agents.world import Heard, context, propose
from tests.loop.scripted import Bench, until

HERE = Path(__file__).parent


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Scratch directories, and the pids of what an agent leaves behind, in a folder of the test's own."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return folder


def cli(scenario: str, temporary: Path, seconds: float = 30.0) -> AcpAgent:
    environ = {
        "PATH": "/usr/bin:/bin", "HOME": str(temporary), "TMPDIR": str(temporary),
        "ANTHROPIC_API_KEY": KEY, "OTHER_TOKEN": KEY, "MINE": "1", "OURS_A": "2",
    }  # fmt: skip
    command = Cli([sys.executable, str(HERE / "cli_agent.py"), scenario], ("MINE", "OURS_"))
    return AcpAgent("acp", command, environ, bounds=Bounds(seconds=seconds))


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
    assert list(temporary.iterdir()) == [], "a scratch directory is left"


async def test_what_cannot_be_trained_goes_back_to_the_agent(temporary: Path) -> None:
    heard = Heard()
    proposal = await propose(cli("corrected", temporary), heard)
    assert proposal.description == "X to 2.0"
    assert "incumbent's program unchanged" in heard.texts("result")[0]


async def test_a_crash_is_repaired(repository: Path, temporary: Path) -> None:
    bench = Bench(repository, cli("repair", temporary), max_experiments=2, budget_s=0.1)
    await finish(bench)
    assert bench.engine.state.experiment(2).phase == "keep"
    assert len(bench.engine.state.experiment(2).runs) == 2


async def test_a_greedy_agent_gets_little_and_leaves_nothing(temporary: Path) -> None:
    heard = Heard()
    proposal = await propose(
        cli("greedy", temporary), heard, context(readonly={"prepare.py": "evaluate = print\n"})
    )
    told = json.loads(proposal.notes or "")
    assert told["answers"] == {"run": "no", "outside": "no", "inside": "yes", "up": "no"}
    assert set(told["environment"]) - {"LC_CTYPE"} == {
        "PATH", "HOME", "TMPDIR", "MINE", "OURS_A", "AUTORESEARCH_CHILD",
    }  # fmt: skip
    notes = heard.texts("note")
    assert notes[:4] == ["not allowed: run", "not allowed: outside", "allowed: inside", "not allowed: up"]
    assert "thrown away: cheat/sheet.txt, prepare.py" in notes
    assert sorted(path.name for path in temporary.iterdir()) == ["far", "near"]
    for name in ("near", "far"):
        assert not _alive(int((temporary / name).read_text())), f"the {name} child lives on"


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


@pytest.mark.parametrize(
    ("scenario", "error", "said"),
    [
        ("login", AgentStopped, "is not logged in"),
        ("dies", AgentFailed, "no more memory"),
        ("stubborn", AgentFailed, "submitted nothing that can be trained in 6 rounds"),
    ],
)
async def test_how_a_cli_agent_fails(
    temporary: Path, scenario: str, error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        await propose(cli(scenario, temporary), Heard())
    assert list(temporary.iterdir()) == []


async def test_a_cli_agent_has_a_time_limit(temporary: Path) -> None:
    with pytest.raises(AgentFailed, match="made no proposal in 3 s"):
        await propose(cli("hangs", temporary, seconds=3.0), Heard())


async def test_a_command_that_is_not_there_pauses_the_engine(repository: Path) -> None:
    agent = AcpAgent("acp", Cli(["no-such-agent"]), {"PATH": "/usr/bin"})
    bench = Bench(repository, agent, max_experiments=2, budget_s=0.1)
    assert "cannot start no-such-agent" in await paused(bench)
