"""What makes numbers comparable: data, tokenizer and splits here, clock.py and evaluation.py beside it.

Agents may read these files and never change them. Run it to prepare the data ahead of the first training:

    python nanogpt/prepare.py [--data NAME|PATH] [--shards N]

Names are told in corpus.py. What is chosen here is what training uses, unless AUTORESEARCH_DATA names
another; without a choice it is climbmix where there is an NVIDIA GPU, else sympy. Tokens land, whole or not
at all, in `$AUTORESEARCH_CACHE`, else in the user's cache folder. A data set's identity is a hash of its
tokenizer, tokens and shape: numbers of different identities are not to be compared.
"""

from __future__ import annotations

import argparse
import bisect
import contextlib
import fcntl
import functools
import hashlib
import itertools
import json
import os
import queue
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from corpus import SPLITS as SPLITS
from corpus import BadData as BadData
from corpus import Corpus, find

from clock import SLACK_STEPS as SLACK_STEPS
from clock import Cheating as Cheating
from clock import Clock as Clock
from evaluation import evaluate as evaluate
from evaluation import identity

if TYPE_CHECKING:
    import torch

BOS = "<|bos|>"
PATTERN = (
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,2}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+"
)
"""GPT-4's pre-tokenisation, with numbers in groups of at most two digits (a small vocabulary)."""
TOKENIZER_CHARACTERS = 200_000_000
FORMAT = 4


# --- preparing, once ---


def cache_folder() -> Path:
    """Where prepared data belongs on this machine."""
    if given := os.environ.get("AUTORESEARCH_CACHE"):
        return Path(given).expanduser()
    import platformdirs

    return Path(platformdirs.user_cache_dir("autoresearch-tui"))


def chosen() -> str:
    """Which data to use: AUTORESEARCH_DATA, else what was prepared by choice, else what suits the machine."""
    if given := os.environ.get("AUTORESEARCH_DATA"):
        return given
    with contextlib.suppress(OSError):
        return (cache_folder() / "chosen").read_text().strip()
    return "climbmix" if Path("/proc/driver/nvidia/version").exists() else "sympy"


