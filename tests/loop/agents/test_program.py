"""Which sources are the same program."""

from __future__ import annotations

import ast
from pathlib import Path

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


@pytest.mark.parametrize("name", ["nanogpt/train.py", "loop/engine.py", "loop/training/fence.py"])
def test_statements_are_those_of_the_whole(name: str) -> None:
    source = (Path(__file__).parents[3] / name).read_text()
    found = program.statements(source)
    assert len(found) > 10
    parsed = [node for statement in found for node in _shifted(statement)]
    assert [ast.dump(node, include_attributes=True) for node in parsed] == [
        ast.dump(node, include_attributes=True) for node in ast.parse(source).body
    ]


def _shifted(statement: program.Statement) -> list[ast.stmt]:
    return [ast.increment_lineno(node, statement.line) for node in ast.parse(statement.text).body]


AWKWARD = [
    'A = """\nB = 1\n"""\nC = 2\n',
    "A = (\n1)\nB = 2\n",
    "A = 1 + \\\n2\n",
    "if A:\n    pass\n# words\nelse:\n    B = 1\n",
    "@f\n@g(\n1\n)\ndef h(): pass\n",
    "try:\n    A = 1\nexcept E:\n    pass\nfinally:\n    B = 2\n",
    "# words\n\n\nA = 1; B = 2\nC = 3",
    "A = 1\r\nB = 2\r\n",
    "A = 1\rB = 2\r",
    "\x0cA = 1\n\x0cB = 2\n",
    "match A:\n    case 1:\n        B = 1\nC = 1\n",
    'A = f"""\n{\nB}\n"""\nC = 1\n',
    "",
]


@pytest.mark.parametrize("source", AWKWARD)
def test_awkward_sources_are_cut_well(source: str) -> None:
    parsed = [node for statement in program.statements(source) for node in _shifted(statement)]
    assert [ast.dump(n) for n in parsed] == [ast.dump(n) for n in ast.parse(source).body]
    assert [n.lineno for n in parsed] == [n.lineno for n in ast.parse(source).body]


def test_a_change_costs_what_it_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The other statements are known from other versions of the file."""
    source = "".join(f"def f{i}():\n    return {i} + 1000\n\n\n" for i in range(50))
    program.fingerprint(source)
    read, parse = [], ast.parse

    def counted(text: str) -> ast.Module:
        read.append(text)
        return parse(text)

    monkeypatch.setattr(ast, "parse", counted)
    program.fingerprint(source.replace("7 + 1000", "8 + 1000", 1))
    assert 1 <= len(read) <= 2
    assert all(text.startswith("def f7()") for text in read)
