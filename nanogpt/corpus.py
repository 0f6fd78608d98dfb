"""The data sets: where the documents of each come from, and which split a document belongs to.

    sympy         the source text of the installed, pinned `sympy` (BSD licence); no download
    climbmix[:N]  N shards of karpathy/climbmix-400b-shuffle on a Hugging Face hub; the last shard validates
    tinystories   roneneldan/TinyStories, for small GPUs
    a folder      your own .txt, .jsonl (key `text`) and .parquet (column `text`) files

There are four splits. `train` is trained on. `val` is what val_bpb is measured on. `hidden` is measured at
the same time, but its number is kept from the agents. `tune` is for comparing settings by hand without
looking at `val`. The text of `val` and `hidden` is *held out*: no trainer may read it, so each data set knows
where on this machine it lies. HF_ENDPOINT names the hub; HF_TOKEN is used if it is set. Agents may not change
this file.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib import util
from pathlib import Path
from typing import NamedTuple

SPLITS = ("train", "val", "tune", "hidden")
HELD_OUT_PACKAGES = (
    "categories", "codegen", "crypto", "diffgeom", "holonomic", "physics", "stats", "vector",
)  # fmt: skip
"""Packages of sympy from which its held-out text is taken. torch.compile imports none of them (it imports 436
other modules of sympy), so a trainer can do without files that the fence around it hides."""
VAL_BYTES = 256 * 1024
"""Size of sympy's validation text: about 80,000 tokens, which take about 3 s on two cores. It does not depend
on the budget, so that every val_bpb on the same data can be compared."""
HIDDEN_BYTES = 16 * 1024
"""Size of sympy's hidden text: about 5,000 tokens, which make an evaluation about 7% longer. It shows whether
a gain on the validation text is a gain on text in general."""
PIECE = 2048
"""Characters that the hidden text takes from the middle of a file of sympy: many short pieces say more about
text in general than a few long files."""
CLIMBMIX, CLIMBMIX_LAST, CLIMBMIX_SHARDS = "karpathy/climbmix-400b-shuffle", 6542, 10
"""Repository, number of the last shard, and how many shards to train on by default. In 300 s an H100 trains
on about 500 million tokens, which is about the text of ten shards."""
TINYSTORIES = "roneneldan/TinyStories"

Say = Callable[[str], None]
"""Shows the user one line of progress."""


class BadData(Exception):
    """The data cannot be prepared or trusted; the message is one sentence that says what to do."""


class Corpus(NamedTuple):
    """A data set as text, before it becomes tokens."""

    name: str
    """Name of its folder in the cache. Data sets with different text have different names."""
    vocab_size: int
    """Tokens of vocabulary."""
    sequence: int
    """Tokens a row. It is the longest context, in training and in evaluation."""
    packed: bool
    """True: each row starts with a document and others fill it, for documents about as long as a row. False:
    documents stand one after the other, and rows are cuts of that stream."""
    limits: dict[str, int]
    """The most tokens to take of a split; a split that is not in here is taken whole."""
    read: Callable[[str, Path, Say], Iterable[str]]
    """Gives the documents of a split. The path is the folder in which downloads are kept."""
    sources: Callable[[], list[Path]]
    """Files and folders that hold held-out text of this data set, as far as they are not below the folder of
    downloads. Some need not exist. Trainers must not be able to read any of them."""


def find(name: str) -> Corpus:
    """Return the data set of this name, or of the files at this path. Raises `BadData` if there is none."""
    kind, _, shards = name.partition(":")
    if name == "sympy":
        return Corpus(
            "sympy", 4096, 256, False, {},
            lambda split, downloads, say: split_sympy().documents[split], lambda: split_sympy().held_out,
        )  # fmt: skip
    if kind == "climbmix":
        # Vocabulary, tokens a row and validation tokens are those of karpathy/autoresearch.
        if not (shards or "1").isdigit() or not 1 <= int(shards or 1) < CLIMBMIX_LAST:
            raise BadData(f"climbmix has 1 to {CLIMBMIX_LAST - 1} training shards, not {shards!r}")
        count = int(shards or CLIMBMIX_SHARDS)
        limits = {"val": 40 * 524288, "tune": 4 * 524288, "hidden": 524288}
        return Corpus(
            f"climbmix-{count}", 8192, 2048, True, limits,
            lambda split, downloads, say: _climbmix(split, count, downloads, say), _climbmix_copies,
        )  # fmt: skip
    if name == "tinystories":
        limits = {"val": 2**20, "tune": 2**18, "hidden": 2**17}
        return Corpus("tinystories", 4096, 512, True, limits, _tinystories, lambda: [_in_hub(TINYSTORIES)])
    return _folder(Path(name).expanduser())


def hides(name: str) -> bool:
    """Whether this is a folder that this process may not list.

    A fence hides the user's text from trainers, because held-out text is in there.
    """
    try:
        os.scandir(Path(name).expanduser()).close()
    except OSError as error:
        return isinstance(error, PermissionError)
    return False


# --- sympy ---


class Sympy(NamedTuple):
    """The text of sympy, divided."""

    documents: dict[str, list[str]]
    """The documents of each split."""
    held_out: list[Path]
    """The files that `val` and `hidden` are taken from."""


def split_sympy() -> Sympy:
    """Divide the text of sympy into splits; the result is the same on every machine.

    The files of `HELD_OUT_PACKAGES` that have 2 to 32 KB are sorted by the hash of their path, so that they
    are in no order of subject. `val` takes the first of them, `hidden` pieces of the next ones, then comes
    `tune`. All that is left, in those packages and in others, is `train`. Tests, tables that a parser
    generator has written, empty files and copies of a text are in no split. Raises `BadData` if sympy is not
    installed.
    """
    spec = util.find_spec("sympy")
    if spec is None or spec.origin is None:
        raise BadData("sympy is not installed: `pip install sympy==1.14.0`")
    root = Path(spec.origin).parent
    texts: dict[str, str] = {}
    for path in sorted(root.rglob("*.py"), key=lambda p: p.relative_to(root).as_posix()):
        name, text = path.relative_to(root).as_posix(), path.read_text("utf-8")
        if "/tests/" not in f"/{name}" and "/_antlr/" not in name and text.strip():
            texts.setdefault(text, name)
    names = {name: text for text, name in texts.items()}
    drawn = sorted(filter(lambda name: _may_be_held_out(name, names[name]), names), key=_digest)
    val, drawn = _take(drawn, names, VAL_BYTES)
    pieces, drawn = drawn[: HIDDEN_BYTES // PIECE], drawn[HIDDEN_BYTES // PIECE :]
    tune, _ = _take(drawn, names, VAL_BYTES)
    taken = {*val, *pieces, *tune}
    documents = {
        "train": [text for name, text in names.items() if name not in taken],
        "val": list(val.values()),
        "tune": list(tune.values()),
        "hidden": [_middle(names[name], PIECE) for name in pieces],
    }
    return Sympy(documents, [root / name for name in (*val, *pieces)])


def _may_be_held_out(name: str, text: str) -> bool:
    """Whether a file may be held out: not an `__init__.py`, without which its package cannot be imported."""
    package, _, rest = name.partition("/")
    return package in HELD_OUT_PACKAGES and not rest.endswith("__init__.py") and 2048 <= len(text) <= 32768


def _digest(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()


def _middle(text: str, most: int) -> str:
    """Return at most `most` characters from the middle of a text."""
    start = max(0, len(text) - most) // 2
    return text[start : start + most]


def _take(names: list[str], texts: dict[str, str], most: int) -> tuple[dict[str, str], list[str]]:
    """Return the first `most` bytes of these texts by name, the last one cut, and the names not touched."""
    taken: dict[str, str] = {}
    for name in names:
        if most <= 0:
            break
        taken[name] = texts[name].encode()[:most].decode("utf-8", "ignore")
        most -= len(taken[name].encode())
    return taken, names[len(taken) :]


# --- a hub ---


def _climbmix(split: str, count: int, downloads: Path, say: Say) -> Iterator[str]:
    """Give the documents of a split: `train` is the first `count` shards, the others share the last shard.

    Of 40 documents of the last shard, one is `hidden`, three are `tune` and the rest is `val`.
    """
    if split == "train":
        names = [f"shard_{i:05d}.parquet" for i in range(count)]
        for path in _download(CLIMBMIX, names, downloads, say):
            yield from _parquet(path)
        return
    (path,) = _download(CLIMBMIX, [f"shard_{CLIMBMIX_LAST:05d}.parquet"], downloads, say)
    for i, text in enumerate(_parquet(path)):
        if split == ("hidden" if i % 40 == 0 else "tune" if i % 40 <= 3 else "val"):
            yield text


def _climbmix_copies() -> list[Path]:
    """Where other programs of this user may keep the shard that is held out."""
    other = Path.home() / ".cache/autoresearch/data"  # where karpathy/autoresearch keeps its data
    return [other / f"shard_{CLIMBMIX_LAST:05d}.parquet", _in_hub(CLIMBMIX)]


def _in_hub(repository: str) -> Path:
    """Where the hub's client keeps a data set that other programs of this user have downloaded."""
    home = Path(os.environ.get("HF_HOME") or Path.home() / ".cache/huggingface")
    return home / "hub" / f"datasets--{repository.replace('/', '--')}"


