"""The game's search paths: which folders of a layer it reads, and which packs (VPK files) in them."""

import os
import posixpath
import re
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from hostops.instances.cfg_files import show_path
from hostops.linux import untrusted
from hostops.linux.untrusted import UntrustedFileError

GAME_DIR = "left4dead2"
ROOTS = ("update", "left4dead2_dlc3", "left4dead2_dlc2", "left4dead2_dlc1", GAME_DIR, "hl2")
"""The search paths in Left 4 Dead 2's own gameinfo.txt, highest priority first."""

ADDONS_DIR = f"{GAME_DIR}/addons"
PACK_EXTENSION = ".vpk"

MAX_ENTRIES_IN_ALL = 200_000
"""The most names listed in all layers of a game together; this takes a few seconds."""

_WORKSHOP_DIR = f"{ADDONS_DIR}/workshop"
_MAX_GAMEINFO_BYTES = 64 * 1024
_MAX_ENTRIES = 20_000
_MAX_ROOTS = 64
_MAX_OBSTACLES = 20
_MAIN_PACK = re.compile(r"pak\d\d_dir\.vpk", re.IGNORECASE)
_PACK_PART = re.compile(r"_\d\d\d\.vpk", re.IGNORECASE)
_TOKEN = re.compile(r'//[^\n]*|"([^"\n]*)"|([{}])|([^\s{}"]+)')
_MAP_NAME = re.compile(r"[!-~]{1,128}")
_GAMEINFO_PATH = "|gameinfo_path|"
_SOURCE_PATHS = "|all_source_engine_paths|"


class LookBudget:
    """How many more names may be listed in the layers that share this budget."""

    def __init__(self, entries: int = MAX_ENTRIES_IN_ALL) -> None:
        self._most = self._left = entries

    def spend(self, entries: int) -> None:
        """Subtract this many; raises UntrustedFileError once the budget is exceeded."""
        self._left -= entries
        if self._left < 0:
            raise UntrustedFileError(
                f"all that was looked at before it has {self._most:,} files and more."
            )


@dataclass(frozen=True)
class LayerFiles:
    """The maps, packs and mission files that the game finds in one layer. Paths are relative to it.

    `obstacles` are sentences: what could not be read, and what the game finds only on some file systems, since
    `Maps` is not `maps` everywhere.
    """

    maps: frozenset[str]
    packs: tuple[str, ...]
    missions: tuple[str, ...]
    obstacles: tuple[str, ...]


