"""The number: val_bpb, measured from logits alone.

Agents may read this file and never change it; train.py gets `evaluate` through prepare.py. The model sees
input tokens and nothing else; the loss is computed here, twice, by means of its own. What this
stops, and what only a process of its own would, is told in docs/verdicts.md.
"""

from __future__ import annotations

import hashlib
import json
import math
import random
from pathlib import Path
from statistics import fmean
from types import MethodDescriptorType
from typing import TYPE_CHECKING, Any, NamedTuple

from clock import SESSION, Cheating, Clock, genuine

if TYPE_CHECKING:
    import torch

    from prepare import Data

SEALED = ("tokenizer.json", "token_bytes.npy", "val.npy", "hidden.npy")
"""Files that the evaluation rests on."""
PROBES = 2
"""Batches that only check the model."""
SEGMENT = 8
"""Tokens of each piece of text that a spliced row is put together from."""
FORESEEN = 0.7
"""Share of the tokens' entropy below which nobody's mean loss on unforeseeable tokens can be by luck."""
SAMPLES = 16
"""Losses of each batch that are computed a second time."""


class Measured(NamedTuple):
    """Bits per byte on the validation and on the hidden text, and which data that was."""

    val_bpb: float
    hidden_bpb: float
    data: str


def evaluate(model: torch.nn.Module, data: Data, clock: Clock) -> float:
    """val_bpb: bits per byte on the fixed validation tokens, lower is better. Call it once, after training.

    The model gets input tokens (rows, tokens) alone and must return logits (rows, tokens, vocabulary).
    Raises `Cheating` for a model whose number would mean nothing. With AUTORESEARCH_RESULT set, the number
    also goes to that file, with what else the engine wants to know.
    """
    SESSION.close()
    measured = measure(model, data.folder)
    SESSION.hand_over(*measured)
    return measured.val_bpb


def measure(model: torch.nn.Module, folder: Path) -> Measured:
    """Both numbers of a model, on the data in `folder`. Raises `Cheating`."""
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
    bpb = {split: nats[split] / math.log(2) / held_out.bytes(split) for split in nats}
    return Measured(bpb["val"], bpb["hidden"], held_out.identity)


def identity(folder: Path) -> str:
    """A name for everything that decides a val_bpb of a given model: 16 hex digits."""
    meta = json.loads((folder / "meta.json").read_text())
    meta.pop("data", None)
    digest = hashlib.sha256(json.dumps(meta, sort_keys=True).encode())
    for name in SEALED:
        digest.update(hashlib.sha256((folder / name).read_bytes()).digest())
    return digest.hexdigest()[:16]


