"""The list of servers: what it finds, counts, sorts and hints at, and one action on many."""

import re
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone

from jobs import queue
from jobs.models import DeferredAction, Job, JobState, Worker
from jobs.pages import many_servers
from servers.fleet.board import ROWS_PER_PAGE
from servers.models import Blueprint, Crash, Host, Membership, Server
from tests.pages.conftest import sign_in
from tests.pages.queries import assert_same_queries

pytestmark = pytest.mark.django_db

MANY = "/jobs/many/"


def text(browser: Client, query: str = "") -> str:
    return browser.get(f"/servers/{query}").content.decode()


def shown(browser: Client, query: str = "") -> list[str]:
    return re.findall('id="tick-([^"]*)"', text(browser, query))


def counts(browser: Client, query: str = "") -> dict[str, int]:
    found = re.findall(r'>([\w ]+) <span class="filters-count">(\d+)<', text(browser, query))
    return {label: int(count) for label, count in found}


@pytest.fixture
def fleet(alice: User, host: Host, blueprint: Blueprint, worker: Worker) -> dict[str, Server]:
    """Return servers of Alice's in different states, by name."""
    Host.objects.update(build_id="200")
    columns: dict[str, dict[str, Any]] = {
        "able": {"actual_state": "running", "players": 2, "map": "c5m1_waterfront"},
        "baker": {"actual_state": "running", "players": 0, "map": "c1m1_hotel"},
        "charlie": {"actual_state": "stopped"},
        "dog": {"actual_state": "crashed", "desired_state": "running"},
        "easy": {"actual_state": "running", "running_build_id": "100"},
    }
    return {
        name: Server.objects.create(
            name=name,
            owner=alice,
            host=Host.objects.get(),
            blueprint=blueprint,
            max_players=8,
            **values,
        )
        for name, values in columns.items()
    }


def test_filters_show_how_many_there_are_and_only_those(
    as_alice: Client, fleet: dict[str, Server]
) -> None:
    Job.objects.create(operation="start", server=fleet["charlie"])
    expected = {
        "": ("all", ["able", "baker", "charlie", "dog", "easy"]),
        "running": ("running", ["able", "baker", "easy"]),
        "people": ("people on", ["able"]),
        "stopped": ("stopped", ["charlie"]),
        "crashed": ("crashed", ["dog"]),
        "busy": ("job waiting or running", ["charlie"]),
        "older": ("older build", ["easy"]),
    }
    assert counts(as_alice) == {label: len(names) for label, names in expected.values()}
    for state, (_, names) in expected.items():
        assert shown(as_alice, f"?state={state}") == names


def test_a_silent_host_makes_its_servers_not_heard_of_and_nothing_else(
    as_alice: Client, fleet: dict[str, Server]
) -> None:
    Worker.objects.update(heartbeat_at=timezone.now() - timedelta(hours=1))
    assert counts(as_alice) == {"all": 5, "not heard from": 5, "older build": 1}
    assert "2/8" not in text(as_alice)


@pytest.mark.parametrize(
    ("words", "names"),
    [
        ("waterfront", ["able"]),
        ("WATER able", ["able"]),
        ("water baker", []),
        ("coop", ["able", "baker", "charlie", "dog", "easy"]),
        ("27016", ["baker"]),
        ("%", []),
    ],
)
def test_a_search_looks_at_names_maps_blueprints_and_ports(
    as_alice: Client, fleet: dict[str, Server], words: str, names: list[str]
) -> None:
    assert shown(as_alice, f"?q={words.replace('%', '%25')}") == names


def test_it_sorts_by_a_column_with_what_is_not_known_last(
    as_alice: Client, fleet: dict[str, Server]
) -> None:
    assert shown(as_alice, "?sort=-people")[:2] == ["able", "baker"]
    assert shown(as_alice, "?sort=people")[:2] == ["baker", "able"]
    assert shown(as_alice, "?sort=-name")[0] == "easy"
    assert 'aria-sort="descending"' in text(as_alice, "?sort=-name")


