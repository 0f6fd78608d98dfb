"""The row of tabs: it stands above the panels while there is room for one of them only."""

from __future__ import annotations

from textual.content import Content
from textual.widgets import Static

PANELS = {"agent": "Agent", "diff": "Diff", "results": "Results", "plot": "Plot"}
"""The panels by name, and the word on the tab of each."""


class TabBar(Static):
    """The panels' names with their keys; a click on one shows that panel."""

    def show_active(self, active: str) -> None:
        """Mark the tab of the panel that is shown."""
        self.update(tabs(active))


def tabs(active: str) -> Content:
    parts = []
    for number, (name, label) in enumerate(PANELS.items(), 1):
        style = "bold reverse" if name == active else "$neutral"
        tab = Content.from_markup(f"[@click=screen.panel('{name}')] {number} {label} [/]")
        parts.append(tab.stylize(style))
    return Content(" ").join(parts)
