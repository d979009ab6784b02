"""The pages of jobs, and the requests for them."""

import asyncio
from typing import Any, cast

import pytest
from django.contrib.auth.models import User
from django.http import StreamingHttpResponse
from django.test import AsyncClient, Client
from django.urls import reverse
from django.utils import timezone

from jobs.models import Job, JobLog, JobState
from jobs.pages.job_pages import JOBS_PER_PAGE
from jobs.queue.liveness import register_worker
from servers.models import ActualState, Server
from tests.pages.queries import assert_same_queries
from tests.states import record_state

LIST = reverse("jobs:list")


def ask(client: Client, server: Server, operation: str) -> str:
    """Post a request for an operation, and return the page it ends on."""
    url = reverse("jobs:create", args=[server.name])
    return client.post(url, {"operation": operation}, follow=True).content.decode()


# --- Requests ---------------------------------------------------------------------------------


def test_a_request_makes_a_job_and_leads_to_it(as_alice: Client, stopped_server: Server) -> None:
    url = reverse("jobs:create", args=[stopped_server.name])
    response = as_alice.post(url, {"operation": "start"})
    job = Job.objects.get()
    assert response.status_code == 303
    assert response.headers["Location"] == job.get_absolute_url()
    assert (job.operation, job.server, job.requested_by_name) == ("start", stopped_server, "alice")


def test_a_second_click_leads_to_the_same_job_and_says_so(
    as_alice: Client, stopped_server: Server
) -> None:
    ask(as_alice, stopped_server, "start")
    page = ask(as_alice, stopped_server, "start")
    assert "is already waiting: this is its job. No second job was made." in page
    Job.objects.update(state=JobState.RUNNING)
    assert "is already running" in ask(as_alice, stopped_server, "start")
    assert Job.objects.count() == 1


@pytest.mark.parametrize("operation", ["", "explode", "install", "START", "a\0b", "x" * 5000])
def test_an_operation_that_a_server_does_not_have_is_refused_with_the_reason(
    as_alice: Client, stopped_server: Server, operation: str
) -> None:
    url = reverse("jobs:create", args=[stopped_server.name])
    response = as_alice.post(url, {"operation": operation})
    assert response.status_code == 409
    assert "That is not possible now" in response.content.decode()
    assert not Job.objects.exists()


def test_an_impossible_request_is_refused_with_the_reason(
    as_alice: Client, stopped_server: Server
) -> None:
    record_state(stopped_server, ActualState.ABSENT)
    url = reverse("jobs:create", args=[stopped_server.name])
    response = as_alice.post(url, {"operation": "delete"})
    assert response.status_code == 409
    assert "alpha has no files on host local" in response.content.decode()


def test_a_waiting_job_is_cancelled_at_once(as_alice: Client, stopped_server: Server) -> None:
    job = Job.objects.create(operation="start", server=stopped_server)
    url = reverse("jobs:cancel", args=[job.pk])
    assert f"Job {job.pk} is cancelled." in as_alice.post(url, follow=True).content.decode()
    job.refresh_from_db()
    assert job.state == JobState.CANCELLED


def test_of_a_running_job_the_worker_is_asked(as_alice: Client, stopped_server: Server) -> None:
    job = Job.objects.create(operation="start", server=stopped_server, state=JobState.RUNNING)
    url = reverse("jobs:cancel", args=[job.pk])
    page = as_alice.post(url, follow=True).content.decode()
    assert f"The worker was told to end job {job.pk}." in page
    assert "told to end" in page
    assert url not in page


def test_a_job_that_is_over_is_not_cancelled(as_alice: Client, failed_job: Job) -> None:
    url = reverse("jobs:cancel", args=[failed_job.pk])
    assert "had already ended: failed." in as_alice.post(url, follow=True).content.decode()


def test_a_retry_makes_a_new_job_that_knows_the_old_one(as_alice: Client, failed_job: Job) -> None:
    page = as_alice.post(reverse("jobs:retry", args=[failed_job.pk]), follow=True)
    new = Job.objects.exclude(pk=failed_job.pk).get()
    assert new.retry_of == failed_job
    assert failed_job.get_absolute_url() in page.content.decode()
    assert new.get_absolute_url() in as_alice.get(failed_job.get_absolute_url()).content.decode()


def test_a_job_that_succeeded_is_not_retried(as_alice: Client, server: Server) -> None:
    job = Job.objects.create(operation="start", server=server, state=JobState.SUCCEEDED)
    response = as_alice.post(reverse("jobs:retry", args=[job.pk]))
    assert response.status_code == 409
    assert "cannot be retried" in response.content.decode()


# --- One job ----------------------------------------------------------------------------------


def test_a_failed_job_shows_stage_exit_code_error_last_lines_and_retry(
    as_alice: Client, failed_job: Job
) -> None:
    page = as_alice.get(failed_job.get_absolute_url()).content.decode()
    panel = page.split('data-kind="failure"')[1].split("<dl")[0]
    assert "Waiting for the game" in panel
    assert "exit code 7" in panel
    assert "Port 27015 is taken." in panel
    assert "&lt;b&gt;Address&lt;/b&gt; already in use" in panel
    assert reverse("jobs:retry", args=[failed_job.pk]) in page