@pytest.mark.parametrize(
    "query", ["?state=x", "?sort=x", "?sort=--name", "?page=0", "?page=x", "?page=99", "?q=%00"]
)
def test_odd_addresses_show_the_list(
    as_alice: Client, fleet: dict[str, Server], query: str
) -> None:
    assert len(shown(as_alice, query)) == 5


def test_a_page_has_a_bounded_number_of_servers_and_costs_the_same(
    as_alice: Client, alice: User, fleet: dict[str, Server]
) -> None:
    # What is only queried if there is any of it.
    Crash.objects.create(server=fleet["dog"], exit_signal="SIGSEGV")
    host, blueprint = fleet["able"].host, fleet["able"].blueprint

    def make_more() -> None:
        Server.objects.bulk_create(
            Server(name=f"x{n}", owner=alice, host=host, blueprint=blueprint, port=30_000 + n)
            for n in range(ROWS_PER_PAGE)
        )

    assert_same_queries(as_alice, "/servers/", make_more)
    assert len(shown(as_alice)) == ROWS_PER_PAGE
    assert len(shown(as_alice, "?page=2")) == 5


# --- What is most worth knowing ---------------------------------------------------------------


def hint_of(browser: Client, name: str) -> str:
    row = text(browser).partition(f'id="tick-{name}"')[2].partition("</tr>")[0]
    return " ".join(re.sub("<[^>]*>", " ", row.partition("Worth knowing")[2]).split())


def test_the_hint_is_what_matters_most(as_alice: Client, fleet: dict[str, Server]) -> None:
    easy = fleet["easy"]
    Host.objects.update(is_draining=True)
    assert "host local is being drained" in hint_of(as_alice, "baker")
    assert "restart to apply: build" in hint_of(as_alice, "easy")
    DeferredAction.objects.create(server=easy, operation="restart", until=timezone.now())
    assert "Restart when empty" in hint_of(as_alice, "easy")
    Job.objects.create(operation="restart", server=easy, state="failed", error="Port is taken.")
    assert "Restart failed: Port is taken." in hint_of(as_alice, "easy")
    Crash.objects.create(server=fleet["dog"], exit_signal="SIGSEGV")
    assert "crashed with SIGSEGV" in hint_of(as_alice, "dog")


def test_a_start_that_failed_is_no_hint_once_its_server_runs_all_the_same(
    as_alice: Client, fleet: dict[str, Server]
) -> None:
    """As when its worker was killed, and the next one found the server running."""
    easy, now = fleet["easy"], timezone.now()
    job = Job.objects.create(
        operation="start", server=easy, state="failed", error="Nobody knows.", finished_at=now
    )
    Server.objects.filter(pk=easy.pk).update(actual_state_at=now)
    assert "Start failed: Nobody knows." in hint_of(as_alice, "easy")
    Server.objects.filter(pk=easy.pk).update(actual_state_at=now + timedelta(seconds=1))
    assert "failed" not in hint_of(as_alice, "easy")
    Job.objects.filter(pk=job.pk).update(operation="stop")
    assert "Stop failed" in hint_of(as_alice, "easy")


def test_a_job_that_runs_shows_its_stage_and_bar_in_the_row(
    as_alice: Client, fleet: dict[str, Server]
) -> None:
    Job.objects.create(
        operation="start",
        server=fleet["charlie"],
        state=JobState.RUNNING,
        stage="Waiting for the map",
        progress=40,
    )
    row = text(as_alice).partition('id="tick-charlie"')[2].partition("</tr>")[0]
    assert "Waiting for the map" in row
    assert '<progress max="100" value="40"' in row


def test_a_row_with_people_on_it_asks_and_leads_back_to_the_list(
    as_alice: Client, fleet: dict[str, Server]
) -> None:
    page = text(as_alice, "?q=able")
    question = page.partition('id="ask-stop-able"')[2].partition("</details>")[0]
    assert "2 people are on." in question
    assert "ask-stop-baker" not in text(as_alice)
    data = {"operation": "stop", "people": "2", "next": "/servers/?q=able"}
    answer = as_alice.post("/servers/able/jobs/", {**data, "when": "empty"})
    assert answer["Location"] == "/servers/?q=able"
    assert (DeferredAction.objects.count(), Job.objects.count()) == (1, 0)
    as_alice.post("/servers/able/jobs/", {**data, "when": "now"})
    assert (DeferredAction.objects.count(), Job.objects.count()) == (0, 1)


