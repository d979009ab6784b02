"""The streams: replay, resume, live, end; nothing is lost and nothing doubled, however they are watched."""

import asyncio
import gc
import json
import random
import re
import runpy
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import aclosing, closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import monotonic
from types import SimpleNamespace
from typing import Any, cast
from unittest.mock import Mock, patch

import pytest
from asgiref.sync import sync_to_async
from asgiref.testing import ApplicationCommunicator
from django.conf import settings
from django.contrib.auth.models import User
from django.core.signals import request_finished
from django.db import OperationalError, connection, connections, transaction
from django.test import AsyncClient, override_settings
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone
from hypothesis import HealthCheck, given
from hypothesis import settings as settings_of_hypothesis
from hypothesis import strategies as st

from jobs.database import Channel, announce
from jobs.live import fan_out, streams, topic_reader
from jobs.live.fan_out import Hub
from jobs.live.topic_reader import Reader
from jobs.live.topics import ChangesTopic, ConsoleTopic, JobTopic, Topic, format_event
from jobs.logs.job_output import insert_lines
from jobs.models import Job, JobState
from l4d2site.asgi import serve
from servers.models import ConsoleLine, Server
from tests.states import record_state
from tests.waiting import wait_until

SEQ = re.compile(rb"^id: (\d+)$", re.MULTILINE)

pytestmark = pytest.mark.django_db(transaction=True)


@dataclass(frozen=True)
class Event:
    """One Server-Sent Event as a browser understands it."""

    name: str
    data: str
    seq: int | None


def parse(payload: bytes) -> list[Event]:
    """Split what a stream sent into its events; comments and retry hints are not events."""
    events = []
    for block in payload.decode().split("\n\n"):
        fields = [line.partition(": ")[::2] for line in block.split("\n")]
        data = [value for name, value in fields if name == "data"]
        values = dict(fields)
        if data:
            seq = int(values["id"]) if "id" in values else None
            events.append(Event(values.get("event", "message"), "\n".join(data), seq))
    return events


async def follow(
    topic: Topic, after: int = 0, until: Callable[[list[Event]], bool] = lambda _: False
) -> list[Event]:
    """Collect a topic's events until it ends or `until` returns true."""
    events: list[Event] = []

    async def collect() -> None:
        async with aclosing(Hub.of_running_loop().watch(topic, after)) as stream:
            async for payload in stream:
                events.extend(parse(payload))
                if until(events):
                    return

    await asyncio.wait_for(collect(), 30)
    return events


