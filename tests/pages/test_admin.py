"""The Django admin, and its install button."""

from pathlib import Path

import pytest
from django.contrib import admin
from django.contrib.auth.models import User
from django.db import IntegrityError
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from hostops.specs import PORT_RANGE
from jobs.models import Job, JobLog, JobState, Worker
from servers.models import ActualState, Blueprint, Host, Overlay, Server
from tests.overlays import bring
from tests.states import record_state

INSTALL = reverse("admin:install")
JOBS = reverse("admin:jobs_job_changelist")

# --- The install button -----------------------------------------------------------------------


def test_the_button_queues_an_install_and_leads_to_the_jobs(
    as_dana: Client, dana: User, host: Host
) -> None:
    response = as_dana.post(INSTALL)
    job = Job.objects.get()
    assert response.status_code == 303
    assert response.headers["Location"] == JOBS
    assert (job.operation, job.server, job.host, job.requested_by) == ("install", None, host, dana)
    page = as_dana.get(JOBS).content.decode()
    assert f"is queued: job {job.pk}" in page
    assert job.get_absolute_url() in page


def test_two_clicks_make_one_install(as_dana: Client) -> None:
    as_dana.post(INSTALL)
    page = as_dana.post(INSTALL, follow=True).content.decode()
    assert "is already waiting or running" in page
    assert Job.objects.count() == 1


def test_with_several_hosts_the_button_names_one(as_dana: Client, host: Host) -> None:
    basement = Host.objects.create(name="basement")
    page = as_dana.get(reverse("admin:index")).content.decode()
    assert '<option value="local" selected>' in page
    as_dana.post(INSTALL, {"host": "basement"})
    assert Job.objects.get().host == basement


def test_a_host_that_is_not_there_is_not_found(as_dana: Client) -> None:
    assert as_dana.post(INSTALL, {"host": "attic"}).status_code == 404
    assert not Job.objects.exists()


@pytest.mark.parametrize("page", [reverse("admin:index"), JOBS])
def test_the_button_says_what_is_installed(
    as_dana: Client, installed_host: Host, page: str
) -> None:
    content = as_dana.get(page).content.decode()
    assert "build 17840213 is installed" in content
    assert f'action="{INSTALL}"' in content


# --- Releases ---------------------------------------------------------------------------------

RELEASES = reverse("admin:releases")


def test_the_old_page_of_releases_leads_to_the_hosts(as_dana: Client, two_releases: Host) -> None:
    page = as_dana.get(RELEASES, follow=True)
    assert page.request["PATH_INFO"] == reverse("jobs:hosts")
    assert two_releases.get_absolute_url() in page.content.decode()


def test_a_build_that_is_available_is_told_at_the_install_button_and_on_the_hosts_page(
    as_dana: Client, two_releases: Host
) -> None:
    Host.objects.update(latest_build_id="18000000", latest_build_at=timezone.now())
    for url in (reverse("admin:index"), reverse("jobs:hosts")):
        assert "build 18000000 is available" in as_dana.get(url).content.decode()


@pytest.mark.parametrize("address", ["/admin/check", "/admin/rollback"])
def test_what_only_a_host_s_page_asks_for_has_no_address_here(
    as_dana: Client, two_releases: Host, address: str
) -> None:
    values = {"host": "local", "from": "17840213", "to": "17000000"}
    assert as_dana.post(address, values).status_code == 404
    assert not Job.objects.exists()


# --- What machines write ----------------------------------------------------------------------


@pytest.mark.parametrize("model", ["job", "joblog", "worker"])
def test_jobs_logs_and_workers_are_read_only(
    as_dana: Client, failed_job: Job, worker: Worker, model: str
) -> None:
    row = {"job": failed_job, "joblog": failed_job.logs.earliest("seq"), "worker": worker}[model]
    assert as_dana.get(reverse(f"admin:jobs_{model}_changelist")).status_code == 200
    assert as_dana.get(reverse(f"admin:jobs_{model}_change", args=[row.pk])).status_code == 200
    assert as_dana.post(reverse(f"admin:jobs_{model}_change", args=[row.pk])).status_code == 403
    assert as_dana.post(reverse(f"admin:jobs_{model}_delete", args=[row.pk])).status_code == 403
    assert as_dana.get(reverse(f"admin:jobs_{model}_add")).status_code == 403
    assert JobLog.objects.count() == 2


