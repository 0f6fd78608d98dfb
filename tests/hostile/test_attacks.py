"""A training attacks everything around it, as this user and as an ordinary one: nothing changes outside."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from loop.training import fence
from loop.training.programs import group
from tests.hostile import attacked, users
from tests.hostile.attacks import ATTACKS, HARMLESS, REFUSED
from tests.loop.training.programs.supervising import has_groups

FULL = fence.detect().landlock >= 6 and fence.detect().seccomp

pytestmark = pytest.mark.skipif(not FULL, reason=f"this machine's fence is {fence.detect()}")


@pytest.fixture(scope="module", params=["this user", "an ordinary user"])
def world(request: pytest.FixtureRequest) -> Iterator[dict[str, str]]:
    """What became of each attack."""
    with users.folder() as folder, users.handed_down() as own:
        if request.param == "this user":
            yield attacked.run(folder)
        else:
            yield dict(users.run_as_nobody("tests.hostile.attacked", folder, own))


@pytest.mark.parametrize("name", REFUSED)
def test_it_is_refused(world: dict[str, str], name: str) -> None:
    assert world[name] == "refused"


@pytest.mark.parametrize("name", HARMLESS)
def test_it_is_tried(world: dict[str, str], name: str) -> None:
    assert world[name] in ("done", "refused")


@pytest.mark.parametrize(
    "what", ["its place", "alone", "closed", "precious", "no program of this user", "empty"]
)
def test_nothing_outside_has_changed(world: dict[str, str], what: str) -> None:
    assert world[f"still {what}"] == "True"


@pytest.mark.skipif(not has_groups(), reason="this user may not make a control group here")
def test_it_was_in_a_group_of_its_own(world: dict[str, str]) -> None:
    """Also that of an ordinary user, to whom a part of the tree was handed down."""
    assert f"/{group.PREFIX}." in world["group"]


def test_the_training_itself_ended_well(world: dict[str, str]) -> None:
    assert world["ended"] == "finished "


def test_there_are_enough_of_them() -> None:
    assert len(ATTACKS) > 80
