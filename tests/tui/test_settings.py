"""The settings on disk."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tui import settings
from tui.keys import Keys
from tui.panels.status import choose

ROOT = Path(__file__).parents[2]


def test_settings_survive_and_nonsense_does_not_hurt(tmp_path: Path) -> None:
    folder = tmp_path / "new"
    settings.save(settings.Settings(theme="cockpit-light", split=True), folder)
    assert settings.load(folder) == (settings.Settings(theme="cockpit-light", split=True), "")
    (folder / settings.NAME).write_text("{")
    found, trouble = settings.load(folder)
    assert found == settings.Settings()
    assert trouble.startswith(f"{folder / settings.NAME}: Input data was truncated")
    settings.save(settings.Settings(split=True), folder)
    assert (folder / settings.NAME).read_text() == "{", "what somebody wrote is not thrown away"


def test_what_was_written_by_hand_meanwhile_stays(tmp_path: Path) -> None:
    (tmp_path / settings.NAME).write_text('{"keys": {"steer": "m"}}')
    settings.save(settings.Settings(wrap=True), tmp_path)
    assert settings.load(tmp_path) == (settings.Settings(wrap=True, keys={"steer": "m"}), "")


def test_a_full_disk_leaves_what_was_there(tmp_path: Path) -> None:
    """A limit on the size of files stands for the full disk, in a process of its own."""
    (tmp_path / settings.NAME).write_text('{"keys": {"steer": "m"}}')
    code = (
        "import resource, signal, sys; from pathlib import Path; from tui import settings\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4, 4))\n"
        "settings.save(settings.Settings(wrap=True), Path(sys.argv[1]))"
    )
    subprocess.run([sys.executable, "-B", "-c", code, str(tmp_path)], cwd=ROOT, check=True)
    assert settings.load(tmp_path) == (settings.Settings(keys={"steer": "m"}), "")
    assert [file.name for file in tmp_path.iterdir()] == [settings.NAME]


def test_a_link_to_the_file_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "mine.json").write_text("{}")
    (tmp_path / settings.NAME).symlink_to(tmp_path / "mine.json")
    settings.save(settings.Settings(wrap=True), tmp_path)
    assert (tmp_path / settings.NAME).is_symlink()
    assert settings.load(tmp_path) == (settings.Settings(wrap=True), "")


def test_a_misspelt_name_is_said(tmp_path: Path) -> None:
    (tmp_path / settings.NAME).write_text('{"key": {"steer": "m"}}')
    assert "unknown field `key`" in settings.load(tmp_path)[1]


def test_the_example_of_the_documents_is_right(tmp_path: Path) -> None:
    text = (ROOT / "docs" / "cockpit.md").read_text()
    (tmp_path / settings.NAME).write_text(text.split("```json\n")[1].split("```")[0])
    found, trouble = settings.load(tmp_path)
    assert (trouble, Keys(found.keys).problems, choose(found.status_line)[1]) == ("", [], [])
    assert len(found.keys) == 4
