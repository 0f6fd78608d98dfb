"""The command palette offers the actions of the table `tui.actions` by their names."""

from __future__ import annotations

from functools import partial

from textual.command import DiscoveryHit, Hit, Hits, Provider
from textual.system_commands import SystemCommandsProvider

from tui.actions import ON_EVERY_SCREEN, Action
from tui.screens.run import RunScreen


class Actions(Provider):
    """Textual asks `discover` while nothing is typed, then `search`."""

    async def discover(self) -> Hits:
        for action in self._available():
            run = partial(self.app.run_action, action.name, self._target)
            yield DiscoveryHit(self._name(action), run, help=action.help)

    async def search(self, query: str) -> Hits:
        matcher = self.matcher(query)
        for action in self._available():
            score = matcher.match(f"{action.label} {action.help}")
            if score > 0:
                run = partial(self.app.run_action, action.name, self._target)
                yield Hit(score, matcher.highlight(self._name(action)), run, help=action.help)

    @property
    def _target(self) -> RunScreen:
        """The screen that takes the action: the topmost one that is no dialog."""
        return next(s for s in reversed(self.app.screen_stack) if isinstance(s, RunScreen))

    def _available(self) -> list[Action]:
        """What would do something now; over a dialog, only what works on every screen."""
        target = self._target
        offered = target.actions if self.screen is target else ON_EVERY_SCREEN
        return [a for a in offered if target.check_action(a.name.partition("(")[0], ())]

    def _name(self, action: Action) -> str:
        keys = self._target.link.keys.names(action.id)
        return f"{action.label} ({keys})" if keys else action.label


class Commands(Provider):
    """The actions, and behind them what Textual offers: one provider, because several come in any order."""

    async def discover(self) -> Hits:
        for kind in (Actions, SystemCommandsProvider):
            async for hit in kind(self.screen, self.match_style).discover():
                yield hit

    async def search(self, query: str) -> Hits:
        for kind in (Actions, SystemCommandsProvider):
            async for hit in kind(self.screen, self.match_style).search(query):
                yield hit
