"""Consoles are copied exactly: every line once and in order, whoever copies, and whatever dies meanwhile."""

import contextlib
import errno
import itertools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.db import OperationalError, connection
from django.utils import timezone

from hostops.errors import OperationCancelled
from hostops.host import Host as HostLayer
from hostops.instances.config_chain import SERVER_CONFIG_PATH
from hostops.instances.console_watch import ConsoleWatch
from hostops.layout import HostLayout, InstanceLayout
from hostops.linux.proc_stat import read_boot_id
from hostops.specs import CancelToken, ConsoleChunk
from jobs.live.topics import ConsoleTopic
from jobs.models import Job, JobState
from jobs.watch import console_copier
from jobs.watch.console_copier import (
    SEGMENT_BYTES,
    TURN_SECONDS,
    Bookmark,
    ConsoleCopier,
    last_words,
    store,
)
from servers.console.reader import Console
from servers.models import (
    ActualState,
    ConsoleLine,
    ConsoleRun,
    ConsoleSegment,
    Host,
    Server,
    StoredLine,
)
from servers.secrets.encryption import ServerSecret
from tests.hostops.hosts import REPOSITORY
from tests.jobs.live.stream_server import url_of_test_database
from tests.waiting import wait_until

STARTED_AT = 1_767_000_000.25


