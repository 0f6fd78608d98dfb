"""The other runs of this machine: what they want of the human, and the way to them."""

from __future__ import annotations

from textual.app import App

from loop.client import ConnectionLost, RunOverview, Runs
from loop.state import RunState
from tui.link import Link

LOOK_S = 15.0
"""Seconds between two looks at what other runs want."""


def is_shown(run: RunOverview, state: RunState) -> bool:
    """Whether `state` is that of the run."""
    return (run.root, run.tag) == (state.repository, state.tag)


class Others:
    """Rings when another run wants something, and shows another run in the place of this one."""

    def __init__(self, runs: Runs, link: Link, app: App[int]) -> None:
        self.runs, self._link, self._app = runs, link, app
        self._wanting: set[tuple[str, str]] = set()
        """The runs that were seen to want something."""

    def look(self) -> None:
        """Read what other runs want, in a thread; the bell rings for those that did not want it before."""
        self._app.run_worker(self._look, thread=True, exclusive=True, group="other-runs")

    def _look(self) -> None:
        wanting = [run for run in self.runs.known() if run.running and run.attention]
        self._app.call_from_thread(self._ring, wanting)

    def _ring(self, wanting: list[RunOverview]) -> None:
        for run in wanting:
            if (run.root, run.tag) not in self._wanting and not is_shown(run, self._link.state):
                self._app.bell()
                self._link.toast(f"{run.tag}: {run.attention}{self._way()}", "warning")
        self._wanting = {(run.root, run.tag) for run in wanting}

    def _way(self) -> str:
        way = self._link.keys.hint(runs="goes there")
        return f"   ({way})" if way else ""

    def show(self, run: RunOverview | None) -> None:
        """Show this run from now on; None, or the run that is shown already, changes nothing."""
        if run is not None and not is_shown(run, self._link.state):
            self._app.run_worker(self._show(run), group="switch", exclusive=True)

    async def _show(self, run: RunOverview) -> None:
        try:
            await self._link.switch(self.runs.opener(run))
        except (ConnectionLost, OSError, ValueError) as error:
            self._link.toast(f"{run.tag} cannot be shown: {error}", "error")
