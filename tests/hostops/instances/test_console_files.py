"""A console is read line by line over all its runs, and written one line at a time."""

import ctypes
import errno
import os
from pathlib import Path

import pytest

from hostops.errors import HostError
from hostops.instances import console_files
from hostops.layout import HostLayout, InstanceLayout
from hostops.linux import holes
from hostops.linux.lines import MAX_LINE_BYTES
from hostops.specs import ConsoleChunk, ConsolePosition

START = ConsolePosition()


@pytest.fixture
def instance(tmp_path: Path) -> InstanceLayout:
    instance = HostLayout(tmp_path).instance("alpha")
    instance.console_dir.mkdir(parents=True)
    return instance


def read(
    instance: InstanceLayout,
    position: ConsolePosition = START,
    *,
    is_alive: bool = True,
    max_bytes: int = 262_144,
) -> ConsoleChunk:
    return console_files.read_console(instance, position, is_alive=is_alive, max_bytes=max_bytes)


def write(instance: InstanceLayout, run: int, data: bytes) -> None:
    with instance.console_log_path(run).open("ab") as file:
        file.write(data)


def test_a_server_that_never_ran_has_no_lines(instance: InstanceLayout) -> None:
    assert read(instance) == ConsoleChunk((), START)


def test_it_goes_on_where_it_was(instance: InstanceLayout) -> None:
    write(instance, 1, b"one\r\ntwo\n")
    chunk = read(instance)
    assert chunk.lines == ((1, "one"), (1, "two"))
    assert read(instance, chunk.position).lines == ()
    write(instance, 1, b"three\n")
    assert read(instance, chunk.position).lines == ((1, "three"),)


def test_half_a_line_waits_for_its_end_or_for_the_end_of_its_run(instance: InstanceLayout) -> None:
    write(instance, 1, b"one\ntw")
    chunk = read(instance)
    assert chunk.lines == ((1, "one"),)
    assert read(instance, chunk.position, is_alive=False).lines == ((1, "tw"),)
    write(instance, 2, b"new\n")
    assert read(instance, chunk.position).lines == ((1, "tw"), (2, "new"))


def test_it_walks_over_to_newer_runs(instance: InstanceLayout) -> None:
    for run in (1, 2, 10):
        write(instance, run, f"run {run}\n".encode())
    assert [run for run, _ in read(instance).lines] == [1, 2, 10]


def test_a_position_in_a_removed_run_goes_on_with_the_next(instance: InstanceLayout) -> None:
    write(instance, 3, b"three\n")
    assert read(instance, ConsolePosition(1, 100)).lines == ((3, "three"),)


@pytest.mark.parametrize("position", [ConsolePosition(7, 0), ConsolePosition(1, 5000)])
def test_a_position_of_an_earlier_instance_starts_again(
    instance: InstanceLayout, position: ConsolePosition
) -> None:
    write(instance, 1, b"one\n")
    assert read(instance, position).lines == ((1, "one"),)


def test_much_text_comes_in_several_chunks_without_a_gap(instance: InstanceLayout) -> None:
    expected: list[tuple[int, str]] = []
    for run in (1, 2, 3):
        lines = [f"{run} {number} {'x' * 1000}" for number in range(300)]
        write(instance, run, "".join(f"{line}\n" for line in lines).encode())
        expected += [(run, line) for line in lines]
    position, chunks = START, 0
    found: list[tuple[int, str]] = []
    while chunk := read(instance, position, max_bytes=100_000):
        if not chunk.lines:
            break
        found += chunk.lines
        position = chunk.position
        chunks += 1
    assert found == expected
    assert chunks >= 9


def test_an_endless_line_comes_in_pieces_while_it_grows(instance: InstanceLayout) -> None:
    write(instance, 1, b"x" * (2 * MAX_LINE_BYTES + 5))
    chunk = read(instance)
    assert [len(line) for _, line in chunk.lines] == [MAX_LINE_BYTES] * 2
    write(instance, 1, b"y\n")
    assert read(instance, chunk.position).lines == ((1, "xxxxxy"),)


