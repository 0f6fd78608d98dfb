"""held_out.py: each row of both splits once, and bits per byte."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from held_out import HeldOut, held_out_folder

from tests.nanogpt import world
from tests.nanogpt.world import SEQUENCE


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return held_out_folder(world.folder(tmp_path_factory.mktemp("cache") / "data", 24, 8))


def test_it_goes_over_each_split_once(folder: Path) -> None:
    held_out = HeldOut(folder)
    assert (held_out.val_rows, held_out.rows.shape) == (24, (32, SEQUENCE))
    for split, rows in (("val", held_out.rows[:24]), ("hidden", held_out.rows[24:])):
        stream = np.load(folder / f"{split}.npy")
        assert np.array_equal(rows.flatten(), stream[: rows.size])
        assert 0 < len(stream) - rows.size <= SEQUENCE
    assert held_out.identity == json.loads((folder / "meta.json").read_text())["data"]


def test_a_row_is_shown_after_a_bos(folder: Path) -> None:
    held_out = HeldOut(folder)
    shown = held_out.with_bos(held_out.rows[3:5])
    assert (shown[:, 0] == held_out.bos).all()
    assert np.array_equal(shown[:, 1:], held_out.rows[3:5])


def test_bits_per_byte_are_those_of_text_alone(folder: Path) -> None:
    held_out = HeldOut(folder)
    lengths = np.load(folder / "token_bytes.npy")
    claims = np.full(held_out.rows.shape, -math.log(2), np.float32)  # a bit for each token
    claims[held_out.rows == held_out.bos] = math.nan
    assert (held_out.rows == held_out.bos).any()
    val, hidden = held_out.bits_per_byte(claims)
    for found, rows in ((val, held_out.rows[:24]), (hidden, held_out.rows[24:])):
        assert found == pytest.approx((rows != 0).sum() / lengths[rows].sum(), rel=1e-6)
