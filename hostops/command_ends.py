"""How a command ends: with a sentence and an exit code, also if its output cannot be written.

For `manage.py`, `python -m hostops` and deploy/, which runs on a bare machine: standard library alone.
"""

import errno
import io
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, TextIO

EXIT_FAILED = 1
EXIT_USAGE = 2
# As a shell reports programs that such a signal has ended.
EXIT_INTERRUPTED = 128 + signal.SIGINT
EXIT_BROKEN_PIPE = 128 + signal.SIGPIPE

_OF_OUTPUT = "This was in printing."
_OF_THE_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)


class Output(io.TextIOWrapper):
    """A standard stream that keeps why it could not be written. Characters that it cannot have are escaped.

    It goes on trying: the disk of a log may be full for a while.
    """

    lost: OSError | None = None
    is_given_up = False
    """Set in the end, as Python would try once more, and complain."""

    def __init__(self, stream: Any) -> None:
        at_once = {"line_buffering": stream.line_buffering, "write_through": stream.write_through}
        super().__init__(stream.detach(), stream.encoding, "backslashreplace", **at_once)

    def write(self, text: str) -> int:
        """Write, and keep the error if that fails."""
        with self._kept():
            return super().write(text)

    def flush(self) -> None:
        """Write what is in the buffer, and keep the error if that fails."""
        with self._kept():
            if not self.is_given_up:
                super().flush()

    @contextmanager
    def _kept(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            error.add_note(_OF_OUTPUT)
            self.lost = error
            raise


def run_command(main: Callable[[], int | None]) -> int:
    """Call `main` and return the exit code, whichever way it ends. Only faults of the code are tracebacks.

    A command whose output cannot be written has failed, whatever it did. If only its reader has left, such as
    `head`, it fails without words, as other programs do.
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
    raised: OSError | None = None
    try:
        code = main()
    except SystemExit as end:
        code = end.code
    except KeyboardInterrupt:
        code = EXIT_INTERRUPTED
    except OSError as error:
        code, raised = EXIT_FAILED, error
    if isinstance(code, str):
        tell(code, errors)
        code = EXIT_FAILED
    with suppress(OSError):
        output.flush()
    if raised is not None:
        if _OF_OUTPUT in getattr(raised, "__notes__", ()):
            code = None  # It is told below.
        else:
            tell(_describe(raised), errors)
    if (lost := output.lost or errors.lost) is None:
        return code or 0
    if not isinstance(lost, BrokenPipeError):
        tell(f"The output could not be written: {lost.strerror}.", errors)
    output.is_given_up = errors.is_given_up = True
    return code or (EXIT_BROKEN_PIPE if isinstance(lost, BrokenPipeError) else EXIT_FAILED)


def tell(text: str, stream: TextIO | None = None) -> None:
    """Print a line at once, even into a pipe. What is being done goes on if it cannot be written.

    `run_command` tells of that in the end.
    """
    with suppress(OSError):
        print(text, file=stream or sys.stdout, flush=True)


def _open_missing_streams() -> None:
    """Let standard streams that are closed lead nowhere.

    Else the next file that is opened would take the place of one, and get what is printed there.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: PTH123, SIM115


def _find_fault(arguments: Sequence[str]) -> str:
    """Return what is wrong with the text of the arguments; empty if nothing is."""
    for argument in arguments:
        try:
            argument.encode()
        except UnicodeEncodeError:
            return f"The argument {str(os.fsencode(argument))[1:]} is not UTF-8."
    return ""


def _describe(error: OSError) -> str:
    """Return what the system said. Raises `error` if only its traceback would say where."""
    if error.filename is not None:
        return f"{error.strerror}: {os.fsdecode(error.filename)}"
    if error.errno not in _OF_THE_DISK:
        raise error
    return f"{error.strerror}."
