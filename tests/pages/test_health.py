"""What a monitor is told."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
from django.db import OperationalError, connection
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from jobs.models import Worker

HEALTHZ = reverse("healthz")


def test_it_is_well_with_a_worker_that_beats(client: Client, worker: Worker) -> None:
    response = client.get(HEALTHZ)
    answer = response.json()
    assert response.status_code == 200
    assert (answer["status"], answer["web"], answer["database"]) == ("ok", "ok", "ok")
    (told,) = answer["workers"]
    assert told["heartbeat_age_seconds"] < 30
    assert {**told, "heartbeat_age_seconds": 0} == {
        "host": "local",
        "pid": 4312,
        "heartbeat_age_seconds": 0,
        "is_claiming": True,
    }


def test_not_being_well_is_an_answer_and_no_error_in_the_process_log(
    client: Client, db: None, caplog: pytest.LogCaptureFixture
) -> None:
    assert client.get(HEALTHZ).status_code == 503
    assert "healthz" not in caplog.text
    client.get("/no/such/page/")
    assert "/no/such/page/" in caplog.text


def test_it_is_not_well_without_a_worker(client: Client, db: None) -> None:
    response = client.get(HEALTHZ)
    assert response.status_code == 503
    assert response.json()["reason"] == "No worker has sent a heartbeat in the last 30 seconds."


def test_workers_that_stopped_or_do_not_beat_do_not_count(client: Client, worker: Worker) -> None:
    Worker.objects.update(stopped_at=timezone.now())
    assert client.get(HEALTHZ).status_code == 503
    Worker.objects.update(stopped_at=None, heartbeat_at=timezone.now() - timedelta(hours=1))
    assert client.get(HEALTHZ).status_code == 503


@contextmanager
def broken_database() -> Iterator[None]:
    """Make each statement fail as it does when the database is away."""

    def refuse(*args: Any) -> None:
        raise OperationalError("could not connect: password=hunter2")

    with connection.execute_wrapper(refuse):
        yield


def test_it_says_so_when_the_database_is_away_and_tells_strangers_no_more(
    client: Client, worker: Worker
) -> None:
    with broken_database():
        response = client.get(HEALTHZ)
    assert response.status_code == 503
    assert response.json()["reason"] == "The database does not answer."
    assert "hunter2" not in response.content.decode()


def test_a_signed_in_monitor_is_answered_too_when_the_database_is_away(
    as_alice: Client, worker: Worker
) -> None:
    with broken_database():
        assert as_alice.get(HEALTHZ).status_code == 503


def test_no_cache_keeps_the_answer(client: Client, worker: Worker) -> None:
    assert "no-cache" in client.get(HEALTHZ).headers["Cache-Control"]