def test_a_running_job_shows_stage_and_progress(as_alice: Client, server: Server) -> None:
    job = Job.objects.create(
        operation="start", server=server, state=JobState.RUNNING, stage="Downloading", progress=42
    )
    page = as_alice.get(job.get_absolute_url()).content.decode()
    assert "Downloading" in page
    assert '<progress max="100" value="42"' in page
    assert reverse("jobs:cancel", args=[job.pk]) in page


def test_a_queued_job_says_what_it_waits_for(as_alice: Client, server: Server) -> None:
    job = Job.objects.create(operation="start", server=server)
    assert "Waits for a worker" in as_alice.get(job.get_absolute_url()).content.decode()
    register_worker(server.host, concurrency=1, is_claiming=True)
    Job.objects.create(operation="install", state=JobState.RUNNING, started_at=timezone.now())
    page = as_alice.get(job.get_absolute_url()).content.decode()
    assert "Waits for “Install the game” on local" in page


def test_a_job_without_progress_shows_that_it_runs(as_alice: Client, server: Server) -> None:
    job = Job.objects.create(operation="start", server=server, state=JobState.RUNNING)
    page = as_alice.get(job.get_absolute_url()).content.decode()
    assert '<progress aria-label="Progress"></progress>' in page


def test_the_page_starts_with_the_last_thousand_lines_and_their_streams(
    as_alice: Client, failed_job: Job
) -> None:
    JobLog.objects.bulk_create(
        JobLog(job=failed_job, seq=seq, stream="stdout", line=f"line {seq}")
        for seq in range(3, 1_103)
    )
    page = as_alice.get(failed_job.get_absolute_url()).content.decode()
    assert page.count('class="log-line"') == 1_000
    assert 'data-seq="1102"' in page
    assert 'data-seq="102"' not in page
    assert reverse("jobs:events", args=[failed_job.pk]) in page


def test_a_line_of_stderr_is_marked_and_escaped(as_alice: Client, failed_job: Job) -> None:
    page = as_alice.get(failed_job.get_absolute_url()).content.decode()
    row = page.split('id="L2"')[1].split("</div>")[0]
    assert 'data-stream="stderr"' in row
    assert row.endswith("</a>bind: &lt;b&gt;Address&lt;/b&gt; already in use")


def test_a_page_that_refreshes_itself_is_not_sent_the_log_again(
    as_alice: Client, failed_job: Job
) -> None:
    page = as_alice.get(failed_job.get_absolute_url(), headers={"X-Saferoom-Refresh": "1"})
    assert 'class="log-line"' not in page.content.decode()
    assert "Failed at" in page.content.decode()


@pytest.mark.parametrize("query", ["?q=bind", "?q=bind&line=1", "?q=nowhere", "?line=1"])
def test_a_page_with_a_search_refreshes_itself_without_searching_again(
    as_alice: Client, failed_job: Job, query: str
) -> None:
    assert failed_job.server
    pages = [failed_job.get_absolute_url(), failed_job.server.get_absolute_url()]
    pages.append(reverse("servers:console", args=[failed_job.server.name]))
    for page in pages:
        answer = as_alice.get(page + query, headers={"X-Saferoom-Refresh": "1"})
        assert answer.status_code == 200, page
        assert "nowhere" not in answer.content.decode(), page


def test_a_page_that_refreshes_itself_leaves_the_message_to_the_page_it_is_for(
    as_alice: Client, stopped_server: Server
) -> None:
    url = reverse("jobs:create", args=[stopped_server.name])
    as_alice.post(url, {"operation": "start"})
    landing = as_alice.post(url, {"operation": "start"}).headers["Location"]
    other_tab = as_alice.get(LIST, headers={"X-Saferoom-Refresh": "1"})
    assert "No second job was made." not in other_tab.content.decode()
    assert "No second job was made." in as_alice.get(landing).content.decode()


def test_a_job_with_an_unknown_operation_is_shown_as_it_is(
    as_alice: Client, server: Server
) -> None:
    job = Job.objects.create(operation="teleport", server=server, state=JobState.FAILED)
    page = as_alice.get(job.get_absolute_url()).content.decode()
    assert "teleport" in page
    assert reverse("jobs:retry", args=[job.pk]) not in page


# --- The log as text --------------------------------------------------------------------------


def test_the_whole_log_is_a_download_with_time_stream_and_text(
    as_alice: Client, failed_job: Job
) -> None:
    response = as_alice.get(reverse("jobs:log", args=[failed_job.pk]))
    text = response.getvalue().decode()
    first, second = text.splitlines()
    at = failed_job.logs.earliest("seq").created_at.isoformat(timespec="milliseconds")
    assert first == f"{at} stdout Starting the game"
    assert second.endswith("stderr bind: <b>Address</b> already in use")
    assert response.headers["Content-Disposition"].startswith("attachment;")


