"""train.py: it keeps the trainer's contract, gives the same number again, and its parts do what they say."""

from __future__ import annotations

import math
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest
import saving
import torch
from counts import Found
from held_out import HeldOut

import prepare
import train
from clock import SLACK_STEPS
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
    (tmp_path / "numpy.py").write_text("raise SystemExit('numpy is imported')")
    done = subprocess.run(
        [sys.executable, str(ROOT / "nanogpt/train.py")],
        env={"PYTHONPATH": str(tmp_path)}, capture_output=True, text=True,
    )  # fmt: skip
    assert (done.stdout, done.stderr) == ("phase: starting\n", "numpy is imported\n")


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


@pytest.mark.parametrize("shape", [(3, 16, 16), (2, 32, 8), (2, 8, 32)])
def test_orthogonalised_matrices_have_singular_values_close_to_one(shape: tuple[int, int, int]) -> None:
    found = train.orthogonalise(torch.randn(shape, generator=torch.Generator().manual_seed(0)))
    values = torch.linalg.svdvals(found)
    assert found.shape == shape
    assert 0.8 < float(values.min()) <= float(values.max()) < 1.2


def test_rotation_depends_on_the_distance_of_two_positions_alone() -> None:
    model = train.GPT(64, 32, 0)
    q, k = torch.randn(2, 1, 1, 1, train.HEAD_DIM).expand(2, 1, 32, 1, train.HEAD_DIM).unbind(0)
    q, k = train.rotate(q, model.cos, model.sin)[0, :, 0], train.rotate(k, model.cos, model.sin)[0, :, 0]
    products = q @ k.T
    for distance in (0, 1, 7):
        line = products.diagonal(-distance)
        assert torch.allclose(line, line[0].expand_as(line), atol=1e-4)


def test_a_candidate_adds_its_weighted_share_to_the_probability_of_its_token() -> None:
    memory = train.Memory(8, 0)
    memory.bigrams = torch.full((1, 8), 1 / 8).log()
    with torch.no_grad():
        memory.gate.bias.zero_()
        memory.gate.bias[1] = math.log(2.0)
    nobody = torch.zeros(2, train.WIDTH), torch.zeros(2, 3 * memory.counts.orders)
    # At position 1, token 5 has the share 1/4 in source 0 and 1/2 in source 1; at position 0, token 3 has 1.
    found = Found(
        torch.zeros(2, dtype=torch.long), torch.tensor([1, 1, 0]), torch.tensor([5, 5, 3]),
        torch.tensor([0, 1, 0]), torch.tensor([0.25, 0.5, 1.0]).log(), nobody[1],
    )  # fmt: skip
    key, extra = memory.mix(nobody[0], found)
    assert key.tolist() == [3, 8 + 5]
    probabilities = (1 / 8) * extra.exp()
    assert probabilities.tolist() == pytest.approx([1 / 8 + 1.0, 1 / 8 + 0.25 + 2 * 0.5])


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
assert train.LARGE
with torch.device("meta"):
    model = train.GPT(8192, 2048, 0)
    optimizer = train.MuonAdamW(model)
    tokens = torch.zeros(2, 2048, dtype=torch.long)
assert 1e8 < sum(p.numel() for p in model.parameters()) < 2e9
assert train.memory_bytes(model, train.rows_at_once(model, 0.85 * 80e9)) < 0.85 * 80e9
assert model(tokens).shape == (2, 2048, 8192)
model.loss(tokens, tokens).backward()
assert all(p.grad is not None for p in model.parameters())
optimizer.step(1.0, 0.5)

# The same model, made small, learns on this machine.
train.DEPTH, train.WIDTH, train.HEAD_DIM, train.NGRAM_ROWS, train.ROWS = 3, 64, 16, 512, 4
torch.manual_seed(0)
model = train.GPT(256, 64, 0)
optimizer = train.MuonAdamW(model)
tokens = (torch.arange(64).repeat(4, 1) * torch.tensor([[1], [3], [5], [7]])) % 256
losses = []
for step in range(12):
    model.zero_grad()
    loss = model.loss(tokens[:, :-1], tokens[:, 1:])
    loss.backward()
    optimizer.step(1.0, 0.0)
    losses.append(float(loss.detach()))
assert abs(losses[0] - math.log(256)) < 0.01, losses
assert losses[-1] < losses[0] - 1, losses
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


def test_describe_tells_sizes_without_training() -> None:
    command = [sys.executable, str(ROOT / "nanogpt/train.py"), "--describe", "--profile", "h100"]
    log = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    for word in ("blocks:", "n-gram tables:", "FLOPs per token:", "memory:", "tokens:"):
        assert word in log
