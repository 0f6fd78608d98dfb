"""Starts a program behind the fence of `sandbox.py`: `python -I -S fenced.py FENCE COMMAND...`.

FENCE is JSON (`loop.records.training_folder.Fence`). The program takes the place of this process, so that its
standard streams and its process id are the ones that the caller knows. Standard library only.
"""

from __future__ import annotations

import json
import os
import runpy
import sys
from pathlib import Path


def main(fence: str, command: list[str]) -> None:
    """Enter the fence and become the command. Raises OSError when one of the two cannot be done."""
    sandbox = runpy.run_path(str(Path(__file__).with_name("sandbox.py")))
    sandbox["enter"](json.loads(fence))
    os.execvp(command[0], command)


if __name__ == "__main__":
    try:
        main(sys.argv[1], sys.argv[2:])
    except OSError as error:
        sys.exit(f"cannot start behind the fence: {error}")
