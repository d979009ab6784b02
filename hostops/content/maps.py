"""Which maps a game has: those of its release, and those that its overlays bring, in folders and in packs."""

import difflib
import heapq
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
from hostops.specs import CancelToken

_LIKENESS = 0.6
_MAX_COMPARED = 5_000
_MAX_COMPARED_CHARS = 64
_MAX_CANDIDATES = 8
"""Of names that have many pairs of letters in common with what was asked for. To compare all of them letter by
letter takes minutes, of 5,000 long ones that somebody has thought up for that."""

MAX_NAMES = 100_000
"""So many maps of a game are known at most."""


@dataclass(frozen=True)
class Maps:
    """The maps that a game finds: lower-case names without `.bsp`.

    `obstacles` say in sentences what could not be read. As long as there is one, a map that is not among the
    names may be there all the same.
    """

    names: frozenset[str]
    obstacles: tuple[str, ...] = ()

    @property
    def is_complete(self) -> bool:
        """Whether every folder and pack could be read, so that a map without a name here is not there."""
        return not self.obstacles

    def __contains__(self, name: str) -> bool:
        """Whether there is a map of that name, in whatever case."""
        return name.lower() in self.names

    def nearest(self, name: str) -> str | None:
        """Return the map that was probably meant by a name; None if none is like it."""
        asked = name.lower()[:_MAX_COMPARED_CHARS]
        asked_pairs = _pairs(asked)

        def count_common(pairs: set[str]) -> float:
            return len(pairs & asked_pairs) / max(1, len(pairs) + len(asked_pairs))

        by_length = sorted(self.names, key=lambda one: (abs(len(one) - len(asked)), one))
        beginnings = {one[:_MAX_COMPARED_CHARS]: one for one in by_length[:_MAX_COMPARED]}
        candidates = heapq.nlargest(
            _MAX_CANDIDATES, beginnings, key=lambda one: count_common(_pairs(one))
        )
        found = difflib.get_close_matches(asked, candidates, 1, _LIKENESS)
        return beginnings[found[0]] if found else None


def read_maps(
    folders: Sequence[Path],
    *,
    cache_dir: Path | None = None,
    written_by_games: Sequence[Path] = (),
    cancel: CancelToken | None = None,
) -> Maps:
    """Return the maps of a game whose layers are `folders`, the top one first; each has `left4dead2/` in it.

    With `cache_dir` (`HostLayout.content_dir`) packs that have not changed are not read again: an unchanged
    release with 20 overlays takes some milliseconds. Layers that a game can write to, such as an instance's
    upper one, belong into `written_by_games`: their packs are read each time.

    Raises HostError if packs cannot be read for a reason that lies in no pack.
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
        packs = read_packs(layer, files.packs, cache_dir=cache, cancel=cancel) if files.packs else {}
        for path, pack in packs.items():
            names.update(pack.maps)
            if not (pack.has_directory and pack.is_whole):
                fault = pack.fault or "has more maps than are read"
                sentences.append(f"{show_path(f'{layer}/{path}')} {fault}.")
        if len(names) > MAX_NAMES:
            sentences.append(f"The game has more than {MAX_NAMES:,} maps, and the rest was not looked at.")
            break
    return Maps(frozenset(names), shorten_obstacles(sentences))


def _pairs(name: str) -> set[str]:
    """Return the pairs of neighbouring letters of a name."""
    return {name[position : position + 2] for position in range(len(name) - 1)}