def test_bytes_that_are_no_text_do_not_stop_it(instance: InstanceLayout) -> None:
    write(instance, 1, b"\xff\xfe caf\xc3\xa9\n")
    assert read(instance).lines == ((1, "\ufffd\ufffd café"),)


def test_only_the_latest_runs_are_kept(instance: InstanceLayout) -> None:
    for run in range(1, console_files.KEPT_RUNS + 4):
        write(instance, run, b"x\n")
        instance.console_run_path(run).touch()
        instance.console_stop_path(run).touch()
    console_files.prune_runs(instance)
    kept = range(4, console_files.KEPT_RUNS + 4)
    assert console_files.list_runs(instance) == list(kept)
    names = {path.name for path in instance.console_dir.iterdir()}
    assert names == {f"{run}.{kind}" for run in kept for kind in ("log", "json", "stop")}


def test_what_is_stored_elsewhere_gives_its_disk_space_back(instance: InstanceLayout) -> None:
    line = b"x" * 1023 + b"\n"
    path = instance.console_log_path(1)
    with path.open("ab") as file:  # as the game has it open, while its output is released
        end = 0
        for _ in range(16):
            file.write(line * 1024)
            file.flush()
            end += 1024**2
            console_files.release(instance, ConsolePosition(1, end))
    assert path.stat().st_size == end
    kept_and_a_bit = console_files.KEPT_BYTES + 2 * console_files.RELEASE_STEP_BYTES
    assert console_files.KEPT_BYTES <= path.stat().st_blocks * 512 <= kept_and_a_bit
    # Positions are as they were.
    write(instance, 1, b"the end\n")
    assert read(instance, ConsolePosition(1, end)).lines == ((1, "the end"),)
    behind = read(instance, ConsolePosition(1, end - console_files.KEPT_BYTES), max_bytes=2**24)
    assert behind.lines[0] == (1, "x" * 1023)
    assert len(behind.lines) == console_files.KEPT_BYTES // 1024 + 1


KEEP_SIZE = 1  # FALLOC_FL_KEEP_SIZE of linux/falloc.h


def claim_room(path: Path, offset: int, size: int) -> None:
    """Let the file reserve space behind its end, as a game can through the descriptor that it prints to."""
    libc = ctypes.CDLL(None, use_errno=True)
    with path.open("ab") as file:
        numbers = (ctypes.c_int64(offset), ctypes.c_int64(size))
        assert libc.fallocate(file.fileno(), KEEP_SIZE, *numbers) == 0, ctypes.get_errno()


