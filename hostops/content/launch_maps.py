"""Whether the map is there that a server is to be started with."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hostops.callbacks import Callbacks
from hostops.content.maps import read_maps
from hostops.content.search_paths import LookBudget, find_roots, look_at_layer
from hostops.engine_command import DEFAULT_MAP
from hostops.errors import HostError, OperationCancelled
from hostops.launch_arguments import find_map
from hostops.map_names import drop_folder, to_map_key


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
    key = to_map_key(wanted)
    layers = [*places.written_by_game, *places.layers]
    roots, _ = find_roots(layers)
    budget = LookBudget()
    if not key or any(key in look_at_layer(layer, roots, budget).maps for layer in layers):
        return
    try:
        maps = read_maps(
            places.layers,
            cache_dir=places.cache_dir,
            written_by_games=places.written_by_game,
            cancel=callbacks.cancel,
        )
    except OperationCancelled:
        raise
    except HostError as error:
        callbacks.warn(f"Whether {name} has the map {wanted} is not known: {error}")
        return
    if key in maps:
        return
    nearest = maps.nearest(key)
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
            f"maps/{key}.bsp, which is not there. Write +map {drop_folder(wanted)}."
        )
    hint = f"The nearest is {nearest}. " if nearest else ""
    raise HostError(
        f"{name} cannot be started with the map {wanted}: it is not among the {len(maps.names)} maps of the "
        f"game, its overlays and its own files. {hint}Change +map in the launch arguments, or add the map."
    )