def test_the_jobs_are_filtered_by_state_and_operation(
    as_dana: Client, failed_job: Job, server: Server
) -> None:
    other = Job.objects.create(operation="stop", server=server)
    assert "alpha on local" in as_dana.get(JOBS).content.decode()
    for query in (
        {"state__exact": "failed"},
        {"operation": "start"},
        {"q": "alpha"},
        {"q": "loca"},
    ):
        assert failed_job.get_absolute_url() in as_dana.get(JOBS, query).content.decode()
    for query in ({"state__exact": "failed"}, {"operation": "start"}):
        assert other.get_absolute_url() not in as_dana.get(JOBS, query).content.decode()


# --- Deleting ---------------------------------------------------------------------------------


def delete(client: Client, model: str, row: Server | Host) -> str:
    """Confirm the deletion of a row in the admin, and return the page that follows."""
    url = reverse(f"admin:servers_{model}_delete", args=[row.pk])
    return client.post(url, {"post": "yes"}, follow=True).content.decode()


def test_a_server_with_an_instance_is_not_deleted(as_dana: Client, stopped_server: Server) -> None:
    assert "Delete its files first" in delete(as_dana, "server", stopped_server)
    assert Server.objects.count() == 1


def test_a_server_with_an_instance_is_not_deleted_in_bulk(
    as_dana: Client, stopped_server: Server
) -> None:
    values = {"action": "delete_selected", "_selected_action": stopped_server.pk, "post": "yes"}
    page = as_dana.post(reverse("admin:servers_server_changelist"), values, follow=True)
    assert "Delete its files first" in page.content.decode()
    assert Server.objects.count() == 1


def test_a_server_with_an_active_job_is_not_deleted(as_dana: Client, server: Server) -> None:
    Job.objects.create(operation="start", server=server)
    assert "is waiting or running" in delete(as_dana, "server", server)
    assert Server.objects.count() == 1


def test_a_server_without_instance_and_jobs_is_deleted(as_dana: Client, server: Server) -> None:
    record_state(server, ActualState.ABSENT)
    delete(as_dana, "server", server)
    assert not Server.objects.exists()


def test_a_host_is_deleted_with_its_workers_rows_but_not_while_one_runs(
    as_dana: Client, host: Host, worker: Worker
) -> None:
    url = reverse("admin:servers_host_delete", args=[host.pk])
    for page in (as_dana.get(url).content.decode(), delete(as_dana, "host", host)):
        assert "Host local has a worker that runs. Stop it on that machine first." in page
    assert Host.objects.exists()
    Worker.objects.update(stopped_at=timezone.now())
    delete(as_dana, "host", host)
    assert not Host.objects.exists()
    assert not Worker.objects.exists()


def test_a_host_with_an_active_job_is_not_deleted(as_dana: Client, host: Host) -> None:
    job = Job.objects.create(operation="install")
    assert "is waiting or running" in delete(as_dana, "host", host)
    Job.objects.filter(pk=job.pk).update(state=JobState.FAILED)
    delete(as_dana, "host", host)
    assert not Host.objects.exists()


# --- Making and changing ----------------------------------------------------------------------


def test_a_blueprint_has_its_overlays_in_order(as_dana: Client, blueprint: Blueprint) -> None:
    for position, name in enumerate(("top", "below"), start=1):
        overlay = Overlay.objects.create(name=name, is_host_folder=True)
        blueprint.blueprint_overlays.create(overlay=overlay, position=position)
    url = reverse("admin:servers_blueprint_change", args=[blueprint.pk])
    page = as_dana.get(url).content.decode()
    assert page.index("blueprint_overlays-0-position") < page.index("blueprint_overlays-1-position")


def server_form(server: Server, **changes: str) -> dict[str, str]:
    """Return what the admin's form for a server sends."""
    values = {
        "name": "beta",
        "owner": str(server.owner_id),
        "host": str(server.host_id),
        "port": "",
        "blueprint": str(server.blueprint_id),
        "arguments": "",
        "config": "",
    }
    return {**values, **changes}


