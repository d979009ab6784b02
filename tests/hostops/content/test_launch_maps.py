"""A map is refused only if everything could be searched."""

from pathlib import Path

import pytest

from hostops.callbacks import Callbacks
from hostops.content.launch_maps import Places, require_map, warn_of_config_maps
from hostops.errors import HostError
from hostops.instances.config_chain import ConfigMap
from tests.hostops.hosts import Output


def add_map(layer: Path, name: str) -> None:
    path = layer / "left4dead2" / "maps" / f"{name}.bsp"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"VBSP")


@pytest.fixture
def places(tmp_path: Path) -> Places:
    """Return the places of a server whose game has two maps and whose own folders do not exist yet."""
    for name in ("c1m1_hotel", "c5m1_waterfront"):
        add_map(tmp_path / "release", name)
    layers = [tmp_path / "generated", tmp_path / "overlay", tmp_path / "release"]
    return Places(layers, (tmp_path / "upper",), tmp_path / "content")


@pytest.mark.parametrize("name", ["c5m1_waterfront", "C5M1_Waterfront", "c5m1_waterfront.bsp"])
def test_a_map_that_is_there_is_not_talked_about(places: Places, name: str) -> None:
    output = Output()
    require_map("alpha", ("+map", name), places, Callbacks(output.on_line))
    assert not output.lines


def test_a_map_that_is_nowhere_is_refused_and_the_nearest_named(
    places: Places, tmp_path: Path
) -> None:
    with pytest.raises(HostError) as refused:
        require_map("alpha", ("+map", "c5m1_waterfont"), places, Callbacks())
    assert str(refused.value) == (
        "alpha cannot be started with the map c5m1_waterfont: it is not among the 2 maps of the game, its "
        "overlays and its own files. The nearest is c5m1_waterfront. Change +map in the launch arguments, or "
        "add the map."
    )
    add_map(tmp_path / "upper", "c5m1_waterfont")
    require_map("alpha", ("+map", "c5m1_waterfont"), places, Callbacks())


@pytest.mark.parametrize("name", ["maps/C5m1_waterfront", "MAPS\\c5m1_waterfront.bsp"])
def test_a_map_that_is_named_with_its_folder_is_refused_with_how_to_write_it(
    places: Places, name: str
) -> None:
    """The engine itself puts maps/ in front."""
    plain = name[len("maps/") :]
    with pytest.raises(HostError) as refused:
        require_map("alpha", ("+map", name), places, Callbacks())
    assert "the game looks below maps/ by itself" in str(refused.value)
    assert str(refused.value).endswith(f"Write +map {plain}.")


def test_a_map_that_may_be_in_what_cannot_be_read_is_only_warned_of(
    places: Places, tmp_path: Path
) -> None:
    addons_dir = tmp_path / "overlay" / "left4dead2" / "addons"
    addons_dir.mkdir(parents=True)
    (addons_dir / "strange.vpk").write_bytes(b"no pack at all")
    output = Output()
    require_map("alpha", ("+map", "c5m1_waterfont"), places, Callbacks(output.on_line))
    (warning,) = output.lines
    assert warning[0] == "stderr"
    assert (
        "The map c5m1_waterfont of alpha was not found. It may be there all the same" in warning[1]
    )
    assert "strange.vpk" in warning[1]
    assert warning[1].endswith("The nearest that was found is c5m1_waterfront.")


def test_a_map_that_a_config_loads_and_that_is_nowhere_is_warned_of(
    places: Places, tmp_path: Path
) -> None:
    output = Output()
    changes = [
        ConfigMap(name, "Line 2 of it") for name in ("C5M1_waterfront", "", "c5m1_waterfont")
    ]
    warn_of_config_maps("alpha", changes, places, Callbacks(output.on_line))
    said = "Line 2 of it loads the map c5m1_waterfont, which is no map of the game, its overlays or the own"
    assert output.lines == [("stderr", f"{said} files of alpha. The nearest is c5m1_waterfront.")]
    addons_dir = tmp_path / "overlay" / "left4dead2" / "addons"
    addons_dir.mkdir(parents=True)
    (addons_dir / "strange.vpk").write_bytes(b"no pack at all")
    warn_of_config_maps("alpha", changes, places, Callbacks(output.on_line))
    assert "which was not found, but may be among what could not be read" in output.lines[-1][1]
