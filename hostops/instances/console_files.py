"""A server's console: its output in one file per run, and its input through a FIFO.

The game has its output open, and may truncate it or turn it into one huge hole. Where overlays cannot be
mounted, it may put anything in its place. So everything is opened by `linux.untrusted`, and read in
pieces of bounded size.
"""

import contextlib
import errno
import os
import re
import stat

from hostops.box.game import most_file_bytes
from hostops.callbacks import Callbacks
from hostops.console_commands import find_last_said
from hostops.errors import HostError
from hostops.instances import records
from hostops.layout import InstanceLayout
from hostops.linux import untrusted
from hostops.linux.holes import find_data, punch_hole
from hostops.linux.lines import MAX_LINE_BYTES, decode_line, piece_length
from hostops.linux.untrusted import UntrustedFileError
from hostops.specs import ConsoleChunk, ConsolePosition

KEPT_RUNS = 10
"""The output of this many runs is kept; older ones are removed at the next start."""

KEPT_BYTES = 4 * 1024**2
"""This much of the end of each run's output stays on the host, even if it is stored elsewhere."""

RELEASE_STEP_BYTES = 1024**2

MAX_CHUNK_LINES = 8192
"""The most lines in one chunk: in memory, an empty line takes a hundred times its one byte."""

_MAX_ENTRIES = 10_000
"""The limit for a console's folder, where a dozen runs have three files each."""

_RUN_LOG = re.compile(r"([1-9][0-9]{0,8})\.log", re.ASCII)

MAX_COMMAND_BYTES = 4095  # A write of up to PIPE_BUF bytes, with its line end, is never split.
_TAIL_BYTES = 64 * 1024
_LINES_SEARCHED = 50
_LAST_WORDS_BYTES = 256 * 1024
_LINE_COST = 64  # of a line besides its text, when stored
_BLOCK_BYTES = 512  # the unit of st_blocks, whatever the file system's own block size


def list_runs(instance: InstanceLayout) -> list[int]:
    """Return the numbers of the runs whose output is kept, oldest first."""
    try:
        with untrusted.open_folder(instance.console_dir, instance.trusted_dir) as folder:
            return _runs_in(folder)
    except FileNotFoundError:
        return []


def _runs_in(folder: int) -> list[int]:
    names = untrusted.list_names(folder, _MAX_ENTRIES)
    return sorted(int(match[1]) for name in names if (match := _RUN_LOG.fullmatch(name)))


def prune_runs(instance: InstanceLayout) -> None:
    """Remove the output of all but the latest runs."""
    for run in list_runs(instance)[:-KEPT_RUNS]:
        # The output goes last: without it, a later call would not find the others.
        untrusted.remove_file(instance.console_run_path(run), instance.trusted_dir)
        untrusted.remove_file(instance.console_stop_path(run), instance.trusted_dir)
        untrusted.remove_file(instance.console_log_path(run), instance.trusted_dir)


def is_at_end(instance: InstanceLayout, position: ConsolePosition) -> bool:
    """Whether there certainly is nothing after `position`: its run has no more output, and is the last.

    For callers that check many consoles many times a second, and mostly find nothing.
    """
    with (
        contextlib.suppress(FileNotFoundError),
        untrusted.open_folder(instance.console_dir, instance.trusted_dir) as folder,
    ):
        # Runs are numbered consecutively.
        is_read = untrusted.stat_at(folder, f"{position.run}.log").st_size == position.offset
        return is_read and not untrusted.exists_at(folder, f"{position.run + 1}.log")
    return False


def read_console(
    instance: InstanceLayout, position: ConsolePosition, *, is_alive: bool, max_bytes: int
) -> ConsoleChunk:
    """Return whole lines after `position`, continuing into newer runs, at most about `max_bytes`.

    `is_alive` says whether the latest run was alive *before* this call: the last line of a finished run is
    returned even without a line end. A line longer than 64 KiB comes in pieces. If the position's run is no
    longer kept, reading continues with the next kept run. If the position is impossible because the instance
    was created again, reading starts over at the first run. If it is beyond the end because the game truncated
    its output, reading starts over at that run. Where `release` or `trim` has freed output, a line says so.
    Anything but a file in place of a run's output counts as empty output.
    """
    runs = list_runs(instance)
    if not runs:
        return ConsoleChunk((), position)
    run, offset = _begin(instance, position, runs)
    lines: list[tuple[int, str]] = []
    budget = max(max_bytes, MAX_LINE_BYTES + 1)
    for newer in [*[number for number in runs if number > run][:KEPT_RUNS], None]:
        texts, offset, count, at_end = _read_lines(
            instance,
            run,
            offset,
            (budget, MAX_CHUNK_LINES - len(lines)),
            is_over=run != runs[-1] or not is_alive,
        )
        lines.extend((run, text) for text in texts)
        budget -= count
        is_full = budget <= MAX_LINE_BYTES or len(lines) >= MAX_CHUNK_LINES
        if not at_end or newer is None or is_full:
            break
        run, offset = newer, 0
    return ConsoleChunk(tuple(lines), ConsolePosition(run, offset, read_started_at(instance, run)))


