"""Bans that a game has written: lifted ones are taken out, and nothing else is touched."""

from pathlib import Path

import pytest

from hostops.callbacks import Callbacks
from hostops.instances.ban_files import take_out
from hostops.layout import HostLayout, InstanceLayout

OWN = (
    b"// Mine\r\nbanid 0 STEAM_0:0:1\r\nbanid 0 STEAM_1:0:11\nbanid 60 STEAM_1:0:1\n"
    b' banid 0.0 "STEAM_1:0:1"\njunk'
)


def own_file(instance: InstanceLayout) -> Path:
    return instance.upper_dir / "left4dead2/cfg/banned_user.cfg"


@pytest.fixture
def instance(tmp_path: Path) -> InstanceLayout:
    """Return an instance whose game has written bans."""
    instance = HostLayout(tmp_path).instance("alpha")
    own_file(instance).parent.mkdir(parents=True)
    own_file(instance).write_bytes(OWN)
    return instance


def test_lifted_bans_are_taken_out_and_all_other_lines_stay(instance: InstanceLayout) -> None:
    said: list[str] = []
    callbacks = Callbacks(lambda _, line: said.append(line))
    number = own_file(instance).stat().st_ino
    take_out(instance, ["STEAM_1:0:2"], callbacks)
    assert own_file(instance).stat().st_ino == number
    take_out(instance, ["STEAM_1:0:1", "STEAM_1:0:2"], callbacks)
    left = b"// Mine\r\nbanid 0 STEAM_1:0:11\nbanid 60 STEAM_1:0:1\njunk"
    assert own_file(instance).read_bytes() == left
    assert said == ["2 lifted bans taken out of the server’s own banned_user.cfg."]


def test_a_link_in_its_place_is_told_and_not_followed(
    instance: InstanceLayout, tmp_path: Path
) -> None:
    (tmp_path / "other").write_bytes(OWN)
    own_file(instance).unlink()
    own_file(instance).symlink_to(tmp_path / "other")
    said: list[str] = []
    take_out(instance, ["STEAM_1:0:1"], Callbacks(lambda _, line: said.append(line)))
    assert (tmp_path / "other").read_bytes() == OWN
    assert "No lifted bans are taken out" in said[0]
