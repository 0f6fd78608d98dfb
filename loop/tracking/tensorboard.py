"""TensorBoard: a folder of event files for each experiment, below the run's own folder.

Event files can only be added to. So what is known of an experiment besides its curves is written once it has
ended, and not each time that more is known.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
from tensorboard.compat.proto.tensor_pb2 import TensorProto
from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto
from tensorboard.plugins.hparams.summary_v2 import hparams_pb
from tensorboard.summary.writer.event_file_writer import EventFileWriter

from loop.tracking.tracker import Facts, Place, Point

FOLDER = "tensorboard"
"""Where the event files are, in the run's folder."""


def open_tracker(place: Place, environ: Mapping[str, str]) -> TensorBoard:
    return TensorBoard(place.folder / FOLDER)


class TensorBoard:
    """Writes event files; it needs neither a server nor the network."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.where = f"`tensorboard --logdir {folder}`"
        self._writers: dict[int, EventFileWriter] = {}

    def points(self, run: Facts, points: list[Point]) -> None:
        writer = self._writer(run)
        for point in points:
            values = [
                Summary.Value(tag=f"{point.prefix}/{name}", simple_value=value)
                for name, value in point.values.items()
            ]
            writer.add_event(Event(wall_time=point.t, step=point.step, summary=Summary(value=values)))
        writer.flush()

    def describe(self, run: Facts) -> None:
        if not run.ended:
            return
        writer = self._writer(run)
        writer.add_event(Event(wall_time=run.started, summary=hparams_pb(run.config, run.id, run.started)))
        words = "\n".join(
            f"- **{name}**: {value}" for name, value in {**run.config, **run.summary}.items() if value != ""
        )
        values = [_text("experiment", words), _text("diff", f"```diff\n{run.diff}\n```")]
        values += [
            Summary.Value(tag=f"result/{name}", simple_value=value)
            for name, value in run.summary.items()
            if not isinstance(value, str)
        ]
        writer.add_event(Event(wall_time=run.started, step=0, summary=Summary(value=values)))
        writer.close()
        del self._writers[run.n]

    def close(self) -> None:
        for writer in self._writers.values():
            writer.close()

    def _writer(self, run: Facts) -> EventFileWriter:
        if run.n not in self._writers:
            self._writers[run.n] = EventFileWriter(str(self._folder / f"{run.n:04d}"))
        return self._writers[run.n]


def _text(tag: str, words: str) -> Summary.Value:
    """A text in Markdown, as TensorBoard's text plugin reads it."""
    shape = TensorShapeProto(dim=[TensorShapeProto.Dim(size=1)])
    tensor = TensorProto(dtype="DT_STRING", string_val=[words.encode()], tensor_shape=shape)
    plugin = SummaryMetadata.PluginData(plugin_name="text")
    return Summary.Value(
        tag=f"{tag}/text_summary", metadata=SummaryMetadata(plugin_data=plugin), tensor=tensor
    )
