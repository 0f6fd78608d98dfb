"""What makes numbers comparable: data, tokenizer, validation split, budget clock and evaluation.

Agents may read this file and never change it. Run it to prepare the data ahead of the first training:

    python nanogpt/prepare.py

The corpus is the source text of the installed, pinned `sympy` (BSD licence): 786 non-test files, 16 MB of
Python and English that are byte-identical on every machine and need no download. Files are split by the
hash of their path: 10% validation, 5% for tuning, the rest training. Everything lands, whole or not at
all, in `$AUTORESEARCH_CACHE`, else in the user's cache folder.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import math
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from importlib import util
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    import torch

VOCAB_SIZE = 4096
SEQUENCE = 256
"""Tokens a row; evaluation sees as much context as training."""
VAL_BYTES = 256 * 1024
"""Validation text: about 80,000 tokens, 3 s on two cores. The same for every budget, so that all
val_bpb of one data identity can be compared."""
SPLITS = ("train", "val", "tune")
BOS = "<|bos|>"
PATTERN = (
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,2}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+"
)
"""GPT-4's pre-tokenisation, with numbers in groups of at most two digits (a small vocabulary)."""
FORMAT = 1
SLACK_STEPS, SLACK_S = 3, 60.0
"""Warm-up steps, and seconds, that the budget clock leaves out at most."""


class BadData(Exception):
    """The data cannot be prepared or trusted; one sentence that says what to do."""


class Cheating(Exception):
    """The model is not what it must be for its val_bpb to mean anything; one sentence."""


# --- preparing, once ---


def cache_folder() -> Path:
    """Where prepared data belongs on this machine."""
    if given := os.environ.get("AUTORESEARCH_CACHE"):
        return Path(given).expanduser()
    import platformdirs

    return Path(platformdirs.user_cache_dir("autoresearch-tui"))


def prepare(say: Callable[[str], None] = print) -> Path:
    """The folder of prepared data, made now if need be. Only one process makes it, the others wait.

    Raises `BadData`.
    """
    folder = cache_folder() / f"sympy-{VOCAB_SIZE}-v{FORMAT}"
    if (folder / "meta.json").exists():
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with (folder.parent / f"{folder.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not (folder / "meta.json").exists():
                _build(folder, say)
    except OSError as error:
        raise BadData(
            f"cannot write {error.filename or folder}: {error.strerror}; set AUTORESEARCH_CACHE"
        ) from error
    return folder


def _build(folder: Path, say: Callable[[str], None]) -> None:
    """Read, split, train the tokenizer, encode; the folder appears when all of it is on disk."""
    import numpy as np

    started = time.time()
    documents = split_corpus()
    say(f"data: sympy, {sum(len(d) for split in documents.values() for d in split):,} characters")
    tokenizer = _train_tokenizer(documents["train"])
    say(f"data: tokenizer of {VOCAB_SIZE} tokens trained ({time.time() - started:.1f} s)")
    draft = folder.with_name(f"{folder.name}.{os.getpid()}.draft")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    try:
        tokenizer.save(str(draft / "tokenizer.json"))
        meta: dict[str, Any] = {"format": FORMAT, "vocab_size": VOCAB_SIZE, "bos": tokenizer.token_to_id(BOS)}
        identity = hashlib.sha256((draft / "tokenizer.json").read_bytes())
        for split in SPLITS:
            tokens = _encode(tokenizer, documents[split], meta["bos"])
            np.save(draft / f"{split}.npy", tokens, allow_pickle=False)
            identity.update(split.encode() + tokens.tobytes())
            meta[split] = len(tokens)
            say(f"data: {split} {len(tokens):,} tokens ({time.time() - started:.1f} s)")
        np.save(draft / "token_bytes.npy", _token_bytes(tokenizer), allow_pickle=False)
        meta["data"] = identity.hexdigest()[:16]
        (draft / "meta.json").write_text(json.dumps(meta))
        for path in draft.iterdir():
            _sync(path)
        shutil.rmtree(folder, ignore_errors=True)
        draft.rename(folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    say(f"data: ready, identity {meta['data']}")


def split_corpus() -> dict[str, list[str]]:
    """Documents of each split, by the hash of a file's path; a text that was seen already is left out."""
    spec = util.find_spec("sympy")
    if spec is None or spec.origin is None:
        raise BadData("sympy is not installed: `pip install sympy==1.14.0`")
    root = Path(spec.origin).parent
    documents: dict[str, list[str]] = {split: [] for split in SPLITS}
    seen: set[str] = set()
    validation = 0
    for path in sorted(root.rglob("*.py"), key=lambda p: p.relative_to(root).as_posix()):
        name = path.relative_to(root).as_posix()
        text = path.read_text("utf-8")
        if "/tests/" in f"/{name}" or not text.strip() or text in seen:
            continue
        seen.add(text)
        share = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4]) / 2**32
        split = "val" if share < 0.10 else "tune" if share < 0.15 else "train"
        if split == "val":
            text = text.encode()[: max(0, VAL_BYTES - validation)].decode("utf-8", "ignore")
            validation += len(text.encode())
        if text:
            documents[split].append(text)
    return documents