def _begin(instance: InstanceLayout, position: ConsolePosition, runs: list[int]) -> tuple[int, int]:
    """Return the run and the offset where reading starts."""
    started_at = read_started_at(instance, position.run)
    if position.run > runs[-1] or not _is_run_of(position, started_at):
        return runs[0], 0
    if position.run not in runs:
        return next(number for number in runs if number > position.run), 0
    if _size(instance, position.run) < position.offset:
        is_cut = position.run_started_at == started_at != 0
        return (position.run if is_cut else runs[0]), 0
    return position.run, position.offset


def release(instance: InstanceLayout, position: ConsolePosition) -> None:
    """Free the disk space of everything more than `KEPT_BYTES` before `position` in its run.

    The file's size and all positions in it stay the same. Works in whole MiB, to happen rarely.
    """
    path = instance.console_log_path(position.run)
    with contextlib.suppress(FileNotFoundError, UntrustedFileError):
        descriptor = untrusted.open_file(path, instance.trusted_dir, os.O_RDWR)
        try:
            _free(descriptor, position.offset)
        finally:
            os.close(descriptor)


def trim(instance: InstanceLayout, most_bytes: int) -> int:
    """Free all but the end of each run's output that takes more than `most_bytes` on the disk.

    For a game that prints faster than its output is stored, or reserves space for its console without writing
    to it. Returns the size of the latest run's output, so that the caller can see how fast it grows.
    """
    size = 0
    try:
        with untrusted.open_folder(instance.console_dir, instance.trusted_dir) as folder:
            for run in _runs_in(folder):
                # With the folder held open this follows no link, and costs a tenth of `stat_at`.
                status = os.stat(f"{run}.log", dir_fd=folder, follow_symlinks=False)
                size = status.st_size
                if status.st_blocks * _BLOCK_BYTES > most_bytes and stat.S_ISREG(status.st_mode):
                    _trim_one(instance, run, most_bytes)
    except (FileNotFoundError, UntrustedFileError):
        return 0
    return size


def _trim_one(instance: InstanceLayout, run: int, most_bytes: int) -> None:
    descriptor = untrusted.open_file(
        instance.console_log_path(run), instance.trusted_dir, os.O_RDWR
    )
    try:
        size = os.fstat(descriptor).st_size
        kept = KEPT_BYTES + RELEASE_STEP_BYTES if _free(descriptor, size) else size
        # fallocate(2) can also reserve blocks beyond the end, which no file size limit covers. Setting the
        # file's end frees them, but may cut off what is being printed at this moment.
        if os.fstat(descriptor).st_blocks * _BLOCK_BYTES > kept + most_bytes:
            os.ftruncate(descriptor, size)
    finally:
        os.close(descriptor)


def _free(descriptor: int, offset: int) -> bool:
    """Free everything well before `offset`; return False if the file system does not support that."""
    end = (offset - KEPT_BYTES) // RELEASE_STEP_BYTES * RELEASE_STEP_BYTES
    return end <= 0 or punch_hole(descriptor, end)


def describe_fullness(instance: InstanceLayout, run: int) -> str:
    """Say so if a boxed run's output has reached the file size limit, so that writes fail. Otherwise ""."""
    most = most_file_bytes()
    if _size(instance, run) < most:
        return ""
    return (
        f"It has printed {most / 1024**2:,.0f} MiB, the most that one run can: nothing that it prints now is "
        "kept. Find out in its console what it prints so much of, and restart it."
    )


def read_started_at(instance: InstanceLayout, run: int) -> float:
    """Return when a run began according to its launcher; 0 if unknown."""
    document = records.read_document(instance.console_run_path(run), instance.trusted_dir)
    try:
        return records.seconds((document or {})["started_at"])
    except records.MALFORMED:
        return 0.0  # from an earlier version, not written yet, or emptied by a power cut


