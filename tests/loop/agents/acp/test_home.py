"""The private folder of an agent: its login is there, its traces are not left."""

from __future__ import annotations

from pathlib import Path

import pytest

from loop.agents.acp.home import Home
from loop.agents.acp.known import Cli

CLI = Cli(["x"], state=(".agent", ".agent.json", ".config/agent"), settings={"DB": "{private}/db"})


@pytest.fixture
def user(tmp_path: Path) -> Path:
    """A user's home folder with an agent's login, sessions and settings in it, and something private."""
    home = tmp_path / "user"
    (home / ".agent/projects/-tmp-autoresearch-1-2-abc").mkdir(parents=True)
    (home / ".agent/projects/-tmp-other").mkdir()
    (home / ".agent/login").write_text("token")
    (home / ".agent.json").write_text("{}")
    (home / ".ssh").mkdir()
    return home


def test_the_agent_finds_what_is_its_own_and_nothing_else(user: Path, tmp_path: Path) -> None:
    made = Home(tmp_path / "own", CLI, {"HOME": str(user)})
    private = Path(made.environment["HOME"])
    assert {path.name for path in private.iterdir()} == {".agent", ".agent.json", ".config"}
    (private / ".agent/login").write_text("a new token")
    assert (user / ".agent/login").read_text() == "a new token"
    (private / ".agent.json").write_text("changed")
    assert (user / ".agent.json").read_text() == "{}", "files of the home folder are copies"
    assert made.kept == [user / ".agent"]
    assert made.environment["DB"] == f"{tmp_path}/own/db"
    assert Path(made.environment["TMPDIR"]).is_relative_to(tmp_path / "own")


def test_what_a_variable_has_moved_is_found_there(user: Path, tmp_path: Path) -> None:
    moved = tmp_path / "config/agent"
    moved.mkdir(parents=True)
    cli = Cli(["x"], state=(".config/agent",), moved=("AGENT_HOME",))
    environ = {"HOME": str(user), "XDG_CONFIG_HOME": f"{tmp_path}/config", "AGENT_HOME": str(user / ".agent")}
    made = Home(tmp_path / "own", cli, environ)
    assert made.kept == [moved, user / ".agent"]
    assert (made.home / ".config/agent").resolve() == moved


def test_its_folder_and_what_is_called_after_its_session_are_deleted(user: Path, tmp_path: Path) -> None:
    made = Home(tmp_path / "own", CLI, {"HOME": str(user)})
    (made.temporary / "leftover.so").write_text("x" * 100)
    for name in ("deep/er/session-7af3.jsonl", "deep/er/session-other.jsonl"):
        path = user / ".agent" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
    made.close("autoresearch-1.2-abc", "7af3", "")
    left = {path.relative_to(user).as_posix() for path in user.rglob("*") if not path.is_dir()}
    assert left == {".agent/login", ".agent.json", ".agent/deep/er/session-other.jsonl"}
    assert [path.name for path in (user / ".agent/projects").iterdir()] == ["-tmp-other"]
    assert not (tmp_path / "own").exists()


def test_codex_gets_the_users_login_and_settings_and_a_sandbox(user: Path, tmp_path: Path) -> None:
    (user / ".codex").mkdir()
    (user / ".codex/auth.json").write_text("{}")
    (user / ".codex/config.toml").write_text('model = "m"\nsandbox_mode = "danger-full-access"\n')
    made = Home(tmp_path / "own", Cli(["codex-acp"], sandboxes_itself=True), {"HOME": str(user)})
    made.give_codex_its_own(["/opt/codex"])
    home = Path(made.environment["CODEX_HOME"])
    (home / "auth.json").write_text("renewed")
    assert (user / ".codex/auth.json").read_text() == "renewed"
    config = (home / "config.toml").read_text()
    assert 'model = "m"' in config
    assert "danger" not in config
    assert '"/opt/codex" = "read"' in config


def test_without_a_sandbox_codex_keeps_the_users_settings(user: Path, tmp_path: Path) -> None:
    (user / ".codex").mkdir()
    (user / ".codex/config.toml").write_text('sandbox_mode = "read-only"\n')
    made = Home(tmp_path / "own", Cli(["codex-acp"], sandboxes_itself=True), {"HOME": str(user)})
    made.give_codex_its_own(None)
    assert (tmp_path / "own/codex/config.toml").read_text() == 'sandbox_mode = "read-only"\n'
