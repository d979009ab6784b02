"""The pages of servers."""

import pytest
from django.contrib.auth.models import User
from django.db import IntegrityError
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from hostops.specs import PORT_RANGE
from jobs.models import Job, Worker
from servers.forms.model_forms import ServerForm
from servers.models import (
    ActualState,
    Blueprint,
    ConsoleLine,
    Crash,
    DesiredState,
    Host,
    Overlay,
    OverlayReport,
    ReleaseReport,
    Server,
)
from tests.pages.queries import assert_same_queries
from tests.states import record_state

LIST = reverse("servers:list")
NEW = reverse("servers:create")


def form_of(blueprint: Blueprint, /, **changes: str) -> dict[str, str]:
    """Return what the form for a new server sends."""
    values = {"name": "beta", "port": "", "blueprint": str(blueprint.pk)}
    return {**values, "arguments": "", "config": "", **changes}


# --- The list ---------------------------------------------------------------------------------


def test_where_the_game_is_missing_an_admin_is_led_to_the_host(
    as_alice: Client, as_dana: Client, host: Host, server: Server
) -> None:
    Host.objects.update(reported_at=timezone.now(), build_id="")
    assert "Ask an admin to install it" in as_alice.get(server.get_absolute_url()).content.decode()
    page = as_dana.get(server.get_absolute_url()).content.decode()
    assert f'Install it on the <a href="/hosts/{host.name}/">host’s page</a>' in page


def test_it_lists_own_servers_with_state_address_blueprint_and_last_job(
    as_alice: Client, stopped_server: Server, failed_job: Job
) -> None:
    stopped_server.host.address = "play.example.org"
    stopped_server.host.save()
    page = as_alice.get(LIST).content.decode()
    for text in (
        "alpha",
        "stopped",
        "play.example.org:27015",
        "coop",
        failed_job.get_absolute_url(),
    ):
        assert text in page


def test_it_does_not_list_servers_of_others(as_bob: Client, server: Server) -> None:
    assert server.name not in as_bob.get(LIST).content.decode()


def test_the_list_shows_the_newest_job_of_each_server(
    as_alice: Client, server: Server, failed_job: Job
) -> None:
    newest = Job.objects.create(operation="stop", server=server)
    page = as_alice.get(LIST).content.decode()
    assert newest.get_absolute_url() in page
    assert failed_job.get_absolute_url() not in page


def test_the_list_tells_a_state_that_is_not_the_desired_one(
    as_alice: Client, stopped_server: Server
) -> None:
    stopped_server.desired_state = DesiredState.RUNNING
    stopped_server.save()
    assert "should be running" in as_alice.get(LIST).content.decode()


def test_the_list_costs_the_same_number_of_queries_with_more_rows(
    as_alice: Client,
    server: Server,
    blueprint: Blueprint,
    alice: User,
    host: Host,
    failed_job: Job,
) -> None:
    assert_same_queries(as_alice, LIST, lambda: make_servers(alice, host, blueprint))


def make_servers(owner: User, host: Host, blueprint: Blueprint) -> None:
    """Make twelve servers with three jobs each."""
    for number in range(12):
        server = Server.objects.create(
            name=f"more-{number}", owner=owner, host=host, blueprint=blueprint
        )
        for operation in ("initialize", "start", "stop"):
            Job.objects.create(operation=operation, server=server, requested_by=owner)


# --- One server -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("state", "offered", "missing"),
    [
        (ActualState.RUNNING, {"stop", "restart", "initialize", "delete"}, {"start"}),
        (ActualState.STARTING, {"stop", "restart", "initialize", "delete"}, {"start"}),
        (ActualState.STOPPED, {"start", "initialize", "delete"}, {"stop", "restart"}),
        (ActualState.ABSENT, {"start", "initialize"}, {"stop", "restart", "delete"}),
        (ActualState.CRASHED, {"start", "restart", "initialize", "delete"}, {"stop"}),
        (ActualState.UNKNOWN, {"start", "stop", "restart", "initialize", "delete"}, set()),
    ],
)
def test_the_actions_fit_the_state(
    as_alice: Client, server: Server, state: str, offered: set[str], missing: set[str]
) -> None:
    record_state(server, state)
    page = as_alice.get(server.get_absolute_url()).content.decode()
    for operation in offered:
        assert f'name="operation" value="{operation}"' in page
    for operation in missing:
        assert f'name="operation" value="{operation}"' not in page


