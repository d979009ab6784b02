"""What would keep an install from working is reported before it begins: one cause, one cure."""

import os
import socket
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from hostops.errors import HostError
from hostops.host import Host
from hostops.layout import HostLayout
from hostops.steam import install, preflight, steamcmd

ELF_32, ELF_64 = b"\x7fELF\x01", b"\x7fELF\x02"


@pytest.fixture
def layout(tmp_path: Path) -> HostLayout:
    return HostLayout(tmp_path)


@pytest.fixture
def libraries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the only folder of libraries on a host that has all of them."""
    folder = tmp_path / "lib32"
    folder.mkdir()
    for name in preflight.LIBRARIES:
        (folder / name).write_bytes(ELF_32)
    (tmp_path / "ld-linux.so.2").touch()
    monkeypatch.setattr(preflight, "LOADER_PATH", tmp_path / "ld-linux.so.2")
    monkeypatch.setattr(preflight, "_library_dirs", lambda: [str(folder)])
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    return folder


def test_a_host_with_everything_is_ready(
    layout: HostLayout, libraries: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_arguments, **_options: [])
    preflight.require_ready(layout, 1)


def test_all_that_is_in_the_way_is_told_at_once(
    layout: HostLayout, libraries: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_arguments: object, **_options: object) -> None:
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(preflight, "free_bytes", lambda _path: 3 * 10**9)
    (libraries / "libstdc++.so.6").write_bytes(ELF_64)
    with pytest.raises(HostError) as caught:
        preflight.require_ready(layout, install.GAME_BYTES)
    text = str(caught.value)
    assert "has 3.0 GB free, and the install needs 12.0 GB. Free some space" in text
    assert "need libstdc++.so.6 in 32 bits. On Debian or Ubuntu: dpkg" in text
    assert "cannot be resolved: Temporary failure in name resolution. Check the host's" in text


def test_a_disk_where_nothing_may_be_executed_is_named(
    layout: HostLayout, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert preflight.examine_execution(layout).is_ok
    statvfs = os.statvfs
    layout.home_dir.mkdir()

    def look(path: Path) -> object:
        if path != layout.home_dir:
            return statvfs(path)
        return SimpleNamespace(f_flag=statvfs(path).f_flag | os.ST_NOEXEC)

    monkeypatch.setattr(os, "statvfs", look)
    finding = preflight.examine_execution(layout)
    assert not finding.is_ok
    assert f"The disk of {layout.home_dir} is mounted noexec" in finding.text
    assert f"findmnt -T {layout.home_dir}" in finding.cure
    with pytest.raises(HostError, match="mounted noexec"):
        preflight.require_ready(layout, 1)


def test_a_missing_loader_is_named(libraries: Path, tmp_path: Path) -> None:
    (tmp_path / "ld-linux.so.2").unlink()
    finding = preflight.examine_programs()
    assert not finding.is_ok
    assert "ld-linux.so.2" in finding.text
    assert "apt-get install" in finding.cure


def test_another_processor_is_named(libraries: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    finding = preflight.examine_programs()
    assert not finding.is_ok
    assert "this is a aarch64 machine" in finding.text
    assert "x86" in finding.cure


def test_a_folder_of_somebody_else_is_named(
    layout: HostLayout, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert preflight.examine_writing(layout).is_ok
    layout.releases_dir.mkdir()
    real = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: real + 1)
    finding = preflight.examine_writing(layout)
    assert not finding.is_ok
    assert finding.text == f"{layout.releases_dir} belongs to another user or group."
    assert finding.cure.startswith("Give it to the user that runs this: chown -R")


@pytest.mark.parametrize(
    ("operate", "free"),
    [(Host.install_runtime, 10**9), (Host.check_update, 5 * 10**8)],
    ids=["install", "look for updates"],
)
def test_nothing_is_fetched_to_a_host_that_is_not_ready(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, operate: Callable[[Host], object], free: int
) -> None:
    fetched: list[object] = []
    monkeypatch.setattr("shutil.which", lambda _name: None)
    monkeypatch.setattr(steamcmd, "fetch", lambda *_: fetched.append(1))
    monkeypatch.setattr(preflight, "free_bytes", lambda _path: free)
    root = tmp_path / "host"
    with pytest.raises(HostError, match=rf"has {free / 1e9} GB free"):
        operate(Host(root, game_source="steam"))
    assert not fetched
    assert not (root / "staging").exists()
