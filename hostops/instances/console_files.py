"""A server's console: its output in one file for each run, and its input through a FIFO."""

import contextlib
import errno
import json
import os
from pathlib import Path

from hostops.callbacks import Callbacks
from hostops.errors import HostError
from hostops.layout import InstanceLayout
from hostops.linux.holes import find_data, punch_hole
from hostops.linux.lines import MAX_LINE_BYTES, decode_line, piece_length
from hostops.specs import ConsoleChunk, ConsolePosition

KEPT_RUNS = 10
"""The output of this many runs is kept; older ones are removed at the next start."""

KEPT_BYTES = 4 * 1024**2
"""The last part of each run's output stays on the host, whoever has stored it elsewhere."""

RELEASE_STEP_BYTES = 1024**2

MAX_COMMAND_BYTES = 4095  # A write of up to PIPE_BUF bytes, with its line end, is never split.
_TAIL_BYTES = 16 * 1024


def list_runs(instance: InstanceLayout) -> list[int]:
    """Return the numbers of the runs whose output is kept, oldest first."""
    try:
        names = [path.stem for path in instance.console_dir.glob("*.log")]
    except FileNotFoundError:
        return []
    return sorted(int(name) for name in names if name.isdecimal())


def prune_runs(instance: InstanceLayout) -> None:
    """Remove the output of all but the latest runs."""
    for run in list_runs(instance)[:-KEPT_RUNS]:
        # The output last: without it, nobody would come back for the others.
        instance.console_run_path(run).unlink(missing_ok=True)
        instance.console_stop_path(run).unlink(missing_ok=True)
        instance.console_log_path(run).unlink(missing_ok=True)


def is_at_end(instance: InstanceLayout, position: ConsolePosition) -> bool:
    """Whether it is certain that there is nothing after `position`: the run has no more, and is the last.

    For who looks at many consoles many times a second, and mostly finds nothing.
    """
    folder = f"{instance.console_dir}/"
    try:
        is_read = os.stat(f"{folder}{position.run}.log").st_size == position.offset  # noqa: PTH116
    except FileNotFoundError:
        return False
    # Runs are numbered one after the other.
    return is_read and not os.path.exists(f"{folder}{position.run + 1}.log")  # noqa: PTH110


def read_console(
    instance: InstanceLayout, position: ConsolePosition, *, is_alive: bool, max_bytes: int
) -> ConsoleChunk:
    """Return whole lines after `position`, going on to newer runs, at most about `max_bytes`.

    `is_alive` says whether the latest run was still going *before* this call: the last line of a
    run that is over is taken even without a line end. A line of more than 64 KiB comes in pieces. A
    position in a run that is not kept any more goes on with the next one that is; a position that
    cannot be, because the instance was made anew, starts again at the first run. Where `release` has
    taken lines away, a line says so.
    """
    runs = list_runs(instance)
    if not runs:
        return ConsoleChunk((), position)
    run, offset = position.run, position.offset
    if (
        run > runs[-1]
        or _size(instance, run) < offset
        or not _is_run_of(position, read_started_at(instance, run))
    ):
        run, offset = runs[0], 0
    elif run not in runs:
        run, offset = next(number for number in runs if number > run), 0
    lines: list[tuple[int, str]] = []
    budget = max(max_bytes, MAX_LINE_BYTES + 1)
    while True:
        newer = next((number for number in runs if number > run), None)
        texts, offset, count, at_end = _read_lines(
            instance.console_log_path(run),
            offset,
            budget,
            is_over=newer is not None or not is_alive,
        )
        lines.extend((run, text) for text in texts)
        budget -= count
        if not at_end or newer is None or budget <= MAX_LINE_BYTES:
            started_at = read_started_at(instance, run)
            return ConsoleChunk(tuple(lines), ConsolePosition(run, offset, started_at))
        run, offset = newer, 0


def release(instance: InstanceLayout, position: ConsolePosition) -> None:
    """Free the disk space of what lies more than `KEPT_BYTES` before `position` in its run.

    The file's size and all positions in it stay as they are. In whole MiB, so that it happens seldom.
    """
    end = (position.offset - KEPT_BYTES) // RELEASE_STEP_BYTES * RELEASE_STEP_BYTES
    if end <= 0:
        return
    with (
        contextlib.suppress(FileNotFoundError),
        instance.console_log_path(position.run).open("r+b") as file,
    ):
        punch_hole(file.fileno(), end)


