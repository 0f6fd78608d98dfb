"""prepare.py: data is complete or not there, the same on every machine, and batches are what they must be."""

from __future__ import annotations

import itertools
import json
import shutil
import subprocess
import sys
from pathlib import Path

import corpus
import numpy as np
import pytest
import torch

import prepare

ROOT = Path(__file__).parents[2]
CPU = torch.device("cpu")


def copied(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The prepared folder in a cache of its own, to be damaged."""
    monkeypatch.setenv("AUTORESEARCH_CACHE", str(tmp_path))
    folder = next(path for path in cache.iterdir() if path.is_dir())
    shutil.copytree(folder, tmp_path / folder.name)
    return tmp_path / folder.name


def test_the_identity_is_known(data: prepare.Data) -> None:
    """The embedded corpus is the same on every machine; another identity would end all comparisons."""
    assert data.identity == "164dd6c5f041aa0a"


def test_a_tokenizer_that_is_loaded_again_says_the_same(cache: Path, data: prepare.Data) -> None:
    from tokenizers import Tokenizer

    folder = next(path for path in cache.iterdir() if path.is_dir())
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    text = corpus.split_sympy()["val"][0]
    ids = tokenizer.encode(text).ids
    assert tokenizer.decode(ids) == text
    assert list(np.load(data.folder / "val.npy")[: len(ids) + 1]) == [data.bos, *ids]
    assert data.token_bytes[ids].sum() == len(text.encode())


def test_bytes_are_raw_bytes(data: prepare.Data) -> None:
    """All validation text is counted, byte for byte, and BOS counts nothing."""
    assert data.token_bytes[data.bos] == 0
    assert data.token_bytes[np.load(data.folder / "val.npy")].sum() == corpus.VAL_BYTES
    assert (np.delete(data.token_bytes, data.bos) > 0).all()


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


@pytest.mark.parametrize("seed", range(5))
def test_packed_rows_are_full_and_begin_with_documents(seed: int) -> None:
    generator = np.random.default_rng(seed)
    # Token values tell the document and the place in it.
    documents = [
        np.uint16(1 + 100 * i) + np.arange(generator.integers(1, 60)).astype(np.uint16) for i in range(300)
    ]
    rows = list(prepare.pack(documents, 40, 0, pool_size=50))
    used = 0
    for row in rows:
        assert len(row) == 40
        for part in np.split(row, np.flatnonzero(row == 0)):
            tokens = part[part != 0].astype(int)
            used += len(tokens)
            if len(tokens):
                assert (np.diff(tokens) == 1).all()
                assert (tokens[0] - 1) % 100 in (0, 40)  # a beginning, of a document or of its second row
    assert used > 0.9 * sum(map(len, documents))


@pytest.mark.parametrize("name", ["train.npy", "token_bytes.npy", "meta.json"])
def test_a_file_cut_short_is_found(
    name: str, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = copied(cache, tmp_path, monkeypatch) / name
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(prepare.BadData, match="damaged"):
        prepare.load()


def test_a_missing_file_is_found(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (copied(cache, tmp_path, monkeypatch) / "train.npy").unlink()
    with pytest.raises(prepare.BadData, match="damaged"):
        prepare.load()


@pytest.mark.slow
def test_a_folder_without_meta_is_not_trusted(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`meta.json` comes with the rename that ends a preparation; without it everything is made again."""
    folder = copied(cache, tmp_path, monkeypatch)
    meta = json.loads((folder / "meta.json").read_text())
    (folder / "meta.json").unlink()
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
