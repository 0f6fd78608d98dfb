"""Trackio: an experiment is a run in a local database, on a server or in a Space, as its own variables say.

TRACKIO_DIR, TRACKIO_SERVER_URL with TRACKIO_WRITE_TOKEN, or TRACKIO_SPACE_ID with HF_TOKEN.

Trackio only adds to a run. So what is known of an experiment besides its curves is sent once it has ended.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import trackio

from loop.tracking.tracker import Facts, Place, Point


def open_tracker(place: Place, environ: Mapping[str, str]) -> Trackio:
    return Trackio(place)


class Trackio:
    """Keeps one run open at a time, because `trackio.init` ends the one before."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self.where = f"`trackio show --project {place.project}`"
        self._run: Any = None
        self._name = ""

    def points(self, run: Facts, points: list[Point]) -> None:
        found = self._open(run, {})
        for point in points:
            values = {f"{point.prefix}/{name}": value for name, value in point.values.items()}
            found.log(values, step=point.step)

    def describe(self, run: Facts) -> None:
        if not run.ended:
            return
        self.close()  # a run takes its configuration when it is opened
        found = self._open(run, {**run.config, **run.summary})
        numbers = {name: value for name, value in run.summary.items() if not isinstance(value, str)}
        words = f"{run.summary.get('reason', '')}\n\n```diff\n{run.diff}\n```"
        found.log({**numbers, "diff": trackio.Markdown(words)})
        self.close()

    def close(self) -> None:
        if self._run is not None:
            self._run.finish()
            self._run, self._name = None, ""

    def _open(self, run: Facts, config: dict[str, str | float]) -> Any:
        """The trackio run of an experiment, which goes on if there is one: it is known by its name."""
        name = f"{self._place.group}-{run.n:04d}-{run.id[:6]}"
        if name != self._name:
            self.close()
            self._run = trackio.init(
                self._place.project,
                name=name,
                group=self._place.group,
                config=config or run.config,
                resume="allow",
                embed=False,
                auto_log_cpu=False,  # this process's load says nothing about the training
                auto_log_gpu=False,
            )
            self._name = name
        return self._run
