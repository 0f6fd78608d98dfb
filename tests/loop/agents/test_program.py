"""Which sources are the same program."""

from __future__ import annotations

import ast

import pytest

from loop.agents import program


def test_comments_and_layout_do_not_make_another_experiment() -> None:
    assert program.fingerprint("X = 1  # one\n") == program.fingerprint("X   =  1\n")
    assert program.fingerprint("X = 1\n") != program.fingerprint("X = 2\n")
    assert program.fingerprint("X = \n") != program.fingerprint("Y = \n")


def test_docstrings_do_not_make_another_program() -> None:
    plain = "class A:\n    def f(self):\n        return 1\n"
    told = (
        '"""A module."""\nclass A:\n    "A class."\n    def f(self):\n        "A method."\n        return 1\n'
    )
    assert program.fingerprint(plain) == program.fingerprint(told)
    assert program.fingerprint(plain) != program.fingerprint(plain.replace("return 1", "return '1'"))


def test_a_function_of_nothing_but_a_docstring_does_nothing() -> None:
    assert program.fingerprint("def f():\n    'words'\n") == program.fingerprint("def f():\n    pass\n")


@pytest.mark.parametrize("source", ["\0", "def f(:\n", "(" * 1000, "\ud800"])
def test_what_does_not_parse_has_the_fingerprint_of_its_text(source: str) -> None:
    assert program.fingerprint(source) == program.fingerprint(source)
    assert program.fingerprint(source) != program.fingerprint(source + "\n")


def test_a_tree_and_its_source_have_the_same_fingerprint() -> None:
    source = "'words'\nX = 1\n"
    assert program.fingerprint_of_tree(ast.parse(source)) == program.fingerprint(source)
