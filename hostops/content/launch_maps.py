"""Whether the maps are there that a server is to be started with, or that its configs load."""

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
from hostops.map_names import drop_folder, to_map_key

_MAX_CONFIG_MAPS = 5


@dataclass(frozen=True)
class Places:
    """Where the maps of a server may lie: its layers, the top one first, and the folders that it writes to."""

    layers: Sequence[Path]
    written_by_game: Sequence[Path]
    cache_dir: Path


def require_map(name: str, arguments: Sequence[str], places: Places, callbacks: Callbacks) -> None:
    """Raise HostError if the map is not there that the server `name` is to start with, naming the nearest.

    Only where all search paths and packs could be read: else it is warned of. A map that lies in a folder costs
    a look at the folders; for any other the packs are read, in a child process.
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
    """Warn of maps that configs of the server `name` load and that are not there, naming the nearest.

    It is no reason to refuse a start: the game stays on the map that it has.
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
    """Return the maps that there are if `wanted` is not among them, as far as they could be read; else None.

    Raises HostError if packs cannot be read for a reason that lies in no pack.
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