class Game:
    """Prints to the console of the server alpha as its launcher and the game do."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.instance = InstanceLayout(root, "alpha")
        self.instance.console_dir.mkdir(parents=True)
        self.printed: list[str] = []
        self.run = 0

    def start(self, *, started_at: float = STARTED_AT, boot_id: str = "") -> None:
        """Begin the next run, which counts as alive as long as this test runs."""
        self.run += 1
        record = {
            "run": self.run,
            "pid": os.getpid(),
            "start_ticks": own_start_ticks(),
            "boot_id": boot_id or read_boot_id(),
            "started_at": started_at + self.run,
            "release": f"{100 + self.run}",
            "port": 27015,
        }
        self.instance.console_log_path(self.run).touch()
        for path in (self.instance.run_path, self.instance.console_run_path(self.run)):
            path.write_text(json.dumps(record))

    def write(self, *lines: str, end: str = "\n") -> None:
        """Print lines."""
        with self.instance.console_log_path(self.run).open("a") as file:
            file.write("\n".join(lines) + end)
        self.printed += lines

    def flood(self, size: int) -> None:
        """Print at least `size` bytes in lines that all differ."""
        first = len(self.printed)
        self.write(
            *(f"{number} {'x' * (number % 97)}" for number in range(first, first + size // 50))
        )

    def end(self, *, stopped: bool = False) -> None:
        """End the run."""
        record = json.loads(self.instance.run_path.read_text()) | {"start_ticks": 1}
        self.instance.run_path.write_text(json.dumps(record))
        if stopped:
            self.instance.console_stop_path(self.run).touch()

    def vanish(self) -> None:
        """Be deleted, and made again."""
        for path in self.instance.console_dir.iterdir():
            path.unlink()
        self.run = 0


def own_start_ticks() -> int:
    return int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])


@pytest.fixture
def game(tmp_path: Path, server: Server) -> Game:
    """Return the game server behind alpha, which has begun its first run."""
    Server.objects.update(actual_state=ActualState.RUNNING)
    game = Game(tmp_path)
    game.instance.record_path.write_text("{}")
    game.start()
    return game


@pytest.fixture
def copier(host: Host, game: Game, monkeypatch: pytest.MonkeyPatch) -> ConsoleCopier:
    """Return what copies that console, with the time that a busy machine needs to copy all of it."""
    monkeypatch.setattr(console_copier, "CATCH_UP_SECONDS", 3600.0)
    return ConsoleCopier(host, HostLayer(game.root))


def stored() -> list[StoredLine]:
    """Return every stored line of the only server."""
    blocks = Console(Server.objects.get().pk).blocks()
    return list(itertools.chain.from_iterable(block.lines() for block in blocks))


def assert_exact(game: Game) -> None:
    """Fail unless exactly what was printed is stored, numbered without a gap."""
    lines = stored()
    assert [line.line for line in lines] == game.printed
    assert [line.seq for line in lines] == list(range(1, len(game.printed) + 1))


# --- Rows, segments, size ---------------------------------------------------------------------


@pytest.mark.django_db
class TestStore:
    def test_a_little_output_is_rows(self, game: Game, copier: ConsoleCopier) -> None:
        game.write("one", "two")
        copier.copy()
        assert list(ConsoleLine.objects.values_list("line", flat=True)) == ["one", "two"]
        assert not ConsoleSegment.objects.exists()

    def test_much_output_becomes_segments(self, game: Game, copier: ConsoleCopier) -> None:
        for _ in range(40):
            game.flood(20_000)
            copier.copy()
            server = Server.objects.get()
            assert server.console_tail_bytes < SEGMENT_BYTES
            rows = ConsoleLine.objects.values_list("line", flat=True)
            assert server.console_tail_bytes == sum(len(line) + 1 for line in rows)
        assert ConsoleSegment.objects.count() >= 4
        assert_exact(game)

    def test_a_line_keeps_its_time_in_a_segment(self, game: Game, copier: ConsoleCopier) -> None:
        before = timezone.now()
        game.write("early")
        copier.copy()
        between = timezone.now()
        game.flood(2 * SEGMENT_BYTES)
        copier.copy()
        times = [line.created_at for line in stored()]
        millisecond = timedelta(milliseconds=1)
        assert before - millisecond <= times[0] <= between <= times[-1] + millisecond
        assert times == sorted(times)

    def test_the_oldest_lines_go_by_size_and_their_runs_with_them(
        self, game: Game, copier: ConsoleCopier, settings: Any
    ) -> None:
        settings.CONSOLE_KEEP_BYTES = 1_000_000
        for _ in range(8):
            game.flood(500_000)
            game.start()
        while not_copied(copier):
            pass
        lines = stored()
        size = sum(len(line.line) + 1 for line in lines)
        assert 1_000_000 - 4 * SEGMENT_BYTES < size <= 1_000_000
        assert [line.line for line in lines] == game.printed[-len(lines) :]
        assert lines[-1].seq == len(game.printed)
        first_seqs = list(ConsoleRun.objects.values_list("first_seq", flat=True))
        assert first_seqs[0] <= lines[0].seq < first_seqs[1]

    def test_what_one_turn_has_no_time_for_is_copied_by_the_next_without_another_write(
        self, game: Game, copier: ConsoleCopier, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(console_copier, "LOOK_AT_ALL_SECONDS", 3600)
        game.flood(1_000_000)
        # Time for one part of it, and no more.
        clock = itertools.count()
        monkeypatch.setattr(console_copier, "monotonic", lambda: next(clock) * TURN_SECONDS / 4)
        while not_copied(copier):
            pass
        assert_exact(game)

    def test_a_write_that_the_kernel_does_not_report_is_found_all_the_same(
        self, game: Game, copier: ConsoleCopier, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(console_copier, "LOOK_AT_ALL_SECONDS", 0)
        monkeypatch.setattr(ConsoleWatch, "find_written", lambda *_: set())
        for line in ("one", "two"):
            game.write(line)
            copier.copy()
        assert_exact(game)

    def test_a_quiet_console_is_not_opened(
        self, game: Game, copier: ConsoleCopier, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(console_copier, "LOOK_AT_ALL_SECONDS", 3600)
        game.write("one")
        copier.copy()
        while (
            copier._behind
        ):  # On a busy machine, a turn may end before the check that finds nothing more.
            copier.copy()
        monkeypatch.delattr(HostLayer, "read_console")
        copier.copy()

    def test_nothing_is_written_while_nothing_is_printed(
        self, game: Game, copier: ConsoleCopier
    ) -> None:
        game.write("one")
        copier.copy()
        before = Server.objects.values().get()
        copier.copy()
        assert Server.objects.values().get() == before


def not_copied(copier: ConsoleCopier) -> bool:
    """Copy; return whether that changed anything."""
    before = Server.objects.values("console_run", "console_offset").get()
    copier.copy()
    return bool(Server.objects.values("console_run", "console_offset").get() != before)


# --- Exactness --------------------------------------------------------------------------------


def seeds(count: int) -> range:
    """Return every other seed below `count`: the tests on the other engine take the rest."""
    return range(0 if settings.IS_SQLITE else 1, count, 2)


@pytest.mark.django_db
class TestExactness:
    def test_who_read_from_an_old_position_stores_nothing(
        self, game: Game, copier: ConsoleCopier
    ) -> None:
        game.write("one")
        bookmark = Bookmark(*Server.objects.values_list(*Bookmark._fields).get())
        copier.copy()
        late = [StoredLine(1, "one", timezone.now())]
        assert store(bookmark, bookmark.position, late, []) is None
        assert_exact(game)

    @pytest.mark.parametrize("random_seed", seeds(5))
    def test_a_store_that_breaks_anywhere_leaves_nothing_half_done(
        self, game: Game, copier: ConsoleCopier, random_seed: int
    ) -> None:
        chance = random.Random(random_seed)
        broken: list[str] = []

        def break_sometimes(execute: Callable[..., object], sql: str, *rest: object) -> object:
            verb = sql.split(" ", maxsplit=1)[0]
            is_change = verb in ("INSERT", "UPDATE", "DELETE")
            if is_change and chance.random() < 0.1:
                broken.append(f"before {verb}")
                raise ConnectionError("the database went away")
            result = execute(sql, *rest)
            if is_change and chance.random() < 0.1:
                broken.append(f"after {verb}")
                raise ConnectionError("the database went away")
            return result

        with connection.execute_wrapper(break_sometimes):
            for _ in range(40):
                game.flood(chance.randrange(50, 200_000))
                if chance.random() < 0.1:
                    game.start()
                with contextlib.suppress(ConnectionError):
                    copier.copy()
        assert len(set(broken)) >= 4, broken
        copier.finish(Server.objects.get(), CancelToken())
        assert_exact(game)

    def test_who_was_overtaken_goes_on_from_there_to_the_end(
        self, game: Game, copier: ConsoleCopier, host: Host, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        game.flood(2_000_000)
        other = ConsoleCopier(host, HostLayer(game.root))
        monkeypatch.setattr(console_copier, "TURN_SECONDS", 0)
        overtaking = iter([True, False, True, True])
        read_console = HostLayer.read_console

        def read_and_be_overtaken(self: HostLayer, *args: Any, **more: Any) -> ConsoleChunk:
            chunk = read_console(self, *args, **more)
            if self is not other._source and next(overtaking, False):
                other.copy()
            return chunk

        monkeypatch.setattr(HostLayer, "read_console", read_and_be_overtaken)
        copier.finish(Server.objects.get(), CancelToken())
        assert next(overtaking, None) is None
        assert_exact(game)

    def test_a_console_that_cannot_be_read_does_not_hold_up_the_others(
        self, game: Game, copier: ConsoleCopier, server: Server
    ) -> None:
        for name, port in (("aaa", 27016), ("zzz", 27017)):
            Server.objects.create(
                name=name,
                owner=server.owner,
                host=server.host,
                blueprint=server.blueprint,
                port=port,
            )
            # A folder in place of the output: reading it fails, even for root.
            path = game.root / "instances" / name / "console" / "1.log"
            path.mkdir(parents=True)
        game.write("one")
        for _ in range(3):
            copier.copy()
        assert list(server.console_lines.values_list("line", flat=True)) == ["one"]

    @pytest.mark.parametrize("size", [50, 5_000, 400_000])
    def test_an_instance_that_was_made_anew_is_read_from_its_beginning(
        self, game: Game, copier: ConsoleCopier, size: int
    ) -> None:
        game.flood(5_000)
        copier.copy()
        game.vanish()
        game.start(started_at=STARTED_AT + 3_600)
        game.flood(size)
        game.write("the end")
        copier.catch_up(Server.objects.get())
        assert_exact(game)
        assert list(ConsoleRun.objects.values_list("number", "first_seq")) == [(1, 1), (1, 101)]

    def test_the_first_start_of_an_instance_is_copied_while_its_job_runs(
        self, game: Game, copier: ConsoleCopier, server: Server
    ) -> None:
        Server.objects.update(actual_state=ActualState.ABSENT)
        game.write("booting")
        copier.copy()
        assert stored() == []
        Job.objects.create(operation="start", server=server, state=JobState.RUNNING)
        copier.copy()
        assert_exact(game)

    @pytest.mark.parametrize("random_seed", seeds(3))
    def test_a_stream_has_no_gap_and_no_double_while_lines_become_segments(
        self, game: Game, copier: ConsoleCopier, server: Server, random_seed: int
    ) -> None:
        chance = random.Random(random_seed)
        watchers = [(ConsoleTopic(server.pk), list[int]()) for _ in range(3)]
        for _ in range(20):
            game.flood(chance.randrange(50, 60_000))
            copier.copy()
            # The last of them checks rarely: the lines that it comes back for are in segments.
            for topic, seen in watchers[: chance.choice((1, 1, 2, 2, 3))]:
                follow(topic, seen, most=chance.randrange(1, 6))
        for topic, seen in watchers:
            follow(topic, seen, most=10_000)
            assert seen == list(range(1, len(game.printed) + 1))
        assert ConsoleSegment.objects.exists()


def follow(topic: ConsoleTopic, seen: list[int], most: int) -> None:
    """Continue reading after the last line of `seen`, for at most this many batches."""
    for _ in range(most):
        batch = topic.read_batch(seen[-1] if seen else 0)
        if batch is None:
            return
        ids = [row for row in batch.payload.decode().split("\n") if row.startswith("id: ")]
        seen += [int(row.removeprefix("id: ")) for row in ids]


COPYING = """
import django; django.setup()
from pathlib import Path
from hostops.errors import OperationCancelled
from hostops.host import Host as HostLayer
from jobs.watch.console_copier import ConsoleCopier
from servers.models import Host
copier = ConsoleCopier(Host.objects.get(), HostLayer(Path(ROOT)))
print("ready", flush=True)
while True:
    copier.copy()
