"""An update costs what it changes, and whatever happens to it, no installed file ever changes."""

import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from hostops.errors import HostError, OperationCancelled
from hostops.host import Host
from hostops.instances import releases
from hostops.layout import HostLayout
from hostops.linux import files
from hostops.specs import CancelToken, InstanceState
from hostops.steam import install, staging
from hostops.steam.staging import Assembly, OverlaidRelease
from tests.hostops.hosts import (
    BUILD_ID,
    CLI,
    LATER_BUILD_ID,
    Output,
    latest_run,
    write_control,
)
from tests.waiting import wait_until

PATCHED = ("left4dead2/pak01_dir.vpk", "update/pak01_dir.vpk")
"""The files that the simulated SteamCMD rewrites in place."""


@pytest.fixture
def pristine(root: Path) -> Callable[[], None]:
    """Return a function that asserts that the installed release is unchanged, to the byte."""
    release = root / "releases" / BUILD_ID

    def read() -> dict[str, tuple[bytes, int, int]]:
        return {
            str(path.relative_to(release)): (
                path.read_bytes(),
                path.stat().st_mtime_ns,
                path.stat().st_ino,
            )
            for path in release.rglob("*")
            if path.is_file()
        }

    before = read()

    def assert_pristine() -> None:
        assert read() == before

    return assert_pristine


def update(host: Host, root: Path, build_id: str = LATER_BUILD_ID, **steamcmd: object) -> str:
    write_control(root, steamcmd={"build_id": build_id, **steamcmd})
    return host.install_runtime()


def inodes(release: Path) -> dict[str, int]:
    return {
        str(path.relative_to(release)): path.stat().st_ino
        for path in release.rglob("*")
        if path.is_file()
    }


def test_unchanged_files_are_shared_and_changed_ones_are_not(
    host: Host, root: Path, pristine: Callable[[], None]
) -> None:
    assert update(host, root) == LATER_BUILD_ID
    pristine()
    old, new = (inodes(root / "releases" / build) for build in (BUILD_ID, LATER_BUILD_ID))
    own = {path for path, inode in new.items() if old.get(path) != inode}
    assert set(PATCHED) <= own
    assert "left4dead2/maps/c1m1_hotel.bsp" in own
    assert "left4dead2/maps/c2m1_highway.bsp" not in own
    assert len(own) < len(new) / 4
    for path in PATCHED:
        patched = root / "releases" / LATER_BUILD_ID / path
        assert LATER_BUILD_ID.encode() in patched.read_bytes()
        assert patched.stat().st_nlink == 1


def test_a_chain_of_updates_changes_no_older_release(host: Host, root: Path) -> None:
    update(host, root)
    second = root / "releases" / LATER_BUILD_ID
    before = {path: path.read_bytes() for path in second.rglob("*") if path.is_file()}
    update(host, root, "30000000")
    assert {path: path.read_bytes() for path in second.rglob("*") if path.is_file()} == before


def test_a_release_that_a_crashed_server_may_be_restarted_from_stays_until_it_is_stopped(
    host: Host, root: Path, alpha: Path
) -> None:
    """As systemd restarts it, with its last launch plan, after a pause of up to a minute."""
    host.start("alpha")
    update(host, root)
    os.kill(latest_run(root).pid, signal.SIGKILL)
    wait_until(lambda: host.status("alpha").state is InstanceState.CRASHED, 20, "it lives on")
    update(host, root, "30000000")
    assert (root / "releases" / BUILD_ID).is_dir()
    host.stop("alpha")
    update(host, root, "30000001")
    assert not (root / "releases" / BUILD_ID).exists()


def test_what_overlayfs_notes_on_files_stays_out_of_releases(host: Host, root: Path) -> None:
    update(host, root)
    release = root / "releases" / LATER_BUILD_ID
    assert not {path: names for path in release.rglob("*") if (names := os.listxattr(path))}
    assert [path.name for path in (root / "releases").glob(".*")] == []
    assert not list(root.glob(".staging*"))


