"""selftest.py: each check finds what it looks for, and one that breaks does not end the others."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import attention
import machine
import pytest
import selftest
import torch
from torch import Tensor

import prepare
import train
from clock import Clock

CPU = torch.device("cpu")


def test_a_check_that_raises_is_a_line_like_any_other(capsys: pytest.CaptureFixture[str]) -> None:
    def breaks() -> selftest.Finding:
        raise RuntimeError("CUDA error:\n no kernel image")

    assert selftest.show("step", breaks) == "fail"
    assert capsys.readouterr().out == "fail     0.0 s  step: RuntimeError: CUDA error: no kernel image\n"


def test_the_attention_that_trains_is_right() -> None:
    assert selftest.tried("sdpa", CPU)[0] == "ok"


def test_a_wrong_attention_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    right = attention.attention

    def blind(q: Tensor, k: Tensor, v: Tensor, window: int, backend: str) -> Tensor:
        return right(q, k, v, min(window, 50), backend)  # not all of what it should see

    monkeypatch.setattr(attention, "attention", blind)
    assert selftest.tried("sdpa", CPU)[0] == "fail"


def test_code_that_cannot_be_compiled_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_compiler(*_: Any, **__: Any) -> Any:
        raise RuntimeError("Failed to find C compiler")

    monkeypatch.setattr(torch, "compile", no_compiler)
    verdict, text = selftest.compiled(CPU)
    assert verdict == "warn"
    assert "Failed to find C compiler" in text


def test_a_machine_without_a_compiler_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "no_compiler", lambda: "no C compiler: install gcc")
    assert selftest.compiler() == ("warn", "no C compiler: install gcc")


def test_a_gpu_that_cannot_be_used_ends_the_test(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(machine, "facts", lambda: {"problem": "needs driver 580"})
    assert selftest.main() == 1
    assert capsys.readouterr().out.endswith("device: needs driver 580\n")


def test_whole_steps_and_a_question_of_the_judge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of short rows; the slow test of the command tries the whole size."""
    monkeypatch.setenv("AUTORESEARCH_CACHE", str(tmp_path))
    monkeypatch.setenv("AUTORESEARCH_DATA", "sympy")
    monkeypatch.setattr(train, "ROWS", 4)
    prepared = tmp_path / f"sympy-v{prepare.FORMAT}/meta.json"
    prepared.parent.mkdir()
    prepared.write_text('{"vocab_size": 512, "sequence": 64}')
    data = selftest.random_data(tmp_path, large=False)
    assert (data.vocab_size, data.sequence) == (512, 64)
    model = train.GPT(data.vocab_size, data.sequence, data.bos)
    verdict, text = selftest.step(train, model, data)
    assert verdict == "ok"
    assert text.startswith("4 of 4 rows at once, first step ")
    assert vars(train)["Clock"] is Clock
    assert selftest.evaluation(train, model, data)[0] == "ok"
    with torch.no_grad():
        model.head.weight.fill_(torch.nan)
    assert selftest.evaluation(train, model, data)[0] == "fail"


@pytest.mark.slow
def test_without_any_compiler_on_the_machine_training_is_said_to_be_slower(tmp_path: Path) -> None:
    code = "import selftest, torch; print(*selftest.compiled(torch.device('cpu')))"
    folder = Path(selftest.__file__).parent
    environment = {**os.environ, "PATH": str(tmp_path), "TORCHINDUCTOR_CACHE_DIR": str(tmp_path)}
    environment.pop("CXX", None)
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("warn nothing can be compiled, training is slower: ")