def _train_tokenizer(documents: list[str]) -> Any:
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PATTERN), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE,
        special_tokens=[BOS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(documents, trainer)
    return tokenizer


def _encode(tokenizer: Any, documents: list[str], bos: int) -> np.ndarray[Any, np.dtype[np.uint16]]:
    """One stream: every document after a BOS."""
    import numpy as np

    pieces = []
    for encoding in tokenizer.encode_batch(documents, add_special_tokens=False):
        pieces += [np.array([bos], np.uint16), np.array(encoding.ids, np.uint16)]
    return np.concatenate(pieces)


def _token_bytes(tokenizer: Any) -> np.ndarray[Any, np.dtype[np.int32]]:
    """Raw bytes of each token: in a byte-level vocabulary every character of a token is one byte.

    Counting through a decoded string would count half a UTF-8 character as three bytes. BOS counts 0.
    """
    import numpy as np

    lengths = np.zeros(VOCAB_SIZE, np.int32)
    for token, index in tokenizer.get_vocab().items():
        lengths[index] = 0 if token == BOS else len(token)
    return lengths


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


# --- reading ---


class Batch(NamedTuple):
    """`inputs` and `targets`, each (rows, SEQUENCE) int64: targets are the inputs shifted by one."""

    inputs: torch.Tensor
    targets: torch.Tensor


class Data:
    """Prepared data: token streams as memory maps, and batches made from them."""

    def __init__(self, folder: Path) -> None:
        import numpy as np

        try:
            self.meta: dict[str, Any] = json.loads((folder / "meta.json").read_text())
            self.streams = {s: np.load(folder / f"{s}.npy", mmap_mode="r") for s in SPLITS}
            self.token_bytes = np.load(folder / "token_bytes.npy")
            whole = all(len(self.streams[s]) == self.meta[s] for s in SPLITS)
        except (OSError, ValueError, KeyError) as error:
            raise BadData(f"{folder} is damaged ({error}): delete it, it is made again") from error
        if not whole:
            raise BadData(f"{folder} is damaged (a file is too short): delete it, it is made again")
        self.identity: str = self.meta["data"]
        self.bos: int = self.meta["bos"]

    def batches(self, rows: int, seed: int, device: torch.device) -> Iterator[Batch]:
        """Training batches for ever, the same for the same seed. Every row starts with BOS."""
        import numpy as np

        stream = self.streams["train"]
        generator = np.random.default_rng(seed)
        while True:
            start = int(generator.integers(SEQUENCE))  # other cuts each epoch
            order = generator.permutation((len(stream) - start - 1) // SEQUENCE)
            for i in range(0, len(order) - rows + 1, rows):
                yield self._rows("train", start + order[i : i + rows] * SEQUENCE, device)

    def fixed(self, split: str, rows: int, device: torch.device) -> Iterator[Batch]:
        """All of a split in order, once."""
        import numpy as np

        starts = np.arange((len(self.streams[split]) - 1) // SEQUENCE) * SEQUENCE
        for i in range(0, len(starts), rows):
            yield self._rows(split, starts[i : i + rows], device)

    def _rows(self, split: str, starts: Any, device: torch.device) -> Batch:
        import numpy as np
        import torch

        stream = self.streams[split]
        table = np.stack([stream[s : s + SEQUENCE].astype(np.int64) for s in starts])
        targets = torch.from_numpy(table)
        inputs = torch.roll(targets, 1, dims=1)
        inputs[:, 0] = self.bos
        return Batch(inputs.to(device), targets.to(device))


def load() -> Data:
    """The data for training, prepared now if need be. Raises `BadData`."""
    return Data(prepare(lambda line: print(line, flush=True)))


# --- the budget ---


class Clock:
    """The training budget. Seconds of the wall, or of this process's CPU with AUTORESEARCH_CLOCK=cpu.

    `budget_s` comes from AUTORESEARCH_BUDGET_S. The first `SLACK_STEPS` steps (compilation, first touch of
    memory) are left out, but no more than `SLACK_S` seconds of them.
    """

    def __init__(self) -> None:
        self.budget_s = float(os.environ.get("AUTORESEARCH_BUDGET_S", "300"))
        self.max_steps = int(os.environ.get("AUTORESEARCH_MAX_STEPS", "0"))
        cpu = os.environ.get("AUTORESEARCH_CLOCK") == "cpu"
        self._now = time.process_time if cpu else time.monotonic
        self._start = self._now()
        self._excluded = 0.0
        self._last = self._start
        self.steps = 0

    def tick(self) -> None:
        """Call after every optimizer step."""
        self.steps += 1
        self._last = self._now()
        if self.steps <= SLACK_STEPS:
            self._excluded = min(self._last - self._start, SLACK_S)

    @property
    def elapsed_s(self) -> float:
        """Counted seconds up to the last step."""
        return max(0.0, self._last - self._start - self._excluded)

    @property
    def fraction(self) -> float:
        """Share of the budget that is used, 0 to 1: what schedules follow."""
        done = self.steps / self.max_steps if self.max_steps else self.elapsed_s / self.budget_s
        return min(1.0, done)

    @property
    def over(self) -> bool:
        return self.fraction >= 1.0 and self.steps > 0


# --- the number ---


def evaluate(model: torch.nn.Module, data: Data, clock: Clock, split: str = "val", rows: int = 16) -> float:
    """val_bpb: bits per byte on the fixed validation tokens, lower is better.

    The model gets input tokens alone and must return logits (rows, SEQUENCE, VOCAB_SIZE); the loss is
    computed here in float32. `nats / ln 2 / bytes`, with bytes counted from the raw bytes of the targets.
    Raises `Cheating` for a model whose number would mean nothing. With AUTORESEARCH_RESULT set, the number
    also goes to that file with the nonce of AUTORESEARCH_NONCE.
    """
    import torch

    if model.training:
        raise Cheating("model in training mode: call model.eval() before evaluate")
    device = next(model.parameters()).device
    before = _checksum(model)
    nats = total_bytes = 0.0
    token_bytes = torch.from_numpy(data.token_bytes).to(device)
    with torch.inference_mode():
        probe(model, next(data.fixed(split, 4, device)).inputs)
        for inputs, targets in data.fixed(split, rows, device):
            logits = _logits(model, inputs)
            loss = torch.nn.functional.cross_entropy(
                logits.flatten(0, 1), targets.flatten(), reduction="none"
            )
            counted = token_bytes[targets.flatten()]
            nats += float((loss * (counted > 0)).sum(dtype=torch.float64))
            total_bytes += float(counted.sum())
    if _checksum(model) != before:
        raise Cheating("the model's parameters changed during evaluation")
    bpb = nats / math.log(2) / total_bytes
    if not math.isfinite(bpb):
        raise Cheating("val_bpb is not finite")
    _hand_over(bpb, data, clock)
    return bpb


def probe(model: torch.nn.Module, inputs: torch.Tensor) -> None:
    """Check on a few rows that logits depend on nothing but earlier tokens of the same row.

    Rounding may differ a little with the shape of a product, so a change counts from a thousandth on.
    """
    import torch

    logits = _logits(model, inputs)
    cut = int(torch.randint(1, inputs.shape[1] - 1, ()).item())
    other = inputs.clone()
    other[:, cut:] = (other[:, cut:] + 1 + torch.randint_like(other[:, cut:], VOCAB_SIZE - 2)) % VOCAB_SIZE
    if (_logits(model, other)[:, :cut] - logits[:, :cut]).abs().max() > 1e-3 * max(
        1.0, float(logits.abs().max())
    ):
        raise Cheating("not causal: logits change when later tokens do")
    alone = torch.cat([_logits(model, inputs[i : i + 1]) for i in range(len(inputs))])
    if (alone - logits).abs().max() > 2e-3 * max(1.0, float(logits.abs().max())):
        raise Cheating("not independent: a row's logits depend on the other rows")


def _logits(model: torch.nn.Module, inputs: torch.Tensor) -> torch.Tensor:
    import torch

    logits = model(inputs)
    if not isinstance(logits, torch.Tensor) or logits.shape != (*inputs.shape, VOCAB_SIZE):
        raise Cheating(
            f"the model must return logits of shape {(*inputs.shape, VOCAB_SIZE)} for input tokens alone"
        )
    logits = logits.float()
    if not bool(torch.isfinite(logits).all()):
        raise Cheating("logits are not finite")
    return logits


def _checksum(model: torch.nn.Module) -> float:
    """A number that changes when any parameter does (but for changes that cancel to the last bit)."""
    return sum(
        float(p.detach().double().sum()) + float(p.detach().double().norm()) for p in model.parameters()
    )


def _hand_over(bpb: float, data: Data, clock: Clock) -> None:
    """Give the number to whoever started us through a file of theirs, not only as printed text."""
    if path := os.environ.get("AUTORESEARCH_RESULT"):
        result = {
            "nonce": os.environ.get("AUTORESEARCH_NONCE", ""),
            "val_bpb": bpb,
            "data": data.identity,
            "training_seconds": clock.elapsed_s,
            "steps": clock.steps,
        }
        with contextlib.suppress(OSError):
            Path(path).write_text(json.dumps(result))


if __name__ == "__main__":
    try:
        print(f"data: {prepare(lambda line: print(line, flush=True))}")
    except BadData as error:
        sys.exit(f"prepare.py: {error}")