@pytest.mark.parametrize("state", [ActualState.STOPPED, ActualState.CRASHED])
def test_what_is_down_and_should_run_has_one_button_and_stop_in_words(
    as_alice: Client, server: Server, state: str
) -> None:
    record_state(server, state)
    Server.objects.update(desired_state="running")
    page = as_alice.get(server.get_absolute_url()).content.decode()
    row, menu = page[page.index("server-actions") :].split('<details class="menu" id="more"')
    assert ">Start</button>" in row
    # One that has crashed may be restarted at any moment.
    place, other = (row, menu) if state == ActualState.CRASHED else (menu, row)
    assert 'value="stop"' not in other
    assert 'value="stop"' in place
    assert ">Keep it stopped</button>" in place
    if state == ActualState.STOPPED:
        assert "starts again after a reboot of its host" in menu
    assert 'aria-label="Stop alpha"' not in as_alice.get("/servers/").content.decode()


def test_deleting_the_instance_takes_a_second_step_without_javascript(
    as_alice: Client, stopped_server: Server
) -> None:
    page = as_alice.get(stopped_server.get_absolute_url()).content.decode()
    before_the_button = page.split('value="delete"')[0]
    assert before_the_button.rindex("<details") > before_the_button.rfind("</details>")


def test_the_page_tells_the_last_error(as_alice: Client, server: Server, failed_job: Job) -> None:
    server.last_error = "Start: <b>Port</b> 27015 is taken."
    server.save()
    page = as_alice.get(server.get_absolute_url()).content.decode()
    assert "Start: &lt;b&gt;Port&lt;/b&gt; 27015 is taken." in page
    assert failed_job.get_absolute_url() in page


def test_the_page_says_that_the_host_lacks_the_game(as_alice: Client, server: Server) -> None:
    server.host.reported_at = timezone.now()
    server.host.save()
    page = as_alice.get(server.get_absolute_url()).content.decode()
    assert "The game is not installed on host local." in page


def test_the_console_starts_with_its_newest_lines(as_alice: Client, server: Server) -> None:
    ConsoleLine.objects.bulk_create(
        ConsoleLine(server=server, seq=seq, line=f"<i>line {seq}</i>", created_at=timezone.now())
        for seq in range(1, 1_102)
    )
    page = as_alice.get(server.get_absolute_url()).content.decode()
    assert "&lt;i&gt;line 1101&lt;/i&gt;" in page
    assert page.count('class="log-line"') == 1_000
    assert page.index("line 102&") < page.index("line 1101&")
    assert reverse("jobs:console_events", args=[server.name]) in page


def test_a_page_that_refreshes_itself_is_not_sent_the_console_again(
    as_alice: Client, server: Server
) -> None:
    ConsoleLine.objects.create(server=server, seq=1, line="hello there", created_at=timezone.now())
    page = as_alice.get(server.get_absolute_url(), headers={"X-Saferoom-Refresh": "1"})
    assert "hello there" not in page.content.decode()


def test_the_page_says_that_no_worker_runs(as_alice: Client, server: Server) -> None:
    page = as_alice.get(server.get_absolute_url()).content.decode()
    assert "No worker is running on host local. Jobs wait until it is back." in page


