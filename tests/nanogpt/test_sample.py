"""sample.py: a model that a real training has saved comes back whole, and continues a text."""

from __future__ import annotations

import itertools
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from sample import continuation
from torch import Tensor, nn

from tests.nanogpt.test_train import ROOT, run


@pytest.fixture(scope="module")
def model(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model of a training of five steps."""
    folder = tmp_path_factory.mktemp("training")
    path = folder / "model.pt"
    done = run(cache, AUTORESEARCH_MODEL_FILE=str(path))
    assert done.returncode == 0, done.stderr
    return path


def sample(model: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "nanogpt/sample.py"), str(model), *words]
    return subprocess.run(command, env={"OMP_NUM_THREADS": "1"}, capture_output=True, text=True)


def text(done: subprocess.CompletedProcess[str]) -> str:
    """The continuation that a sample printed."""
    assert done.returncode == 0, done.stderr
    return done.stdout.partition("---\n")[2]


def test_the_same_seed_continues_a_text_in_the_same_way(model: Path) -> None:
    words = ("def integrate(", "--tokens", "20")
    first, again, other = (text(sample(model, *words, "--seed", seed)) for seed in ("1", "1", "2"))
    assert first == again != other
    assert len(first) > 20


def test_temperature_zero_takes_the_likeliest_token_whatever_the_seed(model: Path) -> None:
    words = ("--tokens", "8", "--temperature", "0", "def __")
    assert text(sample(model, *words)) == text(sample(model, *words, "--seed", "2"))


def test_a_file_that_holds_something_else_is_refused(model: Path, tmp_path: Path) -> None:
    for name in ("meta.json", "tokenizer.json"):
        (tmp_path / name).symlink_to(model.with_name(name))
    torch.save({"a": 1}, tmp_path / "model.pt")
    done = sample(tmp_path / "model.pt", "x")
    assert done.returncode == 1
    assert done.stderr == f"{tmp_path / 'model.pt'} holds a dict, not a model\n"


class Counting(nn.Module):
    """The token after t is t + 1, for certain; it remembers the rows that it was shown."""

    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(1))
        self.rows: list[list[int]] = []

    def forward(self, tokens: Tensor) -> Tensor:
        self.rows += tokens.tolist()
        return 99.0 * nn.functional.one_hot((tokens + 1) % 8, 8)


@pytest.mark.parametrize("temperature", [0.0, 0.5])
def test_a_continuation_ends_where_a_new_document_begins(temperature: float) -> None:
    assert list(continuation(Counting(), [2, 4], 16, temperature, 1, 0)) == [5, 6, 7]


def test_a_model_sees_bos_and_the_last_tokens_that_fit_in_a_row() -> None:
    model = Counting()
    found = continuation(model, [1, 1, 1, 2], 4, 0.0, 1, 0)
    assert list(itertools.islice(found, 2)) == [3, 4]
    assert model.rows == [[0, 1, 1, 2], [0, 1, 2, 3]]
    assert next(continuation(model, [], 4, 0.0, 1, 0)) == 1
