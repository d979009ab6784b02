"""The screen on which servers are made: for the first one in place of the list, later at its address."""

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from hostops.simulator.game_files import map_names
from hostops.specs import find_conflicts, find_map, parse_arguments
from jobs.models import Job, JobState
from servers.config.names import suggest_server_name
from servers.config.ready_blueprints import READY_BLUEPRINTS, ReadyBlueprint, find_rows
from servers.models import ActualState, Blueprint, Host, Server
from tests.states import record_state

pytestmark = pytest.mark.django_db

LIST = reverse("servers:list")
NEW = reverse("servers:create")
MAKE_AND_START = reverse("jobs:make_and_start")


def read(client: Client, address: str = LIST) -> str:
    """Return a page with each run of blanks collapsed."""
    return " ".join(client.get(address).content.decode().split())


def form_of(blueprint: Blueprint | str, **changes: str) -> dict[str, str]:
    """Return what the form of the screen sends."""
    chosen = blueprint if isinstance(blueprint, str) else str(blueprint.pk)
    values = {"name": "first", "port": "", "blueprint": chosen, "next": LIST}
    return {**values, "arguments": "", "config": "", **changes}


@pytest.fixture
def empty_host(host: Host) -> Host:
    """Return a host that has reported, without the game."""
    host.reported_at = timezone.now()
    host.save()
    return host


# --- Ready blueprints -------------------------------------------------------------------------


@pytest.mark.parametrize("ready", READY_BLUEPRINTS, ids=lambda ready: ready.key)
def test_a_ready_blueprint_is_one_that_starts(ready: ReadyBlueprint, alice: User) -> None:
    row = find_rows(alice)[ready.key]
    row.full_clean()
    assert row.faults == []
    words = parse_arguments(row.arguments)
    assert find_conflicts(words) == []
    assert find_map(words) in map_names()
    # Hidden from configs, so that it counts nowhere else (FACTS A7).
    assert ("+mp_gamemode", ready.mode) == words[-2:]


def test_each_is_played_in_another_mode() -> None:
    assert len({ready.mode for ready in READY_BLUEPRINTS}) == len(READY_BLUEPRINTS)


def test_one_that_is_used_again_is_the_same_row(as_alice: Client, alice: User) -> None:
    for name in ("one", "two"):
        as_alice.post(NEW, form_of("ready:versus", name=name))
    blueprint = Blueprint.objects.get()
    assert (blueprint.name, blueprint.owner, blueprint.is_shared) == ("versus", alice, False)
    assert [server.blueprint for server in Server.objects.all()] == [blueprint, blueprint]


def test_the_form_says_which_blueprint_a_ready_one_is_or_becomes(
    as_alice: Client, bob: User
) -> None:
    assert "Uses your blueprint" not in read(as_alice, NEW)
    assert "Makes the blueprint" not in read(as_alice, NEW)
    Blueprint.objects.create(name="campaign", owner=bob)
    assert "Makes the blueprint campaign-2: there is another one called campaign." in read(
        as_alice, NEW
    )
    page = as_alice.post(NEW, form_of("ready:campaign", name="one"), follow=True)
    assert (
        "The server uses the new blueprint campaign-2. To change how it plays,"
        in page.content.decode()
    )
    assert "Uses your blueprint campaign-2." in read(as_alice, NEW)
    page = as_alice.post(NEW, form_of("ready:campaign", name="two"), follow=True)
    assert "The server uses the new blueprint" not in page.content.decode()


@pytest.mark.parametrize("end", ["", "\n"], ids=["as-made-now", "as-made-before"])
def test_one_that_is_saved_as_it_is_stays_the_same(as_alice: Client, alice: User, end: str) -> None:
    as_alice.post(NEW, form_of("ready:campaign"))
    config = Blueprint.objects.get().config + end
    Blueprint.objects.update(config=config)
    row = Blueprint.objects.get()
    sent = {"name": row.name, "arguments": row.arguments, "config": config.replace("\n", "\r\n")}
    assert as_alice.post(f"{row.get_absolute_url()}edit/", sent).status_code == 302
    row.refresh_from_db()
    assert row.config == config
    assert find_rows(alice)["campaign"].pk == row.pk
    sent["config"] = f"{config.strip()}\r\nsv_lan 0\r\n"
    as_alice.post(f"{row.get_absolute_url()}edit/", sent)
    row.refresh_from_db()
    assert row.config == f"{config.strip()}\nsv_lan 0"


