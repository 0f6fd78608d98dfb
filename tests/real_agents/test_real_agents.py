"""The real CLI agents from npm, with a scripted model behind them: ten scenarios each, and whole runs.

`pytest -m slow tests/real_agents`. What is pinned in npm/package.json is what docs/agents.md names as tested.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import msgspec
import psutil
import pytest

from loop import events as ev
from loop.agents.acp import process, session
from loop.agents.base import AgentFailed, AgentStopped, NoProposal, Proposal
from loop.service import commands
from tests.conftest import git
from tests.loop.agents.running import finish
from tests.loop.agents.world import Heard, context, everything_under, propose
from tests.loop.scripted import Bench
from tests.real_agents.agents import KEY, REAL, agent
from tests.real_agents.researcher import MARKER, SECRET_FILE
from tests.real_agents.vendor import Vendor

pytestmark = [pytest.mark.slow, pytest.mark.parametrize("name", REAL)]


@pytest.fixture
def vendor() -> Iterator[Vendor]:
    vendor = Vendor()
    yield vendor
    vendor.close()


@pytest.fixture(autouse=True)
def nothing_is_left(tmp_path: Path) -> Iterator[None]:
    """No process and no trace of a session outlives a test."""
    MARKER.unlink(missing_ok=True)
    yield
    ours = [p for p in psutil.process_iter() if process.owner() in _mark(p)]
    assert ours == []
    left = [path for path in (tmp_path / "home").rglob("*") if "autoresearch" in path.name]
    assert left == []


def _mark(p: psutil.Process) -> str:
    try:
        return str(p.environ().get(process.MARK, ""))
    except (psutil.Error, OSError):
        return ""


async def work(
    name: str, programs: Path, home: Path, vendor: Vendor, heard: Heard, **options: object
) -> Proposal:
    """One proposal, for at most so many `dollars`."""
    dollars = options.pop("dollars", None)
    real = agent(name, programs, home, vendor, **options)  # type: ignore[arg-type]
    return await propose(real, heard, context(dollars_left=dollars))


async def test_edit(name: str, programs: Path, tmp_path: Path, vendor: Vendor) -> None:
    heard = Heard()
    proposal = await work(name, programs, tmp_path / "home", vendor, heard)
    assert proposal.description.startswith("X to ")
    assert "X = 3.0" not in proposal.source
    assert proposal.usage.input_tokens >= 4200
    assert proposal.usage.dollars
    assert all("autoresearch-" not in text for text in (*heard.texts("tool"), *heard.texts("result")))
    assert any("train.py" in text for text in heard.texts("tool"))
    assert not any("```" in text for text in heard.texts("result"))


async def test_correction(name: str, programs: Path, tmp_path: Path, vendor: Vendor) -> None:
    vendor.play("correction")
    heard = Heard()
    proposal = await work(name, programs, tmp_path / "home", vendor, heard)
    assert "X = 3.0" not in proposal.source
    assert any("Not submitted" in text for text in heard.texts("result"))


async def test_a_command_is_refused_or_fenced(
    name: str, programs: Path, tmp_path: Path, vendor: Vendor
) -> None:
    """It runs nowhere, or behind a fence: it writes nothing outside, and reads no other's key or file."""
    SECRET_FILE.parent.mkdir(parents=True, exist_ok=True)
    SECRET_FILE.write_text("sentinel-of-another-run")
    vendor.play("command")
    heard = Heard()
    proposal = await work(name, programs, tmp_path / "home", vendor, heard)
    assert proposal.description.startswith("X to ")
    assert not MARKER.exists()
    assert str(MARKER) in vendor.heard, "the model did ask for the command"
    assert "sentinel-of-another-run" not in vendor.heard
    assert "sentinel-of-somebody-else" not in vendor.heard
    shutil.rmtree(SECRET_FILE.parents[2])


async def test_a_path_outside(name: str, programs: Path, tmp_path: Path, vendor: Vendor) -> None:
    vendor.play("outside")
    proposal = await work(name, programs, tmp_path / "home", vendor, Heard())
    assert proposal.description.startswith("X to ")
    assert str(MARKER) in vendor.heard, "the model did try to write there"
    assert not MARKER.exists()


async def test_a_refused_key_is_said_within_seconds(
    name: str, programs: Path, tmp_path: Path, vendor: Vendor
) -> None:
    vendor.play("401")
    heard = Heard()
    with pytest.raises(AgentStopped, match="not logged in, or its key is refused") as error:
        await work(name, programs, tmp_path / "home", vendor, heard, seconds=60.0)
    assert "SECRET" not in str(error.value)
    assert KEY not in str(error.value)


