"""Tests the machine before its first training: what a training needs is tried behind the real fence.

nanogpt/selftest.py does it and prints a line for each thing it tried. A repository whose trainer has no such
script beside it only hears whether its torch can use the GPU. The result is kept in the cache folder, by
machine, driver, torch, and the trainer's fixed files: where one of them changes, the test is due again.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import re
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath
from typing import Literal

import msgspec

from loop import events as ev
from loop.config import Settings
from loop.errors import UsageError
from loop.paths import RunPaths
from loop.records.repository import Repository
from loop.records.training_folder import TrainingFolder
from loop.text import one_line
from loop.training import aside, compile_cache, fence, gpu, prepare
from loop.training.executor import PrepareFailed, Show
from loop.training.gpu import Facts

SCRIPT = "selftest.py"
"""The script beside the editable file (nanogpt/selftest.py)."""
TIMEOUT_S = 600.0
DEVICE = "device"
"""The check without which there is no training at all."""
LINE = re.compile(r"(ok|warn|fail) (\d+\.\d) s ([^:]{1,40}): (.*)")
Verdict = Literal["ok", "warn", "fail"]
"""It works; it works, but slower or less surely; it does not."""


class Check(msgspec.Struct, frozen=True):
    """One thing that was tried."""

    verdict: Verdict
    seconds: float
    name: str
    text: str

    def __str__(self) -> str:
        return f"{self.verdict:4} {self.seconds:7.1f} s  {self.name}: {self.text}"


class Result(msgspec.Struct, frozen=True):
    """What a self test found."""

    machine: str
    """GPU, driver and torch in words."""
    at: float
    """When it ended, in seconds since the epoch."""
    checks: list[Check]

    def of(self, verdict: Verdict) -> list[Check]:
        return [check for check in self.checks if check.verdict == verdict]

    def __str__(self) -> str:
        """In one line: what does not work, or that all does."""
        wrong = [f"{check.name}: {check.text}" for check in [*self.of("fail"), *self.of("warn")]]
        return "; ".join(wrong) or f"all {len(self.checks)} checks ok"


def parse(line: str) -> Check | None:
    """A line of the script's; None when it is something else."""
    found = LINE.fullmatch(one_line(line, 1000))
    return Check(msgspec.convert(found[1], Verdict), float(found[2]), found[3], found[4]) if found else None


async def run(
    settings: Settings,
    paths: RunPaths,
    repository: Repository,
    commit: str,
    facts: Facts,
    say: Callable[[Check], None],
) -> Result:
    """Test the machine with the code of `commit`, and keep the result. What it compiles is kept for `commit`.

    `say` gets each check when it is done. Raises `UsageError` when nothing here can be tested.
    """
    checks = list[Check]()

    def take(line: str) -> None:
        if check := parse(line):
            checks.append(check)
            say(check)

    def finish(scratch: Path) -> None:
        if compile_cache.is_private(settings):
            with contextlib.suppress(OSError):
                compile_cache.take(paths, commit, scratch)

    command = _command(settings, paths, repository, commit)
    ours = command[-1] != str(gpu.PROGRAM)
    files = await aside.run(
        settings, paths, repository, commit, command,
        name="selftest", timeout_s=TIMEOUT_S, read=[str(gpu.PROGRAM)],
        say=take if ours else lambda line: None, finish=finish if ours else lambda scratch: None,
    )  # fmt: skip
    if extra := _unfinished(files, commit, checks) if ours else _asked(files.end_of_log()):
        say(extra)
        checks.append(extra)
    result = Result(str(facts), time.time(), checks)
    _keep(key(settings, repository, commit, facts), result)
    return result


def _command(settings: Settings, paths: RunPaths, repository: Repository, commit: str) -> list[str]:
    """The training's command with selftest.py in the place of the editable file, or what asks torch alone."""
    command = prepare.train_command(settings, paths)
    script = str(PurePosixPath(settings.path).with_name(SCRIPT))
    if settings.path in command and repository.read(commit, script) is not None:
        return [script if word == settings.path else word for word in command]
    if python := gpu.python_of(command):
        return [python, "-I", str(gpu.PROGRAM)]
    raise UsageError(f"training is started by {command[0]}, not by Python: nothing here can be tested")


