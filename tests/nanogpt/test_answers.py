"""answers.py: what a saved model answers to the judge is what the model says."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from answers import claims, fitting, logits, proofs
from protocol import CLAIMS, NOT_LOADED, PROOFS, Answerer, Failed
from torch import Tensor, nn

from tests.nanogpt.judging import room
from tests.nanogpt.world import SEQUENCE, VOCABULARY, Small

CPU = torch.device("cpu")
T, V = SEQUENCE, VOCABULARY


def rows(count: int = 4) -> Tensor:
    return torch.randint(1, V, (count, T + 1), generator=torch.Generator().manual_seed(1))


def test_claims_are_log_probabilities_of_the_next_tokens() -> None:
    model, shown = Small().eval(), rows()
    exact = torch.log_softmax(model(shown[:, :-1]).double(), 2).gather(2, shown[:, 1:, None])[:, :, 0]
    assert torch.allclose(claims(model, shown, V).double(), exact, atol=1e-5)


class Quick(Small):
    """Tells log-probabilities without all logits."""

    def log_probabilities(self, tokens: Tensor, targets: Tensor) -> Tensor:
        return -(tokens + targets).half()


class Mean(Small):
    """Has a method of this name that gives something else."""

    def log_probabilities(self, tokens: Tensor, targets: Tensor) -> Tensor:
        return torch.zeros(())


def test_a_model_may_tell_log_probabilities_without_all_logits() -> None:
    shown = rows()
    found = claims(Quick(), shown, V)
    assert found.dtype == torch.float32
    assert torch.equal(found, -(shown[:, :-1] + shown[:, 1:]).float())


class OfHidden(Small):
    """Takes something else, as a method of a language model's head may."""

    def log_probabilities(self, hidden: Tensor, targets: Tensor) -> Tensor:
        return torch.nn.functional.linear(hidden, torch.ones(V, 7)).gather(2, targets[:, :, None])[:, :, 0]


class Plain(Small):
    """Takes fewer arguments."""

    def log_probabilities(self, hidden: Tensor) -> Tensor:
        return hidden


class Part(Small):
    """Has a part of this name."""

    def __init__(self) -> None:
        super().__init__()
        self.log_probabilities = nn.Identity()


class Kept(Small):
    """Has numbers of this name."""

    def __init__(self) -> None:
        super().__init__()
        self.log_probabilities = torch.zeros(4, T)


class Writes(Small):
    """Changes what it is given, and gives something else."""

    def log_probabilities(self, tokens: Tensor, targets: Tensor) -> Tensor:
        tokens.zero_()
        return targets.zero_().sum()


@pytest.mark.parametrize("model", [Mean, OfHidden, Plain, Part, Kept, Writes])
def test_something_else_of_that_name_is_left_alone(model: type[Small]) -> None:
    torch.manual_seed(0)
    other, plain = model(), Small()
    plain.load_state_dict(other.state_dict())
    assert torch.equal(claims(other, rows(), V), claims(plain, rows(), V))


class QuickAndTooLarge(Small):
    def log_probabilities(self, tokens: Tensor, targets: Tensor) -> Tensor:
        raise torch.OutOfMemoryError


def test_a_method_of_that_name_without_memory_is_asked_for_fewer_rows() -> None:
    with pytest.raises(torch.OutOfMemoryError):
        claims(QuickAndTooLarge(), rows(), V)


def test_proofs_are_the_logits_at_one_place_of_each_row() -> None:
    model, shown = Small().eval(), rows()[:, :-1]
    places = torch.tensor([0, 3, T - 1, 7])
    found = proofs(model, shown, places, V)
    assert found.shape == (4, V)
    assert torch.equal(found[2], model(shown)[2, T - 1])


class WantsTargets(Small):
    def forward(self, tokens: Tensor, targets: Tensor) -> Tensor:  # type: ignore[override]
        return super().forward(tokens)


class OwnLoss(Small):
    def forward(self, tokens: Tensor) -> Tensor:
        return torch.zeros(())


class Pair(Small):
    def forward(self, tokens: Tensor) -> Tensor:
        return super().forward(tokens), None  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("model", "error"), [(WantsTargets, TypeError), (OwnLoss, ValueError), (Pair, ValueError)]
)
def test_a_model_that_gives_no_logits_fails_before_it_has_seen_any_text(
    model: type[nn.Module], error: type[Exception]
) -> None:
    with pytest.raises(error):
        fitting(model(), T, V, CPU)


