"""Candidate against incumbent: syntax coloured, changed words marked, in one column or two."""

from __future__ import annotations

from functools import lru_cache

from textual.content import Content
from textual.highlight import highlight

from tui.diff import Row, counts, rows, side_by_side
from tui.lines import Item, Lines
from tui.text import safe

SIGNS = {
    "-": ("$discard", "on $discard 12%"),
    "+": ("$keep", "on $keep 12%"),
    " ": ("$neutral", ""),
    "@": ("", ""),
}
WORD = {"-": "on $discard 35%", "+": "on $keep 35%"}


class Diff(Lines):
    """Shows two versions of one file; `preface` stands above (what a candidate is for, what to press)."""

    def __init__(self, *, id: str | None = None, empty: str = "no candidate yet") -> None:
        super().__init__(id=id, wrap=False, empty=empty)
        self.split = False
        self.before = self.after = ""
        self.preface: list[Content] = []
        self.hunks: list[int] = []
        """Items where a change begins."""

    def compare(self, before: str, after: str, preface: list[Content] | None = None) -> tuple[int, int]:
        """Show the difference; returns lines added and removed."""
        same = (before, after) == (self.before, self.after)
        self.before, self.after, self.preface = before, after, preface or []
        found = self._render_all()
        if not same:
            self.scroll_to(y=0, animate=False)
        return found

    def set_layout(self, split: bool, wrap: bool) -> None:
        if (split, wrap) != (self.split, self.wrap):
            self.split, self.wrap = split, wrap
            self._render_all()

    def _render_all(self) -> tuple[int, int]:
        before, after = safe(self.before), safe(self.after)
        found = rows(before, after)
        old, new = _coloured(before), _coloured(after)
        items = [Item(line) for line in self.preface]
        self.hunks = []
        if self.split and self._width >= 100:
            column = (self._width - 3) // 2
            for left, right in side_by_side(found):
                self._mark_hunk(items, (left or right or Row(" ", 0, 0, "")).kind, left is right)
                items.append(_pair(left, right, old, new, column))
        else:
            previous = " "
            for row in found:
                if row.kind in "+-" and previous not in "+-":
                    self.hunks.append(len(items))
                previous = row.kind
                items.append(_single(row, old, new))
        if not found and (before or after):
            items.append(Item(Content.styled("no difference", "$neutral")))
        self.show(items)
        return counts(found)

    def _mark_hunk(self, items: list[Item], kind: str, same: bool) -> None:
        if not same and (not items or not items[-1].fill):
            self.hunks.append(len(items))

    def on_resize(self) -> None:
        if self.split:
            self._render_all()
        else:
            super().on_resize()

    def go_to_hunk(self, direction: int) -> None:
        """Scroll to the next (1) or previous (-1) change."""
        if not self._starts:
            return
        top = self.scroll_offset.y
        starts = [self._starts[index] for index in self.hunks]
        ahead = [y for y in starts if y > top + 2] if direction > 0 else [y for y in starts if y < top + 2]
        if ahead:
            self.scroll_to(y=max(0, (ahead[0] if direction > 0 else ahead[-1]) - 2), animate=False)


@lru_cache(maxsize=4)
def _coloured(source: str) -> list[Content]:
    return highlight(source, language="python", tab_size=4).split("\n", allow_blank=True) if source else []


def _code(row: Row, lines: list[Content], number: int | None) -> Content:
    code = lines[number - 1] if number is not None and number <= len(lines) else Content(row.text)
    if row.kind in WORD:
        for start, end in row.changed:
            code = code.stylize(WORD[row.kind], start, end)
    return code


def _single(row: Row, old: list[Content], new: list[Content]) -> Item:
    if row.kind == "@":
        return Item(Content.styled(f"      ⋯ {row.text}", "$neutral"))
    style, fill = SIGNS[row.kind]
    number = row.new if row.new is not None else row.old
    lead = Content.styled(f"{number:>4} {row.kind} ", style)
    return Item(lead + _code(row, old if row.kind == "-" else new, number), fill=fill)


def _pair(left: Row | None, right: Row | None, old: list[Content], new: list[Content], width: int) -> Item:
    if left is not None and left.kind == "@":
        return Item(Content.styled(f"      ⋯ {left.text}", "$neutral"))
    changed = left is not right
    halves = (_half(left, old, True, changed, width), _half(right, new, False, changed, width))
    return Item(Content.styled(" │ ", "$neutral").join(halves), fill="on $neutral 1%" if changed else "")


def _half(row: Row | None, lines: list[Content], is_old: bool, changed: bool, width: int) -> Content:
    if row is None:
        return Content(" " * width)
    number = row.old if is_old else row.new
    style, fill = SIGNS[row.kind]
    body = Content.styled(f"{number:>4} {row.kind} ", style) + _code(row, lines, number)
    body = body.truncate(width, ellipsis=True, pad=True)
    return body.stylize_before(fill) if changed and fill else body
