"""Queues of limited length, without threads, in the event loop."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class TooManyWaitError(Exception):
    """The queue is full."""


class Turns:
    """Lets `at_once` in; up to `most_waiting` more wait in order of arrival."""

    def __init__(self, *, at_once: int, most_waiting: int) -> None:
        self._free = asyncio.Semaphore(at_once)
        self._most_waiting = most_waiting
        self._waiting = 0

    @asynccontextmanager
    async def take(self) -> AsyncIterator[None]:
        """Run the block when it is its turn. Raises `TooManyWaitError`."""
        if self._free.locked() and self._waiting >= self._most_waiting:
            raise TooManyWaitError
        self._waiting += 1
        try:
            await self._free.acquire()
        finally:
            self._waiting -= 1
        try:
            yield
        finally:
            self._free.release()


class TurnsOfEach:
    """One queue per key: one at a time, and up to `most_waiting` waiting. An empty queue takes no memory."""

    def __init__(self, *, most_waiting: int) -> None:
        self._most_waiting = most_waiting
        self._lines: dict[str, tuple[Turns, int]] = {}

    @asynccontextmanager
    async def take(self, key: str) -> AsyncIterator[None]:
        """Run the block when it is its turn in the queue of `key`. Raises `TooManyWaitError`."""
        fresh = Turns(at_once=1, most_waiting=self._most_waiting)
        line, users = self._lines.get(key, (fresh, 0))
        self._lines[key] = line, users + 1
        try:
            async with line.take():
                yield
        finally:
            _, users = self._lines[key]
            if users == 1:
                del self._lines[key]
            else:
                self._lines[key] = line, users - 1
