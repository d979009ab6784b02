"""The page of what a server plays: the chapters that its host has reported, now and at the next start."""

import re
from typing import Any
from urllib.parse import urlencode

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone
from playwright.sync_api import expect

from jobs.models import Job
from l4d2site.accounts.models import AccountEvent
from servers.content.map_choices import read_choices
from servers.models import (
    Blueprint,
    ConsoleCommand,
    Host,
    MapChange,
    MapChangeState,
    Overlay,
    OverlayReport,
    ReleaseReport,
    Server,
)
from tests.pages.browsing import OpenPage
from tests.pages.queries import assert_same_queries
from tests.states import make_run, record_state

pytestmark = pytest.mark.django_db

URL = "/servers/alpha/map/"


def campaign(
    name: str, title: str, path: str = "", **modes: list[tuple[str, str]]
) -> dict[str, Any]:
    chapters = {
        mode: [{"map": one, "title": called} for one, called in rows]
        for mode, rows in modes.items()
    }
    return {
        "name": name,
        "title": title,
        "path": path or f"left4dead2/missions/{name}.txt",
        "problem": "",
        "modes": [{"name": mode, "chapters": rows} for mode, rows in chapters.items()],
    }


CENTER = campaign(
    "L4D2C1",
    "Dead Center",
    coop=[("c1m1_hotel", "c1m1_hotel"), ("c1m2_streets", "")],
    versus=[("c1m1_hotel", "")],
)
BEAT = campaign(
    "db",
    "<b>Dead Beat</b>",
    coop=[("db_one", "<i>The Start</i>"), ("db_two", ""), ("db_gone", ""), ("db;quit", "")],
)


@pytest.fixture
def pack(server: Server, blueprint: Blueprint, installed_host: Host) -> OverlayReport:
    """Return the report on the blueprint's overlay; the release is reported too."""
    ReleaseReport.objects.create(
        host=installed_host,
        build_id=installed_host.build_id,
        campaigns=[CENTER],
        maps=["c1m1_hotel", "c1m2_streets"],
        looked_at=timezone.now(),
    )
    blueprint.set_overlays([Overlay.objects.create(name="pack", is_host_folder=True)])
    return OverlayReport.objects.create(
        host=installed_host,
        name="pack",
        campaigns=[BEAT],
        maps=["db_one", "db_two", "db;quit"],
        looked_at=timezone.now(),
    )


@pytest.fixture
def running(pack: OverlayReport, server: Server) -> Server:
    """Return Alice's server, which runs a chapter of Dead Center with nobody on it."""
    make_run(server, overlays=("pack",))
    record_state(server, "running")
    Server.objects.update(players=0, map="c1m1_hotel", mode="coop")
    server.refresh_from_db()
    return server


def text_of(client: Client, query: str = "") -> str:
    response = client.get(URL + query)
    assert response.status_code == 200
    return " ".join(response.content.decode().split())


def values(server: Server) -> list[str]:
    choices = read_choices(Server.objects.get(pk=server.pk))
    return [one.value for each in choices.campaigns for mode in each.modes for one in mode.choices]


def test_chapters_have_the_names_that_players_know_and_only_those_with_a_map_are_there(
    as_alice: Client, running: Server
) -> None:
    text = text_of(as_alice)
    assert "<dt>Now</dt><dd>Dead Center, 1. The Hotel (c1m1_hotel), Campaign</dd>" in text
    assert '<optgroup label="Realism">' in text, "it is played on the chapters of the campaign"
    text = text_of(as_alice, "?campaign=db_one")
    assert "1. &lt;i&gt;The Start&lt;/i&gt; (db_one)" in text
    assert "<b>Dead" not in text
    assert "2 chapters of its mission file are left out" in text
    assert values(running) == [
        *("coop/db_one", "coop/db_two", "realism/db_one", "realism/db_two"),
        *("coop/c1m1_hotel", "coop/c1m2_streets", "realism/c1m1_hotel", "realism/c1m2_streets"),
        *("versus/c1m1_hotel", "teamversus/c1m1_hotel"),
    ]


