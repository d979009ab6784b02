"""Finds the maps of a game: those of its release and of its overlays, in folders and in packs."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hostops.content.packs import read_packs
from hostops.content.search_paths import (
    LookBudget,
    find_roots,
    look_at_layer,
    shorten_obstacles,
)
from hostops.instances.cfg_files import show_path
from hostops.map_names import find_nearest, to_map_key
from hostops.specs import CancelToken

MAX_NAMES = 100_000
"""The most maps read for one game."""


@dataclass(frozen=True)
class Maps:
    """The maps that a game finds: lower-case names without `.bsp`.

    `obstacles` say in sentences what could not be read. If there are any, a map may exist even if its name is
    missing here.
    """

    names: frozenset[str]
    obstacles: tuple[str, ...] = ()

    @property
    def is_complete(self) -> bool:
        """Whether every folder and pack could be read, so that a map not named here does not exist."""
        return not self.obstacles

    def __contains__(self, name: str) -> bool:
        """Whether there is a map of that name, in any case, with or without `.bsp`."""
        return to_map_key(name) in self.names

    def nearest(self, name: str) -> str | None:
        """Return the map that a name probably meant; None if none is similar."""
        return find_nearest(name, self.names)


def read_maps(
    folders: Sequence[Path],
    *,
    cache_dir: Path | None = None,
    written_by_games: Sequence[Path] = (),
    cancel: CancelToken | None = None,
) -> Maps:
    """Return the maps of a game whose layers are `folders`, top one first; each contains `left4dead2/`.

    With `cache_dir` (`HostLayout.content_dir`) unchanged packs are not read again: an unchanged release with
    20 overlays takes a few milliseconds. Layers that a game can write to, such as an instance's upper one,
    belong in `written_by_games`: their packs are read each time.

    Raises HostError if packs cannot be read for a reason that is not a pack's own fault.
    """
    layers = [*written_by_games, *folders]
    roots, obstacles = find_roots(layers)
    names: set[str] = set()
    sentences = list(obstacles)
    budget = LookBudget()
    for layer in layers:
        files = look_at_layer(layer, roots, budget)
        names |= files.maps
        sentences += files.obstacles
        cache = None if layer in written_by_games else cache_dir
        packs = (
            read_packs(layer, files.packs, cache_dir=cache, cancel=cancel) if files.packs else {}
        )
        for path, pack in packs.items():
            names.update(pack.maps)
            if not (pack.has_directory and pack.is_whole):
                fault = pack.fault or "has more maps than are read"
                sentences.append(f"{show_path(f'{layer}/{path}')} {fault}.")
        if len(names) > MAX_NAMES:
            sentences.append(
                f"The game has more than {MAX_NAMES:,} maps, and the rest was not looked at."
            )
            break
    return Maps(frozenset(names), shorten_obstacles(sentences))
