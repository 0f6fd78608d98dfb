"""The messages that wait for the agent; each can be taken back until a candidate has come of it."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.content import Content
from textual.screen import ModalScreen

from loop.events import TakeBack
from loop.state import ENGINE_SAYS, Message
from tui.actions import TAKE_BACK, bindings, closed_by
from tui.lines import Item, Lines
from tui.link import Link
from tui.screens.fitted import Fitted
from tui.text import safe


class MessagesScreen(Fitted, ModalScreen[None]):
    """A list of the messages, each of which can be taken back."""

    BINDINGS: ClassVar[list[BindingType]] = [*closed_by("messages"), *bindings([TAKE_BACK])]

    def __init__(self, link: Link) -> None:
        super().__init__()
        self._link = link
        self._shown: list[Message] | None = None

    def compose(self) -> ComposeResult:
        keys = self._link.keys
        empty = keys.hint("no message waits", steer="writes one")
        lines = Lines(id="messages", cursor=True, mark_width=2, empty=empty)
        lines.border_title = "Messages that wait for the agent"
        lines.border_subtitle = keys.hint("esc goes back", take_back="takes one back")
        yield lines

    def on_mount(self) -> None:
        self.show()
        self.query_one(Lines).focus()

    def show(self) -> None:
        """Bring the list up to date; costs little while nothing has changed."""
        waiting = self._link.state.steering
        if waiting != self._shown:
            self._shown = list(waiting)
            lines = self.query_one(Lines)
            lines.show([item(message) for message in waiting])
            lines.select(lines.cursor or 0)

    def action_take_back(self) -> None:
        cursor = self.query_one(Lines).cursor
        if self._shown and cursor is not None and cursor < len(self._shown):
            self._link.send(TakeBack(self._shown[cursor].id))


def item(message: Message) -> Item:
    """A message, with what is the engine's own told apart."""
    text = safe(message.text)
    if text.startswith(ENGINE_SAYS):
        return Item(
            Content.styled(text.removeprefix(ENGINE_SAYS), "$neutral"), Content.styled("· ", "$neutral")
        )
    return Item(Content(text), Content.styled("› ", "$measure"))
