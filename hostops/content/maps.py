"""Which maps a game has: those of its release, and those that its overlays bring, in folders and in packs."""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hostops.content.packs import read_packs
from hostops.content.search_paths import find_roots, look_at_layer
from hostops.instances.cfg_files import show_path
from hostops.specs import CancelToken

_LIKENESS = 0.6
_MAX_COMPARED = 5_000


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
        names = sorted(self.names)[:_MAX_COMPARED]
        return next(iter(difflib.get_close_matches(name.lower()[:128], names, 1, _LIKENESS)), None)


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
    for layer in layers:
        files = look_at_layer(layer, roots)
        names |= files.maps
        sentences += files.obstacles
        if not files.packs:
            continue
        cache = None if layer in written_by_games else cache_dir
        for path, pack in read_packs(layer, files.packs, cache_dir=cache, cancel=cancel).items():
            names.update(pack.maps)
            if not (pack.has_directory and pack.is_whole):
                fault = pack.fault or "has more maps than are read"
                sentences.append(f"{show_path(f'{layer}/{path}')} {fault}.")
    return Maps(frozenset(names), tuple(sentences))
