"""The real programs of CLI agents, from npm."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from pathlib import Path

import platformdirs
import pytest

HERE = Path(__file__).parent
INSTALL_S = 600


@pytest.fixture(scope="session")
def programs() -> Path:
    """The folder with the programs; installed once for each version of package.json."""
    npm, wanted = shutil.which("npm"), HERE / "npm/package.json"
    if npm is None:
        pytest.skip("npm is not installed: the real CLI agents cannot be tested")
    version = hashlib.sha256(wanted.read_bytes()).hexdigest()[:12]
    folder = Path(platformdirs.user_cache_dir("autoresearch-tui-tests")) / f"npm-{version}"
    if not (folder / "installed").exists():
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(wanted, folder)
        command = [npm, "install", "--no-audit", "--no-fund", "--no-package-lock", "--prefer-offline"]
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, timeout=INSTALL_S, check=False
        )
        if done.returncode:
            pytest.skip(f"npm cannot install the CLI agents: {done.stderr[-500:]}")
        (folder / "installed").touch()
    return folder / "node_modules/.bin"
