"""Password hashes, made by two low-priority threads for the whole process.

A hash is costly by design. With two hundred at once, each in its request's own thread, other people's pages
took 7 to 12 seconds. So hashes queue here, and when the queue is full, the answer is 429.
"""

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from typing import Any, TypeVar

from django.contrib.auth.hashers import Argon2PasswordHasher, PBKDF2PasswordHasher
from django.http import HttpRequest, HttpResponse
from django.utils.deprecation import MiddlewareMixin
from django.utils.translation import gettext as _

from l4d2site.gate.answers import RefusedError

T = TypeVar("T")
HASHES_AT_ONCE = 2
MOST_WAITING = 8
NICENESS = 10
RETRY_SECONDS = 3


class TooManyHashesError(Exception):
    """Too many passwords are waiting to be hashed: another one would wait too long."""


class HashThreads:
    """Runs hashes in `HASHES_AT_ONCE` threads, which start with the first hash."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._unfinished = 0
        self._executor: ThreadPoolExecutor | None = None

    def run(self, make: Callable[..., T], *args: Any) -> T:
        """Return the result of `make`, once it is its turn. Raises `TooManyHashesError`."""
        with self._lock:
            if self._unfinished == HASHES_AT_ONCE + MOST_WAITING:
                raise TooManyHashesError
            self._unfinished += 1
            executor = self._executor = self._executor or ThreadPoolExecutor(
                HASHES_AT_ONCE, thread_name_prefix="password-hash", initializer=lower_priority
            )
        try:
            return executor.submit(make, *args).result()
        finally:
            with self._lock:
                self._unfinished -= 1

    def end(self) -> None:
        """End the threads, for a process that must have only one; the next hash starts them again."""
        with self._lock:
            executor, self._executor = self._executor, None
        if executor:
            executor.shutdown()


def lower_priority() -> None:
    """Lower the priority of just the calling thread: in Linux, niceness is per thread."""
    thread = threading.get_native_id()
    niceness = os.getpriority(os.PRIO_PROCESS, thread) + NICENESS
    os.setpriority(os.PRIO_PROCESS, thread, niceness)  # The kernel caps it at 19.


hash_threads = HashThreads()


class Argon2Hasher(Argon2PasswordHasher):
    """Argon2id at the minimum that OWASP recommends: 19 MiB, two passes, one lane. 34 ms; PBKDF2 takes 250."""

    memory_cost = 19 * 1024  # KiB
    time_cost = 2
    parallelism = 1

    def encode(self, password: str, salt: str) -> str:
        """Return the hash of a password."""
        return hash_threads.run(super().encode, password, salt)

    def verify(self, password: str, encoded: str) -> bool:
        """Return whether the hash belongs to the password."""
        return hash_threads.run(super().verify, password, encoded)


class PBKDF2Hasher(PBKDF2PasswordHasher):
    """The hasher before Argon2id; each password is rehashed when its owner signs in."""

    def encode(self, password: str, salt: str, iterations: int | None = None) -> str:
        """Return the hash of a password; verification also calls this."""
        return hash_threads.run(super().encode, password, salt, iterations)


class TooManyHashesMiddleware(MiddlewareMixin):
    """Answers 429 if a view could not have a password hashed."""

    def process_exception(self, request: HttpRequest, error: Exception) -> HttpResponse | None:
        """Return the answer for `TooManyHashesError`, and leave other errors to Django."""
        if not isinstance(error, TooManyHashesError):
            return None
        refusal = busy()
        accept = request.headers.get("Accept", "").encode()
        lines, body = refusal.answer({"method": request.method, "headers": [(b"accept", accept)]})
        headers = {name.decode(): value.decode() for name, value in lines}
        return HttpResponse(body, status=refusal.status.value, headers=headers)


def busy() -> RefusedError:
    """Return the refusal for when too many passwords are being checked."""
    return RefusedError(
        HTTPStatus.TOO_MANY_REQUESTS,
        _("Too many passwords are being checked at the moment. Try again in %(seconds)d seconds.")
        % {"seconds": RETRY_SECONDS},
        retry_seconds=RETRY_SECONDS,
    )
