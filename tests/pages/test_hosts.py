"""The pages of hosts: what an admin sees of each, and draining one. Its builds are in `test_host_builds`."""

from datetime import timedelta

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.utils import timezone
from django.utils.timezone import localtime

from jobs.models import Job, JobState, Worker
from jobs.pages.host_pages import NAMED_JOBS
from jobs.queue.liveness import register_worker
from servers.models import Blueprint, Host, OverlayReport, Server
from tests.pages.conftest import sign_in
from tests.pages.queries import assert_same_queries

pytestmark = pytest.mark.django_db


def page(client: Client, address: str = "/hosts/local/") -> str:
    """Return a page with each run of blanks collapsed."""
    return " ".join(client.get(address).content.decode().split())


def test_a_host_is_shown_with_its_worker_and_what_it_does(as_dana: Client, server: Server) -> None:
    register_worker(server.host, concurrency=3, is_claiming=True)
    Job.objects.create(operation="start", server=server, state=JobState.RUNNING)
    Job.objects.create(operation="stop", server=server)
    Host.objects.update(
        build_id="19684021",
        reported_at=timezone.now(),
        disk_free_bytes=5 * 1024**3,
        disk_total_bytes=20 * 1024**3,
        memory_available_bytes=1024**3,
        memory_total_bytes=8 * 1024**3,
        load_average=0.42,
        layering="overlay",
    )
    both = [page(as_dana), page(as_dana, "/hosts/")]
    for html in both:
        for text in (
            "1 running, 1 waiting",
            "0 of 1 running",
            "42 %",
            "1.0 GB of 8.0 GB free",
        ):
            assert text in html
        assert 'value="88" aria-label="Memory in use"' in html
        assert 'value="75" aria-label="Disk in use"' in html
    assert "3 jobs at a time" in both[0]
    assert server.get_absolute_url() in both[0]
    assert 'href="/hosts/local/"' in both[1]


@pytest.mark.parametrize(
    ("load", "words"),
    [(1.0, "100 %"), (5.13, "5.1 × what its cores can do"), (16.82, "17 × what its cores can do")],
)
def test_an_overload_says_of_what_it_is(
    as_dana: Client, host: Host, load: float, words: str
) -> None:
    Host.objects.update(load_average=load)
    for address in ("/hosts/", "/hosts/local/"):
        assert f'<span class="meter-text">{words}</span>' in page(as_dana, address)


def test_a_host_without_servers_says_so(as_dana: Client, host: Host) -> None:
    for address in ("/hosts/", "/hosts/local/"):
        html = page(as_dana, address)
        assert "no servers" in html
        assert "0 of 0" not in html


def test_a_host_that_has_not_reported_shows_no_meter(as_dana: Client, host: Host) -> None:
    for address in ("/hosts/", "/hosts/local/"):
        assert "<meter" not in page(as_dana, address)


def test_what_its_doctor_found_is_told_with_the_cure_the_worst_first(
    as_dana: Client, host: Host
) -> None:
    assert "Its worker has not checked yet." in page(as_dana)
    host.findings = [
        {"subject": "Folder", "severity": "ok", "text": "It can be written to.", "cure": ""},
        {"subject": "User", "severity": "warning", "text": "This runs as root.", "cure": "Do not."},
        {"subject": "Box", "severity": "fault", "text": "No box.", "cure": "Allow namespaces."},
    ]
    host.findings_at = timezone.now()
    host.save()
    html = page(as_dana)
    assert (
        html.index("No box.") < html.index("Allow namespaces.") < html.index("This runs as root.")
    )
    assert "1 check passed" in html
    assert html.index("No box.") < html.index("The game</h2>")
    link = 'data-kind="fault" href="/hosts/local/#problems">1 fault, 1 warning</a>'
    assert link in page(as_dana, "/hosts/")


def test_its_overlays_lead_to_their_pages(as_dana: Client, host: Host) -> None:
    assert "Overlays</h2>" not in page(as_dana)
    finding = {"code": "x", "severity": "refused", "text": "Nothing is read.", "path": ""}
    OverlayReport.objects.create(
        host=host, name="maps", files=3, looked_at=timezone.now(), findings=[finding]
    )
    html = page(as_dana)
    assert 'href="/overlays/maps/"' in html
    assert "3 files" in html
    assert "no server is started with it" in html


def test_servers_that_one_may_not_see_are_only_counted(
    as_dana: Client, server: Server, people_of_hosts: Client
) -> None:
    assert "alpha" in page(as_dana)
    html = page(people_of_hosts)
    assert "alpha" not in html
    assert "And 1 more server." in html


@pytest.fixture
def people_of_hosts(db: None) -> Client:
    """Return the browser of a staff member who may see hosts, but no server."""
    person = User.objects.create_user("hanna", password="a-password", is_staff=True)
    person.user_permissions.add(Permission.objects.get(codename="view_host"))
    return sign_in(person)


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
    values = {"draining": "true", "next": "/hosts/local/"}
    answer = as_dana.post("/hosts/local/drain", values)
    assert answer.headers["Location"] == "/hosts/local/"
    html = page(as_dana)
    assert "takes no more jobs" in html
    assert "drained: jobs still run" in html
    running.delete()
    assert "drained</span>" in page(as_dana)
    host.refresh_from_db()
    assert host.is_draining
    as_dana.post("/hosts/local/drain", {"draining": "false"})
    host.refresh_from_db()
    assert not host.is_draining


def test_without_hosts_it_says_how_one_appears(as_dana: Client) -> None:
    Host.objects.all().delete()
    assert "runjobs --host NAME" in page(as_dana, "/hosts/")


def test_its_queries_do_not_grow_with_the_hosts(as_dana: Client, host: Host) -> None:
    def make_more() -> None:
        for number in range(5):
            other = Host.objects.create(name=f"h{number}")
            register_worker(other, concurrency=1, is_claiming=True)
            other.releases.create(build_id="100", installed_at=timezone.now())

    assert_same_queries(as_dana, "/hosts/", make_more)


def test_the_queries_of_a_host_do_not_grow_with_what_is_on_it(
    as_dana: Client, server: Server, installed_host: Host
) -> None:
    def make_more() -> None:
        for number in range(5):
            Server.objects.create(
                name=f"s{number}",
                owner=server.owner,
                host=server.host,
                blueprint=server.blueprint,
                running_build_id="100",
            )
            installed_host.releases.create(build_id=f"10{number}", installed_at=timezone.now())
            Job.objects.create(operation="check", host=installed_host, state=JobState.SUCCEEDED)

    assert_same_queries(as_dana, "/hosts/local/", make_more)


def test_a_new_server_is_placed_on_the_host_with_the_fewest(
    as_dana: Client, alice: User, server: Server, blueprint: Blueprint
) -> None:
    Host.objects.create(name="drained", is_draining=True)
    Host.objects.create(name="empty")
    html = as_dana.get("/servers/new/").content.decode()
    assert "selected>empty</option>" in html
    assert "drained</option>" not in html