def _tinystories(split: str, downloads: Path, say: Say) -> Iterator[str]:
    """Give the stories of a split, of those that GPT-4 wrote; the authors have a file for validation.

    Of ten stories in that file one is `hidden`, one is `tune` and the rest is `val`.
    """
    part = "train" if split == "train" else "valid"
    (path,) = _download(TINYSTORIES, [f"TinyStoriesV2-GPT4-{part}.txt"], downloads, say)
    for i, text in enumerate(_stories(path)):
        if split in ("train", ("hidden", "tune")[i % 10] if i % 10 < 2 else "val"):
            yield text


def _stories(path: Path) -> Iterator[str]:
    """Give the stories in a file; a line `<|endoftext|>` stands between them."""
    story: list[str] = []
    with path.open(encoding="utf-8", errors="replace") as file:
        for line in file:
            if line.strip() != "<|endoftext|>":
                story.append(line)
            elif text := "".join(story).strip():
                story = []
                yield text
    if text := "".join(story).strip():
        yield text


def _download(repository: str, names: list[str], downloads: Path, say: Say) -> list[Path]:
    """Download files of a data set on the hub, four at a time, and return where each is now.

    A file that is already there is not downloaded again. Raises `BadData` if a file cannot be downloaded or
    is damaged.
    """
    from huggingface_hub import constants, hf_hub_download
    from huggingface_hub.utils.tqdm import disable_progress_bars

    disable_progress_bars()
    folder = downloads / repository.replace("/", "--")

    def fetch(name: str) -> Path:
        return Path(hf_hub_download(repository, name, repo_type="dataset", local_dir=folder))

    found: list[Path] = []
    with ThreadPoolExecutor(4) as pool:
        jobs = [pool.submit(fetch, name) for name in names]
        try:
            for name, job in zip(names, jobs, strict=True):
                found.append(_checked(job.result(), folder))
                say(f"data: {name} ({len(found)} of {len(names)})")
        except BadData:
            raise
        except Exception as error:  # the client lets the exceptions of many libraries through
            why = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise BadData(
                f"cannot get {name} of {repository} from {constants.ENDPOINT} ({why}): check the network, "
                "HF_ENDPOINT and HF_TOKEN, or use `--data sympy`; what is there already is kept"
            ) from error
        finally:
            pool.shutdown(cancel_futures=True)
    return found


