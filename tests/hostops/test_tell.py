"""Commands for running servers: by RCON where that works, otherwise typed; never twice."""

import pytest

from hostops.errors import AnswerLostError, HostError
from hostops.host import Host
from hostops.instances import console_files
from hostops.query.rcon import RconError
from hostops.query.status import ServerStatus, parse_status
from hostops.specs import CommandWay, ConsolePosition, InstanceSpec
from tests.ports import find_free_port
from tests.waiting import wait_until


def read_console(host: Host, name: str) -> str:
    return "\n".join(line for _, line in host.read_console(name, ConsolePosition()).lines)


def test_a_command_is_answered_whole_or_said_to_be_lost_and_typed_where_rcon_is_refused(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = InstanceSpec("alpha", find_free_port(), rcon_password="hunter2")
    with pytest.raises(HostError, match="alpha does not run"):
        host.tell("alpha", "status")
    host.initialize(spec)
    host.start("alpha")
    answer = host.tell("alpha", "sim_flood 30000")
    assert answer.way is CommandWay.RCON
    assert answer.text.count("\n") == 30_000
    assert answer.text.endswith("flood 30000 of 30000\n")
    with pytest.raises(ValueError, match="line break"):
        host.tell("alpha", "say one\nquit")
    # Names that try to look like somebody else's row.
    fake = '" STEAM_1:0:9 00:10 5 0 ac'
    host.tell("alpha", f"sim_join_hex {fake.encode().hex()} STEAM_1:0:1; sim_join Nick BOT")
    status = parse_status(host.tell("alpha", "status").text)
    assert status
    assert [(one.name, one.steam_id) for one in status.people] == [(fake, "STEAM_1:0:1")]
    host.tell("alpha", 'kickid STEAM_1:0:1 "be nice; quit"')
    status = parse_status(host.tell("alpha", "status").text)
    assert status == ServerStatus((), is_hibernating=True, map="c1m1_hotel")
    assert 'reason "be nice; quit"' in "".join(read_console(host, "alpha"))
    # Somebody changes the password: one try, and the rest is typed.
    host.tell("alpha", "rcon_password another")
    answer = host.tell("alpha", "echo typed-once")
    assert (answer.way, answer.text, answer.is_password_refused) == (CommandWay.TYPED, "", True)
    assert "refused the password" in answer.why_typed
    wait_until(lambda: "typed-once" in read_console(host, "alpha"), 10, "nothing was typed")
    for number in range(20):  # The engine would ban the address for good.
        again = host.tell("alpha", f"echo again-{number}", refusing_run=answer.run)
        assert again.way is CommandWay.TYPED
    host.send_command("alpha", "rcon_password hunter2")
    wait_until(lambda: "again-19" in read_console(host, "alpha"), 10, "nothing was typed")
    assert host.tell("alpha", "echo back").text == "back\n"
    # A command that may have been carried out is not typed again.
    monkeypatch.setattr(console_files, "send_line", lambda *_: pytest.fail("It was typed, too."))

    def loses_an_answer() -> str:
        try:
            host.tell("alpha", "echo once; sim_hang", timeout_seconds=0.3)
        except AnswerLostError as error:
            return str(error)
        except RconError as error:
            # On a busy machine the time may be over before it is sent: it has had no effect.
            if "did not answer within 0.3 seconds" not in str(error):
                raise
            return ""
        pytest.fail("It was answered.")

    assert "did not answer within 0.3 seconds" in wait_until(loses_an_answer, 10, "none is lost")
