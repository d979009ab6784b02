"""Sending commands from a server's page, with and without scripts, and reading the answers."""

import json
from time import process_time

import pytest
from django.contrib.auth.models import User
from django.test import Client

from jobs.live.topics import ConsoleTopic
from servers.logs import searches
from servers.models import ConsoleCommand, Server
from tests.states import record_state

URL = "/servers/alpha/commands/"
JSON = {"Accept": "application/json"}

pytestmark = pytest.mark.django_db


@pytest.fixture
def running(server: Server) -> Server:
    """Return Alice's server, which runs with two people on it."""
    server.players = 2
    server.save()
    record_state(server, "running")
    return server


def answer(server: Server, text: str, answer: str, **fields: object) -> ConsoleCommand:
    size = len(answer.encode())
    values = {"state": "answered", "answer": answer, "answer_bytes": size, **fields}
    return server.console_commands.create(text=text, **values)


def test_a_form_sends_a_command_and_leads_back_to_the_console(
    as_alice: Client, running: Server
) -> None:
    response = as_alice.post(URL, {"command": " status "})
    assert (response.status_code, response["Location"]) == (303, "/servers/alpha/#console-prompt")
    command = ConsoleCommand.objects.get()
    assert (command.typed, command.requested_by_name, command.state) == (
        "status",
        "alice",
        "queued",
    )
    page = as_alice.get("/servers/alpha/").content.decode()
    assert "<code>status</code>" in page
    assert "waits for the host’s worker" in page
    response = as_alice.post(URL, {"command": "stats"}, headers=JSON)
    assert (response.status_code, set(response.json())) == (201, {"command", "text"})


def test_what_is_refused_is_explained_and_not_stored(as_alice: Client, running: Server) -> None:
    response = as_alice.post(URL, {"command": "say bye; quit"})
    assert response.status_code == 409
    assert "Use Stop or Restart" in response.content.decode()
    response = as_alice.post(URL, {"command": "sv_password hunter2"}, headers=JSON)
    assert response.status_code == 409
    assert "hunter2" not in response.content.decode()
    # For the engine, a name may end at any byte that is not ASCII.
    for command in ("quité", "sv_passwordé", "hostport é1", "sm_cvar rcon_passwordé", "rconé quit"):
        assert as_alice.post(URL, {"command": command}).status_code == 409
    assert not ConsoleCommand.objects.exists()


def test_what_throws_people_out_is_sent_once_it_is_confirmed(
    as_alice: Client, running: Server
) -> None:
    line = "changelevel c2m1_highway"
    response = as_alice.post(URL, {"command": line})
    assert response.status_code == 409
    assert "2 people are on" in response.content.decode()
    assert "question" in as_alice.post(URL, {"command": line}, headers=JSON).json()
    # A different line was confirmed.
    assert as_alice.post(URL, {"command": line, "confirmed": "map"}).status_code == 409
    assert not ConsoleCommand.objects.exists()
    assert as_alice.post(URL, {"command": line, "confirmed": line}).status_code == 303


def test_commands_are_refused_in_words_while_nothing_runs_or_too_many_wait(
    as_alice: Client, running: Server
) -> None:
    ConsoleCommand.objects.bulk_create(
        ConsoleCommand(server=running, text="status") for _ in range(20)
    )
    response = as_alice.post(URL, {"command": "status"}, headers=JSON)
    assert (response.status_code, "Retry-After" in response.headers) == (429, True)
    record_state(running, "stopped")
    response = as_alice.post(URL, {"command": "status"}, headers=JSON)
    assert (response.status_code, "Start it first" in response.json()["error"]) == (409, True)


def test_a_viewer_reads_answers_and_has_no_prompt(
    as_bob: Client, bob: User, running: Server
) -> None:
    running.memberships.create(user=bob, role="viewer")
    answer(running, "<b>echo</b>", "<script>alert(1)</script>", requested_by_name="alice")
    page = as_bob.get("/servers/alpha/").content.decode()
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "<b>echo</b>" not in page
    assert "prompt-command" not in page


