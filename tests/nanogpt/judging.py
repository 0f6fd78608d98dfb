"""Plays the supervisor: starts the real judge, then claimant and witness, connected by pipes."""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import torch
from saving import uncompiled
from torch import nn

ROOT = Path(__file__).parents[2]


class Judgement(NamedTuple):
    """What a judge left, and what it and its two processes used."""

    judged: dict[str, Any]
    log: str
    """What the two processes printed."""
    code: int
    """The judge's exit code."""
    cpu_s: list[float]
    """CPU seconds of claimant, witness and judge."""


def room(path: Path, source: str) -> tuple[list[str], nn.Module]:
    """Make a folder of the candidate's code with this train.py, and save the `Model` in it.

    Returns the command that answers about the model, and the model.
    """
    path.mkdir(exist_ok=True)
    for file in (ROOT / "nanogpt").glob("*.py"):
        shutil.copy(file, path)
    (path / "train.py").write_text(source)
    module, before = ModuleType("train"), sys.modules.get("train")
    sys.modules["train"] = module  # pickle looks there for the class of what it saves
    try:
        exec(source, module.__dict__)
        model: nn.Module = module.Model()
        torch.save(uncompiled(model), path / "model.pt")
    finally:
        del sys.modules["train"]
        if before:
            sys.modules["train"] = before
    return [sys.executable, str(path / "answers.py"), str(path / "model.pt")], model


def judged(
    command: list[str], cache: Path, out: Path, *, reference: Path | None = None, data: str = "sympy"
) -> Judgement:
    """Let a model be judged; `command` answers about it."""
    environment = os.environ | {"AUTORESEARCH_CACHE": str(cache), "AUTORESEARCH_DATA": data}
    pairs = [(os.pipe(), os.pipe()) for _ in range(2)]
    ends = [str(end) for questions, answers in pairs for end in (questions[1], answers[0])]
    words = ["--claimant", *ends[:2], "--witness", *ends[2:], "--out", str(out)]
    words += ["--reference", str(reference)] if reference else []
    used, times = _used(), list[float]()
    judge = subprocess.Popen(
        [sys.executable, str(ROOT / "nanogpt/judge.py"), *words],
        env=environment, pass_fds=[int(end) for end in ends],
    )  # fmt: skip
    for end in ends:
        os.close(int(end))
    log = out.with_name(f"{out.name}.log")
    for questions, answers in pairs:
        with log.open("ab") as private:
            process = subprocess.Popen(command, stdin=questions[0], stdout=answers[1], stderr=private)
        os.close(questions[0])
        os.close(answers[1])
        while process.poll() is None and judge.poll() is None:
            time.sleep(0.005)
        process.kill()
        process.wait()
        used, before = _used(), used
        times.append(used - before)
    code = judge.wait(60)
    times.append(_used() - used)
    path = out / "judged.json"
    return Judgement(json.loads(path.read_text()) if path.exists() else {}, log.read_text(), code, times)


def _used() -> float:
    """CPU seconds of all processes that this one has waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
