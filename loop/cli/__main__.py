"""The `autoresearch-tui` command."""

from __future__ import annotations

import os
import select
import sys

from loop.cli.parser import parse
from loop.client import ConnectionLost, Refused
from loop.errors import JournalError, UsageError
from loop.text import one_line

MOST = 2000
"""Characters of an error message: paths and addresses in it may be long."""
CLOSED = 141
"""The exit code where nobody reads on, as in `logs | head`: the shell's for SIGPIPE (128 + 13)."""


def main(argv: list[str] | None = None) -> int:
    """Run one command; returns the exit code. What the user can mend is one sentence and exit code 2."""
    try:
        try:
            return _run(argv)
        finally:
            if sys.stdout:  # None where it was closed before the start
                sys.stdout.flush()
    except BrokenPipeError:
        if not _is_closed(sys.stdout.fileno()):
            raise
        # What is still buffered goes nowhere: Python writes it when it ends, and would complain.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        return CLOSED


def _run(argv: list[str] | None) -> int:
    arguments = parse(argv)
    try:
        code: int = arguments.action(arguments)
        return code
    except (UsageError, JournalError, ConnectionLost, Refused) as error:
        print(f"autoresearch-tui: {one_line(str(error), MOST)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def _is_closed(descriptor: int) -> bool:
    """Whether this is a pipe or a socket that nobody reads any more."""
    pipe = select.poll()
    pipe.register(descriptor, 0)
    return any(state & (select.POLLERR | select.POLLHUP) for _, state in pipe.poll(0))


if __name__ == "__main__":
    sys.exit(main())
