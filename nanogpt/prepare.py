"""Prepares the data: trains the tokenizer, turns text into tokens on disk, and makes batches from them.

train.py imports from here all that is fixed: data, clock and evaluation. Agents may read those files but
never change them, because numbers are comparable only if they stay the same. The first training prepares the
data by itself; to do it before:

    python nanogpt/prepare.py [--data NAME|PATH] [--shards N]

corpus.py lists the names. Later trainings use the data chosen here, unless AUTORESEARCH_DATA names another.
Without a choice they use climbmix where there is an NVIDIA GPU, else sympy. Prepared data is kept in the
folder AUTORESEARCH_CACHE, else in the user's cache folder, and appears there complete or not at all.
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
from clock import Clock as Clock
from evaluation import BadModel as BadModel
from evaluation import evaluate as evaluate
from evaluation import identity

if TYPE_CHECKING:
    import torch

Cheating = BadModel  # its name until version 0.2: a train.py of that time imports it
BOS = "<|bos|>"
PATTERN = (
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,2}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+"
)
"""Splits text into pieces; BPE merges bytes only within a piece. It is GPT-4's pattern, but with at most two
digits in a piece instead of three, because the vocabulary is small (as in karpathy/autoresearch)."""
TOKENIZER_CHARACTERS = 200_000_000
"""The tokenizer is trained on about this many characters from the start of the training text."""
FORMAT = 4
"""Version of the files of prepared data. When it changes, all data is prepared again."""


# --- preparing, once ---


def cache_folder() -> Path:
    """Return the folder in which this machine keeps prepared data."""
    if given := os.environ.get("AUTORESEARCH_CACHE"):
        return Path(given).expanduser()
    import platformdirs

    return Path(platformdirs.user_cache_dir("autoresearch-tui"))


def chosen() -> str:
    """Return the name of the data to use: AUTORESEARCH_DATA, else what `main` noted, else the default."""
    if given := os.environ.get("AUTORESEARCH_DATA"):
        return given
    with contextlib.suppress(OSError):
        return (cache_folder() / "chosen").read_text().strip()
    return "climbmix" if Path("/proc/driver/nvidia/version").exists() else "sympy"


def prepare(say: Callable[[str], None] = print, name: str | None = None) -> Path:
    """Return the folder of prepared data, after preparing it if it is not there yet.

    `name` is a name or path that corpus.py knows; without one `chosen` decides. `say` shows a line of
    progress. If several processes call this at once, one prepares and the others wait. Raises `BadData` if
    the data cannot be read, is too little, or cannot be written.
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
    """Train the tokenizer, write the tokens of every split, then move the complete folder into place."""
    started = time.time()
    say(f"data: {corpus.name}")
    tokenizer = _train_tokenizer(corpus.read("train", folder.parent, say), corpus.vocab_size)
    size = tokenizer.get_vocab_size()
    say(f"data: tokenizer of {size} tokens trained ({time.time() - started:.1f} s)")
    for left in folder.parent.glob(f"{folder.name}.*.draft"):
        shutil.rmtree(left, ignore_errors=True)  # this process has the lock, so nobody writes there any more
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
    """Train a byte-level BPE tokenizer on the first `TOKENIZER_CHARACTERS` characters of these documents."""
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

    def beginning() -> Iterator[str]:
        left = TOKENIZER_CHARACTERS
        for text in documents:
            yield text
            left -= len(text)
            if left < 0:
                return

    tokenizer.train_from_iterator(beginning(), trainer)
    return tokenizer


Tokens = np.ndarray[Any, np.dtype[np.uint16]]
"""A piece of a token stream, of any length: (tokens,)."""


def token_stream(tokenizer: Any, documents: Iterable[str], bos: int, corpus: Corpus) -> Iterator[Tokens]:
    """Give the tokens of a split piece by piece: each document after a BOS, or packed into rows (`pack`)."""
    encoded = _encode(tokenizer, documents)
    if corpus.packed:
        yield from pack(encoded, corpus.sequence, bos)
        return
    for tokens in encoded:
        yield np.array([bos], np.uint16)
        yield tokens


