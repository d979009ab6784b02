"""Checks that the map a server starts with, and the maps its configs load, exist."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hostops.callbacks import Callbacks
from hostops.content.maps import Maps, read_maps
from hostops.content.search_paths import LookBudget, find_roots, look_at_layer
from hostops.engine_command import DEFAULT_MAP
from hostops.errors import HostError, OperationCancelled
from hostops.instances.config_chain import ConfigMap
from hostops.launch_arguments import find_map
from hostops.layout import HostLayout, InstanceLayout
from hostops.map_names import drop_folder, to_map_key

_MAX_CONFIG_MAPS = 5


@dataclass(frozen=True)
class Places:
    """Where a server's maps may be: its layers, top one first, and the folders that the game writes to."""

    layers: Sequence[Path]
    written_by_game: Sequence[Path]
    cache_dir: Path


def find_places(layout: HostLayout, instance: InstanceLayout, layers: Sequence[Path]) -> Places:
    """Return where an instance's maps may be, according to its layers."""
    return Places(layers, (instance.upper_dir, instance.tree_dir), layout.content_dir)


def require_map(name: str, arguments: Sequence[str], places: Places, callbacks: Callbacks) -> None:
    """Raise HostError, naming the nearest map, if the map that the server `name` would start with is missing.

    If not all search paths and packs could be read, it only warns. A map in a folder is found by listing
    folders; for any other map a child process reads the packs.
    """
    named = find_map(arguments)
    wanted = DEFAULT_MAP if named is None else named
    try:
        maps = _find_maps_without(wanted, places, callbacks)
    except OperationCancelled:
        raise
    except HostError as error:
        callbacks.warn(f"Whether {name} has the map {wanted} is not known: {error}")
        return
    if maps is None:
        return
    nearest = maps.nearest(wanted)
    if not maps.is_complete:
        hint = f" The nearest that was found is {nearest}." if nearest else ""
        callbacks.warn(
            f"The map {wanted} of {name} was not found. It may be there all the same, as not everything could "
            f"be read: {' '.join(maps.obstacles)}{hint}"
        )
        return
    if drop_folder(wanted) in maps:
        raise HostError(
            f"{name} cannot be started with the map {wanted}: the game looks below maps/ by itself, and so for "
            f"maps/{to_map_key(wanted)}.bsp, which is not there. Write +map {drop_folder(wanted)}."
        )
    hint = f"The nearest is {nearest}. " if nearest else ""
    raise HostError(
        f"{name} cannot be started with the map {wanted}: it is not among the {len(maps.names)} maps of the "
        f"game, its overlays and its own files. {hint}Change +map in the launch arguments, or add the map."
    )


def warn_of_config_maps(
    name: str, changes: Sequence[ConfigMap], places: Places, callbacks: Callbacks
) -> None:
    """Warn about missing maps that configs of the server `name` load, naming the nearest ones.

    This is no reason to refuse a start: the game stays on its current map.
    """
    for wanted, where in changes[:_MAX_CONFIG_MAPS]:
        try:
            maps = _find_maps_without(wanted, places, callbacks)
        except OperationCancelled:
            raise
        except HostError as error:
            callbacks.warn(
                f"Whether {name} has the map {wanted} of its configs is not known: {error}"
            )
            return
        if maps is None:
            continue
        hint = f" The nearest is {nearest}." if (nearest := maps.nearest(wanted)) else ""
        certainty = "is" if maps.is_complete else "was not found, but may be"
        what = "no map of" if maps.is_complete else "among what could not be read of"
        callbacks.warn(
            f"{where} loads the map {wanted}, which {certainty} {what} the game, its overlays or the own "
            f"files of {name}.{hint}"
        )


def _find_maps_without(wanted: str, places: Places, callbacks: Callbacks) -> Maps | None:
    """Return the maps that could be found if `wanted` is not among them; None if it is.

    Raises HostError if packs cannot be read for a reason that is not a pack's own fault.
    """
    key = to_map_key(wanted)
    layers = [*places.written_by_game, *places.layers]
    roots, _ = find_roots(layers)
    budget = LookBudget()
    if not key or any(key in look_at_layer(layer, roots, budget).maps for layer in layers):
        return None
    maps = read_maps(
        places.layers,
        cache_dir=places.cache_dir,
        written_by_games=places.written_by_game,
        cancel=callbacks.cancel,
    )
    return None if key in maps else maps
