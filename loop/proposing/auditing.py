"""Audits a change without holding up the engine's event loop.

The audit is pure Python, so in a thread it shares the interpreter with the loop a few milliseconds at a time.
But the parser is one call that nothing interrupts: 0.1 s for 400 KB. Large sources are audited in a process
of their own: `python -m loop.proposing.auditing`, both versions as JSON on its standard input.
"""

from __future__ import annotations

import asyncio
import os
import sys

import msgspec

from loop.errors import UNREADABLE
from loop.judging import audit

THREAD_CHARS = 100_000
"""Up to this size of both versions together the audit runs in a thread: parsing takes 30 ms at most."""
PATIENCE_S = 30.0
"""A source whose audit takes longer is refused: nothing that long to look through is honest research."""


class Change(msgspec.Struct, frozen=True):
    """The editable file before and after a change."""

    before: str
    after: str


async def findings(path: str, before: str, after: str) -> list[audit.Finding]:
    """What the audit says of a change. It knows nothing of other languages than Python."""
    if not path.endswith(".py"):
        return []
    if len(before) + len(after) <= THREAD_CHARS:
        return await asyncio.to_thread(audit.audit, before, after)
    return await _in_process(Change(before, after))


async def _in_process(change: Change) -> list[audit.Finding]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "loop.proposing.auditing"), stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE, env={name: os.environ[name] for name in ("PATH", "PYTHONPATH",
        "LD_LIBRARY_PATH") if name in os.environ},
    )  # fmt: skip
    try:
        async with asyncio.timeout(PATIENCE_S):
            out, _ = await process.communicate(msgspec.json.encode(change))
        return msgspec.json.decode(out, type=list[audit.Finding])
    except (TimeoutError, *UNREADABLE):
        return [audit.Finding("introspection", 1, "too large to be looked through", refused=True)]
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def main() -> None:
    """Audit the change on standard input and print the findings."""
    change = msgspec.json.decode(sys.stdin.buffer.read(), type=Change)
    sys.stdout.buffer.write(msgspec.json.encode(audit.audit(change.before, change.after)))


if __name__ == "__main__":
    main()
