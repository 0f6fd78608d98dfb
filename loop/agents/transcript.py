"""An experiment's transcript: what its agent says and does, sent on while it happens."""

from __future__ import annotations

import time

from loop.agents.base import Emit
from loop.events import AgentDelta, DeltaKind, Usage
from loop.text import clean, one_line


class Transcript:
    """The transcript of experiment `n`. Each piece of text goes to `emit` at once."""

    def __init__(self, n: int, emit: Emit) -> None:
        self._n, self.emit = n, emit
        self._start, self._count = f"{time.time_ns() // 1_000_000:x}", 0

    def new(self) -> str:
        """An id for the next message. Pieces with the same id are shown as one message; no other message of
        this experiment has this id."""
        self._count += 1
        return f"{self._start}.{self._count}"

    def say(self, kind: DeltaKind, text: str, id: str = "", tool: str = "") -> None:
        """Add a piece of text to message `id`, or a message of its own when there is no `id`."""
        if text := clean(text):
            self.emit(AgentDelta(self._n, kind, text, id or self.new(), one_line(tool), time.time()))


def cost_line(usage: Usage, model: str) -> str:
    """What a conversation has used and cost, in one line."""
    share = usage.cached_tokens / usage.input_tokens if usage.input_tokens else 0.0
    price = f"${usage.dollars:.4f}" if usage.dollars is not None else f"no price known for {model}"
    thought = f" ({usage.reasoning_tokens:,} reasoning)" if usage.reasoning_tokens else ""
    return (
        f"{usage.input_tokens:,} tokens in ({share:.0%} cached), {usage.output_tokens:,} out{thought}, "
        f"{price}, {usage.seconds:.0f} s"
    )
