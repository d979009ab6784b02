"""How commands end: whatever becomes of their output, with a sentence and an exit code."""

import errno
import io
import os
import sys
from collections.abc import Callable, Sequence
from typing import TextIO

import pytest

from hostops.command_ends import run_command, tell


class Failing(io.RawIOBase):
    """A file that cannot be written, as `/dev/full` or a pipe without a reader."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.written = b""

    def writable(self) -> bool:
        """Return True."""
        return True

    def write(self, data: memoryview) -> int:  # type: ignore[override]
        """Fail, unless there is no error left to fail with."""
        if self.number:
            raise OSError(self.number, os.strerror(self.number))
        self.written += data
        return len(data)


def stream_on(file: io.RawIOBase) -> TextIO:
    return io.TextIOWrapper(io.BufferedWriter(file), "ascii")


def nowhere() -> TextIO:
    return io.TextIOWrapper(io.BytesIO(), "ascii")


def run(
    main: Callable[[], int | None], output: TextIO | None = None, arguments: Sequence[str] = ()
) -> tuple[int, str]:
    """Run a command with streams of its own; return its exit code, and what it has printed to stderr."""
    written = io.BytesIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdout", output)
        patch.setattr(sys, "stderr", io.TextIOWrapper(written, "utf-8"))
        patch.setattr(sys, "argv", ["program", *arguments])
        code = run_command(main)
        sys.stdout.flush()  # As Python does at its end; another error would be complained about.
        if output is None:
            sys.stdout.close()
        return code, written.getvalue().decode()


def fail(error: BaseException) -> Callable[[], int]:
    def main() -> int:
        raise error

    return main


def print_and_return(code: int) -> int:
    print("text")
    return code


@pytest.mark.parametrize(
    ("main", "code", "said"),
    [
        (lambda: None, 0, ""),
        (lambda: 3, 3, ""),
        (lambda: sys.exit("why"), 1, "why\n"),
        (lambda: sys.exit(2), 2, ""),
        (fail(KeyboardInterrupt()), 130, ""),
        (lambda: open("/nowhere/file"), 1, "No such file or directory: /nowhere/file\n"),  # noqa: PTH123, SIM115
        (fail(OSError(errno.ENOSPC, "No space")), 1, "No space.\n"),
        (lambda: print("\udcff ö"), 0, ""),
    ],
)
def test_each_end_has_its_code_and_words(main: Callable[[], int], code: int, said: str) -> None:
    assert run(main, nowhere()) == (code, said)


@pytest.mark.parametrize("error", [OSError(errno.ECONNRESET, "Reset"), RuntimeError("A fault.")])
def test_a_fault_of_the_code_stays_a_traceback(error: Exception) -> None:
    with pytest.raises(type(error)):
        run(fail(error), nowhere())


@pytest.mark.parametrize("is_at_once", [False, True])
def test_output_that_cannot_be_written_is_told_once_all_is_done(is_at_once: bool) -> None:
    reached: list[str] = []

    def main() -> None:
        if is_at_once:
            tell("begun")
            tell("going on")
        else:
            print("begun")
        reached.append("the end")

    said = "The output could not be written: No space left on device.\n"
    assert run(main, stream_on(Failing(errno.ENOSPC))) == (1, said)
    assert reached == ["the end"]


def test_a_reader_that_has_left_ends_what_prints_without_words() -> None:
    def main() -> None:
        while True:
            print("a line", flush=True)

    assert run(main, stream_on(Failing(errno.EPIPE))) == (141, "")


def test_a_stream_is_tried_again_as_a_full_disk_may_have_space_later() -> None:
    file = Failing(errno.ENOSPC)

    def main() -> None:
        tell("lost")
        file.number = 0
        tell("kept")

    said = "The output could not be written: No space left on device.\n"
    assert run(main, stream_on(file)) == (1, said)
    assert b"kept" in file.written


def test_a_failure_keeps_its_code_if_nobody_reads() -> None:
    assert run(lambda: print_and_return(3), stream_on(Failing(errno.EPIPE))) == (3, "")


def test_a_closed_output_is_told_before_anything_is_done() -> None:
    code, said = run(fail(AssertionError()), None)
    assert code == 2
    assert "Standard output is closed" in said


def test_an_argument_that_is_no_text_is_named() -> None:
    said = "The argument 'a\\xff' is not UTF-8.\n"
    assert run(fail(AssertionError()), nowhere(), ["name", "a\udcff"]) == (2, said)