def test_a_log_of_many_chunks_is_whole_and_in_order(as_alice: Client, failed_job: Job) -> None:
    JobLog.objects.bulk_create(
        JobLog(job=failed_job, seq=seq, stream="stdout", line=str(seq)) for seq in range(3, 3_503)
    )
    response = as_alice.get(reverse("jobs:log", args=[failed_job.pk]))
    lines = response.getvalue().decode().splitlines()
    assert [line.rsplit(" ", 1)[1] for line in lines[2:]] == [str(n) for n in range(3, 3_503)]


@pytest.mark.django_db(transaction=True)
def test_the_log_is_streamed_under_asgi_too(failed_job: Job, alice: User) -> None:
    async def download() -> bytes:
        client = AsyncClient()
        await client.aforce_login(alice)
        answer = await client.get(reverse("jobs:log", args=[failed_job.pk]))
        response = cast("StreamingHttpResponse", answer)
        return b"".join([chunk async for chunk in response])

    assert len(asyncio.run(download()).splitlines()) == 2


# --- The list ---------------------------------------------------------------------------------


def test_owners_see_the_jobs_of_their_servers_and_admins_all(
    as_alice: Client, as_bob: Client, as_dana: Client, failed_job: Job, dana: User
) -> None:
    install = Job.objects.create(operation="install", requested_by=dana)
    assert failed_job.get_absolute_url() in as_alice.get(LIST).content.decode()
    assert install.get_absolute_url() not in as_alice.get(LIST).content.decode()
    assert failed_job.get_absolute_url() not in as_bob.get(LIST).content.decode()
    assert install.get_absolute_url() in as_dana.get(LIST).content.decode()


def test_the_list_is_filtered_by_state(as_alice: Client, failed_job: Job, server: Server) -> None:
    waiting = Job.objects.create(operation="stop", server=server)
    for state, shown, hidden in (
        ("failed", failed_job, waiting),
        ("queued", waiting, failed_job),
        ("active", waiting, failed_job),
    ):
        page = as_alice.get(LIST, {"state": state}).content.decode()
        assert shown.get_absolute_url() in page
        assert hidden.get_absolute_url() not in page


def test_older_jobs_are_a_page_further(as_alice: Client, server: Server) -> None:
    jobs = [
        Job.objects.create(
            operation="stop", server=server, state=JobState.SUCCEEDED, finished_at=timezone.now()
        )
        for _ in range(JOBS_PER_PAGE + 2)
    ]
    first = as_alice.get(LIST).content.decode()
    assert jobs[2].get_absolute_url() in first
    assert jobs[1].get_absolute_url() not in first
    older = as_alice.get(LIST, {"before": jobs[2].pk}).content.decode()
    assert jobs[1].get_absolute_url() in older
    assert "Older jobs" not in older


@pytest.mark.parametrize(
    "query",
    ["?before=x", "?before=-1", "?before=" + "9" * 50, "?before=9223372036854775807", "?page=x"],
)
@pytest.mark.parametrize("state", ["", "&state=bogus", "&state=%00", "&state=failed"])
def test_odd_addresses_of_the_list_are_answered(
    as_alice: Client, failed_job: Job, query: str, state: str
) -> None:
    assert as_alice.get(LIST + query + state).status_code == 200


def test_an_empty_list_says_what_fills_it(as_bob: Client) -> None:
    assert "No jobs yet" in as_bob.get(LIST).content.decode()
    assert "No such jobs." in as_bob.get(LIST, {"state": "failed"}).content.decode()


def test_the_list_costs_the_same_number_of_queries_with_more_rows(
    as_alice: Client, alice: User, server: Server, failed_job: Job
) -> None:
    def make_more() -> None:
        for _ in range(20):
            Job.objects.create(operation="stop", server=server, requested_by=alice)

    assert_same_queries(as_alice, LIST, make_more)


@pytest.mark.parametrize(
    ("fields", "title"),
    [
        ({"operation": "install"}, "Install the game on local"),
        ({"operation": "rollback", "build_id": "7"}, "Roll back the game to build 7 on local"),
        ({"operation": "delete", "server_name": "alpha"}, "Delete files of alpha"),
        ({"operation": "unpack", "overlay_name": "maps"}, "Unpack upload for maps"),
        ({"operation": "start", "server_name": "alpha"}, "Start alpha"),
        ({"operation": "start", "server_name": "alpha", "run_id": 1}, "Start alpha as it was"),
        ({"operation": "dance", "host_name": "local"}, "dance local"),
    ],
)
def test_a_jobs_title_is_a_sentence(fields: dict[str, Any], title: str) -> None:
    assert Job(**{"host_name": "local"} | fields).title == title


def test_an_empty_log_says_whether_lines_can_still_come(as_alice: Client, server: Server) -> None:
    job = Job.objects.create(operation="stop", server=server)
    assert "No lines yet." in as_alice.get(job.get_absolute_url()).content.decode()
    Job.objects.update(state=JobState.CANCELLED, finished_at=timezone.now())
    assert "It wrote nothing." in as_alice.get(job.get_absolute_url()).content.decode()
