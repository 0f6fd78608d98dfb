"""Journal lines of version 0.1.0, put into today's words.

Format 1 called a training process a run. Format 2 calls it a training, because a run is the whole research
run. Nothing but these names has changed.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

from loop import events as ev


class Renamed(NamedTuple):
    """An event of format 1: its name today, and the fields that have another name today."""

    name: str
    fields: dict[str, str]
    """Name in format 1 -> name today."""


RENAMED = {
    "RunStarted": Renamed("TrainingStarted", {"run": "training", "slot": "seat"}),
    "RunFinished": Renamed("TrainingFinished", {"run": "training"}),
    "Judged": Renamed("Judged", {"runs": "trainings"}),
}
"""The events of format 1 that have changed, by their names in format 1."""


def may_be_older(record: ev.Record, line: bytes) -> bool:
    """Whether `line`, which decodes as `record`, may have been written in format 1 all the same.

    `Judged` kept its name, and the decoder passes over a field that it does not know. So the line itself is
    searched for the old name of the field. If only a text in the line holds it, `upgraded` renames nothing.
    """
    return type(record.event) is ev.Judged and b'"runs"' in line


def upgraded(line: bytes) -> bytes:
    """The line in today's format; a line that needs no change keeps its content.

    Raises `msgspec.DecodeError` when it is not a JSON object.
    """
    record = msgspec.json.decode(line, type=dict[str, Any])
    event = record.get("event")
    if isinstance(event, dict) and (renamed := RENAMED.get(str(event.get("type")))):
        event = {renamed.fields.get(name, name): value for name, value in event.items()}
        record["event"] = {**event, "type": renamed.name}
    return msgspec.json.encode(record)
