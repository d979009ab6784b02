"""Without overlays a server gets a full copy: it follows the layers, and keeps what the server wrote."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import pytest

from hostops.callbacks import Callbacks
from hostops.errors import OperationCancelled
from hostops.host import Host
from hostops.instances import full_copies, layers, tree_manifests
from hostops.layout import InstanceLayout
from hostops.specs import CancelToken, ConsolePosition, InstanceSpec, InstanceState
from tests.hostops.hosts import CLI, LATER_BUILD_ID, REPOSITORY, Output, game_pid, write_control
from tests.waiting import wait_until

CFG = Path("left4dead2", "cfg")


@pytest.fixture
def host(root: Path) -> Host:
    return Host(root, game_source="simulator", stop_timeout_seconds=2, layering="copy")


@pytest.fixture
def tree(alpha: Path) -> Path:
    return alpha / "tree"


def test_a_server_runs_from_its_copy_and_it_is_told_why(
    root: Path, alpha: Path, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refusal = layers.Layering("copy", "Mounting failed.", "Allow it.")
    monkeypatch.setattr(layers, "probe", lambda _root: refusal)
    host = Host(root, game_source="simulator", stop_timeout_seconds=2)
    output = Output()
    host.start("alpha", on_line=output.on_line)
    assert "cannot mount overlays" in output.errors()
    assert "Mounting failed. Allow it." in output.errors()
    # The same folder, whatever its path is called in the box.
    assert Path(f"/proc/{game_pid(root)}/cwd").stat().st_ino == tree.stat().st_ino
    assert host.facts().layering == "copy"
    assert host.facts().layering_detail == "Mounting failed. Allow it."
    host.stop("alpha")


def test_a_host_whose_kernel_forbids_it_is_known_and_works(
    cli: CLI, root: Path, tree: Path, alpha: Path
) -> None:
    # Inside a user namespace, further ones can be forbidden, as an administrator would on a host.
    program = (
        "import os, sys; from pathlib import Path; from hostops.cli import main; "
        "Path('/proc/sys/user/max_user_namespaces').write_text('0'); sys.exit(main(sys.argv[1:]))"
    )
    outputs = []
    for verb in (["doctor"], ["start", "alpha"], ["stop", "alpha"]):
        done = subprocess.run(
            ["unshare", "--user", "--map-root-user", sys.executable, "-c", program, *verb],
            cwd=REPOSITORY,
            env=cli.environment,
            capture_output=True,
            text=True,
            timeout=30,
        )
        outputs.append(done.stdout + done.stderr)
    reason = "Making a user and a mount namespace failed: no more are allowed."
    cure = "sysctl user.max_user_namespaces=15000"
    assert reason in outputs[0]
    assert cure in outputs[0]
    assert reason in outputs[1]
    assert "alpha answers on port" in outputs[1]
    assert "alpha has stopped" in outputs[2]
    assert (tree / "srcds_run").is_file()


def test_what_the_server_wrote_is_kept_and_ours_follows(
    host: Host, root: Path, alpha: Path, tree: Path, spec: InstanceSpec
) -> None:
    overlay = root / "overlays" / "maps" / "left4dead2" / "addons"
    overlay.mkdir(parents=True)
    (overlay / "one.vpk").write_text("one")
    (overlay / "two.vpk").write_text("two")
    host.initialize(replace(spec, overlays=("maps",)))
    host.start("alpha")
    host.stop("alpha")

    written = tree / CFG / "banned_user.cfg"
    written.write_text("banid 0 STEAM_1:0:4242\n")
    changed = tree / "left4dead2" / "addons" / "one.vpk"
    changed.write_text("changed by the server")
    (overlay / "two.vpk").rename(overlay / "three.vpk")
    write_control(root, steamcmd={"build_id": LATER_BUILD_ID})
    host.install_runtime()
    host.initialize(replace(spec, overlays=("maps",), config='hostname "Later"\n'))
    host.start("alpha")

    assert written.read_text() == "banid 0 STEAM_1:0:4242\n"
    assert changed.read_text() == "changed by the server"
    assert (tree / "left4dead2" / "addons" / "three.vpk").read_text() == "two"
    assert not (tree / "left4dead2" / "addons" / "two.vpk").exists()
    assert (tree / CFG / "saferoom" / "90-config.cfg").read_text() == 'hostname "Later"\n'
    for path in (root / "releases" / LATER_BUILD_ID).rglob("*"):
        mine = tree / path.relative_to(root / "releases" / LATER_BUILD_ID)
        if path.is_file() and mine.name != "console.log":
            assert mine.read_bytes() == path.read_bytes(), f"{mine} is not of the new release"


def test_while_it_is_copied_a_server_is_stopped(host: Host, alpha: Path) -> None:
    host.start("alpha")
    host.stop("alpha")
    output = Output()
    seen = []
    output.when("Copying the game", lambda: seen.append(host.status("alpha").state))
    host.start("alpha", on_stage=output.on_stage)
    assert set(seen) == {InstanceState.STOPPED}


def test_a_cancelled_copy_is_taken_up(host: Host, alpha: Path, tree: Path) -> None:
    output, cancel = Output(), CancelToken()

    def cancel_half_way() -> None:
        if output.stages[-1][1] == 50:
            cancel.cancel()

    output.when("Copying the game", cancel_half_way)
    with pytest.raises(OperationCancelled):
        host.start("alpha", on_stage=output.on_stage, cancel=cancel)
    copied = {path: path.stat().st_ctime_ns for path in tree.rglob("*") if path.is_file()}
    assert copied
    assert host.status("alpha").state is InstanceState.STOPPED
    host.start("alpha")
    unchanged = [path for path, changed in copied.items() if path.stat().st_ctime_ns == changed]
    assert len(unchanged) > len(copied) / 2


def test_a_config_that_the_server_changed_is_moved_aside(
    host: Host, tree: Path, alpha: Path
) -> None:
    host.start("alpha")
    host.stop("alpha")
    ours = (tree / CFG / "server.cfg").read_text()
    (tree / CFG / "server.cfg").write_text('hostname "Its own, and longer"\n')
    output = Output()
    host.start("alpha", on_line=output.on_line)
    assert (tree / CFG / "server.cfg").read_text() == ours
    assert "exec saferoom/90-config.cfg" in ours
    (saved,) = (tree / CFG).glob("server.cfg.saved-*")
    assert saved.read_text() == 'hostname "Its own, and longer"\n'
    assert f"kept as {saved.name}" in output.errors()


def test_nothing_that_the_server_writes_reaches_the_release(
    host: Host, root: Path, tree: Path, alpha: Path
) -> None:
    before = {path: path.read_bytes() for path in (root / "releases").rglob("*") if path.is_file()}
    host.start("alpha")
    for path in tree.rglob("*"):
        if path.is_file() and path.suffix != ".so":
            with path.open("ab") as file:
                file.write(b"\n")
    after = {path: path.read_bytes() for path in (root / "releases").rglob("*") if path.is_file()}
    assert after == before


def test_a_host_that_is_cured_takes_over_what_was_written(
    host: Host, root: Path, alpha: Path, tree: Path
) -> None:
    (alpha / "upper" / CFG).mkdir(parents=True)
    (alpha / "upper" / CFG / "before.cfg").write_text("written through an overlay\n")
    host.start("alpha")
    assert (tree / CFG / "before.cfg").read_text() == "written through an overlay\n"
    (tree / CFG / "during.cfg").write_text("written to the copy\n")
    host.stop("alpha")

    cured = Host(root, game_source="simulator", stop_timeout_seconds=2, layering="overlay")
    cured.start("alpha")
    assert cured.status("alpha").state is InstanceState.RUNNING
    assert not tree.exists()
    written = {path.name for path in (alpha / "upper" / CFG).iterdir()}
    assert {"before.cfg", "during.cfg"} <= written
    assert not (alpha / "upper" / "srcds_linux").exists()
    cured.send_command("alpha", "exec during.cfg")
    wait_until(
        lambda: any(
            "during.cfg" in line for _, line in cured.read_console("alpha", ConsolePosition()).lines
        ),
        5,
        "the server reads what it had written",
    )


def test_a_copy_whose_removal_was_interrupted_leaves_nothing_of_the_game(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    instance = InstanceLayout(tmp_path, "alpha")
    versions = {}
    for name in ("a/b/c/one", "a/b/c/two"):
        path = instance.tree_dir / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("of the game")
        versions[name] = [(path.stat().st_size, path.stat().st_mtime_ns)]
    tree_manifests.write_manifest(instance, versions)
    (instance.tree_dir / "a/mine").write_text("mine")
    # A start was killed while it copied.
    (instance.tree_dir / "a/b/c/.one.copying").write_text("of the g")
    instance.upper_dir.mkdir()
    with monkeypatch.context() as patch:
        # It has moved a folder to the top of what is removed.
        patch.setattr(os, "rmdir", Mock(side_effect=KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            full_copies.fold_tree(instance, Callbacks())
    full_copies.fold_tree(instance, Callbacks())
    assert [path for path in instance.upper_dir.rglob("*") if path.is_file()] == [
        instance.upper_dir / "a/mine"
    ]
    assert [path.name for path in instance.dir.iterdir()] == ["upper"]
