"""The diff of a file: coloured as Python, with the changed words marked, in one column or two."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from textual.content import Content
from textual.highlight import highlight

from loop.events import CandidateEdited, ExperimentDetail
from loop.state import Experiment, RunState
from tui.diff import Row, counts, rows, side_by_side
from tui.keys import DECISIONS, Keys
from tui.lines import Item, Lines
from tui.text import safe, title

SIGNS = {"-": "$discard", "+": "$keep", " ": "$neutral", "@": "$neutral"}
FILLS = {"-": "on $discard 12%", "+": "on $keep 12%"}
WORDS = {"-": "on $discard 35%", "+": "on $keep 35%"}
ANSI_WORDS = {"-": "bold underline", "+": "bold underline"}
"""A terminal of 16 colours has no tints: there the sign is coloured and the changed words are underlined."""


class Paint(NamedTuple):
    """What the rows are painted with: the coloured lines of both files, and styles that the terminal has."""

    old: list[Content]
    new: list[Content]
    fills: dict[str, str]
    words: dict[str, str]


class Diff(Lines):
    """Shows two versions of one file. The lines of `preface` stand above the diff."""

    def __init__(self, keys: Keys, *, id: str | None = None, empty: str = "no candidate yet") -> None:
        super().__init__(id=id, wrap=False, empty=empty)
        self._keys = keys
        self.split = False
        self.before = self.after = ""
        self.preface: list[Content] = []
        self._ansi: bool | None = None
        self.hunks: list[int] = []
        """The items at which a change begins."""

    def compare(self, before: str, after: str, preface: list[Content] | None = None) -> tuple[int, int]:
        """Show the difference; returns how many lines were added and how many removed."""
        same = (before, after) == (self.before, self.after)
        self.before, self.after, self.preface = before, after, preface or []
        found = self._render_all()
        if not same:
            self.scroll_to(y=0, animate=False, force=True)
        return found

    def show_candidate(
        self, state: RunState, files: CandidateEdited | ExperimentDetail, findings: list[str]
    ) -> None:
        """Show a candidate's change. `findings` are what the audit says about it, a sentence each."""
        known = 1 <= files.n <= len(state.experiments)
        e = state.experiment(files.n) if known else None
        added, removed = self.compare(files.before, files.after, preface(e, state, findings, self._keys))
        parent = e.parent if e else state.incumbent_commit
        mended = ", its repair," if e and is_mended(e) else ""
        self.border_title = Content.assemble(
            f"{safe(Path(files.path).name)}  candidate {files.n}{mended} vs incumbent {parent[:7]}  ",
            (f"+{added} ", "$keep"),
            (f"-{removed}", "$discard"),
        )

    def set_layout(self, split: bool, wrap: bool) -> None:
        if (split, wrap) != (self.split, self.wrap):
            self.split, self.wrap = split, wrap
            self._render_all()

    def _render_all(self) -> tuple[int, int]:
        before, after = safe(self.before), safe(self.after)
        found = rows(before, after)
        ansi = self._ansi = self.app.current_theme.ansi
        paint = Paint(
            _coloured(before), _coloured(after), {} if ansi else FILLS, ANSI_WORDS if ansi else WORDS
        )
        items = [Item(line) for line in self.preface]
        self.hunks = []
        changing = False
        if self.split and self._width >= 100:
            column = (self._width - 3) // 2
            for left, right in side_by_side(found):
                changing = self._note_hunk(len(items), left is not right, changing)
                items.append(_pair(left, right, paint, column))
        else:
            for row in found:
                changing = self._note_hunk(len(items), row.kind in "+-", changing)
                items.append(_single(row, paint))
        if not found and (before or after):
            items.append(Item(Content.styled("no difference", "$neutral")))
        self.show(items)
        return counts(found)

    def _note_hunk(self, index: int, changes: bool, changing: bool) -> bool:
        if changes and not changing:
            self.hunks.append(index)
        return changes

    def on_resize(self) -> None:
        self._render_all()

    def notify_style_update(self) -> None:
        super().notify_style_update()
        if self._ansi is not None and self._ansi != self.app.current_theme.ansi:
            self._render_all()

    def go_to_hunk(self, direction: int) -> None:
        """Scroll to the next (1) or previous (-1) change."""
        if not self._starts:
            return
        top = self.scroll_offset.y
        starts = [self._starts[index] for index in self.hunks]
        ahead = [y for y in starts if y > top + 2] if direction > 0 else [y for y in starts if y < top + 2]
        if ahead:
            self.scroll_to(
                y=max(0, (ahead[0] if direction > 0 else ahead[-1]) - 2), animate=False, force=True
            )


def is_mended(e: Experiment) -> bool:
    """Whether its agent may be mending it: it crashed, and that is not its verdict yet."""
    last = e.last_training
    crashed = last is not None and last.outcome in ("crashed", "timeout")
    return e.phase == "judging" and crashed and not e.no_repair and e.author == "agent"


@lru_cache(maxsize=4)
def _coloured(source: str) -> list[Content]:
    return highlight(source, language="python", tab_size=4).split("\n", allow_blank=True) if source else []


def _code(row: Row, is_old: bool, paint: Paint) -> Content:
    number, lines = (row.old, paint.old) if is_old else (row.new, paint.new)
    lead = Content.styled(f"{number:>4} {row.kind} ", SIGNS[row.kind])
    code = lines[number - 1] if number is not None and number <= len(lines) else Content(row.text)
    for start, end in row.changed:
        code = code.stylize(paint.words[row.kind], start, end)
    return lead + code


def _skipped(row: Row) -> Item:
    return Item(Content.styled(f"      ⋯ {row.text}", "$neutral"))


def _single(row: Row, paint: Paint) -> Item:
    if row.kind == "@":
        return _skipped(row)
    return Item(_code(row, row.kind == "-", paint), fill=paint.fills.get(row.kind, ""))


def _pair(left: Row | None, right: Row | None, paint: Paint, width: int) -> Item:
    if left is not None and left.kind == "@":
        return _skipped(left)
    changed = left is not right
    halves = []
    for row, is_old in ((left, True), (right, False)):
        half = (
            _code(row, is_old, paint).truncate(width, ellipsis=True, pad=True)
            if row
            else Content(" " * width)
        )
        fill = paint.fills.get(row.kind) if row and changed else None
        halves.append(half.stylize_before(fill) if fill else half)
    return Item(Content.styled(" │ ", "$neutral").join(halves))


def preface(e: Experiment | None, state: RunState, findings: list[str], keys: Keys) -> list[Content]:
    """The lines above a candidate's diff: its purpose, the keys to press, the queue, what the audit says."""
    lines: list[Content] = []
    if e is not None and e.phase == "waiting":
        lines.append(Content.styled(title(e), "bold"))
        lines += [Content.styled(line, "$agent") for line in safe(e.hypothesis).splitlines()]
        lines.append(Content.styled(keys.hint(**DECISIONS), "$measure"))
    if state.approval and len(state.queue) > 1:
        names = "  ".join(f"#{x.n} {'waits' if x.phase == 'waiting' else 'approved'}" for x in state.queue)
        hint = keys.hint("the cursor picks", first="trains first")
        lines.append(Content.styled(f"queue: {names}   ({hint})", "$neutral"))
    return lines + [Content.styled(f"audit: {safe(text)}", "$measure") for text in findings]