def test_only_pages_that_show_a_host_say_that_it_has_no_worker(
    as_alice: Client, as_dana: Client, server: Server, failed_job: Job
) -> None:
    other = Host.objects.create(name="third")
    at_local, at_third = "running on host local", "running on host third"
    for address, notes in (
        ("/servers/", (at_local, at_third)),
        ("/jobs/", (at_local, at_third)),
        ("/hosts/", (at_local, at_third)),
        (server.get_absolute_url(), (at_local,)),
        (failed_job.get_absolute_url(), (at_local,)),
        (other.get_absolute_url(), (at_third,)),
        ("/admin/", (at_local, at_third)),
        ("/admin/auth/user/", ()),
        ("/blueprints/", ()),
        ("/overlays/", ()),
        ("/accounts/people/", ()),
        ("/servers/nobody/", ()),
    ):
        page = as_dana.get(address).content.decode()
        assert tuple(note for note in (at_local, at_third) if note in page) == notes, address
    refused = as_alice.get("/hosts/")
    assert refused.status_code == 403
    assert "No worker is running" not in refused.content.decode()


def test_a_worker_that_beats_ends_that_note(
    as_alice: Client, server: Server, worker: Worker
) -> None:
    assert "No worker is running" not in as_alice.get(LIST).content.decode()


def test_the_page_says_that_the_worker_pauses(
    as_alice: Client, server: Server, worker: Worker
) -> None:
    Worker.objects.update(is_claiming=False)
    page = as_alice.get(server.get_absolute_url()).content.decode()
    assert "The worker on host local takes no more jobs" in page


def test_the_page_says_that_the_host_is_drained(
    as_alice: Client, server: Server, worker: Worker
) -> None:
    Host.objects.update(is_draining=True)
    page = as_alice.get(server.get_absolute_url()).content.decode()
    assert (
        "Host local takes no more jobs, as an admin is draining it. Jobs wait until that ends."
        in page
    )


def test_owners_are_not_told_of_workers_of_hosts_they_have_nothing_on(
    as_bob: Client, server: Server
) -> None:
    assert "No worker is running" not in as_bob.get(LIST).content.decode()


# --- Making one -------------------------------------------------------------------------------


def test_an_owner_makes_a_server_and_gets_the_next_free_port(
    as_alice: Client, alice: User, server: Server, blueprint: Blueprint
) -> None:
    response = as_alice.post(NEW, form_of(blueprint))
    made = Server.objects.get(name="beta")
    assert response.headers["Location"] == made.get_absolute_url()
    assert (made.owner, made.port, made.host) == (alice, server.port + 1, server.host)


def test_the_first_server_is_made_on_the_host_of_the_settings(
    as_alice: Client, blueprint: Blueprint
) -> None:
    assert not Host.objects.exists()
    as_alice.post(NEW, form_of(blueprint))
    assert Server.objects.get(name="beta").host == Host.local()


def test_with_several_hosts_one_chooses(as_alice: Client, host: Host, blueprint: Blueprint) -> None:
    basement = Host.objects.create(name="basement")
    response = as_alice.post(NEW, form_of(blueprint))
    assert "Fill this in." in response.content.decode()
    as_alice.post(NEW, form_of(blueprint, host=str(basement.pk)))
    assert Server.objects.get(name="beta").host == basement


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"name": "Beta"}, "lower-case letters"),
        ({"name": "b" * 33}, "Use at most 32 characters. This has 33."),
        ({"name": "new"}, "the address of a page of the panel"),
        ({"name": "alpha"}, "That is already taken."),
        ({"name": "be\0ta"}, "Remove the NUL character."),
        ({"port": "80"}, "Choose a port from 27015 to 27115"),
        ({"port": "27116"}, "Only an admin can assign any other"),
        ({"port": "27015"}, "Another server of this host has that port."),
        ({"port": "9" * 30}, "Choose a port from 27015 to 27115"),
        ({"blueprint": "999"}, "That blueprint is gone, or you may not use it."),
        ({"blueprint": "x"}, "That blueprint is gone, or you may not use it."),
        ({"arguments": "-port 1"}, "Saferoom sets -port itself"),
        ({"arguments": '+map "c1m1'}, "is opened and not closed"),
        ({"config": "hostname Café"}, "plain ASCII only"),
    ],
)
def test_a_bad_value_is_told_in_the_form_which_keeps_what_was_typed(
    as_alice: Client,
    server: Server,
    blueprint: Blueprint,
    changes: dict[str, str],
    complaint: str,
) -> None:
    response = as_alice.post(NEW, form_of(blueprint, **{"config": "sv_lan 0", **changes}))
    page = response.content.decode()
    assert response.status_code == 200
    assert complaint in page.replace("&#x27;", "'")
    assert "sv_lan 0" in page or "config" in changes
    assert Server.objects.count() == 1