"""


@pytest.fixture
def copying(game: Game) -> Iterator[list["subprocess.Popen[str]"]]:
    """Return a list for processes of `COPYING`; those that remain are killed."""
    processes: list[subprocess.Popen[str]] = []
    yield processes
    for process in processes:
        process.kill()
        process.communicate()


@pytest.mark.django_db(transaction=True)
def test_two_copiers_that_are_killed_at_any_moment_lose_and_double_nothing(
    game: Game, copier: ConsoleCopier, copying: list["subprocess.Popen[str]"]
) -> None:
    environment = {
        **os.environ,
        "DATABASE_URL": url_of_test_database(),
        "DJANGO_SETTINGS_MODULE": "l4d2site.settings",
        "SECRET_KEY": "a-key-for-the-copiers",
    }

    def hire() -> None:
        copying.append(
            subprocess.Popen(
                [sys.executable, "-c", COPYING.replace("ROOT", repr(str(game.root)))],
                cwd=REPOSITORY,
                env=environment,
                stdout=subprocess.PIPE,
                text=True,
            )
        )

    chance = random.Random(7)
    hire()
    hire()
    for _ in range(4):
        process = copying.pop(0)
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
        seq = Server.objects.get().console_seq
        for _ in range(chance.randrange(5, 40)):
            game.flood(chance.randrange(50, 40_000))
        later = Server.objects.filter(console_seq__gt=seq)
        wait_until(later.exists, 10, "nothing is copied")
        process.send_signal(signal.SIGKILL)
        process.communicate()
        hire()
    for process in copying:
        process.kill()
        process.wait()
    copier.catch_up(Server.objects.get())
    assert ConsoleSegment.objects.exists()
    assert_exact(game)


# --- Runs -------------------------------------------------------------------------------------


@pytest.mark.django_db
class TestRuns:
    @pytest.fixture(autouse=True)
    def look_each_time(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Let the copier check at each turn whether runs have ended."""
        monkeypatch.setattr(console_copier, "RUNS_EVERY_SECONDS", 0)

    def test_a_run_begins_with_its_first_line(self, game: Game, copier: ConsoleCopier) -> None:
        game.write("one", "two")
        game.start()
        game.write("three")
        copier.copy()
        first, second = ConsoleRun.objects.all()
        assert (first.number, first.first_seq, first.build_id) == (1, 1, "101")
        assert (second.number, second.first_seq, second.build_id) == (2, 3, "102")
        assert second.started_at.timestamp() == STARTED_AT + 2
        assert (second.ended_at, second.outcome) == (None, "still running")

    def test_a_run_that_is_seen_before_its_launcher_wrote_it_down_is_known_later(
        self, game: Game, copier: ConsoleCopier
    ) -> None:
        records = [game.instance.run_path, game.instance.console_run_path(1)]
        texts = [path.read_text() for path in records]
        for path in records:
            path.unlink()
        copier.copy()
        assert ConsoleRun.objects.get().build_id == ""
        for path, text in zip(records, texts, strict=True):
            path.write_text(text)
        game.write("one")
        copier.copy()
        run = ConsoleRun.objects.get()
        assert (run.build_id, run.started_at.timestamp()) == ("101", STARTED_AT + 1)
        assert run.outcome == "still running"

    @pytest.mark.parametrize("is_stopped", [True, False])
    def test_an_end_is_recorded_once_it_is_seen(
        self, game: Game, copier: ConsoleCopier, is_stopped: bool
    ) -> None:
        game.write("one")
        copier.copy()
        assert ConsoleRun.objects.get().ended_at is None
        began_at = timezone.now()
        game.write("last words", end="")
        game.end(stopped=is_stopped)
        copier.copy()
        run = ConsoleRun.objects.get()
        assert run.ending == ("stopped" if is_stopped else "crashed")
        assert run.ended_at is not None
        assert began_at <= run.ended_at <= timezone.now()
        assert_exact(game)

    def test_runs_that_came_and_went_unseen_are_told_apart(
        self, game: Game, copier: ConsoleCopier
    ) -> None:
        game.write("stopped")
        game.end(stopped=True)
        game.start(boot_id="another boot")
        game.write("cut off")
        game.start()
        game.write("crashed")
        os.utime(game.instance.console_log_path(3), (STARTED_AT + 60, STARTED_AT + 60))
        game.start()
        game.write("runs")
        copier.copy()
        runs = list(ConsoleRun.objects.values_list("ending", flat=True))
        assert runs == ["stopped", "host_restarted", "crashed", ""]
        third = ConsoleRun.objects.get(number=3)
        assert third.ended_at is not None
        # Its last output was later than the next start: it cannot have ended after that.
        assert third.ended_at == ConsoleRun.objects.get(number=4).started_at

    def test_the_run_of_a_deleted_instance_does_not_go_on(
        self, game: Game, copier: ConsoleCopier
    ) -> None:
        game.write("one")
        copier.copy()
        game.vanish()
        game.instance.run_path.unlink()
        copier.copy()
        assert ConsoleRun.objects.get().outcome == "ended unseen"

    def test_a_crashs_last_words_are_those_of_the_last_run(
        self, game: Game, copier: ConsoleCopier
    ) -> None:
        game.flood(3 * SEGMENT_BYTES)
        copier.catch_up(Server.objects.get())
        assert last_words(Server.objects.get()) == game.printed[-console_copier.LAST_WORDS :]
        game.start()
        game.write("one", "two")
        copier.copy()
        assert last_words(Server.objects.get()) == ["one", "two"]
        assert (
            last_words(Server.objects.get(), 1) == game.printed[-console_copier.LAST_WORDS - 2 : -2]
        )
        assert last_words(Server.objects.get(), 9) == []


