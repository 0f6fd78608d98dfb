"""Prepares the data: turns text into tokens on disk, once, and makes batches from them.

train.py imports from here all that is fixed: data, clock and evaluation. Agents may read those files but
never change them, because numbers are comparable only if they stay the same. The first training prepares the
data by itself; to do it before:

    python nanogpt/prepare.py [--data NAME|PATH] [--shards N]

corpus.py lists the names. Later trainings use the data chosen here, unless AUTORESEARCH_DATA names another.
Without a choice they use climbmix where there is an NVIDIA GPU, else sympy. Prepared data is kept in the
folder AUTORESEARCH_CACHE, else in the user's cache folder, and appears there complete or not at all:

    NAME-v5/            what trainers read: train.npy, tune.npy, tokenizer.json, token_bytes.npy, meta.json
    held-out/NAME-v5/   what they must not read: val.npy, hidden.npy, copies of token_bytes.npy and meta.json,
                        and sources.json: paths outside this folder that hold the same text
    held-out/hub/       downloads
    stub/               both folders again with random tokens. A trainer that is started with
                        AUTORESEARCH_STUB=1 gets these: it can compile its code, and learn nothing
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import hashlib
import json
import os
import queue
import shutil
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from corpus import SPLITS as SPLITS
from corpus import BadData as BadData
from corpus import Corpus, Say, find, hides
from machine import has_gpu
from tokens import BOS, random_tokens, token_bytes, token_stream, train_tokenizer, write

from clock import SLACK_STEPS as SLACK_STEPS
from clock import Clock as Clock
from evaluation import BadModel as BadModel
from evaluation import evaluate as evaluate
from evaluation import identity

if TYPE_CHECKING:
    import torch

Cheating = BadModel  # its name until version 0.2: a train.py of that time imports it
FORMAT = 5
"""Version of the files of prepared data. When it changes, all data is prepared again."""
HELD_OUT, STUB, HUB, FOLDERS = "held-out", "stub", "hub", "folders.json"
"""Names in the cache folder. `FOLDERS` says which data set was made last of a folder of the user's."""
STUB_ROWS = {"train": 256, "tune": 32, "val": 32, "hidden": 8}
"""Rows of each split of a stub: enough for a batch of the largest models."""


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
    return "climbmix" if has_gpu() else "sympy"


def held_out_folder(folder: Path) -> Path:
    """Return the folder with the held-out text that belongs to a folder of data for training."""
    return folder.parent / HELD_OUT / folder.name


def prepare(say: Say = print, name: str | None = None) -> Path:
    """Return the folder of prepared data for training, after preparing it if it is not there yet.

    `name` is a name or path that corpus.py knows; without one `chosen` decides. `say` shows a line of
    progress. If several processes call this at once, one prepares and the others wait. Raises `BadData` if
    the data cannot be read, is too little, or cannot be written.
    """
    cache, name = cache_folder(), name or chosen()
    corpus = find(name) if not hides(name) else None
    folder = cache / (f"{corpus.name}-v{FORMAT}" if corpus else _made_of(name))
    parts = _parts(folder)
    try:
        if corpus and not _complete(parts):
            cache.mkdir(parents=True, exist_ok=True)
            with (cache / f"{folder.name}.lock").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                if not _complete(parts):
                    _build(corpus, parts, say)
        if corpus:
            _note(name, folder.name)
    except OSError as error:
        raise BadData(
            f"cannot write {error.filename or folder}: {error.strerror}; set AUTORESEARCH_CACHE"
        ) from error
    return parts.stub if os.environ.get("AUTORESEARCH_STUB") else folder


class Parts(NamedTuple):
    """The folders of one prepared data set, in the order in which they are put into place."""

    stub_held_out: Path
    stub: Path
    held_out: Path
    training: Path


def _parts(folder: Path) -> Parts:
    stub = folder.parent / STUB / folder.name
    return Parts(held_out_folder(stub), stub, held_out_folder(folder), folder)


def _complete(parts: Parts) -> bool:
    return all((folder / "meta.json").exists() for folder in parts)


def _made_of(name: str) -> str:
    """Return the folder that was prepared last of files at a path that this process may not list."""
    with contextlib.suppress(OSError, ValueError, KeyError):
        return str(json.loads((cache_folder() / FOLDERS).read_text())[name])
    raise BadData(f"{name} cannot be read, and was not prepared before: allow reading it, and prepare it")


def _note(name: str, folder: str) -> None:
    """Note for `_made_of` which folder was prepared of the files at the path `name`."""
    path, known = cache_folder() / FOLDERS, dict[str, str]()
    with contextlib.suppress(OSError, ValueError):
        known = json.loads(path.read_text())
    if Path(name).expanduser().is_dir() and known.get(name) != folder:
        draft = path.with_name(f"{FOLDERS}.{os.getpid()}.draft")
        draft.write_text(json.dumps({**known, name: folder}))
        draft.replace(path)