def test_a_full_host_is_told_in_the_form(
    as_alice: Client, bob: User, host: Host, blueprint: Blueprint
) -> None:
    Server.objects.bulk_create(
        Server(name=f"s{port}", owner=bob, host=host, blueprint=blueprint, port=port)
        for port in PORT_RANGE
    )
    response = as_alice.post(NEW, form_of(blueprint))
    assert "has no free port between 27015 and 27115" in response.content.decode()
    assert not Server.objects.filter(name="beta").exists()


def test_a_name_that_is_taken_between_check_and_save_is_told_in_the_form(
    as_alice: Client,
    alice: User,
    host: Host,
    blueprint: Blueprint,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    try_save = ServerForm.try_save

    def try_save_after_somebody_else(form: ServerForm) -> bool:
        Server.objects.create(name="beta", owner=alice, host=host, blueprint=blueprint)
        return try_save(form)

    monkeypatch.setattr(ServerForm, "try_save", try_save_after_somebody_else)
    response = as_alice.post(NEW, form_of(blueprint))
    assert response.status_code == 200
    assert "That is already taken." in response.content.decode()


def test_a_collision_without_a_name_is_told_too(
    as_alice: Client, blueprint: Blueprint, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    def collide(self: Server, *args: object, **kwargs: object) -> None:
        raise IntegrityError

    monkeypatch.setattr(Server, "save", collide)
    response = as_alice.post(NEW, form_of(blueprint))
    assert "at the same moment" in response.content.decode()


def test_a_blueprint_of_somebody_else_cannot_be_used(
    as_bob: Client, blueprint: Blueprint, host: Host
) -> None:
    page = as_bob.post(NEW, form_of(blueprint)).content.decode()
    assert "That blueprint is gone, or you may not use it." in page
    Blueprint.objects.update(is_shared=True)
    assert as_bob.post(NEW, form_of(blueprint)).status_code == 302


# --- Changing and removing it -----------------------------------------------------------------


def test_an_edit_changes_port_and_overrides_but_neither_name_nor_host(
    as_alice: Client, server: Server, blueprint: Blueprint
) -> None:
    other = Host.objects.create(name="basement")
    url = reverse("servers:edit", args=[server.name])
    values = form_of(blueprint, port="27050", config="sv_lan 1", host=str(other.pk))
    response = as_alice.post(url, values, follow=True)
    assert "Server alpha was saved." in response.content.decode()
    changed = Server.objects.get(pk=server.pk)
    assert (changed.port, changed.config) == (27050, "sv_lan 1")
    assert (changed.name, changed.host) == ("alpha", server.host)


def test_an_edit_keeps_a_blueprint_that_is_not_shared_any_more(
    as_bob: Client, bob: User, server: Server, blueprint: Blueprint
) -> None:
    server.owner = bob
    server.save()
    url = reverse("servers:edit", args=[server.name])
    assert as_bob.post(url, form_of(blueprint, port="27015")).status_code == 302


def test_removing_asks_first_and_then_removes_the_row(
    as_alice: Client, server: Server, failed_job: Job
) -> None:
    url = reverse("servers:remove", args=[server.name])
    page = as_alice.get(url).content.decode()
    assert "Remove the server" in page
    assert "is deleted with it" not in page
    Crash.objects.create(server=server)
    for _ in range(2):
        server.runs.model.objects.create(server=server, started_at=timezone.now())
        server.console_runs.create(number=1, first_seq=1, started_at=timezone.now())
    page = as_alice.get(url).content.decode()
    assert "What the panel keeps of the server itself is deleted with it:" in page
    assert "<li>2 runs of its console</li>" in page
    assert "<li>1 crash</li>" in page
    assert Server.objects.count() == 1
    response = as_alice.post(url, follow=True)
    assert "Server alpha was removed." in response.content.decode()
    assert not Server.objects.exists()
    assert Job.objects.get().server_name == "alpha"


@pytest.mark.parametrize(
    "state", [ActualState.STOPPED, ActualState.RUNNING, ActualState.CRASHED, ActualState.UNKNOWN]
)
def test_a_server_with_an_instance_is_not_removed(
    as_alice: Client, server: Server, state: str
) -> None:
    record_state(server, state)
    response = as_alice.post(reverse("servers:remove", args=[server.name]))
    assert response.status_code == 409
    assert "Delete its files first" in response.content.decode()
    assert Server.objects.count() == 1


def test_the_menu_has_the_two_steps_to_remove_a_server_in_order(
    as_alice: Client, server: Server
) -> None:
    def steps() -> tuple[str, str]:
        page = " ".join(as_alice.get(server.get_absolute_url()).content.decode().split())
        first, _, second = (
            page.partition('class="menu-steps"')[2].partition("</ol>")[0].partition("</li>")
        )
        return first, second

    record_state(server, ActualState.STOPPED)
    first, second = steps()
    assert 'value="delete"' in first
    assert "<button" in second
    assert " disabled " in second
    assert "Once its files are deleted." in second
    record_state(server, ActualState.ABSENT)
    first, second = steps()
    assert "Done: there are none on host" in first
    assert f'href="{reverse("servers:remove", args=[server.name])}"' in second
    Job.objects.create(operation="start", server=server)
    assert "is waiting or running" in steps()[1]


def test_a_server_with_a_waiting_job_is_not_removed(as_alice: Client, server: Server) -> None:
    Job.objects.create(operation="start", server=server)
    response = as_alice.post(reverse("servers:remove", args=[server.name]))
    assert response.status_code == 409
    assert "is waiting or running" in response.content.decode()


def test_a_crash_is_shown_with_its_last_words(as_alice: Client, stopped_server: Server) -> None:
    crashes = f"{stopped_server.get_absolute_url()}crashes/"
    assert (
        "None. If the server ends without being asked to" in as_alice.get(crashes).content.decode()
    )
    crash = Crash(server=stopped_server, exit_signal="SIGSEGV", last_lines="first\n<b>last</b>")
    Crash.record(stopped_server, [crash])
    page = as_alice.get(crashes).content.decode()
    assert "<code>SIGSEGV</code>" in page
    assert "first\n&lt;b&gt;last&lt;/b&gt;" in page


@pytest.mark.parametrize("path", ["/servers/", "/servers/alpha/", "/blueprints/coop/"])
def test_what_becomes_of_a_crash_is_told_on_every_page_with_the_state(
    as_alice: Client, stopped_server: Server, path: str
) -> None:
    Server.objects.update(actual_state="crashed", desired_state="running")
    labels = {"": "crashed", "restarting (2 of 5)": "crashed, restarting (2 of 5)"}
    for note, label in {**labels, "gave up": "crashed, gave up"}.items():
        Server.objects.update(state_note=note)
        page = as_alice.get(path).content.decode()
        assert f'data-state="crashed">{label}</span>' in page


def test_the_hosts_words_on_a_state_are_shown(as_alice: Client, stopped_server: Server) -> None:
    said = "Crashed (SIGSEGV), gave up after 5 restarts within 10 minutes."
    Server.objects.update(actual_state="crashed", state_note="gave up", state_detail=said)
    assert said in as_alice.get(stopped_server.get_absolute_url()).content.decode()


def test_a_reset_is_confirmed_and_becomes_a_job(as_alice: Client, stopped_server: Server) -> None:
    page = as_alice.get(stopped_server.get_absolute_url()).content.decode()
    confirmation = page.partition('id="reset-instance"')[2].partition("</details>")[0]
    assert "removes everything it wrote" in confirmation
    assert 'name="operation" value="reset"' in confirmation
    as_alice.post(f"{stopped_server.get_absolute_url()}jobs/", {"operation": "reset"})
    assert stopped_server.jobs.get().operation == "reset"


@pytest.mark.parametrize(
    ("state", "words"),
    [
        (ActualState.ABSENT, "alpha has no files on host local."),
        (None, "alpha has no files that Saferoom knows of on host local."),
    ],
)
def test_where_there_is_nothing_to_reset_no_reset_is_offered_or_becomes_a_job(
    as_alice: Client, server: Server, state: str | None, words: str
) -> None:
    if state:
        record_state(server, state)
    # What happens elsewhere on the host makes no files for this server.
    other = Server.objects.create(
        name="other", owner=server.owner, host=server.host, blueprint=server.blueprint
    )
    Job.objects.create(operation="start", server=other)
    assert 'value="reset"' not in as_alice.get(server.get_absolute_url()).content.decode()
    response = as_alice.post(f"{server.get_absolute_url()}jobs/", {"operation": "reset"})
    assert response.status_code == 409
    assert f"There is nothing to reset: {words}" in response.content.decode()
    assert not server.jobs.exists()


def test_a_start_that_waits_may_leave_something_to_reset(as_alice: Client, server: Server) -> None:
    Job.objects.create(operation="start", server=server)
    as_alice.post(f"{server.get_absolute_url()}jobs/", {"operation": "reset"})
    assert server.jobs.filter(operation="reset").exists()


def test_a_draining_host_takes_no_new_server_also_as_the_only_one(
    as_alice: Client, host: Host, blueprint: Blueprint
) -> None:
    Host.objects.update(is_draining=True)
    said = "Host local is being drained and takes no new server until an admin ends that."
    empty = as_alice.get(LIST).content.decode()
    assert said in empty
    assert "Make a server</a>" not in empty
    assert said in as_alice.get(NEW).content.decode()
    response = as_alice.post(NEW, form_of(blueprint))
    assert said in response.content.decode()
    assert not Server.objects.exists()
    Host.objects.update(is_draining=False)
    assert said not in as_alice.get(NEW).content.decode()
    as_alice.post(NEW, form_of(blueprint))
    assert Server.objects.get().host == host


def test_of_several_hosts_only_those_that_are_not_drained_take_a_new_server(
    as_alice: Client, host: Host, blueprint: Blueprint
) -> None:
    other = Host.objects.create(name="other", is_draining=True)
    response = as_alice.post(NEW, form_of(blueprint, host=str(other.pk)))
    assert "This host is being drained or no longer exists." in response.content.decode()
    Host.objects.update(is_draining=True)
    response = as_alice.post(NEW, form_of(blueprint, host=str(host.pk)))
    assert "All hosts are being drained. None takes a new server" in response.content.decode()
    assert not Server.objects.exists()


def test_a_server_of_a_draining_host_can_still_be_changed(
    as_alice: Client, stopped_server: Server, blueprint: Blueprint
) -> None:
    Host.objects.update(is_draining=True)
    url = reverse("servers:edit", args=[stopped_server.name])
    as_alice.post(url, form_of(blueprint, port="27031"))
    stopped_server.refresh_from_db()
    assert stopped_server.port == 27031


def test_arguments_of_blueprint_and_server_that_contradict_each_other_are_told(
    as_alice: Client, stopped_server: Server
) -> None:
    Blueprint.objects.update(arguments="+map c1m1_hotel -tickrate 60")
    Server.objects.update(arguments="-tickrate 100")
    told = "-tickrate is given 2 times, as 60 and as 100: the game takes one of them."
    url = stopped_server.get_absolute_url()
    assert told in as_alice.get(url).content.decode()
    Server.objects.update(arguments="-tickrate 60")
    assert "is given 2 times" not in as_alice.get(url).content.decode()


def test_a_map_that_the_host_has_not_reported_is_told_before_a_start(
    as_alice: Client, stopped_server: Server
) -> None:
    host, now = stopped_server.host, timezone.now()
    Blueprint.objects.update(arguments="+map c5m1_waterfont", config="sv_lan 0\nmap c1m1_hotel\n")
    url = stopped_server.get_absolute_url()
    told = "The map c5m1_waterfont is neither in the game on host local nor in the overlays."

    def page() -> str:
        return as_alice.get(url).content.decode()

    assert told not in page()  # Nobody has looked yet.
    left_out = "Lines of the blueprint’s config change the map, and are left out at each start"
    assert left_out in page()
    assert "on every map: 2. Choose the first map with +map" in page()
    release = ReleaseReport.objects.create(
        host=host, build_id=host.build_id, maps=["c5m1_waterfront"], looked_at=now
    )
    assert f"{told} The nearest is c5m1_waterfront." in page()
    Blueprint.objects.update(arguments="+map maps/c5m1_waterfront")
    assert "Write +map c5m1_waterfront in the launch arguments." in page()
    Blueprint.objects.update(arguments="+map c5m1_waterfont")
    stopped_server.blueprint.set_overlays(
        [Overlay.objects.create(name="maps", is_host_folder=True)]
    )
    assert told not in page()
    overlay = OverlayReport.objects.create(host=host, name="maps", maps=[], looked_at=now)
    assert told in page()
    finding = {"code": "pack_broken", "severity": "warned", "text": "It is broken.", "path": ""}
    OverlayReport.objects.update(findings=[finding])
    assert told not in page()
    overlay.maps = ["c5m1_waterfont"]
    overlay.save()
    assert told not in page()
    overlay.delete()
    stopped_server.blueprint.set_overlays([])
    release.obstacles = ["pak01_dir.vpk cannot be read."]
    release.save()
    assert told not in page()


def test_a_server_on_an_older_build_says_so(as_alice: Client, stopped_server: Server) -> None:
    Server.objects.update(running_build_id="17000000", actual_state=ActualState.RUNNING)
    page = as_alice.get(stopped_server.get_absolute_url()).content.decode()
    assert "Restart to apply: build</summary>" in page
    assert "from 17000000 to 17840213</dd>" in page.replace("\n", "")
    assert "restart to apply: build" in as_alice.get("/servers/").content.decode()
    Host.objects.update(build_id="")  # It is not known what the host has: then nothing is promised.
    assert "estart to apply" not in as_alice.get(stopped_server.get_absolute_url()).content.decode()


# --- Players ----------------------------------------------------------------------------------


def test_the_players_of_a_running_server_are_shown_with_its_map(
    as_alice: Client, server: Server
) -> None:
    Server.objects.update(actual_state="running", players=3, max_players=8, map="c1m1_<hotel>")
    for url in (reverse("servers:list"), server.get_absolute_url()):
        page = as_alice.get(url).content.decode()
        assert "</span>3/8</" in page
        assert "c1m1_&lt;hotel&gt;" in page


@pytest.mark.parametrize(("state", "players"), [("running", None), ("stopped", 3)])
def test_unknown_players_are_not_shown_as_none(
    as_alice: Client, server: Server, state: str, players: int | None
) -> None:
    Server.objects.update(actual_state=state, players=players, max_players=8, map="c1m1_hotel")
    assert "Players:" not in as_alice.get(reverse("servers:list")).content.decode()