# --- The last moment --------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
class TestBeforeTheFilesGo:
    """A job deletes an instance while the database is away, for a moment or longer."""

    @pytest.fixture
    def failures(self, monkeypatch: pytest.MonkeyPatch) -> list[int]:
        """Let the next copies fail, one for each element of the list."""
        failures: list[int] = []
        finish = ConsoleCopier.finish

        def finish_or_fail(copier: ConsoleCopier, server: Server, cancel: CancelToken) -> None:
            if failures:
                failures.pop()
                raise OperationalError("database or disk is full")
            finish(copier, server, cancel)

        monkeypatch.setattr(ConsoleCopier, "finish", finish_or_fail)
        monkeypatch.setattr(console_copier, "RETRY_SECONDS", 0.01)
        return failures

    def test_what_it_printed_waits_for_the_database(self, game: Game, failures: list[int]) -> None:
        game.write("last words")
        failures += [1, 2]
        console_copier.finish_console(HostLayer(game.root), "alpha", CancelToken())
        assert not failures
        assert ConsoleLine.objects.get().line == "last words"

    @pytest.mark.parametrize("kind", ["file", "link"])
    def test_what_cannot_be_read_does_not_keep_the_files(self, game: Game, kind: str) -> None:
        """A game without a box can put anything there."""
        game.write("last words")
        console = HostLayout(game.root).instance("alpha").console_dir
        shutil.rmtree(console)
        console.symlink_to("/") if kind == "link" else console.write_text("no folder")
        console_copier.finish_console(HostLayer(game.root), "alpha", CancelToken())
        assert not ConsoleLine.objects.exists()

    def test_what_may_pass_keeps_the_files(
        self, game: Game, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(*_: object) -> None:
            raise OSError(errno.EMFILE, "Too many open files")

        game.write("last words")
        monkeypatch.setattr(HostLayer, "read_console", fail)
        with pytest.raises(OSError, match="Too many"):
            console_copier.finish_console(HostLayer(game.root), "alpha", CancelToken())

    def test_who_cancels_ends_the_waiting(self, game: Game, failures: list[int]) -> None:
        game.write("last words")
        failures += range(1000)
        cancel = CancelToken()
        cancel.cancel()
        with pytest.raises(OperationCancelled):
            console_copier.finish_console(HostLayer(game.root), "alpha", cancel)


# --- Secrets, space ---------------------------------------------------------------------------


@pytest.mark.django_db
def test_the_servers_passwords_are_masked_also_those_it_was_started_with(
    game: Game, copier: ConsoleCopier, server: Server
) -> None:
    Server.objects.update(config='rcon_password "hunter2"', arguments="+sv_password sesame")
    game.write('echo "hunter2" and sesame', "Bad password hunter2")
    copier.copy()
    Server.objects.update(config='rcon_password "another1"')
    game.write("hunter2 another1")
    copier.copy()
    assert [line.line for line in stored()] == [
        'echo "********" and ********',
        "Bad password ********",
        "******** ********",
    ]


@pytest.mark.django_db
def test_a_new_worker_masks_the_passwords_that_a_server_runs_with(
    game: Game, copier: ConsoleCopier, server: Server
) -> None:
    """They were changed after the server was started, and the worker was started after that."""
    layer = game.instance.layers_dir / "1" / SERVER_CONFIG_PATH
    layer.parent.mkdir(parents=True)
    layer.write_text("rcon_password hunter2\n")
    argv = ["./srcds_run", "+sv_password", "sesame"]
    game.instance.launch_path.write_text(json.dumps({"argv": argv}))
    Server.objects.update(config='rcon_password "another1"')
    game.write("hunter2 another1 sesame")
    copier.copy()
    assert [line.line for line in stored()] == ["******** ******** ********"]


@pytest.mark.django_db
def test_the_passwords_in_its_fields_are_masked_also_after_a_change(
    game: Game, copier: ConsoleCopier, server: Server
) -> None:
    for secret, plain in (
        (ServerSecret.RCON_PASSWORD, "hunter2"),
        (ServerSecret.JOIN_PASSWORD, "sesame"),
    ):
        server.set_secret(secret, plain)
    server.save()
    game.write("hunter2 sesame")
    copier.copy()
    server.set_secret(ServerSecret.RCON_PASSWORD, "another1")
    server.save(update_fields=["rcon_password_token"])
    game.write("hunter2 another1")
    copier.copy()
    assert [line.line for line in stored()] == ["******** ********"] * 2


@pytest.mark.django_db
def test_what_is_stored_gives_its_space_on_the_host_back(
    game: Game, copier: ConsoleCopier, settings: Any
) -> None:
    settings.CONSOLE_KEEP_BYTES = 2_000_000
    path = game.instance.console_log_path(1)
    for _ in range(8):
        game.flood(1_000_000)
        copier.catch_up(Server.objects.get())
    status = path.stat()
    assert status.st_size > 7_000_000
    assert status.st_blocks * 512 < 5.5 * 1024**2
    lines = stored()
    assert [line.line for line in lines] == game.printed[-len(lines) :]
    assert lines[-1].seq == len(game.printed)
