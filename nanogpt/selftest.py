"""Tries on this machine, in under a minute, all that a training needs: `python nanogpt/selftest.py`.

It needs no data and no network. Each line says what was tried, whether it works, and how long that took:

    ok     12.3 s  step: 128 of 128 rows at once, then 312 ms a step ...

`warn` is something that makes training slower or less sure, `fail` something without which there is none. The
engine runs this behind the fence before the first training on a new machine.
Agents may read this file but never change it.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Literal

import attention
import machine
import numpy as np
import torch
from tokens import random_tokens, write
from torch import Tensor
from torch.nn import functional as F

import prepare

Finding = tuple[Literal["ok", "warn", "fail"], str]
STEPS = 5
"""Optimizer steps: those that the clock leaves out, and two more."""
ROWS = 64
"""Rows of random text to train on."""
FALLBACKS = ("out of memory", "compilation failed")
"""How a training's line begins that says it goes on in another way."""
OVER = 1.1
"""How many times the estimated memory may be used."""


def main() -> int:
    """Try everything and print a line each; returns 1 if something fails."""
    found = [show("device", device)]
    if found[0] == "fail":
        return 1
    with contextlib.redirect_stdout(io.StringIO()):
        import train

    for name in dict.fromkeys((train.ATTENTION, "sdpa")):
        found.append(show(f"attention {name}", partial(tried, name, train.DEVICE)))
    if train.DEVICE.type == "cuda":  # elsewhere nothing is compiled
        found.append(show("compiler", compiler))
        found.append(show("compiled code", partial(compiled, train.DEVICE)))
    with tempfile.TemporaryDirectory() as folder:
        data = random_data(Path(folder), train.LARGE)
        with train.DEVICE:
            model = train.GPT(data.vocab_size, data.sequence, data.bos)
        found.append(show("step", partial(step, train, model, data)))
        found.append(show("evaluation", partial(evaluation, train, model, data)))
    return int("fail" in found)


def show(name: str, check: Callable[[], Finding]) -> str:
    """Do one check and print its line; returns its verdict."""
    started = time.monotonic()
    try:
        verdict, text = check()
    except Exception as error:  # whatever a driver, a compiler or the model's own code raises
        verdict, text = "fail", said(error)
    print(f"{verdict:4} {time.monotonic() - started:7.1f} s  {name}: {text}", flush=True)
    return verdict


def said(error: Exception) -> str:
    """An exception in one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"


# --- what is tried ---


def device() -> Finding:
    """The driver, and torch's build of CUDA; or that there is no GPU."""
    found = machine.facts()
    if found["problem"]:
        return "fail", found["problem"]
    if not found["gpu"]:
        return "ok", f"no GPU: {torch.get_num_threads()} threads of the CPU, torch {found['torch']}"
    driver = found["driver"] or "unknown"
    return "ok", f"{found['gpu']}, {found['memory_gb']:.1f} GB, driver {driver}, torch {found['torch']}"


def compiler() -> Finding:
    """What Triton needs to build its module."""
    missing = machine.no_compiler()
    return ("warn", missing) if missing else ("ok", "a C compiler and Python's headers are there")


def tried(name: str, where: torch.device) -> Finding:
    """One kind of attention, forward and backward, over a window and over all, against fp32 and a mask."""
    error = attention.error_of(name, where)
    text = f"forward and backward, window and full, within {error:.1e} of fp32"
    return ("ok" if error < attention.CLOSE else "fail"), text


def gradients(f: Callable[..., Tensor], inputs: tuple[Tensor, ...], upstream: Tensor) -> list[Tensor]:
    """Return the result of `f` and its gradients by the inputs."""
    leaves = [x.detach().clone().requires_grad_() for x in inputs]
    result = f(*leaves)
    return [result, *torch.autograd.grad(result, leaves, upstream.to(result.dtype))]


def relative(a: Tensor, b: Tensor) -> float:
    """Return how far `a` is from `b`, as a share of the size of `b`."""
    a, b = a.detach().float(), b.detach()
    return float((a - b).norm() / b.norm())


