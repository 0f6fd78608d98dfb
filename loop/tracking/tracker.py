"""What a tracker is told of an experiment, and what each tracker has to do with it."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol, cast

from msgspec import Struct

from loop.text import is_secret

KEYS: dict[str, tuple[str, ...]] = {
    "wandb": ("WANDB_",),
    "trackio": ("TRACKIO_", "HF_"),
    "mlflow": (
        "MLFLOW_",
        "DATABRICKS_",
        *("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_SHARED_CREDENTIALS_FILE"),
        *("AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_"),
        *("AZURE_STORAGE_", "AZURE_CLIENT_", "AZURE_FEDERATED_TOKEN_FILE", "GOOGLE_APPLICATION_CREDENTIALS"),
    ),
    "tensorboard": (),
}
"""Every tracker, and how the names of the secret environment variables begin that are for it.

mlflow keeps artifacts in stores of clouds: it gets what opens these, not the keys of their language models.
"""


class Place(Struct, frozen=True):
    """Where a tracker keeps the experiments of one run."""

    folder: Path
    """The run's folder: whatever a tracker keeps on this machine without being told where goes there."""
    project: str
    """Name of the repository's folder."""
    group: str
    """The run's tag."""


class Facts(Struct, frozen=True):
    """What a tracker is to know of one experiment. It has trained at least once, or trains now."""

    id: str
    """Names the experiment among all others, on every machine: letters, digits and `-`."""
    n: int
    name: str
    """Number and description in one line."""
    started: float
    """Seconds since the epoch."""
    config: dict[str, str | float]
    """What it changes, in words and in hyperparameters, and where it comes from."""
    summary: dict[str, str | float]
    """Its metric, the verdict with the reason, and what its last training printed at the end."""
    diff: str
    """Its change of the editable file."""
    ended: bool
    """It has its verdict, and nothing of it trains."""
    crashed: bool


class Point(Struct, frozen=True):
    """One point of a training's curves."""

    training: int
    """Number of the training within the experiment, counted from 1."""
    step: int
    t: float
    """Seconds since the epoch, as far as the trainer's own progress tells."""
    values: dict[str, float]

    @property
    def prefix(self) -> str:
        """Stands before the names of its values. Curves of different experiments share the first one's."""
        return "train" if self.training == 1 else f"train{self.training}"


class Tracker(Protocol):
    """A tool in which people keep experiments. Each method may raise anything: it is called again later."""

    where: str
    """Where the experiments can be looked at, in a few words."""

    def points(self, run: Facts, points: list[Point]) -> None:
        """Add points to the curves of an experiment. Each is handed over once; steps of a training rise."""
        ...

    def describe(self, run: Facts) -> None:
        """Put everything but the curves in the place of what was there before."""
        ...

    def close(self) -> None:
        """Send what still waits to be sent."""
        ...


def open_tracker(name: str, place: Place, environ: Mapping[str, str]) -> Tracker:
    """The tracker of this name. Raises ImportError without its package, and whatever that raises."""
    module = importlib.import_module(f"loop.tracking.{name}")
    return cast(Tracker, module.open_tracker(place, environ))


def environment(name: str, environ: Mapping[str, str]) -> dict[str, str]:
    """What a tracker's process gets of the environment: no secrets but its own."""
    own = KEYS[name]
    return {key: value for key, value in environ.items() if key.startswith(own) or not is_secret(key, value)}