def test_the_topmost_layer_counts(running: Server, pack: OverlayReport) -> None:
    path = CENTER["path"].upper()
    hiding = campaign("other", "Hiding", path, coop=[("db_two", "")])
    same_name = campaign("DB", "Older", coop=[("c1m1_hotel", "")])
    pack.campaigns = [BEAT, hiding]
    pack.save()
    ReleaseReport.objects.update(campaigns=[CENTER, same_name])
    titles = [one.title for one in read_choices(running).campaigns]
    assert titles == ["<b>Dead Beat</b>", "Hiding"]


def test_what_was_not_reported_is_said_and_not_guessed(as_alice: Client, running: Server) -> None:
    OverlayReport.objects.all().delete()
    assert "Host local has not reported these yet: pack." in text_of(as_alice)
    ReleaseReport.objects.update(build_id="other")
    text = text_of(as_alice)
    assert "The panel does not know yet what there is to play on host local" in text
    assert "Change now" not in text


@pytest.mark.parametrize(
    ("mode", "choice", "line"),
    [
        ("coop", "coop/c1m2_streets", "changelevel c1m2_streets"),
        ("coop", "versus/c1m1_hotel", "map c1m1_hotel versus"),
        ("", "coop/db_one", "map db_one coop"),  # It has not reported its mode.
    ],
)
def test_a_change_is_a_command_that_brings_the_mode_and_its_outcome_is_looked_for(
    as_alice: Client, alice: User, running: Server, mode: str, choice: str, line: str
) -> None:
    Server.objects.update(mode=mode)
    response = as_alice.post(f"{URL}now/", {"choice": choice})
    assert (response.status_code, response["Location"]) == (
        303,
        f"{URL}?{urlencode({'choice': choice})}",
    )
    command = ConsoleCommand.objects.get()
    assert (command.typed, command.requested_by) == (line, alice)
    change = MapChange.objects.get(command=command)
    assert f"{change.mode}/{change.map}" == choice
    assert (change.was_map, change.was_mode) == ("c1m1_hotel", mode)
    text = text_of(as_alice)
    assert "The panel keeps checking until it does." in text
    assert "It changed to" not in text
    MapChange.objects.update(
        state=MapChangeState.OTHER,
        said_map="c1m1_hotel",
        said_mode="versus",
        finished_at=timezone.now(),
    )
    Server.objects.update(mode="versus")
    text = text_of(as_alice)
    assert '<p class="notice" data-kind="warning" role="status">It is not playing' in text
    assert "It says it is playing Dead Center, 1. The Hotel (c1m1_hotel), Versus." in text


def test_a_change_is_history_once_the_server_was_started_again_or_plays_something_else(
    as_alice: Client, running: Server
) -> None:
    as_alice.post(f"{URL}now/", {"choice": "coop/c1m2_streets"})
    MapChange.objects.update(
        state=MapChangeState.PLAYING, said_map="c1m2_streets", said_mode="coop"
    )
    Server.objects.update(map="c1m2_streets")
    assert "It changed to Dead Center, 2. The Streets (c1m2_streets), Campaign." in text_of(
        as_alice
    )
    told = "It was told to play Dead Center, 2. The Streets (c1m2_streets), Campaign."
    for field, value in (("map", "db_two"), ("mode", "versus")):
        Server.objects.update(**{field: value})
        assert told in text_of(as_alice), field
        Server.objects.update(map="c1m2_streets", mode="coop")
    assert told not in text_of(as_alice)
    # The game starts with the same map, and the change has nothing to do with it.
    make_run(running)
    assert told in text_of(as_alice)
    MapChange.objects.update(state=MapChangeState.OTHER, said_map="c1m1_hotel")
    assert f'<p class="notice" data-kind="" role="status">{told}' in text_of(as_alice)


def chooser(text: str) -> tuple[str, str]:
    """Return the campaign and the chapter that the page has selected."""
    [campaign] = re.findall(
        r'value="([^"]+)" selected>[^<]*(?:<|&lt;b&gt;)', text.partition("campaign")[2]
    )[:1]
    [choice] = re.findall(r'value="([^"]+)" selected', text.partition('id="choice"')[2]) or [""]
    return campaign, choice


