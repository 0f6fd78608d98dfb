"""`autoresearch-tui model export` and `sample`: take a kept model away, or let it continue a text."""

from __future__ import annotations

import math
import stat
from pathlib import Path, PurePosixPath

from loop import text
from loop.cli.trust import settings as trusted_settings
from loop.errors import UsageError, describe
from loop.paths import RunPaths
from loop.records import models
from loop.records.repository import Repository
from loop.records.training_folder import TrainingFolder
from loop.state import Experiment, RunState
from loop.training.sample import SCRIPT
from loop.training.sample import sample as run_sample

CODE = "code"
"""Folder of an export that holds the candidate's files."""
TOKENS_MOST = 10_000
"""Tokens that one sample may have at most."""


def numbered(words: list[str], what: str) -> tuple[int | None, str]:
    """The arguments `[N] WHAT` of a command. Raises `UsageError` when they are others."""
    if len(words) == 2 and words[0].isdecimal():
        return int(words[0]), words[1]
    if len(words) == 1:
        return None, words[0]
    raise UsageError(f"expected [N] {what}: the number of an experiment, then one {what}")


def kept(paths: RunPaths, state: RunState, n: int | None) -> tuple[Experiment, TrainingFolder]:
    """Experiment `n` (None: the incumbent) and the folder with its model. Raises `UsageError`."""
    number = n if n is not None else state.incumbent
    if number is None:
        raise UsageError("there is no incumbent yet: no experiment has been kept")
    if not 1 <= number <= len(state.experiments):
        raise UsageError(f"no experiment {number} in run {state.tag}: it has {len(state.experiments)}")
    e = state.experiment(number)
    if found := models.find(paths, state, number):
        return e, found
    if any(t.finished and t.finished.model_bytes for t in e.trainings):
        raise UsageError(
            f"the model of experiment {number} is not kept: only the incumbent's and those of the best "
            "experiments are (`keep_models`)"
        )
    raise UsageError(
        f"no training of experiment {number} saved a model: a trainer writes it to the file that "
        "AUTORESEARCH_MODEL_FILE names (docs/formats.md)"
    )


def export(paths: RunPaths, repository: Repository, state: RunState, n: int | None, folder: Path) -> Path:
    """Write a model and all that is needed to use it into `folder`, which must be new; returns it.

    Raises `UsageError` when there is no such model and when the folder cannot be written.
    """
    e, training = kept(paths, state, n)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{folder} is there and not empty: name a new folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        copies = training.copy_model(folder)
        if not copies:
            raise UsageError(f"the model of experiment {e.n} was deleted meanwhile")
        code = _export_code(repository, e.commit, state.editable, folder / CODE)
        (folder / "README.md").write_text(_readme(state, e, training, code), "utf-8")
    except OSError as error:
        raise UsageError(describe(error)) from error
    return folder


def _export_code(repository: Repository, commit: str, editable: str, folder: Path) -> set[str]:
    """Write what the folder of the editable file holds at a commit; returns the paths in it."""
    top = PurePosixPath(editable).parent
    written = set()
    for name, mode, sha in repository.files(commit):
        path = PurePosixPath(name)
        if path.is_relative_to(top) and stat.S_ISREG(mode):
            target = folder / path.relative_to(top)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(repository.blob(sha))
            written.add(str(path.relative_to(top)))
    return written


def _readme(state: RunState, e: Experiment, training: TrainingFolder, code: set[str]) -> str:
    """What the exported folder is, for whoever finds it."""
    t = next(t for t in e.trainings if (e.n, t.number) in state.models)
    others = f", the mean of {len(e.values)} trainings is {e.value:.6f}" if len(e.values) > 1 else ""
    words = [
        f"# Model of experiment {e.n}, run {state.tag}",
        " ".join(text.clean(e.description).split()),
        f"- {state.metric}: {t.value:.6f} (training {t.number}, seed {t.seed}, {t.budget_s:g} s{others})",
        f"- commit: {e.commit}",
        f"- model.pt: {training.model_bytes():,} bytes; {CODE}/: the files that trained it",
    ]
    head = "\n\n".join(words[:2]) + "\n\n" + "\n".join(words[2:])
    return f"{head}\n\n{_use(code, PurePosixPath(state.editable).name)}\n"


def _use(code: set[str], editable: str) -> str:
    if SCRIPT not in code:
        return f"{CODE}/{editable} wrote model.pt and knows how to read it."
    return f"""It needs Python with torch, numpy and tokenizers. To let it continue a text:

    python {CODE}/{SCRIPT} model.pt "Once upon a time" --tokens 100 --temperature 0.8

To load it in a Python that was started in {CODE}/:

    from pathlib import Path
    import torch
    from sample import load
    model = load(Path("../model.pt"), torch.device("cpu"))  # from tokens (B, T) to logits (B, T, V)

{editable} picks its hyperparameters by the device: a model of a GPU needs one, or AUTORESEARCH_PROFILE=h100.

An agent wrote {editable}, and loading the model runs it: read it first, or use `autoresearch-tui sample`,
which runs it behind a fence."""


async def sample(
    paths: RunPaths,
    repository: Repository,
    state: RunState,
    n: int | None,
    prompt: str,
    *,
    tokens: int,
    temperature: float,
    seed: int,
    trust: bool = False,
) -> str:
    """How a kept model continues the prompt. Raises `UsageError`."""
    if not 1 <= tokens <= TOKENS_MOST:
        raise UsageError(f"--tokens must be 1 to {TOKENS_MOST:,}")
    if not 0 <= temperature < math.inf:
        raise UsageError("--temperature must be 0 or more")
    e, training = kept(paths, state, n)
    settings = trusted_settings(repository, e.commit, {}, trust=trust, ask=True)
    words = ["--tokens", str(tokens), "--temperature", str(temperature), "--seed", str(seed)]
    words += ["--", str(training.model), prompt]
    return await run_sample(settings, paths, repository, e.commit, training, words)
