"""Which secrets a tracker gets, and how its curves are named."""

from __future__ import annotations

import pytest

from loop import config
from loop.tracking.tracker import KEYS, Point, environment
from loop.training import fence

ENVIRON = {
    "PATH": "/bin",
    "WANDB_API_KEY": "w",
    "WANDB_MODE": "offline",
    "MLFLOW_TRACKING_PASSWORD": "m",
    "AWS_SECRET_ACCESS_KEY": "s",
    "HF_TOKEN": "h",
    "OPENAI_API_KEY": "o",
    "ANTHROPIC_API_KEY": "a",
    "AUTORESEARCH_NOTIFY": "json://secret",
}


@pytest.mark.parametrize(
    ("name", "secrets"),
    [
        ("wandb", {"WANDB_API_KEY"}),
        ("trackio", {"HF_TOKEN"}),
        ("mlflow", {"MLFLOW_TRACKING_PASSWORD", "AWS_SECRET_ACCESS_KEY"}),
        ("tensorboard", set()),
    ],
)
def test_a_tracker_gets_its_own_secrets_and_no_others(name: str, secrets: set[str]) -> None:
    assert set(environment(name, ENVIRON)) == {"PATH", "WANDB_MODE", *secrets}


def test_a_trainer_gets_none_of_them() -> None:
    assert not set(fence.environment(ENVIRON, {})) & (set(ENVIRON) - {"PATH"})


def test_the_settings_know_all_trackers() -> None:
    assert tuple(KEYS) == config.TRACKERS


def test_curves_of_first_trainings_have_the_same_names() -> None:
    assert [Point(number, 0, 0.0, {}).prefix for number in (1, 2, 3)] == ["train", "train2", "train3"]
