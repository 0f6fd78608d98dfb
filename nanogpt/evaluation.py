"""Measures val_bpb, the bits per byte of a model on the validation text, and checks that the model is honest.

Afterwards it writes the model to disk, where the process that started the training asks for it.

Agents may read this file but never change it; train.py imports `evaluate` through prepare.py. The model gets
input tokens and nothing else, and the loss is computed here from its logits. The checks run in the process
that trained, next to code that an agent wrote: docs/verdicts.md says what they stop and what they cannot.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import random
import shutil
from pathlib import Path
from statistics import fmean
from types import MethodDescriptorType
from typing import TYPE_CHECKING, Any, NamedTuple

from clock import SESSION, Cheating, Clock, genuine

if TYPE_CHECKING:
    import torch

    from prepare import Data

IDENTITY_FILES = ("token_bytes.npy", "val.npy", "hidden.npy")
"""Files of held-out data that decide a model's val_bpb. meta.json has the hash of every other one."""
PROBES = 2
"""Batches whose only purpose is to check the model (see `_Pass`)."""
SEGMENT = 8
"""Tokens of each piece of text that is spliced into a row of a probe."""
FORESEEN = 0.7
"""An honest model's mean loss on tokens that cannot be predicted is about the entropy of single tokens, or
more. Below this share of the entropy, which leaves room for chance, the model must be looking ahead."""
MODEL_DATA = ("tokenizer.json", "meta.json")
"""Files of prepared data that are kept beside a model: without them nobody could give it text."""
SAMPLES = 16
"""Losses of each batch that are computed a second time, with numpy."""


class Measured(NamedTuple):
    """What one evaluation found: bits per byte on the validation text and on the hidden text."""

    val_bpb: float
    hidden_bpb: float
    data: str
    """Identity of the data (see `identity`)."""


def evaluate(model: torch.nn.Module, data: Data, clock: Clock) -> float:
    """Return val_bpb, the bits per byte on the validation text: lower is better. Call this once, at the end.

    The model is called with input tokens (B, T) and must return logits (B, T, V). Raises `Cheating` if the
    model or the tools of the measurement are not what they must be. The result is also written to the file
    that AUTORESEARCH_RESULT names, if it is set (see `Session.hand_over`). Then the model is written to the
    file that AUTORESEARCH_MODEL_FILE names, if it is set. `clock` is not used: the time that counts is the
    session's, and it ends before the measurement.
    """
    SESSION.close()
    measured = measure(model, data.folder)
    SESSION.hand_over(*measured)
    if path := os.environ.get("AUTORESEARCH_MODEL_FILE"):
        save(model, data.folder, Path(path))
        SESSION.hand_over(*measured)  # again: now its times include the time for saving
    return measured.val_bpb


def save(model: torch.nn.Module, folder: Path, path: Path) -> bool:
    """Write a model to `path`, whole or not at all, and beside it what turns text into its tokens.

    `folder` holds the prepared data. sample.py reads the file back. A model that cannot be saved (the disk is
    full, or it holds a lambda) is no failure of the training: then one line says why, and this returns False.
    """
    import torch

    whole = getattr(model, "_orig_mod", model)  # what torch.compile wraps; nobody needs its compiled code
    draft = path.with_name(f"{path.name}.draft")
    try:
        torch.save(whole, draft)
        for name in MODEL_DATA:
            shutil.copyfile(folder / name, path.with_name(name))
        draft.replace(path)
    except Exception as error:  # the model's own code may raise anything while it is pickled
        with contextlib.suppress(OSError):
            draft.unlink(missing_ok=True)
        reason = (str(error).splitlines() or [""])[0]
        print(f"model not saved: {type(error).__name__}: {reason}", flush=True)
        return False
    return True


