"""The `autoresearch-tui` command."""

from __future__ import annotations

import sys

from loop.cli.parser import parse
from loop.client import ConnectionLost, Refused
from loop.errors import JournalError, UsageError
from loop.text import one_line

MOST = 2000
"""Characters of an error message: paths and addresses in it may be long."""


def main(argv: list[str] | None = None) -> int:
    """Run one command; returns the exit code. What the user can mend is one sentence and exit code 2."""
    arguments = parse(argv)
    try:
        code: int = arguments.action(arguments)
        return code
    except (UsageError, JournalError, ConnectionLost, Refused) as error:
        print(f"autoresearch-tui: {one_line(str(error), MOST)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
