"""Starts a program behind the fence of `sandbox.py`: `python -I -S fenced.py FENCE COMMAND...`.

FENCE is JSON (`loop.records.training_folder.Fence`). The program takes the place of this process, so that its
standard streams and its process id are the ones that the caller knows. Standard library only.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING or __name__ != "__main__":
    from loop.training.programs import sandbox
else:  # as a program it is not in its package: its neighbour is found beside it
    sys.path.append(str(Path(__file__).parent))
    import sandbox


def main(fence: str, command: list[str]) -> None:
    """Enter the fence and become the command. Raises OSError when one of the two cannot be done."""
    sandbox.enter(json.loads(fence))
    os.execvp(command[0], command)


if __name__ == "__main__":
    try:
        main(sys.argv[1], sys.argv[2:])
    except OSError as error:
        sys.exit(f"cannot start behind the fence: {error}")