def read_started_at(instance: InstanceLayout, run: int) -> float:
    """Return when a run began, as its launcher wrote it down; 0 where that is not known."""
    try:
        return float(json.loads(instance.console_run_path(run).read_bytes())["started_at"])
    except (FileNotFoundError, NotADirectoryError, ValueError, KeyError, TypeError):
        return 0.0  # of an earlier version, not written yet, or emptied by a power cut


def _is_run_of(position: ConsolePosition, started_at: float) -> bool:
    """Whether a run that began then may be the one that `position` is in."""
    return 0.0 in (position.run_started_at, started_at) or position.run_started_at == started_at


def end_of_console(instance: InstanceLayout) -> ConsolePosition:
    """Return the position after everything that is there now."""
    runs = list_runs(instance)
    return ConsolePosition(runs[-1], _size(instance, runs[-1])) if runs else ConsolePosition()


def last_line(instance: InstanceLayout, run: int) -> str:
    """Return the last line of a run that is not empty, or an empty text."""
    try:
        with instance.console_log_path(run).open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - _TAIL_BYTES))
            lines = file.read().split(b"\n")
    except FileNotFoundError:
        return ""
    return next((text for line in reversed(lines) if (text := decode_line(line).strip())), "")


def send_line(instance: InstanceLayout, line: str) -> None:
    """Write one line to the server's stdin.

    Raises ValueError for a line break or another control character, HostError if no server reads
    it.
    """
    data = line.encode()
    if any(ord(character) < 32 or ord(character) == 127 for character in line):
        raise ValueError("A console command is one line, without control characters.")
    if not line.strip() or len(data) > MAX_COMMAND_BYTES:
        raise ValueError(f"A console command has 1 to {MAX_COMMAND_BYTES} bytes.")
    try:
        descriptor = os.open(instance.console_input_path, os.O_WRONLY | os.O_NONBLOCK)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENXIO):  # never started; nobody has it open
            raise HostError(f"{instance.name} does not run: start it first.") from None
        raise
    try:
        os.write(descriptor, data + b"\n")
    except BlockingIOError:
        raise HostError(
            f"{instance.name} has not read its console for a long time: it hangs. Restart it."
        ) from None
    except BrokenPipeError:
        raise HostError(f"{instance.name} has just ended: start it first.") from None
    finally:
        os.close(descriptor)


class ConsoleTail:
    """Hands new console lines of one instance on, while an operation waits for it."""

    def __init__(
        self, instance: InstanceLayout, position: ConsolePosition, callbacks: Callbacks
    ) -> None:
        self._instance = instance
        self._position = position
        self._callbacks = callbacks

    def pump(self, *, is_alive: bool) -> None:
        """Give all lines that came since the last call to `on_line`."""
        while True:
            chunk = read_console(
                self._instance, self._position, is_alive=is_alive, max_bytes=MAX_LINE_BYTES
            )
            for _, line in chunk.lines:
                self._callbacks.say(line)
            if chunk.position == self._position:
                return
            self._position = chunk.position


def _size(instance: InstanceLayout, run: int) -> int:
    with contextlib.suppress(FileNotFoundError):
        return instance.console_log_path(run).stat().st_size
    return 0


def _read_lines(
    path: Path, offset: int, budget: int, *, is_over: bool
) -> tuple[list[str], int, int, bool]:
    """Return lines from `offset`, the offset after them, the bytes read, and whether all was read."""
    try:
        with path.open("rb") as file:
            kept_from = find_data(file.fileno(), offset)
            file.seek(kept_from)
            data = file.read(budget)
            at_end = not file.read(1)
    except FileNotFoundError:  # removed meanwhile
        return [], offset, 0, True
    texts = []
    start = 0
    if kept_from > offset:
        # The hole ends somewhere in a line.
        start = data.find(b"\n", 0, MAX_LINE_BYTES) + 1
        texts.append(f"[{kept_from + start - offset} bytes are not kept on the host any more]")
        offset = kept_from
    while start < len(data):
        end = data.find(b"\n", start, start + MAX_LINE_BYTES + 1)
        if end >= 0:
            texts.append(decode_line(data[start:end].removesuffix(b"\r")))
            start = end + 1
        elif len(data) - start > MAX_LINE_BYTES:
            length = piece_length(data[start:])
            texts.append(decode_line(data[start : start + length]))
            start += length
        elif at_end and is_over:
            texts.append(decode_line(data[start:]))
            start = len(data)
        else:
            break
    return texts, offset + start, len(data), at_end
