"""`autoresearch-tui init DIR`: makes a research repository with copies of our trainer and program.md."""

from __future__ import annotations

import shutil
from pathlib import Path

from dulwich import porcelain

from loop.errors import UsageError, describe

PACKAGED = Path(__file__).parents[2]
"""The folder that holds nanogpt/: the clone of our repository, or site-packages."""
IGNORED = "__pycache__/\n.venv/\nresults.tsv\n"


def create(folder: Path) -> list[str]:
    """Make the repository and its first commit; returns the paths in it.

    Raises `UsageError` when the folder is not empty or cannot be written.
    """
    # dulwich takes a relative path as one below the new repository, whatever the working directory is
    folder = folder.absolute()
    program = next(
        (p for p in (PACKAGED / "nanogpt/program.md", PACKAGED / "program.md") if p.is_file()), None
    )
    scripts = sorted((PACKAGED / "nanogpt").glob("*.py"))
    if program is None or not scripts:
        raise UsageError(
            f"{PACKAGED} holds no nanogpt/ and program.md to copy: install autoresearch-tui again"
        )
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{folder} is there and not empty: name a new folder")
    try:
        (folder / "nanogpt").mkdir(parents=True)
        for script in scripts:
            shutil.copyfile(script, folder / "nanogpt" / script.name)
        shutil.copyfile(program, folder / "program.md")
        (folder / ".gitignore").write_text(IGNORED)
    except OSError as error:
        raise UsageError(describe(error)) from error
    paths = [".gitignore", "program.md", *(f"nanogpt/{script.name}" for script in scripts)]
    with porcelain.init(str(folder)) as repository:
        porcelain.add(repository, [str(folder / path) for path in paths])
        porcelain.commit(repository, message=b"Start of research")
    return paths
