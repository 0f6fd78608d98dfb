"""Knows what stands on the terminal, and turns a paint into the bytes that change it.

Textual writes whole regions anew, each piece of text with all of its colours and a reset behind it. Over a
slow line that is what one waits for. `Mirror.thin` gives back only the cells that are different from before,
and only the colours that are different from the cell to the left.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache

from rich.cells import cell_len, get_character_cell_size

PAINT = re.compile(r"\x1b\[\d+;\d+H")
"""A paint begins by moving the cursor."""
HARMLESS = re.compile(r"(?:\x1b\[[?<>=][\d;]*[a-zA-Z]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x07|\x1b\[\d* q)*")
"""Modes of the terminal, the clipboard, the bell, the cursor's shape: they change no cell."""
TOKEN = re.compile(
    r"\x1b\[(?:(?P<y>\d+);(?P<x>\d+)H|(?P<style>[\d;]*)m)|(?P<newline>\n)|(?P<text>[^\x00-\x1f\x7f\x9b]+)"
)
GAP = 5
"""So many equal cells between two different ones are written again: to jump over them costs as much."""
SHAPED = ("\u200d", "\ufe0f", "\u20e3")
"""Characters that join or reshape those before them: terminals do not agree on the width of the whole, nor on
that of the letters of a flag."""

Cell = tuple[str, str] | None
"""A character and its style, in the numbers of SGR; None where it is not known."""


class Mirror:
    """The cells of a terminal, as this process has written them."""

    def __init__(self) -> None:
        self._rows: dict[int, list[Cell]] = {}
        self._cursor = (0, 0)

    def forget(self) -> None:
        """The terminal may show anything now, for instance because it has another size."""
        self._rows.clear()
        self._cursor = (0, 0)

    def thin(self, data: str) -> str:
        """What has to be written to show `data`; all of it where it is no paint."""
        if not PAINT.match(data):
            if not HARMLESS.fullmatch(data):
                self.forget()
            return data
        pieces = _pieces(data)
        if pieces is None:
            self.forget()
            return data
        pen = Pen()
        for y, x, text, style in pieces:
            if text:
                self._write(pen, y, x, text, style)
        y, x, _, _ = pieces[-1]
        if not pen.written and self._cursor == (y, x):
            return ""
        self._cursor = (y, x)
        return pen.end(y, x)

    def _write(self, pen: Pen, y: int, x: int, text: str, style: str) -> None:
        """Put the cells of `text` that are different from what stands there."""
        row = self._rows.setdefault(y, [])
        width = len(text) if _is_plain(text) else -1
        if width < 0:  # terminals differ: what stands there and behind is unknown, and so is the cursor
            width = cell_len(text)
            pen.put(y, x, text, style)
            row[x + width :] = [None] * len(row[x + width :])
            new: list[Cell] = [None] * width
        else:
            if not text.strip(" "):
                style = _of_blank(style)
            new = [(character, style) for character in text]
        if len(row) < x + width:
            row.extend([None] * (x + width - len(row)))
        old = row[x : x + width]
        if new == old:
            return
        row[x : x + width] = new
        if new[0] is not None:
            for start, end in _different(old, new):
                pen.put(y, x + start, text[start:end], style, end - start)


class Pen:
    """Collects what is to be written, with the shortest way from one piece to the next."""

    def __init__(self) -> None:
        self.written: list[str] = []
        self._at: tuple[int, int] | None = None
        self._style = ""

    def put(self, y: int, x: int, text: str, style: str, width: int | None = None) -> None:
        """Write `text` at a row and column counted from 1; `width` is None where terminals differ on it."""
        if self._at != (y, x):
            right = x - self._at[1] if self._at and self._at[0] == y else 0
            self.written.append(f"\x1b[{right}C" if right > 0 else f"\x1b[{y};{x}H")
        is_blank = not text.strip(" ")
        if style != self._style and not (is_blank and style == _of_blank(self._style)):
            self.written.append(_change(self._style, style))
            self._style = style
        self.written.append(text)
        self._at = None if width is None else (y, x + width)

    def end(self, y: int, x: int) -> str:
        """All that was collected; then the terminal's own colours, and the cursor where it belongs."""
        if self._style:
            self.written.append("\x1b[m")
        self.written.append(f"\x1b[{y};{x}H")
        return "".join(self.written)


def _pieces(data: str) -> list[tuple[int, int, str, str]] | None:
    """The texts of a paint with row, column (both from 1) and style, the cursor's last place behind them.

    None for a paint with sequences that are not understood here.
    """
    found: list[tuple[int, int, str, str]] = []
    y, x, style, position = 1, 1, "", 0
    for token in TOKEN.finditer(data):
        if token.start() != position:
            return None
        position = token.end()
        match token.lastgroup:
            case "x":
                y, x = int(token["y"]), int(token["x"])
            case "style":
                style = "" if token["style"] in ("", "0") else token["style"]
            case "text":
                text = token["text"]
                found.append((y, x, text, style))
                x += cell_len(text)
    if position != len(data):
        return None
    return [*found, (y, x, "", "")]


def _different(old: list[Cell], new: list[Cell]) -> Iterator[tuple[int, int]]:
    """The stretches, from and up to, in which two rows of cells differ."""
    start = end = -1
    for i, (before, after) in enumerate(zip(old, new, strict=True)):
        if before == after:
            continue
        if start >= 0 and i - end > GAP:
            yield start, end
            start = -1
        if start < 0:
            start = i
        end = i + 1
    if start >= 0:
        yield start, end


@lru_cache(4096)
def _is_plain(text: str) -> bool:
    """Whether each character takes one cell, whatever stands beside it."""
    return text.isascii() or (
        all(get_character_cell_size(c) == 1 and not "\U0001f1e6" <= c <= "\U0001f1ff" for c in text)
        and not any(character in text for character in SHAPED)
    )


@lru_cache(1024)
def _parts(style: str) -> tuple[tuple[str, ...], str, str]:
    """A style's attributes, foreground and background, each in the numbers of SGR."""
    attributes, colours = list[str](), {"3": "", "4": ""}
    numbers = style.split(";") if style else []
    while numbers:
        number = numbers.pop(0)
        if number in ("38", "48"):
            rest = 4 if numbers[:1] == ["2"] else 2
            colours[number[0]] = ";".join([number, *numbers[:rest]])
            del numbers[:rest]
        elif len(number) >= 2 and number[:-1] in ("3", "9"):
            colours["3"] = number
        elif len(number) >= 2 and number[:-1] in ("4", "10"):
            colours["4"] = number
        else:
            attributes.append(number)
    return tuple(attributes), colours["3"], colours["4"]


@lru_cache(1024)
def _of_blank(style: str) -> str:
    """The style of blanks: the foreground of a blank is not seen, unless a line goes through it."""
    attributes, _, background = _parts(style)
    lines = {"4", "7", "9", "21", "53"}
    return style if lines & set(attributes) else background


@lru_cache(4096)
def _change(before: str, after: str) -> str:
    """The sequence that changes one style into another."""
    had, fore, back = _parts(before)
    has, new_fore, new_back = _parts(after)
    removed = set(had) - set(has) or (fore and not new_fore) or (back and not new_back)
    if removed or not before:
        return f"\x1b[{'0;' if before else ''}{after}m" if after else "\x1b[m"
    added = [number for number in has if number not in had]
    colours = [new for old, new in ((fore, new_fore), (back, new_back)) if new != old]
    return f"\x1b[{';'.join([*added, *colours])}m"
