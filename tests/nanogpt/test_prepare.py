"""prepare.py: data is complete or not there, the same on every machine, and batches are what they must be."""

from __future__ import annotations

import errno
import itertools
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer

import prepare

ROOT = Path(__file__).parents[2]
CPU = torch.device("cpu")


def copied(data: prepare.Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder for training in a cache of its own, to be damaged."""
    shutil.copytree(data.folder.parent, tmp_path / "copy")
    monkeypatch.setenv("AUTORESEARCH_CACHE", str(tmp_path / "copy"))
    return tmp_path / "copy" / data.folder.name


def test_the_identity_is_known(data: prepare.Data) -> None:
    """The embedded corpus is the same on every machine; another identity would end all comparisons."""
    assert data.identity == "114b363546e9772e"


def test_held_out_tokens_lie_apart_from_what_trainers_read(data: prepare.Data) -> None:
    held_out = prepare.held_out_folder(data.folder)
    readable = {path.name for path in data.folder.iterdir()}
    assert readable == {"train.npy", "tune.npy", "tokenizer.json", "token_bytes.npy", "meta.json"}
    closed = {path.name for path in held_out.iterdir()}
    assert closed == {"val.npy", "hidden.npy", "token_bytes.npy", "meta.json", "sources.json"}
    for name in readable & closed:
        assert (data.folder / name).read_bytes() == (held_out / name).read_bytes()
    assert held_out.parent == data.folder.parent / "held-out"


def test_every_source_of_held_out_text_is_named(data: prepare.Data) -> None:
    """The files of sympy from which the text comes, and nothing that does not hold it."""
    tokenizer = Tokenizer.from_file(str(data.folder / "tokenizer.json"))
    held_out = prepare.held_out_folder(data.folder)
    sources = [Path(name) for name in json.loads((held_out / "sources.json").read_text())]
    texts = [path.read_text() for path in sources]
    for split in ("val", "hidden"):
        tokens = np.load(held_out / f"{split}.npy")
        documents = [
            tokenizer.decode(part.tolist()) for part in np.split(tokens, np.flatnonzero(tokens == 0))
        ]
        assert all(any(document in text for text in texts) for document in documents)
    assert all(path.is_absolute() and path.suffix == ".py" for path in sources)


def test_a_stub_has_the_shape_of_the_data_and_none_of_its_text(
    data: prepare.Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUTORESEARCH_STUB", "1")
    stub = prepare.load()
    assert stub.folder == data.folder.parent / "stub" / data.folder.name
    assert (stub.vocab_size, stub.sequence, stub.bos) == (data.vocab_size, data.sequence, data.bos)
    assert stub.identity != data.identity
    assert len(stub.streams["train"]) == 256 * data.sequence + 1
    shares = np.bincount(stub.streams["train"], minlength=stub.vocab_size) / len(stub.streams["train"])
    assert shares.max() < 0.001  # no token is more frequent than chance has it: nothing to learn
    assert next(stub.batches(128, 1, CPU)).inputs.shape == (128, data.sequence)
    assert {path.name for path in prepare.held_out_folder(stub.folder).iterdir()} == {
        "val.npy", "hidden.npy", "token_bytes.npy", "meta.json",
    }  # fmt: skip


def test_downloads_of_an_older_format_go_where_no_trainer_reads_them(tmp_path: Path) -> None:
    (tmp_path / "hub").mkdir()
    (tmp_path / "hub/shard").write_text("x")
    assert (prepare._downloads(tmp_path) / "shard").read_text() == "x"
    assert not (tmp_path / "hub").exists()
    assert prepare._downloads(tmp_path) == tmp_path / "held-out/hub"


def test_a_folder_that_a_fence_hides_is_the_data_set_that_was_made_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A trainer may not list the user's text; it uses what was prepared last."""
    folder, scandir = tmp_path / "mine", os.scandir
    folder.mkdir()
    (folder / "a.jsonl").write_text(
        "\n".join(json.dumps({"text": f"{i} words {i * i}. " * 20}) for i in range(900))
    )
    monkeypatch.setenv("AUTORESEARCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("AUTORESEARCH_DATA", str(folder))
    prepared = prepare.load()
    assert json.loads((prepare.held_out_folder(prepared.folder) / "sources.json").read_text()) == [
        str(folder)
    ]

    def closed(path: object) -> object:
        if path == folder:
            raise PermissionError(errno.EACCES, "closed", str(path))
        return scandir(path)  # type: ignore[call-overload]

    monkeypatch.setattr(os, "scandir", closed)
    assert prepare.load().identity == prepared.identity
    (tmp_path / "cache/folders.json").unlink()
    with pytest.raises(prepare.BadData, match="cannot be read, and was not prepared"):
        prepare.load()


def test_batches_follow_the_seed(data: prepare.Data) -> None:
    first, again, other = (data.batches(4, seed, CPU) for seed in (1, 1, 2))
    for _ in range(3):
        a, b, c = next(first), next(again), next(other)
        assert torch.equal(a.inputs, b.inputs)
        assert torch.equal(a.targets, b.targets)
        assert not torch.equal(a.targets, c.targets)


def test_every_row_starts_with_bos_and_targets_are_shifted_inputs(data: prepare.Data) -> None:
    for inputs, targets, _ in itertools.islice(data.batches(8, 3, CPU), 20):
        assert (inputs[:, 0] == data.bos).all()
        assert torch.equal(inputs[:, 1:], targets[:, :-1])


def test_training_gets_no_held_out_stream(data: prepare.Data) -> None:
    assert set(data.streams) == {"train", "tune"}


@pytest.mark.parametrize("name", ["train.npy", "token_bytes.npy", "meta.json"])
def test_a_file_cut_short_is_found(
    name: str, data: prepare.Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = copied(data, tmp_path, monkeypatch) / name
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(prepare.BadData, match="damaged"):
        prepare.load()


def test_a_missing_file_is_found(data: prepare.Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (copied(data, tmp_path, monkeypatch) / "train.npy").unlink()
    with pytest.raises(prepare.BadData, match="damaged"):
        prepare.load()


@pytest.mark.slow
@pytest.mark.parametrize("part", [".", "held-out", "stub", "stub/held-out"])
def test_a_folder_without_meta_is_not_trusted(
    part: str, data: prepare.Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`meta.json` comes with the rename that ends a preparation; without it everything is made again."""
    folder = copied(data, tmp_path, monkeypatch)
    meta = json.loads((folder / "meta.json").read_text())
    (folder.parent / part / folder.name / "meta.json").unlink()
    (folder / "train.npy").write_bytes(b"half")
    assert prepare.load().identity == meta["data"]


def test_an_interrupted_preparation_leaves_nothing_that_is_trusted(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "nanogpt/prepare.py")]
    environment = {"AUTORESEARCH_CACHE": str(tmp_path), "PATH": ""}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    assert process.stdout
    assert "data: sympy" in process.stdout.readline()
    process.kill()
    process.communicate()
    assert not list(tmp_path.glob("*/meta.json"))


def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    command = [sys.executable, str(ROOT / "nanogpt/prepare.py")]
    environment = {"AUTORESEARCH_CACHE": str(tmp_path / "file"), "PATH": ""}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith("prepare.py: cannot write")
    assert done.stderr.count("\n") == 1
