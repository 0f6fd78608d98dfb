"""Turns the Markdown of an agent's message into styled text: headings, lists, emphasis, code; pure functions.

Textual's Markdown widget mounts a widget for each paragraph, which is too slow for the transcript of a night.
"""

from __future__ import annotations

from markdown_it import MarkdownIt
from markdown_it.token import Token
from textual.content import Content
from textual.highlight import highlight

_PARSER = MarkdownIt("commonmark", {"html": False})
_INLINE = {"strong_open": "bold", "em_open": "italic"}


def markdown(text: str) -> Content:
    """The styled text of `text`. What is no Markdown stays as it was written."""
    blocks: list[Content] = []
    indent: list[str] = []  # one entry per open list or quote
    numbers: list[int | None] = []
    bullet = ""
    heading = False
    for token in _PARSER.parse(text):
        match token.type:
            case "heading_open":
                heading = True
            case "heading_close":
                heading = False
            case "bullet_list_open" | "ordered_list_open":
                start = token.attrGet("start")
                numbers.append(None if token.type.startswith("bullet") else int(start or 1))
                indent.append("  ")
            case "bullet_list_close" | "ordered_list_close":
                numbers.pop()
                indent.pop()
            case "list_item_open":
                bullet, numbers[-1] = _bullet(numbers[-1])
            case "blockquote_open":
                indent.append("│ ")
            case "blockquote_close":
                indent.pop()
            case "inline":
                line = _inline(token.children or [])
                lead = "".join(indent[:-1]) + bullet if bullet else "".join(indent)
                blocks.append(Content(lead) + (line.stylize("bold") if heading else line))
                bullet = ""
            case "fence" | "code_block":
                blocks.append(_code(token, "".join(indent)))
            case "hr":
                blocks.append(Content.styled("─" * 20, "$neutral"))
            case _:
                pass
    return Content("\n").join(blocks)


def _bullet(number: int | None) -> tuple[str, int | None]:
    return ("• ", None) if number is None else (f"{number}. ", number + 1)


def _inline(tokens: list[Token]) -> Content:
    parts: list[Content] = []
    styles: list[str] = []
    for token in tokens:
        if token.type in _INLINE:
            styles.append(_INLINE[token.type])
        elif token.type in ("strong_close", "em_close"):
            styles.pop()
        elif token.type == "code_inline":
            parts.append(Content.styled(token.content, "$step"))
        elif token.type in ("softbreak", "hardbreak"):
            parts.append(Content("\n"))
        elif token.type == "image":
            parts.append(Content(token.content))
        elif token.content:
            parts.append(Content.styled(token.content, " ".join(styles)))
    return Content("").join(parts)


def _code(token: Token, indent: str) -> Content:
    source = token.content.rstrip("\n")
    language = token.info.split(" ")[0] or "text"
    lines = highlight(source, language=language).split("\n", allow_blank=True)
    return Content("\n").join(Content(indent + "  ") + line for line in lines)
