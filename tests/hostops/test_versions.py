"""A real start with a version of an overlay, mounted and copied; the version itself never changes."""

from pathlib import Path

import pytest

from hostops.blob_sources import FolderSource
from hostops.host import Host
from hostops.linux.files import walk_files
from hostops.specs import InstanceSpec, InstanceState
from tests.hostops.content.stores import add_version
from tests.hostops.content.vpk_files import make_pack
from tests.hostops.hosts import DRIVER, instance_of
from tests.ports import find_free_port

PACK = make_pack({"maps/city_m1.bsp": b"a map"})


@pytest.mark.parametrize("layering", ["overlay", "copy"])
def test_a_server_plays_a_map_of_a_version_and_cannot_change_it(
    root: Path, tmp_path: Path, layering: str
) -> None:
    store = tmp_path / "store"
    host = Host(
        root,
        driver=DRIVER,
        game_source="simulator",
        layering=layering,
        content=FolderSource(store),
        start_timeout_seconds=20,
        stop_timeout_seconds=2,
    )
    one, two = (
        add_version(
            store,
            "city",
            number,
            {"left4dead2/addons/city.vpk": PACK, "left4dead2/cfg/server.cfg": cfg},
        )
        for number, cfg in ((1, b"sv_tags one\n"), (2, b"sv_tags two\n"))
    )
    port = find_free_port()
    for run, (reference, tag) in enumerate(((one, "one"), (two, "two"), (one, "one")), start=1):
        spec = InstanceSpec("alpha", port, overlays=(reference,), arguments=("+map", "city_m1"))
        host.check(spec)
        host.initialize(spec)
        host.start("alpha")
        assert host.status("alpha").state is InstanceState.RUNNING
        instance = instance_of(root)
        assert "city_m1" in instance.console_log_path(run).read_text()
        (part,) = [part for part in host.config_chain("alpha") if part.path.endswith("city.cfg")]
        assert part.text == f"sv_tags {tag}\n"
        if layering == "copy":
            copied = instance.tree_dir / "left4dead2/cfg/server.cfg"
            assert not any(copied.samefile(path) for path in (root / "blobs").glob("*/*"))
        host.stop("alpha")
    versions = sorted((root / "versions/city").iterdir())
    assert len(versions) == 2
    for folder in versions:
        assert sorted(path for path, _ in walk_files(folder)) == [
            "left4dead2/addons/city.vpk",
            "left4dead2/cfg/server.cfg",
        ]
    (root / "versions/city/.unfinished").mkdir()
    assert host.laid_out_versions() == {("city", folder.name) for folder in versions}
    assert host.overlay_fingerprints([one, "gone"]) == {one: one.partition("-")[2][:32]}
    report = host.overlay_report(two)
    assert report is not None
    assert report.maps == ("city_m1",)
