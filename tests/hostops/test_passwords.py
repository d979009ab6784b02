"""A server's passwords reach the game in a file of its own, and a start checks whether they apply."""

import select
import socket
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from hostops.host import Host
from hostops.query import rcon
from hostops.specs import InstanceSpec, InstanceState
from tests.hostops.hosts import Output, game_processes, instance_of
from tests.ports import find_free_port


def test_a_start_says_nothing_of_passwords_that_hold(host: Host, spec: InstanceSpec) -> None:
    output = Output()
    host.initialize(replace(spec, rcon_password="hunter2", join_password="sesame//x"))
    host.start("alpha", on_line=output.on_line)
    assert output.errors() == ""
    assert "hunter2" not in output.text
    answer = rcon.execute("127.0.0.1", spec.port, "hunter2", "sv_password", 5)
    assert '"sv_password" = "sesame//x"' in answer


def test_a_start_says_which_password_does_not_hold(
    host: Host, root: Path, spec: InstanceSpec
) -> None:
    """A line at its end stands in for a file that the map's own script would execute after server.cfg."""
    host.initialize(replace(spec, rcon_password="hunter2", join_password="sesame"))
    for line, what in (("rcon_password other", "RCON password"), ("sv_password other", "join")):
        (config,) = (root / "instances/alpha/layers").glob("*/left4dead2/cfg/server.cfg")
        written = config.read_text()
        config.write_text(f"{written}{line}\n")
        output = Output()
        host.start("alpha", on_line=output.on_line)
        assert what in output.errors()
        assert "Another config sets it after Saferoom; look at" in output.errors()
        assert host.status("alpha").state is InstanceState.RUNNING
        host.stop("alpha")
        config.write_text(written)


@pytest.mark.parametrize(
    "next_bind_address", ["127.0.0.2", "127.0.0.3"], ids=["another port", "another address"]
)
def test_a_start_that_goes_on_sends_the_password_to_what_runs_and_to_nothing_else(
    host: Host, root: Path, spec: InstanceSpec, next_bind_address: str
) -> None:
    """The one who started it died, and before the next start it was given another port, or another address."""
    spec = replace(spec, rcon_password="hunter2", bind_address="127.0.0.2")
    host.initialize(spec)
    host.start("alpha")
    instance_of(root).ready_path.unlink()
    port = spec.port if next_bind_address != spec.bind_address else find_free_port()
    host.initialize(replace(spec, port=port, bind_address=next_bind_address))
    with socket.create_server((next_bind_address, port)) as other:
        output = Output()
        host.start("alpha", on_line=output.on_line)
        assert not select.select([other], [], [], 0)[0]
    assert output.text.startswith("alpha is starting already.")
    assert output.errors() == ""


def test_passwords_are_in_no_other_file_than_the_games_own(
    host: Host, root: Path, spec: InstanceSpec
) -> None:
    host.initialize(replace(spec, rcon_password="hunter2", join_password="sesame"))
    host.start("alpha")
    instance_dir = root / "instances" / "alpha"
    with_secrets = [
        path
        for path in instance_dir.rglob("*")
        if path.is_file() and (b"hunter2" in path.read_bytes() or b"sesame" in path.read_bytes())
    ]
    (config,) = (instance_dir / "layers").glob("*/left4dead2/cfg/server.cfg")
    # A full copy of the game has the file once more.
    assert {path.name for path in with_secrets} == {"server.cfg"}
    assert config in with_secrets
    assert {stat.S_IMODE(path.stat().st_mode) for path in with_secrets} == {0o600}
    assert any("hunter2" in text for text in host.instance_settings("alpha"))
    for process in game_processes(root):
        assert b"hunter2" not in Path(f"/proc/{process}/cmdline").read_bytes()


def test_the_passwords_of_the_running_and_of_the_next_start_are_known(
    host: Host, spec: InstanceSpec
) -> None:
    host.initialize(replace(spec, rcon_password="hunter2"))
    host.start("alpha")
    host.initialize(replace(spec, rcon_password="another1", config="sv_password sesame\n"))
    settings = "\n".join(host.instance_settings("alpha"))
    for password in ("hunter2", "another1", "sesame"):
        assert password in settings
