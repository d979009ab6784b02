"""The game is installed beside existing releases, and becomes current only when it is complete."""

import json
from pathlib import Path

import pytest

from hostops.errors import HostError, OperationCancelled
from hostops.host import Host
from hostops.instances import releases
from hostops.layout import HostLayout
from hostops.specs import CancelToken, InstanceSpec
from tests.hostops.hosts import (
    BUILD_ID,
    LATER_BUILD_ID,
    Output,
    installers,
    instance_of,
    latest_run,
    write_control,
)
from tests.ports import find_free_port


@pytest.fixture
def empty_host(empty_root: Path) -> Host:
    return Host(empty_root, game_source="simulator")


def test_a_host_is_made_without_touching_anything(tmp_path: Path) -> None:
    Host(tmp_path / "host")
    assert not list(tmp_path.iterdir())


def test_the_first_install_makes_a_release_and_points_to_it(
    empty_host: Host, empty_root: Path
) -> None:
    output = Output()
    assert empty_host.install_runtime(on_line=output.on_line, on_stage=output.on_stage) == BUILD_ID
    assert (empty_root / "current").readlink() == Path("releases") / BUILD_ID
    assert (empty_root / "current" / "srcds_run").is_file()
    assert not (empty_root / "staging").exists()
    assert ("Downloading", 100) in output.stages
    assert "Success! App '222860' fully installed." in output.text
    assert [release.is_current for release in empty_host.releases()] == [True]


def test_an_install_without_news_changes_nothing(host: Host, root: Path) -> None:
    before = {path: path.lstat().st_mtime_ns for path in (root / "releases").rglob("*")}
    output = Output()
    assert host.install_runtime(on_line=output.on_line, on_stage=output.on_stage) == BUILD_ID
    assert {path: path.lstat().st_mtime_ns for path in (root / "releases").rglob("*")} == before
    assert not (root / "staging").exists()
    assert "is the latest and was installed already" in output.text
    assert output.stages[-1] == (f"Build {BUILD_ID} is the newest; nothing was changed.", None)


def test_an_update_leaves_the_old_release_as_it_was_and_keeps_one(host: Host, root: Path) -> None:
    old_dir = root / "releases" / BUILD_ID
    old = {path: path.read_bytes() for path in old_dir.rglob("*") if path.is_file()}
    write_control(root, steamcmd={"build_id": LATER_BUILD_ID})
    output = Output()
    assert host.install_runtime(on_stage=output.on_stage) == LATER_BUILD_ID
    said = f"Build {LATER_BUILD_ID} is current now. Servers take it at their next start."
    assert output.stages[-1] == (said, None)
    assert {path: path.read_bytes() for path in old_dir.rglob("*") if path.is_file()} == old
    assert [release.build_id for release in host.releases()] == [LATER_BUILD_ID, BUILD_ID]

    write_control(root, steamcmd={"build_id": "30000000"})
    host.install_runtime()
    assert [release.build_id for release in host.releases()] == ["30000000", LATER_BUILD_ID]


def test_a_release_that_a_server_runs_from_is_never_removed(
    host: Host, root: Path, alpha: Path
) -> None:
    host.start("alpha")
    for build_id in ("30000000", "40000000", "50000000"):
        write_control(root, steamcmd={"build_id": build_id})
        host.install_runtime()
    found = {release.build_id: release.used_by for release in host.releases()}
    assert found == {"50000000": (), "40000000": (), BUILD_ID: ("alpha",)}
    assert latest_run(root).release == BUILD_ID

    host.restart("alpha")
    assert latest_run(root).release == "50000000"
    host.install_runtime()
    assert {release.build_id for release in host.releases()} == {"50000000", "40000000"}


def test_rollback_goes_back_to_the_older_release(host: Host, root: Path) -> None:
    with pytest.raises(HostError, match="no other release"):
        host.rollback()
    write_control(root, steamcmd={"build_id": LATER_BUILD_ID})
    host.install_runtime()
    assert host.rollback() == BUILD_ID
    assert host.facts().build_id == BUILD_ID
    assert host.rollback(LATER_BUILD_ID) == LATER_BUILD_ID
    assert host.rollback(LATER_BUILD_ID) == LATER_BUILD_ID
    with pytest.raises(HostError, match=r"Release 7 is not on this host. There are: \d+, \d+\."):
        host.rollback("7")


