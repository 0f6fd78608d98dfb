"""The settings on disk."""

from __future__ import annotations

from pathlib import Path

from tui import settings


def test_settings_survive_and_nonsense_does_not_hurt(tmp_path: Path) -> None:
    folder = tmp_path / "new"
    settings.save(settings.Settings(theme="cockpit-light", split=True), folder)
    assert settings.load(folder) == settings.Settings(theme="cockpit-light", split=True)
    (folder / "cockpit.json").write_text("{")
    assert settings.load(folder) == settings.Settings()