def test_a_long_answer_is_a_click_away_and_whole(as_alice: Client, running: Server) -> None:
    short, long = "ü" * 16_383, "x" * 20_000
    answer(running, "short", short)
    assert "The whole answer" not in as_alice.get("/servers/alpha/").content.decode()
    command = answer(running, "cvarlist", long)
    page = as_alice.get("/servers/alpha/").content.decode()
    assert "The whole answer" in page
    assert long not in page
    text = as_alice.get(f"{URL}{command.pk}.txt")
    assert text.content.decode() == long + "\n"
    assert text["Content-Type"] == "text/plain; charset=utf-8"


def test_ones_own_history_has_each_command_once_and_nobody_elses(
    as_alice: Client, alice: User, running: Server, dana: User
) -> None:
    for text in ("status", "stats", "status"):
        answer(running, text, "", requested_by=alice)
    answer(running, "users", "", requested_by=dana)
    context = as_alice.get("/servers/alpha/").context
    assert json.loads(context["prompt"].own_history) == ["status", "stats"]
    assert [one.text for one in context["prompt"].commands] == [
        "users",
        "status",
        "stats",
        "status",
    ]


def test_commands_and_answers_are_found_and_paged(as_alice: Client, running: Server) -> None:
    for number in range(55):
        answer(running, f"echo {number}", f"told {number}")
    first = as_alice.get(URL).context
    assert [first["commands"][index].text for index in (0, -1)] == ["echo 54", "echo 5"]
    older = as_alice.get(URL, {"before": first["older_before"]}).context
    assert [one.text for one in older["commands"]] == [f"echo {n}" for n in (4, 3, 2, 1, 0)]
    assert [one.text for one in as_alice.get(URL, {"q": "TOLD 17"}).context["commands"]] == [
        "echo 17"
    ]
    assert not as_alice.get(URL, {"q": "100%"}).context["commands"]


def test_watchers_of_a_console_hear_of_a_command_and_of_its_end(
    as_alice: Client, running: Server
) -> None:
    def read() -> bytes:
        (snapshot,) = ConsoleTopic.read_snapshots([ConsoleTopic(running.pk)])
        return b"".join(snapshot.events)

    assert read() == b""
    as_alice.post(URL, {"command": "status"})
    queued = read()
    assert queued.startswith(b"event: commands\n")
    command = ConsoleCommand.objects.get()
    assert command.change("queued", "sent")  # type: ignore[arg-type]
    # The answer usually comes before they could look.
    assert read() == queued
    assert not command.change("queued", "answered")  # type: ignore[arg-type]
    assert read() == queued
    latest = as_alice.get(f"{URL}latest/").content.decode()
    assert 'data-live="commands"' in latest
    assert "data-pending" in latest
    assert command.change("sent", "answered")  # type: ignore[arg-type]
    assert read() != queued


def test_a_search_takes_no_longer_for_an_answer_made_for_it(
    as_alice: Client, server: Server
) -> None:
    answer(server, "status", "a" * 4_000_000)
    began_at = process_time()
    page = as_alice.get(URL, {"q": "a" * 199 + "b"})
    assert process_time() - began_at < 1
    assert not page.context["commands"]


def test_a_search_that_ends_in_time_goes_on_with_the_older_ones(
    as_alice: Client, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(searches, "SEARCH_SECONDS", -1.0)
    oldest, middle, newest = (answer(server, text, "") for text in ("stats", "status", "users"))
    query = {"q": "STATS"}
    for before, shown in ((newest, []), (middle, []), (None, [oldest])):
        page = as_alice.get(URL, query)
        assert list(page.context["commands"]) == shown
        assert page.context["older_before"] == (before and before.pk)
        assert ("continues from there" in page.content.decode()) == bool(before)
        query["before"] = page.context["older_before"]
