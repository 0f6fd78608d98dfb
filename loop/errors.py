"""Errors that a user can do something about. Each message is one sentence that says what."""

from __future__ import annotations

import msgspec

UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""What msgspec raises for bytes that are not what was expected: the second where text is not UTF-8, the third
where lists lie in each other a thousand times."""


class UsageError(Exception):
    """What the user asked for cannot be done; the command line prints the message and exits with code 2."""


class JournalError(Exception):
    """The journal cannot be read or continued by this version."""


class BranchMoved(Exception):
    """The run's branch is not at the commit that the journal says: somebody else moved it."""


def describe(error: OSError) -> str:
    """The message for a file or folder that the system refuses to read or write."""
    return f"cannot use {error.filename or 'the disk'}: {error.strerror or error}"
