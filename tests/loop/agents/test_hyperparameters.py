"""Hyperparameters of a script: found, moved within their ranges, written back in place."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loop.agents import hyperparameters
from loop.agents.hyperparameters import Hyperparameter

SCRIPT = '''\
"""A script."""
import os
DEPTH = 3  # blocks [1, 8]
LR = 3e-4   # learning rate [1e-5, 1e-2]
USE_BIAS = False
SEED = 42
ALLOWED_SEED = 7  # this one may move [1, 100]
name = 5
BETAS = (0.9, 0.95)
NEGATIVE = -2.0  # [-8.0, -1.0]
ZERO = 0
if True:
    INSIDE = 16
def f():
    LOCAL = 5
'''
BLOCKS = """\
EPOCHS = 3
# --- hyperparameters: cpu ---
WIDTH = 128  # [64, 512]
# --- hyperparameters: cuda ---
WIDTH = 1024  # [256, 4096]
# --- model ---
HEADS = 4
"""


def test_only_named_numbers_at_the_top_are_hyperparameters() -> None:
    found = {hyperparameter.name: hyperparameter for hyperparameter in hyperparameters.find(SCRIPT)}
    assert set(found) == {"DEPTH", "LR", "USE_BIAS", "ALLOWED_SEED", "NEGATIVE", "INSIDE"}
    assert (found["DEPTH"].low, found["DEPTH"].high) == (1, 8)
    assert (found["NEGATIVE"].low, found["NEGATIVE"].high) == (-8, -1)
    assert (found["INSIDE"].low, found["INSIDE"].high) == (4, 64)


@pytest.mark.parametrize(("device", "width"), [("cpu", 128), ("cuda", 1024)])
def test_only_the_block_of_this_device_counts(device: str, width: int) -> None:
    assert [
        (hyperparameter.name, hyperparameter.value) for hyperparameter in hyperparameters.find(BLOCKS, device)
    ] == [("WIDTH", width)]


def test_a_change_leaves_everything_else_as_it_is() -> None:
    changed = hyperparameters.change(SCRIPT, {"LR": 1e-3, "USE_BIAS": True}, hyperparameters.find(SCRIPT))
    assert changed == SCRIPT.replace("LR = 3e-4 ", "LR = 0.001 ").replace(
        "USE_BIAS = False", "USE_BIAS = True"
    )


def test_a_block_of_another_device_is_not_touched() -> None:
    changed = hyperparameters.change(BLOCKS, {"WIDTH": 2048}, hyperparameters.find(BLOCKS, "cuda"))
    assert changed == BLOCKS.replace("WIDTH = 1024", "WIDTH = 2048")


@pytest.mark.parametrize("source", ["", "X = ", "\0", "X = 1e999\n", "def f(:\n"])
def test_a_script_without_knobs_has_none(source: str) -> None:
    assert hyperparameters.find(source) == ()


numbers = st.one_of(
    st.booleans(), st.integers(1, 10**6), st.floats(1e-6, 1e6, allow_nan=False, allow_infinity=False)
)


@given(value=numbers)
def test_steps_stay_in_range_and_are_written_as_they_are(value: hyperparameters.Value) -> None:
    (hyperparameter,) = hyperparameters.find(f"X = {value!r}\n")
    steps = hyperparameter.steps()
    assert len(steps) == len(set(steps))
    for step in steps:
        assert type(step) is type(value)
        assert hyperparameter.value != step
        if not isinstance(step, bool):
            assert min(hyperparameter.low, value) * 0.99 <= step <= max(hyperparameter.high, value) * 1.01
            assert -0.01 <= hyperparameter.place(step) <= 1.01
        assert ast.literal_eval(hyperparameters.show(step)) == step
        (again,) = hyperparameters.find(
            hyperparameters.change(f"X = {value!r}\n", {"X": step}, (hyperparameter,))
        )
        assert again.value == step


@given(st.floats(0, 1), st.floats(1e-6, 10), st.floats(1.5, 1e4))
def test_a_place_and_its_value_belong_together(place: float, low: float, factor: float) -> None:
    hyperparameter = Hyperparameter("X", low * factor**0.5, low, low * factor, 1)
    assert hyperparameter.place(hyperparameter.at(place)) == pytest.approx(place, abs=0.02)


def test_round_numbers_stay_round() -> None:
    assert set(Hyperparameter("WIDTH", 128, 64, 512, 1).steps()) == {64, 192, 256, 320}
    assert {step % 8 for step in map(int, Hyperparameter("N", 48, 8, 512, 1).steps())} == {0}
    assert set(Hyperparameter("DEPTH", 3, 1, 8, 1).steps()) == {1, 2, 4, 5, 6, 7}


def test_what_must_be_a_multiple_is_one() -> None:
    found = hyperparameters.find(
        "WIDTH = 128  # a multiple of HEAD [64, 512]\nHEAD = 32\nROWS = 8  # multiple of 4 [4, 64]\n"
    )
    assert [hyperparameter.multiple for hyperparameter in found] == ["HEAD", "", "4"]
    assert hyperparameters.fits({"WIDTH": 192, "HEAD": 48, "ROWS": 8}, found)
    assert not hyperparameters.fits({"WIDTH": 128, "HEAD": 48, "ROWS": 8}, found)
    assert not hyperparameters.fits({"WIDTH": 128, "HEAD": 32, "ROWS": 6}, found)


def test_what_does_nothing_without_another_says_so() -> None:
    found = hyperparameters.find("TABLES = 0  # [0, 2]\nROWS = 64  # of each, only with TABLES [16, 512]\n")
    assert [hyperparameter.needs for hyperparameter in found] == ["", "TABLES"]


def test_powers_and_annotated_numbers_are_knobs_too() -> None:
    script = "TOTAL_BATCH = 2**19 # tokens\nLR: float = 0.02 # é\nX = Y = 3\n"
    found = hyperparameters.find(script)
    assert [(hyperparameter.name, hyperparameter.value) for hyperparameter in found] == [
        ("TOTAL_BATCH", 2**19),
        ("LR", 0.02),
    ]
    changed = hyperparameters.change(script, {"TOTAL_BATCH": 2**18, "LR": 0.03}, found)
    assert changed == "TOTAL_BATCH = 262144 # tokens\nLR: float = 0.03 # é\nX = Y = 3\n"


def test_code_is_the_same_however_it_is_set() -> None:
    assert hyperparameters.code("LR = 1.0\nf(LR)\n") == hyperparameters.code("LR = 2.0  # faster\nf(LR)\n")
    assert hyperparameters.code("LR = 1.0\nf(LR)\n") != hyperparameters.code("LR = 1.0\ng(LR)\n")


def test_the_trainer_of_this_project_has_knobs_for_every_device() -> None:
    source = (Path(__file__).parents[3] / "nanogpt/train.py").read_text()
    for device in ("cpu", "cuda"):
        assert len(hyperparameters.find(source, device)) >= 10