def measure(model: torch.nn.Module, folder: Path) -> Measured:
    """Measure a model on both held-out texts in `folder`. Raises `Cheating` as `evaluate` does."""
    import torch

    _check_tools()
    if any(module.training for module in model.modules()):
        raise Cheating("model in training mode: call model.eval() before evaluate")
    held_out = HeldOut(folder)
    device = next(model.parameters()).device
    before = _fingerprint(model)
    with torch.inference_mode():
        nats = _Pass(model, held_out, device).run()
    if _fingerprint(model) != before:
        raise Cheating("the model's parameters changed during evaluation")
    # Bits per byte: the summed loss in nats, divided by ln 2 and by the bytes of the text that was predicted.
    bpb = {split: nats[split] / math.log(2) / held_out.bytes(split) for split in nats}
    return Measured(bpb["val"], bpb["hidden"], held_out.identity)


def identity(folder: Path) -> str:
    """Return 16 hex digits that stand for these data: tokenizer, shape, and the tokens of every split.

    `folder` is the one with the held-out text. Two val_bpb can be compared only if the data had the same
    identity.
    """
    meta = json.loads((folder / "meta.json").read_text())
    meta.pop("data", None)
    digest = hashlib.sha256(json.dumps(meta, sort_keys=True).encode())
    for name in IDENTITY_FILES:
        digest.update(hashlib.sha256((folder / name).read_bytes()).digest())
    return digest.hexdigest()[:16]


