"""Reset removes what a server wrote, and nothing else."""

import shutil
from pathlib import Path

import pytest

from hostops.errors import HostError
from hostops.host import Host
from hostops.specs import ConsolePosition, InstanceSpec, InstanceState
from tests.hostops.forked_cli import ForkedCLI
from tests.hostops.hosts import game_processes
from tests.hostops.test_crashes import changes
from tests.waiting import wait_until

WRITTEN = "left4dead2/cfg/banned_user.cfg"


def write(tree: Path) -> None:
    (tree / WRITTEN).parent.mkdir(parents=True, exist_ok=True)
    (tree / WRITTEN).write_text("banid 0 STEAM_1:0:1\n")


def test_it_stops_the_server_and_removes_what_it_wrote(
    host: Host, root: Path, alpha: Path, spec: InstanceSpec
) -> None:
    host.start("alpha")
    write(alpha / "upper")
    host.reset("alpha")
    assert host.status("alpha").state is InstanceState.STOPPED
    assert list((alpha / "upper").iterdir()) == []
    assert not game_processes(root)
    assert not list((root / "instances").glob(".*"))
    host.start("alpha")
    assert not (alpha / "upper" / WRITTEN).exists()


def test_settings_and_console_stay(host: Host, alpha: Path) -> None:
    host.start("alpha")
    host.reset("alpha")
    assert any("quit" in line for _, line in host.read_console("alpha", ConsolePosition()).lines)
    host.start("alpha")
    host.send_command("alpha", "hostname")
    wait_until(
        lambda: any(
            "Alpha" in line for _, line in host.read_console("alpha", ConsolePosition(2, 0)).lines
        ),
        5,
        "the config is gone",
    )


@pytest.mark.parametrize("folder", ["console", "layers", "work"])
def test_a_file_or_link_in_the_place_of_a_folder_is_removed(
    host: Host, alpha: Path, spec: InstanceSpec, tmp_path: Path, folder: str
) -> None:
    """As a game without a box can leave it: a start would be refused, and says to reset the server."""
    shutil.rmtree(alpha / folder)
    (alpha / folder).symlink_to(tmp_path)
    host.reset("alpha")
    assert not (alpha / folder).is_symlink()
    host.initialize(spec)
    (alpha / folder).rmdir() if folder != "layers" else shutil.rmtree(alpha / folder)
    (alpha / folder).write_text("no folder")
    host.reset("alpha")
    host.initialize(spec)
    host.start("alpha")
    assert tmp_path.is_dir()


def test_a_full_copy_is_made_again(root: Path, alpha: Path) -> None:
    host = Host(root, game_source="simulator", stop_timeout_seconds=2, layering="copy")
    host.start("alpha")
    write(alpha / "tree")
    host.reset("alpha")
    assert not (alpha / "tree").exists()
    host.start("alpha")
    assert not (alpha / "tree" / WRITTEN).exists()


def test_what_is_not_there_cannot_be_reset(host: Host) -> None:
    with pytest.raises(HostError, match="initialize it first"):
        host.reset("alpha")


def test_it_follows_no_link_out_of_the_instance(host: Host, alpha: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").write_text("not the server's")
    (alpha / "upper" / "link").symlink_to(outside)
    host.reset("alpha")
    assert (outside / "file").read_text() == "not the server's"


def test_killed_at_any_change_it_is_finished_by_the_next_one(
    forked_cli: ForkedCLI, host: Host, root: Path, alpha: Path
) -> None:
    killed = 0
    for change in changes(1, 1):
        write(alpha / "upper")
        if not forked_cli.run_killed(change, "reset", "alpha"):
            break
        killed += 1
        if change % 2:
            host.start("alpha")  # It may be started all the same,
            host.stop("alpha")
        forked_cli.succeed("reset", "alpha")  # and reset again.
        assert not (alpha / "upper" / WRITTEN).exists()
        assert not list((root / "instances").glob(".*"))
    assert killed > 5
