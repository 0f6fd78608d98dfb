"""The footer: what the keys of a screen do. Where it is narrow, whole keys are left out, none is cut."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from rich.cells import cell_len
from textual.app import ComposeResult
from textual.widgets import Footer
from textual.widgets._footer import FooterKey

from tui.actions import Action
from tui.narrow import leave_out

BESIDE = 3
"""Columns of a key beside its name and its label."""


class KeyBar(Footer):
    """Textual's footer with the keys that fit into the width of the terminal. `actions` are the screen's."""

    def __init__(self, actions: Iterable[Action]) -> None:
        super().__init__(show_command_palette=False)
        self._ranks = {action.name: action.footer for action in actions}
        self._fitted = 0
        """The width for which the keys were chosen."""

    def compose(self) -> ComposeResult:
        self._fitted = self.app.size.width
        keys = [key for key in super().compose() if isinstance(key, FooterKey)]
        yield from fitting(keys, self._fitted, self._ranks)

    def on_resize(self) -> None:
        if self._fitted not in (0, self.app.size.width):
            self.call_after_refresh(self.recompose)


def fitting(keys: Iterable[FooterKey], width: int, ranks: Mapping[str, int]) -> list[FooterKey]:
    """The keys that fit into `width` columns, in their order, without the least important ones.

    `ranks` says how soon an action is left out, by the name of its method: the highest number goes first.
    """

    def fits(chosen: list[FooterKey]) -> bool:
        return sum(map(columns, chosen)) - 1 <= width  # the last column is a blank

    return leave_out(keys, fits, lambda key: ranks.get(key.action, 0))


def columns(key: FooterKey) -> int:
    """How many columns the key takes with its label."""
    return cell_len(key.key_display) + cell_len(key.description) + BESIDE
