"""What a CLI agent's tools ask permission for: the policy answers, in approval mode the human does."""

from __future__ import annotations

import asyncio

from loop import events as ev
from loop.agents.base import Wish
from loop.store import Store


class Permissions:
    """The open requests. They live as long as the proposal that asks: after a restart it asks anew."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._open: dict[str, tuple[Wish, asyncio.Future[bool]]] = {}
        self._count = 0

    async def ask(self, n: int, wish: Wish) -> bool:
        """Whether the agent of experiment `n` gets its wish. In approval mode this waits for the human."""
        if not self._store.state.approval:
            return wish.granted
        self._count += 1
        id = f"{n}.{self._count}"
        answer: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._open[id] = wish, answer
        self._store.show(ev.PermissionAsked(n, id, wish.title, wish.kind, wish.paths, wish.granted))
        try:
            return await answer
        finally:
            del self._open[id]
            granted = not answer.cancelled() and answer.done() and answer.result()
            self._store.show(ev.PermissionAnswered(n, id, granted))

    def answer(self, id: str, allow: bool) -> str | None:
        """Answer the request `id`, or the one that waits longest where `id` is empty.

        Returns the title of what was asked; None when nothing was.
        """
        found = self._open.get(id or next(iter(self._open), ""))
        if found is None or found[1].done():
            return None
        found[1].set_result(allow)
        return found[0].title

    def leave_to_policy(self) -> None:
        """Approval mode ends, so no human will answer: the policy does."""
        for wish, answer in self._open.values():
            if not answer.done():
                answer.set_result(wish.granted)
