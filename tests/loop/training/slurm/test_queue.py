"""Slurm's commands where there is no Slurm, and what they are told. With a real Slurm: test_executor.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from loop.config import Settings
from loop.errors import UsageError
from loop.training.slurm import queue
from loop.training.slurm.queue import OutOfReach, Queue, QueuedJob


def commands(folder: Path, **scripts: str) -> str:
    """A folder with programs of these names, as a PATH."""
    for name in queue.COMMANDS:
        (folder / name).write_text(f"#!/bin/sh\n{scripts.get(name, 'true')}\n")
        (folder / name).chmod(0o755)
    return f"{folder}:/bin:/usr/bin"


def test_a_job_is_described_as_the_settings_say() -> None:
    settings = Settings(
        slurm_partition="gpu", slurm_account="lab", slurm_gres="gpu:1", slurm_options=["--exclusive"]
    )
    assert queue.options(settings, 40) == [
        "--time=40", "--ntasks=1", "--partition=gpu", "--account=lab", "--gres=gpu:1", "--exclusive",
    ]  # fmt: skip
    assert queue.options(Settings(slurm_time=5), 40) == ["--time=5", "--ntasks=1"]
    assert queue.options(Settings()) == ["--ntasks=1"]


def test_no_key_of_ours_becomes_a_part_of_a_job() -> None:
    found = queue.environment({"SLURM_CONF": "/etc/slurm.conf", "OPENAI_API_KEY": "k", "PATH": "/bin"})
    assert found["SLURM_CONF"] == "/etc/slurm.conf"
    assert found["PATH"] == "/bin"
    assert "OPENAI_API_KEY" not in found


def test_without_slurm_it_is_said_where_to_start(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UsageError, match=r"^sbatch is not on the PATH: start the engine on a machine of"):
        queue.check(Settings())


def test_a_slurm_that_does_not_answer_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    failure = "echo 'slurm_load_partitions: Unable to contact slurm controller' >&2; exit 1"
    monkeypatch.setenv("PATH", commands(tmp_path, sinfo=failure))
    with pytest.raises(UsageError, match=r"^Slurm does not answer: .*Unable to contact slurm controller$"):
        queue.check(Settings())
    monkeypatch.setattr(queue, "ANSWER_S", 0.2)
    monkeypatch.setenv("PATH", commands(tmp_path, sinfo="sleep 5"))
    with pytest.raises(UsageError, match="does not answer within"):
        queue.check(Settings())


def test_an_unknown_partition_is_said_with_those_there_are(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", commands(tmp_path, sinfo="printf 'main\\ngpu\\n'"))
    queue.check(Settings(slurm_partition="gpu"))
    with pytest.raises(UsageError, match=r"^Slurm has no partition 'tpu': it has gpu, main$"):
        queue.check(Settings(slurm_partition="tpu"))


async def test_only_our_own_jobs_are_seen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    lines = "printf '7|run-a-1|RUNNING|None\\n8|other|PENDING|Priority\\n9|run-b|PENDING|Resources|x\\n'"
    monkeypatch.setenv("PATH", commands(tmp_path, squeue=lines))
    assert await Queue("run-").jobs() == [
        QueuedJob("7", "run-a-1", "RUNNING", "None"),
        QueuedJob("9", "run-b", "PENDING", "Resources|x"),
    ]


async def test_what_slurm_refuses_is_told_in_its_words(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    failure = "echo 'sbatch: error: invalid account' >&2; exit 1"
    monkeypatch.setenv("PATH", commands(tmp_path, sbatch=failure, squeue="exit 1"))
    with pytest.raises(OSError, match="invalid account") as refused:
        await Queue("run-").submit("run-a", "#!/bin/sh\n", [], tmp_path / "log")
    assert (refused.value.strerror, refused.value.filename) == ("invalid account", "Slurm")
    with pytest.raises(OutOfReach, match="squeue failed"):
        await Queue("run-").jobs()
    await Queue("run-").cancel("7")
