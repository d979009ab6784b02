"""The page of who is on a server, and the messages to them: names and texts may be anything."""

from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone

from jobs.talk.name_reader import store_names
from servers.console.completion import find_key
from servers.models import ConsoleCommand, ConsoleName, ConsoleNames, Server
from tests.states import make_run, record_state

URL = "/servers/alpha/players/"

pytestmark = pytest.mark.django_db


@pytest.fixture
def running(server: Server) -> Server:
    """Return Alice's server, which runs with one person on it."""
    server.players = 1
    server.save()
    record_state(server, "running")
    now = timezone.now()
    for name, steam_id, left_at in (
        ("<b>Zoey</b>", "STEAM_1:0:1", None),
        ("Bill", "STEAM_1:1:2", now - timedelta(hours=3)),
    ):
        server.player_sessions.create(
            name=name, steam_id=steam_id, joined_at=now, seen_at=now, left_at=left_at, ping=40
        )
    return server


def test_the_page_tells_who_is_on_and_who_was(as_alice: Client, running: Server) -> None:
    response = as_alice.get(URL)
    assert [one.name for one in response.context["people"]] == ["<b>Zoey</b>"]
    assert [one.name for one in response.context["past"]] == ["Bill"]
    page = response.content.decode()
    assert "&lt;b&gt;Zoey&lt;/b&gt;" in page
    assert "<b>Zoey" not in page
    assert "40 ms" in page


def test_a_server_that_hangs_cannot_tell_who_is_on(as_alice: Client, running: Server) -> None:
    record_state(running, "running")
    Server.objects.update(players=None, unanswered_since=timezone.now())
    assert "so the panel cannot tell who is on." in as_alice.get(URL).content.decode()


@pytest.mark.parametrize(
    ("players", "state", "sentence"),
    [
        (
            3,
            "running",
            "The server says that 3 people are on. The list follows within seconds.",
        ),
        (None, "running", "It has not yet told how many people are on."),
        (None, "stopped", "It is not running."),
    ],
)
def test_what_is_not_known_of_people_is_said(
    as_alice: Client, running: Server, players: int | None, state: str, sentence: str
) -> None:
    running.players = players
    running.save()
    record_state(running, state)
    assert sentence in as_alice.get(URL).content.decode()


@pytest.mark.parametrize(
    ("reason", "command"),
    [
        ("", "kickid STEAM_1:0:1"),
        ('be "nice"; quit', "kickid STEAM_1:0:1 \"be 'nice'; quit\""),
        (" two\n lines ", 'kickid STEAM_1:0:1 "two lines"'),
    ],
)
def test_a_kick_is_a_command_that_a_reason_cannot_break_out_of(
    as_alice: Client, running: Server, reason: str, command: str
) -> None:
    response = as_alice.post(f"{URL}kick/", {"steam_id": "STEAM_1:0:1", "reason": reason})
    assert (response.status_code, response["Location"]) == (303, URL)
    assert ConsoleCommand.objects.get().typed == command


@pytest.mark.parametrize(
    ("address", "fields", "words"),
    [
        ("kick", {"steam_id": "all; quit"}, "not a Steam ID"),
        ("kick", {"steam_id": "STEAM_1:0:1", "reason": "x\x07"}, "control characters"),
        ("say", {"text": " "}, "Type what to say"),
        ("say", {"text": "x" * 121}, "Use at most 120 characters"),
    ],
)
def test_what_cannot_be_said_is_refused_in_words(
    as_alice: Client, running: Server, address: str, fields: dict[str, str], words: str
) -> None:
    response = as_alice.post(f"{URL}{address}/", fields)
    assert (response.status_code, words in response.content.decode()) == (400, True)
    assert not ConsoleCommand.objects.exists()


def test_nothing_can_be_said_while_it_does_not_run(as_alice: Client, running: Server) -> None:
    assert "Say something" in as_alice.get(URL).content.decode()
    record_state(running, "stopped")
    assert "Say something" not in as_alice.get(URL).content.decode()


def test_something_is_said_to_all(as_alice: Client, running: Server) -> None:
    as_alice.post(f"{URL}say/", {"text": "restart in 5; // sorry"})
    assert ConsoleCommand.objects.get().typed == 'say "restart in 5; // sorry"'


def list_names(server: Server, *names: str) -> None:
    """Let the server have been asked what can be typed into its console."""
    Server.objects.filter(pk=server.pk).update(running_build_id="100")
    run = make_run(server)
    run.build_id = "100"
    run.save()
    server.refresh_from_db()
    rows: list[ConsoleName] = [{"name": name, "help": "", "is_command": True} for name in names]
    store_names(find_key(server, run), rows)


