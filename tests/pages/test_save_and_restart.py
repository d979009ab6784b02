"""One button that saves a form and restarts the servers it affects."""

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client

from jobs.models import Job, JobState
from servers.models import ActualState, Blueprint, Host, Membership, Server
from tests.pages.conftest import sign_in
from tests.states import record_state

pytestmark = pytest.mark.django_db


def form_of(server: Server, **changes: str) -> dict[str, str]:
    values = {"port": str(server.port), "blueprint": str(server.blueprint.pk)}
    return {**values, "arguments": "", "config": "", **changes}


@pytest.mark.parametrize(
    ("state", "is_offered"), [(ActualState.RUNNING, True), (ActualState.STOPPED, False)]
)
def test_a_server_is_saved_and_restarted_where_it_runs(
    as_alice: Client, server: Server, state: str, is_offered: bool
) -> None:
    record_state(server, state)
    page = as_alice.get(f"/servers/{server.name}/edit/").content.decode()
    assert ("/servers/alpha/save-and-restart" in page) == is_offered
    response = as_alice.post(
        f"/servers/{server.name}/save-and-restart", form_of(server, config="hostname Day")
    )
    server.refresh_from_db()
    assert server.config == "hostname Day"
    if not is_offered:
        assert not server.jobs.exists()
        return
    [job] = server.jobs.all()
    assert (response.status_code, response["Location"]) == (303, job.get_absolute_url())
    assert (job.operation, job.requested_by) == ("restart", server.owner)


def test_with_people_on_it_is_saved_and_asked_before_they_are_disconnected(
    as_alice: Client, server: Server
) -> None:
    record_state(server, ActualState.RUNNING)
    Server.objects.update(players=2)
    assert "Save and restart…" in as_alice.get("/servers/alpha/edit/").content.decode()
    response = as_alice.post(
        "/servers/alpha/save-and-restart", form_of(server, config="hostname Day")
    )
    page = response.content.decode()
    server.refresh_from_db()
    assert (response.status_code, server.config) == (409, "hostname Day")
    assert not server.jobs.exists()
    assert "Server alpha was saved." in page
    assert "Saved. Restart it with people on?" in page
    assert "2 people are on" in page
    assert "Nothing was done" not in page
    for when in ("Restart now", "Restart when empty"):
        assert when in page
    assert f'name="next" value="{CONFIG}"' in page


def test_while_it_is_being_restarted_nobody_is_asked(as_alice: Client, server: Server) -> None:
    record_state(server, ActualState.RUNNING)
    Server.objects.update(players=2)
    job = Job.objects.create(operation="restart", server=server, state=JobState.RUNNING)
    response = as_alice.post("/servers/alpha/save-and-restart", form_of(server, config="sv_lan 0"))
    assert response.status_code == 303
    assert [one.pk for one in server.jobs.all()] == [job.pk]


def said(browser: Client, page: str) -> list[str]:
    """Return the messages at the top of a page."""
    rest = browser.get(page).content.decode().partition('<ul class="messages"')[2]
    items = rest.partition("</ul>")[0].split("</li>")[:-1]
    return [one.rpartition(">")[2] for one in items]


CONFIG = "/servers/alpha/config/"


@pytest.mark.parametrize("state", ["", JobState.QUEUED, JobState.RUNNING])
def test_saving_and_restarting_leads_back_to_the_config_with_one_message(
    as_alice: Client, server: Server, state: str
) -> None:
    record_state(server, ActualState.RUNNING)
    page = as_alice.get("/servers/alpha/edit/").content.decode()
    assert f'name="next" value="{CONFIG}"' in page
    assert f'href="{CONFIG}">Cancel</a>' in page
    if state:
        Job.objects.create(operation="restart", server=server, state=state)
    form = form_of(server, config="hostname Day", next=CONFIG)
    response = as_alice.post("/servers/alpha/save-and-restart", form)
    assert (response.status_code, response["Location"]) == (303, CONFIG)
    [message] = said(as_alice, CONFIG)
    wanted = {
        "": "was saved, and its restart was requested.",
        JobState.QUEUED: "was saved. A restart of it was already waiting.",
        JobState.RUNNING: "It was already being restarted",
    }
    assert wanted[state] in message
    assert as_alice.get(CONFIG).content.decode().count('class="strip"') == 1


def test_a_refused_restart_of_what_was_saved_is_one_message(
    as_alice: Client, server: Server
) -> None:
    record_state(server, ActualState.RUNNING)
    Host.objects.update(reported_at="2026-01-01T00:00:00Z", build_id="")
    form = form_of(server, config="hostname Day", next=CONFIG)
    response = as_alice.post("/servers/alpha/save-and-restart", form)
    assert (response.status_code, response["Location"]) == (303, CONFIG)
    [message] = said(as_alice, CONFIG)
    assert message.startswith("Server alpha was saved. It was not restarted: The game is not")


