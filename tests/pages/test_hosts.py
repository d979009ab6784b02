"""The hosts page: what an admin sees of each host, and draining one."""

from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone
from django.utils.timezone import localtime

from jobs.models import Job, JobState, Worker
from jobs.pages.host_pages import NAMED_JOBS
from jobs.queue.liveness import register_worker
from servers.models import Blueprint, Host, Server
from tests.pages.queries import assert_same_queries

pytestmark = pytest.mark.django_db


def page(client: Client) -> str:
    return client.get("/hosts/").content.decode()


def test_a_host_is_shown_with_its_worker_and_what_it_does(as_dana: Client, server: Server) -> None:
    register_worker(server.host, concurrency=3, is_claiming=True)
    Job.objects.create(operation="start", server=server, state=JobState.RUNNING)
    Job.objects.create(operation="stop", server=server)
    Host.objects.update(
        build_id="19684021",
        reported_at=timezone.now(),
        disk_free_bytes=5 * 1024**3,
        load_average=0.42,
        layering="overlay",
    )
    html = page(as_dana)
    for text in ("3 jobs at a time", "build 19684021", "1 running, 1 waiting", "5.0", "42 %"):
        assert text in html
    assert "0 of 1 running" in html


def test_running_jobs_are_named_and_lead_to_their_pages(
    as_dana: Client, alice: User, blueprint: Blueprint, host: Host
) -> None:
    jobs = [
        Job.objects.create(
            operation="start",
            server=Server.objects.create(
                name=f"s{number}", owner=alice, host=host, blueprint=blueprint, port=27015 + number
            ),
            state=JobState.RUNNING,
            started_at=timezone.now(),
        )
        for number in range(NAMED_JOBS + 2)
    ]
    html = page(as_dana)
    for job in jobs[:NAMED_JOBS]:
        assert f'href="{job.get_absolute_url()}">Start <span class="name">{job.subject}<' in html
    assert jobs[NAMED_JOBS].get_absolute_url() not in html
    assert "and 2 more" in html


def test_older_builds_are_shown_beside_the_current_one(as_dana: Client, host: Host) -> None:
    Host.objects.update(build_id="200", reported_at=timezone.now())
    for build_id in ("100", "200"):
        host.releases.create(
            build_id=build_id, is_current=build_id == "200", installed_at=timezone.now()
        )
    html = page(as_dana)
    assert "build 200" in html
    assert "Also installed</a>: 100<" in html


def test_a_worker_that_has_stopped_leaves_its_last_heartbeat(as_dana: Client, host: Host) -> None:
    register_worker(host, concurrency=1, is_claiming=True)
    then = timezone.now() - timedelta(hours=5)
    Worker.objects.update(heartbeat_at=then, stopped_at=then)
    html = page(as_dana)
    assert "none is running" in html
    assert localtime(then).isoformat() in html


def test_a_worker_that_is_gone_is_not_shown_as_running(as_dana: Client, host: Host) -> None:
    register_worker(host, concurrency=1, is_claiming=True)
    Worker.objects.update(heartbeat_at=timezone.now() - timedelta(hours=1))
    html = page(as_dana)
    assert "none is running" in html
    assert "1 jobs at a time" not in html


def test_a_host_is_drained_and_takes_jobs_again(
    as_dana: Client, host: Host, server: Server
) -> None:
    running = Job.objects.create(operation="start", server=server, state=JobState.RUNNING)
    answer = as_dana.post("/hosts/local/drain", {"draining": "true"}, follow=True)
    assert "takes no more jobs" in answer.content.decode()
    assert "Is being drained" in page(as_dana)
    running.delete()
    assert "Is drained: no job runs" in page(as_dana)
    host.refresh_from_db()
    assert host.is_draining
    as_dana.post("/hosts/local/drain", {"draining": "false"})
    host.refresh_from_db()
    assert not host.is_draining


def test_without_hosts_it_says_how_one_appears(as_dana: Client) -> None:
    Host.objects.all().delete()
    assert "runjobs --host NAME" in page(as_dana)


def test_its_queries_do_not_grow_with_the_hosts(as_dana: Client, host: Host) -> None:
    def make_more() -> None:
        for number in range(5):
            other = Host.objects.create(name=f"h{number}")
            register_worker(other, concurrency=1, is_claiming=True)
            other.releases.create(build_id="100", installed_at=timezone.now())

    assert_same_queries(as_dana, "/hosts/", make_more)


def test_a_new_server_is_placed_on_the_host_with_the_fewest(
    as_dana: Client, alice: User, server: Server, blueprint: Blueprint
) -> None:
    Host.objects.create(name="drained", is_draining=True)
    Host.objects.create(name="empty")
    html = as_dana.get("/servers/new/").content.decode()
    assert "selected>empty</option>" in html
    assert "drained</option>" not in html