def test_one_alone_is_told_something_where_sourcemod_can(as_alice: Client, running: Server) -> None:
    told = {"steam_id": "STEAM_1:0:1", "text": "be: nice"}
    assert "It has not listed its commands yet" in as_alice.get(URL).content.decode()
    assert as_alice.post(f"{URL}tell/", told).status_code == 409
    list_names(running, "kick")
    page = as_alice.get(URL).content.decode()
    assert "need SourceMod" in page
    assert f"{URL}tell/" not in page
    assert as_alice.post(f"{URL}tell/", told).status_code == 409
    assert not ConsoleCommand.objects.exists()
    ConsoleNames.objects.all().delete()
    list_names(running, "kick", "sm_psay")
    page = as_alice.get(URL).content.decode()
    assert f'action="{URL}tell/"' in page
    assert "need SourceMod" not in page
    for text, shown in (
        ("be: nice", "be: nice"),
        ('say "x"', "say 'x'"),
        ("a; quit", '"a; quit"'),
        ("a // b", '"a // b"'),
    ):
        assert as_alice.post(f"{URL}tell/", told | {"text": text}).status_code == 303
        assert ConsoleCommand.objects.latest("pk").typed == f'sm_psay "#STEAM_1:0:1" {shown}'
    longest = {"steam_id": "STEAM_1:0:1234567890", "text": "\U0001f9df" * 120}  # 512 bytes
    for refused in ({"text": " "}, {"steam_id": '" "; quit'}, longest):
        assert as_alice.post(f"{URL}tell/", told | refused).status_code == 400


def test_a_viewer_sees_people_and_cannot_kick(as_bob: Client, bob: User, running: Server) -> None:
    running.memberships.create(user=bob, role="viewer")
    assert "Kick" not in as_bob.get(URL).content.decode()
    answer = as_bob.post(f"{URL}kick/", {"steam_id": "STEAM_1:0:1"})
    assert answer.status_code == 403
    said = (
        "Your role is not enough. It takes the role operator, or a higher one, to send it console"
    )
    assert said in answer.content.decode()


# --- What came of it --------------------------------------------------------------------------


def news_of(browser: Client) -> str:
    page = browser.get(URL).content.decode()
    region = page.partition('data-live="player-news"')[2].partition("</div>")[0]
    return " ".join(region.partition(">")[2].split())


def end(state: str, answer: str = "", remark: str = "") -> None:
    """Let the worker have stored how the latest command ended."""
    newest = ConsoleCommand.objects.latest("pk")
    size = len(answer)
    values = {"state": state, "answer": answer, "answer_bytes": size, "remark": remark}
    ConsoleCommand.objects.filter(pk=newest.pk).update(sent_at=newest.created_at, **values)


KICK = ("kick", {"steam_id": "STEAM_1:0:1"})
TELL = ("tell", {"steam_id": "STEAM_1:1:2", "text": "hi"})
SAY = ("say", {"text": "hi"})


@pytest.mark.parametrize(
    ("deed", "state", "answer", "sentence"),
    [
        (KICK, "queued", "", "Kicking &lt;b&gt;Zoey&lt;/b&gt;…"),
        (KICK, "answered", "", "&lt;b&gt;Zoey&lt;/b&gt; was kicked."),
        (
            KICK,
            "answered",
            'userid "STEAM_1:0:1" not found',
            "Nobody was kicked: &lt;b&gt;Zoey&lt;/b&gt; is no longer on.",
        ),
        (KICK, "lost", "", "is not known: the server did not answer."),
        (TELL, "answered", "(Private to Bill) Console: hi", "Bill was told."),
        (TELL, "answered", "[SM] No matching client was found.", "Nobody was told: Bill is no"),
        (TELL, "answered", 'Unknown command "sm_psay"', "the server lacks that command."),
        (SAY, "sent", "", "Saying it to everybody…"),
        (SAY, "answered", "Console: hi", "Said to 1 player."),
    ],
)
def test_the_page_says_in_words_what_came_of_a_kick_or_a_message(
    as_alice: Client,
    running: Server,
    deed: tuple[str, dict[str, str]],
    state: str,
    answer: str,
    sentence: str,
) -> None:
    list_names(running, "sm_psay")
    address, fields = deed
    assert as_alice.post(f"{URL}{address}/", fields).status_code == 303
    end(state, answer)
    news = news_of(as_alice)
    assert sentence in news
    # It is refreshed until its end is known, and the answer itself is one click away.
    assert ("data-awaits" in news) == (state in ("queued", "sent"))
    command = ConsoleCommand.objects.get()
    link = f"/servers/alpha/commands/#command-{command.pk}"
    assert link in news
    assert f'id="command-{command.pk}"' in as_alice.get(link).content.decode()
    assert answer == "" or answer not in news


def test_why_nothing_was_sent_is_said(as_alice: Client, running: Server) -> None:
    as_alice.post(f"{URL}say/", {"text": "hi"})
    end("failed", remark="No worker took it.")
    assert "That was not sent: No worker took it." in news_of(as_alice)


def test_the_news_of_players_are_ones_own_and_soon_old(
    as_alice: Client, as_dana: Client, running: Server
) -> None:
    as_alice.post(f"{URL}say/", {"text": "hi"})
    end("answered")
    assert "Said to 1 player." in news_of(as_alice)
    assert news_of(as_dana) == ""
    ConsoleCommand.objects.update(created_at=timezone.now() - timedelta(minutes=11))
    assert news_of(as_alice) == ""


def test_nobody_who_is_not_on_is_counted_among_those_who_were_told(
    as_alice: Client, running: Server
) -> None:
    running.player_sessions.update(left_at=timezone.now() - timedelta(minutes=1))
    for players, sentence in ((0, "Said, but nobody was on."), (4, "Said to everybody who is on.")):
        Server.objects.update(players=players)
        as_alice.post(f"{URL}say/", {"text": "hi"})
        end("answered")
        assert sentence in news_of(as_alice)