def test_one_that_was_changed_since_is_left_alone(as_alice: Client, bob: User) -> None:
    Blueprint.objects.create(name="campaign", owner=bob)
    as_alice.post(NEW, form_of("ready:campaign", name="one"))
    Blueprint.objects.filter(name="campaign-2").update(config="sv_lan 1")
    as_alice.post(NEW, form_of("ready:campaign", name="two"))
    assert Server.objects.get(name="two").blueprint.name == "campaign-3"


def test_a_ready_one_that_is_there_is_offered_once(as_alice: Client) -> None:
    as_alice.post(NEW, form_of("ready:campaign", name="one"))
    row = Blueprint.objects.get()
    Blueprint.objects.create(name="other", owner=row.owner)
    page = as_alice.get(NEW).content.decode()
    assert "Uses your blueprint campaign." in page
    assert f'value="{row.pk}"' not in page
    assert '<span class="choice-label">other</span>' in page
    page = as_alice.get(f"{NEW}?blueprint=campaign").content.decode()
    assert 'value="ready:campaign" checked' in page


def test_what_cannot_be_made_leaves_no_blueprint_behind(
    as_alice: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    as_alice.post(NEW, form_of("ready:campaign", name="No Name"))
    assert not Blueprint.objects.exists()
    monkeypatch.setattr("servers.quotas.most_servers", lambda _person: 0)
    assert as_alice.post(NEW, form_of("ready:campaign")).status_code == 429
    assert not Blueprint.objects.exists()


def test_a_ready_one_that_is_not_there_is_none(as_alice: Client) -> None:
    page = as_alice.post(NEW, form_of("ready:mutation")).content.decode()
    assert "That blueprint is gone, or you may not use it." in page


# --- The screen -------------------------------------------------------------------------------


def test_an_admin_without_servers_installs_and_makes_one_on_one_screen(
    as_dana: Client, empty_host: Host
) -> None:
    page = read(as_dana)
    assert 'action="/hosts/local/jobs/"' in page
    for ready in READY_BLUEPRINTS:
        assert str(ready.label) in page
    assert f'formaction="{MAKE_AND_START}"' in page
    assert 'value="dana-1"' in page
    assert "The game is not installed yet. This installs it first." in page


def test_an_owner_without_servers_is_told_to_ask_for_the_game(
    as_bob: Client, empty_host: Host
) -> None:
    page = read(as_bob)
    assert "/hosts/local/jobs/" not in page
    assert "It is not installed on host local yet. Ask an admin to do that" in page


def test_the_install_is_shown_where_it_was_asked_for(as_dana: Client, empty_host: Host) -> None:
    answer = as_dana.post("/hosts/local/jobs/", {"operation": "install", "next": LIST})
    assert answer.headers["Location"] == LIST
    Job.objects.update(state=JobState.RUNNING, stage="Downloading", progress=41)
    page = read(as_dana)
    assert '<progress max="100" value="41"' in page
    assert "The server starts as soon as it is there." in page


def test_an_owner_sees_that_it_is_being_installed_and_not_the_job(
    as_bob: Client, empty_host: Host
) -> None:
    job = Job.objects.create(operation="install", state=JobState.RUNNING, progress=12)
    page = read(as_bob)
    assert "An admin is installing it on host local." in page
    assert 'value="12"' in page
    assert job.get_absolute_url() not in page


def test_a_failed_install_stays_with_its_retry(as_dana: Client, empty_host: Host) -> None:
    job = Job.objects.create(operation="install", state=JobState.FAILED, error="No space left.")
    page = read(as_dana)
    assert "No space left." in page
    assert f'action="{job.get_absolute_url()}retry"' in page


def test_blueprints_that_one_may_use_are_offered_too(
    as_bob: Client, blueprint: Blueprint, alice: User
) -> None:
    assert f'value="{blueprint.pk}"' not in read(as_bob, NEW)
    Blueprint.objects.update(is_shared=True)
    page = read(as_bob, f"{NEW}?blueprint=coop")
    assert f'value="{blueprint.pk}" checked' in page
    assert "of alice" in page


def test_whoever_may_have_no_more_servers_is_told_before_the_form(
    as_alice: Client, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("servers.quotas.most_servers", lambda _person: 1)
    assert "You have 1 server, and you may have 1." in read(as_alice, NEW)


def test_its_queries_do_not_grow_with_hosts_and_blueprints(as_dana: Client, dana: User) -> None:
    def make(number: int) -> None:
        host = Host.objects.create(name=f"h{number}", reported_at=timezone.now())
        Job.objects.create(operation="install", host=host, state=JobState.FAILED)
        Blueprint.objects.create(name=f"b{number}", owner=dana)

    def count() -> int:
        with CaptureQueriesContext(connection) as captured:
            read(as_dana, NEW)
        return len(captured)

    make(0)
    make(1)
    before = count()
    for number in range(2, 8):
        make(number)
    assert count() == before


def test_a_free_name_is_offered(alice: User, server: Server) -> None:
    assert suggest_server_name(alice) == "alice-1"
    Server.objects.update(name="alice-1")
    assert suggest_server_name(alice) == "alice-2"
    odd = User.objects.create_user("Ünal @ Home. A name that is longer than a server's may be")
    assert suggest_server_name(odd) == "nal-home-a-name-that-is-1"
    assert suggest_server_name(User.objects.create_user("小明")) == "server-1"


# --- Make and start ---------------------------------------------------------------------------


def test_make_and_start_installs_makes_and_starts_and_stays(
    as_dana: Client, empty_host: Host
) -> None:
    answer = as_dana.post(MAKE_AND_START, form_of("ready:campaign"))
    assert (answer.status_code, answer.headers["Location"]) == (303, f"{LIST}?made=first")
    assert list(Job.objects.order_by("pk").values_list("operation", flat=True)) == [
        "install",
        "start",
    ]
    page = read(as_dana, f"{LIST}?made=first")
    assert 'Server <span class="name">first</span> was made' in page
    assert "It starts once the game is installed on host local." in page


def test_an_install_that_is_on_its_way_is_not_asked_for_twice(
    as_dana: Client, empty_host: Host
) -> None:
    Job.objects.create(operation="install", host=empty_host, state=JobState.RUNNING)
    as_dana.post(MAKE_AND_START, form_of("ready:campaign"))
    assert Job.objects.filter(operation="install").count() == 1
    assert Job.objects.filter(operation="start").count() == 1


def test_an_owner_makes_a_server_that_waits_for_the_game_without_a_job_that_must_fail(
    as_bob: Client, empty_host: Host
) -> None:
    answer = as_bob.post(MAKE_AND_START, form_of("ready:campaign"), follow=True)
    page = " ".join(answer.content.decode().split())
    assert "Server first was made, but not started: the game is not installed on host local" in page
    assert not Job.objects.exists()
    assert "Start first" in page


def test_what_the_queue_refuses_is_told_and_the_server_is_there(
    as_bob: Client, installed_host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobs.queue.requests.find_flood", lambda _person: "Too many wait.")
    page = as_bob.post(MAKE_AND_START, form_of("ready:campaign"), follow=True).content.decode()
    assert "Server first was made, but not started: Too many wait." in page
    assert Server.objects.get().name == "first"


def test_a_form_with_a_fault_comes_back_with_what_was_typed(as_bob: Client, host: Host) -> None:
    answer = as_bob.post(MAKE_AND_START, form_of("ready:survival", name="Bad Name"))
    page = answer.content.decode()
    assert answer.status_code == 200
    assert "lower-case letters" in page
    assert 'value="ready:survival" checked' in page
    assert 'value="Bad Name"' in page
    assert not Job.objects.exists()


def test_it_shows_where_to_play_once_the_server_runs(
    as_alice: Client, server: Server, installed_host: Host
) -> None:
    Host.objects.update(address="play.example.org")
    record_state(server, ActualState.RUNNING)
    page = read(as_alice, f"{NEW}?made=alpha")
    assert "steam://connect/play.example.org:27015" in page
    assert 'data-copy="connect play.example.org:27015"' in page


def test_a_server_of_others_is_not_shown_as_made(as_bob: Client, server: Server) -> None:
    assert "alpha" not in read(as_bob, f"{LIST}?made=alpha")


def test_scripts_are_led_to_the_new_server_as_ever(as_alice: Client, blueprint: Blueprint) -> None:
    values = form_of(blueprint)
    del values["next"]
    answer = as_alice.post(NEW, values)
    assert (answer.status_code, answer.headers["Location"]) == (302, "/servers/first/")