def test_a_server_is_made_with_the_next_free_port(as_dana: Client, server: Server) -> None:
    as_dana.post(reverse("admin:servers_server_add"), server_form(server))
    assert Server.objects.get(name="beta").port == 27016


def test_a_full_host_is_told_in_the_form(
    as_dana: Client, alice: User, host: Host, blueprint: Blueprint
) -> None:
    servers = Server.objects.bulk_create(
        Server(name=f"s{port}", owner=alice, host=host, blueprint=blueprint, port=port)
        for port in PORT_RANGE
    )
    response = as_dana.post(reverse("admin:servers_server_add"), server_form(servers[0]))
    assert "has no free port" in response.content.decode()


def test_a_server_with_an_instance_keeps_name_and_host(
    as_dana: Client, stopped_server: Server
) -> None:
    url = reverse("admin:servers_server_change", args=[stopped_server.pk])
    form = server_form(stopped_server, port="27033")
    assert 'name="name"' not in as_dana.get(url).content.decode()
    # As from a page that was opened before the files were there.
    page = as_dana.post(url, {**form, "name": "renamed"}).content.decode()
    stopped_server.refresh_from_db()
    assert "still has files" in page
    assert (stopped_server.name, stopped_server.port) == ("alpha", 27015)
    del form["name"], form["host"]
    as_dana.post(url, form)
    stopped_server.refresh_from_db()
    assert (stopped_server.name, stopped_server.port) == ("alpha", 27033)


@pytest.mark.parametrize("change", ["name", "host"])
def test_a_server_with_a_job_keeps_name_and_host(
    as_dana: Client, server: Server, change: str
) -> None:
    """The job would work on another server's files, or on a host where the server no longer is."""
    Job.objects.create(operation="start", server=server)
    values = {"name": "renamed", "host": str(Host.objects.create(name="other").pk)}
    url = reverse("admin:servers_server_change", args=[server.pk])
    page = as_dana.post(url, server_form(server, **{"name": "alpha", change: values[change]}))
    server.refresh_from_db()
    assert (server.name, server.host.name) == ("alpha", "local")
    assert "has a job that is waiting or running" in page.content.decode()
    assert as_dana.post(url, server_form(server, name="alpha")).status_code == 302


def test_a_form_that_was_shown_while_a_server_had_a_job_is_stored_after_the_job(
    as_dana: Client, server: Server
) -> None:
    form = server_form(server, port="27033")
    del form["name"], form["host"]
    assert (
        as_dana.post(reverse("admin:servers_server_change", args=[server.pk]), form).status_code
        == 302
    )
    server.refresh_from_db()
    assert (server.name, server.host.name, server.port) == ("alpha", "local", 27033)


def test_an_overlay_that_gets_a_version_before_it_is_renamed_keeps_its_name(
    as_dana: Client, overlay: Overlay
) -> None:
    url = reverse("admin:servers_overlay_change", args=[overlay.pk])
    assert 'name="name"' not in as_dana.get(url).content.decode()
    page = as_dana.post(url, {"name": "renamed", "description": "New."}).content.decode()
    assert "An overlay with versions keeps its name." in page
    overlay.refresh_from_db()
    assert (overlay.name, overlay.description) == ("pack", "")
    as_dana.post(url, {"description": "New."})
    overlay.refresh_from_db()
    assert (overlay.name, overlay.description) == ("pack", "New.")


@pytest.fixture
def overlay(alice: User, store: Path) -> Overlay:
    """Return an overlay with a version."""
    overlay = Overlay.objects.create(name="pack", owner=alice)
    bring(overlay, alice, {"addons/pack.txt": "x"})
    return overlay