def test_the_chooser_opens_at_what_runs_or_else_at_what_will(
    as_alice: Client, running: Server
) -> None:
    assert chooser(text_of(as_alice)) == ("c1m1_hotel", "coop/c1m1_hotel")
    Server.objects.update(map="db_two")
    assert chooser(text_of(as_alice)) == ("db_one", "coop/db_two")
    Server.objects.update(map="", mode="", arguments="+map c1m2_streets")
    record_state(Server.objects.get(), "stopped")
    assert chooser(text_of(as_alice)) == ("c1m1_hotel", "coop/c1m2_streets")
    assert chooser(text_of(as_alice, "?choice=coop/db_two")) == ("db_one", "coop/db_two")
    assert chooser(text_of(as_alice, "?campaign=db_one")) == ("db_one", "")


@pytest.mark.parametrize("address", ["now", "next"])
def test_the_chooser_stays_where_it_was(as_alice: Client, running: Server, address: str) -> None:
    sent = {"campaign": "db_one", "choice": "coop/db_two"}
    page = as_alice.post(f"{URL}{address}/", sent)["Location"]
    assert chooser(text_of(as_alice, page.removeprefix(URL))) == ("db_one", "coop/db_two")
    refused = as_alice.post(f"{URL}{address}/", sent | {"choice": "coop/db_gone"})
    [way_back] = re.findall(r'data-kind="primary" href="([^"]+)"', refused.content.decode())
    query = way_back.replace("&amp;", "&").removeprefix(URL)
    assert chooser(text_of(as_alice, query))[0] == "db_one"


@pytest.mark.parametrize("address", ["now", "next"])
def test_a_chapter_of_another_campaign_than_the_chosen_one_is_refused_with_those_to_choose_from(
    as_alice: Client, running: Server, address: str
) -> None:
    sent = {"campaign": "db_one", "choice": "coop/c1m2_streets"}
    response = as_alice.post(f"{URL}{address}/", sent)
    text = " ".join(response.content.decode().split())
    assert response.status_code == 409
    assert "These are the chapters of &lt;b&gt;Dead Beat&lt;/b&gt;: choose one." in text
    assert chooser(text) == ("db_one", "")
    assert 'value="coop/db_two"' in text
    assert 'value="coop/c1m2_streets"' not in text
    assert f'name="next" value="{URL}{address}/"' not in text, "that address has no page"
    as_alice.post(f"{URL}{address}/", sent | {"campaign": "gone"})
    running.refresh_from_db()
    assert (running.arguments, ConsoleCommand.objects.exists()) == ("", False)


def test_without_scripts_a_button_shows_the_chapters(as_alice: Client, running: Server) -> None:
    response = as_alice.post(f"{URL}chapters/", {"campaign": "db_one", "choice": "coop/c1m1_hotel"})
    assert response.status_code == 303
    query = response["Location"].removeprefix(URL).partition("#")[0]
    assert chooser(text_of(as_alice, query)) == ("db_one", "")


@pytest.mark.browser
@pytest.mark.django_db(transaction=True)
def test_the_chapters_follow_the_choice_of_a_campaign(open_page: OpenPage, running: Server) -> None:
    page = open_page()
    page.goto(URL)
    expect(page.get_by_role("button", name="Show its chapters")).to_have_count(0)
    page.get_by_label("Campaign", exact=True).select_option("db_one")
    chapter = page.get_by_label("Chapter and mode of <b>Dead Beat</b>")
    expect(chapter).to_have_value("coop/db_one")
    chapter.select_option("coop/db_two")
    page.get_by_role("button", name="Change now").click()
    expect(page.get_by_text("Told to play <b>Dead Beat</b>, 2. db_two, Campaign.")).to_be_visible()
    assert ConsoleCommand.objects.get().typed == "changelevel db_two"


