"""What makes numbers comparable: data, tokenizer and splits here, clock.py and evaluation.py beside it.

Agents may read these files and never change them. Run it to prepare the data ahead of the first training:

    python nanogpt/prepare.py

The corpus is the source text of the installed, pinned `sympy` (BSD licence): 786 non-test files, 16 MB of
Python and English that are byte-identical on every machine and need no download. Files are split by the
hash of their path: 10% held out, 5% for tuning, the rest training. Of what is held out, `VAL_BYTES` are the
validation text and `HIDDEN_BYTES` the hidden text, whose result only the engine gets. Everything lands, whole
or not at all, in `$AUTORESEARCH_CACHE`, else in the user's cache folder.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from importlib import util
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from clock import SLACK_STEPS as SLACK_STEPS
from clock import Cheating as Cheating
from clock import Clock as Clock
from evaluation import evaluate as evaluate
from evaluation import identity

if TYPE_CHECKING:
    import numpy as np
    import torch

VOCAB_SIZE = 4096
SEQUENCE = 256
"""Tokens a row; evaluation sees as much context as training."""
VAL_BYTES = 256 * 1024
"""Validation text: about 80,000 tokens, 3 s on two cores. The same for every budget, so that all
val_bpb of one data identity can be compared."""
HIDDEN_BYTES = 16 * 1024
"""Hidden text: about 5,000 tokens, so that measuring it costs every run 7% of its evaluation and no more.
It shows whether a gain on the validation text is a gain on text in general."""
SPLITS = ("train", "val", "tune", "hidden")
BOS = "<|bos|>"
PATTERN = (
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,2}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+"
)
"""GPT-4's pre-tokenisation, with numbers in groups of at most two digits (a small vocabulary)."""
FORMAT = 3


class BadData(Exception):
    """The data cannot be prepared or trusted; one sentence that says what to do."""


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
        meta: dict[str, Any] = {
            "format": FORMAT,
            "vocab_size": VOCAB_SIZE,
            "sequence": SEQUENCE,
            "bos": tokenizer.token_to_id(BOS),
        }
        for split in SPLITS:
            tokens = _encode(tokenizer, documents[split], meta["bos"])
            np.save(draft / f"{split}.npy", tokens, allow_pickle=False)
            meta[split] = len(tokens)
            meta[f"{split}_sha256"] = hashlib.sha256(tokens.tobytes()).hexdigest()
            say(f"data: {split} {len(tokens):,} tokens ({time.time() - started:.1f} s)")
        np.save(draft / "token_bytes.npy", _token_bytes(tokenizer), allow_pickle=False)
        (draft / "meta.json").write_text(json.dumps(meta))
        meta["data"] = identity(draft)
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
    held_out: list[tuple[str, str]] = []
    for path in sorted(root.rglob("*.py"), key=lambda p: p.relative_to(root).as_posix()):
        name = path.relative_to(root).as_posix()
        text = path.read_text("utf-8")
        if "/tests/" in f"/{name}" or not text.strip() or text in seen:
            continue
        seen.add(text)
        digest = hashlib.sha256(name.encode()).hexdigest()
        share = int(digest[:8], 16) / 2**32
        if share < 0.10:
            held_out.append((digest, text))
        else:
            documents["tune" if share < 0.15 else "train"].append(text)
    documents["val"], rest = _take([text for _, text in held_out], VAL_BYTES)
    # What validation leaves, in no order of subject: many short pieces tell more than a few long files.
    pieces = [_middle(text, 2048) for _, text in sorted(held_out[-rest:])] if rest else []
    documents["hidden"], _ = _take(pieces, HIDDEN_BYTES)
    return documents


def _middle(text: str, most: int) -> str:
    start = max(0, len(text) - most) // 2
    return text[start : start + most]


def _take(texts: list[str], most: int) -> tuple[list[str], int]:
    """The first `most` bytes of some documents, the last one cut, and how many documents are left."""
    taken: list[str] = []
    for text in texts:
        if most <= 0:
            break
        taken.append(text.encode()[:most].decode("utf-8", "ignore"))
        most -= len(taken[-1].encode())
    return taken, len(texts) - len(taken)


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
    """`inputs` and `targets`, each (rows, SEQUENCE) int64: targets are the inputs shifted by one.

    `places` (rows,) says where in the split's stream each row's targets start.
    """

    inputs: torch.Tensor
    targets: torch.Tensor
    places: torch.Tensor


class Data:
    """Prepared data: token streams to train on as memory maps, and batches made from them.

    The held-out streams are read by the evaluation alone.
    """

    def __init__(self, folder: Path) -> None:
        import numpy as np

        self.folder = folder
        try:
            self.meta: dict[str, Any] = json.loads((folder / "meta.json").read_text())
            self.streams = {s: np.load(folder / f"{s}.npy", mmap_mode="r") for s in ("train", "tune")}
            self.token_bytes = np.load(folder / "token_bytes.npy")
            whole = all(len(self.streams[s]) == self.meta[s] for s in self.streams)
        except (OSError, ValueError, KeyError) as error:
            raise BadData(f"{folder} is damaged ({error}): delete it, it is made again") from error
        if not whole:
            raise BadData(f"{folder} is damaged (a file is too short): delete it, it is made again")
        self.identity: str = self.meta["data"]
        self.bos: int = self.meta["bos"]
        self.vocab_size: int = self.meta["vocab_size"]
        self.sequence = SEQUENCE

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

    def _rows(self, split: str, starts: Any, device: torch.device) -> Batch:
        import numpy as np
        import torch

        stream = self.streams[split]
        table = np.stack([stream[s : s + SEQUENCE].astype(np.int64) for s in starts])
        targets = torch.from_numpy(table)
        inputs = torch.roll(targets, 1, dims=1)
        inputs[:, 0] = self.bos
        return Batch(inputs.to(device), targets.to(device), torch.from_numpy(starts).to(device))


def load() -> Data:
    """The data for training, prepared now if need be. Raises `BadData`."""
    return Data(prepare(lambda line: print(line, flush=True)))


if __name__ == "__main__":
    try:
        print(f"data: {prepare(lambda line: print(line, flush=True))}")
    except BadData as error:
        sys.exit(f"prepare.py: {error}")