def test_who_saves_stays_at_the_config(as_alice: Client, server: Server) -> None:
    response = as_alice.post("/servers/alpha/edit/", form_of(server, config="hostname Day"))
    assert (response.status_code, response["Location"]) == (302, CONFIG)
    assert said(as_alice, CONFIG) == ["Server alpha was saved."]


def test_what_is_not_saved_is_not_restarted(as_alice: Client, server: Server) -> None:
    record_state(server, ActualState.RUNNING)
    response = as_alice.post(
        f"/servers/{server.name}/save-and-restart", form_of(server, arguments="-port 1")
    )
    page = response.content.decode()
    assert response.status_code == 200
    # The form that it shows again is still the one of the server's page.
    assert 'action="/servers/alpha/edit/"' in page
    assert not server.jobs.exists()


def test_who_may_change_a_server_and_not_restart_it_does_neither_by_one_click(
    server: Server,
) -> None:
    record_state(server, ActualState.RUNNING)
    erin = User.objects.create_user("erin", is_staff=True)
    erin.user_permissions.add(Permission.objects.get(codename="change_server"))
    browser, changed = sign_in(erin), form_of(server, config="hostname Erins")
    assert browser.post("/servers/alpha/save-and-restart", changed).status_code == 403
    server.refresh_from_db()
    assert (server.config, server.jobs.exists()) == ("", False)
    assert browser.post("/servers/alpha/edit/", changed).status_code == 302


@pytest.fixture
def running(server: Server, bob: User) -> list[Server]:
    """Return two running servers of Alice's; their blueprint also has a stopped one, and one of Bob's."""
    made = [
        Server.objects.create(
            name=name, owner=owner, host=server.host, blueprint=server.blueprint, players=3
        )
        for name, owner in (("beta", server.owner), ("bobs", bob))
    ]
    for one in (server, *made):
        record_state(one, ActualState.RUNNING)
    Server.objects.create(
        name="quiet", owner=server.owner, host=server.host, blueprint=server.blueprint
    )
    return [server, made[0]]


def test_a_blueprint_restarts_those_of_its_running_servers_that_one_may_restart(
    as_alice: Client, blueprint: Blueprint, running: list[Server]
) -> None:
    page = as_alice.get("/blueprints/coop/edit/").content.decode()
    assert "Save and restart 2 servers…" in page
    assert "restarts alpha, beta. 3 people play there now." in page
    assert "Servers that only others may restart go on" in page
    response = as_alice.post(
        "/blueprints/coop/save-and-restart",
        {"name": "coop", "arguments": "", "config": "sv_lan 0"},
        follow=True,
    )
    blueprint.refresh_from_db()
    assert blueprint.config == "sv_lan 0"
    assert "These restarts were requested: alpha, beta." in response.content.decode()
    jobs = {one.name: [job.operation for job in one.jobs.all()] for one in Server.objects.all()}
    assert jobs == {"alpha": ["restart"], "beta": ["restart"], "bobs": [], "quiet": []}


def test_a_restart_that_already_runs_may_be_one_without_the_changes(
    as_alice: Client, blueprint: Blueprint, running: list[Server]
) -> None:
    alpha = Server.objects.get(name="alpha")
    job = Job.objects.create(operation="restart", server=alpha)
    Job.objects.filter(pk=job.pk).update(state=JobState.RUNNING)
    response = as_alice.post(
        "/blueprints/coop/save-and-restart",
        {"name": "coop", "arguments": "", "config": "sv_lan 0"},
        follow=True,
    )
    page = response.content.decode()
    assert "These restarts were requested: beta." in page
    assert "Server alpha was already being restarted: if that applies the blueprint as it" in page


def test_a_restart_that_is_refused_is_told_and_keeps_no_other_from_it(
    alice: User, blueprint: Blueprint, running: list[Server]
) -> None:
    # The game is missing, so each would be refused; nothing is hidden, and the blueprint is saved.
    Host.objects.update(reported_at="2026-01-01T00:00:00Z", build_id="")
    response = sign_in(alice).post(
        "/blueprints/coop/save-and-restart",
        {"name": "coop", "arguments": "", "config": "sv_lan 0"},
        follow=True,
    )
    page = response.content.decode()
    assert page.count("was not restarted: The game is not installed") == 2
    blueprint.refresh_from_db()
    assert blueprint.config == "sv_lan 0"


def test_an_operator_may_restart_and_not_save(bob: User, server: Server) -> None:
    record_state(server, ActualState.RUNNING)
    Membership.objects.create(server=server, user=bob, role="operator")
    response = sign_in(bob).post(f"/servers/{server.name}/save-and-restart", form_of(server))
    assert response.status_code == 403
    assert not server.jobs.exists()