def _checked(path: Path, folder: Path) -> Path:
    """Return `path` if the file's sha256 is the one that the hub's client noted when it downloaded the file.

    The hub gives a sha256 for large files only; other files are returned unchecked. If the file is damaged,
    removes it and raises `BadData`.
    """
    note = folder / ".cache/huggingface/download" / f"{path.name}.metadata"
    etag = [*note.read_text().splitlines(), "", ""][1] if note.exists() else ""
    if len(etag) == 64:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if digest != etag:
            path.unlink()
            raise BadData(f"{path.name} is damaged and was removed: run this again, it is fetched anew")
    return path


def _parquet(path: Path) -> Iterator[str]:
    """Give the texts in the column `text` of a file, without the empty ones. Raises `BadData`."""
    import polars as pl

    try:
        column = pl.read_parquet(path, columns=["text"])["text"]
    except (pl.exceptions.PolarsError, OSError) as error:
        why = str(error).splitlines()[0]
        raise BadData(f"{path} cannot be read ({why}): delete it, it is fetched again") from error
    yield from (text for text in column if text)


# --- a folder ---


def _folder(path: Path) -> Corpus:
    """Return the data set that consists of this file or of the files in this folder.

    Raises `BadData` if there is no .txt, .jsonl or .parquet file.
    """
    files = sorted(
        p for p in (path.rglob("*") if path.is_dir() else [path])
        if p.suffix in (".txt", ".jsonl", ".parquet") and p.is_file()
    )  # fmt: skip
    if not files:
        raise BadData(
            f"no data `{path}`: name sympy, climbmix[:shards], tinystories, or a folder of .txt, .jsonl or "
            ".parquet files"
        )
    # The name depends on each file's size and time, so that changed files are prepared anew.
    stamp = "".join(f"{p.resolve()}{p.stat().st_size}{p.stat().st_mtime_ns}" for p in files)
    name = f"text-{hashlib.sha256(stamp.encode()).hexdigest()[:10]}"
    limits = {"val": 2**20, "tune": 2**18, "hidden": 2**16}
    return Corpus(
        name, 4096, 256, False, limits,
        lambda split, downloads, say: _documents(split, files), lambda: [path.resolve()],
    )  # fmt: skip


def _documents(split: str, files: list[Path]) -> Iterator[str]:
    """Give the documents of a split: 5% `val`, 3% `tune`, 2% `hidden`, 90% `train`. Copies count once.

    The hash of a document's text decides, so copies of one document never come into two splits.
    """
    seen: set[bytes] = set()
    for path in files:
        for text in _texts(path):
            digest = hashlib.sha256(text.encode("utf-8", "replace")).digest()[:8]
            share = int.from_bytes(digest[:4]) / 2**32
            wanted = (
                "val" if share < 0.05 else "tune" if share < 0.08 else "hidden" if share < 0.1 else "train"
            )
            if split == wanted and digest not in seen:
                seen.add(digest)
                yield text


def _texts(path: Path) -> Iterator[str]:
    """Give the documents in a file: a .txt file is one, the others hold many. Raises `BadData`."""
    if path.suffix == ".parquet":
        yield from _parquet(path)
    elif path.suffix == ".txt":
        if text := path.read_text("utf-8", "replace").strip():
            yield text
    else:
        with path.open(encoding="utf-8", errors="replace") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield _line(line, path, number)


def _line(line: str, path: Path, number: int) -> str:
    """Return the text in one line of a .jsonl file. Raises `BadData`, which names the line."""
    try:
        text = json.loads(line)["text"]
    except (ValueError, KeyError, TypeError) as error:
        raise BadData(f'{path}, line {number}: not a JSON object with a key "text"') from error
    return str(text)