@pytest.mark.browser
@pytest.mark.django_db(transaction=True)
def test_a_choice_that_is_too_long_for_a_phone_stands_in_full_below_it(
    open_page: OpenPage, running: Server
) -> None:
    page = open_page(viewport={"width": 390, "height": 844})
    page.goto(URL)
    chapters, shown = page.locator("#choice"), page.locator("#choice + [data-chosen]")
    expect(chapters).to_have_value("coop/c1m1_hotel")
    expect(shown).to_have_count(0)
    title = "The Start of a chapter with a long name"
    OverlayReport.objects.update(
        campaigns=[campaign("db", "Beat", coop=[("db_one", title), ("db_two", "")])]
    )
    page.reload()
    page.get_by_label("Campaign", exact=True).select_option("db_one")
    expect(shown).to_have_text(f"1. {title} (db_one), Campaign")
    expect(shown).to_be_in_viewport(ratio=1)
    assert not page.evaluate("document.documentElement.scrollWidth > innerWidth")
    chapters.select_option("coop/db_two")
    expect(shown).to_have_count(0)
    chapters.select_option("coop/db_one")
    expect(shown).to_have_count(1)
    page.set_viewport_size({"width": 1440, "height": 900})
    expect(shown).to_have_count(0)


def test_who_does_not_confirm_is_back_at_the_chooser(as_alice: Client, running: Server) -> None:
    Server.objects.update(players=3)
    sent = {"campaign": "db_one", "choice": "coop/db_two"}
    question = as_alice.post(f"{URL}now/", sent).content.decode()
    assert f'href="{URL}?campaign=db_one&amp;choice=coop%2Fdb_two">Cancel</a>' in question
    assert '<input type="hidden" name="campaign" value="db_one">' in question


def test_a_start_that_lacks_its_map_offers_others_in_place_of_a_retry(
    as_alice: Client, running: Server, alice: User
) -> None:
    def strip() -> str:
        page = as_alice.get("/servers/alpha/").content.decode()
        assert "is neither in the game on host" not in page.partition('"strip"')[2]
        return " ".join(page.partition('class="strip"')[2].partition("</section>")[0].split())

    record_state(running, "stopped")
    Server.objects.update(arguments="+map C1M1_hotle coop", map="")
    error = "alpha cannot be started with the map C1M1_hotle: it is not among the maps of the game."
    job = Job.objects.create(
        operation="start", server=running, state="failed", error=error, requested_by=alice
    )
    for seq, words in enumerate(("Checking the map", error), start=1):
        job.logs.create(seq=seq, stream="stderr", line=words)
    text = strip()
    assert text.count("it is not among the maps") == 1
    assert "Checking the map" in text
    assert f'href="{URL}?choice=coop%2Fc1m1_hotel#choose-heading">Dead Center, 1. The Hotel' in text
    assert f'href="{URL}#choose-heading">Change the map</a>' in text
    assert "Retry" not in text
    # It was another map, or exists by now: then another try may help.
    Server.objects.update(arguments="+map db_three")
    assert "Retry" in as_alice.get(f"{URL}").content.decode()
    Server.objects.update(arguments="+map C1M1_hotle")
    ReleaseReport.objects.update(maps=["c1m1_hotle"])
    assert "Retry" in strip()


def test_with_people_on_it_asks_first(as_alice: Client, running: Server) -> None:
    Server.objects.update(players=3)
    asked = as_alice.post(f"{URL}now/", {"choice": "coop/db_two"})
    text = asked.content.decode()
    assert (asked.status_code, ConsoleCommand.objects.count()) == (409, 0)
    assert ">alpha</span> to &lt;b&gt;Dead Beat&lt;/b&gt;, 2. db_two, Campaign now?" in text
    assert ">Send it" not in text
    assert "This takes everybody to another map immediately. 3 people are on." in text
    assert "data-live-from" not in text, "it would fetch itself in vain"
    assert f'action="{URL}now/"' in text
    assert '<input type="hidden" name="choice" value="coop/db_two">' in text
    as_alice.post(f"{URL}now/", {"choice": "coop/db_two", "confirmed": "changelevel c1m2_streets"})
    assert not ConsoleCommand.objects.exists(), "that was confirmed of something else"
    as_alice.post(f"{URL}now/", {"choice": "coop/db_two", "confirmed": "changelevel db_two"})
    assert ConsoleCommand.objects.get().typed == "changelevel db_two"


