"""How the model that a training saved is measured: the judge's part of what a supervisor is told to do.

The trainer cannot measure itself: it could write any number. It saves its model and dies. Then the judge, a
program of the repository, asks two fresh processes of the candidate's code, which load the model behind a
fence of their own and see neither training data nor answers. docs/verdicts.md tells why the number holds.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import msgspec

from loop.config import Settings
from loop.records.training_folder import Answerer, Fence, Judge, TrainingFolder
from loop.training import compile_cache, fence
from loop.training.fence import Support

LEAST_S = 120.0
"""Seconds that a judgement may take at least; else it may take as long as a training."""


def judge(
    settings: Settings,
    support: Support | None,
    *,
    folder: TrainingFolder,
    frozen: Path,
    scratch: list[Path],
    variables: dict[str, str],
    read: list[str],
    reference: Path | None,
    narrow: Callable[[Fence], Fence] = lambda fence: fence,
) -> Judge | None:
    """Who measures the model in `folder`; None where the repository has no judge.

    `frozen` holds the candidate's files, in which no trainer can write. `scratch` are the private folders of
    claimant and witness, which this makes anew. `variables` are those that every process of this training
    has. `read` is what an interpreter needs besides the usual. `reference` holds the incumbent's claims.
    `narrow` takes what belongs to other seats out of a fence.
    """
    if not settings.judge_command:
        return None
    words = ["--out", str(folder.judge)]
    around = narrow(_fence(settings, support, [*read, str(frozen), str(folder.model)], frozen))
    return Judge(
        command=settings.command(settings.judge_command),
        words=[*words, "--reference", str(reference)] if reference else words,
        env=fence.environment(os.environ, variables),
        cwd=str(frozen),
        answers=[*settings.command(settings.answers_command), str(folder.model)],
        answerers=[_answerer(around, private, variables) for private in scratch],
        model=str(folder.model),
        log=str(folder.judge_log),
        timeout_s=max(LEAST_S, settings.timeout),
    )


def _fence(settings: Settings, support: Support | None, read: list[str], frozen: Path) -> Fence:
    """The fence around a process that may read the candidate's files and the model, and write nothing."""
    if support is None:
        return Fence()
    return fence.build(
        support,
        os.environ,
        command=settings.command(settings.answers_command),
        data=[],
        write=[],
        read=[*settings.sandbox_read, *read],
        slot=frozen,
        file_bytes=int(settings.disk_gb * 2**30),
        held_out=settings.held_out,
        cache=fence.data_folders(os.environ, settings.data)[0],
    )


def _answerer(around: Fence, scratch: Path, variables: dict[str, str]) -> Answerer:
    """A process behind such a fence that may write to a folder of its own."""
    if not around.on:
        return Answerer(fence.environment(os.environ, variables), around)
    fresh = fence.make_fresh_folders(
        scratch, cache=compile_cache.private(scratch), data=[], environ=os.environ
    )
    around = msgspec.structs.replace(around, write=[str(scratch), *around.write])
    return Answerer(fence.environment(os.environ, variables | fresh), around, [str(scratch)])
