"""Fetches blobs into a folder: several at a time, each verified, continuing where an earlier try was cut off.

Each file is stored there under its hash, and is complete only once its bytes have that hash: what an earlier
try left behind is hashed again, and the rest is fetched. Nobody else may use the folder meanwhile.
"""

import hashlib
import os
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from hostops.callbacks import Callbacks
from hostops.errors import BlobSourceError
from hostops.specs import BlobReader, BlobSource

PAUSES_SECONDS = (0.5, 1.0, 2.0, 4.0, 8.0)
"""The pauses between tries that bring nothing new: together as long as a panel takes to restart."""

_CHUNK_BYTES = 1024**2
_LOOK_SECONDS = 0.1
_LEAVE_SECONDS = 1.5
_NANOSECONDS = 10**9


@dataclass(frozen=True)
class WantedBlob:
    """A blob to fetch. Without a `size` it has at most `max_bytes`, and every try starts over."""

    sha256: str
    max_bytes: int
    size: int | None = None


def fetch_blobs(
    source: BlobSource,
    wanted: Iterable[WantedBlob],
    folder: Path,
    stage: str,
    callbacks: Callbacks,
) -> list[tuple[Path, str]]:
    """Fetch blobs into `folder`; return their paths with their hashes, which have been verified.

    Reports the share of the bytes that is there as the progress of `stage`. After a network fault it tries
    again, as long as tries bring something new and a few times more. Raises `BlobSourceError`, and within 2 s
    of a cancel `OperationCancelled`; whatever has arrived is kept for the next try.
    """
    blobs = list(wanted)
    reader = source.connect()
    fetching = _Fetching(reader, blobs, folder, stage, callbacks)
    pool = ThreadPoolExecutor(source.parallel, thread_name_prefix="blobs")
    told: int | None = -1
    running = {pool.submit(fetching.run) for _ in range(source.parallel)}
    try:
        while running:
            done, running = wait(running, _LOOK_SECONDS, FIRST_EXCEPTION)
            for future in done:
                future.result()
            callbacks.cancel.raise_if_cancelled()
            if (percent := fetching.percent) != told:  # Each report is stored at once.
                callbacks.stage(stage, percent)
                told = percent
    finally:
        fetching.is_over.set()
        reader.close()
        pool.shutdown(wait=False, cancel_futures=True)
        # A thread that is still connecting after that notices later, and touches no file.
        wait(running, _LEAVE_SECONDS)
    return [(folder / blob.sha256, blob.sha256) for blob in blobs]


class _Over(Exception):  # noqa: N818 - a thread is to end, which is no error
    """Nobody is waiting for the blobs any longer."""


