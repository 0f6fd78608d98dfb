"""Markdown as styled text."""

from __future__ import annotations

from tui.markdown import markdown


def test_markdown_keeps_text_and_brackets() -> None:
    content = markdown(
        "# Head\n\nI *try* **this** `[x]`:\n\n- one\n- two\n\n```python\na = [1]\n```\n[red]not[/]"
    )
    assert content.plain == "Head\nI try this [x]:\n• one\n• two\n  a = [1]\n[red]not[/]"


def test_numbered_lists_count() -> None:
    assert markdown("3. a\n4. b").plain == "3. a\n4. b"
