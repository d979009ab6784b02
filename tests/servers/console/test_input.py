"""What may be typed into a console, and what is refused or questioned, with the reason."""

import pytest

from servers.console.input import judge


@pytest.mark.parametrize(
    "line",
    [
        *("status", "say hello; say quit", 'say "quit; exit"', "sm_kick alice", "echo // quit"),
        *("sv_password", "hostport", "changelevel", "exec server.cfg", "say ünïcode"),
    ],
)
def test_what_harms_nobody_is_sent(line: str) -> None:
    assert judge(line, 4) == judge("status", 0)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("quit", "“quit” ends the server"),
        ("status; EXIT", "“exit” ends the server"),
        ('"_restart"', "“_restart” ends the server"),
        ("alias x quit", "“quit” ends the server"),
        ("sm_rcon killserver", "“sm_rcon” only passes a command on"),
        ("sv_password hunter2", "“sv_password” sets a secret"),
        ("sm_cvar rcon_password x", "“rcon_password” sets a secret"),
        ("rcon hunter2 status", "“rcon” only passes a command on"),
        ("hostport 27020", "“hostport” would move the server"),
        ("  ", "Type a command"),
        ("say a\nquit", "one line"),
        ("say \x7f", "one line"),
        ("say " + "ü" * 254, "at most 510 bytes"),
        ("say \ud800", "not text"),
    ],
)
def test_what_would_harm_is_refused_with_the_reason(line: str, reason: str) -> None:
    assert reason in judge(line, 0).refusal


@pytest.mark.parametrize(
    ("line", "players", "question"),
    [
        (
            "map c1m1_hotel",
            1,
            "This ends the current game and disconnects everybody. 1 person is on.",
        ),
        ("say bye; changelevel c2m1_highway", 3, "3 people are on."),
        ("changelevel c2m1_highway", None, "The panel does not know how many people are on."),
        ("map c1m1_hotel", 0, ""),
        ("map", 3, ""),
    ],
)
def test_what_throws_people_out_is_asked_about_while_there_are_some(
    line: str, players: int | None, question: str
) -> None:
    judgement = judge(line, players)
    assert judgement.refusal == ""
    assert judgement.question.endswith(question)
    assert bool(judgement.question) == bool(question)
