"""A change as a patch."""

from __future__ import annotations

import subprocess
from pathlib import Path

from loop import events as ev
from loop.state import RunState
from tui.patch import patch, save


def test_a_patch_applies(tmp_path: Path) -> None:
    before, after = "a = 1\nb = 2\nc = 3", "a = 1\nb = 20\nc = 3\nd = 4\n"
    (tmp_path / "t.py").write_text(before)
    text = patch(ev.ExperimentDetail(1, "t.py", before, after))
    subprocess.run(["git", "apply", "-"], cwd=tmp_path, input=text, text=True, check=True)
    assert (tmp_path / "t.py").read_text() == after


def test_a_patch_is_saved_in_the_folder_of_the_run(tmp_path: Path) -> None:
    (tmp_path / ".autoresearch/t").mkdir(parents=True)
    path = save("--- a\n", RunState(tag="t", repository=str(tmp_path)), 12)
    assert path == tmp_path / ".autoresearch/t/0012.patch"
    assert path.read_text() == "--- a\n"


def test_no_change_is_no_patch() -> None:
    assert patch(ev.ExperimentDetail(1, "t.py", "a = 1", "a = 1")) == ""
