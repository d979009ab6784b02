"""Runs commands on the host. The only module of this package that uses `subprocess`."""

import contextlib
import os
import pty
import select
import shlex
import signal
import subprocess
import termios
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from hostops.callbacks import do_nothing, ignore_line
from hostops.errors import CommandError, HostError
from hostops.linux.lines import LineSplitter
from hostops.linux.process_identity import ProcessStat, living_processes, send_signal
from hostops.specs import CancelToken, OnLine

_POLL_SECONDS = 0.1
_KILL_SECONDS = 5.0
_LAST_CALL_BYTES = 1024**2  # the most that a pipe can hold: fs.pipe-max-size of proc(5)


def minimal_environment(home_dir: Path, extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the environment for a command: nothing of ours, so that no secret of the panel leaks into it."""
    return {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": str(home_dir),
        "LANG": "C.UTF-8",
        **(extra or {}),
    }


def run(
    argv: Sequence[str],
    *,
    environment: Mapping[str, str],
    cwd: Path | None = None,
    on_line: OnLine = ignore_line,
    on_wait: Callable[[], None] = do_nothing,
    on_prompt: Callable[[str], str | None] | None = None,
    cancel: CancelToken | None = None,
    use_pty: bool = False,
    pass_fds: Sequence[int] = (),
    grace_seconds: float = 10.0,
    leaves_group_empty: bool = False,
) -> None:
    """Run a command to its end and pass on its output line by line, from one thread per stream.

    It gets its own session, nothing on stdin, and with `use_pty` a terminal as stdout, for programs that
    otherwise buffer their output. A cancel ends its whole process group: SIGTERM, then SIGKILL after
    `grace_seconds`. No process of the group is left when this returns or raises.
    `on_wait` is called several times a second while it runs; if that raises, the command is ended as by a
    cancel. With `on_prompt` and `use_pty`, the terminal is its stdin too, and does not echo input. `on_prompt`
    gets the text after the last line end, each time that has changed, and returns a line to type or None. It
    may take its time; if it raises, the command is ended.
    `leaves_group_empty` promises that a command that ended by itself leaves nothing in its group. That saves
    the check, a pass over /proc.

    Raises CommandError for an exit code other than 0, HostError if it cannot be started or ended,
    OperationCancelled, and whatever `on_line`, `on_wait` or `on_prompt` raised.
    """
    cancel = cancel or CancelToken()
    cancel.raise_if_cancelled()
    with contextlib.ExitStack() as ours:
        with contextlib.ExitStack() as the_childs:
            stdout_read, stdout_write = pty.openpty() if use_pty else os.pipe()
            ours.callback(os.close, stdout_read)
            the_childs.callback(os.close, stdout_write)
            stderr_read, stderr_write = os.pipe()
            ours.callback(os.close, stderr_read)
            the_childs.callback(os.close, stderr_write)
            if on_prompt is not None:
                _hide_what_is_typed(stdout_write)
            try:
                child = subprocess.Popen(
                    argv,
                    stdin=subprocess.DEVNULL if on_prompt is None else stdout_write,
                    stdout=stdout_write,
                    stderr=stderr_write,
                    env=dict(environment),
                    cwd=cwd,
                    start_new_session=True,
                    pass_fds=pass_fds,
                )
            except OSError as error:
                raise HostError(
                    f"{argv[0]} could not be started: {error.strerror or error}. "
                    "Check that it is installed and may be executed."
                ) from error
        readers: list[_Reader] = []
        has_ended = False
        try:
            # Each starts a thread, which can fail.
            readers.append(_Reader("stdout", stdout_read, on_line))
            readers.append(_Reader("stderr", stderr_read, on_line))
            typist = _Typist(stdout_read, readers[0], on_prompt) if on_prompt is not None else None

            def look() -> None:
                on_wait()
                if typist is not None:
                    typist.answer()

            has_ended = _wait_for_exit(
                child.pid, lambda: cancel.is_cancelled or _failure(readers), look
            )
        finally:
            try:
                # Before wait() reaps it: until then no other process can get the group's number.
                if not (has_ended and leaves_group_empty):
                    end_group(child.pid, grace_seconds)
                child.wait()
            finally:
                for reader in readers:
                    reader.finish()
    if failure := _failure(readers):
        raise failure
    cancel.raise_if_cancelled()
    if child.returncode:
        raise CommandError(
            f"{shlex.join(argv[:3])}{' …' if argv[3:] else ''} {_describe_exit(child.returncode)}.",
            argv,
            child.returncode,
        )


def _hide_what_is_typed(terminal: int) -> None:
    attributes = termios.tcgetattr(terminal)
    attributes[3] &= ~(termios.ECHO | termios.ECHONL)
    termios.tcsetattr(terminal, termios.TCSANOW, attributes)


def end_group(group: int, grace_seconds: float) -> None:
    """End every process of a process group: SIGTERM, then SIGKILL. The caller knows that it owns the group.

    Raises HostError if a process survives.
    """
    for signal_number, seconds in (
        (signal.SIGTERM, grace_seconds),
        (signal.SIGKILL, _KILL_SECONDS),
    ):
        deadline = time.monotonic() + seconds
        members = _members(group)
        for member in members:
            send_signal(member, signal_number)
            # A stopped process handles SIGTERM only once it continues.
            send_signal(member, signal.SIGCONT)
        while members and time.monotonic() < deadline:
            time.sleep(0.01)
            members = _members(group)
            if signal_number == signal.SIGKILL:
                for member in members:  # those forked in the meantime
                    send_signal(member, signal_number)
        if not members:
            return
    numbers = ", ".join(str(member.pid) for member in members)
    raise HostError(
        f"Process {numbers} does not end, not even by SIGKILL: it is probably waiting for a disk or network "
        "file system. Check the host's disks, then try again."
    )


def _members(group: int) -> list[ProcessStat]:
    return [process for process in living_processes() if process.group == group]


def _wait_for_exit(
    pid: int, should_stop: Callable[[], object], on_wait: Callable[[], None]
) -> bool:
    """Wait until a process has ended, or should be ended; return whether it has."""
    pidfd = os.pidfd_open(pid)
    try:
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        while not poll.poll(_POLL_SECONDS * 1000):
            if should_stop():
                return False
            on_wait()
        return True
    finally:
        os.close(pidfd)


def _describe_exit(returncode: int) -> str:
    if returncode < 0:
        return f"was ended by {signal.Signals(-returncode).name}"
    return f"ended with exit code {returncode}"


def _failure(readers: "Sequence[_Reader]") -> BaseException | None:
    return next((reader.failure for reader in readers if reader.failure), None)


class _Typist:
    """Answers what a command asks on its terminal."""

    def __init__(
        self, terminal: int, reader: "_Reader", on_prompt: Callable[[str], str | None]
    ) -> None:
        self._terminal = terminal
        self._reader = reader
        self._on_prompt = on_prompt
        self._seen: tuple[int, str] = (0, "")

    def answer(self) -> None:
        """Type what `on_prompt` returns for the text after the last line end, if that has changed."""
        if self._reader.unfinished == self._seen:
            return
        self._seen = self._reader.unfinished
        _, prompt = self._seen
        answer = self._on_prompt(prompt) if prompt else None
        if answer is not None:
            with contextlib.suppress(OSError):  # It has just ended, which is noticed elsewhere.
                os.write(self._terminal, f"{answer}\n".encode())


class _Reader:
    """The thread that reads one stream of a command and passes its lines on."""

    def __init__(self, stream: str, descriptor: int, on_line: OnLine) -> None:
        self.failure: BaseException | None = None
        self.unfinished: tuple[int, str] = (0, "")
        """The text after the last line end, and how many chunks of output have come so far."""
        self._stream = stream
        self._descriptor = descriptor
        self._on_line = on_line
        self._is_last_call = threading.Event()
        self._left_bytes = _LAST_CALL_BYTES
        self._thread = threading.Thread(target=self._run, name=f"read-{stream}", daemon=True)
        self._thread.start()

    def finish(self) -> None:
        """Read what is left and end, even if a process that left the group holds the stream open.

        Such a process may write faster than this reads, so at most one full stream buffer is read.
        """
        self._is_last_call.set()
        self._thread.join()

    def _run(self) -> None:
        try:
            splitter = LineSplitter()
            while chunk := self._read():
                for line in splitter.feed(chunk):
                    self._on_line(self._stream, line)
                self.unfinished = (self.unfinished[0] + 1, splitter.rest)
            for line in splitter.finish():
                self._on_line(self._stream, line)
        except BaseException as error:  # noqa: BLE001 - run() ends the command and raises it
            self.failure = error

    def _read(self) -> bytes:
        poll = select.poll()
        poll.register(self._descriptor, select.POLLIN)
        while True:
            is_last_call = self._is_last_call.is_set()
            if self._left_bytes <= 0:
                return b""
            if poll.poll(0 if is_last_call else _POLL_SECONDS * 1000):
                try:
                    data = os.read(self._descriptor, 65536)
                except OSError:  # EIO: a terminal's sign that its last process is gone
                    return b""
                if is_last_call:
                    self._left_bytes -= len(data)
                return data
            if is_last_call:
                return b""
