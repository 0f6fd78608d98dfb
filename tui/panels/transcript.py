"""The agent's transcript: what it says, thinks and does, as it comes; thoughts and tool calls are folded."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from textual.binding import BindingType
from textual.content import Content

from loop.events import AgentDelta, DeltaKind
from loop.state import RunState
from tui.actions import CHOOSE, bindings
from tui.keys import Keys
from tui.lines import Item, Lines
from tui.markdown import markdown
from tui.text import cut, safe

LIMIT = 2000
"""How many pieces the panel holds at most; older ones are found on the experiment's own screen."""
AT_ONCE = 32
"""A part of a message is looked for among so many newest ones: several agents may talk at once."""
SPLIT = 4000
"""Characters after which a streamed message goes on as a new piece: a frame never has to draw more."""

SYMBOLS: dict[DeltaKind, tuple[str, str]] = {
    "text": ("●", "$agent"),
    "thinking": ("∴", "$agent 70%"),
    "tool": ("▸", "$step"),
    "result": ("⎿", "$neutral"),
    "retry": ("↻", "$measure"),
    "human": ("›", "bold $foreground"),
    "note": ("·", "$neutral"),
    "error": ("✗", "$discard"),
}
"""Symbol and colour of each kind of message."""


class Piece:
    """One message of the transcript, or a part of a long one."""

    def __init__(self, delta: AgentDelta) -> None:
        self.delta = delta
        self.open = False

    def continues(self, delta: AgentDelta) -> bool:
        mine = self.delta
        return bool(delta.id) and (mine.n, mine.id, mine.kind) == (delta.n, delta.id, delta.kind)

    def add(self, delta: AgentDelta) -> AgentDelta | None:
        """Append the next part of a streamed message; returns what has to go into a new piece."""
        old = self.delta
        text = old.text + delta.text
        cut = text.rfind("\n\n", SPLIT // 2) if len(text) > SPLIT and old.kind == "text" else -1
        if cut > 0 and text.count("```", 0, cut) % 2 == 0:
            self.delta = AgentDelta(old.n, old.kind, text[:cut], old.id, old.tool, old.t)
            return AgentDelta(old.n, old.kind, text[cut + 2 :], old.id, old.tool, old.t)
        self.delta = AgentDelta(old.n, old.kind, text, old.id, old.tool or delta.tool, old.t)
        return None

    @property
    def folds(self) -> bool:
        return self.delta.kind in ("thinking", "tool", "result") and len(self.delta.text) > 60

    def item(self) -> Item:
        kind, text = self.delta.kind, safe(self.delta.text).strip("\n")
        symbol, style = SYMBOLS[kind]
        mark = Content.styled(symbol, style)
        if kind == "text":
            return Item(markdown(text), mark)
        if not self.folds or self.open:
            return Item(_opened(kind, self.delta.tool, text, style), mark)
        first, _, rest = text.partition("\n")
        more = f"  +{rest.count(chr(10)) + 1} lines" if rest else ""
        if kind == "thinking":
            first, more = f"thinking: {cut(first, 120)}", f"  ({len(text):,} characters)"
        line = _opened(kind, self.delta.tool, first, style)
        return Item(line + Content.styled(more, "$neutral"), mark)


def _opened(kind: DeltaKind, tool: str, text: str, style: str) -> Content:
    if kind == "thinking":
        return Content.styled(text, "italic $neutral")
    if kind == "tool":
        name = Content.styled(f"{safe(tool)} " if tool else "", f"bold {style}")
        first, newline, rest = text.partition("\n")
        return name + Content.styled(first, style) + newline + _changes(rest)
    if kind == "result":
        return Content.styled(text, "$neutral")
    return Content.styled(text, "" if kind == "human" else style)


def _changes(text: str) -> Content:
    """A diff within a tool call: added lines green, removed lines red."""
    styles = {"+": "$keep", "-": "$discard"}
    return Content("\n").join(
        Content.styled(line, styles.get(line[:1], "$neutral")) for line in text.split("\n")
    )


def heading(n: int, agent: str = "") -> Item:
    name = f" · {safe(agent)}" if agent else ""
    return Item(Content.styled(f"── experiment {n}{name} " + "─" * max(4, 24 - len(name)), "$neutral"))


def conversations(state: RunState) -> list[int]:
    """Numbers of the experiments that agents work out now; several talk at once."""
    return [e.n for e in state.in_phase("proposing")]


class Transcript(Lines):
    """`feed` takes in parts of messages as they come; `flush`, called a few times a second, shows them."""

    def __init__(self, keys: Keys, *, id: str | None = None, follow: bool = True) -> None:
        super().__init__(id=id, mark_width=2, follow=follow, cursor=True, empty="nothing was said here yet")
        self._keys = keys
        self.only: int | None = None
        """The experiment whose conversation is shown; None: those of all, as they come."""
        self._title = ""
        self._agents: dict[int, str] = {}
        """Names of the agents that work out experiments, where there are several."""
        self.pieces: list[Piece | int] = []
        """The messages. The number of an experiment stands before its first message, for the heading."""
        self._painted = 0
        """The pieces before this index are on screen and have not changed since."""

    BINDINGS: ClassVar[list[BindingType]] = bindings([CHOOSE])

    def reset(self, deltas: Iterable[AgentDelta], only: int | None = None) -> None:
        """Show these messages and no others; with `only`, from now on, those about this experiment."""
        self.pieces, self.only = [], only
        for delta in deltas:
            self.feed(delta)
        self.show([self._item(piece) for piece in self.pieces])
        self._painted = len(self.pieces)
        if self.follow:
            self._cursor_to_end()

    def feed(self, delta: AgentDelta) -> None:
        if self.only not in (None, delta.n):
            return
        newest = range(len(self.pieces) - 1, max(-1, len(self.pieces) - 1 - AT_ONCE), -1)
        for i in newest:  # agents that talk at once take turns
            piece = self.pieces[i]
            if isinstance(piece, Piece) and piece.delta.n == delta.n:
                if piece.continues(delta):
                    self._painted = min(self._painted, i)
                    if rest := piece.add(delta):
                        self.pieces.insert(i + 1, Piece(rest))
                    return
                break
        last = self.pieces[-1] if self.pieces else None
        if not isinstance(last, Piece) or last.delta.n != delta.n:
            self.pieces.append(delta.n)
        self.pieces.append(Piece(delta))

    def flush(self) -> None:
        """Show what `feed` has taken in."""
        if self._painted == len(self.pieces) == len(self.items):
            return
        fresh = [self._item(piece) for piece in self.pieces[self._painted :]]
        self.extend(fresh, replace=len(self.items) - self._painted)
        self._painted = len(self.pieces)
        if len(self.pieces) > LIMIT:
            count = LIMIT // 4
            del self.pieces[:count]
            self._painted -= count
            self.drop(count)
        if self.follow:
            self._cursor_to_end()

    def show_permission(self, state: RunState) -> None:
        """What a CLI agent asks permission for stands at the foot of the panel until it is answered."""
        if not state.live.asked:
            self.border_subtitle = ""
            return
        asked = state.live.asked[0]
        words = cut(safe(f"{asked.kind} {asked.title}".strip()), 60)
        self.border_subtitle = Content.assemble(
            self._keys.hint(approve="allows", reject="refuses"), (f" {words} ", "$measure")
        )

    def _cursor_to_end(self) -> None:
        self.cursor = max(0, len(self.items) - 1)

    def _item(self, piece: Piece | int) -> Item:
        return heading(piece, self._agents.get(piece, "")) if isinstance(piece, int) else piece.item()

    @property
    def under_cursor(self) -> int | None:
        """The experiment whose conversation is under the cursor, or alone is shown; None while it follows."""
        if self.only is not None or self.follow or self.cursor is None or self.cursor >= len(self.pieces):
            return self.only
        piece = self.pieces[self.cursor]
        return piece if isinstance(piece, int) else piece.delta.n

    def next_conversation(self, state: RunState) -> None:
        """From all conversations to the first one, from one to the next, from the last one to all."""
        talking = conversations(state)
        after = [n for n in talking if self.only is None or n > self.only]
        self.follow = self.follows
        self.reset(state.live.transcript, after[0] if after and len(talking) > 1 else None)

    def show_names(self, state: RunState) -> None:
        """Which conversations there are stands in the panel's title where there are several."""
        talking = conversations(state)
        self._agents = {n: state.experiment(n).agent for n in talking} | self._agents
        shown = talking if self.only is None else [self.only]
        names = ", ".join(f"#{n} {safe(self._agents.get(n, ''))}".rstrip() for n in shown)
        title = f"Agents · {names}" if len(talking) > 1 else "Agent"
        if self.only is not None:
            ended = "" if self.only in talking else " has ended"
            hint = self._keys.hint(conversation="goes on")
            title = f"Agent · {names}{ended}" + (f"   ({hint})" if hint else "")
        if title != self._title:
            self._title = title
            self.border_title = Content(title)

    def action_choose(self) -> None:
        """Open or close the message under the cursor."""
        piece = self.pieces[self.cursor] if self.cursor is not None and self.pieces else None
        if not isinstance(piece, Piece) or not piece.folds or self.cursor is None:
            return
        piece.open = not piece.open
        self.follow = self.follow and self.cursor == len(self.items) - 1
        self.change(self.cursor, piece.item())
        self.select(self.cursor)