def run(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine in its own event loop; no thread keeps a connection afterwards."""

    async def run_and_close() -> Any:
        try:
            return await coroutine
        finally:
            await sync_to_async(connections.close_all)()

    result = asyncio.run(run_and_close())
    wait_until(lambda: not readers(), 10, "a reader is still there")
    return result


def readers() -> list[threading.Thread]:
    """Return the hubs' reading threads."""
    return [thread for thread in threading.enumerate() if thread.name == "stream-reader"]


@pytest.fixture
def job(server: Server) -> Job:
    """Return a running job without a line."""
    return Job.objects.create(operation="start", server=server, state=JobState.RUNNING)


@pytest.fixture
def collector_as_served(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Configure this process as gunicorn configures the serving one, and undo that afterwards."""
    before = gc.get_threshold()
    gc.set_threshold(700, 10, 10)  # Python's own: the tests run it less often.
    monkeypatch.setattr(fan_out.server_stop, "_ask", lambda: False)
    configuration = runpy.run_path(str(settings.BASE_DIR / "deploy/gunicorn.conf.py"))
    log = SimpleNamespace(error_log=SimpleNamespace(handlers=[]))
    configuration["post_worker_init"](SimpleNamespace(alive=True, log=log))
    yield
    gc.set_threshold(*before)


def write(job: Job, first: int, last: int, stream: str = "stdout") -> None:
    """Store the lines `first` to `last`; each consists of its number."""
    lines = [(stream, str(number), timezone.now()) for number in range(first, last + 1)]
    with transaction.atomic():
        insert_lines(job.pk, lines)
        announce(Channel.PAGES)


def finish(job: Job) -> None:
    now = timezone.now()
    with transaction.atomic():
        Job.objects.filter(pk=job.pk).update(
            state=JobState.SUCCEEDED, exit_code=0, finished_at=now, updated_at=now
        )
        announce(Channel.PAGES)


def in_thread(action: Callable[[], None]) -> threading.Thread:
    def act() -> None:
        action()
        connection.close()

    thread = threading.Thread(target=act)
    thread.start()
    return thread


def is_longer(count: int, events: list[Event]) -> bool:
    return len(events) > count


def has_more(values: list[int], count: int) -> bool:
    return len(values) > count


async def wait_for(predicate: Callable[[], bool]) -> None:
    """Wait in the event loop until `predicate` is true."""
    await sync_to_async(wait_until, thread_sensitive=False)(predicate, 10, "it did not happen")


def line_numbers(events: list[Event]) -> list[int]:
    return [int(event.data) for event in events if event.name in ("stdout", "stderr")]


class TestJobStream:
    def test_a_finished_job_is_replayed_whole_and_ends(self, job: Job, settings: Any) -> None:
        settings.JOB_LOG_REPLAY_LIMIT = 7
        write(job, 1, 20)
        write(job, 21, 40, "stderr")
        finish(job)
        events = run(follow(JobTopic(job.pk)))
        assert [event.seq for event in events[:40]] == list(range(1, 41))
        assert line_numbers(events) == list(range(1, 41))
        assert {event.name for event in events[:20]} == {"stdout"}
        assert {event.name for event in events[20:40]} == {"stderr"}
        state, end = events[40:]
        assert state.name == "state"
        assert json.loads(state.data)["state"] == "succeeded"
        assert json.loads(state.data)["is_final"] is True
        assert end.name == "end"

    @pytest.mark.parametrize("after", [0, 1, 6, 7, 8, 39, 40, 41])
    def test_it_resumes_behind_any_line(self, job: Job, settings: Any, after: int) -> None:
        settings.JOB_LOG_REPLAY_LIMIT = 7
        write(job, 1, 40)
        finish(job)
        events = run(follow(JobTopic(job.pk), after))
        assert line_numbers(events) == list(range(after + 1, 41))
        assert events[-1].name == "end"

    def test_live_lines_arrive_and_the_end_comes_after_the_last(self, job: Job) -> None:
        write(job, 1, 3)

        def go_on() -> None:
            for number in range(4, 200):
                write(job, number, number)
            finish(job)

        async def scenario() -> list[Event]:
            thread = in_thread(go_on)
            events = await follow(JobTopic(job.pk))
            thread.join()
            return events

        events = run(scenario())
        assert line_numbers(events) == list(range(1, 200))
        assert [event.name for event in events[-2:]] == ["state", "end"]

    def test_stage_and_progress_are_told(self, job: Job) -> None:
        def go_on() -> None:
            Job.objects.update(stage="Downloading", progress=42)

        def has_stage(events: list[Event]) -> bool:
            return any("Downloading" in event.data for event in events)

        async def scenario() -> list[Event]:
            events = asyncio.ensure_future(follow(JobTopic(job.pk), until=has_stage))
            in_thread(go_on).join()
            return await events

        state = json.loads(run(scenario())[-1].data)
        assert (state["stage"], state["progress"], state["state"]) == ("Downloading", 42, "running")

    def test_many_watchers_cutting_at_random_get_every_line_once(
        self, job: Job, settings: Any
    ) -> None:
        settings.JOB_LOG_REPLAY_LIMIT = 50
        random.seed(222860)
        total = 3000

        def go_on() -> None:
            for first in range(1, total, 30):
                write(job, first, min(first + 29, total))
            finish(job)

        async def watcher() -> list[int]:
            seen: list[int] = []
            while True:
                cut = len(seen) + random.randint(1, 400)
                events = await follow(JobTopic(job.pk), len(seen), partial(is_longer, cut))
                seen += line_numbers(events)
                if events and events[-1].name == "end":
                    return seen

        async def scenario() -> list[list[int]]:
            thread = in_thread(go_on)
            results = await asyncio.gather(*(watcher() for _ in range(20)))
            thread.join()
            return results

        for seen in run(scenario()):
            assert seen == list(range(1, total + 1))

    def test_a_slow_watcher_loses_nothing(
        self, job: Job, monkeypatch: pytest.MonkeyPatch, settings: Any
    ) -> None:
        monkeypatch.setattr(fan_out, "KEPT_BYTES", 2000)
        settings.JOB_LOG_REPLAY_LIMIT = 20

        async def scenario() -> list[Event]:
            events: list[Event] = []
            async with aclosing(Hub.of_running_loop().watch(JobTopic(job.pk), 0)) as stream:
                events += parse(await anext(stream))
                # While it holds the stream, far more is written and read than is kept for it.
                await sync_to_async(write)(job, 1, 500)
                await follow(JobTopic(job.pk), 400, lambda seen: len(line_numbers(seen)) == 100)
                await sync_to_async(finish)(job)
                async for payload in stream:
                    events += parse(payload)
            return events

        assert line_numbers(run(scenario())) == list(range(1, 501))

    def test_a_deleted_job_ends_its_stream(self, job: Job) -> None:
        job_id = job.pk
        job.delete()
        assert run(follow(JobTopic(job_id)))[-1].name == "end"

    def test_any_number_of_watchers_cost_one_reader(
        self, job: Job, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        reads = []
        read_batch = JobTopic.read_batch

        def count(topic: JobTopic, after: int, until: int | None = None) -> Any:
            reads.append(after)
            return read_batch(topic, after, until)

        monkeypatch.setattr(JobTopic, "read_batch", count)

        def go_on() -> None:
            write(job, 1, 10)
            finish(job)

        async def scenario(watchers: int) -> list[list[Event]]:
            tasks = [asyncio.ensure_future(follow(JobTopic(job.pk))) for _ in range(watchers)]
            feeds = Hub.of_running_loop()._feeds
            await wait_for(
                lambda: any(f.is_ready and f.watchers == watchers for f in feeds.values())
            )
            in_thread(go_on).join()
            return await asyncio.gather(*tasks)

        results = run(scenario(200))
        assert all(line_numbers(events) == list(range(1, 11)) for events in results)
        assert len(reads) < 20

    def test_nothing_is_left_behind_when_the_last_watcher_leaves(self, job: Job) -> None:
        async def scenario() -> None:
            hub_here = Hub.of_running_loop()
            await follow(JobTopic(job.pk), until=bool)
            assert hub_here._feeds == {}
            assert hub_here.watchers == 0
            await wait_for(lambda: hub_here._reader is None)

        run(scenario())

    def test_streams_end_without_the_last_event_when_the_server_stops(
        self, job: Job, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def scenario() -> list[Event]:
            events = asyncio.ensure_future(follow(JobTopic(job.pk)))
            await asyncio.sleep(0)
            monkeypatch.setattr(fan_out.server_stop, "_ask", lambda: True)
            return await events

        assert [event.name for event in run(scenario())] in ([], ["state"])


class TestOtherStreams:
    def test_console_lines_are_default_events(self, server: Server) -> None:
        for seq in (5, 6):
            ConsoleLine.objects.create(
                server=server, seq=seq, line=f"line {seq}", created_at=timezone.now()
            )
        Server.objects.update(console_seq=6)
        events = run(follow(ConsoleTopic(server.pk), until=lambda events: len(events) == 2))
        assert events == [Event("message", "line 5", 5), Event("message", "line 6", 6)]

    def test_a_removed_server_ends_its_console(self, server: Server) -> None:
        server_id = server.pk
        server.delete()
        assert run(follow(ConsoleTopic(server_id)))[-1].name == "end"

    def test_a_change_is_told_to_who_may_see_it(
        self, server: Server, alice: User, bob: User
    ) -> None:
        async def scenario() -> tuple[list[Event], bool]:
            two = asyncio.ensure_future(follow(ChangesTopic(alice.pk), until=lambda e: len(e) == 2))
            three = asyncio.ensure_future(follow(ChangesTopic(bob.pk), until=lambda e: len(e) == 2))
            feeds = Hub.of_running_loop()._feeds
            await wait_for(lambda: len(feeds) == 2 and all(f.is_ready for f in feeds.values()))
            await sync_to_async(record_state)(server, "running")
            events = await two
            await asyncio.sleep(0.1)
            was_told = three.done()
            three.cancel()
            return events, was_told

        events, was_stranger_told = run(scenario())
        assert [event.name for event in events] == ["change", "change"]
        assert events[0].data != events[1].data
        assert not was_stranger_told


class TestHttp:
    @pytest.fixture(autouse=True)
    def close_connections(self) -> Iterator[None]:
        """Close the connection of each request's thread, as Django does but its test client does not."""

        def close(**_: object) -> None:
            if connection.connection:
                connection.close()

        request_finished.connect(close)
        yield
        request_finished.disconnect(close)

    def read_all(self, path: str, user: User | None, **headers: str) -> tuple[int, list[Event]]:
        async def scenario() -> tuple[int, list[Event]]:
            client = AsyncClient()
            if user:
                await client.aforce_login(user)
            response = await client.get(path, headers=headers)
            if not response.streaming:
                return response.status_code, []
            body = cast("AsyncIterator[bytes]", response)
            return response.status_code, parse(b"".join([part async for part in body]))

        return cast("tuple[int, list[Event]]", run(scenario()))

    def test_the_header_wins_over_the_address(self, job: Job, alice: User) -> None:
        write(job, 1, 10)
        finish(job)
        path = f"/jobs/{job.pk}/events"
        assert line_numbers(self.read_all(path, alice)[1]) == list(range(1, 11))
        assert line_numbers(self.read_all(f"{path}?after=4", alice)[1]) == list(range(5, 11))
        resumed = self.read_all(f"{path}?after=4", alice, **{"Last-Event-ID": "8"})
        assert line_numbers(resumed[1]) == [9, 10]

    @pytest.mark.parametrize("position", ["x", "-1", "1.5", "\uff19", "1" * 30])
    def test_a_position_that_is_none_is_refused(self, job: Job, alice: User, position: str) -> None:
        assert self.read_all(f"/jobs/{job.pk}/events?after={position}", alice)[0] == 400

    def test_who_may_not_see_the_job_does_not_learn_that_a_position_is_none(
        self, job: Job, bob: User
    ) -> None:
        path = f"/jobs/{job.pk}/events"
        assert self.read_all(f"{path}?after=x", bob)[0] == self.read_all(path, bob)[0] == 404

    def test_who_may_not_see_the_job_gets_no_stream(self, job: Job, bob: User) -> None:
        assert self.read_all(f"/jobs/{job.pk}/events", bob)[0] == 404
        assert self.read_all(f"/jobs/{job.pk}/events", None)[0] == 403


def test_a_line_break_does_not_end_an_event() -> None:
    (event,) = parse(format_event("one\ntwo\rthree", event="stdout", seq=1).encode())
    assert event == Event("stdout", "one\ntwo three", 1)


class TestReader:
    def test_who_comes_while_the_last_one_goes_is_served(self, job: Job) -> None:
        write(job, 1, 3)

        async def scenario() -> None:
            for _ in range(100):
                events = await follow(JobTopic(job.pk), until=partial(is_longer, 2))
                assert line_numbers(events) == [1, 2, 3]

        run(scenario())

    def test_a_topic_that_cannot_be_read_leaves_the_others_alone(
        self, job: Job, server: Server, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        read_head = JobTopic.read_head

        def refuse_one(topic: JobTopic) -> int:
            if topic.job_id == job.pk:
                raise ValueError("this one cannot be read")
            return read_head(topic)

        monkeypatch.setattr(JobTopic, "read_head", refuse_one)
        other = Job.objects.create(operation="stop", server=server, state=JobState.QUEUED)
        write(other, 1, 3)

        async def scenario() -> list[Event]:
            broken = asyncio.ensure_future(follow(JobTopic(job.pk)))
            events = await follow(JobTopic(other.pk), until=partial(is_longer, 2))
            broken.cancel()
            return events

        assert line_numbers(run(scenario())) == [1, 2, 3]

    def test_a_database_that_is_away_for_a_while_ends_no_stream(
        self, job: Job, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        is_away = threading.Event()
        failures = []
        read_snapshots = JobTopic.read_snapshots

        def read_or_fail(topics: list[JobTopic]) -> Any:
            if is_away.is_set():
                failures.append(topics)
                raise OperationalError("the database is away")
            return read_snapshots(topics)

        monkeypatch.setattr(JobTopic, "read_snapshots", staticmethod(read_or_fail))
        write(job, 1, 3)

        async def scenario() -> list[Event]:
            events = asyncio.ensure_future(follow(JobTopic(job.pk)))
            feeds = Hub.of_running_loop()._feeds
            await wait_for(lambda: any(feed.is_ready for feed in feeds.values()))
            is_away.set()
            await sync_to_async(write)(job, 4, 6)
            await wait_for(lambda: len(failures) > 1)
            is_away.clear()
            await sync_to_async(finish)(job)
            return await events

        assert line_numbers(run(scenario())) == [1, 2, 3, 4, 5, 6]

    def test_a_database_that_is_away_ends_no_stream_that_is_behind(
        self, job: Job, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        failures: list[int] = []
        read_for_one = fan_out.read_for_one

        def read_or_fail(*arguments: Any) -> Any:
            if len(failures) < 2:
                failures.append(1)
                raise OperationalError("the database is away")
            return read_for_one(*arguments)

        monkeypatch.setattr(fan_out, "read_for_one", read_or_fail)
        monkeypatch.setattr(fan_out, "REPLAY_PAUSE_SECONDS", 0.01)
        write(job, 1, 3)
        finish(job)

        async def scenario() -> list[Event]:
            return await follow(JobTopic(job.pk))

        assert line_numbers(run(scenario())) == [1, 2, 3]
        assert len(failures) == 2

    @pytest.mark.skipif(not settings.IS_SQLITE, reason="PostgreSQL's files are its own")
    def test_a_file_that_takes_the_place_of_the_database_is_read(
        self, job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The reader's connection would keep the file that was removed for as long as a stream is open."""
        before, after = tmp_path / "before", tmp_path / "after"
        with closing(sqlite3.connect(connection.settings_dict["NAME"])) as source:
            for path in (before, after):
                with closing(sqlite3.connect(path)) as copy:
                    source.backup(copy)
        with closing(sqlite3.connect(after)) as copy, copy:
            copy.execute("UPDATE jobs_job SET stage = 'put back'")
        connection.close()
        monkeypatch.setitem(connection.settings_dict, "NAME", str(before))
        reader = Reader(Mock(), Mock(), is_stopping=lambda: False)
        try:
            assert reader._wait_for_change(), "the signal is not open yet"
            assert Job.objects.get().stage == ""
            for path in tmp_path.glob("before-*"):
                path.unlink()
            after.rename(before)
            monkeypatch.setattr(topic_reader, "FALLBACK_SECONDS", 60.0)
            began_at = monotonic()
            assert reader._wait_for_change()
            assert monotonic() - began_at < 5
            assert Job.objects.get().stage == "put back"
        finally:
            reader._forget_signal()
            connection.close()

    def test_a_silent_stream_is_kept_alive(self, job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(fan_out, "PING_SECONDS", 0.05)
        monkeypatch.setattr(topic_reader, "FALLBACK_SECONDS", 0.1)

        async def scenario() -> None:
            pings = 0
            async with aclosing(Hub.of_running_loop().watch(JobTopic(job.pk), 0)) as stream:
                async for payload in stream:
                    pings += payload == fan_out.PING
                    if pings == 3:
                        return

        run(asyncio.wait_for(scenario(), 20))

    def test_any_number_of_people_cost_as_many_queries_as_one(
        self, server: Server, alice: User, bob: User, django_assert_num_queries: Any
    ) -> None:
        with CaptureQueriesContext(connection) as one:
            ChangesTopic.read_snapshots([ChangesTopic(alice.pk)])
        people = [
            ChangesTopic(None),
            ChangesTopic(alice.pk),
            *map(ChangesTopic, range(10**9, 10**9 + 1000)),
        ]
        with django_assert_num_queries(len(one)):
            admin, owner, *strangers = ChangesTopic.read_snapshots(people)
        assert len({admin, owner, strangers[0]}) >= 2
        assert set(strangers) == {strangers[0]}


class TestCrowd:
    def test_two_thousand_watchers_see_everything_for_the_price_of_one(
        self, job: Job, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        reads = []
        read_batch = JobTopic.read_batch

        def count(topic: JobTopic, after: int, until: int | None = None) -> Any:
            reads.append(after)
            return read_batch(topic, after, until)

        monkeypatch.setattr(JobTopic, "read_batch", count)

        def go_on() -> None:
            for first in range(1, 401, 20):
                write(job, first, first + 19)
            finish(job)

        async def last_seq(topic: Topic) -> int:
            """Follow to the end, and check that nothing is missing; parse as little as that needs."""
            seqs: list[int] = []
            async with aclosing(Hub.of_running_loop().watch(topic, 0)) as stream:
                async for payload in stream:
                    seqs += [int(seq) for seq in SEQ.findall(payload)]
            assert seqs == list(range(1, len(seqs) + 1))
            return len(seqs)

        async def scenario() -> list[int]:
            here = Hub.of_running_loop()
            tasks = [asyncio.ensure_future(last_seq(JobTopic(job.pk))) for _ in range(2000)]
            await wait_for(lambda: here.watchers == 2000)
            thread = in_thread(go_on)
            counts = await asyncio.gather(*tasks)
            thread.join()
            assert here.watchers == 0
            return counts

        assert run(scenario()) == [400] * 2000
        assert len(reads) < 100

    def test_the_reader_continues_once_all_have_been_served(
        self, job: Job, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        waiting: list[int] = []
        answer = Hub._answer

        def count_waiting(hub: Hub, *arguments: Any) -> None:
            waiting.append(sum(len(feed.news._waiters) for feed in hub._feeds.values()))
            answer(hub, *arguments)

        monkeypatch.setattr(Hub, "_answer", count_waiting)

        async def scenario() -> None:
            here, topic = Hub.of_running_loop(), JobTopic(job.pk)
            tasks = [asyncio.ensure_future(follow(topic)) for _ in range(20)]
            # A line stored before the first read is read by the watchers themselves, who do not wait then.
            await wait_for(lambda: waiting[-1:] == [20] and here._feeds[topic].is_ready)
            waiting.clear()
            for number in (1, 2):
                rounds = len(waiting)
                in_thread(partial(write, job, number, number)).join()
                await wait_for(partial(has_more, waiting, rounds + 1))
            assert set(waiting) == {20}
            in_thread(partial(finish, job)).join()
            assert [line_numbers(events) for events in await asyncio.gather(*tasks)] == [
                [1, 2]
            ] * 20

        run(scenario())

    @pytest.mark.usefixtures("collector_as_served")
    @pytest.mark.parametrize("watchers", [streams.MAX_WATCHERS if settings.IS_SQLITE else 2000])
    def test_lines_that_a_crowd_gets_do_not_run_the_garbage_collector(
        self, job: Job, watchers: int
    ) -> None:
        lines = 20
        seen = [0] * watchers

        def all_have_seen(number: int) -> bool:
            return min(seen) >= number

        def tell(number: int) -> None:
            write(job, number, number)
            wait_until(partial(all_have_seen, number), 30, "not all have seen a line")

        def count_collections() -> int:
            count: int = gc.get_stats()[0]["collections"]
            return count

        async def count_lines(index: int) -> None:
            async with aclosing(Hub.of_running_loop().watch(JobTopic(job.pk), 0)) as stream:
                async for payload in stream:
                    seen[index] += payload.count(b"id: ")

        async def scenario() -> int:
            here = Hub.of_running_loop()

            def all_wait() -> bool:
                return sum(len(feed.news._waiters) for feed in here._feeds.values()) == watchers

            def go_on() -> None:
                for number in range(2, lines + 2):
                    tell(number)

            tasks = [asyncio.ensure_future(count_lines(index)) for index in range(watchers)]
            await wait_for(lambda: here.watchers == watchers)
            # The first line, because beginning takes each of them some objects.
            await sync_to_async(in_thread(partial(tell, 1)).join, thread_sensitive=False)()
            await wait_for(all_wait)
            before = count_collections()
            await sync_to_async(in_thread(go_on).join, thread_sensitive=False)()
            assert all_have_seen(lines + 1)
            collections = count_collections() - before
            in_thread(partial(finish, job)).join()
            await asyncio.gather(*tasks)
            return collections

        collections = run(scenario())
        assert collections <= lines // 5

    def test_beyond_the_limit_a_stream_is_refused_for_now(
        self, job: Job, alice: User, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(streams, "MAX_WATCHERS", 0)

        async def scenario() -> Any:
            client = AsyncClient()
            await client.aforce_login(alice)
            return await client.get(f"/jobs/{job.pk}/events")

        response = run(scenario())
        assert response.status_code == 503
        assert int(response["Retry-After"]) > 0

    @override_settings(STREAMS_PER_PERSON=3)
    def test_one_person_has_so_many_and_gets_them_back(
        self, job: Job, alice: User, bob: User
    ) -> None:
        async def ask(client: AsyncClient) -> Any:
            return await client.get("/events")

        async def scenario() -> list[int]:
            hers, his, here = AsyncClient(), AsyncClient(), Hub.of_running_loop()
            await hers.aforce_login(alice)
            await his.aforce_login(bob)
            # Each in its own task, as in a web server; a stream that nobody reads ends with its task.
            first = await asyncio.gather(*(ask(hers) for _ in range(5)), ask(his))
            assert here.open_streams.total == 0
            places = [here.open_streams.add(alice.pk) for _ in range(3)]
            refused = await ask(hers)
            # One that is read ends when its reader leaves.
            stream = here.watch(ChangesTopic(alice.pk), 0, None, places[0])
            await anext(stream)
            await stream.aclose()
            again = await ask(hers)
            return [one.status_code for one in (*first, refused, again)]

        statuses = run(scenario())
        assert sorted(statuses[:5]) == [200] * 3 + [429] * 2
        assert statuses[5:] == [200, 429, 200]

    def test_a_stream_holds_no_thread(self, job: Job, alice: User) -> None:
        async def scenario() -> int:
            client = AsyncClient()
            await client.aforce_login(alice)
            cookie = f"sessionid={client.cookies['sessionid'].value}".encode()
            scope = {
                "type": "http",
                "http_version": "1.1",
                "method": "GET",
                "path": f"/jobs/{job.pk}/events",
                "query_string": b"",
                "headers": [(b"host", b"localhost"), (b"cookie", cookie)],
            }
            communicator: Any = ApplicationCommunicator
            before = threading.active_count()
            requests: list[Any] = [communicator(serve, scope) for _ in range(50)]
            for request in requests:
                await request.send_input({"type": "http.request"})
                answer = await request.receive_output(10)
                assert answer["status"] == 200
            during = threading.active_count()
            for request in requests:
                await request.send_input({"type": "http.disconnect"})
            here = Hub.of_running_loop()
            await wait_for(lambda: here.watchers == 0)
            for request in requests:
                await request.wait(10)
            return during - before

        # The reader, asgiref's single thread, and those that catch up.
        assert run(scenario()) <= 6

    @pytest.mark.parametrize(
        ("name", "arguments"), [("change_events", []), ("events", [1]), ("console_events", ["a"])]
    )
    def test_every_address_of_a_stream_is_known_as_one(
        self, name: str, arguments: list[Any]
    ) -> None:
        assert reverse(f"jobs:{name}", args=arguments).endswith("/events")


@given(
    writes=st.lists(st.integers(1, 40), min_size=1, max_size=8),
    cuts=st.lists(st.integers(1, 6), max_size=10),
    limit=st.integers(1, 30),
    kept_bytes=st.integers(0, 3000),
    sent_bytes=st.integers(1, 3000),
)
@settings_of_hypothesis(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_whoever_is_cut_off_anywhere_gets_every_line_once(
    server: Server,
    writes: list[int],
    cuts: list[int],
    limit: int,
    kept_bytes: int,
    sent_bytes: int,
) -> None:
    Job.objects.all().delete()
    job = Job.objects.create(operation="start", server=server, state=JobState.RUNNING)
    total = sum(writes)

    def go_on() -> None:
        last = 0
        for size in writes:
            write(job, last + 1, last + size)
            last += size
        finish(job)

    async def watch_once(after: int, payloads: int | None) -> list[Event]:
        """Take this many pieces of what is sent, or all; then leave, in the middle of whatever comes."""
        events: list[Event] = []
        async with aclosing(Hub.of_running_loop().watch(JobTopic(job.pk), after)) as stream:
            async for payload in stream:
                events += parse(payload)
                if payloads is not None and (payloads := payloads - 1) == 0:
                    break
        return events

    async def scenario() -> list[int]:
        seen: list[int] = []
        thread = in_thread(go_on)
        for cut in [*cuts, None]:
            seen += line_numbers(await watch_once(len(seen), cut))
        thread.join()
        return seen

    with (
        patch.object(fan_out, "KEPT_BYTES", kept_bytes),
        patch.object(fan_out, "SENT_BYTES", sent_bytes),
        override_settings(JOB_LOG_REPLAY_LIMIT=limit),
    ):
        assert run(scenario()) == list(range(1, total + 1))
