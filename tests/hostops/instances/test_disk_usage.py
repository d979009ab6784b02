"""What a server wrote itself is measured, and no server is started on a disk that is nearly full."""

from pathlib import Path

import pytest

from hostops.errors import HostError
from hostops.host import Host
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
