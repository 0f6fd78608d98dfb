"""Hyperparameters of a script: found, moved within their ranges, written back in place."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loop.agents import knobs
from loop.agents.knobs import Knob

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


def test_only_named_numbers_at_the_top_are_knobs() -> None:
    found = {knob.name: knob for knob in knobs.find(SCRIPT)}
    assert set(found) == {"DEPTH", "LR", "USE_BIAS", "ALLOWED_SEED", "NEGATIVE", "INSIDE"}
    assert (found["DEPTH"].low, found["DEPTH"].high) == (1, 8)
    assert (found["NEGATIVE"].low, found["NEGATIVE"].high) == (-8, -1)
    assert (found["INSIDE"].low, found["INSIDE"].high) == (4, 64)


@pytest.mark.parametrize(("device", "width"), [("cpu", 128), ("cuda", 1024)])
def test_only_the_block_of_this_device_counts(device: str, width: int) -> None:
    assert [(knob.name, knob.value) for knob in knobs.find(BLOCKS, device)] == [("WIDTH", width)]


def test_a_change_leaves_everything_else_as_it_is() -> None:
    changed = knobs.change(SCRIPT, {"LR": 1e-3, "USE_BIAS": True}, knobs.find(SCRIPT))
    assert changed == SCRIPT.replace("LR = 3e-4 ", "LR = 0.001 ").replace(
        "USE_BIAS = False", "USE_BIAS = True"
    )


def test_a_block_of_another_device_is_not_touched() -> None:
    changed = knobs.change(BLOCKS, {"WIDTH": 2048}, knobs.find(BLOCKS, "cuda"))
    assert changed == BLOCKS.replace("WIDTH = 1024", "WIDTH = 2048")


@pytest.mark.parametrize("source", ["", "X = ", "\0", "X = 1e999\n", "def f(:\n"])
def test_a_script_without_knobs_has_none(source: str) -> None:
    assert knobs.find(source) == ()


def test_comments_and_layout_do_not_make_another_experiment() -> None:
    assert knobs.fingerprint("X = 1  # one\n") == knobs.fingerprint("X   =  1\n")
    assert knobs.fingerprint("X = 1\n") != knobs.fingerprint("X = 2\n")
    assert knobs.fingerprint("X = \n") != knobs.fingerprint("Y = \n")


numbers = st.one_of(
    st.booleans(), st.integers(1, 10**6), st.floats(1e-6, 1e6, allow_nan=False, allow_infinity=False)
)


@given(value=numbers)
def test_steps_stay_in_range_and_are_written_as_they_are(value: knobs.Value) -> None:
    (knob,) = knobs.find(f"X = {value!r}\n")
    steps = knob.neighbours()
    assert len(steps) == len(set(steps))
    for step in steps:
        assert type(step) is type(value)
        assert knob.value != step
        if not isinstance(step, bool):
            assert min(knob.low, value) * 0.99 <= step <= max(knob.high, value) * 1.01
        assert ast.literal_eval(knobs.show(step)) == step


def test_a_power_of_two_stays_one() -> None:
    assert Knob("ROWS", 16, 4, 64, 1).neighbours() == [32, 8, 64, 4]


def test_the_trainer_of_this_project_has_knobs_for_every_device() -> None:
    source = (Path(__file__).parents[3] / "nanogpt/train.py").read_text()
    for device in ("cpu", "cuda"):
        assert len(knobs.find(source, device)) >= 10
