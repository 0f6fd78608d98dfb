"""Writes a trained model to disk, whole, and loads it again in another process.

Agents may read this file but never change it. A model's file holds its weights and the names of its classes.
The classes come from the train.py in this folder, so this must be the train.py that made the model. Loading a
model runs what its file says: trust a file only as far as the train.py that made it.
"""

from __future__ import annotations

import contextlib
import pickle
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import nn

DATA_FILES = ("tokenizer.json", "meta.json")
"""Files of prepared data that are kept beside a model: without them nobody could give it text."""


def save(model: nn.Module, folder: Path, path: Path) -> None:
    """Write a model to `path`, whole or not at all, and beside it what turns text into its tokens.

    `folder` holds the prepared data. Raises whatever the disk, pickle or the model's own code raises.
    """
    draft = path.with_name(f"{path.name}.draft")
    torch.serialization.set_crc32_options(False)  # nobody reads them, and they are a third of the time
    try:
        torch.save(uncompiled(model), draft)
        for name in DATA_FILES:
            shutil.copyfile(folder / name, path.with_name(name))
        draft.replace(path)
    finally:
        with contextlib.suppress(OSError):
            draft.unlink(missing_ok=True)


def uncompiled(model: nn.Module) -> nn.Module:
    """Take off a model, and off its parts, what torch.compile has wrapped around them; return the model.

    Compiled code cannot be saved, and a part that compiles itself again would make loading slow.
    """
    model = getattr(model, "_orig_mod", model)
    for module in list(model.modules()):
        for name, part in module._modules.items():
            module._modules[name] = getattr(part, "_orig_mod", part)
        for name, value in list(vars(module).items()):
            # Such as `self.forward = torch.compile(self.forward)`: without it the class's own method counts.
            if hasattr(value, "_torchdynamo_orig_callable") and hasattr(type(module), name):
                del module.__dict__[name]
    return model


def load(path: Path, device: torch.device) -> nn.Module:
    """Return the model in the file at `path`. Raises `SystemExit` when the file holds no model."""
    found = torch.load(
        path,
        map_location=device,
        pickle_module=SimpleNamespace(Unpickler=_Unpickler, __name__="pickle"),
        weights_only=False,
        mmap=True,  # reads what is used when it is used: a third of a second less for 160 MB
    )
    if not isinstance(found, nn.Module):
        sys.exit(f"{path} holds a {type(found).__name__}, not a model")
    return found.eval()


class _Unpickler(pickle.Unpickler):
    """Finds the classes of train.py, which was the main program when it saved the model."""

    def find_class(self, module: str, name: str) -> Any:
        return super().find_class("train" if module == "__main__" else module, name)