class _Fetching:
    """What the threads of one `fetch_blobs` share."""

    def __init__(
        self,
        reader: BlobReader,
        blobs: list[WantedBlob],
        folder: Path,
        stage: str,
        callbacks: Callbacks,
    ) -> None:
        self.is_over = threading.Event()
        self._reader = reader
        self._folder = folder
        self._stage = stage
        self._callbacks = callbacks
        self._lock = threading.Lock()
        self._waiting = iter(blobs)
        self._total_bytes = sum(blob.size or 0 for blob in blobs)
        self._done_bytes = 0
        self._said: set[str] = set()

    @property
    def percent(self) -> int | None:
        """The share of the bytes that is there; None if the total is unknown."""
        return 100 * self._done_bytes // self._total_bytes if self._total_bytes else None

    def run(self) -> None:
        """Fetch one blob after another, until none is waiting."""
        try:
            while (blob := self._take()) is not None:
                self._fetch(blob)
        except _Over:
            pass
        except BaseException:
            self.is_over.set()  # The other threads must end as well.
            raise

    def _take(self) -> WantedBlob | None:
        with self._lock:
            return None if self.is_over.is_set() else next(self._waiting, None)

    def _fetch(self, blob: WantedBlob) -> None:
        path = self._folder / blob.sha256
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        with open(descriptor, "r+b") as file:  # noqa: PTH123 - a descriptor
            part = _Part(file, blob, self._count)
            part.take_up()
            self._complete(part, blob)
            file.flush()
            # `full_copies` tells two versions of a file apart by size and time, and the kernel gives files
            # written within a few milliseconds of each other the same time.
            moment = (int(time.time()) - 1) * _NANOSECONDS + int(blob.sha256[:8], 16) % _NANOSECONDS
            os.utime(file.fileno(), ns=(moment, moment))

    def _complete(self, part: "_Part", blob: WantedBlob) -> None:
        """Read what is missing of a part, until it is the blob. Raises `BlobSourceError`."""
        failures = 0
        while True:
            before = part.done
            try:
                if part.done != blob.size:
                    self._read(part, blob)
                if part.is_whole:
                    return
                fault = part.find_fault()
            except BlobSourceError as error:
                if not error.is_passing:
                    raise
                fault = error
            failures = 0 if part.done > before and fault.is_passing else failures + 1
            if not fault.is_passing or failures > len(PAUSES_SECONDS):
                raise fault
            pause = PAUSES_SECONDS[max(failures - 1, 0)]
            self._say(f"{self._stage}: {fault} It is tried again in {pause:g} s.")
            if self.is_over.wait(pause):
                raise _Over

    def _read(self, part: "_Part", blob: WantedBlob) -> None:
        if blob.size is None:
            part.start_over()
        with self._reader.open(blob.sha256, part.done) as source:
            while data := source.read(_CHUNK_BYTES):
                if self.is_over.is_set():
                    raise _Over
                part.add(data)

    def _count(self, size: int) -> None:
        with self._lock:
            self._done_bytes += size

    def _say(self, text: str) -> None:
        """Log a warning only once: all threads notice when the panel is away."""
        with self._lock:
            is_news = text not in self._said
            self._said.add(text)
        if is_news and not self.is_over.is_set():
            self._callbacks.warn(text)


class _Part:
    """A file that will become a blob, and the hash of its content."""

    def __init__(self, file: BinaryIO, blob: WantedBlob, count: Callable[[int], None]) -> None:
        self._file = file
        self._blob = blob
        self._count = count
        self._digest = hashlib.sha256()
        self._has_old_bytes = False
        self.done = 0

    @property
    def is_whole(self) -> bool:
        """Whether it is the complete blob."""
        return self._digest.hexdigest() == self._blob.sha256

    def take_up(self) -> None:
        """Hash what an earlier try has left."""
        if self._blob.size is None:
            return
        while data := self._file.read(_CHUNK_BYTES):
            self._digest.update(data)
            self.done += len(data)
            self._count(len(data))
        self._has_old_bytes = self.done > 0
        if self.done > self._blob.size:
            self.start_over()

    def start_over(self) -> None:
        """Discard what is there."""
        self._count(-self.done)
        self._digest = hashlib.sha256()
        self.done = 0
        self._has_old_bytes = False
        self._file.seek(0)
        self._file.truncate()

    def add(self, data: bytes) -> None:
        """Add the next bytes. Raises `BlobSourceError` if these are more than the blob may have."""
        if self.done + len(data) > self._blob.max_bytes:
            raise BlobSourceError(
                f"What comes for the file {self._blob.sha256} has more than its {self._blob.max_bytes:,} bytes."
            )
        self._file.write(data)
        self._digest.update(data)
        self.done += len(data)
        self._count(len(data))

    def find_fault(self) -> BlobSourceError:
        """Return why it is not the blob, after everything was read without an error."""
        if self.done != self._blob.size:
            return BlobSourceError(
                f"What came for the file {self._blob.sha256} ended after {self.done:,} bytes, or is another "
                "one.",
                is_passing=True,
            )
        if self._has_old_bytes:  # A power cut may have damaged them.
            self.start_over()
            return BlobSourceError("What an earlier try left was spoilt.", is_passing=True)
        return BlobSourceError(
            f"What came for the file {self._blob.sha256} has its size and is another one."
        )
