"""corpus.py: text from sympy, from folders, and from a hub, which is a real HTTP server on this machine."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import random
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import corpus
import polars as pl
import pytest

import prepare

ROOT = Path(__file__).parents[2]
WORDS = [
    f"{a}{b}" for a in ("re", "un", "de", "in") for b in ("gard", "form", "port", "lock", "cline", "sert")
]


def texts(count: int, seed: int = 0, length: int = 300) -> list[str]:
    generator = random.Random(seed)
    return [
        " ".join(generator.choices(WORDS, k=generator.randrange(length // 3, length))) for _ in range(count)
    ]


# --- sympy ---


def test_splits_of_sympy_share_no_document() -> None:
    documents = corpus.split_sympy().documents
    for one, other in itertools.combinations(corpus.SPLITS, 2):
        assert not set(documents[one]) & set(documents[other])
    assert sum(len(text) for text in documents["train"]) > 15_000_000


def test_the_size_of_the_held_out_text_is_fixed() -> None:
    documents = corpus.split_sympy().documents
    assert sum(len(text.encode()) for text in documents["val"]) == corpus.VAL_BYTES
    assert sum(len(text.encode()) for text in documents["hidden"]) == corpus.HIDDEN_BYTES


def test_no_held_out_text_and_no_near_copy_of_it_is_trained_on() -> None:
    """Three lines in a row of a held-out text are rarely in the training text too: import lists, licences."""

    def windows(text: str) -> set[str]:
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        return {w for i in range(len(lines) - 2) if len(w := "\n".join(lines[i : i + 3])) >= 80}

    documents = corpus.split_sympy().documents
    trained = set[str]().union(*map(windows, documents["train"] + documents["tune"]))
    held_out = [windows(text) for text in documents["val"] + documents["hidden"]]
    known = [len(parts & trained) / len(parts) for parts in held_out]
    assert max(known) < 0.2
    assert sum(len(parts & trained) for parts in held_out) < 0.03 * sum(map(len, held_out))


def test_compiling_imports_no_file_that_is_held_out() -> None:
    """Else torch.compile would fail behind the fence, which hides these files."""
    code = """
import sys, torch
f = torch.compile(lambda x, w: torch.relu(x @ w).square().sum(), dynamic=True)
for rows in (8, 12):
    f(torch.randn(rows, 16), torch.randn(16, 16, requires_grad=True)).backward()
modules = [m for name, m in sys.modules.items() if name.startswith("sympy")]
print(*(getattr(m, "__file__", "") for m in modules), sep="\\n")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    imported = set(done.stdout.splitlines())
    assert len(imported) > 300
    assert not imported & {str(path) for path in corpus.split_sympy().held_out}


def test_copies_that_other_programs_keep_of_a_hubs_held_out_text_are_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("HF_HOME", raising=False)
    assert corpus.find("climbmix").sources() == [
        tmp_path / ".cache/autoresearch/data/shard_06542.parquet",
        tmp_path / ".cache/huggingface/hub/datasets--karpathy--climbmix-400b-shuffle",
    ]
    assert corpus.find("tinystories").sources() == [
        tmp_path / ".cache/huggingface/hub/datasets--roneneldan--TinyStories"
    ]


# --- folders ---


def test_a_folder_of_all_three_kinds_is_a_corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, documents = tmp_path / "mine", texts(300)
    folder.mkdir()
    pl.DataFrame({"text": documents[:100]}).write_parquet(folder / "a.parquet")
    (folder / "b.jsonl").write_text("\n".join(json.dumps({"text": t}) for t in documents[100:299]))
    (folder / "c.txt").write_text(documents[299])
    (folder / "d.jsonl").write_text(json.dumps({"text": documents[0]}) + "\n\n")  # a copy counts once
    monkeypatch.setenv("AUTORESEARCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("AUTORESEARCH_DATA", str(folder))
    found = corpus.find(str(folder))
    read = {split: list(found.read(split, tmp_path, print)) for split in corpus.SPLITS}
    assert sorted(text for split in read.values() for text in split) == sorted(documents)
    data = prepare.load()
    assert data.vocab_size < 4096  # there is not more in this text
    assert all(data.meta[split] > data.sequence for split in corpus.SPLITS)
    assert prepare.load().identity == data.identity
    (folder / "c.txt").write_text("other text")
    assert corpus.find(str(folder)).name != found.name


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("a.jsonl", '{"txt": "no"}\n', "a.jsonl, line 1: not a JSON object with a key"),
        ("a.parquet", "PAR1 not really", "cannot be read"),
        ("a.txt", "too little", "too little text"),
        ("a.csv", "a,b", "no data"),
    ],
)
def test_what_cannot_be_used_is_one_sentence(
    name: str, content: str, sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / name).write_text(content)
    monkeypatch.setenv("AUTORESEARCH_CACHE", str(tmp_path / "cache"))
    with pytest.raises(prepare.BadData, match=sentence) as caught:
        prepare.prepare(lambda line: None, str(tmp_path / "mine"))
    assert "\n" not in str(caught.value)
    assert not list((tmp_path / "cache").glob("*/meta.json"))
    assert not list((tmp_path / "cache").glob("*.draft"))


