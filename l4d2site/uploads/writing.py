"""Writes request bodies to the files of parts, in batches, in threads that do nothing else."""

import asyncio
import fcntl
import os
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from http import HTTPStatus
from typing import TypeVar

from django.utils.translation import gettext as _

from jobs.live import server_stop
from l4d2site.gate.answers import Receive
from l4d2site.uploads.access import disk_refusal
from l4d2site.uploads.tus_headers import TusRefusedError
from servers import store
from servers.models import UploadPart

BATCH_BYTES = 1024**2
"""The size of a batch: what an upload takes in memory, and the most that a killed process loses."""

BATCH_SECONDS = 1.0
"""The longest time between two batches when bytes arrive slowly. Each batch also checks that the part still
exists.
"""

WRITES_OF_PERSON = 8
WRITES_IN_ALL = 64
CROWDED_AT = 48
"""From this many places taken, a body that hardly moves loses its place, and nobody gets a second one."""
SLOW_SECONDS = 30.0
SLOW_BYTES = 256 * 1024
"""Fewer bytes than this within `SLOW_SECONDS` count as hardly moving: 9 kB/s."""
RETRY_SECONDS = 2

T = TypeVar("T")


class Places:
    """Limits how many bodies are written at a time: each holds a batch in memory, and an open file."""

    def __init__(self) -> None:
        self._taken: Counter[int] = Counter()

    @property
    def are_scarce(self) -> bool:
        """Whether there might soon be no place for others."""
        return self._taken.total() >= CROWDED_AT

    @property
    def _most_of_person(self) -> int:
        """The last places are for people who have none yet, one for each."""
        return 1 if self.are_scarce else WRITES_OF_PERSON

    @contextmanager
    def taken(self, user_id: int) -> Iterator[None]:
        """Run the block in one of this person's places. Raises `RefusedError`."""
        if self._taken[user_id] >= self._most_of_person or self._taken.total() >= WRITES_IN_ALL:
            raise TusRefusedError(
                HTTPStatus.TOO_MANY_REQUESTS,
                _("Too many files are being sent right now. The upload continues by itself."),
                retry_seconds=RETRY_SECONDS,
                ends_connection=True,
            )
        self._taken[user_id] += 1
        try:
            yield
        finally:
            self._taken[user_id] -= 1
            if not self._taken[user_id]:
                del self._taken[user_id]


class _Pace:
    """How many bytes have arrived within the last `SLOW_SECONDS`, or a little more."""

    def __init__(self, now: float, offset: int) -> None:
        self._since, self._from = now, offset
        self._is_slow = False

    def is_slow(self, now: float, offset: int) -> bool:
        """Whether bytes hardly arrive; `offset` is how far they have come."""
        if now - self._since >= SLOW_SECONDS:
            self._is_slow = offset - self._from < SLOW_BYTES
            self._since, self._from = now, offset
        return self._is_slow


