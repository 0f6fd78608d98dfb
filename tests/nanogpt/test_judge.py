"""judge.py: an honest model gets its number, and a cheat gets none."""

from __future__ import annotations

import copy
import json
import math
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from answers import serve
from held_out import Array, HeldOut
from judge import Judge, Judged, read_reference
from protocol import Answerer
from torch import Tensor, nn
from torch.nn import functional as F

import prepare
from tests.nanogpt import world
from tests.nanogpt.judging import ROOT, judged, room
from tests.nanogpt.world import SEQUENCE, VOCABULARY, Small

CPU = torch.device("cpu")
Lie = Callable[[Array, Array], Array]
"""Makes another answer of an answer and its question."""
T, V = SEQUENCE, VOCABULARY


@pytest.fixture(scope="module")
def held_out(tmp_path_factory: pytest.TempPathFactory) -> HeldOut:
    return world.held_out(tmp_path_factory.mktemp("cache") / "data", 280, 20)


class Claimant(Answerer):
    """The judge's side of pipes to a model in a thread, which `lie` may tell what to answer instead."""

    def __init__(self, model: nn.Module, lie: Lie | None = None) -> None:
        questions, answers = os.pipe(), os.pipe()
        super().__init__(questions[1], answers[0])
        self._lie = lie
        model = copy.deepcopy(model).eval()

        def answer() -> None:
            asked, said = os.fdopen(questions[0], "rb"), os.fdopen(answers[1], "wb")
            with suppress(Exception), asked, said:  # then the pipe ends, as that of a process does
                serve(model, CPU, asked, said)

        threading.Thread(target=answer, daemon=True).start()

    def ask(self, question: bytes, size: int) -> bytes:
        answer = super().ask(question, size)
        if self._lie is None:
            return answer
        return self._lie(np.frombuffer(answer, "<f4").copy(), np.frombuffer(question, "<i4")).tobytes()


def measured(model: nn.Module, held_out: HeldOut, reference: Array | None = None) -> Judged:
    """What the judge finds; claimant and witness know nothing of each other."""
    judge = Judge(held_out, reference)
    judge.judge(Claimant(model), Claimant(model))
    return judge.found


def independent(model: nn.Module, held_out: HeldOut, hidden: bool = False) -> float:
    """Bits per byte with `F.cross_entropy` in float32, summed in float64."""
    part = slice(held_out.val_rows, None) if hidden else slice(held_out.val_rows)
    targets = torch.from_numpy(held_out.rows[part].astype(np.int64))
    inputs = torch.cat([torch.zeros(len(targets), 1, dtype=torch.long), targets[:, :-1]], 1)
    with torch.no_grad():
        losses = F.cross_entropy(model(inputs).flatten(0, 1), targets.flatten(), reduction="none")
    lengths = 1 + (targets.flatten() % 3 == 0).int()
    text = targets.flatten() > 0
    return float(losses[text].double().sum()) / math.log(2) / float(lengths[text].sum())


# --- honest models ---


def test_an_honest_model_gets_its_number(held_out: HeldOut) -> None:
    torch.manual_seed(1)
    model = Small()
    judge = Judge(held_out, None)
    judge.judge(Claimant(model), Claimant(model))
    found = judge.found
    assert (found.refused, found.failed) == ("", "")
    assert found.val_bpb == pytest.approx(independent(model, held_out), abs=1e-6)
    assert found.hidden_bpb == pytest.approx(independent(model, held_out, hidden=True), abs=1e-6)
    assert found.data == held_out.identity
    assert (found.probes, found.shown) == (256, 300 + 256)
    assert abs(found.worst) < 1e-5
    assert abs(found.bias) < 1e-6
    again = measured(model, held_out, judge.claims)
    assert again.val_bpb == pytest.approx(found.val_bpb, abs=1e-7)
    assert again.probes == 64  # there is a reference now


def test_honest_models_are_never_refused(held_out: HeldOut) -> None:
    torch.manual_seed(2)
    reference = None
    for _ in range(20):
        judge, model = Judge(held_out, reference), Small()
        judge.judge(Claimant(model), Claimant(model))
        reference = judge.claims
        assert judge.found.val_bpb, judge.found


class Rounds(Small):
    """Computes in bf16, and rounds otherwise in each process, as another kernel would."""

    def forward(self, tokens: Tensor) -> Tensor:
        noise = torch.randn((*tokens.shape, V)) * 1e-3
        return (super().forward(tokens) * 4 + noise).bfloat16().float()


