"""Job logs: lines made safe, stored without a gap, and the job's end after the last of them."""

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from time import process_time

import pytest
from django.db import OperationalError, connection, transaction
from django.utils import timezone

from hostops.specs import CancelToken
from jobs.claimed_jobs import ClaimedJob
from jobs.logs import log_writer
from jobs.logs.finishing import Ending
from jobs.logs.job_output import Entries, LeaseLostError, append_job_log_line
from jobs.logs.log_writer import END_SECONDS, LogWriter
from jobs.logs.safe_lines import CUT_MARK, MASK, find_secrets, make_line_safe, mask_known
from jobs.models import Job, JobLog, JobStage, JobState, Worker
from jobs.queue.liveness import register_worker
from jobs.queue.requests import enqueue
from jobs.queue.transitions import claim_jobs
from jobs.worker.single_job import DirectLogWriter
from servers.models import Run, Server
from tests.jobs.logs.storing import StoringThread, storing
from tests.waiting import wait_until


@pytest.fixture
def job(server: Server) -> ClaimedJob:
    """Return a job that runs for this process."""
    enqueue("start", server=server, requested_by=None)
    worker = register_worker(server.host, concurrency=1, is_claiming=True)
    [job] = claim_jobs(worker, server.host, 1)
    return job


def claim_another(server: Server, name: str = "beta") -> ClaimedJob:
    """Return a job of another server that runs for the same worker."""
    other = Server.objects.create(
        name=name, owner=server.owner, host=server.host, blueprint=server.blueprint
    )
    enqueue("start", server=other, requested_by=None)
    [second] = claim_jobs(Worker.objects.get(), other.host, 1)
    return second


def lines_of(job: ClaimedJob) -> list[tuple[int, str, str]]:
    return list(JobLog.objects.filter(job_id=job.id).values_list("seq", "stream", "line"))


class TestSafeLines:
    @pytest.mark.parametrize(
        ("raw", "safe"),
        [
            ("plain", "plain"),
            ("", ""),
            ("ends with a line end\r\n", "ends with a line end"),
            ("nul\0inside", "nulinside"),
            ("two\nlines", "two lines"),
            (b"bad \xff utf-8", "bad � utf-8"),
            ("lone \udc80 surrogate", "lone ? surrogate"),
            ("tab\tand \x1b[31mcolour\x1b[0m stay", "tab\tand \x1b[31mcolour\x1b[0m stay"),
            ("Grüße, 日本語", "Grüße, 日本語"),
        ],
    )
    def test_what_a_database_or_a_browser_could_choke_on(self, raw: str | bytes, safe: str) -> None:
        assert make_line_safe(raw) == safe

    @pytest.mark.parametrize(
        ("raw", "secret"),
        [
            ("rcon_password hunter2", "hunter2"),
            ('rcon_password "hunter 2 and more"', "hunter 2 and more"),
            ("+rcon_password hunter2 +map c1m1_hotel", "hunter2"),
            ('"rcon_password" = "hunter2" ( def. "" )', "hunter2"),
            ("RCON_PASSWORD=hunter2", "hunter2"),
            ("sv_password 'hunter2'", "hunter2"),
            ("sv_setsteamaccount 0123456789ABCDEF0123456789ABCDEF", "0123456789ABCDEF"),
            ('"SV_SetSteamAccount" = "0123456789ABCDEF"', "0123456789ABCDEF"),
            ("tv_relaypassword relaysecret", "relaysecret"),
            ("-netconport 1 -netconpassword hunter2", "hunter2"),
            ("steamcmd.sh +login gabe hunter2 +app_update 222860", "hunter2"),
            ("['srcds_run', '+rcon_password', 'hunter2', '-norestart']", "hunter2"),
        ],
    )
    def test_passwords_are_masked(self, raw: str, secret: str) -> None:
        safe = make_line_safe(raw)
        assert secret not in safe
        assert MASK in safe

    @pytest.mark.parametrize(
        "line",
        [
            "+login anonymous +app_update 222860 validate",
            "Bad rcon_password.",
            'rcon from "127.0.0.1:47244": command "sv_password"',
            'sv_password ""',
            "+login gabe +app_update 222860",
        ],
    )
    def test_what_is_no_secret_stays(self, line: str) -> None:
        assert make_line_safe(line) == line

    def test_a_password_of_the_config_is_known_wherever_it_appears(self) -> None:
        config = 'rcon_password "correct horse"\nsv_password \'tank\' // hostname "Tanks"'
        secrets = find_secrets(config, "+map c1m1_hotel -netconpassword staple")
        assert secrets == {"correct horse", "tank", "staple"}
        said = "RCON from 10.0.0.9: [correct horse] refused (staple/tank)"
        assert mask_known(said, secrets) == f"RCON from 10.0.0.9: [{MASK}] refused ({MASK}/{MASK})"

    def test_a_password_with_a_nul_inside_is_masked_as_the_nul_is_not_stored(self) -> None:
        assert make_line_safe(mask_known("it is hun\0ter2", {"hunter2"})) == f"it is {MASK}"

    def test_a_very_short_password_does_not_mask_half_of_the_log(self) -> None:
        assert find_secrets("sv_password a") == frozenset()

    def test_a_line_of_blanks_behind_the_name_of_a_password_takes_no_time(self) -> None:
        line = f"rcon_password{' ' * 20_000};"
        began_at = process_time()
        assert make_line_safe(line, len(line)) == line
        assert find_secrets(line) == frozenset()
        assert process_time() - began_at < 2

    def test_a_long_line_is_cut_and_says_so(self) -> None:
        safe = make_line_safe("x" * 10_000)
        assert len(safe) == 4096
        assert safe.endswith(CUT_MARK)
        assert make_line_safe("x" * 4096) == "x" * 4096

    def test_a_secret_at_the_cut_is_masked_before(self) -> None:
        assert "hunter2" not in make_line_safe("x" * 4070 + " rcon_password hunter2 " + "y" * 50)