def test_a_row_asks_too_while_its_server_does_not_answer_and_people_have_not_left(
    as_alice: Client, fleet: dict[str, Server]
) -> None:
    Server.objects.filter(name="able").update(players=None)
    assert "ask-stop-able" not in text(as_alice, "?q=able")
    now = timezone.now()
    player = {"steam_id": "STEAM_1:0:1", "joined_at": now, "seen_at": now}
    fleet["able"].player_sessions.create(**player)
    question = text(as_alice, "?q=able").partition('id="ask-stop-able"')[2]
    assert "The panel does not know how many people are on." in question
    assert 'name="people"' not in question.partition("</details>")[0]


# --- Many at once -----------------------------------------------------------------------------


def test_many_are_asked_about_once_and_then_each_gets_its_job(
    as_alice: Client, fleet: dict[str, Server]
) -> None:
    data = {"action": "restart", "server": ["able", "baker", "charlie"], "next": "/servers/?q=a"}
    page = as_alice.post(MANY, data).content.decode()
    assert not Job.objects.exists()
    assert "2 people are on and will be disconnected." in page
    marked = re.findall(r'<a href="([^"]*)"\s+aria-current="true"', page)
    assert marked == ["/servers/"]
    assert "is stopped" in page.partition("skipped-heading")[2]
    answer = as_alice.post(MANY, {**data, "confirmed": "1"})
    assert (answer.status_code, answer["Location"]) == (303, "/servers/?q=a")
    jobs = Job.objects.order_by("server__name").values_list("operation", "server__name")
    assert list(jobs) == [("restart", "able"), ("restart", "baker")]
    assert "Restart: 2 servers." in as_alice.get("/servers/").content.decode()


@pytest.mark.parametrize(
    ("action", "names", "operation"),
    [
        ("start", ["charlie"], "start"),
        ("stop", ["able", "baker", "easy"], "stop"),
        ("restart-build", ["easy"], "restart"),
    ],
)
def test_an_action_is_for_those_alone_for_which_it_makes_sense(
    as_alice: Client, fleet: dict[str, Server], action: str, names: list[str], operation: str
) -> None:
    chosen = ["able", "baker", "charlie", "easy"]
    as_alice.post(MANY, {"action": action, "server": chosen, "confirmed": "1"})
    jobs = Job.objects.order_by("server__name").values_list("operation", "server__name")
    assert list(jobs) == [(operation, name) for name in names]


def test_restart_when_empty_waits_on_each(as_alice: Client, fleet: dict[str, Server]) -> None:
    chosen = ["able", "charlie", "easy"]
    as_alice.post(MANY, {"action": "restart-empty", "server": chosen, "confirmed": "1"})
    waiting = DeferredAction.objects.order_by("server__name").values_list("server__name", flat=True)
    assert list(waiting) == ["able", "easy"]
    assert not Job.objects.exists()


def test_nobody_touches_servers_of_others_with_it(bob: User, fleet: dict[str, Server]) -> None:
    Membership.objects.create(server=fleet["able"], user=bob, role="viewer")
    chosen = ["able", "baker"]
    page = sign_in(bob).post(MANY, {"action": "stop", "server": chosen}).content.decode()
    assert "your role does not allow it" in page
    assert "baker" not in page
    sign_in(bob).post(MANY, {"action": "stop", "server": chosen, "confirmed": "1"})
    assert not Job.objects.exists()


def test_what_is_refused_is_told_and_holds_up_nothing(
    as_alice: Client, fleet: dict[str, Server]
) -> None:
    Host.objects.update(build_id="", reported_at=timezone.now())
    chosen = ["able", "baker"]
    data = {"action": "restart", "server": chosen, "confirmed": "1"}
    page = as_alice.post(MANY, data, follow=True).content.decode()
    assert "Restart: nothing was done." in page
    assert "0 servers" not in page
    assert "able: The game is not installed on host local yet" in page