def test_rounding_costs_more_proofs_and_is_believed(held_out: HeldOut) -> None:
    torch.manual_seed(3)
    for _ in range(5):
        found = measured(Rounds(), held_out, np.full(held_out.rows.shape, -4, np.float32))
        assert found.val_bpb, found
        assert found.probes > 256
        assert 0.001 < found.worst < 0.1


class Dropout(Small):
    def forward(self, tokens: Tensor) -> Tensor:
        return F.dropout(super().forward(tokens), 0.5, self.training)


def test_a_model_in_training_mode_is_measured_as_in_evaluation(held_out: HeldOut) -> None:
    model = Dropout().train()
    assert measured(model, held_out).val_bpb == pytest.approx(independent(model.eval(), held_out), abs=1e-6)


# --- what the witness is shown ---


class Spy(Claimant):
    """Keeps what it was asked."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__(model)
        self.asked: list[bytes] = []

    def ask(self, question: bytes, size: int) -> bytes:
        self.asked.append(question)
        return super().ask(question, size)


def test_the_witness_never_sees_the_token_that_it_is_asked_for(held_out: HeldOut) -> None:
    claimant, witness = Spy(Small()), Spy(Small())
    Judge(held_out, None).judge(claimant, witness)
    rows = np.concatenate([np.frombuffer(q, "<i4").reshape(4, T + 1) for q in claimant.asked])
    assert (rows[:, 0] == held_out.bos).all()
    known = {row[1:].tobytes() for row in held_out.rows.astype("<i4")[:, None]}
    assert {row[1:].tobytes() for row in rows[:, None]} >= known
    assert not np.array_equal(rows[:300, 1:], held_out.rows)  # the order is secret
    shared = []
    for question in witness.asked:
        numbers = np.frombuffer(question, "<i4")
        shown, places = numbers[: 4 * T].reshape(4, T), numbers[4 * T :]
        for row, place in zip(shown, places, strict=True):
            same = np.flatnonzero((held_out.rows[:, :place] == row[1 : place + 1]).all(1))
            if len(same) == 1:  # a beginning that only one row has
                behind = row[place + 1 :]
                assert (behind != held_out.bos).all()
                shared += (behind == held_out.rows[same[0], place:-1]).tolist()
    assert len(shared) > 1000
    assert np.mean(shared) == pytest.approx(1 / (V - 1), abs=0.01)  # by chance alone


# --- cheats in the model ---


def one_hot(tokens: Tensor) -> Tensor:
    found: Tensor = F.one_hot(tokens, V)
    return found


class Peeks(Small):
    """Adds what comes next to its logits."""

    def forward(self, tokens: Tensor) -> Tensor:
        return super().forward(tokens) + 5 * one_hot(torch.roll(tokens, -1, 1))


class PeeksSeldom(Small):
    """Adds what comes next in one of a hundred places."""

    def forward(self, tokens: Tensor) -> Tensor:
        where = (tokens * 7 + torch.roll(tokens, 1, 1) * 13) % 101 == 3
        return super().forward(tokens) + 20 * one_hot(torch.roll(tokens, -1, 1)) * where[..., None]


class Bidirectional(Small):
    def forward(self, tokens: Tensor) -> Tensor:
        everything: Tensor = self.head(self.embed(tokens).mean(1, keepdim=True))
        return super().forward(tokens) + everything


class PeeksALittle(Small):
    """Is a little better everywhere."""

    def forward(self, tokens: Tensor) -> Tensor:
        return super().forward(tokens) + 0.01 * one_hot(torch.roll(tokens, -1, 1))


class Leaks(Small):
    """Rows of a batch see one another."""

    def forward(self, tokens: Tensor) -> Tensor:
        all_rows: Tensor = self.head(self.embed(tokens).cumsum(1).mean(0, keepdim=True))
        return super().forward(tokens) + all_rows


class Remembers(Small):
    """Its answers depend on earlier calls."""

    seen = 0.0

    def forward(self, tokens: Tensor) -> Tensor:
        self.seen += float(tokens.sum())
        return super().forward(tokens) + math.sin(self.seen) * one_hot(tokens)


class Repeats(Small):
    """Peeks, and says the same again wherever a row begins like an earlier one."""

    def __init__(self) -> None:
        super().__init__()
        self.said: dict[bytes, Tensor] = {}

    def forward(self, tokens: Tensor) -> Tensor:
        said = super().forward(tokens) + 9 * one_hot(torch.roll(tokens, -1, 1))
        for row, answer in zip(tokens, said, strict=True):
            for i in range(len(row)):
                answer[i] = self.said.setdefault(row[: i + 1].numpy().tobytes(), answer[i].clone())
        return said


class Learns(Small):
    """Counts the tokens that it is shown, and expects them again."""

    def __init__(self) -> None:
        super().__init__()
        self.counts = torch.ones(V, V)

    def forward(self, tokens: Tensor) -> Tensor:
        said = super().forward(tokens) * 0.1 + (self.counts / self.counts.sum(1, keepdim=True)).log()[tokens]
        with torch.inference_mode(False):
            np.add.at(self.counts.numpy(), (tokens[:, :-1].numpy(), tokens[:, 1:].numpy()), 1)
        return said


class Chance(Small):
    """Keeps its dropout in every mode."""

    def forward(self, tokens: Tensor) -> Tensor:
        return F.dropout(super().forward(tokens), 0.5, True)


class KnowsPadding(Small):
    """Peeks where the rest of the row looks like text: it is honest before random tokens."""

    def forward(self, tokens: Tensor) -> Tensor:
        said = super().forward(tokens)
        has_bos = (tokens[:, 1:] == 0).any(1)[:, None, None]  # random tokens are never BOS
        return said + 9 * one_hot(torch.roll(tokens, -1, 1)) * has_bos


REFUSED = [
    Peeks, PeeksSeldom, PeeksALittle, Bidirectional, Leaks, Remembers, Repeats, Learns, Chance, KnowsPadding,
]  # fmt: skip
LOOKS, CHANGES = "cannot see", "asked again"


@pytest.mark.parametrize("model", REFUSED)
def test_a_model_that_cheats_gets_no_number(model: type[nn.Module], held_out: HeldOut) -> None:
    torch.manual_seed(4)
    reference = np.full(held_out.rows.shape, -math.log(V), np.float32)
    for _ in range(3):  # whatever the secret order
        found = measured(model(), held_out, reference)
        assert found.val_bpb is found.hidden_bpb is None, found
        assert LOOKS in found.refused or CHANGES in found.refused


def test_a_model_is_told_what_is_wrong(held_out: HeldOut) -> None:
    torch.manual_seed(5)
    assert LOOKS in measured(PeeksSeldom(), held_out).refused
    assert CHANGES in measured(Chance(), held_out).refused


class NotFinite(Small):
    def forward(self, tokens: Tensor) -> Tensor:
        return super().forward(tokens) / 0


class Impossible(Small):
    """Gives most tokens no probability at all."""

    def forward(self, tokens: Tensor) -> Tensor:
        return torch.where(torch.arange(V) < 9, super().forward(tokens), -math.inf)


class Huge(Small):
    def forward(self, tokens: Tensor) -> Tensor:
        return super().forward(tokens) * 1e37


@pytest.mark.parametrize("model", [NotFinite, Impossible])
def test_a_model_without_probabilities_gets_no_number(model: type[nn.Module], held_out: HeldOut) -> None:
    found = measured(model(), held_out)
    assert found.val_bpb is None
    assert "not finite" in found.failed


def test_huge_logits_are_a_bad_model_and_no_cheat(held_out: HeldOut) -> None:
    found = measured(Huge(), held_out)
    assert found.val_bpb is None or found.val_bpb > 1e30
    assert "Infinity" not in json.dumps(found.__dict__)


# --- processes that lie ---

LIES: dict[
    str, tuple[Callable[[Array, Array], Array] | None, Callable[[Array, Array], Array] | None, str]
] = {
    "every claim a little better": (lambda c, q: c + np.float32(0.01), None, "on average"),
    "claims that sum to more than one": (lambda c, q: c / 2, None, LOOKS),
    "claims above one": (lambda c, q: c + 9, None, "probability above 1"),
    "infinite claims": (lambda c, q: c + np.float32(np.inf), None, "not finite"),
    "claims that are no number": (lambda c, q: c * np.float32(np.nan), None, "not finite"),
    "proofs that are no number": (None, lambda p, q: p * np.float32(np.nan), "not finite"),
    "proofs that are infinite": (None, lambda p, q: p + np.float32(np.inf), "not finite"),
    "claims of nothing": (lambda c, q: c * 0 - np.float32(1e-6), None, LOOKS),
    "proofs of everything": (lambda c, q: c / 2, lambda p, q: p * 0 + np.float32(1e6), LOOKS),
}


@pytest.mark.parametrize("name", LIES)
def test_a_process_that_lies_gets_no_number(name: str, held_out: HeldOut) -> None:
    claims, proofs, reason = LIES[name]
    model = Small()
    judge = Judge(held_out, None)
    judge.judge(Claimant(model, claims), Claimant(model, proofs))
    assert judge.found.val_bpb is None
    assert reason in judge.found.refused + judge.found.failed
    json.loads(json.dumps(judge.found.__dict__), parse_constant=pytest.fail)


# --- as processes ---

HONEST = f"""
import torch
from torch import nn

