"""saving.py: a model is saved whole, without what torch.compile made of it, and comes back as it was."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from saving import load, save
from torch import Tensor, nn

from tests.nanogpt import world
from tests.nanogpt.world import VOCABULARY, Small

CPU = torch.device("cpu")
TOKENS = torch.arange(12).view(2, 6)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return world.folder(tmp_path_factory.mktemp("cache") / "data")


def test_a_saved_model_answers_the_same_and_has_its_tokenizer_beside_it(folder: Path, tmp_path: Path) -> None:
    model = Small().train()
    save(model, folder, tmp_path / "model.pt")
    again = load(tmp_path / "model.pt", CPU)
    assert not any(module.training for module in again.modules())
    assert torch.equal(again(TOKENS), model.eval()(TOKENS))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["meta.json", "model.pt", "tokenizer.json"]
    assert (tmp_path / "meta.json").read_bytes() == (folder / "meta.json").read_bytes()


class Nested(nn.Module):
    """A model with parts in a list and in parts of parts."""

    def __init__(self) -> None:
        super().__init__()
        self.parts = nn.ModuleList([nn.Sequential(nn.Identity(), Small()) for _ in range(2)])

    def forward(self, tokens: Tensor) -> Tensor:
        found: Tensor = sum(part(tokens) for part in self.parts)
        return found


def compiled(part: Any) -> Any:
    return torch.compile(part, backend="eager")


def wrapped(model: Any) -> Any:
    return compiled(model)


def in_place(model: Any) -> Any:
    model.compile(backend="eager")
    return model


def parts(model: Any) -> Any:
    model.parts[0] = compiled(model.parts[0])
    model.parts[1][1] = compiled(model.parts[1][1])
    return compiled(model)


def method(model: Any) -> Any:
    model.forward = compiled(model.forward)
    model.parts[0][1].forward = compiled(model.parts[0][1].forward)
    return model


@pytest.mark.parametrize("how", [wrapped, in_place, parts, method])
def test_a_compiled_model_is_saved_without_its_compiled_code(how: Any, folder: Path, tmp_path: Path) -> None:
    model = Nested().eval()
    plain = model(TOKENS)
    model = how(model)
    assert torch.allclose(model(TOKENS), plain)
    save(model, folder, tmp_path / "model.pt")
    again = load(tmp_path / "model.pt", CPU)
    assert type(again) is Nested
    assert not any("_orig_mod" in name for name, _ in again.named_modules())
    assert torch.equal(again(TOKENS), plain)


def test_what_the_main_program_saved_is_found_in_train(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the trainer, train.py is `__main__`; where the model is loaded, it is `train`."""
    source = "from torch import nn\nclass Model(nn.Linear): pass\n"
    for name in ("__main__", "train"):
        module = ModuleType(name)
        exec(source, module.__dict__)
        monkeypatch.setitem(sys.modules, name, module)
        if name == "__main__":
            save(module.Model(2, 3), folder, tmp_path / "model.pt")
    assert type(load(tmp_path / "model.pt", CPU)) is sys.modules["train"].Model


class Fails:
    """Raises while it is pickled."""

    def __reduce__(self) -> str:
        raise ValueError("no way")


@pytest.mark.parametrize("part", [lambda x: x, Fails()], ids=["lambda", "own code"])
def test_a_model_that_cannot_be_saved_leaves_no_file(part: object, folder: Path, tmp_path: Path) -> None:
    model: Any = Small()
    model.part = part
    with pytest.raises(Exception, match=r"lambda|no way"):
        save(model, folder, tmp_path / "model.pt")
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_holds_something_else_is_refused(tmp_path: Path) -> None:
    torch.save({"a": VOCABULARY}, tmp_path / "model.pt")
    with pytest.raises(SystemExit, match="holds a dict, not a model"):
        load(tmp_path / "model.pt", CPU)