def _encode(tokenizer: Any, documents: Iterable[str]) -> Iterator[Tokens]:
    """Give the tokens of each document; 512 documents at a time are encoded on all cores."""
    iterator = iter(documents)
    while batch := list(itertools.islice(iterator, 512)):
        for encoding in tokenizer.encode_batch(batch, add_special_tokens=False):
            yield np.array(encoding.ids, np.uint16)


def pack(documents: Iterable[Tokens], length: int, bos: int, pool_size: int = 1000) -> Iterator[Tokens]:
    """Fill rows of `length` tokens with documents, without padding. The last, incomplete row is dropped.

    A row starts with the longest document in a pool of up to `pool_size`. Then comes, after a BOS, the
    longest that still fits, and so on; where none fits, the shortest is cropped. A document longer than a row
    is first cut into rows. A row's first document has no BOS here, because `Data` puts one before every row.
    """
    pool: list[tuple[int, int, Tokens]] = []  # length, number of the document, tokens; sorted

    def row() -> Tokens:
        """Take documents out of the pool and return a row; it is short if the pool runs empty."""
        parts = [pool.pop()[2]]
        space = length - len(parts[0])
        while space > 0:
            at = bisect.bisect_left(pool, (space, -1)) - 1  # the longest that fits: fewer than `space` tokens
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
    """Write pieces of tokens to a .npy file, one after the other; return how many tokens, and their sha256.

    At most `limit` tokens are written; 0 writes all. No split has to fit in memory: the header, which says
    how many tokens there are, is written again at the end.
    """
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
    """Return the number of bytes of text that each token stands for, (V,); 0 for BOS.

    In a byte-level vocabulary each character of a token's name stands for one byte. To decode the token first
    would be wrong: part of a UTF-8 character becomes a replacement character, which has three bytes.
    """
    lengths = np.zeros(tokenizer.get_vocab_size(), np.int32)
    for token, index in tokenizer.get_vocab().items():
        lengths[index] = 0 if token == BOS else len(token)
    return lengths


def _sync(path: Path) -> None:
    """Return when the file is on disk."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


# --- reading ---


class Batch(NamedTuple):
    """Rows for one training step, as int64."""

    inputs: torch.Tensor  # (B, T), each row starts with BOS
    targets: torch.Tensor  # (B, T), the next token of each input
    places: torch.Tensor  # (B,), where in the training stream each row's targets start


class Data:
    """Prepared data for training, read from its folder. Raises `BadData` if a file is missing or damaged.

    `streams` holds the tokens of the splits `train` and `tune`, mapped from disk. Only evaluation.py reads
    the other splits. `sequence` is T, the tokens of a row.
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
        """Give training batches of `rows` rows without end; the same seed gives the same batches.

        A thread makes the next four while a step runs. For a GPU they lie in pinned memory, so that they are
        copied while the GPU computes.
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
        """Give the rows of the training stream in random order, epoch after epoch."""
        stream, length = self.streams["train"], self.sequence
        generator = np.random.default_rng(seed)
        while True:
            start = 0 if self.packed else int(generator.integers(length))  # each epoch cuts rows elsewhere
            order = generator.permutation((len(stream) - start) // length)
            if len(order) < rows:  # a tiny corpus: repeat its rows to fill a batch
                order = np.resize(order, rows)
            for i in range(0, len(order) - rows + 1, rows):
                yield self._rows(stream, start + order[i : i + rows] * length)

    def _rows(self, stream: Any, starts: Any) -> Batch:
        """Make a batch of the rows that start at these places (B,) of the stream."""
        import torch

        table = np.stack([stream[s : s + self.sequence] for s in starts]).astype(np.int64)
        targets = torch.from_numpy(table)
        inputs = torch.roll(targets, 1, dims=1)
        inputs[:, 0] = self.bos
        return Batch(inputs, targets, torch.from_numpy(starts))


def load() -> Data:
    """Return the data for training, after preparing it if it is not there yet. Raises `BadData`."""
    return Data(prepare(lambda line: print(line, flush=True)))


def main() -> None:
    """Prepare the data that the command line names, and note the name for later trainings (`chosen`)."""
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
