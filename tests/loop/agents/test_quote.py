"""Quoted text stays data, and what is cut says so."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from loop.agents.quote import Part, cut, quoted, size

PARTS: list[Part] = ["start", "end", "both"]


@given(st.text(max_size=300), st.integers(0, 400), st.sampled_from(PARTS))
def test_what_is_cut_keeps_its_ends(text: str, most: int, keep: Part) -> None:
    text = text.encode("utf-8", "replace").decode()
    short = cut(text, most, keep)
    if size(text) <= most:
        assert short == text
    else:
        assert size(short) <= most + 50
        head, tail = re.split(r"\n?\[\.\.\. [\d,]+ bytes left out \.\.\.\]\n?", short, maxsplit=1)
        assert text.startswith(head)
        assert text.endswith(tail)


def test_cutting_says_how_much_is_missing() -> None:
    assert cut("abc", 3) == "abc"
    assert cut("abcdef", 2).startswith("ab\n[... 4 bytes")
    assert cut("abcdef", 2, "end").endswith("...]\nef")
    assert cut("abcdef", 2, "both") == "a\n[... 4 bytes left out ...]\nf"
    assert quoted("a\nb", "x") == '<data name="a b">\nx\n</data>'


@given(st.text(alphabet="</dat> DATAx\n\\", max_size=60))
def test_no_text_ends_its_own_quotation(text: str) -> None:
    told = quoted("log", text)
    tags = re.findall(r"<\s*(/?)\s*data", told, re.IGNORECASE)
    assert tags == ["", "/"]


def test_a_quotation_has_no_control_characters() -> None:
    told = quoted("a \x1b[2J name", "red \x1b[31mtext\u202e\n\n")
    assert told == '<data name="a name">\nred text\n</data>'


def test_a_quotation_is_cut_where_it_is_told_to() -> None:
    assert quoted("log", "abcdef", 2, "end") == '<data name="log">\n[... 4 bytes left out ...]\nef\n</data>'


def test_size_is_in_bytes_even_of_text_that_is_not_valid() -> None:
    assert size("三つ") == 6
    assert size("\ud800") == 1