@pytest.mark.parametrize("printed", [100, 8 * 1024**2])
def test_room_that_a_game_claims_behind_what_it_prints_is_given_back(
    instance: InstanceLayout, printed: int
) -> None:
    """For every run, because one may end between two checks."""
    line = b"x" * 99 + b"\n"
    for run in (1, 2):
        write(instance, run, line * (printed // len(line)))
        claim_room(instance.console_log_path(run), 2**33, 32 * 1024**2)
    size = instance.console_log_path(2).stat().st_size
    assert console_files.trim(instance, 16 * 1024**2) == size
    kept = console_files.KEPT_BYTES + 2 * console_files.RELEASE_STEP_BYTES
    for run in (1, 2):
        status = instance.console_log_path(run).stat()
        assert (status.st_size, status.st_blocks * 512 <= kept) == (size, True)
    assert read(instance, ConsolePosition(2, size - 100)).lines == ((2, "x" * 99),)


def test_a_console_that_its_game_has_closed_to_its_owner_is_trimmed_and_read(
    instance: InstanceLayout,
) -> None:
    write(instance, 1, b"line\n" * 8 * 1024**2)
    instance.console_log_path(1).chmod(0)
    console_files.trim(instance, 16 * 1024**2)
    kept = console_files.KEPT_BYTES + 2 * console_files.RELEASE_STEP_BYTES
    status = instance.console_log_path(1).stat()
    assert status.st_blocks * 512 <= kept
    assert status.st_mode & 0o600 == 0o600
    assert read(instance).lines[1:3] == ((1, "line"), (1, "line"))


def test_who_reads_from_the_beginning_is_told_what_is_not_there_any_more(
    instance: InstanceLayout,
) -> None:
    line = b"x" * 999 + b"\n"
    write(instance, 1, line * 10_000)
    console_files.release(instance, ConsolePosition(1, 10_000_000))
    chunk = read(instance, max_bytes=2**24)
    gap, *lines = [text for _, text in chunk.lines]
    assert lines == ["x" * 999] * len(lines)
    assert gap == f"[{10_000_000 - 1000 * len(lines):,} bytes are not kept on the host any more]"
    assert 1000 * len(lines) >= console_files.KEPT_BYTES
    assert chunk.position == ConsolePosition(1, 10_000_000)


def test_a_little_output_is_left_alone(instance: InstanceLayout) -> None:
    write(instance, 1, b"x\n" * 100_000)
    before = instance.console_log_path(1).stat().st_mtime_ns
    console_files.release(instance, ConsolePosition(1, 200_000))
    assert instance.console_log_path(1).stat().st_mtime_ns == before
    console_files.release(instance, ConsolePosition(9, 2**30))  # a run that was removed meanwhile


def test_where_files_cannot_have_holes_nothing_is_lost_and_the_log_says_so_once(
    instance: InstanceLayout, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class WithoutHoles:
        def fallocate(self, *_: int) -> int:
            ctypes.set_errno(errno.EOPNOTSUPP)
            return -1

    monkeypatch.setattr(holes, "_libc", WithoutHoles())
    monkeypatch.setattr(holes, "_devices_without", set())
    write(instance, 1, b"x" * 99 + b"\n")
    write(instance, 1, b"y" * 10_000_000 + b"\n")
    for _ in range(3):
        console_files.release(instance, ConsolePosition(1, 10_000_000))
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "cannot free parts of files" in caplog.text
    assert read(instance, max_bytes=1).lines[0] == (1, "x" * 99)


def test_a_disk_that_fails_is_not_taken_for_one_without_holes(
    instance: InstanceLayout, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Failing:
        def fallocate(self, *_: int) -> int:
            ctypes.set_errno(errno.EIO)
            return -1

    monkeypatch.setattr(holes, "_libc", Failing())
    write(instance, 1, b"y" * 10_000_000)
    with pytest.raises(OSError, match="Input/output error"):
        console_files.release(instance, ConsolePosition(1, 10_000_000))


@pytest.mark.parametrize(
    "command", ["", "  ", "say a\nquit", "say \x1b[2J", "x" * 5000, "a\rb", "\x7f"]
)
def test_what_is_not_one_line_of_text_is_refused(instance: InstanceLayout, command: str) -> None:
    with pytest.raises(ValueError, match="console command"):
        console_files.send_line(instance, command)


def test_a_line_for_nobody_is_an_error(instance: InstanceLayout) -> None:
    with pytest.raises(HostError, match="alpha does not run"):
        console_files.send_line(instance, "status")
    os.mkfifo(instance.console_input_path)
    with pytest.raises(HostError, match="alpha does not run"):
        console_files.send_line(instance, "status")


def test_a_server_that_reads_nothing_is_told_apart(instance: InstanceLayout) -> None:
    os.mkfifo(instance.console_input_path)
    reader = os.open(instance.console_input_path, os.O_RDWR)
    try:
        for _ in range(16):  # a pipe holds 64 KiB
            console_files.send_line(instance, "x" * 4000)
        with pytest.raises(HostError, match="has not read its console for a long time"):
            console_files.send_line(instance, "x" * 4000)
    finally:
        os.close(reader)