class HeldOut:
    """The rows of the splits that no training may see, `val` and `hidden`. Only the evaluation reads them."""

    def __init__(self, folder: Path) -> None:
        import numpy as np

        beside = folder.parent / "held-out" / folder.name
        folder = beside if beside.exists() else folder
        self.identity = identity(folder)
        meta = json.loads((folder / "meta.json").read_text())
        self.bos, self.sequence = int(meta["bos"]), int(meta["sequence"])
        self.token_bytes = np.load(folder / "token_bytes.npy")
        self._streams = {s: np.load(folder / f"{s}.npy").astype(np.int64) for s in ("val", "hidden")}

    def count(self, split: str) -> int:
        """Return the number of rows of a split. A rest that does not fill a row is left out."""
        return (len(self._streams[split]) - 1) // self.sequence

    def bytes(self, split: str) -> float:
        """Return the size in bytes of the text in a split's rows."""
        return float(self.token_bytes[self._streams[split][: self.count(split) * self.sequence]].sum())

    def entropy(self) -> float:
        """Return the entropy, in nats, of a token drawn at random from both splits.

        This is the least mean loss with which anybody can predict such a token without seeing it.
        """
        import numpy as np

        counts = np.bincount(np.concatenate(list(self._streams.values())))
        shares = counts[counts > 0] / counts.sum()
        return float(-(shares * np.log(shares)).sum())

    def row(self, split: str, index: int) -> Any:
        """Return the tokens of a row, (T,)."""
        return self._streams[split][index * self.sequence : (index + 1) * self.sequence]

    def tensors(self, rows: list[Any], device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
        """Return inputs and targets, (B, T): a row is the target, and the input is the same after a BOS."""
        import numpy as np
        import torch

        targets = torch.from_numpy(np.stack(rows))
        inputs = torch.roll(targets, 1, dims=1)
        inputs[:, 0] = self.bos
        return inputs.to(device), targets.to(device)


class Probe(NamedTuple):
    """A row that the model is asked about once more, to check its answers.

    It is shown whole, or its end is replaced by pieces of text from anywhere. Before the cut the logits must
    be the same as in the row's own batch. An honest model cannot predict the first token of a piece.
    """

    split: str
    at: int
    """The row's index in its split."""
    cut: int
    """Inputs before this place are the row's own; T for a whole row."""
    tokens: Any
    """The tokens that are shown, (T,)."""
    starts: list[int]
    """Where in `tokens` each piece begins."""


class _Pass:
    """One pass of a model over both splits, in a secret order, with probes among the batches.

    A probe is a batch that looks like any other, but its rows occur in other batches too. The model must give
    a row the same logits both times. If it looks ahead, the replaced end of a row changes the logits before
    it. If a row depends on the rest of its batch, or on earlier calls, its other neighbours change them.
    """

    def __init__(self, model: torch.nn.Module, held_out: HeldOut, device: torch.device) -> None:
        self._model, self._held_out, self._device = model, held_out, device
        self._secret = random.SystemRandom()
        self._vocabulary = len(held_out.token_bytes)
        # On a CPU few rows at once are fastest: their logits stay in its cache.
        rows = 4 if device.type == "cpu" else 32
        self._tolerance = 1e-4 if device.type == "cpu" else 2e-2
        self._batches: list[list[tuple[str, int]]] = [
            [(split, i) for i in range(start, min(start + rows, held_out.count(split)))]
            for split in ("val", "hidden")
            for start in range(0, held_out.count(split), rows)
        ]
        self._rows = [row for batch in self._batches for row in batch]
        self._probes = [self._choose(rows) for _ in range(PROBES)]
        self._wanted = {(p.split, p.at) for probes in self._probes for p in probes}
        self._probed: dict[tuple[str, int], torch.Tensor] = {}
        self._surprises: list[float] = []

    def run(self) -> dict[str, float]:
        """Return the summed loss of each split in nats. Raises `Cheating`."""
        sums: dict[str, list[float]] = {"val": [], "hidden": []}
        seen: list[tuple[Probe, torch.Tensor]] = []
        jobs: list[list[tuple[str, int]] | list[Probe]] = [*self._batches, *self._probes[1:]]
        self._secret.shuffle(jobs)
        # One probe comes early, so that the model meets most of its rows in the probe first. A model that
        # looks ahead and repeats its earlier answers then repeats those about replaced text.
        jobs.insert(self._secret.randrange(len(jobs) // 4 + 1), self._probes[0])
        for job in jobs:
            if isinstance(job[0], Probe):
                seen += self._probe([p for p in job if isinstance(p, Probe)])
            else:
                keys = [(row[0], row[1]) for row in job]
                sums[keys[0][0]].append(self._batch(keys))
        self._compare(seen)
        if fmean(self._surprises) < FORESEEN * self._held_out.entropy():
            raise Cheating("not causal: it foresees tokens that cannot be predicted from those before them")
        return {split: math.fsum(parts) for split, parts in sums.items()}

    def _batch(self, keys: list[tuple[str, int]]) -> float:
        """Return the summed loss of these rows, in nats; tokens without bytes (BOS) do not count."""
        import torch

        rows = [self._held_out.row(*key) for key in keys]
        inputs, targets = self._held_out.tensors(rows, self._device)
        logits = self._logits(inputs)
        losses = -torch.log_softmax(logits, 2).gather(2, targets[:, :, None])[:, :, 0]
        counted = torch.from_numpy(self._held_out.token_bytes).to(self._device)[targets] > 0
        total = float((losses * counted).sum(dtype=torch.float64))
        if not math.isfinite(total):
            raise Cheating("logits are not finite")
        self._compute_again(logits.flatten(0, 1), targets.flatten(), losses.flatten())
        for i, key in enumerate(keys):
            if key in self._wanted:
                self._probed[key] = logits[i].clone()
        return total

    def _probe(self, probes: list[Probe]) -> list[tuple[Probe, torch.Tensor]]:
        """Ask the model about a batch of probes; return each with its logits before the cut, (cut, V).

        Notes the losses of the tokens that cannot be predicted.
        """
        import torch

        inputs, _ = self._held_out.tensors([p.tokens for p in probes], self._device)
        logits = self._logits(inputs)
        for i, probe in enumerate(probes):
            for start in probe.starts:
                loss = -torch.log_softmax(logits[i, start], 0)[int(probe.tokens[start])]
                self._surprises.append(float(loss))
        return [(p, logits[i, : p.cut].clone()) for i, p in enumerate(probes)]

    def _compute_again(self, logits: torch.Tensor, targets: torch.Tensor, losses: torch.Tensor) -> None:
        """Compute a secret sample of the losses again with numpy in float64. Raises `Cheating` if one is off.

        logits (N, V), targets (N,), losses (N,).
        """
        import numpy as np
        import torch

        sample = torch.tensor([self._secret.randrange(len(targets)) for _ in range(SAMPLES)])
        picked = sample.to(self._device)
        table = logits[picked].cpu().numpy().astype(np.float64)
        top = table.max(1, keepdims=True)
        exact = np.log(np.exp(table - top).sum(1)) + top[:, 0]
        exact -= table[np.arange(SAMPLES), targets[picked].cpu().numpy()]
        if np.abs(exact - losses[picked].cpu().numpy()).max() > 1e-3:
            raise Cheating("the loss does not follow from the logits: torch was changed")

    def _logits(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return the model's logits (B, T, V) in float32. Raises `Cheating` if it gives anything else."""
        import torch

        given = inputs.clone()
        logits = self._model(given)
        shape = (*inputs.shape, self._vocabulary)
        if type(logits) is not torch.Tensor or logits.shape != shape or not logits.is_floating_point():
            raise Cheating(f"the model must return logits of shape {shape} for input tokens alone")
        return logits.float()

    def _choose(self, count: int) -> list[Probe]:
        """Choose the rows of a probe at random from both splits; every other one is spliced."""
        length, probes = self._held_out.sequence, list[Probe]()
        for split, at in self._secret.sample(self._rows, min(count, len(self._rows))):
            tokens = self._held_out.row(split, at).copy()
            if len(probes) % 2:
                probes.append(Probe(split, at, length, tokens, []))
                continue
            # The first one is cut early, so that most of its tokens are replaced.
            cut = self._secret.randrange(1, length - 1 if probes else length // 4)
            # Inputs are the tokens shifted by one: new tokens from `cut` - 1 on are new inputs from `cut` on.
            starts = list(range(cut - 1, length, SEGMENT))
            for start in starts:
                other = self._held_out.row(*self._secret.choice(self._rows))
                source = self._secret.randrange(length - SEGMENT + 1)
                piece = other[source : source + min(SEGMENT, length - start)]
                tokens[start : start + len(piece)] = piece
            probes.append(Probe(split, at, cut, tokens, starts))
        return probes

    def _compare(self, seen: list[tuple[Probe, torch.Tensor]]) -> None:
        """Compare the logits of each probe before its cut with those of its own batch. Raises `Cheating`."""
        # Whole rows come first: where one differs, the reason is not that the model looks ahead.
        for probe, shown in sorted(seen, key=lambda pair: -pair[0].cut):
            real = self._probed[probe.split, probe.at]
            moved = float((real[: probe.cut] - shown).abs().max())
            if not moved <= self._tolerance * max(1.0, float(real.abs().max())):
                if probe.cut == self._held_out.sequence:
                    raise Cheating("not independent: a row's logits depend on other rows or earlier calls")
                raise Cheating("not causal: logits change when later tokens do")


def _check_tools() -> None:
    """Raise `Cheating` if a function that is used here was replaced, or if a mode changes what torch does."""
    import numpy as np
    import torch

    for module, names in (
        (math, ("log", "fsum", "isfinite")),
        (torch, ("log_softmax", "from_numpy", "roll")),
    ):
        for name in names:
            genuine(getattr(module, name), name)
    for name in ("gather", "sum", "float", "abs", "amax", "clone", "flatten", "numpy"):
        if type(getattr(torch.Tensor, name)) is not MethodDescriptorType:
            raise Cheating(f"torch.Tensor.{name} was replaced")
    for name in ("log", "exp"):
        if type(getattr(np, name)) is not np.ufunc or getattr(np, name).__name__ != name:
            raise Cheating(f"numpy.{name} was replaced")
    if torch._C._len_torch_function_stack() or torch._C._len_torch_dispatch_stack():
        raise Cheating("a mode that changes what torch computes is active")


def _fingerprint(model: torch.nn.Module) -> list[int]:
    """Return a checksum of each parameter and buffer: its bytes, summed as 64-bit integers."""
    import torch

    prints = []
    for tensor in [*model.parameters(), *model.buffers()]:
        raw = tensor.detach().contiguous().flatten().view(torch.uint8)
        words = raw[: len(raw) // 8 * 8].view(torch.int64)
        prints.append(int(words.sum()) + int(raw[len(words) * 8 :].sum()))
    return prints