def find_roots(layers: Sequence[Path]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the folders that the game searches, and in sentences why there may be more.

    The topmost gameinfo.txt may name folders besides the usual ones. The usual ones are always returned.
    """
    for layer in layers:
        path = layer / GAME_DIR / "gameinfo.txt"
        try:
            text = untrusted.read_file(path, layer, _MAX_GAMEINFO_BYTES).decode("utf-8", "replace")
        except FileNotFoundError:
            continue
        except (UntrustedFileError, OSError) as error:
            return ROOTS, (f"{path} cannot be read: {_reason(error)}",)
        roots = {value: _to_root(value) for value in _search_path_values(text)}
        own = [root for root in roots.values() if root is not None]
        known = tuple(dict.fromkeys((*own[:_MAX_ROOTS], *ROOTS)))
        return known, shorten_obstacles(
            [
                f"{path} names a search path that is not looked at: {show_path(value)}."
                for value, root in roots.items()
                if root not in known
            ]
        )
    return ROOTS, ()


def look_at_layer(
    layer: Path, roots: Sequence[str] = ROOTS, budget: LookBudget | None = None
) -> LayerFiles:
    """Return the maps, packs and mission files of one layer. A missing layer has none.

    For several layers, pass the same `budget`. Whatever exceeds it is listed as an obstacle.
    """
    look = _Look(budget or LookBudget())
    look.enter(None, str(layer), partial(_look_at_layer, look, roots))
    return LayerFiles(
        frozenset(look.maps),
        tuple(look.packs),
        tuple(look.missions),
        shorten_obstacles(look.obstacles),
    )


def shorten_obstacles(obstacles: Sequence[str]) -> tuple[str, ...]:
    """Return the first obstacles, and one sentence with the number of the others."""
    more = len(obstacles) - _MAX_OBSTACLES
    if more <= 0:
        return tuple(obstacles)
    return (*obstacles[:_MAX_OBSTACLES], f"{more:,} more obstacles are alike.")


def is_pack_part(name: str) -> bool:
    """Whether the file is a data part of a pack whose directory is another file, `…_dir.vpk`."""
    return _PACK_PART.fullmatch(name[-len("_000.vpk") :]) is not None


def to_map_name(path: str) -> str | None:
    """Return the name of a map from its path below maps/; None if a launch argument cannot name it.

    The name is in lower case: the game ignores case in file names.
    """
    name, extension = posixpath.splitext(path)
    if extension.lower() != ".bsp" or not _MAP_NAME.fullmatch(name) or "\\" in name:
        return None
    return name.lower()


class _Look:
    """What was found so far, and the obstacles."""

    def __init__(self, budget: LookBudget) -> None:
        self.budget = budget
        self.maps: set[str] = set()
        self.packs: list[str] = []
        self.missions: list[str] = []
        self.obstacles: list[str] = []

    def list_names(self, folder: int) -> list[str]:
        """Return the names in a folder, sorted; UntrustedFileError if there are too many."""
        names = untrusted.list_names(folder, _MAX_ENTRIES)
        self.budget.spend(len(names))
        return sorted(names)

    def enter(self, folder: int | None, path: str, look: Callable[[int], None]) -> None:
        """Call `look` with the folder at `path`, if there is one. Remember any obstacle."""
        try:
            if folder is None:
                inner = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            else:
                inner = untrusted.open_folder_at(folder, path)
        except FileNotFoundError:
            return
        except (UntrustedFileError, OSError) as error:
            self.obstacles.append(f"{show_path(path)} cannot be read: {_reason(error)}")
            return
        try:
            look(inner)
        except (UntrustedFileError, OSError) as error:
            self.obstacles.append(f"{show_path(path)} cannot be read: {_reason(error)}")
        finally:
            os.close(inner)


def _look_at_layer(look: _Look, roots: Sequence[str], layer: int) -> None:
    for root in roots:
        look.enter(layer, root, partial(_look_at_root, look, root))
    for path in (ADDONS_DIR, _WORKSHOP_DIR):
        look.enter(layer, path, partial(_look_at_addons, look, path))


def _look_at_root(look: _Look, root: str, folder: int) -> None:
    for name in look.list_names(folder):
        if _MAIN_PACK.fullmatch(name):
            look.packs.append(f"{root}/{name}")
        elif name not in ("maps", "addons") and name.lower() in ("maps", "addons"):
            look.obstacles.append(
                f"{root}/{name} should be called {root}/{name.lower()}: not every game server finds it."
            )
    _look_at_content(look, root, folder)


def _look_at_content(look: _Look, path: str, folder: int) -> None:
    look.enter(folder, "maps", partial(_look_at_maps, look))
    look.enter(folder, "missions", partial(_look_at_missions, look, f"{path}/missions"))


def _look_at_addons(look: _Look, path: str, folder: int) -> None:
    for name in look.list_names(folder):
        if stat.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
            # A folder is an addon, just like a pack, if it contains an addoninfo.txt.
            if untrusted.exists_at(folder, f"{name}/addoninfo.txt"):
                look.enter(folder, name, partial(_look_at_content, look, f"{path}/{name}"))
        elif name.lower().endswith(PACK_EXTENSION) and not is_pack_part(name):
            look.packs.append(f"{path}/{name}")


def _look_at_maps(look: _Look, folder: int) -> None:
    for path, _ in untrusted.walk(folder, max_entries=_MAX_ENTRIES, on_names=look.budget.spend):
        if (name := to_map_name(path)) is not None:
            look.maps.add(name)


def _look_at_missions(look: _Look, path: str, folder: int) -> None:
    names = look.list_names(folder)
    look.missions += [f"{path}/{name}" for name in names if name.lower().endswith(".txt")]


def _reason(error: Exception) -> str:
    return f"{error.strerror}." if isinstance(error, OSError) and error.strerror else str(error)


def _search_path_values(gameinfo: str) -> Iterator[str]:
    """Yield the values of the SearchPaths block, if it can be found."""
    tokens = [
        match[1] if match[1] is not None else match[2] or match[3]
        for match in _TOKEN.finditer(gameinfo)
        if not match[0].startswith("//")
    ]
    position = next(
        (at for at, token in enumerate(tokens) if token.lower() == "searchpaths"), len(tokens)
    )
    block = tokens[position + 2 :] if tokens[position + 1 : position + 2] == ["{"] else []
    if "}" in block:
        block = block[: block.index("}")]
    yield from block[1::2]


def _to_root(value: str) -> str | None:
    """Return the folder of the game's tree that a search path names; None if it is not a plain folder."""
    path = value.replace("\\", "/")
    if path.lower().startswith(_GAMEINFO_PATH):
        path = f"{GAME_DIR}/{path[len(_GAMEINFO_PATH) :]}"
    elif path.lower().startswith(_SOURCE_PATHS):
        path = path[len(_SOURCE_PATHS) :]
    path = posixpath.normpath(path)
    is_plain = path.isprintable() and not any(sign in path for sign in "*?|\0")
    if not is_plain or path.startswith(("/", "../")) or path in (".", ".."):
        return None
    return None if path.lower().endswith(PACK_EXTENSION) else path
