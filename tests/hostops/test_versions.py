"""A real start with a version of an overlay, mounted and copied; the version itself never changes."""

from dataclasses import replace
from pathlib import Path

import pytest

from hostops.blob_sources import FolderSource
from hostops.host import Host
from hostops.linux.files import walk_files
from hostops.specs import InstanceSpec, InstanceState
from tests.hostops.content.stores import add_version
from tests.hostops.content.vpk_files import make_pack
from tests.hostops.hosts import DRIVER, Output, instance_of
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


@pytest.mark.parametrize("layering", ["overlay", "copy"])
def test_a_start_brings_back_managed_files_and_leaves_seeds_that_a_server_has_changed(
    root: Path, tmp_path: Path, layering: str
) -> None:
    store, output = tmp_path / "store", Output()
    host = Host(
        root,
        driver=DRIVER,
        game_source="simulator",
        layering=layering,
        content=FolderSource(store),
        start_timeout_seconds=20,
        stop_timeout_seconds=2,
    )
    plugin, settings = "left4dead2/addons/sourcemod/plugins/a.smx", "left4dead2/cfg/a.cfg"
    turned = "left4dead2/addons/sourcemod/plugins/b.smx"
    first, second = (
        add_version(
            store,
            "mods",
            number,
            dict.fromkeys((plugin, settings, turned), text),
            seeds={turned: True},
        )
        for number, text in ((1, b"echo one\n"), (2, b"echo version two\n"))
    )
    spec = InstanceSpec("alpha", find_free_port(), overlays=(first,))
    host.initialize(spec)
    host.start("alpha")
    host.stop("alpha")
    instance = instance_of(root)
    own = instance.tree_dir if layering == "copy" else instance.upper_dir
    for path in (plugin, settings, turned):
        (own / path).parent.mkdir(parents=True, exist_ok=True)
        (own / path).unlink(missing_ok=True)
        (own / path).write_text("echo the server's\n")
    host.initialize(replace(spec, overlays=(second,)))
    host.start("alpha", on_line=output.on_line)
    pid = host.status("alpha").pid
    assert pid is not None
    seen = instance.tree_dir if layering == "copy" else Path(f"/proc/{pid}/cwd")
    assert (seen / plugin).read_bytes() == b"echo version two\n"
    assert (seen / f"{plugin}.own").read_text() == "echo the server's\n"
    for path in (settings, turned):
        assert (seen / path).read_text() == "echo the server's\n"
    assert f"and keeps it: {turned}, {settings}." in output.text
    host.stop("alpha")
    assert f"{plugin}; " in output.errors()
