"""What keeps a server from starting is found while it runs, without changing anything."""

import os
import signal
import socket
from dataclasses import replace
from pathlib import Path

import pytest

from hostops.errors import HostError
from hostops.host import Host
from hostops.linux.files import walk_files
from hostops.specs import InstanceSpec, InstanceState
from tests.hostops.hosts import CLI, Output, game_pid, latest_run
from tests.ports import find_free_port
from tests.waiting import wait_until


def files_of(root: Path) -> dict[str, tuple[int, int, int]]:
    """Return all files of a host except its locks, with facts that would reveal a write."""
    return {
        path: (status.st_ino, status.st_size, status.st_mtime_ns)
        for path, status in walk_files(root)
        if not path.startswith("locks/")
    }


def add_overlay(root: Path, name: str = "pack") -> Path:
    folder = root / "overlays" / name
    folder.mkdir(parents=True)
    return folder


def test_a_check_changes_nothing(host: Host, root: Path, spec: InstanceSpec) -> None:
    add_overlay(root)
    host.facts()  # It has tried once whether overlays can be mounted.
    before = files_of(root)
    output = Output()
    checked = replace(spec, overlays=("pack",))
    host.check(checked, on_line=output.on_line, on_stage=output.on_stage)
    assert files_of(root) == before
    assert output.stages == [("Checking", None)]
    assert output.lines == [("stdout", "Nothing was found that would keep alpha from starting.")]


def test_a_server_that_runs_is_in_nobodys_way_but_what_else_holds_its_port_is(
    host: Host, root: Path, alpha: Path, spec: InstanceSpec
) -> None:
    host.start("alpha")
    host.check(spec)
    host.check(replace(spec, port=find_free_port()))
    port = find_free_port()
    host.initialize(replace(spec, name="beta", port=port))
    host.start("beta")
    with pytest.raises(
        HostError, match=rf"Port {port} \(UDP\) of alpha is in use by the server beta"
    ):
        host.check(replace(spec, port=port))
    taken = find_free_port()
    with (
        socket.create_server(("127.0.0.1", taken)),
        pytest.raises(HostError, match=rf"Port {taken} \(TCP\) of alpha is in use by python"),
    ):
        host.check(replace(spec, port=taken))


def test_what_start_refuses_check_refuses_in_the_same_words(
    host: Host, root: Path, spec: InstanceSpec
) -> None:
    add_overlay(root)
    (root / "overlays" / "twin").symlink_to("pack")
    for faulty in (
        replace(spec, arguments=("+map", "c5m1_waterfont")),
        replace(spec, overlays=("gone",)),
        replace(spec, arguments=("-binary", "/bin/echo")),
        replace(spec, config="hostport 27016\n"),
        replace(spec, bind_address="192.0.2.7"),
    ):
        with pytest.raises((HostError, ValueError)) as checked:
            host.check(faulty)
        with pytest.raises((HostError, ValueError)) as started:  # noqa: PT012 - either may
            host.initialize(faulty)
            host.start("alpha")
        assert str(checked.value) == str(started.value)


def test_the_kernels_own_rules_of_layers_are_known_before(
    host: Host, root: Path, spec: InstanceSpec
) -> None:
    inner = add_overlay(root) / "inner"
    inner.mkdir()
    for name, target in (("twin", "pack"), ("part", "pack/inner")):
        (root / "overlays" / name).symlink_to(target)
        with pytest.raises(HostError, match="Look whether one of their folders is a link"):
            host.check(replace(spec, overlays=("pack", name)))
    many = [f"{number:032}" for number in range(100)]
    for name in many:
        add_overlay(root, name)
    with pytest.raises(HostError, match="use fewer overlays, or shorter names"):
        host.check(replace(spec, overlays=tuple(many)))


def test_the_command_line_restarts_only_what_can_start(
    cli: CLI, host: Host, root: Path, spec: InstanceSpec
) -> None:
    overlay = add_overlay(root)
    host.initialize(replace(spec, overlays=("pack",)))
    host.start("alpha")
    begun = latest_run(root)
    overlay.rmdir()
    done = cli.run("restart", "alpha")
    assert done.returncode == 1
    assert "alpha needs the overlay pack, which is not on this host" in done.stderr
    assert "== Checking" in done.stderr
    assert latest_run(root) == begun
    assert host.status("alpha").state is InstanceState.RUNNING


def test_a_map_of_the_servers_own_files_is_one(host: Host, alpha: Path, spec: InstanceSpec) -> None:
    own = replace(spec, arguments=("+map my_own versus",))
    with pytest.raises(HostError, match="with the map my_own: it is not among the"):
        host.check(own)
    maps_dir = alpha / "upper" / "left4dead2" / "maps"
    maps_dir.mkdir(parents=True)
    (maps_dir / "my_own.bsp").write_bytes(b"VBSP")
    host.check(own)


def test_an_initialize_leaves_a_crashed_server_what_it_is_restarted_with(
    host: Host, root: Path, alpha: Path, spec: InstanceSpec
) -> None:
    host.start("alpha")
    (launched,) = (alpha / "layers").iterdir()
    os.kill(game_pid(root), signal.SIGSEGV)
    wait_until(lambda: host.status("alpha").state is InstanceState.CRASHED, 10, "it does not crash")
    for text in ("Later", "Latest"):
        host.initialize(replace(spec, config=f'hostname "{text}"\n'))
        assert launched.is_dir()
        assert len(list((alpha / "layers").iterdir())) == 2
    host.start("alpha")
    assert not launched.exists()