@pytest.mark.django_db
class TestAppending:
    def test_seqs_count_from_one(self, job: ClaimedJob) -> None:
        assert append_job_log_line(job.pk, "stdout", "a") == 1
        assert append_job_log_line(job.pk, "stderr", "b") == 2
        assert lines_of(job) == [(1, "stdout", "a"), (2, "stderr", "b")]

    def test_max_chars_is_the_callers(self, job: ClaimedJob) -> None:
        append_job_log_line(job.pk, "stdout", "x" * 100, max_chars=20)
        assert len(JobLog.objects.get().line) == 20

    def test_there_is_no_log_without_a_job(self, db: None) -> None:
        with pytest.raises(Job.DoesNotExist):
            append_job_log_line(4711, "stdout", "a")

    def test_a_job_that_is_not_ours_any_more_gets_no_line(self, job: ClaimedJob) -> None:
        Job.objects.update(state=JobState.FAILED)
        cancel = CancelToken()
        log = DirectLogWriter(job, cancel)
        log.line(job, "stdout", "too late")
        assert cancel.is_cancelled
        log.finish(job, Ending(JobState.SUCCEEDED, 0))
        assert lines_of(job) == []
        assert Job.objects.get().state == JobState.FAILED


@pytest.mark.django_db(transaction=True)
class TestConcurrency:
    def test_lines_appended_from_several_threads_have_no_gap_and_no_double(
        self, job: ClaimedJob
    ) -> None:
        def append(stream: str) -> None:
            for number in range(50):
                append_job_log_line(job.pk, stream, str(number))
            connection.close()

        run_together(append, "stdout", "stderr")
        rows = lines_of(job)
        assert [seq for seq, _, _ in rows] == list(range(1, 101))
        for stream in ("stdout", "stderr"):
            texts = [line for _, name, line in rows if name == stream]
            assert texts == [str(number) for number in range(50)]


