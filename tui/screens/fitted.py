"""A screen that ends with the terminal's size, however quickly that changes."""

from __future__ import annotations

from textual.events import Resize
from textual.message import Message
from textual.message_pump import MessagePump


class Fitted(MessagePump):
    """Mixed into every screen of the cockpit.

    A screen that has been laid out tells itself its new size, behind whatever waits to be handled. Where the
    terminal has changed again by then, that news is older than the terminal's own and yet comes after it:
    the screen would go back to a size that is past, and may go to and fro for ever.
    """

    def post_message(self, message: Message) -> bool:
        is_past = isinstance(message, Resize) and message.size != self.app.size
        return not is_past and super().post_message(message)