def _unfinished(files: TrainingFolder, commit: str, checks: list[Check]) -> Check | None:
    """How the script ended, where it did not come to its end; None where it did."""
    ended = files.read_exit(commit)
    if checks and ended and (ended.outcome == "finished" or checks[-1].verdict == "fail"):
        return None
    lines = [line for line in files.end_of_log().splitlines() if line.strip()]
    reason = (ended.reason if ended else "") or "its process was killed"
    said = one_line(lines[-1], 200) if lines else "it printed nothing"
    return Check(
        "fail", ended.trainer_seconds if ended else 0.0, "self test", f"it broke off: {reason}: {said}"
    )


def _asked(log: str) -> Check:
    """What torch said behind the fence, to a trainer without a test of its own."""
    lines = log.strip().splitlines()
    try:
        found = msgspec.json.decode(lines[-1], type=Facts)
    except (IndexError, msgspec.MsgspecError):
        found = Facts(problem=one_line(lines[-1], 300) if lines else "torch cannot be asked")
    text = found.problem or f"{found}; this trainer has no {SCRIPT}, so nothing else was tried"
    return Check("fail" if found.problem else "ok", 0.0, DEVICE, text)


# --- when it is due ---


def is_due(settings: Settings, repository: Repository, commit: str) -> bool:
    """Whether a machine is tested before its first training: where commits are compiled before theirs."""
    if settings.dry_run == "off" or (settings.dry_run == "auto" and not gpu.has_driver()):
        return False
    script = str(PurePosixPath(settings.path).with_name(SCRIPT))
    return gpu.has_driver() or repository.read(commit, script) is not None


async def before_training(
    settings: Settings, paths: RunPaths, repository: Repository, commit: str, facts: Facts | None, show: Show
) -> None:
    """Test the machine if it is due and not done yet, and tell whoever watches what does not work.

    Raises `PrepareFailed` when the device cannot be used. With anything else that fails a training is tried
    all the same: the trainer has other ways, and says so itself if it has none.
    """
    if not is_due(settings, repository, commit):
        return
    if facts is None:
        python = gpu.python_of(prepare.train_command(settings, paths))
        if python is None:
            return
        facts = await asyncio.to_thread(gpu.ask, python, os.environ)
    if (folder() / f"{key(settings, repository, commit, facts)}.json").exists():
        return
    show(ev.Preparing("testing this machine"))
    try:
        result = await run(settings, paths, repository, commit, facts, lambda c: show(ev.Preparing(str(c))))
    finally:
        show(ev.Preparing(""))
    for check in [*result.of("fail"), *result.of("warn")]:
        show(ev.Notice("warning", f"self test: {check.name}: {check.text}"))
    if broken := [check for check in result.of("fail") if check.name == DEVICE]:
        raise PrepareFailed(broken[0].text)


# --- what was found ---


def key(settings: Settings, repository: Repository, commit: str, facts: Facts) -> str:
    """16 hex digits that stand for the machine and for all files beside the editable one, without that."""
    digest = hashlib.sha256(f"{facts}\n{sys.version}\n{settings.train_command}".encode())
    around = PurePosixPath(settings.path).parent
    for path, _mode, sha in repository.files(commit):
        if PurePosixPath(path).parent == around and path != settings.path:
            digest.update(path.encode() + sha)
    return digest.hexdigest()[:16]


def folder(environ: Mapping[str, str] = os.environ) -> Path:
    """Where results are kept: trainings can read it and not change it."""
    return fence.data_folders(environ, [])[0] / "selftest"


def _keep(name: str, result: Result) -> None:
    """Keep a result. One that cannot be written is tested again."""
    with contextlib.suppress(OSError):
        folder().mkdir(parents=True, exist_ok=True)
        draft = folder() / f"{name}.{os.getpid()}.draft"
        draft.write_bytes(msgspec.json.encode(result))
        draft.replace(folder() / f"{name}.json")


def last(environ: Mapping[str, str]) -> Result | None:
    """The newest result on this machine; None when there is none."""
    with contextlib.suppress(OSError, ValueError, msgspec.MsgspecError):
        newest = max(folder(environ).glob("*.json"), key=lambda path: path.stat().st_mtime)
        return msgspec.json.decode(newest.read_bytes(), type=Result)
    return None