def test_logits_say_which_shape_is_wrong() -> None:
    with pytest.raises(ValueError, match=r"must return logits \(4, 32, 62\) for tokens \(4, 32\)"):
        logits(Small(), rows()[:, :-1], V + 1)


class Large(Small):
    """Has memory for two rows at once."""

    def forward(self, tokens: Tensor) -> Tensor:
        if len(tokens) > 2:
            raise torch.OutOfMemoryError
        return super().forward(tokens)


class TooLarge(Small):
    def forward(self, tokens: Tensor) -> Tensor:
        raise torch.OutOfMemoryError


def test_fewer_rows_are_wanted_where_memory_is_small() -> None:
    assert fitting(Small(), T, V, CPU) == 4
    assert fitting(Large(), T, V, CPU) == 2
    with pytest.raises(torch.OutOfMemoryError):
        fitting(TooLarge(), T, V, CPU)


class QuickAndLarge(Quick, Large):
    """Has memory for the logits of two rows at once, and for more where no logits are wanted."""


def test_as_many_rows_are_wanted_as_fit_for_what_is_asked() -> None:
    assert fitting(QuickAndLarge(), T, V, CPU, CLAIMS) == 4
    assert fitting(QuickAndLarge(), T, V, CPU, PROOFS) == 2


# --- as a process ---

TALKS = """
import sys, torch
from torch import nn
print("importing")

class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(61, 61)
        self.drop = nn.Dropout(0.5)
        self.part = torch.compile(nn.Identity(), backend="eager")
    def forward(self, tokens):
        print("forward", sys.stdin.read())
        return self.part(self.drop(self.table(tokens)))
"""
"""Prints, reads what is not its own, was saved in training mode, and has a part that was compiled."""


@contextmanager
def started(command: list[str], log: Path) -> Iterator[Answerer]:
    """Start a process that answers; what it prints goes to `log`."""
    questions, answers = os.pipe(), os.pipe()
    with log.open("wb") as file:
        process = subprocess.Popen(command, stdin=questions[0], stdout=answers[1], stderr=file)
    os.close(questions[0])
    os.close(answers[1])
    yield Answerer(questions[1], answers[0])
    process.kill()
    process.wait()


@pytest.mark.parametrize("kind", [CLAIMS, PROOFS])
def test_what_the_model_prints_and_how_it_was_saved_changes_nothing(kind: int, tmp_path: Path) -> None:
    command, model = room(tmp_path, TALKS)
    table, shown = model.get_parameter("table.weight").detach(), rows()
    with started(command, tmp_path / "log") as one:
        assert one.start(kind, T, V) == 4
        for _ in range(2):
            if kind == CLAIMS:
                said = one.ask(shown.int().numpy().tobytes(), 4 * T * 4)
                exact = torch.log_softmax(table, 1)[shown[:, :-1], shown[:, 1:]].numpy()
            else:
                places = torch.tensor([0, 5, T - 1, 9])
                question = shown[:, :-1].int().numpy().tobytes() + places.int().numpy().tobytes()
                said = one.ask(question, 4 * V * 4)
                exact = table[shown[range(4), places]].numpy()
            assert np.frombuffer(said, "<f4").reshape(exact.shape) == pytest.approx(exact, abs=1e-5)
        one.end()
    printed = (tmp_path / "log").read_text()
    assert printed.startswith("importing\n")
    assert printed.count("forward \n") == 3


def test_a_train_py_that_cannot_be_imported_is_one_sentence(tmp_path: Path) -> None:
    command, _ = room(tmp_path, TALKS)
    (tmp_path / "train.py").write_text("raise ValueError('broken')\n")
    with started(command, tmp_path / "log") as one, pytest.raises(Failed) as raised:
        one.start(CLAIMS, T, V)
    assert str(raised.value) == NOT_LOADED
    assert "ValueError: broken" in (tmp_path / "log").read_text()


def test_it_starts_without_what_it_does_not_need() -> None:
    code = "import sys, answers; print(*sorted({m.split('.')[0] for m in sys.modules}))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2] / "nanogpt")},
    )  # fmt: skip
    assert not {"prepare", "corpus", "tokenizers", "train", "held_out", "sympy"} & set(done.stdout.split())