def test_climbmix_has_so_many_shards() -> None:
    assert corpus.find("climbmix:3").name == "climbmix-3"
    for wrong in ("climbmix:0", "climbmix:7000", "climbmix:x"):
        with pytest.raises(prepare.BadData, match="shards"):
            corpus.find(wrong)


# --- a hub ---


class Hub(ThreadingHTTPServer):
    """Serves the files of `files` as a Hugging Face hub does; `cut` sends half of them."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.sent: list[str] = []
        self.damage = False


class Handler(BaseHTTPRequestHandler):
    server: Hub

    def do_HEAD(self) -> None:
        self._answer(False)

    def do_GET(self) -> None:
        self._answer(True)

    def _answer(self, body: bool) -> None:
        name = self.path.split("?")[0].rpartition("/")[2]
        content = self.server.files.get(name)
        if content is None or "/resolve/" not in self.path:
            self.send_response(404)
            self.send_header("X-Error-Code", "EntryNotFound")
            self.end_headers()
            return
        self.send_response(200)
        digest = hashlib.sha256(content).hexdigest()
        for key, value in {
            "Content-Length": len(content), "ETag": f'"{digest}"', "X-Linked-Etag": f'"{digest}"',
            "X-Linked-Size": len(content), "X-Repo-Commit": "a" * 40,
        }.items():  # fmt: skip
            self.send_header(key, str(value))
        self.end_headers()
        if body:
            self.server.sent.append(name)
            damaged = content[:100] + b"x" * 10 + content[110:]
            self.wfile.write(damaged if self.server.damage else content)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    with Hub() as server:
        for seed, shard in enumerate(("00000", "00001", "06542")):
            path = tmp_path / "shard.parquet"
            # 20 characters a token at least: the hidden split, a fortieth of a shard, is to fill some rows.
            pl.DataFrame({"text": texts(400, seed, 800)}).write_parquet(path)
            server.files[f"shard_{shard}.parquet"] = path.read_bytes()
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def prepared(hub: Hub, cache: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run prepare.py as a user does, against this hub."""
    environment = {
        "HF_ENDPOINT": f"http://127.0.0.1:{hub.server_address[1]}", "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_XET": "1", "HF_HOME": str(cache / "hf"), "AUTORESEARCH_CACHE": str(cache),
        "PATH": os.environ["PATH"],
    }  # fmt: skip
    command = [sys.executable, str(ROOT / "nanogpt/prepare.py"), *words]
    return subprocess.run(command, env=environment, capture_output=True, text=True)


def test_climbmix_comes_from_a_hub_once_and_is_what_training_then_uses(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = prepared(hub, tmp_path, "--data", "climbmix", "--shards", "2")
    assert done.returncode == 0, done.stderr
    assert sorted(hub.sent) == sorted(hub.files)
    monkeypatch.setenv("AUTORESEARCH_CACHE", str(tmp_path))
    monkeypatch.delenv("AUTORESEARCH_DATA", raising=False)
    data = prepare.load()
    assert data.meta["corpus"] == "climbmix-2"
    assert (data.sequence, data.packed) == (2048, True)
    assert all(data.meta[split] % 2048 == 0 for split in corpus.SPLITS)
    assert prepared(hub, tmp_path).returncode == 0
    assert len(hub.sent) == 3


def test_a_damaged_shard_is_found_removed_and_fetched_again(hub: Hub, tmp_path: Path) -> None:
    hub.damage = True
    done = prepared(hub, tmp_path, "--data", "climbmix", "--shards", "1")
    assert done.returncode == 1
    assert done.stderr == (
        "prepare.py: shard_00000.parquet is damaged and was removed: run this again, it is fetched anew\n"
    )
    hub.damage = False
    assert prepared(hub, tmp_path, "--data", "climbmix", "--shards", "1").returncode == 0


def test_a_hub_that_is_not_there_is_one_sentence(hub: Hub, tmp_path: Path) -> None:
    hub.files.clear()
    done = prepared(hub, tmp_path, "--data", "climbmix", "--shards", "1")
    assert done.returncode == 1
    assert done.stderr.startswith("prepare.py: cannot get shard_00000.parquet of karpathy/climbmix")
    assert done.stderr.count("\n") == 1
    assert not list(tmp_path.glob("*/meta.json"))
