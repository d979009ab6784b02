"""An install that waits for a Steam Guard code: its page asks people who may install, and passes it on once."""

import threading
from datetime import timedelta

import pytest
from django.conf import LazySettings
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from hostops.errors import OperationCancelled
from hostops.specs import STEAM_GUARD_STAGE, CancelToken
from jobs import operations
from jobs.models import Job, JobLog, JobState, SteamGuardCode
from jobs.queue import claim_next_job, enqueue
from jobs.worker.single_job import run_job
from servers.models import Host
from tests.fakes import FakeHost
from tests.pages.conftest import sign_in
from tests.waiting import wait_until


@pytest.fixture
def waiting(host: Host, dana: User) -> Job:
    """Return an install that waits for a code."""
    job = enqueue("install", host=host, requested_by=dana)
    Job.objects.filter(pk=job.pk).update(state=JobState.RUNNING, stage=STEAM_GUARD_STAGE)
    job.refresh_from_db()
    return job


def send(client: Client, job: Job, code: str) -> str:
    url = reverse("jobs:steam_guard_code", args=[job.pk])
    return client.post(url, {"code": code}, follow=True).content.decode()


def test_the_page_asks_and_hands_the_code_over_without_showing_it(
    as_dana: Client, waiting: Job
) -> None:
    page = as_dana.get(waiting.get_absolute_url()).content.decode()
    assert 'name="code"' in page
    page = send(as_dana, waiting, " abc12 ")
    assert "The code is on its way to Steam." in page
    assert "ABC12" not in page.upper()
    assert SteamGuardCode.take(waiting.pk) == "ABC12"
    assert SteamGuardCode.take(waiting.pk) == ""
    assert not SteamGuardCode.objects.exists()


def test_who_sees_hosts_and_may_not_install_is_not_asked(db: None, waiting: Job, bob: User) -> None:
    bob.is_staff = True
    bob.save()
    bob.user_permissions.add(Permission.objects.get(codename="view_host"))
    as_bob = sign_in(bob)
    page = as_bob.get(waiting.get_absolute_url()).content.decode()
    assert 'name="code"' not in page
    assert "Somebody who may install the game has to enter it here." in page
    url = reverse("jobs:steam_guard_code", args=[waiting.pk])
    assert as_bob.post(url, {"code": "ABC12"}).status_code == 403
    assert not SteamGuardCode.objects.exists()


def test_a_form_of_another_site_is_refused(dana: User, waiting: Job) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(dana)
    url = reverse("jobs:steam_guard_code", args=[waiting.pk])
    assert client.post(url, {"code": "ABC12"}).status_code == 403
    assert not SteamGuardCode.objects.exists()


@pytest.mark.parametrize("text", ["", "AB", "A" * 9, "ABC 2", "quit\n", "Ä" * 5, "a\0b12"])
def test_what_can_be_no_code_is_not_handed_over(as_dana: Client, waiting: Job, text: str) -> None:
    assert "A Steam Guard code has five letters and digits." in send(as_dana, waiting, text)
    assert not SteamGuardCode.objects.exists()


@pytest.mark.parametrize(
    "changes",
    [
        {"stage": "Downloading"},
        {"state": JobState.FAILED},
        {"cancel_requested_at": timezone.now()},
    ],
)
def test_a_job_that_does_not_wait_for_a_code_takes_none(
    as_dana: Client, waiting: Job, changes: dict[str, object]
) -> None:
    Job.objects.update(**changes)
    assert "is not waiting for a Steam Guard code" in send(as_dana, waiting, "ABC12")
    assert not SteamGuardCode.objects.exists()
    assert 'name="code"' not in as_dana.get(waiting.get_absolute_url()).content.decode()


def test_a_code_is_void_after_two_minutes_and_replaced_by_the_next(waiting: Job) -> None:
    SteamGuardCode.offer(waiting, "FIRST")
    SteamGuardCode.offer(waiting, "ABC12")
    assert SteamGuardCode.objects.count() == 1
    SteamGuardCode.objects.update(created_at=timezone.now() - timedelta(minutes=2, seconds=1))
    assert SteamGuardCode.take(waiting.pk) == ""
    assert not SteamGuardCode.objects.exists()


def test_nobody_is_waited_for_without_end(waiting: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operations, "CODE_WAIT_SECONDS", 0.0)
    monkeypatch.setattr(operations, "CODE_LOOK_SECONDS", 0.0)
    assert operations.wait_for_code(waiting.pk, CancelToken(), set()) is None
    cancel = CancelToken()
    cancel.cancel()
    with pytest.raises(OperationCancelled):
        operations.wait_for_code(waiting.pk, cancel, set())


def test_a_form_that_is_sent_twice_does_not_answer_the_next_question_too(
    waiting: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(operations, "CODE_WAIT_SECONDS", 0.0)
    monkeypatch.setattr(operations, "CODE_LOOK_SECONDS", 0.0)
    tried: set[str] = set()
    SteamGuardCode.offer(waiting, "ABC12")
    assert operations.wait_for_code(waiting.pk, CancelToken(), tried) == "ABC12"
    SteamGuardCode.offer(waiting, "abc12")
    assert operations.wait_for_code(waiting.pk, CancelToken(), tried) is None
    SteamGuardCode.offer(waiting, "XYZ34")
    assert operations.wait_for_code(waiting.pk, CancelToken(), tried) == "XYZ34"


@pytest.mark.django_db(transaction=True)
def test_a_running_install_gets_the_code_that_was_entered_meanwhile(
    as_dana: Client, host: Host, dana: User, fake_host: FakeHost, settings: LazySettings
) -> None:
    settings.STEAM_ACCOUNT, fake_host.needs_code = "owner", True
    enqueue("install", host=host, requested_by=dana)
    job = claim_next_job(host=host)
    assert job

    def run() -> None:
        run_job(job.pk)
        connection.close()  # This thread's own.

    thread = threading.Thread(target=run)
    thread.start()
    try:
        wait_until(lambda: Job.objects.get().asks_for_code, 20, "it does not ask")
        send(as_dana, job, "ABC12")
    finally:
        thread.join()
    assert fake_host.codes == ["ABC12"]
    assert Job.objects.get().state == JobState.SUCCEEDED
    assert not SteamGuardCode.objects.exists()
    assert not JobLog.objects.filter(line__icontains="ABC12").exists()
