"""The command palette: every action of the table, by name."""

from __future__ import annotations

from functools import partial
from typing import cast

from textual.app import App
from textual.command import DiscoveryHit, Hit, Hits, Provider

from tui.actions import ACTIONS, Action, key_name


class Actions(Provider):
    async def discover(self) -> Hits:
        for action in self._available():
            yield DiscoveryHit(_name(action), partial(self.app.run_action, _target(action)), help=action.help)

    async def search(self, query: str) -> Hits:
        matcher = self.matcher(query)
        for action in self._available():
            score = matcher.match(f"{action.label} {action.help}")
            if score > 0:
                run = partial(self.app.run_action, _target(action))
                yield Hit(score, matcher.highlight(_name(action)), run, help=action.help)

    def _available(self) -> list[Action]:
        app = cast("App[int]", self.app)
        return [a for a in ACTIONS if app.check_action(a.name.partition("(")[0], ()) is not False]


def _name(action: Action) -> str:
    return f"{action.label} ({key_name(action.key)})"


def _target(action: Action) -> str:
    return action.name if action.name.startswith("app.") else f"app.{action.name}"
