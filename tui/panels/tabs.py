"""The row of tabs: it stands above the panels while there is room for one of them only."""

from __future__ import annotations

from textual.content import Content
from textual.widgets import Static

from tui.keys import Keys

PANELS = {"agent": "Agent", "diff": "Diff", "results": "Results", "plot": "Plot"}
"""The panels by name, and the word on the tab of each."""


class TabBar(Static):
    """The panels' names with their keys; a click on one shows that panel."""

    def __init__(self, keys: Keys, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._keys = keys

    def show_active(self, active: str) -> None:
        """Mark the tab of the panel that is shown."""
        self.update(tabs(active, self._keys))


def tabs(active: str, keys: Keys) -> Content:
    parts = []
    for name, label in PANELS.items():
        style = "bold reverse" if name == active else "$neutral"
        words = f"{keys[f'panel_{name}']} {label}".strip()
        tab = Content.from_markup(f"[@click=screen.panel('{name}')] $words [/]", words=words)
        parts.append(tab.stylize(style))
    return Content(" ").join(parts)
