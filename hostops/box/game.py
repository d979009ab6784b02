"""The last steps of the process that becomes the game: its limits, its inner walls, its program."""

from __future__ import annotations

# Without pathlib, like everything the launcher imports:
# ruff: noqa: PTH110
import ctypes
import errno
import os
import resource
from itertools import takewhile

from hostops.box import landlock, seccomp
from hostops.box.root import Root
from hostops.linux.namespaces import LaunchError, call, libc

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from collections.abc import Collection, Mapping
    from typing import NoReturn
else:
    import _signal as signal  # `signal` makes enums of its numbers, which takes 2 ms

_CLOSE_RANGE = 436  # include/uapi/asm-generic/unistd.h; Linux 5.11
_CLOSE_RANGE_CLOEXEC = 4
_LAST_DESCRIPTOR = 0xFFFFFFFF

MOST_FILE_BYTES = 8 << 30
"""The highest offset in a file that the game may write to: a last resort against a log that fills the disk.

The kernel checks the position, not the size. A lower cap would cut off demos of long runs.
"""

MOST_TASKS = 1024
"""How many processes and threads a game may have. An engine with plugins has a few dozen.

The rest of the account's allowance is for the panel, which could not even end the game without it.
"""

_COUNTED_PER_NAMESPACE = (5, 14)  # Older kernels count the whole account, including the worker.


def become_program(
    root: Root,
    argv: list[str],
    environment: Mapping[str, str],
    *,
    alone_with: int | None,
    keep: Collection[int] = (),
) -> NoReturn:
    """Execute the game in the box. This closes every descriptor except 0, 1, 2 and those in `keep`.

    The caller has entered the box's root and dropped its capabilities. `alone_with` is the caller's
    process ID if it has no PID namespace. Raises LaunchError.
    """
    close_on_exec({0, 1, 2, *keep})
    _reset_signals()
    _limit()
    landlock.restrict_files(root)
    seccomp.refuse_calls(alone_with)
    try:
        os.execve(argv[0], argv, environment)  # noqa: S606 - this is what it is for
    except OSError as error:
        raise LaunchError(
            f"{argv[0]} could not be executed: {error.strerror}. {name_cure(argv[0], error)}"
        ) from error


def name_cure(program: str, error: OSError) -> str:
    """Return what to do about a program that could not be executed."""
    if error.errno == errno.ENOENT and os.path.exists(program):
        # Then the kernel is missing the program's loader: the interpreter it names (execve(2)).
        return (
            "The file is there, but not the loader that it names: the engine is a 32-bit program. On Debian "
            "and Ubuntu `dpkg --add-architecture i386`, then `apt install lib32gcc-s1 lib32stdc++6`."
        )
    return "Install the game again."


def close_on_exec(kept: Collection[int]) -> None:
    """Let exec close every descriptor but these, which it passes on."""
    first = 0
    for descriptor in sorted(kept):
        os.set_inheritable(descriptor, True)
        _close_range(first, descriptor - 1)
        first = descriptor + 1
    _close_range(first, _LAST_DESCRIPTOR)


def _close_range(first: int, last: int) -> None:
    if first <= last:
        call(
            "closing descriptors",
            libc.syscall,
            _CLOSE_RANGE,
            ctypes.c_ulong(first),
            ctypes.c_ulong(last),
            _CLOSE_RANGE_CLOEXEC,
        )


def _reset_signals() -> None:
    """Undo signal settings made by Python, a shell and the init, which a new program would inherit.

    Only SIGXFSZ stays ignored: then a write at the file limit fails (EFBIG), and the game lives.
    """
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        handler = signal.SIG_IGN if number == signal.SIGXFSZ else signal.SIG_DFL
        signal.signal(number, handler)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def most_file_bytes() -> int:
    """Return the highest offset at which a game started by this process may write to a file."""
    return _allowed(resource.RLIMIT_FSIZE, MOST_FILE_BYTES)


def _limit() -> None:
    limits = [(resource.RLIMIT_FSIZE, MOST_FILE_BYTES), (resource.RLIMIT_CORE, 0)]
    if _kernel() >= _COUNTED_PER_NAMESPACE:
        limits.append((resource.RLIMIT_NPROC, MOST_TASKS))
    for what, wanted in limits:
        most = _allowed(what, wanted)
        resource.setrlimit(what, (most, most))


def _allowed(what: int, wanted: int) -> int:
    """Return `wanted`, or less if this process itself has a lower limit."""
    allowed = resource.getrlimit(what)[1]
    return wanted if allowed == resource.RLIM_INFINITY else min(wanted, allowed)


def _kernel() -> tuple[int, ...]:
    """Return the leading numbers of the kernel's version: (6, 1) for 6.1.0-18-amd64."""
    major, minor = os.uname().release.split(".")[:2]
    return int(major), int("".join(takewhile(str.isdecimal, minor)))
