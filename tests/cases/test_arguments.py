"""Launch arguments: which ones the form refuses, with a reason, and which reach the game as written."""

import pytest

from jobs.queue.requests import enqueue
from jobs.worker.worker_process import worker_loop
from servers.models import Blueprint, Server
from tests.cases.conftest import BlueprintForm
from tests.fakes import FakeHost

HIDDEN_SHELL = '+sv_tags "coop -autoupdate -steam_dir . -steamcmd_script y;touch owned;:"'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        # A word hidden inside a quoted argument counts as a word.
        pytest.param(HIDDEN_SHELL, "The value of “+sv_tags” contains “-steam_dir”", id="01 shell"),
        pytest.param(
            "+hostname 'crew -debug'", "“+hostname” contains “-debug”", id="01 single quotes"
        ),
        pytest.param('+hostname "crew @more.txt"', "arguments from a file", id="01 file"),
        pytest.param('+sv_tags "a;quit"', "begins another command", id="01 semicolon"),
        pytest.param('+hostname "Crew -port 27098"', "Saferoom sets -port itself", id="02 port"),
        pytest.param(
            '+hostname "Crew +hostport 27098"', "“+hostname” contains “+hostport”", id="02 cvar"
        ),
        pytest.param(
            "+hostname Crew -PORT 27098", "Saferoom sets -PORT itself", id="02 upper case"
        ),
        pytest.param("-binary /usr/bin/id", "the game's own program and no other", id="03 program"),
        pytest.param("-BINARY /usr/bin/id", "the game's own program and no other", id="03 case"),
        pytest.param("-gdb", "Saferoom starts no debugger", id="03 debugger"),
        pytest.param("-ip 192.0.2.7 +map c2m1_highway", "only an admin may set", id="04 address"),
        pytest.param("+ip 192.0.2.7", "only an admin may set", id="04 plus"),
        pytest.param("-ip=192.0.2.7", "only an admin may set", id="04 equals sign"),
        pytest.param("// our rules\n-tickrate 60", "“//” looks like a comment", id="06 slashes"),
        pytest.param("# our rules\n-tickrate 60", "“#” looks like a comment", id="06 hash"),
        pytest.param("-tickrate 60 // fast", "“//” looks like a comment", id="06 end of line"),
        pytest.param("; ours\n-tickrate 60", "“;” looks like a comment", id="06 semicolon"),
        pytest.param("/* ours */\n-nobots", "“/*” looks like a comment", id="06 block"),
        pytest.param("REM ours\n-nobots", "“REM” looks like a comment", id="06 batch file"),
        pytest.param(
            "-nobots \\ \t\r\n-insecure", "Line 1: There are blanks after", id="05 blanks"
        ),
        pytest.param("—tickrate 60", "(em dash). You probably meant “-”", id="07 em dash"),
        pytest.param("－tickrate 60", "(fullwidth hyphen-minus). You probably", id="07 full width"),  # noqa: RUF001
        pytest.param("−tickrate 60", "(minus sign). You probably meant “-”", id="07 minus sign"),  # noqa: RUF001
        pytest.param("+sv_tags „a“", "meant a plain quotation mark", id="07 low quotes"),
        pytest.param("+sv_tags «a»", "meant a plain quotation mark", id="07 angle quotes"),
        pytest.param("-tickrate\u200b 60", "(zero width space)", id="07 invisible"),
    ],
)
def test_the_form_refuses_it_and_says_why(form: BlueprintForm, text: str, said: str) -> None:
    assert said in form.save(arguments=text)


@pytest.mark.django_db(transaction=True)
def test_what_is_right_reaches_the_game_as_it_was_written(
    form: BlueprintForm, server: Server, fake_host: FakeHost
) -> None:
    reached = {
        # 05: continued lines, of Windows and of others.
        "-tickrate 60 \\\r\n+map c2m1_highway": ("-tickrate", "60", "+map", "c2m1_highway"),
        "-insecure \\\n  -nobots \\\n  +map c5m2_park": (
            "-insecure",
            "-nobots",
            "+map",
            "c5m2_park",
        ),
        "+map \\\r\nc2m1_highway\r\n-nobots": ("+map", "c2m1_highway", "-nobots"),
        # 08: nothing is expanded, whatever a shell would make of it.
        "+sv_search_key *": ("+sv_search_key", "*"),
        "+sv_search_key [a-z]?*": ("+sv_search_key", "[a-z]?*"),
        "+sv_tags ~root,$HOME,`id`": ("+sv_tags", "~root,$HOME,`id`"),
    }
    for text, words in reached.items():
        assert form.save(arguments=text) == ""
        blueprint = Blueprint.objects.get(name="night")
        Server.objects.update(blueprint=blueprint)
        server.refresh_from_db()
        enqueue("initialize", server=server, requested_by=None)
        worker_loop(until_empty=True)
        assert fake_host.specs[-1].arguments == words
        Server.objects.update(blueprint=Blueprint.objects.get(name="coop"))
        blueprint.delete()