def test_a_question_tells_what_would_not_be_done_any_more(
    as_alice: Client, alice: User, fleet: dict[str, Server]
) -> None:
    queue.defer("stop", server=fleet["able"], requested_by=alice, until=timezone.now())
    asked = {"action": "restart", "server": ["able", "baker"]}
    page = as_alice.post(MANY, asked).content.decode()
    assert page.count("this cancels “Stop when empty”, which is waiting") == 1
    queue.end_deferral(fleet["able"].deferred_action, "People were on.")
    assert "when empty”, which is waiting" not in as_alice.post(MANY, asked).content.decode()


def test_an_action_that_no_server_needs_any_longer_is_no_success(
    as_alice: Client, fleet: dict[str, Server]
) -> None:
    Server.objects.filter(name="able").update(actual_state="stopped")
    data = {"action": "stop", "server": ["able"], "confirmed": "1"}
    page = as_alice.post(MANY, data, follow=True).content.decode()
    assert "Stop: nothing was done." in page
    assert "able: is stopped" in page
    assert 'data-level="success"' not in page


def test_without_a_tick_it_says_what_to_do(as_alice: Client, fleet: dict[str, Server]) -> None:
    answer = as_alice.post(MANY, {"action": "stop"})
    assert answer.status_code == 409
    assert "select the servers it is for" in answer.content.decode()


# --- All that match ---------------------------------------------------------------------------


@pytest.fixture
def many(fleet: dict[str, Server]) -> list[str]:
    """Return the names of more stopped servers of Alice's than fit on a page."""
    able = fleet["able"]
    Server.objects.bulk_create(
        Server(
            name=f"x-{n:03}",
            owner=able.owner,
            host=able.host,
            blueprint=able.blueprint,
            port=28000 + n,
            actual_state="stopped",
        )
        for n in range(ROWS_PER_PAGE + 2)
    )
    return list(Server.objects.filter(actual_state="stopped").values_list("name", flat=True))


def test_all_that_match_are_selected_on_whatever_page(as_alice: Client, many: list[str]) -> None:
    page = text(as_alice, "?q=x-&state=stopped")
    assert "Select all 50 servers on this page" in page
    assert "Select all 52 that match, on all pages" in page
    assert 'name="matching" value="?q=x-&amp;state=stopped" form="many"' in page
    data = {"action": "start", "matching": "?state=stopped", "server": "able"}
    asked = as_alice.post(MANY, data).content.decode()
    named = re.findall(r'name="server" value="([^"]+)"', asked)
    # The names in the form are started, not what matches by then.
    assert sorted(named) == sorted(many)
    data = {"tag": "idle", "way": "add", "matching": "?q=x-&page=2"}
    as_alice.post("/tags/many/", data)
    assert Server.objects.filter(tags__name="idle").count() == 52
    as_alice.post("/tags/many/", {**data, "way": "take", "matching": "?tag=idle&state=stopped"})
    assert not Server.objects.filter(tags__name="idle").exists()


def test_a_list_of_one_page_offers_no_more_than_that(
    as_alice: Client, fleet: dict[str, Server]
) -> None:
    page = text(as_alice)
    assert "Select all 5 servers on this page" in page
    assert "that match" not in page
    # There is a box for one server beside it already.
    assert "data-select-page" not in text(as_alice, "?q=able")


def test_what_others_own_does_not_match(bob: User, many: list[str]) -> None:
    answer = sign_in(bob).post(MANY, {"action": "start", "matching": "?"})
    assert answer.status_code == 409


def test_more_than_one_form_can_name_are_refused_in_words(
    as_alice: Client, many: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(many_servers, "MOST_SERVERS", 52)
    for data in ({"matching": "?state=stopped"}, {"server": many}):
        for address, more in ((MANY, {"action": "start"}), ("/tags/many/", {"tag": "x"})):
            answer = as_alice.post(address, {**data, **more})
            assert answer.status_code == 409
            assert "Select at most 52 servers at a time" in answer.content.decode()
    assert as_alice.post(MANY, {"action": "start", "matching": "?q=x-"}).status_code == 200
