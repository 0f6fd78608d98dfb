"""tokens.py: text becomes tokens and back without loss, and rows are packed full."""

from __future__ import annotations

from pathlib import Path

import corpus
import numpy as np
import pytest
import tokens

import prepare


def test_a_tokenizer_that_is_loaded_again_says_the_same(data: prepare.Data) -> None:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(data.folder / "tokenizer.json"))
    text = corpus.split_sympy().documents["val"][0]
    ids = tokenizer.encode(text).ids
    assert tokenizer.decode(ids) == text
    assert list(np.load(prepare.held_out_folder(data.folder) / "val.npy")[: len(ids) + 1]) == [data.bos, *ids]
    assert data.token_bytes[ids].sum() == len(text.encode())


def test_bytes_are_raw_bytes(data: prepare.Data) -> None:
    """All validation text is counted, byte for byte, and BOS counts nothing."""
    assert data.token_bytes[data.bos] == 0
    assert (
        data.token_bytes[np.load(prepare.held_out_folder(data.folder) / "val.npy")].sum() == corpus.VAL_BYTES
    )
    assert (np.delete(data.token_bytes, data.bos) > 0).all()


@pytest.mark.parametrize("seed", range(5))
def test_packed_rows_are_full_and_begin_with_documents(seed: int) -> None:
    generator = np.random.default_rng(seed)
    # Token values tell the document and the place in it.
    documents = [
        np.uint16(1 + 100 * i) + np.arange(generator.integers(1, 60)).astype(np.uint16) for i in range(300)
    ]
    rows = list(tokens.pack(documents, 40, 0, pool_size=50))
    used = 0
    for row in rows:
        assert len(row) == 40
        for part in np.split(row, np.flatnonzero(row == 0)):
            values = part[part != 0].astype(int)
            used += len(values)
            if len(values):
                assert (np.diff(values) == 1).all()
                assert (values[0] - 1) % 100 in (0, 40)  # a beginning, of a document or of its second row
    assert used > 0.9 * sum(map(len, documents))


def test_a_file_of_tokens_holds_no_more_than_its_limit(tmp_path: Path) -> None:
    pieces = [np.arange(5, dtype=np.uint16), np.arange(5, 9, dtype=np.uint16)]
    count, digest = tokens.write(tmp_path / "a.npy", pieces, 7)
    assert count == 7
    assert list(np.load(tmp_path / "a.npy")) == list(range(7))
    assert tokens.write(tmp_path / "b.npy", iter(pieces), 0)[0] == 9
    assert digest == tokens.write(tmp_path / "c.npy", [np.arange(7, dtype=np.uint16)], 0)[1]


def test_random_tokens_are_always_the_same_and_of_the_whole_vocabulary() -> None:
    drawn = tokens.random_tokens(20_000, 61)
    assert (drawn == tokens.random_tokens(20_000, 61)).all()
    assert set(drawn.tolist()) == set(range(61))