def _build(corpus: Corpus, parts: Parts, say: Say) -> None:
    """Train the tokenizer and write the tokens of every split, then move the complete folders into place."""
    started = time.time()
    say(f"data: {corpus.name}")
    downloads = _downloads(parts.training.parent)
    tokenizer = train_tokenizer(corpus.read("train", downloads, say), corpus.vocab_size)
    size = tokenizer.get_vocab_size()
    say(f"data: tokenizer of {size} tokens trained ({time.time() - started:.1f} s)")
    with _drafts(parts) as drafts:
        tokenizer.save(str(drafts.training / "tokenizer.json"))
        np.save(drafts.training / "token_bytes.npy", token_bytes(tokenizer), allow_pickle=False)
        digest = hashlib.sha256((drafts.training / "tokenizer.json").read_bytes()).hexdigest()
        meta: dict[str, Any] = {
            "format": FORMAT,
            "corpus": corpus.name,
            "vocab_size": size,
            "sequence": corpus.sequence,
            "packed": corpus.packed,
            "bos": tokenizer.token_to_id(BOS),
            "tokenizer_sha256": digest,
        }
        for split in SPLITS:
            documents = corpus.read(split, downloads, say)
            streams = token_stream(tokenizer, documents, meta["bos"], corpus)
            place = drafts.held_out if split in ("val", "hidden") else drafts.training
            meta[split], digest = write(place / f"{split}.npy", streams, corpus.limits.get(split, 0))
            if meta[split] <= corpus.sequence:
                raise BadData(f"{corpus.name} has too little text: its {split} split is {meta[split]} tokens")
            meta[f"{split}_sha256"] = digest
            say(f"data: {split} {meta[split]:,} tokens ({time.time() - started:.1f} s)")
        sources = [str(path.absolute()) for path in corpus.sources()]
        (drafts.held_out / "sources.json").write_text(json.dumps(sources))
        meta = _describe(meta, drafts.training, drafts.held_out)
        _write_stub(meta, drafts)
    say(f"data: ready, identity {meta['data']}")


def _write_stub(meta: dict[str, Any], drafts: Parts) -> None:
    """Write data of the same shape, but with random tokens."""
    for name in ("tokenizer.json", "token_bytes.npy"):
        shutil.copyfile(drafts.training / name, drafts.stub / name)
    stub = {**meta, "corpus": f"stub of {meta['corpus']}"}
    for split, rows in STUB_ROWS.items():
        place = drafts.stub_held_out if split in ("val", "hidden") else drafts.stub
        tokens = random_tokens(rows * meta["sequence"] + 1, meta["vocab_size"])
        stub[split], stub[f"{split}_sha256"] = write(place / f"{split}.npy", [tokens], 0)
    _describe(stub, drafts.stub, drafts.stub_held_out)


def _describe(meta: dict[str, Any], training: Path, held_out: Path) -> dict[str, Any]:
    """Write meta.json, and what belongs beside the held-out text; return the meta data with the identity."""
    shutil.copyfile(training / "token_bytes.npy", held_out / "token_bytes.npy")
    (held_out / "meta.json").write_text(json.dumps(meta))
    meta = {**meta, "data": identity(held_out)}
    for folder in (training, held_out):
        (folder / "meta.json").write_text(json.dumps(meta))
    return meta


def _downloads(cache: Path) -> Path:
    """Return the folder for downloads. Format 4 had it where trainers can read it: then it is moved."""
    folder, older = cache / HELD_OUT / HUB, cache / HUB
    folder.parent.mkdir(exist_ok=True)
    if older.is_dir() and not folder.exists():
        older.rename(folder)
    return folder


@contextlib.contextmanager
def _drafts(parts: Parts) -> Iterator[Parts]:
    """Make a folder beside each of the parts, to be filled; at the end all of them take their places.

    The folder for training comes last: a data set that has it is complete.
    """
    drafts = Parts(*(part.with_name(f"{part.name}.{os.getpid()}.draft") for part in parts))
    for part, draft in zip(parts, drafts, strict=True):
        for left in part.parent.glob(f"{part.name}.*.draft"):
            shutil.rmtree(left, ignore_errors=True)  # this process has the lock: nobody writes there any more
        draft.mkdir(parents=True)
    try:
        yield drafts
        for path in [path for draft in drafts for path in draft.iterdir()]:
            _sync(path)
        for part, draft in zip(parts, drafts, strict=True):
            shutil.rmtree(part, ignore_errors=True)
            draft.rename(part)
    finally:
        for draft in drafts:
            shutil.rmtree(draft, ignore_errors=True)


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