def _is_run_of(position: ConsolePosition, started_at: float) -> bool:
    """Whether a run that began then may be the run of `position`."""
    return 0.0 in (position.run_started_at, started_at) or position.run_started_at == started_at


def end_of_console(instance: InstanceLayout) -> ConsolePosition:
    """Return the position after all current output."""
    runs = list_runs(instance)
    return ConsolePosition(runs[-1], _size(instance, runs[-1])) if runs else ConsolePosition()


def last_line(instance: InstanceLayout, run: int) -> str:
    """Return the last line of a run that says something of its own, or an empty text."""
    return find_last_said(last_lines(instance, run, _LINES_SEARCHED))


def last_lines(instance: InstanceLayout, run: int, count: int) -> list[str]:
    """Return the last `count` lines of a run that are not blank, as far as the end of its output has them."""
    try:
        path = instance.console_log_path(run)
        descriptor = untrusted.open_file(path, instance.trusted_dir)
    except (FileNotFoundError, UntrustedFileError):
        return []
    with open(descriptor, "rb") as file:  # noqa: PTH123 - a descriptor
        size = file.seek(0, os.SEEK_END)
        start = find_data(descriptor, max(0, size - _TAIL_BYTES))
        file.seek(start)
        pieces = file.read(_TAIL_BYTES).split(b"\n")
    if start > 0 and len(pieces) > 1:
        del pieces[0]  # Its beginning was not read.
    return [text for piece in pieces if (text := decode_line(piece).rstrip()).strip()][-count:]


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
        descriptor = untrusted.open_file(
            instance.console_input_path, instance.trusted_dir, os.O_WRONLY, stat.S_IFIFO
        )
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENXIO):  # never started; no process has it open
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
    """Passes on the last output of an instance while an operation waits for its end.

    It passes on one piece at a time, and a limited total: the rest is in the console.
    """

    def __init__(
        self, instance: InstanceLayout, position: ConsolePosition, callbacks: Callbacks
    ) -> None:
        self._instance = instance
        self._position = position
        self._callbacks = callbacks
        self._budget = _LAST_WORDS_BYTES

    def pump(self, *, is_alive: bool) -> None:
        """Pass new lines to `on_line`: one piece of them, or everything once the game has ended."""
        while self._budget > 0:
            chunk = read_console(
                self._instance, self._position, is_alive=is_alive, max_bytes=MAX_LINE_BYTES
            )
            for _, line in chunk.lines:
                self._budget -= len(line) + _LINE_COST
                self._callbacks.say(line)
            is_at_end = chunk.position == self._position
            self._position = chunk.position
            if self._budget <= 0:
                self._callbacks.say(f"[{self._instance.name} prints more than is shown here.]")
            if is_at_end or is_alive:
                return


def _size(instance: InstanceLayout, run: int) -> int:
    with contextlib.suppress(FileNotFoundError, UntrustedFileError):
        status = untrusted.read_status(instance.console_log_path(run), instance.trusted_dir)
        if stat.S_ISREG(status.st_mode):
            return status.st_size
    return 0


def _read_lines(
    instance: InstanceLayout, run: int, offset: int, budget: tuple[int, int], *, is_over: bool
) -> tuple[list[str], int, int, bool]:
    """Return lines from `offset`, the offset after them, the bytes read, and whether all was read.

    `budget` is the most bytes and the most lines.
    """
    max_bytes, max_lines = budget
    try:
        path = instance.console_log_path(run)
        descriptor = untrusted.open_file(path, instance.trusted_dir)
    except (FileNotFoundError, UntrustedFileError):  # removed in the meantime, or not ours
        return [], offset, 0, True
    with open(descriptor, "rb") as file:  # noqa: PTH123 - a descriptor
        kept_from = find_data(descriptor, offset)
        file.seek(kept_from)
        data = file.read(max_bytes)
        at_end = not file.read(1)
    texts = []
    start = 0
    if kept_from > offset:
        # The hole ends in the middle of a line.
        start = data.find(b"\n", 0, MAX_LINE_BYTES) + 1
        texts.append(f"[{kept_from + start - offset:,} bytes are not kept on the host any more]")
        offset = kept_from
    while start < len(data):
        if len(texts) >= max_lines:
            at_end = False
            break
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