def prepare(say: Callable[[str], None] = print, name: str | None = None) -> Path:
    """The folder of prepared data, made now if need be. Only one process makes it, the others wait.

    Raises `BadData`.
    """
    corpus = find(name or chosen())
    folder = cache_folder() / f"{corpus.name}-v{FORMAT}"
    if (folder / "meta.json").exists():
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with (folder.parent / f"{folder.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not (folder / "meta.json").exists():
                _build(corpus, folder, say)
    except OSError as error:
        raise BadData(
            f"cannot write {error.filename or folder}: {error.strerror}; set AUTORESEARCH_CACHE"
        ) from error
    return folder


def _build(corpus: Corpus, folder: Path, say: Callable[[str], None]) -> None:
    """Read, split, train the tokenizer, encode; the folder appears when all of it is on disk."""
    started = time.time()
    say(f"data: {corpus.name}")
    tokenizer = _train_tokenizer(corpus.read("train", folder.parent, say), corpus.vocab_size)
    size = tokenizer.get_vocab_size()
    say(f"data: tokenizer of {size} tokens trained ({time.time() - started:.1f} s)")
    for left in folder.parent.glob(f"{folder.name}.*.draft"):
        shutil.rmtree(left, ignore_errors=True)  # we hold the lock: whoever made it is gone
    draft = folder.with_name(f"{folder.name}.{os.getpid()}.draft")
    draft.mkdir(parents=True)
    try:
        tokenizer.save(str(draft / "tokenizer.json"))
        meta: dict[str, Any] = {
            "format": FORMAT,
            "corpus": corpus.name,
            "vocab_size": size,
            "sequence": corpus.sequence,
            "packed": corpus.packed,
            "bos": tokenizer.token_to_id(BOS),
        }
        for split in SPLITS:
            documents = corpus.read(split, folder.parent, say)
            streams = token_stream(tokenizer, documents, meta["bos"], corpus)
            meta[split], digest = _write(draft / f"{split}.npy", streams, corpus.limits.get(split, 0))
            if meta[split] <= corpus.sequence:
                raise BadData(f"{corpus.name} has too little text: its {split} split is {meta[split]} tokens")
            meta[f"{split}_sha256"] = digest
            say(f"data: {split} {meta[split]:,} tokens ({time.time() - started:.1f} s)")
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


def _train_tokenizer(documents: Iterable[str], vocab_size: int) -> Any:
    """Byte-level BPE on the first `TOKENIZER_CHARACTERS` of the training text."""
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
        vocab_size=vocab_size,
        special_tokens=[BOS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )

    def some() -> Iterator[str]:
        left = TOKENIZER_CHARACTERS
        for text in documents:
            yield text
            left -= len(text)
            if left < 0:
                return

    tokenizer.train_from_iterator(some(), trainer)
    return tokenizer


Tokens = np.ndarray[Any, np.dtype[np.uint16]]


def token_stream(tokenizer: Any, documents: Iterable[str], bos: int, corpus: Corpus) -> Iterator[Tokens]:
    """The tokens of a split in pieces: every document after a BOS, or packed into rows."""
    encoded = _encode(tokenizer, documents)
    if corpus.packed:
        yield from pack(encoded, corpus.sequence, bos)
        return
    for tokens in encoded:
        yield np.array([bos], np.uint16)
        yield tokens


def _encode(tokenizer: Any, documents: Iterable[str]) -> Iterator[Tokens]:
    """Documents as tokens, some hundreds at a time on all cores."""
    iterator = iter(documents)
    while batch := list(itertools.islice(iterator, 512)):
        for encoding in tokenizer.encode_batch(batch, add_special_tokens=False):
            yield np.array(encoding.ids, np.uint16)


def pack(documents: Iterable[Tokens], length: int, bos: int, pool_size: int = 1000) -> Iterator[Tokens]:
    """Rows of `length` tokens that start with a document (its BOS goes without saying) and have no padding.

    Best fit: the longest piece at hand, then the longest that still fits after a BOS, and in the end the
    shortest, cropped. A document longer than a row is cut into rows first.
    """
    pool: list[tuple[int, int, Tokens]] = []  # ordered by length, then by age

    def row() -> Tokens:
        parts = [pool.pop()[2]]
        space = length - len(parts[0])
        while space > 0:
            at = bisect.bisect_left(pool, (space, -1)) - 1  # the longest of fewer than `space` tokens
            piece = pool.pop(at)[2] if at >= 0 else pool.pop(0)[2][: space - 1] if pool else None
            if piece is None:
                break
            parts += [np.array([bos], np.uint16), piece]
            space -= 1 + len(piece)
        return np.concatenate(parts)

    for number, tokens in enumerate(documents):
        for start in range(0, len(tokens), length):
            piece = tokens[start : start + length]
            bisect.insort(pool, (len(piece), number, piece), key=lambda entry: entry[:2])
        while len(pool) >= pool_size:
            yield row()
    while pool:
        last = row()
        if len(last) == length:
            yield last


def _write(path: Path, pieces: Iterable[Tokens], limit: int) -> tuple[int, str]:
    """Write a stream of any length as .npy, at most `limit` tokens (0: all); how many, and their sha256."""
    digest, count = hashlib.sha256(), 0
    with path.open("wb") as file:
        header = functools.partial(np.lib.format.write_array_header_1_0, file)
        header({"descr": "<u2", "fortran_order": False, "shape": (10**15,)})
        size = file.tell()
        for piece in pieces:
            part = piece[: limit - count] if limit else piece
            digest.update(part.tobytes())
            file.write(part.tobytes())
            count += len(part)
            if limit and count >= limit:
                break
        file.seek(0)
        header({"descr": "<u2", "fortran_order": False, "shape": (count,)})
        assert file.tell() == size, "headers of both sizes are padded to the same length"
    return count, digest.hexdigest()


def _token_bytes(tokenizer: Any) -> np.ndarray[Any, np.dtype[np.int32]]:
    """Raw bytes of each token: in a byte-level vocabulary every character of a token is one byte.

    Counting through a decoded string would count half a UTF-8 character as three bytes. BOS counts 0.
    """
    lengths = np.zeros(tokenizer.get_vocab_size(), np.int32)
    for token, index in tokenizer.get_vocab().items():
        lengths[index] = 0 if token == BOS else len(token)
    return lengths


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


# --- reading ---


class Batch(NamedTuple):
    """`inputs` and `targets`, each (rows, sequence) int64: targets are the inputs shifted by one.

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
        self.folder = folder
        try:
            self.meta: dict[str, Any] = json.loads((folder / "meta.json").read_text())
            self.streams = {s: np.load(folder / f"{s}.npy", mmap_mode="r") for s in ("train", "tune")}
            self.token_bytes = np.load(folder / "token_bytes.npy")
            whole = all(len(self.streams[s]) == self.meta[s] for s in self.streams)
            self.identity: str = self.meta["data"]
            self.bos: int = self.meta["bos"]
            self.vocab_size: int = self.meta["vocab_size"]
            self.sequence: int = self.meta["sequence"]
            self.packed: bool = self.meta["packed"]
        except (OSError, ValueError, KeyError) as error:
            raise BadData(f"{folder} is damaged ({error}): delete it, it is made again") from error
        if not whole:
            raise BadData(f"{folder} is damaged (a file is too short): delete it, it is made again")

    def batches(self, rows: int, seed: int, device: torch.device) -> Iterator[Batch]:
        """Training batches for ever, the same for the same seed. Every row starts with BOS.

        A thread makes the next ones while a step runs; for a GPU they wait in pinned memory.
        """

        ready: queue.Queue[Batch] = queue.Queue(4)
        source, cuda = self._batches(rows, seed), device.type == "cuda"
        stop = threading.Event()

        def work() -> None:
            for batch in source:
                held = Batch(*(part.pin_memory() for part in batch)) if cuda else batch
                while not stop.is_set():
                    with contextlib.suppress(queue.Full):
                        ready.put(held, timeout=0.5)
                        break
                if stop.is_set():
                    return

        worker = threading.Thread(target=work, daemon=True)
        worker.start()
        try:
            while True:
                batch = ready.get()
                yield (
                    Batch(*(part.to(device, non_blocking=True) for part in batch))
                    if cuda
                    else Batch(*(part.to(device) for part in batch))
                )
        finally:
            stop.set()
            worker.join()

    def _batches(self, rows: int, seed: int) -> Iterator[Batch]:
        stream, length = self.streams["train"], self.sequence
        generator = np.random.default_rng(seed)
        while True:
            start = 0 if self.packed else int(generator.integers(length))  # other cuts each epoch
            order = generator.permutation((len(stream) - start) // length)
            if len(order) < rows:  # a tiny corpus
                order = np.resize(order, rows)
            for i in range(0, len(order) - rows + 1, rows):
                yield self._rows(stream, start + order[i : i + rows] * length)

    def _rows(self, stream: Any, starts: Any) -> Batch:
        import torch

        table = np.stack([stream[s : s + self.sequence] for s in starts]).astype(np.int64)
        targets = torch.from_numpy(table)
        inputs = torch.roll(targets, 1, dims=1)
        inputs[:, 0] = self.bos
        return Batch(inputs, targets, torch.from_numpy(starts))


def load() -> Data:
    """The data for training, prepared now if need be. Raises `BadData`."""
    return Data(prepare(lambda line: print(line, flush=True)))


def main() -> None:
    parser = argparse.ArgumentParser(description="Prepare data for training.")
    parser.add_argument("--data", default=chosen(), help="sympy, climbmix, tinystories or a path")
    parser.add_argument("--shards", type=int, help="training shards of climbmix")
    options = parser.parse_args()
    name = f"climbmix:{options.shards}" if options.shards and options.data == "climbmix" else options.data
    name = str(Path(name).resolve()) if Path(name).exists() else name
    print(f"data: {prepare(lambda line: print(line, flush=True), name)}")
    (cache_folder() / "chosen").write_text(name)


if __name__ == "__main__":
    try:
        main()
    except BadData as error:
        sys.exit(f"prepare.py: {error}")
