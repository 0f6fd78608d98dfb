"""The real command with a key: afterwards the key is nowhere."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import git
from tests.e2e.test_headless import run
from tests.loop.agents.api.mock import KEY, Mock, call, set_x
from tests.loop.agents.world import everything_under


@pytest.fixture(scope="module")
def mock() -> Iterator[Mock]:
    server = Mock()
    yield server
    server.close()


@pytest.mark.parametrize("api", ["claude", "responses", "chat"])
def test_a_key_in_the_environment_is_left_nowhere(repository: Path, mock: Mock, api: str) -> None:
    """The trainer prints its environment, the server repeats the key, the engine writes its log."""
    trainer = (repository / "train.py").read_text()
    (repository / "train.py").write_text(f"{trainer}print(sorted(os.environ.items()))\n")
    git(repository, "commit", "-qam", "print the environment")
    mock.reset()
    mock.script(
        {"type": "fail", "status": 500, "message": f"internal error, key {KEY}", "retry_after": 0.05},
        call("view", path=KEY),
        *set_x(2.0),
    )
    home = repository.parent / "home"
    home.mkdir()
    agent = ["--agent", "claude"] if api == "claude" else ["--agent", "gpt", "--model", "m", "--api", api]
    done = run(
        repository, "run", "--headless", "--tag", "t", "--budget", "0.2", "--max-experiments", "2", *agent,
        "--base-url", mock.url(api), HOME=str(home), ANTHROPIC_API_KEY=KEY, OPENAI_API_KEY=KEY,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert "#2 keep" in done.stdout
    kept = everything_under(repository) + everything_under(repository.parent) + done.stdout.encode()
    assert b"AUTORESEARCH_BUDGET_S" in kept, "the trainer did not print its environment"
    assert b"X to 2.0" in kept
    assert KEY.encode() not in kept
