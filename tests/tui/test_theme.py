"""The themes."""

from __future__ import annotations

from typing import get_args

import pytest
from textual.pilot import Pilot

from loop.experiment import ExperimentPhase
from loop.state import Phase
from tests.tui.conftest import Open, Snap
from tests.tui.pilot import SIZES, settle, still
from tests.tui.recorded import night
from tui.panels.transcript import SYMBOLS
from tui.text import SYMBOLS as PHASES
from tui.theme import MEANINGS, THEMES


@pytest.mark.parametrize("theme", ["cockpit-light", "cockpit-ansi"])
def test_themes(cockpit: Open, snap_compare: Snap, theme: str) -> None:
    async def choose(pilot: Pilot[int]) -> None:
        pilot.app.theme = theme
        await settle(pilot)
        await still(pilot)

    assert snap_compare(cockpit(night()), terminal_size=SIZES["usual"], run_before=choose)


def test_every_theme_knows_every_meaning() -> None:
    for theme in THEMES:
        assert set(MEANINGS) <= set(theme.variables), theme.name


def test_every_phase_has_a_symbol_and_the_colour_of_a_meaning() -> None:
    assert {style.removeprefix("$") for _, style in PHASES.values()} <= set(MEANINGS)
    assert {style.removeprefix("$") for _, style in SYMBOLS.values()} - {
        "agent 70%",
        "bold $foreground",
    } <= set(MEANINGS)
    assert {*get_args(Phase), *get_args(ExperimentPhase)} <= set(PHASES)
