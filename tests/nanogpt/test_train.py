"""train.py: it keeps the trainer's contract, gives the same number again, and its parts do what they say."""

from __future__ import annotations

import math
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import saving
import torch
from counts import folds
from held_out import HeldOut
from torch import Tensor

import prepare
import train
from clock import SLACK_STEPS, Clock
from loop.training import progress
from prepare import Data
from tests.nanogpt import world

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache with very little data under the name of sympy's."""
    cache = tmp_path_factory.mktemp("cache")
    world.folder(cache / f"sympy-v{prepare.FORMAT}", 12, 4, 509, 256)
    return cache


def run(cache: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Train for five steps, two of them with counts."""
    given = {
        "AUTORESEARCH_CACHE": str(cache),
        "AUTORESEARCH_DATA": "sympy",
        "AUTORESEARCH_MAX_STEPS": "5",
        "OMP_NUM_THREADS": "1",
        "PATH": os.environ["PATH"],
    }
    return subprocess.run(
        [sys.executable, str(ROOT / "nanogpt/train.py")],
        env=given | environment, capture_output=True, text=True,
    )  # fmt: skip


def test_the_contract_is_kept_and_the_same_training_gives_the_same_number(small: Path) -> None:
    done, again = run(small), run(small)
    assert done.returncode == 0, done.stderr
    log = done.stdout
    assert log.startswith("phase: starting\n")
    steps = [found for line in log.splitlines() if (found := progress.parse(line))]
    assert steps[-1].step == 5
    assert steps[-1].fraction == 1.0
    assert steps[-1].loss
    summary, other = progress.parse_summary(log), progress.parse_summary(again.stdout)
    assert summary["val_bpb"] == pytest.approx(other["val_bpb"], abs=1e-5)
    for name in ("training_seconds", "total_seconds", "peak_vram_mb", "total_tokens_M", "num_params_M"):
        assert isinstance(summary[name], float)
    assert summary["num_steps"] == 5
    assert f"data: {HeldOut(small / 'held-out' / f'sympy-v{prepare.FORMAT}').identity}" in log


def test_for_the_judge_the_model_is_saved_and_no_number_is_printed(small: Path, tmp_path: Path) -> None:
    done = run(small, AUTORESEARCH_MODEL_FILE=str(tmp_path / "model.pt"))
    assert done.returncode == 0, done.stderr
    assert "val_bpb" not in done.stdout
    assert "nan" not in done.stdout
    assert progress.parse_summary(done.stdout)["num_steps"] == 5
    model = saving.load(tmp_path / "model.pt", torch.device("cpu"))
    assert type(model) is train.GPT
    assert model.memory is not None
    assert not model.memory.counts.folds


def test_a_full_disk_ends_the_training_with_one_sentence(small: Path, tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**16, before[1]))  # the trainer inherits it
    try:
        done = run(small, AUTORESEARCH_MODEL_FILE=str(tmp_path / "model.pt"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert done.returncode == 1
    assert done.stderr.startswith("the model cannot be saved, so nobody can measure it (")
    assert done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


OLDER = """
import torch
from prepare import SLACK_STEPS, BadData, Batch, Cheating, Clock, Data, evaluate, load
from tests.nanogpt.world import Small
try:
    val_bpb = evaluate(Small().eval(), load(), Clock())
    print("---")
    print(f"val_bpb:          {val_bpb:.6f}")
except (BadData, Cheating) as error:
    raise SystemExit(str(error))
"""


@pytest.mark.parametrize("judged", [False, True])
def test_a_train_py_of_an_older_version_still_works(judged: bool, tmp_path: Path) -> None:
    world.folder(tmp_path / f"sympy-v{prepare.FORMAT}")
    environment = {
        "PYTHONPATH": f"{ROOT / 'nanogpt'}:{ROOT}",
        "AUTORESEARCH_CACHE": str(tmp_path),
        "AUTORESEARCH_DATA": "sympy",
    }
    if judged:
        environment["AUTORESEARCH_MODEL_FILE"] = str(tmp_path / "model.pt")
    done = subprocess.run([sys.executable, "-c", OLDER], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "model.pt").exists() == judged
    found = progress.metric(progress.parse_summary(done.stdout), "val_bpb")
    assert (found is None) == judged


def test_it_shows_life_before_the_slow_imports(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("raise SystemExit('torch is imported')")
    done = subprocess.run(
        [sys.executable, str(ROOT / "nanogpt/train.py")],
        env={"PYTHONPATH": str(tmp_path)}, capture_output=True, text=True,
    )  # fmt: skip
    assert (done.stdout, done.stderr) == ("phase: starting\n", "torch is imported\n")


def test_a_loss_that_is_not_finite_ends_the_training(data: Data) -> None:
    model = train.GPT(data.vocab_size, data.sequence, data.bos)
    model.embed.weight.data.fill_(math.nan)
    with pytest.raises(train.Diverged, match="loss is nan at step 0"):
        train.Trainer(model, data, 1).train()


def test_the_learning_rate_is_zero_then_full_then_falls_to_its_end() -> None:
    assert [train.learning_rate(step, 0.0) for step in range(SLACK_STEPS)] == [0.0] * SLACK_STEPS
    assert train.learning_rate(SLACK_STEPS, 0.0) == 1.0
    assert train.learning_rate(9, 1 - train.WARMDOWN) == pytest.approx(1.0)
    assert train.learning_rate(9, 1 - train.WARMDOWN / 2) == pytest.approx((1 + train.FINAL_LR) / 2)
    assert train.learning_rate(9, 1.0) == pytest.approx(train.FINAL_LR)


def test_rotation_depends_on_the_distance_of_two_positions_alone() -> None:
    model = train.GPT(64, 32, 0)
    q, k = torch.randn(2, 1, 1, 1, train.HEAD_DIM).expand(2, 1, 32, 1, train.HEAD_DIM).unbind(0)
    q, k = train.rotate(q, model.cos, model.sin)[0, :, 0], train.rotate(k, model.cos, model.sin)[0, :, 0]
    products = q @ k.T
    for distance in (0, 1, 7):
        line = products.diagonal(-distance)
        assert torch.allclose(line, line[0].expand_as(line), atol=1e-4)


@pytest.mark.parametrize("base", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_is_claimed_of_the_targets_is_what_the_logits_prove(
    base: bool, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One uses the target's share alone, the other spreads all shares over all tokens."""
    monkeypatch.setattr(train, "BIGRAM_BASE", base)
    monkeypatch.setattr(
        train.GPT, "_amp", lambda model: torch.autocast("cpu", dtype, enabled=dtype.itemsize == 2)
    )
    torch.manual_seed(0)
    model = train.GPT(32, 24, 0).eval()
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.1 * torch.randn_like(p))
    tokens = torch.randint(0, 8, (2, 24))
    targets = torch.roll(tokens, -1, 1)
    assert model.memory is not None
    stream = torch.randint(0, 32, (2000,))

    def difference() -> float:
        with torch.inference_mode():
            claimed = model.log_probabilities(tokens, targets)
            logits = torch.log_softmax(model(tokens), 2)
        assert claimed.shape == targets.shape
        return float((claimed - logits.gather(2, targets[:, :, None])[:, :, 0]).abs().max())

    assert difference() < 1e-5  # before there are counts
    model.memory.count(stream, folds(stream, 0, train.COUNT_FOLDS, 1))
    assert difference() < 1e-2  # the table of bigrams is rounded
    model.memory.merge_folds()
    assert difference() < 1e-5