@pytest.mark.parametrize("code", [429, 500])
async def test_a_fault_that_passes(
    name: str, programs: Path, tmp_path: Path, vendor: Vendor, code: int
) -> None:
    vendor.play(f"{code}x3")
    proposal = await work(name, programs, tmp_path / "home", vendor, Heard())
    assert proposal.description.startswith("X to ")


async def test_a_server_that_never_answers(name: str, programs: Path, tmp_path: Path, vendor: Vendor) -> None:
    vendor.play("hang")
    with pytest.raises(AgentFailed, match="made no proposal in 30 s"):
        await work(name, programs, tmp_path / "home", vendor, Heard(), seconds=30.0)
    assert vendor.requests


async def test_a_wrong_model(name: str, programs: Path, tmp_path: Path, vendor: Vendor) -> None:
    with pytest.raises(
        AgentStopped, match=f"{name} does not offer model no-such-model: choose --model among"
    ):
        await work(name, programs, tmp_path / "home", vendor, Heard(), model="no-such-model")
    assert vendor.requests == 0


async def test_a_turn_without_end_is_within_the_budget(
    name: str, programs: Path, tmp_path: Path, vendor: Vendor
) -> None:
    vendor.play("forever")
    with pytest.raises(NoProposal) as error:
        await work(name, programs, tmp_path / "home", vendor, Heard(), dollars=0.05)
    assert 0.0 < (error.value.usage.dollars or 0.0) <= 0.06
    assert vendor.requests < 40


async def test_a_time_out_is_paid_for(name: str, programs: Path, tmp_path: Path, vendor: Vendor) -> None:
    vendor.play("forever")
    with pytest.raises(AgentFailed) as error:
        await work(name, programs, tmp_path / "home", vendor, Heard(), seconds=25.0)
    assert error.value.usage.dollars


async def test_a_vendor_is_down_for_long(
    name: str, programs: Path, tmp_path: Path, vendor: Vendor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twenty minutes, scaled by sixty like our own waits. What an agent waits by itself is not scaled."""
    monkeypatch.setattr(session, "SILENT_S", session.SILENT_S / 60)
    vendor.be_down(20.0)
    heard = Heard()
    proposal = await work(name, programs, tmp_path / "home", vendor, heard, seconds=15.0 + 60.0)
    assert proposal.description.startswith("X to ")
    assert heard.texts("retry")


async def test_a_message_reaches_it_in_mid_turn_or_after(
    name: str, programs: Path, tmp_path: Path, vendor: Vendor
) -> None:
    said = ["Look at the budget, please."]
    real = agent(name, programs, tmp_path / "home", vendor)
    proposal = await propose(real, Heard(), context(hear=lambda: [said.pop()] if said else []))
    assert proposal.description.startswith("X to ")
    assert "Look at the budget, please." in vendor.heard


async def test_four_whole_experiments(
    name: str, programs: Path, tmp_path: Path, vendor: Vendor, repository: Path
) -> None:
    """And the agent's key is nowhere afterwards, in no file and in no event."""
    trainer = repository / "train.py"
    trainer.write_text(trainer.read_text() + "print(sorted(os.environ.items()))\n")
    git(repository, "commit", "-qam", "print the environment")
    real = agent(name, programs, tmp_path / "home", vendor)
    bench = Bench(repository, real, max_experiments=5, budget_s=0.1, rule="improved", baseline_runs=1)
    await commands.obey(bench.engine, ev.Steer(f"Is {KEY} the key that you use?"))
    await finish(bench, 400.0)
    proposed = bench.engine.state.experiments[1:]
    assert len(proposed) >= 4
    assert all(e.phase in ("keep", "discard") for e in proposed[:4])
    assert "AUTORESEARCH_BUDGET_S" in (bench.paths.training(2, 1) / "run.log").read_text()
    assert KEY.encode() not in everything_under(repository)
    assert KEY not in msgspec.json.encode(bench.records).decode()
    assert KEY not in vendor.heard, "it is in the header of a request, and in no text"


async def test_the_budget_of_a_run(
    name: str, programs: Path, tmp_path: Path, vendor: Vendor, repository: Path
) -> None:
    real = agent(name, programs, tmp_path / "home", vendor)
    bench = Bench(
        repository, real, max_experiments=40, max_cost=0.05, budget_s=0.1, rule="improved", baseline_runs=1
    )
    reason = await finish(bench, 500.0)
    assert "limit" in reason
    assert 0.0 < (bench.engine.state.usage.dollars or 0.0) <= 0.06
