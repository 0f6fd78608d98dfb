"""The GPU profiles go through a GPU's compiler, on a machine that has none.

They need torch's CUDA wheel in an environment of its own: `make lab` makes one and runs these tests, or
AUTORESEARCH_LAB names its Python. Without it they are skipped. docs/trainer.md tells more.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import sympy
import torch

from tests.lab import report, slices
from tests.lab.cards import CARDS, Work, seconds

PYTHON = os.environ.get("AUTORESEARCH_LAB") or (sys.executable if torch.version.cuda else "")
TRAINER = Path(os.environ.get("AUTORESEARCH_LAB_TRAINER", report.ROOT / "nanogpt"))


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.skipif(not PYTHON, reason="needs torch's CUDA wheel: `make lab`, or set AUTORESEARCH_LAB")
@pytest.mark.parametrize("title", ["H100-80", "RTX 4090"])
def test_both_profiles_compile_and_fit(title: str) -> None:
    """The large profile for an H100 (sm_90), the small one for a card of 24 GB (sm_89)."""
    done = subprocess.run(
        [PYTHON, "-m", "tests.lab.report", "--cards", title, "--trainer", str(TRAINER)],
        cwd=report.ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert found["kernels"] > 20
    assert found["refused"] == []
    assert found["memory"] < 0.95 * found["card_memory"]
    # What the trainer estimates before it starts must hold, and not waste half of the card.
    assert 0.9 * found["memory"] < found["estimate"] < 1.5 * found["memory"]
    assert found["rows"] * 4 >= found["of"]


@pytest.mark.slow
def test_nothing_breaks_the_graph_and_nothing_is_compiled_twice() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.lab.graphs", str(TRAINER)],
        cwd=report.ROOT, env={**os.environ, "AUTORESEARCH_PROFILE": "h100"}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "graphs: 1"


def test_a_step_takes_longer_on_a_slower_card_and_with_more_passes() -> None:
    one = Work(1, 75e12, 8e12, 250e9, 20e9)
    times = [seconds(CARDS[title], one) for title in ("H100-80", "A100-80", "RTX 4090", "L4")]
    assert times == sorted(times)
    assert seconds(CARDS["H100-80"], one._replace(passes=4)) > times[0]


def test_the_table_s_row_names_what_matters() -> None:
    found = {
        "card": "L4", "parameters": 3.2e8, "rows": 8, "of": 32, "memory": 18 * 2**30,
        "card_memory": 22 * 2**30, "tokens_a_second": 234_000, "mfu": 0.171, "kernels": 49,
        "refused": ["one"],
    }  # fmt: skip
    assert report.line(found) == "| L4 | 320 M | 8 of 32 | 18.0 of 22.0 | 0.23M | 17% | 48 of 49 |"


def test_a_slice_is_counted_as_a_slice() -> None:
    """Of rows with queries, keys and values side by side a kernel that reads two parts reads two thirds."""
    batch, row, column = sympy.symbols("batch row column")
    query = 19200 * batch + 192 * row + column
    ranges = {batch: 7, row: 100, column: 64}
    size = 7 * 100 * 192
    assert slices.elements([(query, ranges)], size) == size / 3
    assert slices.elements([(query, ranges), (query + 64, ranges)], size) == size * 2 / 3
    assert slices.elements([(query, ranges), (query + 32, ranges)], size) == size / 2
    assert slices.elements([(query, ranges), (192 * row + column, {row: 700, column: 64})], size) == size
    assert slices.elements([(sympy.floor(row / 2), {row: 100})], size) == size