@pytest.mark.parametrize(
    "failure",
    [
        *("network-0x402", "disk-full-0x202", "crash", "success-without-manifest", "login-failed"),
        *("disk-write-failure", "killed"),
    ],
)
def test_an_update_that_fails_changes_nothing_and_the_next_one_goes_on(
    host: Host,
    root: Path,
    alpha: Path,
    pristine: Callable[[], None],
    failure: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("hostops.steam.steamcmd._RETRY_SECONDS", 0)
    host.start("alpha")
    with pytest.raises(HostError):
        update(host, root, fail=failure)
    pristine()
    assert (root / "current").readlink() == Path("releases") / BUILD_ID
    assert host.status("alpha").state is InstanceState.RUNNING
    host.restart("alpha")  # still on the old release
    assert latest_run(root).release == BUILD_ID
    output = Output()
    write_control(root, steamcmd={"build_id": LATER_BUILD_ID})
    assert host.install_runtime(on_line=output.on_line) == LATER_BUILD_ID
    assert f"Going on with the update of build {BUILD_ID}." in output.text
    pristine()


def test_what_was_downloaded_is_not_downloaded_again(host: Host, root: Path) -> None:
    with pytest.raises(HostError):
        update(host, root, fail=["disk-write-0x606"])
    downloaded = [
        path for path in (root / "staging/upper/steamapps/downloading").rglob("*") if path.is_file()
    ]
    assert downloaded
    numbers = {path.stat().st_ino for path in downloaded}
    host.install_runtime()
    new = set(inodes(root / "releases" / LATER_BUILD_ID).values())
    assert numbers & new, "a file that was downloaded before is part of the release"


@pytest.mark.parametrize("moment", ["downloading", "verifying", "committing"])
def test_a_killed_update_leaves_the_release_alone_and_is_gone_on_with(
    cli: CLI, host: Host, root: Path, pristine: Callable[[], None], moment: str
) -> None:
    write_control(root, steamcmd={"build_id": LATER_BUILD_ID, "seconds": 1.5})
    cli.die_at(moment, "install")
    pristine()
    assert host.facts().build_id == BUILD_ID
    write_control(root, steamcmd={"build_id": LATER_BUILD_ID})
    assert host.install_runtime() == LATER_BUILD_ID
    pristine()


def test_a_cancelled_update_is_gone_on_with(
    host: Host, root: Path, pristine: Callable[[], None]
) -> None:
    write_control(root, steamcmd={"build_id": LATER_BUILD_ID, "fail": ["stall"]})
    output, cancel = Output(), CancelToken()
    output.when("Downloading", cancel.cancel)
    with pytest.raises(OperationCancelled):
        host.install_runtime(on_line=output.on_line, on_stage=output.on_stage, cancel=cancel)
    pristine()
    assert host.install_runtime() == LATER_BUILD_ID


def test_a_finished_update_is_never_written_to_again(
    host: Host, root: Path, monkeypatch: pytest.MonkeyPatch, pristine: Callable[[], None]
) -> None:
    """Its files may be links into a release by then: SteamCMD must not be allowed near them."""
    cancel = CancelToken()
    real_build = Assembly.build

    def build_and_be_cancelled(self: Assembly) -> None:
        real_build(self)
        cancel.cancel()
        cancel.raise_if_cancelled()

    monkeypatch.setattr(Assembly, "build", build_and_be_cancelled)
    write_control(root, steamcmd={"build_id": LATER_BUILD_ID})
    with pytest.raises(OperationCancelled):
        host.install_runtime(cancel=cancel)
    monkeypatch.undo()
    assert host.facts().build_id == BUILD_ID
    # Steam has the next build by now, but the finished one becomes a release first.
    write_control(root, steamcmd={"build_id": "30000000"})
    output = Output()
    assert host.install_runtime(on_line=output.on_line) == LATER_BUILD_ID
    assert "Update state" not in output.text
    pristine()
    assert host.install_runtime() == "30000000"


def test_an_update_whose_release_is_gone_starts_over(host: Host, root: Path) -> None:
    with pytest.raises(HostError):
        update(host, root, fail=["disk-write-0x606"])
    shutil.rmtree(root / "releases" / BUILD_ID)
    output = Output()
    assert host.install_runtime(on_line=output.on_line) == LATER_BUILD_ID
    assert "starting over" in output.text


def test_a_damaged_file_of_the_installed_build_is_repaired(
    host: Host, root: Path, alpha: Path
) -> None:
    broken = root / "releases" / BUILD_ID / "left4dead2" / "maps" / "c1m1_hotel.bsp"
    broken.write_bytes(b"broken")
    host.start("alpha")
    with pytest.raises(HostError, match=f"Build {BUILD_ID} is damaged .* while alpha runs"):
        host.install_runtime()
    host.stop("alpha")
    output = Output()
    assert host.install_runtime(on_line=output.on_line) == BUILD_ID
    assert "Steam has repaired them: left4dead2/maps/c1m1_hotel.bsp" in output.errors()
    assert broken.read_bytes().startswith(b"VBSP")
    assert host.facts().build_id == BUILD_ID


def test_where_overlays_cannot_be_mounted_the_update_works_in_a_copy(
    root: Path, pristine: Callable[[], None]
) -> None:
    host = Host(root, game_source="simulator", layering="copy")
    with pytest.raises(HostError):
        update(host, root, fail=["disk-write-0x606"])
    for path in (root / "staging").rglob("*"):
        assert path.is_dir() or path.stat().st_nlink == 1, f"{path} is a hard link"
    pristine()
    assert host.install_runtime() == LATER_BUILD_ID
    pristine()


def test_an_overlaid_update_is_not_gone_on_with_where_overlays_cannot_be_mounted(
    host: Host, root: Path
) -> None:
    with pytest.raises(HostError):
        update(host, root, fail=["disk-write-0x606"])
    output = Output()
    copying = Host(root, game_source="simulator", layering="copy")
    assert copying.install_runtime(on_line=output.on_line) == LATER_BUILD_ID
    assert "starting over" in output.text
    assert not (root / "staging").exists()


def test_an_update_needs_less_room_than_an_install(root: Path, tmp_path: Path) -> None:
    here, elsewhere = HostLayout(root), HostLayout(tmp_path / "elsewhere")
    assert install.needed_bytes(here, can_overlay=True) == install.UPDATE_BYTES
    assert install.needed_bytes(elsewhere, can_overlay=True) == install.GAME_BYTES


class Layers:
    """A release and an upper layer over it, made by hand."""

    def __init__(self, root: Path) -> None:
        self.layout = HostLayout(root)
        (root / "releases" / "1" / "d").mkdir(parents=True)
        self.staging = staging.begin_overlaid(self.layout, "1")
        self.base, self.upper = self.staging.base_dir, self.staging.upper_dir

    def build(self) -> tuple[Path, Assembly]:
        target = self.layout.root / "merged"
        assembly = Assembly(self.staging, target, CancelToken())
        assembly.build()
        return target, assembly


@pytest.fixture
def layers(tmp_path: Path) -> Layers:
    return Layers(tmp_path)


def test_a_whiteout_is_a_removal(layers: Layers) -> None:
    (layers.base / "d" / "gone").write_text("x")
    (layers.base / "d" / "stays").write_text("y")
    (layers.upper / "d").mkdir()
    os.mknod(layers.upper / "d" / "gone", 0o020000, os.makedev(0, 0))
    assert layers.staging.find("d/gone") is None
    assert layers.staging.find("d/stays") == layers.base / "d" / "stays"
    merged, assembly = layers.build()
    assert [path.name for path in (merged / "d").iterdir()] == ["stays"]
    assert assembly.changed == ["d/gone"]


def test_an_opaque_folder_hides_what_is_below(layers: Layers) -> None:
    (layers.base / "d" / "hidden").write_text("x")
    (layers.upper / "d").mkdir()
    os.setxattr(layers.upper / "d", "user.overlay.opaque", b"y")
    (layers.upper / "d" / "new").write_text("n")
    assert layers.staging.find("d/hidden") is None
    assert layers.staging.find("d/new") == layers.upper / "d" / "new"
    merged, _ = layers.build()
    assert [path.name for path in (merged / "d").iterdir()] == ["new"]
    assert not os.listxattr(merged / "d")


def test_a_file_in_the_place_of_a_folder_and_the_other_way(layers: Layers) -> None:
    (layers.base / "f").write_text("a file")
    (layers.upper / "f").mkdir()
    (layers.upper / "f" / "inside").write_text("now in a folder")
    (layers.upper / "d").write_text("now a file")
    merged, _ = layers.build()
    assert (merged / "d").read_text() == "now a file"
    assert (merged / "f" / "inside").read_text() == "now in a folder"
    assert layers.staging.find("f/inside") == layers.upper / "f" / "inside"
    assert layers.staging.find("d/anything") is None


def test_links_are_kept_as_links_and_never_followed(layers: Layers, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("not the game's")
    (layers.base / "link").symlink_to(secret)
    (layers.upper / "other").symlink_to(secret)
    merged, _ = layers.build()
    assert (merged / "link").readlink() == (merged / "other").readlink() == secret
    assert secret.stat().st_nlink == 1


def test_a_file_written_anew_with_the_same_contents_stays_shared(layers: Layers) -> None:
    for name, mode in (("same", 0o644), ("program", 0o755)):
        (layers.base / name).write_text("contents")
        (layers.base / name).chmod(0o644)
        (layers.upper / name).write_text("contents")
        (layers.upper / name).chmod(mode)
    merged, assembly = layers.build()
    assert (merged / "same").stat().st_ino == (layers.base / "same").stat().st_ino
    assert (merged / "program").stat().st_ino == (layers.upper / "program").stat().st_ino
    assert assembly.changed == ["program"]


def test_a_plain_staging_folder_is_not_taken_for_an_overlay(tmp_path: Path) -> None:
    layout = HostLayout(tmp_path)
    assert staging.open_overlaid(layout) is None
    (tmp_path / "staging" / "base").mkdir(parents=True)
    assert staging.open_overlaid(layout) is None
    staging.discard(layout)
    (layout.releases_dir / "1").mkdir(parents=True)
    staging.begin_overlaid(layout, "1")
    assert staging.open_overlaid(layout) == OverlaidRelease(layout, "1")


def test_a_damaged_release_is_replaced_whole_or_not_at_all(
    host: Host, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At no moment is the only release missing."""
    broken = root / "releases" / BUILD_ID / "left4dead2" / "maps" / "c1m1_hotel.bsp"
    broken.write_bytes(b"broken")

    def stop(_seconds: object = None) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(releases, "exchange", lambda _one, _other: stop())
    with pytest.raises(KeyboardInterrupt):
        host.install_runtime()
    assert host.facts().build_id == BUILD_ID
    monkeypatch.undo()
    assert host.install_runtime() == BUILD_ID
    assert broken.read_bytes().startswith(b"VBSP")
    assert [path.name for path in (root / "releases").iterdir()] == [BUILD_ID]


@pytest.mark.parametrize("can_exchange", [True, False])
def test_two_folders_take_each_others_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, can_exchange: bool
) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    for folder in (one, other):
        folder.mkdir()
        (folder / folder.name).touch()
    if not can_exchange:
        monkeypatch.setattr(
            files, "_RENAME_EXCHANGE", 1 << 20
        )  # EINVAL, as from an old file system
    files.exchange(one, other)
    assert (one / "other").exists()
    assert (other / "one").exists()
    assert len(list(tmp_path.iterdir())) == 2


def test_what_cannot_be_exchanged_is_told(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        files.exchange(tmp_path / "one", tmp_path / "other")