class HeldOut:
    """The text that no training may see, read here and nowhere else."""

    def __init__(self, folder: Path) -> None:
        import numpy as np

        self.identity = identity(folder)
        meta = json.loads((folder / "meta.json").read_text())
        self.bos, self.sequence = int(meta["bos"]), int(meta["sequence"])
        self.token_bytes = np.load(folder / "token_bytes.npy")
        self._streams = {s: np.load(folder / f"{s}.npy").astype(np.int64) for s in ("val", "hidden")}

    def count(self, split: str) -> int:
        """Rows of a split; what does not fill a row is left out."""
        return (len(self._streams[split]) - 1) // self.sequence

    def bytes(self, split: str) -> float:
        """Raw bytes of a split's targets."""
        return float(self.token_bytes[self._streams[split][: self.count(split) * self.sequence]].sum())

    def entropy(self) -> float:
        """Nats of a token drawn from all of the text: no model does better on what it cannot foresee."""
        import numpy as np

        counts = np.bincount(np.concatenate(list(self._streams.values())))
        shares = counts[counts > 0] / counts.sum()
        return float(-(shares * np.log(shares)).sum())

    def row(self, split: str, index: int) -> Any:
        return self._streams[split][index * self.sequence : (index + 1) * self.sequence]

    def tensors(self, rows: list[Any], device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
        """Inputs and targets: each row begins with BOS, its targets are its tokens."""
        import numpy as np
        import torch

        targets = torch.from_numpy(np.stack(rows))
        inputs = torch.roll(targets, 1, dims=1)
        inputs[:, 0] = self.bos
        return inputs.to(device), targets.to(device)


class Probe(NamedTuple):
    """A row shown once more: whole, or up to `cut` and then pieces of text from anywhere. Up to there its
    logits must be the same, and where a piece begins, at `starts`, no model can foresee the token."""

    split: str
    at: int
    cut: int
    tokens: Any
    starts: list[int]


class _Pass:
    """One pass over both splits, in secret order, with probes among the batches.

    A probe looks like any other batch. Its rows stand among other neighbours than in their own batch, and
    before or after it: so it also shows when a row depends on the rest of its batch or on earlier calls.
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
        """Nats of each split. Raises `Cheating`."""
        sums: dict[str, list[float]] = {"val": [], "hidden": []}
        seen: list[tuple[Probe, torch.Tensor]] = []
        jobs: list[list[tuple[str, int]] | list[Probe]] = [*self._batches, *self._probes[1:]]
        self._secret.shuffle(jobs)
        # One probe comes early: most of its rows are then asked about before their own batch is.
        jobs.insert(self._secret.randrange(len(jobs) // 4 + 1), self._probes[0])
        for job in jobs:
            if isinstance(job[0], Probe):
                seen += self._probe([p for p in job if isinstance(p, Probe)])
            else:
                keys = [(row[0], row[1]) for row in job]
                sums[keys[0][0]].append(self._batch(keys))
        self._compare(seen)
        if fmean(self._surprises) < FORESEEN * self._held_out.entropy():
            raise Cheating("not causal: it foresees tokens that nothing before them tells of")
        return {split: math.fsum(parts) for split, parts in sums.items()}

    def _batch(self, keys: list[tuple[str, int]]) -> float:
        """Summed loss of these rows."""
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
        import torch

        inputs, _ = self._held_out.tensors([p.tokens for p in probes], self._device)
        logits = self._logits(inputs)
        for i, probe in enumerate(probes):
            for start in probe.starts:
                loss = -torch.log_softmax(logits[i, start], 0)[int(probe.tokens[start])]
                self._surprises.append(float(loss))
        return [(p, logits[i, : p.cut].clone()) for i, p in enumerate(probes)]

    def _compute_again(self, logits: torch.Tensor, targets: torch.Tensor, losses: torch.Tensor) -> None:
        """A secret sample of the losses in float64, without torch: they must agree."""
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
        import torch

        given = inputs.clone()
        logits = self._model(given)
        shape = (*inputs.shape, self._vocabulary)
        if type(logits) is not torch.Tensor or logits.shape != shape or not logits.is_floating_point():
            raise Cheating(f"the model must return logits of shape {shape} for input tokens alone")
        return logits.float()

    def _choose(self, count: int) -> list[Probe]:
        """Rows of anywhere: half of them spliced, half of them whole."""
        length, probes = self._held_out.sequence, list[Probe]()
        for split, at in self._secret.sample(self._rows, min(count, len(self._rows))):
            tokens = self._held_out.row(split, at).copy()
            if len(probes) % 2:
                probes.append(Probe(split, at, length, tokens, []))
                continue
            cut = self._secret.randrange(1, length - 1 if probes else length // 4)
            # Inputs are the tokens shifted by one: from input `cut` on they come from elsewhere.
            starts = list(range(cut - 1, length, SEGMENT))
            for start in starts:
                other = self._held_out.row(*self._secret.choice(self._rows))
                source = self._secret.randrange(length - SEGMENT + 1)
                piece = other[source : source + min(SEGMENT, length - start)]
                tokens[start : start + len(piece)] = piece
            probes.append(Probe(split, at, cut, tokens, starts))
        return probes

    def _compare(self, seen: list[tuple[Probe, torch.Tensor]]) -> None:
        """What a row got in a probe, up to the cut, against what it got in its own batch."""
        for probe, shown in sorted(seen, key=lambda pair: -pair[0].cut):  # whole rows first
            real = self._probed[probe.split, probe.at]
            moved = float((real[: probe.cut] - shown).abs().max())
            if not moved <= self._tolerance * max(1.0, float(real.abs().max())):
                if probe.cut == self._held_out.sequence:
                    raise Cheating("not independent: a row's logits depend on other rows or earlier calls")
                raise Cheating("not causal: logits change when later tokens do")


def _check_tools() -> None:
    """What the arithmetic rests on is what it seems to be. Raises `Cheating`."""
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
    """Changes when any parameter or buffer does: each one's bits, summed as whole numbers."""
    import torch

    prints = []
    for tensor in [*model.parameters(), *model.buffers()]:
        raw = tensor.detach().contiguous().flatten().view(torch.uint8)
        words = raw[: len(raw) // 8 * 8].view(torch.int64)
        prints.append(int(words.sum()) + int(raw[len(words) * 8 :].sum()))
    return prints