@pytest.mark.parametrize("choice", ["", "coop/db;quit", "survival/c1m1_hotel", "coop/db_gone", "x"])
@pytest.mark.parametrize("address", ["now", "next"])
def test_what_is_not_in_the_list_is_not_sent_and_not_saved(
    as_alice: Client, running: Server, address: str, choice: str
) -> None:
    response = as_alice.post(f"{URL}{address}/", {"choice": choice})
    assert (response.status_code, "Choose one from the list" in response.content.decode()) == (
        409,
        True,
    )
    running.refresh_from_db()
    assert (running.arguments, ConsoleCommand.objects.exists()) == ("", False)


def test_a_map_of_an_overlay_that_it_was_started_without_is_for_the_next_start(
    as_alice: Client, running: Server
) -> None:
    make_run(running, overlays=())
    response = as_alice.post(f"{URL}now/", {"choice": "coop/db_one"})
    assert response.status_code == 409
    assert "was started before its blueprint had the overlay" in response.content.decode()
    assert as_alice.post(f"{URL}now/", {"choice": "coop/c1m2_streets"}).status_code == 303
    assert as_alice.post(f"{URL}next/", {"choice": "coop/db_one"}).status_code == 303


def test_the_next_start_is_a_launch_argument_of_the_server_and_waits_for_a_restart(
    as_alice: Client, running: Server, blueprint: Blueprint
) -> None:
    blueprint.arguments = "-tickrate 60 +map c1m1_hotel coop"
    blueprint.save()
    Server.objects.update(arguments="-insecure\n+map c1m2_streets")
    running = Server.objects.get()
    make_run(running)
    response = as_alice.post(f"{URL}next/", {"choice": "versus/c1m1_hotel"})
    assert (response.status_code, response["Location"]) == (
        303,
        f"{URL}?choice=versus%2Fc1m1_hotel",
    )
    running = Server.objects.get()
    assert running.arguments == "-insecure\n+map c1m1_hotel versus"
    arguments = ("-tickrate", "60", "-insecure", "+map", "c1m1_hotel", "versus")
    assert running.to_spec().arguments == arguments, "its blueprint's is not loaded before it"
    text = text_of(as_alice)
    assert 'Dead Center, 1. The Hotel (c1m1_hotel), Versus <span class="quiet">from its own' in text
    assert "Restart to apply: launch arguments" in text
    assert "launch arguments" in AccountEvent.objects.latest("pk").detail
    as_alice.post(f"{URL}next/", {"forget": "1"})
    running = Server.objects.get()
    assert running.arguments == "-insecure"
    assert 'Campaign <span class="quiet">from its blueprint’s' in text_of(as_alice)
    assert not ConsoleCommand.objects.exists()


def test_arguments_that_leave_no_room_are_refused_in_words(
    as_alice: Client, running: Server
) -> None:
    full = "+hostname " + "x" * 1730
    Server.objects.update(arguments=full)
    response = as_alice.post(f"{URL}next/", {"choice": "versus/c1m1_hotel"})
    assert (response.status_code, Server.objects.get().arguments) == (409, full)
    assert "the engine takes" in response.content.decode()


def test_each_sees_what_their_role_may(as_bob: Client, bob: User, running: Server) -> None:
    member = running.memberships.create(user=bob, role="viewer")
    text = text_of(as_bob)
    assert "1. The Hotel" in text
    assert "Change now" not in text
    assert "At next start</button>" not in text
    member.role = "operator"
    member.save()
    text = text_of(as_bob)
    assert "Change now</button>" in text
    assert "At next start</button>" not in text
    record_state(running, "stopped")
    assert '<select id="choice"' not in text_of(as_bob)


def test_its_queries_do_not_grow_with_what_there_is_to_play(
    as_alice: Client, running: Server, pack: OverlayReport, blueprint: Blueprint
) -> None:
    def make_more() -> None:
        overlays = [
            Overlay.objects.create(name=f"more-{number}", is_host_folder=True)
            for number in range(5)
        ]
        blueprint.set_overlays(overlays)
        for overlay in overlays:
            OverlayReport.objects.create(
                host=running.host, name=overlay.name, campaigns=[BEAT], looked_at=timezone.now()
            )
        for _ in range(5):
            as_alice.post(f"{URL}now/", {"choice": "coop/c1m2_streets"})

    as_alice.post(f"{URL}now/", {"choice": "coop/c1m2_streets"})
    assert_same_queries(as_alice, URL, make_more)