@pytest.mark.parametrize("change", ["name", "host"])
def test_a_job_that_comes_while_the_form_is_sent_keeps_name_and_host(
    as_dana: Client, server: Server, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    free = {"name": "renamed", "host": str(Host.objects.create(name="other").pk)}
    real = Server.removal_obstacle

    def ask(row: Server) -> str:
        """Let the job come after the form was made, and before what it says is checked."""
        if not Job.objects.exists():
            Job.objects.create(operation="start", server=server)
        return real(row)

    monkeypatch.setattr(Server, "removal_obstacle", ask)
    url = reverse("admin:servers_server_change", args=[server.pk])
    page = as_dana.post(url, server_form(server, **{"name": "alpha", change: free[change]}))
    assert "has a job that is waiting or running" in page.content.decode()
    server.refresh_from_db()
    assert (server.name, server.host.name) == ("alpha", "local")


def test_an_unused_server_can_be_renamed_and_moved(as_dana: Client, server: Server) -> None:
    other = Host.objects.create(name="other")
    url = reverse("admin:servers_server_change", args=[server.pk])
    as_dana.post(url, server_form(server, name="renamed", host=str(other.pk)))
    server.refresh_from_db()
    assert (server.name, server.host) == ("renamed", other)


def test_a_host_keeps_the_name_by_which_its_worker_knows_it(as_dana: Client, host: Host) -> None:
    url = reverse("admin:servers_host_change", args=[host.pk])
    as_dana.post(url, {"name": "other", "address": "play.example.org"})
    host.refresh_from_db()
    assert (host.name, host.address) == ("local", "play.example.org")


def test_what_a_host_reported_is_told_in_words(as_dana: Client, two_releases: Host) -> None:
    wall = {"name": "Landlock", "stands": True, "sentence": "Landlock stands."}
    missing = {"name": "PID namespace", "stands": False, "sentence": "No PID namespace: denied."}
    Host.objects.update(
        taken_ports=[27015, 27020],
        walls=[wall, missing],
        disk_free_bytes=3 * 1024**3,
        load_average=0.5,
    )
    url = reverse("admin:servers_host_change", args=[two_releases.pk])
    page = as_dana.get(url).content.decode()
    for text in (
        "27015, 27020",
        "Landlock. No PID namespace: denied.",
        "17840213 (current), 17000000",
        "3.0\N{NO-BREAK SPACE}GB",
        "50 % of its processors",
    ):
        assert text in page
    for sign in ("[", "{&#x27;", "&#x27;stands&#x27;", "Release object", "True,"):
        assert sign not in page.partition("<fieldset")[2].partition("</fieldset>")[0]


def test_a_draining_host_takes_no_server_from_the_admin_either(
    as_dana: Client, stopped_server: Server
) -> None:
    other = Host.objects.create(name="other", is_draining=True)
    url = reverse("admin:servers_server_add")
    response = as_dana.post(url, server_form(stopped_server, name="beta", host=str(other.pk)))
    assert "Host other is being drained and takes no new server" in response.content.decode()
    assert Server.objects.count() == 1
    # An existing one stays where it is, and can be changed.
    Host.objects.update(is_draining=True)
    url = reverse("admin:servers_server_change", args=[stopped_server.pk])
    as_dana.post(url, server_form(stopped_server, name="alpha", port="27033"))
    stopped_server.refresh_from_db()
    assert stopped_server.port == 27033


@pytest.mark.parametrize("model", ["host", "overlay", "blueprint", "server"])
def test_its_lists_and_forms_open(
    as_dana: Client, server: Server, model: str, blueprint: Blueprint
) -> None:
    Overlay.objects.create(name="maps", is_host_folder=True)
    assert as_dana.get(reverse(f"admin:servers_{model}_changelist")).status_code == 200
    assert as_dana.get(reverse(f"admin:servers_{model}_add")).status_code == 200


def test_it_says_that_the_game_is_simulated(as_dana: Client) -> None:
    assert "Simulated game." in as_dana.get(reverse("admin:index")).content.decode()


@pytest.mark.parametrize(
    ("app", "model"),
    [
        *(("servers", one) for one in ("host", "overlay", "blueprint", "server")),
        *(("auth", one) for one in ("user", "group")),
    ],
)
def test_a_form_that_collides_with_another_of_the_same_moment_says_so(
    as_dana: Client, monkeypatch: pytest.MonkeyPatch, app: str, model: str
) -> None:
    def collide(*_args: object, **_kwargs: object) -> None:
        raise IntegrityError

    monkeypatch.setattr(admin.ModelAdmin, "_changeform_view", collide)
    url = reverse(f"admin:{app}_{model}_add")
    answer = as_dana.post(url, {})
    assert answer.headers["Location"] == url
    monkeypatch.undo()
    assert "at the same moment. Nothing was saved" in as_dana.get(url).content.decode()
