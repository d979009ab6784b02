"""What becomes of a command's output, and how the command ends: with a sentence and an exit code.

The rule: what a command does continues, whatever becomes of what it prints. A reader that has left (EPIPE)
does not come back, so nothing is written any more. After any other error the next line is tried: a full disk
may have room again. Only `tell_or_raise` raises, for what has to be read. The exit code tells whether the
command has done its work. What it prints is part of that, what it tells beside it (`tell`, stderr) is not.

For `manage.py`, `python -m hostops` and deploy/, which runs on a bare machine: standard library alone.
"""

import errno
import io
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Protocol

EXIT_FAILED = 1
EXIT_USAGE = 2
# As a shell reports programs that such a signal has ended.
EXIT_INTERRUPTED = 128 + signal.SIGINT
EXIT_BROKEN_PIPE = 128 + signal.SIGPIPE

_OF_THE_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)


class Stream(Protocol):
    """What text can be written to: an `Output`, or something around one."""

    def write(self, text: str, /) -> object:
        """Write text."""

    def flush(self) -> None:
        """Write what is in the buffer."""


class Output(io.TextIOWrapper):
    """A standard stream by that rule. Characters that it cannot have are escaped."""

    lost: OSError | None = None
    """Why something could not be written, at least for a while."""
    is_incomplete = False
    """Whether that was part of the work."""
    _is_given_up = False
    _has_work = False
    """Whether the buffer may have part of the work in it."""

    def __init__(self, stream: Any) -> None:
        at_once = {"line_buffering": stream.line_buffering, "write_through": stream.write_through}
        binary = stream.detach()
        if isinstance(binary, io.RawIOBase):
            # As with PYTHONUNBUFFERED. Of a line for which a disk has too little room, it would drop the end.
            binary = io.BufferedWriter(binary)
        super().__init__(binary, stream.encoding, "backslashreplace", **at_once)

    def write(self, text: str) -> int:
        """Write part of the work."""
        self._has_work = True
        self.is_incomplete |= self._is_given_up
        with self._kept():
            self._write(text)
        return len(text)

    def flush(self) -> None:
        """Write what is in the buffer."""
        if self._is_given_up:
            return
        with self._kept():
            super().flush()
            self._has_work = False

    def write_beside(self, text: str) -> None:
        """Write, at once, what is no part of the work."""
        self.flush()
        if self._is_given_up:
            return
        with self._kept():
            self._write(text)
            super().flush()

    def write_or_raise(self, text: str) -> None:
        """Write at once. Raises `OSError` if that fails."""
        if self._is_given_up and self.lost:
            raise self.lost
        try:
            self._write(text)
            super().flush()
        except OSError as error:
            self._lose(error)
            raise

    def _write(self, text: str) -> None:
        if not self._is_given_up:
            super().write(text)
            if self.write_through:
                super().flush()

    @contextmanager
    def _kept(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self._lose(error)

    def _lose(self, error: OSError) -> None:
        self.lost = error
        self.is_incomplete |= self._has_work
        self._is_given_up |= isinstance(error, BrokenPipeError)


def run_command(main: Callable[[], int | None]) -> int:
    """Call `main` and return the exit code, whichever way it ends. Only faults of the code are tracebacks.

    If a reader has left, such as `head`, what could not be printed is not mentioned, as by other programs.
    """
    is_closed = sys.stdout is None
    _open_missing_streams()
    sys.stdout, sys.stderr = output, errors = Output(sys.stdout), Output(sys.stderr)
    fault = _find_fault(sys.argv)
    if is_closed:
        fault = "Standard output is closed, so nothing could be told. To discard it: >/dev/null"
    if fault:
        tell(fault, errors)
        return EXIT_USAGE
    code: int | str | None
    try:
        code = main()
    except SystemExit as end:
        code = end.code
    except KeyboardInterrupt:
        code = EXIT_INTERRUPTED
    except OSError as error:
        code = _describe(error)
    if isinstance(code, str):
        tell(code, errors)
        code = EXIT_FAILED
    output.flush()
    errors.flush()
    if output.lost is None:
        return code or 0
    has_left = isinstance(output.lost, BrokenPipeError)
    if not has_left:
        tell(f"The output could not be written: {output.lost.strerror}.", errors)
    if output.is_incomplete:
        code = code or (EXIT_BROKEN_PIPE if has_left else EXIT_FAILED)
    return code or 0


def tell(text: str, stream: Stream | None = None) -> None:
    """Print a line at once, even into a pipe, that is no part of the work: it does not matter if that fails."""
    stream = stream or sys.stdout
    write = getattr(stream, "write_beside", stream.write)
    with suppress(OSError):
        write(f"{text}\n")
        stream.flush()


def tell_or_raise(text: str, stream: Stream | None = None) -> None:
    """Print a line at once that has to be read. Raises `OSError` if it cannot be written."""
    stream = stream or sys.stdout
    write = getattr(stream, "write_or_raise", stream.write)
    write(f"{text}\n")
    stream.flush()


@contextmanager
def interrupted_like_ctrl_c() -> Iterator[None]:
    """Let SIGTERM, and SIGHUP unless it is ignored, raise `KeyboardInterrupt` in the block: it can tidy up.

    Only for a process's main thread.
    """
    numbers = [
        number
        for number in (signal.SIGTERM, signal.SIGHUP)
        if signal.getsignal(number) != signal.SIG_IGN  # As `nohup` has it.
    ]
    previous = {number: signal.signal(number, signal.default_int_handler) for number in numbers}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def has_lost_output() -> bool:
    """Return whether something could not be printed: what does nothing but print may end then."""
    return isinstance(sys.stdout, Output) and sys.stdout.lost is not None


def _open_missing_streams() -> None:
    """Let standard streams that are closed lead nowhere.

    Else the next file that is opened would take the place of one, and get what is printed there; also in a
    program that is started.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            stream = open(os.devnull, mode, encoding="utf-8")  # noqa: PTH123, SIM115
            os.set_inheritable(stream.fileno(), True)
            setattr(sys, name, stream)


def _find_fault(arguments: Sequence[str]) -> str:
    """Return what is wrong with the text of the arguments; empty if nothing is."""
    for argument in arguments:
        try:
            argument.encode()
        except UnicodeEncodeError:
            data = os.fsencode(argument)
            try:
                text = data.decode()
            except UnicodeDecodeError:
                return f"The argument {str(data)[1:]} is not UTF-8."
            return f"The argument {text!r} is UTF-8, and this locale is not: set LC_ALL=C.UTF-8."
    return ""


def _describe(error: OSError) -> str:
    """Return what the system said. Raises `error` if only its traceback would say where."""
    if error.filename is not None:
        return f"{error.strerror}: {os.fsdecode(error.filename)}"
    if error.errno not in _OF_THE_DISK:
        raise error
    return f"{error.strerror}."
