"""What commands do whatever becomes of their output, and how they end: with a sentence and an exit code."""

import errno
import io
import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import TextIO

import pytest

from hostops.command_ends import has_lost_output, run_command, tell, tell_or_raise
from tests.systemd.sandbox import REPOSITORY


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


def stream_on(file: io.RawIOBase, *, is_unbuffered: bool = False) -> TextIO:
    """Return a stream as Python makes it, also as it does with PYTHONUNBUFFERED."""
    if is_unbuffered:
        return io.TextIOWrapper(file, "ascii", write_through=True)  # type: ignore[type-var]
    return io.TextIOWrapper(io.BufferedWriter(file), "ascii")


def nowhere() -> TextIO:
    return io.TextIOWrapper(io.BytesIO(), "ascii")


def run(
    main: Callable[[], int | None],
    output: TextIO | None = None,
    arguments: Sequence[str] = (),
    errors: TextIO | None = None,
) -> tuple[int, str]:
    """Run a command with streams of its own; return its exit code, and what it has printed to stderr."""
    written = io.BytesIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdout", output)
        patch.setattr(sys, "stderr", errors or io.TextIOWrapper(written, "utf-8"))
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


WHATEVER_THE_BUFFERING = pytest.mark.parametrize("is_unbuffered", [False, True])
NO_SPACE = "The output could not be written: No space left on device.\n"


@WHATEVER_THE_BUFFERING
@pytest.mark.parametrize(("number", "said"), [(errno.ENOSPC, NO_SPACE), (errno.EPIPE, "")])
def test_what_is_done_continues_and_its_exit_code_is_that_of_the_work(
    number: int, said: str, is_unbuffered: bool
) -> None:
    reached: list[str] = []

    def work() -> None:
        tell("begun")
        print("in full", file=sys.stderr)
        tell("done")
        reached.append("the end of the work")

    def answer() -> None:
        tell("found")
        print("the answer")
        print("its second line", flush=True)
        reached.append("the end of the answer")

    def stream() -> TextIO:
        return stream_on(Failing(number), is_unbuffered=is_unbuffered)

    assert run(work, stream()) == (0, "in full\n" + said)
    assert run(answer, stream()) == (141 if number == errno.EPIPE else 1, said)
    assert run(work, nowhere(), errors=stream()) == (0, "")
    assert run(lambda: sys.exit("why"), nowhere(), errors=stream()) == (1, "")
    assert reached == ["the end of the work", "the end of the answer", "the end of the work"]


@WHATEVER_THE_BUFFERING
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EPIPE])
def test_what_has_to_be_read_raises(number: int, is_unbuffered: bool) -> None:
    reached: list[str] = []

    file = Failing(number)

    def main() -> None:
        with pytest.raises(OSError, match=os.strerror(number)):
            tell_or_raise("a password")
        file.number = 0
        with pytest.raises(BrokenPipeError) if number == errno.EPIPE else nullcontext():
            tell_or_raise("another one")
        reached.append("the end")

    run(main, stream_on(file, is_unbuffered=is_unbuffered))
    assert reached == ["the end"]
    assert (b"another one" in file.written) == (number == errno.ENOSPC)


def test_a_line_that_has_to_be_read_is_not_torn_by_a_disk_that_is_nearly_full() -> None:
    class NearlyFull(Failing):
        """A file with room for ten more bytes."""

        def write(self, data: memoryview) -> int:  # type: ignore[override]
            if room := 10 - len(self.written):
                self.written += data[:room]
                return min(room, len(data))
            raise OSError(errno.ENOSPC, "No space")

    def main() -> None:
        with pytest.raises(OSError, match="No space"):
            tell_or_raise("a long password")

    run(main, stream_on(NearlyFull(0), is_unbuffered=True))


@WHATEVER_THE_BUFFERING
def test_what_only_prints_can_end_when_its_reader_has_left(is_unbuffered: bool) -> None:
    def main() -> None:
        while not has_lost_output():
            print("a line", flush=True)

    assert run(main, stream_on(Failing(errno.EPIPE), is_unbuffered=is_unbuffered)) == (141, "")


@WHATEVER_THE_BUFFERING
def test_a_full_disk_is_tried_again_and_a_reader_that_has_left_is_not(is_unbuffered: bool) -> None:
    for number, is_kept in ((errno.ENOSPC, True), (errno.EPIPE, False)):
        file = Failing(number)

        def main(file: Failing = file) -> None:
            tell("lost")
            file.number = 0
            tell("kept")

        said = NO_SPACE if is_kept else ""
        assert run(main, stream_on(file, is_unbuffered=is_unbuffered)) == (0, said)
        assert (b"kept" in file.written) == is_kept


def test_a_program_that_is_started_has_the_streams_that_were_closed() -> None:
    """Else the first file that it opens would become its stderr."""
    program = "import os; os.fstat(2)"
    starts = (
        f"import subprocess, sys; sys.exit(subprocess.call([sys.executable, '-c', {program!r}]))"
    )
    runs = f"import sys; from hostops.command_ends import *; sys.exit(run_command(lambda: exec({starts!r})))"
    shell = f"exec {shlex.quote(sys.executable)} -c {shlex.quote(runs)} 2>&- <&-"
    assert subprocess.run(["sh", "-c", shell], cwd=REPOSITORY).returncode == 0


def test_a_failure_keeps_its_code_if_nobody_reads() -> None:
    assert run(lambda: print_and_return(3), stream_on(Failing(errno.EPIPE))) == (3, "")


def test_a_closed_output_is_told_before_anything_is_done() -> None:
    code, said = run(fail(AssertionError()), None)
    assert code == 2
    assert "Standard output is closed" in said


@pytest.mark.parametrize(
    ("argument", "said"),
    [
        ("a\udcff", "The argument 'a\\xff' is not UTF-8.\n"),
        # In a locale without UTF-8.
        (
            "\udcc3\udca9",
            "The argument 'é' is UTF-8, and this locale is not: set LC_ALL=C.UTF-8.\n",
        ),
    ],
)
def test_an_argument_that_is_no_text_is_named(argument: str, said: str) -> None:
    assert run(fail(AssertionError()), nowhere(), ["name", argument]) == (2, said)
