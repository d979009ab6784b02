"""A server's own files are measured, and no server is started on a disk that is nearly full."""

import os
import time
from pathlib import Path

import pytest

from hostops.errors import HostError
from hostops.host import Host
from hostops.instances import disk_usage
from hostops.specs import InstanceState

MIB = 1024**2


@pytest.mark.parametrize("layering", ["overlay", "copy"])
def test_only_what_a_server_wrote_itself_counts(root: Path, alpha: Path, layering: str) -> None:
    host = Host(root, game_source="simulator", stop_timeout_seconds=2, layering=layering)
    host.start("alpha")
    host.stop("alpha")
    before = host.own_bytes("alpha")
    assert before < MIB
    own = alpha / ("upper" if layering == "overlay" else "tree") / "left4dead2" / "demo.dem"
    own.write_bytes(b"x" * 3 * MIB)
    (own.parent / "link").symlink_to("/usr")
    with own.with_name("hole").open("wb") as file:
        file.truncate(2**40)
    assert 3 * MIB <= host.own_bytes("alpha") - before < 4 * MIB


def test_what_cannot_be_gone_through_hides_nothing_beside_it(host: Host, alpha: Path) -> None:
    current = os.open(alpha / "upper", os.O_RDONLY)
    for name in ["1", *["x" * 255] * 20]:
        os.mkdir(name, dir_fd=current)
        inner = os.open(name, os.O_RDONLY, dir_fd=current)
        os.close(current)
        current = inner
    os.close(current)
    (alpha / "upper" / "2").mkdir()
    (alpha / "upper" / "2" / "demo.dem").write_bytes(b"x" * 3 * MIB)
    assert host.own_bytes("alpha") >= 3 * MIB


def test_of_a_folder_of_very_many_files_the_first_ones_count(
    host: Host, alpha: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(20):
        (alpha / "upper" / f"{number}.dem").write_bytes(b"x" * MIB)
    monkeypatch.setattr(disk_usage, "_MAX_ENTRIES", 10)
    assert 9 * MIB <= host.own_bytes("alpha") <= 11 * MIB


def test_a_start_is_refused_on_a_full_disk_and_told_what_takes_the_space(
    root: Path, alpha: Path
) -> None:
    (alpha / "upper" / "demo.dem").write_bytes(b"x" * 3 * MIB)
    host = Host(root, game_source="simulator", min_free_bytes=2**60)
    with pytest.raises(HostError, match=r"are to stay free \(HOST_MIN_FREE_BYTES\)") as caught:
        host.start("alpha")
    assert "what alpha wrote: 3 MiB" in str(caught.value)
    assert "release " in str(caught.value)
    assert host.status("alpha").state is InstanceState.STOPPED


def test_what_takes_long_to_be_gone_through_is_measured_in_part(
    host: Host, alpha: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As thousands of folders inside each other do: it is measured beside other work."""
    for number in range(20):
        (alpha / "upper" / f"{number}").mkdir()
    looks = iter(range(1000))
    monkeypatch.setattr(time, "monotonic", lambda: float(next(looks)))
    host.own_bytes("alpha")
    assert next(looks) < 20