def test_fewer_rows_go_through_at_once_where_memory_is_small() -> None:
    with torch.device("meta"):
        model = train.GPT(4096, 256, 0)
    whole, half = train.memory_bytes(model, train.ROWS), train.memory_bytes(model, train.ROWS // 2)
    assert train.rows_at_once(model, whole) == train.ROWS
    assert train.rows_at_once(model, whole - 1) == train.ROWS // 2
    assert train.rows_at_once(model, half - 1) == train.ROWS // 4
    assert train.rows_at_once(model, 0) == 1


LARGE = """
import math, torch, train
from counts import folds
assert train.LARGE
with torch.device("meta"):
    model = train.GPT(8192, 2048, 0)
    tokens = torch.zeros(2, 2048, dtype=torch.long)
assert 1e8 < sum(p.numel() for p in model.parameters()) < 2e9
assert train.memory_bytes(model, train.rows_at_once(model, train.ROOM_SHARE * 80e9)) < train.ROOM_SHARE * 80e9
model.log_probabilities(tokens, tokens).mean().backward()
assert all(p.grad is not None for p in model.parameters())

# The same model, made small, learns on this machine.
train.DEPTH, train.WIDTH, train.HEAD_DIM, train.NGRAM_ROWS, train.ROWS = 3, 64, 16, 512, 4
torch.manual_seed(0)
model = train.GPT(256, 64, 0)
optimizer = train.MuonAdamW(model)
tokens = (torch.arange(64).repeat(4, 1) * torch.tensor([[1], [3], [5], [7]])) % 256
before = model.ngrams[0].weight.detach().clone()
losses = []
for step in range(12):
    if step == 6:
        stream = torch.randint(1, 256, (4000,))
        fold = folds(stream, 0, train.COUNT_FOLDS, 1)
        model.memory.count(stream, fold)
    model.zero_grad()
    fold = torch.full_like(tokens[:, 1:], step % 5)
    loss = -model.log_probabilities(tokens[:, :-1], tokens[:, 1:], fold).mean()
    loss.backward()
    optimizer.step(1.0, 0.0)
    losses.append(float(loss.detach()))
assert abs(losses[0] - math.log(256)) < 0.5, losses
assert losses[-1] < losses[0] - 1, losses
moved = (model.ngrams[0].weight != before).any(1)
assert 1 <= int(moved.sum()) <= tokens.numel(), "only rows that were looked up are touched"
model.memory.merge_folds()
changed = tokens.clone()
changed[:, 40:] += 1
with torch.no_grad():
    assert torch.allclose(model(tokens)[:, :40], model(changed % 256)[:, :40], atol=1e-4)
"""


def test_the_large_profile_takes_a_step_without_memory_and_learns_when_small() -> None:
    """It has windows, value embeddings, n-gram tables and a softcap, which the CPU profile has not."""
    environment = {
        "PYTHONPATH": str(ROOT / "nanogpt"),
        "AUTORESEARCH_PROFILE": "h100",
        "OMP_NUM_THREADS": "1",
    }
    done = subprocess.run([sys.executable, "-c", LARGE], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("profile", ["h100", "24gb"])
def test_describe_tells_sizes_without_training(profile: str) -> None:
    command = [sys.executable, str(ROOT / "nanogpt/train.py"), "--describe", "--profile", profile]
    log = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    for word in (
        f"profile: {profile}",
        "blocks:",
        "n-gram tables:",
        "FLOPs per token:",
        "memory:",
        "counts:",
        "tokens:",
    ):
        assert word in log


class Failing:
    """Log-probabilities whose backward pass raises an error as long as it is told to."""

    def __init__(self, model: train.GPT, error: Exception, most: int) -> None:
        self.true, self.error, self.most, self.tried = model.dense, error, most, list[int]()

    def __call__(self, tokens: Tensor, *rest: Any) -> Tensor:
        self.tried.append(len(tokens))
        found = self.true(tokens, *rest)
        if len(tokens) > self.most:
            found.register_hook(self.fail)  # type: ignore[no-untyped-call]
        return found

    def fail(self, grad: Tensor) -> None:
        raise self.error


def one_step(trainer: train.Trainer, data: Data) -> float:
    return trainer._step(next(data.batches(train.ROWS, 1, train.DEVICE)), Clock())


def test_out_of_memory_in_a_backward_pass_halves_the_rows_until_they_fit(
    data: Data, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.manual_seed(0)
    model = train.GPT(data.vocab_size, data.sequence, data.bos)
    expected = one_step(train.Trainer(model, data, 1), data)
    torch.manual_seed(0)
    model = train.GPT(data.vocab_size, data.sequence, data.bos)
    trainer = train.Trainer(model, data, 1)
    failing = Failing(model, torch.OutOfMemoryError("CUDA out of memory"), 2)
    monkeypatch.setattr(model, "dense", failing)
    assert one_step(trainer, data) == pytest.approx(expected, rel=1e-3)
    assert trainer.rows == 2
    assert failing.tried == [8, 4, 2, 2, 2, 2]
    assert capsys.readouterr().out.splitlines() == [
        "out of memory: trying again with 4 rows at once",
        "out of memory: trying again with 2 rows at once",
    ]


def test_one_row_that_does_not_fit_is_an_error(data: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    model = train.GPT(data.vocab_size, data.sequence, data.bos)
    trainer = train.Trainer(model, data, 1)
    monkeypatch.setattr(model, "dense", Failing(model, torch.OutOfMemoryError("too small"), 0))
    with pytest.raises(torch.OutOfMemoryError, match="too small"):
        one_step(trainer, data)
    assert trainer.rows == 1


def test_a_model_that_cannot_be_compiled_trains_all_the_same(
    data: Data, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model = train.GPT(data.vocab_size, data.sequence, data.bos)
    trainer = train.Trainer(model, data, 1)
    error = RuntimeError("Failed to find C compiler.\nPlease specify via CC")
    vars(model)["dense"] = Failing(model, error, 0)
    trainer.compiled = True
    assert math.isfinite(one_step(trainer, data))
    said = capsys.readouterr().out
    assert said == (
        "compilation failed, training is slower without it (RuntimeError: Failed to find C compiler.)\n"
    )
    assert trainer.rows == train.ROWS


def test_an_error_of_the_model_itself_is_not_taken_for_one_of_the_compiler(
    data: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = train.GPT(data.vocab_size, data.sequence, data.bos)
    trainer = train.Trainer(model, data, 1)
    trainer.compiled = True
    monkeypatch.setattr(model, "trunk", lambda *given: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        one_step(trainer, data)
