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
    "AWS_BEARER_TOKEN_BEDROCK": "b",
    "AZURE_OPENAI_API_KEY": "z",
    "AZURE_CLIENT_SECRET": "c",
    "GOOGLE_API_KEY": "g",
    "GOOGLE_APPLICATION_CREDENTIALS": "/file",
    "MLFLOW_TRACKING_URI": "https://me:password@host",
    "TRACKIO_SERVER_URL": "http://127.0.0.1:7860",
    "HTTPS_PROXY": "http://me:password@proxy",
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
        (
            "mlflow",
            {
                *("MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_URI", "AWS_SECRET_ACCESS_KEY"),
                *("AZURE_CLIENT_SECRET", "GOOGLE_APPLICATION_CREDENTIALS"),
            },
        ),
        ("tensorboard", set()),
    ],
)
def test_a_tracker_gets_its_own_secrets_and_no_others(name: str, secrets: set[str]) -> None:
    assert set(environment(name, ENVIRON)) == {
        *("PATH", "WANDB_MODE", "TRACKIO_SERVER_URL", "HTTPS_PROXY"),
        *secrets,
    }


def test_a_trainer_gets_none_of_them() -> None:
    assert not set(fence.environment(ENVIRON, {})) & (set(ENVIRON) - {"PATH"})


def test_the_settings_know_all_trackers() -> None:
    assert tuple(KEYS) == config.TRACKERS


def test_curves_of_first_trainings_have_the_same_names() -> None:
    assert [Point(number, 0, 0.0, {}).prefix for number in (1, 2, 3)] == ["train", "train2", "train3"]
