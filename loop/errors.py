"""The errors a user is expected to meet. Each message is one sentence that says what to do."""

from __future__ import annotations


class UsageError(Exception):
    """What was asked cannot be done here; the command line prints the message and exits with 2."""


class JournalError(Exception):
    """A journal that this version cannot continue."""


class BranchMoved(Exception):
    """The run's branch is not where the journal says: someone else moved it."""


def describe(error: OSError) -> str:
    """What the system refused, and where."""
    return f"cannot use {error.filename or 'the disk'}: {error.strerror or error}"