def test_an_install_after_a_rollback_goes_to_the_latest_again(host: Host, root: Path) -> None:
    write_control(root, steamcmd={"build_id": LATER_BUILD_ID})
    host.install_runtime()
    host.rollback()
    assert host.install_runtime() == LATER_BUILD_ID
    assert (root / "current").readlink() == Path("releases") / LATER_BUILD_ID


def test_a_failed_update_leaves_everything_running_and_is_taken_up(host: Host, root: Path) -> None:
    write_control(root, steamcmd={"build_id": LATER_BUILD_ID, "fail": ["disk-write-0x606"]})
    with pytest.raises(HostError, match="could not write to the disk"):
        host.install_runtime()
    assert host.facts().build_id == BUILD_ID
    assert (root / "staging").is_dir()
    assert host.install_runtime() == LATER_BUILD_ID
    assert not (root / "staging").exists()


def test_a_cancelled_install_leaves_no_process_and_is_taken_up(
    empty_host: Host, empty_root: Path
) -> None:
    write_control(empty_root, steamcmd={"fail": ["stall"]})
    output, cancel = Output(), CancelToken()
    output.when("Downloading", cancel.cancel)
    with pytest.raises(OperationCancelled):
        empty_host.install_runtime(on_line=output.on_line, on_stage=output.on_stage, cancel=cancel)
    assert not installers(empty_root)
    assert empty_host.facts().build_id == ""
    assert empty_host.install_runtime() == BUILD_ID


def test_a_whole_release_that_was_not_switched_to_is_taken(host: Host, root: Path) -> None:
    (root / "current").unlink()
    assert host.facts().build_id == ""
    assert host.install_runtime() == BUILD_ID
    assert host.facts().build_id == BUILD_ID


def test_a_folder_that_lacks_the_program_is_no_release(host: Host, root: Path) -> None:
    (root / "releases" / BUILD_ID / "srcds_linux").unlink()
    assert host.facts().build_id == ""
    with pytest.raises(
        HostError, match=rf"Build {BUILD_ID} .* it has no srcds_linux\. Install the game again"
    ):
        host.initialize(InstanceSpec("alpha", find_free_port()))
    (root / "current").unlink()
    with pytest.raises(HostError, match="run install first"):
        host.initialize(InstanceSpec("alpha", find_free_port()))


def test_a_damaged_release_is_replaced_unless_a_server_runs_from_it(
    host: Host, root: Path, alpha: Path
) -> None:
    host.start("alpha")
    (root / "releases" / BUILD_ID / "srcds_linux").unlink()
    with pytest.raises(HostError, match=f"Build {BUILD_ID} is damaged .* while alpha runs"):
        host.install_runtime()
    host.stop("alpha")
    assert host.install_runtime() == BUILD_ID
    assert host.facts().build_id == BUILD_ID
    assert [path.name for path in (root / "releases").iterdir()] == [BUILD_ID]


def test_what_is_current_survives_an_interrupted_switch(host: Host, root: Path) -> None:
    (root / ".current.new").symlink_to("releases/0")
    write_control(root, steamcmd={"build_id": LATER_BUILD_ID})
    assert host.install_runtime() == LATER_BUILD_ID
    assert not (root / ".current.new").is_symlink()


def test_half_a_removal_is_finished(host: Host, root: Path) -> None:
    (root / "releases" / ".deleting-1" / "bin").mkdir(parents=True)
    assert [release.build_id for release in host.releases()] == [BUILD_ID]
    host.install_runtime()
    assert [path.name for path in (root / "releases").iterdir()] == [BUILD_ID]


def test_releases_of_an_empty_host(empty_host: Host, empty_root: Path) -> None:
    assert empty_host.releases() == []
    assert releases.latest(HostLayout(empty_root)) is None
    assert empty_host.statuses() == {}


def test_a_plan_holds_nothing_of_our_environment(
    host: Host, root: Path, alpha: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_KEY", "do not tell")
    monkeypatch.setenv("DATABASE_URL", "do not tell either")
    host.start("alpha")
    plan = json.loads(instance_of(root).launch_path.read_text())
    assert set(plan["environment"]) == {"PATH", "HOME", "LANG", "SAFEROOM_SIMULATOR"}
    environ = Path(f"/proc/{latest_run(root).pid}/environ").read_bytes()
    assert b"do not tell" not in environ
