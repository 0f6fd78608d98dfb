"""Which kernels a trainer takes from a hub is found in its source, and fetched before it trains."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from loop.training.programs import fetch_kernels
from loop.training.programs.fetch_kernels import Call

AUTORESEARCH = """
from kernels import get_kernel
cap = torch.cuda.get_device_capability()
repo = "one/hopper" if cap == (9, 0) else "two/other"
fa3 = get_kernel(repo).flash_attn_interface
"""
"""How karpathy/autoresearch chooses its attention."""
PACKAGE = """
import os
def get_kernel(name, **more):
    if name in os.environ["MISSING"].split():
        raise FileNotFoundError(f"no build of {name}\\nfor this machine")
    print("had", name, more)
"""
"""Stands for the package `kernels`, and its hub."""


@pytest.mark.parametrize(
    ("source", "found"),
    [
        (AUTORESEARCH, [Call(["one/hopper", "two/other"], {})]),
        ("k = kernels.get_kernel('a/b', revision='v2', backend=x)", [Call(["a/b"], {"revision": "v2"})]),
        ("get_kernel(os.environ['KERNEL'])", []),
        ("import torch", []),
    ],
)
def test_the_calls_in_a_source(source: str, found: list[Call]) -> None:
    assert list(fetch_kernels.calls(source)) == found


def fetched(folder: Path, source: str, missing: str = "", package: str = PACKAGE) -> tuple[int, str]:
    """Run the program on a train.py, with a package `kernels` that lacks some kernels."""
    (folder / "train.py").write_text(source)
    if package:
        (folder / "kernels.py").write_text(package)
    done = subprocess.run(
        [sys.executable, fetch_kernels.__file__, "train.py"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder), "MISSING": missing},
        capture_output=True,
        text=True,
    )
    assert not done.stderr
    return done.returncode, done.stdout


def test_every_name_is_fetched_and_one_that_this_machine_has_is_enough(tmp_path: Path) -> None:
    code, said = fetched(tmp_path, AUTORESEARCH, missing="two/other")
    assert code == 0
    assert "had one/hopper {}" in said
    assert "kernel two/other cannot be had: no build of two/other for this machine" in said


def test_a_kernel_that_cannot_be_had_at_all_fails(tmp_path: Path) -> None:
    assert fetched(tmp_path, AUTORESEARCH, missing="one/hopper two/other")[0] == 1


def test_a_missing_package_is_said(tmp_path: Path) -> None:
    code, said = fetched(tmp_path, AUTORESEARCH, package="")
    assert code == 1
    assert "the package `kernels` is missing" in said


@pytest.mark.parametrize("source", ["import torch", "def ("])
def test_nothing_is_needed_where_nothing_is_fetched(tmp_path: Path, source: str) -> None:
    assert fetched(tmp_path, source, package="") == (0, "")