def compiled(where: torch.device) -> Finding:
    """A toy step, compiled, against the same without a compiler."""
    torch.manual_seed(0)
    x, w = torch.randn(64, 64, device=where), torch.randn(64, 64, device=where)
    targets = torch.arange(64, device=where)

    def toy(x: Tensor, w: Tensor) -> Tensor:
        return F.cross_entropy(F.rms_norm(F.relu(x @ w).square(), (64,)) @ w.T, targets)

    one = torch.ones((), device=where)
    plain = gradients(toy, (x, w), one)
    try:
        fast = gradients(torch.compile(toy, dynamic=False), (x, w), one)
    except Exception as error:
        return "warn", f"nothing can be compiled, training is slower: {said(error)}"
    worst = max(relative(a, b) for a, b in zip(fast, plain, strict=True))
    return ("ok" if worst < 0.01 else "fail"), f"a toy step is within {worst:.1e} of the uncompiled one"


def step(train: Any, model: torch.nn.Module, data: prepare.Data) -> Finding:
    """Some whole steps of the real size: rows, speed, memory against the estimate, what step 2 compiles."""
    ticks: list[tuple[float, int]] = []

    class Watch(train.Clock):  # type: ignore[misc]
        def tick(self) -> None:
            if train.DEVICE.type == "cuda":
                torch.cuda.synchronize()
            super().tick()
            ticks.append((time.monotonic(), graphs()))

    os.environ["AUTORESEARCH_MAX_STEPS"] = str(STEPS)
    cuda, plain, train.Clock = train.DEVICE.type == "cuda", train.Clock, Watch
    started = time.monotonic()
    try:
        trainer = train.Trainer(model, data, 1337)
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            trainer.train()
    finally:
        train.Clock = plain
    seconds = min(after - before for (before, _), (after, _) in itertools.pairwise(ticks))
    text = f"{trainer.rows} of {train.ROWS} rows at once, first step {ticks[0][0] - started:.1f} s, then "
    text += f"{1000 * seconds:.0f} ms ({train.ROWS * data.sequence / seconds:,.0f} tokens/s)"
    notes = [line for line in printed.getvalue().splitlines() if line.startswith(FALLBACKS)]
    if ticks[1][1] > ticks[0][1]:
        notes.append(f"step 2 compiled {ticks[1][1] - ticks[0][1]} more graphs")
    if cuda:
        used, expected = torch.cuda.max_memory_allocated(), train.memory_bytes(model, trainer.rows)
        text += f", {used / 2**30:.1f} GB of memory, {expected / 2**30:.1f} estimated"
        if used > OVER * expected:
            notes.append("more memory than estimated")
    return ("warn" if notes else "ok"), "; ".join([text, *notes])


def graphs() -> int:
    """Return how many graphs torch.compile has compiled in this process."""
    return int(torch._dynamo.utils.counters["stats"]["unique_graphs"])


def evaluation(train: Any, model: Any, data: prepare.Data) -> Finding:
    """One batch as the judge asks for it, as many rows as fit."""
    import answers
    import protocol

    if getattr(model, "memory", None) is not None:
        model.memory.merge_folds()
    model.eval()
    with torch.inference_mode():
        answers.fitting(model, data.sequence, data.vocab_size, train.DEVICE, protocol.PROOFS)
        rows = answers.fitting(model, data.sequence, data.vocab_size, train.DEVICE)
        tried = torch.zeros(rows, data.sequence + 1, dtype=torch.long, device=train.DEVICE)
        started = time.monotonic()
        finite = bool(answers.claims(model, tried, data.vocab_size).isfinite().all())
    text = f"{rows} rows at once, {rows / (time.monotonic() - started):.0f} rows a second"
    return ("ok", text) if finite else ("fail", "the model's log-probabilities are not finite")


# --- data ---


def random_data(folder: Path, large: bool) -> prepare.Data:
    """Write random text of the shape that this machine trains on, and return it as prepared data."""
    vocab_size, sequence = (8192, 2048) if large else (4096, 256)
    with contextlib.suppress(OSError, ValueError, KeyError):
        ready = prepare.cache_folder() / f"{prepare.chosen()}-v{prepare.FORMAT}" / "meta.json"
        known = json.loads(ready.read_text())
        vocab_size, sequence = known["vocab_size"], known["sequence"]
    meta: dict[str, Any] = {"vocab_size": vocab_size, "sequence": sequence, "packed": False, "bos": 0}
    for split in ("train", "tune"):
        meta[split], _ = write(folder / f"{split}.npy", [random_tokens(ROWS * sequence + 1, vocab_size)], 0)
    (folder / "meta.json").write_text(json.dumps({**meta, "data": "random"}))
    np.save(folder / "token_bytes.npy", np.ones(vocab_size, np.int32))
    return prepare.Data(folder)


if __name__ == "__main__":
    sys.exit(main())
