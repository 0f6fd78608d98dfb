"""evaluation.py: a training ends with a saved model or, by hand, with the right number."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from held_out import HeldOut, held_out_folder
from saving import load
from torch import nn

from clock import Clock
from evaluation import BadModel, evaluate, identity, measure
from tests.nanogpt import world
from tests.nanogpt.world import SEQUENCE, Small


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return SimpleNamespace(folder=world.folder(tmp_path_factory.mktemp("cache") / "data"))


def independent(model: nn.Module, folder: Path) -> float:
    """val_bpb by another way: one row at a time, float64, numpy alone after the logits."""
    stream = np.load(held_out_folder(folder) / "val.npy").astype(np.int64)
    lengths, nats, count = np.load(folder / "token_bytes.npy"), 0.0, 0
    for start in range(0, len(stream) - SEQUENCE, SEQUENCE):
        row = stream[start : start + SEQUENCE]
        with torch.no_grad():
            logits = model(torch.tensor([[0, *row[:-1]]]))[0].numpy().astype(np.float64)
        for position, target in enumerate(row):
            if lengths[target]:
                nats += math.log(sum(np.exp(logits[position]))) - logits[position, target]
                count += int(lengths[target])
    return nats / math.log(2) / count


def test_by_hand_the_number_is_right_and_printed(
    data: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AUTORESEARCH_MODEL_FILE", raising=False)
    torch.manual_seed(1)
    model = Small()
    found = evaluate(model, data, Clock())
    assert found == pytest.approx(independent(model, data.folder), abs=1e-6)
    assert capsys.readouterr().out == f"val_bpb:          {found:.6f}\n"


def test_for_the_judge_the_model_is_saved_and_nothing_is_measured(
    data: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUTORESEARCH_MODEL_FILE", str(tmp_path / "model.pt"))
    model = Small()
    assert math.isnan(evaluate(model, data, Clock()))
    assert capsys.readouterr().out == ""
    held_out = HeldOut(held_out_folder(data.folder))
    assert measure(load(tmp_path / "model.pt", torch.device("cpu")), held_out) == measure(model, held_out)


class Fails:
    """Raises while it is pickled."""

    def __reduce__(self) -> str:
        raise ValueError("no\nway")


@pytest.mark.parametrize(
    ("part", "reason"),
    [(lambda x: x, "lambda"), (Fails(), r"ValueError: no\)")],
    ids=["a lambda", "code that fails"],
)
def test_a_model_that_cannot_be_saved_ends_with_one_sentence(
    part: object, reason: str, data: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUTORESEARCH_MODEL_FILE", str(tmp_path / "model.pt"))
    model: Any = Small()
    model.part = part
    with pytest.raises(BadModel, match=f"cannot be saved.*{reason}.*keep lambdas") as raised:
        evaluate(model, data, Clock())
    assert "\n" not in str(raised.value)


def test_a_folder_that_is_not_there_is_one_sentence(
    data: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUTORESEARCH_MODEL_FILE", str(tmp_path / "nowhere/model.pt"))
    with pytest.raises(BadModel, match="leave room on the disk"):
        evaluate(Small(), data, Clock())


@pytest.mark.parametrize("changed", ["val.npy", "hidden.npy", "token_bytes.npy", "meta.json"])
def test_other_data_have_another_identity(changed: str, tmp_path: Path) -> None:
    folder = held_out_folder(world.folder(tmp_path / "data"))
    before = identity(folder)
    path = folder / changed
    path.write_bytes(path.read_bytes().replace(b'"packed"', b'"packet"').replace(b"\1", b"\2"))
    assert identity(folder) != before