class Model(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(1)
        self.table = nn.Embedding({V}, {V})
    def forward(self, tokens):
        return self.table(tokens)
"""
PEEKING = HONEST.rstrip() + " + 3 * nn.functional.one_hot(tokens.roll(-1, 1), 61)\n"


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    cache = tmp_path_factory.mktemp("cache")
    world.folder(cache / f"sympy-v{prepare.FORMAT}", 80, 8)
    return cache


def test_the_real_processes_find_the_number_and_then_refuse_a_cheat(cache: Path, tmp_path: Path) -> None:
    command, model = room(tmp_path / "honest", HONEST)
    found = judged(command, cache, tmp_path / "first")
    held_out = HeldOut(cache / "held-out" / f"sympy-v{prepare.FORMAT}")
    assert (found.code, found.judged["refused"], found.judged["failed"]) == (0, "", "")
    assert found.judged["val_bpb"] == pytest.approx(independent(model, held_out), abs=1e-6)
    assert found.judged["data"] == held_out.identity
    assert found.judged["claim_s"] > 0 < found.judged["proof_s"]
    claims = np.load(tmp_path / "first/claims.npy")
    assert (claims.shape, claims.dtype) == ((88, T), np.float16)
    assert held_out.bits_per_byte(claims.astype(np.float32))[0] == pytest.approx(
        found.judged["val_bpb"], abs=1e-3
    )
    command, _ = room(tmp_path / "peeking", PEEKING)
    found = judged(command, cache, tmp_path / "second", reference=tmp_path / "first/claims.npy")
    assert (found.code, found.judged["val_bpb"]) == (0, None)
    assert LOOKS in found.judged["refused"]
    assert [path.name for path in (tmp_path / "second").iterdir()] == ["judged.json"]


@pytest.mark.parametrize(
    ("program", "shown"),
    [
        ("print('held-out text')", 0),
        ("import os; os.read(0, 16); os.write(1, b'\\4\\0\\0\\0'); os.read(0, 99)", 4),
    ],
    ids=["before it is asked", "when it is asked"],
)
def test_a_process_that_ends_early_is_reported(program: str, shown: int, cache: Path, tmp_path: Path) -> None:
    found = judged([sys.executable, "-c", program], cache, tmp_path / "out")
    assert (found.code, found.judged["val_bpb"], found.judged["shown"]) == (0, None, shown)
    assert found.judged["failed"]
    assert "held-out text" not in json.dumps(found.judged)


def test_the_judge_loads_neither_torch_nor_the_candidate() -> None:
    code = "import sys, judge; print(*sorted({m.split('.')[0] for m in sys.modules}))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True,
        env=os.environ | {"PYTHONPATH": str(ROOT / "nanogpt")},
    )  # fmt: skip
    assert not {"torch", "train", "saving", "answers", "tokenizers", "sympy"} & set(done.stdout.split())


def test_without_data_the_judge_says_so(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "nanogpt/judge.py"), "--claimant", "1", "0", "--witness", "1", "0",
         "--out", str(tmp_path / "out")],
        env=os.environ | {"AUTORESEARCH_CACHE": str(tmp_path), "AUTORESEARCH_DATA": "nothing"},
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.startswith("judge.py: no data `nothing`")
    assert not (tmp_path / "out").exists()


def test_a_reference_of_other_data_is_none(tmp_path: Path) -> None:
    np.save(tmp_path / "claims.npy", np.zeros((3, 4), np.float16))
    found = read_reference(tmp_path / "claims.npy", (3, 4))
    assert found is not None
    assert found.dtype == np.float32
    assert read_reference(tmp_path / "claims.npy", (3, 5)) is None
    assert read_reference(tmp_path / "missing.npy", (3, 4)) is None
    assert read_reference(None, (3, 4)) is None
