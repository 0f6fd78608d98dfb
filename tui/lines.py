"""A scrolling list of styled texts that stays fast at any length: one widget that draws its lines itself."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import ClassVar, NamedTuple

from rich.segment import Segment
from rich.style import Style as RichStyle
from textual import events
from textual.binding import BindingType
from textual.content import Content
from textual.geometry import Region, Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip
from textual.style import Style
from textual.visual import Visual

from tui.actions import MOVES, bindings

EMPTY = Content("")
KEPT = 200
"""How many items keep their drawn lines while a list follows its end."""


class Item(NamedTuple):
    """One entry of the list. It takes as many screen lines as its body needs."""

    body: Content
    mark: Content = EMPTY
    """Stands in the left column beside the body's first line."""
    fill: str = ""
    """Style of the whole line, to its right end."""


class Lines(ScrollView, can_focus=True):
    """A list of items, with or without a cursor. With `follow` on, its end stays in view."""

    BINDINGS: ClassVar[list[BindingType]] = bindings(MOVES)
    ALLOW_SELECT = False

    class Chosen(Message):
        """The item under the cursor was chosen, with enter or a click."""

        def __init__(self, lines: Lines, index: int) -> None:
            super().__init__()
            self.lines = lines
            self.index = index

        @property
        def control(self) -> Lines:
            return self.lines

    class Moved(Message):
        """The cursor has moved to another item."""

        def __init__(self, lines: Lines, index: int) -> None:
            super().__init__()
            self.lines = lines
            self.index = index

        @property
        def control(self) -> Lines:
            return self.lines

    def __init__(
        self,
        *,
        id: str | None = None,
        mark_width: int = 0,
        wrap: bool = True,
        follow: bool = False,
        cursor: bool = False,
        empty: str = "",
    ) -> None:
        super().__init__(id=id)
        self.items: list[Item] = []
        self.cursor: int | None = 0 if cursor else None
        self.mark_width = mark_width
        """Width of the column for the marks."""
        self.wrap = wrap
        self.follow = follow
        self.follows = follow
        """Whether this list has a follow mode at all."""
        self.empty = empty
        """What is shown while the list is empty."""
        self._blocks: list[list[Strip] | None] = []
        """The drawn lines of each item; None until it comes into view."""
        self._heights: list[int] = []
        """How many screen lines each item takes."""
        self._starts: list[int] = []
        """The screen line at which each item begins."""
        self._height = 0
        """Screen lines of the whole list."""
        self._wide = 0
        """Columns of the longest item that is not wrapped."""
        self._style: Style | None = None
        """The widget's style when the lines were drawn."""

    # --- content ---

    def show(self, items: Sequence[Item]) -> None:
        """Replace all items; the scroll position stays as far as the new list is long enough."""
        self.items = list(items)
        self._wide = 0
        self._lay_out_from(0)

    def extend(self, items: Sequence[Item], replace: int = 0) -> None:
        """Add items at the end, in place of the last `replace` ones."""
        keep = len(self.items) - replace
        del self.items[keep:]
        self.items.extend(items)
        self._lay_out_from(keep)
        if self.follow:  # drawn lines take memory; those that have scrolled off are drawn again when needed
            gone = max(0, len(self._blocks) - KEPT)
            self._blocks[:gone] = [None] * gone

    def change(self, index: int, item: Item) -> None:
        """Put another item in the place of item `index`."""
        self.items[index] = item
        if index < len(self._blocks):
            block = self._blocks[index] = self._block(item)
            self._heights[index] = len(block)
            self._place_from(index)

    def drop(self, count: int) -> None:
        """Remove the first `count` items, without moving what is in view."""
        lines = self._starts[count] if count < len(self._starts) else self._height
        offset = self.scroll_offset.y
        if self.cursor is not None:
            self.cursor = max(0, self.cursor - count)
        del self.items[:count], self._blocks[:count], self._heights[:count]
        self._place_from(0)
        if not self.follow:
            self.scroll_to(y=max(0, offset - lines), animate=False, force=True)

    def item(self, index: int) -> Item:
        """Item `index`, to be drawn. A list that is too long to make at once overrides this and `reach`."""
        return self.items[index]

    def reach(self, index: int) -> int:
        """Columns that item `index` needs when it is not wrapped."""
        return self.items[index].body.cell_length + 1 + self.mark_width

    def _lay_out_from(self, index: int) -> None:
        """Draw the items from `index` on: wrapped ones now, to know their heights, others once in view."""
        if not self.size.width:
            return
        self._style = self.visual_style
        del self._blocks[index:], self._heights[index:]
        if self.wrap:
            blocks = [self._block(item) for item in self.items[index:]]
            self._blocks += blocks
            self._heights += map(len, blocks)
        else:
            self._blocks += [None] * (len(self.items) - index)
            self._heights += [1] * (len(self.items) - index)
            self._wide = max([self._wide, *(self.reach(i) for i in range(index, len(self.items)))])
        self._place_from(index)

    def _place_from(self, index: int) -> None:
        """Count anew, from item `index` on, at which line each item begins."""
        del self._starts[index:]
        line = self._starts[-1] + self._heights[index - 1] if index else 0
        for height in self._heights[index:]:
            self._starts.append(line)
            line += height
        self._height = line
        width = self._width if self.wrap else max(self._wide, self._width)
        self._grow(Size(width, self._height))
        if self.follow:
            self.scroll_end(animate=False, immediate=True, force=True)
        self.refresh()

    def _grow(self, size: Size) -> None:
        """Set the virtual size as Textual's own setter does, but without laying out the whole screen.

        When a scrollbar appears or disappears, Textual still lays the screen out.
        """
        self.set_reactive(Lines.virtual_size, size)
        self._scroll_update(size)

    @property
    def _width(self) -> int:
        return max(4, self.scrollable_content_region.width)

    def _block(self, item: Item) -> list[Strip]:
        style = self.visual_style
        if item.fill:
            style += self._get_style(item.fill)
        room = (self._width if self.wrap else max(self._wide, self._width)) - self.mark_width
        height = None if self.wrap else 1
        strips = Visual.to_strips(self, item.body, max(1, room), height, style, pad=True)
        strips = strips or [Strip.blank(room, style.rich_style)]
        if not self.mark_width:
            return strips
        mark = Visual.to_strips(self, item.mark, self.mark_width, 1, style, pad=True)
        rest = Strip.blank(self.mark_width, style.rich_style)
        return [Strip.join([mark[0] if mark and not i else rest, strip]) for i, strip in enumerate(strips)]

    def _line(self, line: int) -> tuple[int, Strip]:
        """The item that line `line` of the list belongs to, and the drawn line."""
        index = bisect_right(self._starts, line) - 1
        block = self._blocks[index]
        if block is None:
            block = self._blocks[index] = self._block(self.item(index))
        return index, block[min(line - self._starts[index], len(block) - 1)]

    # --- painting ---

    def render_line(self, y: int) -> Strip:
        x, top = self.scroll_offset
        style = self.visual_style.rich_style
        width = self.size.width
        if not self.items and self.empty:
            hint = Content.styled(self.empty, "$neutral")
            words = Visual.to_strips(self, hint, max(1, width), None, self.visual_style, pad=True)
            return words[y] if y < len(words) else Strip.blank(width, style)
        line = y + top
        if line >= self._height:
            return Strip.blank(width, style)
        index, strip = self._line(line)
        strip = self._visible(strip, x, style).adjust_cell_length(width, style)
        if index == self.cursor:
            strip = Strip(Segment.apply_style(strip, post_style=self._cursor_style), strip.cell_length)
        return strip

    def _visible(self, strip: Strip, x: int, style: RichStyle) -> Strip:
        """The part of a line from column `x` on that has room; an ellipsis ends it where text is cut."""
        end = x + self._width
        if self.wrap or strip.cell_length <= end or not strip.crop(end).text.strip():
            return strip.crop_extend(x, end, style)
        return Strip([*strip.crop(x, end - 1), Segment("…", style)], self._width)

    @property
    def _cursor_style(self) -> RichStyle:
        if self.app.current_theme.ansi:
            return RichStyle(reverse=self.has_focus, bold=True)
        blended = self.visual_style + self._get_style(
            "on $primary 35%" if self.has_focus else "on $primary 15%"
        )
        return RichStyle(bgcolor=blended.rich_style.bgcolor)

    def notify_style_update(self) -> None:
        super().notify_style_update()
        if self.is_mounted and self._style is not None and self._style != self.visual_style:
            self.show(self.items)

    def on_resize(self) -> None:
        self.show(self.items)

    def on_focus(self) -> None:
        self.refresh()

    def on_blur(self) -> None:
        self.refresh()

    # --- moving ---

    def select(self, index: int) -> None:
        """Put the cursor on an item and scroll to it."""
        if self.cursor is None or not self.items:
            return
        old, self.cursor = self.cursor, max(0, min(index, len(self.items) - 1))
        if self._starts:
            start = self._starts[self.cursor]
            region = Region(0, start, 1, min(self._heights[self.cursor], self.size.height))
            self.scroll_to_region(region, animate=False, force=True, x_axis=False)
        self.refresh()
        if old != self.cursor:
            self.post_message(self.Moved(self, self.cursor))

    def action_move(self, by: int) -> None:
        if self.cursor is not None and self.items:
            self._unfollow(by)
            self.select(self.cursor + by)
        else:
            self._scroll(by)

    def action_page(self, by: int) -> None:
        self._scroll(by * max(1, self.size.height - 1))
        if self.cursor is not None and self._starts:
            self.select(bisect_right(self._starts, max(0, int(self.scroll_target_y))) - 1)

    def action_end(self, direction: int) -> None:
        if self.cursor is not None:
            self.select(0 if direction < 0 else len(self.items) - 1)
        self._scroll(direction * (self._height + 1))
        self.follow = self.follows and direction > 0

    def action_choose(self) -> None:
        if self.cursor is not None and self.items:
            self.post_message(self.Chosen(self, self.cursor))

    def action_follow(self) -> None:
        """Go to the end and stay there."""
        if self.follows:
            self.action_end(1)

    def _scroll(self, by: int) -> None:
        self._unfollow(by)
        self.scroll_to(y=self.scroll_offset.y + by, animate=False, force=True)

    def _unfollow(self, by: int) -> None:
        self.follow = self.follows and self.follow and by > 0

    def on_mouse_scroll_up(self) -> None:
        self._unfollow(-1)

    def on_click(self, event: events.Click) -> None:
        line = event.y + self.scroll_offset.y
        if self.cursor is None or not 0 <= line < self._height:
            return
        index = bisect_right(self._starts, line) - 1
        chosen = index == self.cursor
        self._unfollow(-1)
        self.select(index)
        if chosen:
            self.action_choose()