class PartWriter:
    """The open file of one part. Nobody else writes to it meanwhile.

    `open_at`, `append` and `sync` wait for the disk, so they are called in a thread. `close` waits for nothing:
    if such a thread is still at work, as after a request was cancelled, the file is closed when it is done.
    """

    def __init__(self, part: UploadPart) -> None:
        self._part = part
        self._descriptor = -1
        self.offset = 0
        self._at_work = threading.Lock()
        self._is_over = False

    @contextmanager
    def _step(self) -> Iterator[None]:
        """Run the block with the file left open, even if `close` is called meanwhile."""
        try:
            with self._at_work:
                yield
        finally:
            if self._is_over:
                self.close()

    def open_at(self, offset: int) -> None:
        """Open the file to continue at `offset`. Raises `RefusedError` if it ends elsewhere, or is in use."""
        with self._step():
            try:
                self._descriptor = store.open_file(self._part)
            except FileNotFoundError:  # It was removed or replaced since its row was read.
                raise self._refuse_discarded() from None
            except OSError as error:
                raise disk_refusal(error, part_name=self._part.path) from None
            refusal = self._find_obstacle(offset)
            if refusal:
                self.close()
                raise refusal

    def _find_obstacle(self, offset: int) -> TusRefusedError | None:
        """Lock the file; return the reason, if any, why nothing can be written at `offset`."""
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return TusRefusedError(
                HTTPStatus.LOCKED,
                _("%(path)s is being sent by another request right now.")
                % {"path": self._part.path},
                retry_seconds=RETRY_SECONDS,
                ends_connection=True,
            )
        self.offset = os.fstat(self._descriptor).st_size  # Nobody changes it from now on.
        if self.offset == offset:
            return None
        return TusRefusedError(
            HTTPStatus.CONFLICT,
            _("%(arrived)s bytes of %(path)s have arrived, and these begin at %(offset)s.")
            % {
                "arrived": f"{self.offset:,}",
                "path": self._part.path,
                "offset": f"{offset:,}",
            },
            offset=self.offset,
            ends_connection=True,
        )

    def append(self, batch: bytes) -> None:
        """Write at the end. Raises `RefusedError` if the disk is full; what fitted is kept.

        Also raised for a part that has been removed since: nobody would count the space that its bytes take.
        """
        with self._step():
            if not os.fstat(self._descriptor).st_nlink:
                raise self._refuse_discarded()
            left = memoryview(batch)
            while left:
                try:
                    store.require_room(self._descriptor, len(left))
                    count = os.pwrite(self._descriptor, left, self.offset)
                except OSError as error:
                    raise disk_refusal(
                        error, part_name=self._part.path, offset=self.offset
                    ) from None
                self.offset += count
                left = left[count:]

    def sync(self) -> None:
        """Flush the whole file to disk."""
        with self._step():
            try:
                store.sync_file(self._part, self._descriptor)
            except FileNotFoundError:  # Its folder was removed with the upload.
                raise self._refuse_discarded() from None
            except OSError as error:
                raise disk_refusal(error, part_name=self._part.path, offset=self.offset) from None

    def _refuse_discarded(self) -> TusRefusedError:
        return TusRefusedError(
            HTTPStatus.NOT_FOUND,
            _("%(path)s was discarded.") % {"path": self._part.path},
            ends_connection=True,
        )

    def close(self) -> None:
        """Close the file, and let others write: at once, or when the thread that is at work with it is done."""
        self._is_over = True
        if not self._at_work.acquire(blocking=False):
            return  # Its `_step` calls this again.
        try:
            if self._descriptor >= 0:
                os.close(self._descriptor)
                self._descriptor = -1
        finally:
            self._at_work.release()

    async def write_body(
        self, receive: Receive, executor: Executor, places: Places, *, idle_seconds: float
    ) -> None:
        """Write a request's body, up to its end or the end of the connection.

        Raises `RefusedError` if there are more bytes than the part's size, if nothing arrives for
        `idle_seconds`, if hardly anything arrives while `places` are scarce, and when this process is asked
        to stop. Everything that has arrived by then is written.
        """
        loop = asyncio.get_running_loop()

        async def in_thread(do: Callable[[bytes], T], batch: bytes) -> T:
            return await loop.run_in_executor(executor, do, batch)

        batch = bytearray()
        written_at = loop.time()
        pace = _Pace(written_at, self.offset)
        has_more = True
        refusal: TusRefusedError | None = None
        while has_more:
            try:
                async with asyncio.timeout(idle_seconds):
                    message = await receive()
            except TimeoutError:
                refusal = self._refuse(
                    HTTPStatus.REQUEST_TIMEOUT,
                    _("Nothing came for %(idle)g seconds.") % {"idle": idle_seconds},
                )
                break
            batch += message.get("body", b"")
            has_more = message["type"] == "http.request" and message.get("more_body", False)
            if self.offset + len(batch) > self._part.size:
                del batch[self._part.size - self.offset :]
                refusal = self._refuse(
                    HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                    _("More came than the %(size)s bytes that %(path)s has.")
                    % {"size": f"{self._part.size:,}", "path": self._part.path},
                )
                break
            if pace.is_slow(loop.time(), self.offset + len(batch)) and places.are_scarce:
                refusal = self._refuse(
                    HTTPStatus.REQUEST_TIMEOUT,
                    _("It comes so slowly that its place was given to others."),
                )
                break
            if server_stop.is_asked_for():
                refusal = self._refuse(
                    HTTPStatus.SERVICE_UNAVAILABLE, _("The panel’s web server is being stopped.")
                )
                break
            if len(batch) >= BATCH_BYTES or loop.time() - written_at > BATCH_SECONDS:
                await in_thread(self.append, bytes(batch))
                batch.clear()
                written_at = loop.time()
        if batch:
            await in_thread(self.append, bytes(batch))
        if refusal:
            raise refusal

    def _refuse(self, status: HTTPStatus, text: str) -> TusRefusedError:
        kept = _("What has arrived is kept.")
        return TusRefusedError(status, f"{text} {kept}", ends_connection=True)
