"""Settings about clusters: what a stranger's repository may not choose for its user."""

from __future__ import annotations

import msgspec
import pytest

from loop.cluster_settings import ClusterSettings
from loop.config import described


def test_they_are_settings_of_a_run() -> None:
    assert {field.name for field in msgspec.structs.fields(ClusterSettings)} <= set(described())


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("executor", "ray"),
        ("node_python", "./evil"),
        ("node_folder", "/"),
        ("ray_address", "evil:6379"),
        ("ray_python", "./evil"),
        ("slurm_folder", "/"),
        ("slurm_account", "yours"),
        ("slurm_options", ["--uid=0"]),
    ],
)
def test_what_runs_reaches_or_charges_somebody_needs_trust(name: str, value: object) -> None:
    assert not described()[name].is_harmless(value)
