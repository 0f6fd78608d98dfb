"""Every name in the audit's tables is one that code can use, and is found when code uses it."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import get_args

import pytest

from loop.judging import audit_names as names
from loop.judging.audit import Finding, audit

DOCS = (Path(__file__).parents[3] / "docs/verdicts.md").read_text()
NOT_OURS = {"requests", "httpx", "huggingface_hub", "websockets", "aiohttp", "cffi", "safetensors"}
"""Packages that a machine for training may have, besides the standard library."""


def refused(change: str) -> list[tuple[str, str]]:
    """Kind and text of what is refused when a file consists of this change alone."""
    return [(f.kind, f.text) for f in audit("", change) if f.refused]


@pytest.mark.parametrize("module", names.MODULES)
def test_a_module_of_the_table_exists_and_is_refused_as_its_kind(module: str) -> None:
    assert module in sys.stdlib_module_names or module in NOT_OURS
    expected = [(names.MODULES[module], f"imports {module}")]
    assert refused(f"import {module}\n") == expected
    assert refused(f"from {module} import something\n") == expected
    assert refused(f"import {module}.part as p\n") == [(names.MODULES[module], f"imports {module}.part")]


@pytest.mark.parametrize("call", names.CALLS)
def test_a_function_of_the_table_is_refused_as_its_kind_however_it_is_imported(call: str) -> None:
    expected = (names.CALLS[call], f"calls {call}()")
    module, _, function = call.rpartition(".")
    assert expected in refused(f"{f'import {module}' if module else ''}\n{call}(1)\n")
    if module:
        assert expected in refused(f"import {module} as m\nm.{function}(1)\n")
        assert expected in refused(f"from {module} import {function} as f\nf(1)\n")


@pytest.mark.parametrize("call", [name for name in names.CALLS if name.split(".")[0] in ("os", "sys")])
def test_a_function_of_the_standard_library_exists_by_this_name(call: str) -> None:
    module, _, function = call.partition(".")
    assert hasattr(sys.modules[module], function)


@pytest.mark.parametrize("start", names.PROCESS_CALLS)
def test_every_variant_of_starting_a_program_is_refused(start: str) -> None:
    found = refused(f"import os\n{start}vp('x', [])\n")
    assert found == [("process", f"calls {start}vp()")]


@pytest.mark.parametrize("name", [*names.INNER, *names.HOOKS])
def test_reaching_inside_is_refused_as_a_name_and_as_an_attribute(name: str) -> None:
    assert refused(f"x = {name}\n") == [("introspection", f"reaches into {name}")]
    assert refused(f"x = model.{name}\n") == [("introspection", f"reaches into {name}")]


@pytest.mark.parametrize("name", names.HELD_OUT)
def test_held_out_data_is_refused_by_name(name: str) -> None:
    assert refused(f"x = streams[{name!r}]\n") == [("data", f"reads the split {name!r}")]


@pytest.mark.parametrize("start", names.SWITCHES)
def test_a_setting_of_torch_is_no_patch(start: str) -> None:
    assert refused(f"import torch\n{start}some = True\n") == []


def test_the_protected_modules_lie_beside_the_trainer() -> None:
    folder = Path(__file__).parents[3] / "nanogpt"
    assert all((folder / f"{name}.py").is_file() for name in names.PROTECTED)


def test_every_kind_is_told_in_the_docs() -> None:
    told = re.findall(r"^\| ([a-z, ]+) \| ", DOCS.partition("| kind | refused |")[2], re.MULTILINE)
    assert set(get_args(names.Kind)) <= {word for line in told for word in line.split(", ")}


def test_a_finding_names_its_line() -> None:
    assert str(Finding("files", 3, "calls open()", refused=True)) == "line 3: calls open()"