def run_together(target: object, *arguments: str) -> None:
    threads = [threading.Thread(target=target, args=[argument]) for argument in arguments]  # type: ignore[arg-type]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def make_writer(
    has_jobs_ahead: Callable[[], bool], on_due: Callable[[], None] = lambda: None
) -> LogWriter:
    """Return a writer that tells nobody what became of a job."""
    return LogWriter(
        on_settled=lambda _job, _is_stored: None,
        on_given_up=lambda _job: None,
        on_due=on_due,
        has_jobs_ahead=has_jobs_ahead,
    )


@pytest.mark.django_db(transaction=True)
class TestWriter:
    @pytest.fixture
    def lost(self) -> list[ClaimedJob]:
        """Return the list of jobs of which nothing more is stored."""
        return []

    @pytest.fixture
    def thread(self, lost: list[ClaimedJob]) -> Iterator[StoringThread]:
        """Return a thread that stores what its writer collects."""
        with storing(lost.append, max_waiting=1000) as thread:
            yield thread

    @pytest.fixture
    def writer(self, thread: StoringThread) -> LogWriter:
        """Return the writer."""
        return thread.writer

    @pytest.fixture
    def finish(self, thread: StoringThread) -> Callable[[ClaimedJob], bool]:
        """Return a function that ends a job with success, and returns whether that was stored."""
        return lambda job: thread.finish(job, Ending(JobState.SUCCEEDED, 0))

    def test_lines_of_two_streams_are_stored_in_order_before_the_job_is_final(
        self, job: ClaimedJob, writer: LogWriter, finish: Callable[[ClaimedJob], bool]
    ) -> None:
        def write(stream: str) -> None:
            for number in range(3000):
                writer.line(job, stream, f"{number}")

        run_together(write, "stdout", "stderr")
        assert finish(job)
        rows = lines_of(job)
        assert [seq for seq, _, _ in rows] == list(range(1, 6001))
        for stream in ("stdout", "stderr"):
            texts = [line for _, name, line in rows if name == stream]
            assert texts == [str(number) for number in range(3000)]

    def test_a_line_is_stored_without_waiting_for_another(
        self, job: ClaimedJob, writer: LogWriter
    ) -> None:
        writer.line(job, "stdout", "alone")
        wait_until(lambda: lines_of(job), 5, "the line is not stored")

    def test_the_newest_stage_is_stored(
        self, job: ClaimedJob, writer: LogWriter, finish: Callable[[ClaimedJob], bool]
    ) -> None:
        for percent in range(101):
            writer.stage(job, "Downloading", percent)
        finish(job)
        row = Job.objects.get()
        assert (row.stage, row.progress) == ("Downloading", 100)

    def test_an_end_waits_for_others_only_while_there_is_more_to_do(
        self, job: ClaimedJob, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        now = 1000.0
        monkeypatch.setattr(log_writer, "monotonic", lambda: now)
        has_more = [True]
        told: list[int] = []
        writer = make_writer(lambda: has_more[0], on_due=lambda: told.append(1))
        writer.finish(job, Ending(JobState.SUCCEEDED, 0))
        assert not told
        assert writer.due_in_seconds() == pytest.approx(END_SECONDS)
        now += 2 * END_SECONDS
        assert writer.due_in_seconds() == 0
        now = 1000.0
        has_more[0] = False
        writer.finish(replace(job, id=job.id + 1), Ending(JobState.SUCCEEDED, 0))
        assert told
        assert writer.due_in_seconds() == 0
        # Meanwhile, jobs have been claimed that wait for a thread: their ends will come soon.
        has_more[0] = True
        assert writer.due_in_seconds() == pytest.approx(END_SECONDS)

    def test_an_end_that_came_during_a_long_transaction_waits_for_those_of_its_claims(
        self, job: ClaimedJob, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        now = 1000.0
        monkeypatch.setattr(log_writer, "monotonic", lambda: now)
        has_more = [False]
        writer = make_writer(lambda: has_more[0])
        writer.finish(job, Ending(JobState.SUCCEEDED, 0))
        assert writer.take_due() == 1
        writer.finish(replace(job, id=job.id + 1), Ending(JobState.SUCCEEDED, 0))
        now += 2 * END_SECONDS
        writer.settle_batch()
        has_more[0] = True
        assert writer.due_in_seconds() == pytest.approx(END_SECONDS)
        now += 1.01 * END_SECONDS
        assert writer.due_in_seconds() == 0

    def test_an_end_that_waits_is_seen_by_a_look_at_the_same_moment(self, job: ClaimedJob) -> None:
        looks: list[float] = []

        def ask() -> bool:
            if threading.current_thread() is not looking:
                looking.start()
                looking.join(0.2)
            return True

        writer = make_writer(ask)
        looking = threading.Thread(target=lambda: looks.append(writer.due_in_seconds()))
        writer.finish(job, Ending(JobState.SUCCEEDED, 0))
        looking.join()
        assert looks[0] <= END_SECONDS, "nobody would wake the storing thread for it"

    def test_two_jobs_do_not_mix(
        self,
        job: ClaimedJob,
        writer: LogWriter,
        finish: Callable[[ClaimedJob], bool],
        server: Server,
    ) -> None:
        second = claim_another(server)
        for number in range(10):
            writer.line(job, "stdout", f"a{number}")
            writer.line(second, "stdout", f"b{number}")
        assert finish(job)
        assert finish(second)
        assert [line for _, _, line in lines_of(second)] == [f"b{number}" for number in range(10)]
        assert [seq for seq, _, _ in lines_of(second)] == list(range(1, 11))

    def test_a_lost_lease_stops_the_output_and_is_told(
        self,
        job: ClaimedJob,
        writer: LogWriter,
        finish: Callable[[ClaimedJob], bool],
        lost: list[ClaimedJob],
    ) -> None:
        writer.line(job, "stdout", "ours")
        wait_until(lambda: lines_of(job), 5, "the line is not stored")
        Job.objects.update(state=JobState.FAILED, error="verdict")
        writer.line(job, "stdout", "too late")
        wait_until(lambda: lost, 5, "nobody was told")
        assert not finish(job)
        assert [line for _, _, line in lines_of(job)] == ["ours"]
        assert Job.objects.get().error == "verdict"

    def test_a_lost_lease_takes_no_other_job_with_it(
        self, job: ClaimedJob, server: Server, lost: list[ClaimedJob]
    ) -> None:
        settled: dict[int, bool] = {}
        writer = LogWriter(
            on_settled=lambda job, is_stored: settled.update({job.pk: is_stored}),
            on_given_up=lost.append,
        )
        second = claim_another(server)
        Job.objects.filter(pk=job.pk).update(state=JobState.FAILED, error="verdict")
        for one in (job, second):
            writer.line(one, "stdout", "said")
            writer.finish(one, Ending(JobState.SUCCEEDED, 0))
        writer.store()
        assert settled == {job.pk: False, second.pk: True}
        assert Job.objects.get(pk=second.pk).state == JobState.SUCCEEDED
        assert [line for _, _, line in lines_of(second)] == ["said"]
        assert lines_of(job) == []
        assert Job.objects.get(pk=job.pk).error == "verdict"

    def test_a_refused_batch_takes_back_what_else_is_in_its_transaction(
        self, job: ClaimedJob, server: Server, lost: list[ClaimedJob]
    ) -> None:
        """A worker claims in the same transaction, once the batch is stored."""
        settled: dict[int, bool] = {}
        writer = LogWriter(
            on_settled=lambda job, is_stored: settled.update({job.pk: is_stored}),
            on_given_up=lost.append,
        )
        second = claim_another(server)
        Job.objects.filter(pk=job.pk).update(state=JobState.FAILED, error="verdict")
        for one in (job, second):
            writer.finish(one, Ending(JobState.SUCCEEDED, 0))
        assert writer.take_due() == 2
        try:
            with transaction.atomic():
                Job.objects.filter(pk=second.pk).update(build_id="beside")
                writer.store_batch()
        except LeaseLostError as error:
            writer.store_apart(error)
        assert settled == {job.pk: False, second.pk: True}
        row = Job.objects.get(pk=second.pk)
        assert (row.build_id, row.state) == ("", JobState.SUCCEEDED)

    def test_while_the_database_is_away_lines_wait(
        self,
        job: ClaimedJob,
        writer: LogWriter,
        finish: Callable[[ClaimedJob], bool],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        is_away = threading.Event()
        is_away.set()
        failures = []
        store_output = Entries.store_output

        def store_or_fail(entries: Entries) -> None:
            if is_away.is_set():
                failures.append(entries)
                raise OperationalError("the database is away")
            store_output(entries)

        monkeypatch.setattr(Entries, "store_output", store_or_fail)
        for number in range(5):
            writer.line(job, "stdout", str(number))
        wait_until(lambda: failures, 5, "the writer did not try")
        is_away.clear()
        assert finish(job)
        assert [line for _, _, line in lines_of(job)] == list("01234")

    def test_a_commit_that_nobody_heard_of_is_not_made_twice(
        self,
        job: ClaimedJob,
        writer: LogWriter,
        finish: Callable[[ClaimedJob], bool],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        settle = LogWriter.settle_batch
        unheard: list[LogWriter] = []

        def settle_or_break_down(writer: LogWriter) -> None:
            if not unheard:
                unheard.append(writer)
                raise OperationalError("the connection broke behind the commit")
            settle(writer)

        monkeypatch.setattr(LogWriter, "settle_batch", settle_or_break_down)
        writer.stage(job, "Reading", None)
        for number in range(5):
            writer.line(job, "stdout", str(number))
        wait_until(lambda: unheard, 5, "nothing was stored")
        assert finish(job)
        assert [line for _, _, line in lines_of(job)] == list("01234")
        assert list(JobStage.objects.values_list("name", flat=True)) == ["Reading"]

    def test_a_flood_waits_instead_of_filling_the_memory(
        self, job: ClaimedJob, writer: LogWriter, finish: Callable[[ClaimedJob], bool]
    ) -> None:
        with transaction.atomic():
            # Nothing can be stored while this transaction is open.
            Job.objects.select_for_update().get(pk=job.pk)

            def flood() -> None:
                for number in range(5000):
                    writer.line(job, "stdout", str(number))

            thread = threading.Thread(target=flood)
            thread.start()
            wait_until(lambda: writer._waiting >= 1000, 5, "the flood has not come")
            assert thread.is_alive()
            assert writer._waiting <= 1000
        thread.join(30)
        assert finish(job)
        assert JobLog.objects.filter(job_id=job.id).count() == 5000

    def test_lines_that_cannot_be_stored_leave_a_marked_gap(
        self,
        job: ClaimedJob,
        writer: LogWriter,
        finish: Callable[[ClaimedJob], bool],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        store_output = Entries.store_output

        def refuse_one(entries: Entries) -> None:
            if any(text == "poison" for _, text, _ in entries.lines):
                raise ValueError("refused")
            store_output(entries)

        monkeypatch.setattr(Entries, "store_output", refuse_one)
        writer.line(job, "stdout", "poison")
        assert finish(job)
        assert lines_of(job) == [(1, "stderr", "[1 line could not be stored]")]

    def test_one_line_that_cannot_be_stored_takes_no_other_with_it(
        self,
        job: ClaimedJob,
        writer: LogWriter,
        finish: Callable[[ClaimedJob], bool],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        store_output = Entries.store_output

        def refuse_one(entries: Entries) -> None:
            if any(text == "poison" for _, text, _ in entries.lines):
                raise ValueError("refused")
            store_output(entries)

        monkeypatch.setattr(Entries, "store_output", refuse_one)
        texts = [*map(str, range(50)), "poison", *map(str, range(50, 120))]
        # Before the writer looks, so that they come in one batch.
        with writer._changed:
            for text in texts:
                writer.line(job, "stdout", text)
        assert finish(job)
        told = ["[1 line could not be stored]" if text == "poison" else text for text in texts]
        assert [line for _, _, line in lines_of(job)] == told
        assert Job.objects.get().state == JobState.SUCCEEDED

    def test_a_database_that_refuses_everything_gives_the_job_up(
        self,
        job: ClaimedJob,
        writer: LogWriter,
        finish: Callable[[ClaimedJob], bool],
        lost: list[ClaimedJob],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        def refuse(entries: Entries) -> None:
            raise ValueError("refused")

        monkeypatch.setattr(Entries, "store_output", refuse)
        for number in range(1000):
            writer.line(job, "stdout", str(number))
        assert not finish(job)
        # A job whose lines are dropped already is settled without waiting for the thread that drops them.
        wait_until(lambda: lost, 5, "nobody was told")
        assert [given_up.pk for given_up in lost] == [job.pk]

    @pytest.mark.parametrize("position", [0, 1, 2])
    def test_what_is_refused_at_the_commit_takes_no_other_job_with_it(
        self, job: ClaimedJob, server: Server, lost: list[ClaimedJob], position: int
    ) -> None:
        """The run of a server that is gone: its foreign key is checked only then."""
        settled: dict[int, bool] = {}
        writer = LogWriter(
            on_settled=lambda job, is_stored: settled.update({job.pk: is_stored}),
            on_given_up=lost.append,
        )
        jobs = [job, claim_another(server, "beta"), claim_another(server, "gamma")]
        servers = Server.objects.in_bulk()
        for one in jobs:
            writer.line(one, "stdout", "said")
            run = Run(server=servers[one.server_id or 0])
            writer.finish(one, Ending(JobState.SUCCEEDED, 0, run=run))
        Server.objects.filter(jobs=jobs[position].id).delete()
        writer.store()
        assert settled == {one.pk: True for one in jobs}
        assert set(Job.objects.values_list("state", flat=True)) == {JobState.SUCCEEDED}
        assert [lines_of(one) for one in jobs] == [[(1, "stdout", "said")]] * 3
        assert Run.objects.count() == 2

    def test_an_end_that_is_refused_takes_no_line_with_it(
        self, job: ClaimedJob, thread: StoringThread, lost: list[ClaimedJob]
    ) -> None:
        # Before the writer looks, so that they come in one batch.
        with thread.writer._changed:
            for text in ("first", "last"):
                thread.writer.line(job, "stdout", text)
            thread.writer.finish(job, Ending(JobState.FAILED, 10**30))
        wait_until(lambda: job.pk in thread.settled, 10, "the job was not settled")
        assert thread.settled == {job.pk: False}
        assert [given_up.pk for given_up in lost] == [job.pk]
        assert [line for _, _, line in lines_of(job)] == ["first", "last"]

    def test_few_long_lines_wait_as_many_short_ones_do(
        self, job: ClaimedJob, lost: list[ClaimedJob]
    ) -> None:
        thread = StoringThread(lost.append, max_waiting_chars=10_000)
        writer = thread.writer
        finished = threading.Event()

        def flood() -> None:
            for _ in range(100):
                writer.line(job, "stdout", "x" * 4000)
            finished.set()

        flooding = threading.Thread(target=flood)
        flooding.start()
        wait_until(lambda: writer._waiting == 3, 5, "the flood has not come")
        assert not finished.is_set()
        thread.start()
        flooding.join(30)
        thread.stop()
        assert JobLog.objects.filter(job_id=job.id).count() == 100

    def test_every_line_of_a_flood_has_a_time_in_order(
        self, job: ClaimedJob, writer: LogWriter, finish: Callable[[ClaimedJob], bool]
    ) -> None:
        began = timezone.now() - timedelta(milliseconds=1)
        for number in range(5000):
            writer.line(job, "stdout", str(number))
        assert finish(job)
        times = list(JobLog.objects.filter(job_id=job.id).values_list("created_at", flat=True))
        assert times == sorted(times)
        assert began <= times[0]
        assert times[-1] <= timezone.now()
