"""A host reports what each overlay on it is, and which campaigns its release has."""

from pathlib import Path

import pytest

from hostops.cli import main
from hostops.host import Host
from hostops.specs import ContentSeverity
from tests.hostops.content.test_missions import MISSION
from tests.hostops.content.vpk_files import make_pack


def put(path: Path, content: bytes = b"") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


@pytest.fixture
def host_root(tmp_path: Path) -> Path:
    """Return the root of a host with a made-up release."""
    release = tmp_path / "releases/100"
    put(release / "srcds_linux").chmod(0o755)
    put(release / "left4dead2/maps/c1m1_hotel.bsp")
    put(
        release / "left4dead2/missions/campaign1.txt",
        b"mission { modes { coop { 1 { Map c1m1_hotel } } } }",
    )
    put(release / "update/pak01_dir.vpk", make_pack({"maps/c14m1_junkyard.bsp": b""})[:-3])
    (tmp_path / "current").symlink_to("releases/100")
    return tmp_path


def test_an_overlay_is_reported_with_its_campaigns_maps_and_faults(host_root: Path) -> None:
    overlay = host_root / "overlays/pack"
    files = {"missions/db.txt": MISSION.encode(), "maps/db_one.bsp": b"VBSP"}
    put(overlay / "left4dead2/addons/dead beat.vpk", make_pack(files))
    put(
        overlay / "left4dead2/addons/two.vpk",
        make_pack({"maps/db_two.bsp": b"", "cfg/a.cfg": b""}, version=2),
    )
    put(overlay / "left4dead2/addons/cut.vpk", make_pack(files)[:-3])
    put(overlay / "left4dead2/missions/own.txt", MISSION.replace("deadbeat", "own").encode()[:-5])
    report = Host(host_root).overlay_report("pack")
    assert report is not None
    assert report.maps == ("db_one", "db_two")
    assert [(one.name, one.path) for one in report.campaigns] == [
        ("deadbeat", "left4dead2/addons/cut.vpk/missions/db.txt"),
        ("own", "left4dead2/missions/own.txt"),
    ]
    assert [(one.code, one.path) for one in report.findings] == [
        ("pack_broken", "left4dead2/addons/cut.vpk"),
        ("pack_version", "left4dead2/addons/two.vpk"),
        ("mission_broken", "left4dead2/missions/own.txt"),
        ("pack_has_config", "left4dead2/addons/two.vpk"),
    ]
    assert report.refusals == ()
    assert (report.files, report.size_bytes) == (
        4,
        sum(one.stat().st_size for one in overlay.rglob("*.*")),
    )
    assert report.fingerprint == Host(host_root).overlay_fingerprints()["pack"]


def test_an_overlay_without_its_root_is_one_that_no_server_is_started_with(
    host_root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    put(host_root / "overlays/pack/addons/metamod.vdf")
    put(host_root / "overlays/pack/cfg/server.cfg")
    report = Host(host_root).overlay_report("pack")
    assert report is not None
    assert [(one.code, one.severity) for one in report.refusals] == [
        ("no_game_folder", ContentSeverity.REFUSED)
    ] * 2
    assert "move it into left4dead2/" in report.refusals[0].text
    put(host_root / "overlays/maps/left4dead2/addons/a\x1bb.bsp")
    odd = "left4dead2/addons/a\ufffdb.bsp"
    assert main(["--root", str(host_root), "overlays"]) == 1
    assert capsys.readouterr().out.splitlines() == [
        "maps: 1 files, 0 MiB",
        f"  warned: {odd}: The game does not read it there: move it to left4dead2/maps/.",
        "pack: 2 files, 0 MiB",
        *(
            f"  refused: {folder}: The game does not look for {folder} there: move it into left4dead2/."
            for folder in ("addons", "cfg")
        ),
    ]


def test_all_overlays_on_the_disk_have_fingerprints_and_what_is_none_has_not(
    host_root: Path,
) -> None:
    overlays = host_root / "overlays"
    put(overlays / "one/left4dead2/motd.txt")
    put(overlays / "a file")
    (overlays / ".hidden").mkdir()
    (overlays / "Upper").mkdir()
    (overlays / "two").mkdir()
    (overlays / "link").symlink_to("two")
    (overlays / "dangling").symlink_to("nowhere")
    host = Host(host_root)
    assert host.overlay_fingerprints().keys() == {"one", "two", "link"}
    assert host.overlay_report("gone") is None


def test_the_release_is_reported_with_what_could_not_be_read(host_root: Path) -> None:
    host = Host(host_root)
    report = host.release_report()
    assert report is not None
    assert (report.build_id, report.maps) == ("100", ("c1m1_hotel",))
    assert [one.path for one in report.campaigns] == ["left4dead2/missions/campaign1.txt"]
    assert "update/pak01_dir.vpk is cut short" in report.obstacles[0]
    (host_root / "current").unlink()
    assert host.release_report() is None
