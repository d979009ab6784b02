"""What a page follows in one stream: lines with their times, stages where they begin, and changes."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client, override_settings
from django.utils import timezone

from jobs.live import rendered_commands
from jobs.live.change_versions import read_versions
from jobs.live.page_topics import PageTopic
from jobs.live.topics import ChangesTopic, ConsoleTopic, JobTopic, Snapshot
from jobs.models import Job, JobLog, JobStage, JobState
from servers.models import ConsoleLine, Server, note_news

EVENING = datetime(2026, 1, 1, 20, 0, 0, tzinfo=UTC)


@pytest.fixture
def job(server: Server) -> Job:
    """Return a running job with four lines, the last two a second after the others."""
    job = Job.objects.create(operation="start", server=server, state=JobState.RUNNING)
    for seq, milliseconds in enumerate((0, 999, 1000, 1001), start=1):
        JobLog.objects.create(
            job=job,
            seq=seq,
            stream="stdout",
            line=f"line {seq}",
            created_at=EVENING + timedelta(milliseconds=milliseconds),
        )
    return job


def test_a_change_that_is_committed_late_is_noticed(server: Server, job: Job, alice: User) -> None:
    """Its time is older than the newest that was seen, and there are as many rows."""
    newest = timezone.now()
    Job.objects.update(state=JobState.FAILED, updated_at=newest)
    other = Job.objects.create(operation="start", server=server)
    Job.objects.filter(pk=other.pk).update(updated_at=newest - timedelta(milliseconds=9))
    seen = read_versions([alice.pk, None])
    assert read_versions([alice.pk, None]) == seen
    late = newest - timedelta(milliseconds=5)
    Job.objects.filter(pk=other.pk).update(state=JobState.CANCELLED, updated_at=late)
    assert all(
        one != other for one, other in zip(read_versions([alice.pk, None]), seen, strict=True)
    )


def read(topic: PageTopic, after: int = 0, until: int | None = None) -> list[str]:
    """Return the events after a line, each as its name and its data."""
    batch = topic.read_batch(after, until)
    if batch is None:
        return []
    events = []
    for block in batch.payload.decode().split("\n\n")[:-1]:
        fields = dict(row.split(": ", 1) for row in block.splitlines())
        events.append(f"{fields.get('event', '')} {fields['data']}")
    return events


@override_settings(TIME_ZONE="UTC")
def test_times_come_before_the_lines_they_are_of_and_only_when_they_change(job: Job) -> None:
    topic = PageTopic(JobTopic(job.pk), ChangesTopic(None))
    assert read(topic) == [
        "clock 20:00:00",
        "stdout line 1",
        "stdout line 2",
        "clock 20:00:01",
        "stdout line 3",
        "stdout line 4",
    ]
    # A watcher that begins in the middle is told the time too.
    assert read(topic, after=1, until=2) == ["clock 20:00:00", "stdout line 2"]


@override_settings(TIME_ZONE="UTC")
def test_a_stage_comes_right_before_its_first_line_and_only_there(job: Job) -> None:
    for name, first_seq in (("Checking", 1), ("Quick", 3), ("Copying", 3), ("Later", 5)):
        JobStage.objects.create(job=job, name=name, first_seq=first_seq, started_at=timezone.now())
    topic = PageTopic(JobTopic(job.pk), ChangesTopic(None))
    assert [event for event in read(topic) if not event.startswith(("clock", "began"))] == [
        "chapter 1 Checking",
        "stdout line 1",
        "stdout line 2",
        "chapter 3 Quick",
        "chapter 3 Copying",
        "stdout line 3",
        "stdout line 4",
    ]
    began = JobStage.objects.get(name="Copying").started_at
    events = read(topic)
    assert events[events.index("chapter 3 Copying") - 1] == f"began {began.isoformat()}"
    assert "chapter 3 Quick" in read(topic, after=2)
    assert "chapter 3 Quick" not in read(topic, after=3)
    assert "chapter 3 Quick" not in read(topic, until=2)


@override_settings(TIME_ZONE="UTC")
def test_a_console_is_followed_with_times(server: Server) -> None:
    ConsoleLine.objects.create(server=server, seq=7, line="ready", created_at=EVENING)
    topic = PageTopic(ConsoleTopic(server.pk), ChangesTopic(None))
    assert topic.read_head() == 7
    assert read(topic) == ["clock 20:00:00", " ready"]


def test_the_state_and_the_changes_are_told_together(job: Job, alice: User) -> None:
    mine = PageTopic(JobTopic(job.pk), ChangesTopic(alice.pk))
    admins = PageTopic(JobTopic(job.pk), ChangesTopic(None))
    console = PageTopic(ConsoleTopic(job.server_id or 0), ChangesTopic(alice.pk))
    first, second, third = PageTopic.read_snapshots([mine, admins, console])
    for snapshot in (first, second):
        assert b"event: change\n" in b"".join(snapshot.events)
        assert b"event: state\n" in b"".join(snapshot.events)
        assert not snapshot.is_final
    assert b"event: state\n" not in b"".join(third.events)
    job.state = JobState.SUCCEEDED
    job.save()
    (after,) = PageTopic.read_snapshots([mine])
    assert after.is_final
    assert after.events != first.events


def read_commands(snapshot: Snapshot) -> dict[str, Any]:
    """Return the `commands` event of a snapshot."""
    (event,) = [one for one in snapshot.events if one.startswith(b"event: commands\n")]
    return dict(json.loads(event.decode().split("data: ", 1)[1]))


def test_commands_come_as_the_page_shows_them_and_are_rendered_once_for_all(
    server: Server,
    alice: User,
    client: Client,
    monkeypatch: pytest.MonkeyPatch,
    django_assert_num_queries: Any,
) -> None:
    console = ConsoleTopic(server.pk)
    topics = [PageTopic(console, ChangesTopic(pk)) for pk in (alice.pk, None, *range(900, 950))]
    command = server.console_commands.create(text="<b>status</b>")
    note_news(server.pk)
    first, *others = map(read_commands, PageTopic.read_snapshots(topics))
    client.force_login(alice)
    latest = client.get("/servers/alpha/commands/latest/").content.decode()
    assert first == {"version": 1, "html": latest}
    assert "&lt;b&gt;status&lt;/b&gt;" in latest
    assert others == [first] * len(others)
    # Nothing is rendered again: the servers, and what `ChangesTopic` reads.
    with django_assert_num_queries(4):
        PageTopic.read_snapshots(topics)
    # Programs that follow a console are told that there is news, and request it themselves.
    assert read_commands(ConsoleTopic.read_snapshots([console])[0]) == {"version": 1}
    command.state, command.answer, command.answer_bytes = "answered", "hostname: x", 11
    command.save()
    note_news(server.pk)
    (after,) = PageTopic.read_snapshots(topics[:1])
    assert "hostname: x" in read_commands(after)["html"]
    monkeypatch.setattr(rendered_commands, "MOST_CHARS", 100)
    note_news(server.pk)
    (after,) = PageTopic.read_snapshots(topics[:1])
    assert read_commands(after) == {"version": 3}


def test_of_a_snapshot_only_the_events_that_differ_are_sent_again() -> None:
    sent = Snapshot((b"change 1", b"commands 1"))
    assert sent.since(Snapshot()) == b"change 1commands 1"
    assert Snapshot((b"change 2", b"commands 1")).since(sent) == b"change 2"
    assert sent.since(sent) == b""
