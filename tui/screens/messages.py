"""The messages that wait for the agent; each can be taken back until a candidate has come of it."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.screen import ModalScreen

from loop.events import TakeBack
from loop.state import ENGINE_SAYS, Message
from tui.lines import Item, Lines
from tui.link import Link
from tui.text import safe


class MessagesScreen(ModalScreen[None]):
    """A list of the messages; x takes back the one under the cursor."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,I", "dismiss", "Back"),
        Binding("x,delete", "take_back", "Take back"),
    ]

    def __init__(self, link: Link) -> None:
        super().__init__()
        self._link = link
        self._shown: list[Message] | None = None

    def compose(self) -> ComposeResult:
        lines = Lines(id="messages", cursor=True, mark_width=2, empty="no message waits: i writes one")
        lines.border_title = "Messages that wait for the agent"
        lines.border_subtitle = "x takes one back, esc goes back"
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
