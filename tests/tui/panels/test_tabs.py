"""The tabs of a narrow terminal."""

from __future__ import annotations

import pytest

from tests.tui.conftest import Open, Snap
from tests.tui.pilot import SIZES, press
from tests.tui.recorded import night
from tui.keys import Keys
from tui.panels.tabs import tabs


@pytest.mark.parametrize("key", ["1", "2", "4"])
def test_one_panel_at_a_time(cockpit: Open, snap_compare: Snap, key: str) -> None:
    assert snap_compare(cockpit(night()), terminal_size=SIZES["narrow"], run_before=press(key))


def test_the_active_tab_is_marked() -> None:
    content = tabs("results", Keys())
    assert content.plain == " 1 Agent   2 Diff   3 Results   4 Plot "
    marked = [content.plain[span.start : span.end] for span in content.spans if "reverse" in str(span.style)]
    assert marked == [" 3 Results "]
