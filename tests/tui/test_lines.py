"""The list that all panels of text are made of."""

from __future__ import annotations

from textual.app import App, ComposeResult
from textual.content import Content

from tui.lines import Item, Lines


def numbered(count: int, first: int = 0) -> list[Item]:
    return [Item(Content(f"line {i}")) for i in range(first, first + count)]


class OneList(App[None]):
    """An app with one list and nothing else. Its scrollbars are those of tui.tcss."""

    CSS = "Lines { scrollbar-gutter: stable; scrollbar-size-vertical: 1; scrollbar-size-horizontal: 0; }"

    def __init__(self, lines: Lines) -> None:
        super().__init__()
        self.lines = lines
        self.chosen: list[int] = []

    def compose(self) -> ComposeResult:
        yield self.lines

    def on_lines_chosen(self, event: Lines.Chosen) -> None:
        self.chosen.append(event.index)


def text(lines: Lines) -> list[str]:
    """What stands on the screen lines of the list."""
    return [lines.render_line(y).text.rstrip() for y in range(lines.size.height)]


async def test_an_empty_list_says_so() -> None:
    lines = Lines(empty="nothing [yet]")
    async with OneList(lines).run_test(size=(20, 3)):
        assert text(lines) == ["nothing [yet]", "", ""]


async def test_the_cursor_moves_and_stays_in_view() -> None:
    lines = Lines(cursor=True, wrap=False)
    app = OneList(lines)
    async with app.run_test(size=(20, 5)) as pilot:
        lines.show(numbered(50))
        lines.focus()
        await pilot.press("j", "j", "down", "k")
        assert lines.cursor == 2
        await pilot.press("G")
        assert (lines.cursor, text(lines)[-1]) == (49, "line 49")
        await pilot.press("g")
        assert (lines.cursor, text(lines)[0]) == (0, "line 0")
        await pilot.press("pagedown")
        assert text(lines)[0] == "line 4"
        await pilot.click(Lines, offset=(1, 1))
        assert lines.cursor == 5
        await pilot.click(Lines, offset=(1, 1))
        await pilot.pause()
        assert app.chosen == [5]


async def test_a_followed_list_stays_at_its_end_until_one_scrolls_up() -> None:
    lines = Lines(follow=True)
    async with OneList(lines).run_test(size=(20, 5)) as pilot:
        lines.show(numbered(20))
        lines.extend(numbered(5, 20))
        await pilot.pause()
        assert text(lines)[-1] == "line 24"
        lines.focus()
        await pilot.press("k")
        lines.extend(numbered(5, 25))
        await pilot.pause()
        assert text(lines)[-1] == "line 23"
        lines.action_follow()
        await pilot.pause()
        assert text(lines)[-1] == "line 29"


async def test_a_long_item_is_wrapped_and_its_mark_stands_once() -> None:
    lines = Lines(mark_width=2)
    async with OneList(lines).run_test(size=(12, 4)) as pilot:
        lines.show([Item(Content("one two three"), Content("●")), *numbered(1)])
        await pilot.pause()
        assert text(lines) == ["● one two", "  three", "  line 0", ""]


async def test_items_are_changed_added_and_dropped_without_moving_what_is_in_view() -> None:
    lines = Lines(wrap=False)
    async with OneList(lines).run_test(size=(20, 3)) as pilot:
        lines.show(numbered(40))
        lines.scroll_to(y=20, animate=False, force=True)
        await pilot.pause()
        assert text(lines)[0] == "line 20"
        lines.drop(10)
        await pilot.pause()
        assert text(lines)[0] == "line 20"
        lines.change(10, Item(Content("another")))
        lines.extend(numbered(1, 99), replace=1)
        assert text(lines)[0] == "another"
        assert [item.body.plain for item in lines.items[-2:]] == ["line 38", "line 99"]
