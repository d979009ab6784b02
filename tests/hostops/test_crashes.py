"""A verb can be killed at any of its changes to the disk; what is there is complete, and the next try finishes.

Each case runs the command line (`forked_cli`) under an audit hook that sends SIGKILL right before the N-th
change, for every N.
"""

import json
from pathlib import Path

import pytest

from hostops.host import Host
from hostops.instances.releases import is_whole
from hostops.specs import InstanceSpec, InstanceState
from tests.hostops.forked_cli import ForkedCLI, ForkServer
from tests.hostops.hosts import (
    BUILD_ID,
    CLI,
    LATER_BUILD_ID,
    STRIDE,
    end_everything,
    game_processes,
    installers,
    read_until,
    write_control,
)
from tests.ports import find_free_port


def changes(first: int, stride: int) -> range:
    """Return the numbers of changes to try; the loop ends by itself when a verb has no more."""
    return range(first, 500, stride * STRIDE)


def assert_current_is_whole(root: Path) -> None:
    current = root / "current"
    if current.is_symlink():
        assert is_whole(current.resolve()), f"{current} points to {current.readlink()}"


def initialize_arguments(tmp_path: Path, port: int) -> list[str]:
    config = tmp_path / "server.cfg"
    config.write_text('hostname "Alpha"\n')
    return ["initialize", "alpha", "--port", str(port), "--config", str(config)]


def test_initialize(forked_cli: ForkedCLI, host: Host, root: Path, tmp_path: Path) -> None:
    arguments = initialize_arguments(tmp_path, find_free_port())
    killed = 0
    for change in changes(1, 1):
        if not forked_cli.run_killed(change, *arguments):
            break
        killed += 1
        # Either missing, or complete.
        if host.status("alpha").state is not InstanceState.ABSENT:
            record = json.loads((root / "instances" / "alpha" / "instance.json").read_text())
            layer = root / "instances" / "alpha" / "layers" / record["layer"]
            copy = layer / "left4dead2" / "cfg" / "saferoom" / "90-config.cfg"
            assert copy.read_text() == 'hostname "Alpha"\n'
        if change % 4 == 0:
            forked_cli.succeed(*arguments)
            assert host.status("alpha").state is InstanceState.STOPPED
            host.delete("alpha")
    assert killed > 15
    forked_cli.succeed(*arguments)
    host.start("alpha")


def test_start(forked_cli: ForkedCLI, host: Host, root: Path, alpha: Path) -> None:
    killed = 0
    for change in changes(1, 1):
        if not forked_cli.run_killed(change, "start", "alpha"):
            break
        killed += 1
        forked_cli.succeed("start", "alpha")
        assert host.status("alpha").state is InstanceState.RUNNING
        assert len(game_processes(root)) == 1
        host.stop("alpha")
    assert killed * STRIDE > 10
    assert host.status("alpha").state is InstanceState.RUNNING


def test_stop(forked_cli: ForkedCLI, host: Host, root: Path, alpha: Path) -> None:
    for change in changes(1, 1):
        host.start("alpha")
        if not forked_cli.run_killed(change, "stop", "alpha"):
            break
        assert host.status("alpha").state in (InstanceState.RUNNING, InstanceState.STOPPED)
        forked_cli.succeed("stop", "alpha")
        assert host.status("alpha").state is InstanceState.STOPPED
    assert change > 5
    assert not game_processes(root)


def test_delete(forked_cli: ForkedCLI, host: Host, root: Path, tmp_path: Path) -> None:
    spec = InstanceSpec("alpha", find_free_port(), config="log on\n")
    killed = 0
    for change in changes(1, 4):
        host.initialize(spec)
        host.start("alpha")
        if not forked_cli.run_killed(change, "delete", "alpha"):
            break
        killed += 1
        forked_cli.succeed("delete", "alpha")
        assert not list((root / "instances").iterdir())
        assert not game_processes(root)
    assert killed * STRIDE > 10
    assert not list((root / "instances").iterdir())


def test_install(forks: ForkServer, tmp_path: Path) -> None:
    killed = 0
    for change in changes(1, 2):
        root = tmp_path / str(change)
        root.mkdir()
        write_control(root)
        cli = ForkedCLI(root, forks)
        was_killed = cli.run_killed(change, "install")
        assert_current_is_whole(root)
        cli.succeed("install")
        assert (root / "current").readlink() == Path("releases") / BUILD_ID
        assert [path.name for path in (root / "releases").iterdir()] == [BUILD_ID]
        assert not (root / "staging").exists()
        end_everything(root)
        if not was_killed:
            break
        killed += 1
    assert killed > 7


def test_update(forked_cli: ForkedCLI, host: Host, root: Path) -> None:
    killed = 0
    build_id = int(BUILD_ID)
    # Most of its changes are the copies of a hundred files: a stride that hits every phase.
    for change in changes(3, 37):
        build_id += 1
        before = (root / "current").readlink()
        write_control(root, steamcmd={"build_id": str(build_id)})
        was_killed = forked_cli.run_killed(change, "install")
        assert (root / "current").readlink() in (before, Path("releases") / str(build_id))
        assert_current_is_whole(root)
        forked_cli.succeed("install")
        assert host.facts().build_id == str(build_id)
        assert len(host.releases()) == 2
        if not was_killed:
            break
        killed += 1
    assert killed > 7


@pytest.mark.parametrize("moment", ["reconfiguring", "downloading", "verifying", "committing"])
def test_an_install_whose_worker_dies_while_steamcmd_works(empty_root: Path, moment: str) -> None:
    write_control(empty_root, steamcmd={"seconds": 1.5})
    cli = CLI(empty_root)
    cli.die_at(moment, "install")
    write_control(empty_root)
    cli.succeed("install")
    assert_current_is_whole(empty_root)
    assert not installers(empty_root)


def test_an_update_does_not_touch_a_running_server_when_it_dies(
    forked_cli: ForkedCLI, host: Host, root: Path, alpha: Path
) -> None:
    host.start("alpha")
    status = host.status("alpha")
    write_control(root, steamcmd={"build_id": LATER_BUILD_ID, "fail": ["stall"]})
    process = forked_cli.start("install")
    read_until(process, "downloading")
    process.kill()
    process.communicate()
    assert host.status("alpha") == status
    forked_cli.succeed("install")
    assert host.status("alpha") == status
