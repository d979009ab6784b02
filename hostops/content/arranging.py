"""Finds out where files from outside belong in an overlay, judging by the folders that they came in.

People pack one folder too deep, leave out `left4dead2/`, write `Left4Dead2/Addons`, or send a single file.
What can only mean one thing is put right and reported. What could mean several things is reported, and none
of it is taken over.
"""

import posixpath
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from hostops.content import shapes
from hostops.content.search_paths import ADDONS_DIR, GAME_DIR
from hostops.content.shapes import IN_ADDONS, INNER, MAX_DEPTH, TOPS, is_pack_in_place
from hostops.instances.cfg_files import show_path
from hostops.specs import Arrangement, ContentFinding, ContentSeverity

SOURCEMOD_DIR = f"{ADDONS_DIR}/sourcemod"

_PLACES = {
    ".vpk": ADDONS_DIR,
    ".smx": f"{SOURCEMOD_DIR}/plugins",
    ".cfg": f"{GAME_DIR}/cfg",
    ".bsp": f"{GAME_DIR}/maps",
    ".nav": f"{GAME_DIR}/maps",
}
"""Where the game, or SourceMod, reads a file that comes alone."""

_IN_SOURCEMOD = frozenset(
    {"configs", "extensions", "gamedata", "plugins", "scripting", "translations"}
)
_OF_SOURCEMOD = (".smx", ".sp", ".inc", ".so", ".phrases.txt", ".games.txt")
_LITTER_FOLDERS = frozenset({".git", ".github", ".svn", ".hg", "__macosx"})
_LITTER_FILES = frozenset(
    {"thumbs.db", "desktop.ini", ".ds_store", ".gitignore", ".gitattributes", ".gitmodules"}
)
_UNPLACEABLE = (".so", ".vdf", ".nut", ".sp", ".dll")
_DLC_PREFIX = f"{GAME_DIR}_dlc"
_MOST_SHOWN = 5


def arrange(paths: Sequence[str]) -> Arrangement:
    """Return where each of `paths` belongs in an overlay, and what there is to say about it.

    Paths are relative, separated by "/", and all different.
    """
    notes: list[ContentFinding] = []
    kept = [path for path in paths if not _is_litter(path)]
    notes += _tell_litter([path for path in paths if _is_litter(path)])
    if not kept:
        notes.append(_refuse("no_files", "It has no files for the game."))
        return Arrangement({}, tuple(shapes.arrange(notes)))
    roots = _find_roots(kept)
    if len(roots) > 1:
        notes.append(_tell_several(roots))
        return Arrangement({}, tuple(shapes.arrange(notes)))
    moves = _Moves(kept, roots[0] if roots else None)
    notes += moves.tell()
    is_refused = any(note.severity is ContentSeverity.REFUSED for note in notes)
    return Arrangement({} if is_refused else moves.places, tuple(shapes.arrange(notes)))


# --- What is left out ---------------------------------------------------------------------------


def _is_litter(path: str) -> bool:
    *folders, name = path.lower().split("/")
    is_of_macos = name.startswith("._")
    return is_of_macos or name in _LITTER_FILES or not _LITTER_FOLDERS.isdisjoint(folders)


def _tell_litter(paths: Sequence[str]) -> Iterator[ContentFinding]:
    if paths:
        yield ContentFinding(
            "left_out",
            ContentSeverity.NOTED,
            f"{_count(paths)} left out, as only systems and programs use them: {_list(paths)}.",
        )


# --- Where the root is --------------------------------------------------------------------------


@dataclass(frozen=True)
class _Root:
    """A folder of what came, as the parts of its path, and the folder of an overlay that it stands for."""

    above: tuple[str, ...]
    place: str


def _find_roots(paths: Sequence[str]) -> list[_Root]:
    """Return the folders that might hold an overlay's content: none, the one, or several equally likely ones.

    A folder named like the game's own counts for more than one named like a folder inside it.
    """
    parts = [path.split("/") for path in paths]
    for find in (_find_game, _find_content, _find_sourcemod):
        roots = {root for one in parts if (root := find(one)) is not None}
        if find is _find_sourcemod and not any(
            path.lower().endswith(_OF_SOURCEMOD) for path in paths
        ):
            continue
        if roots:
            return _topmost(roots)
    return []


def _topmost(roots: Iterable[_Root]) -> list[_Root]:
    """Return the roots that are not inside another one; a root inside another is just part of it."""
    found: dict[tuple[str, ...], _Root] = {}
    for root in sorted(roots, key=lambda one: (len(one.above), one.above, one.place)):
        if not any(root.above[:length] in found for length in range(len(root.above) + 1)):
            found[root.above] = root
    return list(found.values())


def _find_game(parts: Sequence[str]) -> _Root | None:
    for depth, part in enumerate(parts[:-1][: MAX_DEPTH + 1]):
        lower = part.lower()
        if lower == GAME_DIR or lower.startswith(_DLC_PREFIX) or (depth == 0 and lower in TOPS):
            return _Root(tuple(parts[:depth]), "")
    return None


def _find_content(parts: Sequence[str]) -> _Root | None:
    for depth, part in enumerate(parts[:-1][: MAX_DEPTH + 1]):
        if part.lower() in INNER:
            return _Root(tuple(parts[:depth]), GAME_DIR)
        if part.lower() in IN_ADDONS:
            return _Root(tuple(parts[:depth]), ADDONS_DIR)
    return None


def _find_sourcemod(parts: Sequence[str]) -> _Root | None:
    for depth, part in enumerate(parts[:-1][: MAX_DEPTH + 1]):
        if part.lower() in _IN_SOURCEMOD:
            return _Root(tuple(parts[:depth]), SOURCEMOD_DIR)
    return None


def _tell_several(roots: Sequence[_Root]) -> ContentFinding:
    names = [f"{show_path('/'.join(root.above)) or 'its top'}" for root in roots]
    return _refuse(
        "several_roots",
        f"It has {len(roots)} folders that could each be the overlay: {_list(names)}. Upload only one of "
        "them, or each to an overlay of its own.",
    )


# --- Where each file goes -----------------------------------------------------------------------


@dataclass
class _Moves:
    """Where each file goes, and what there is to say about it."""

    paths: Sequence[str]
    root: _Root | None
    places: dict[str, str] = field(default_factory=dict)
    _moved: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    _renamed: set[tuple[str, str]] = field(default_factory=set)
    _beside: list[str] = field(default_factory=list)
    _unplaced: list[str] = field(default_factory=list)
    _unread: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        for path in self.paths:
            self.places[path] = self._find_place(path)

    def _find_place(self, path: str) -> str:
        if self.root is None:
            return self._find_place_alone(path)
        parts = path.split("/")
        above = self.root.above
        if tuple(parts[:-1][: len(above)]) != above:
            return self._put_beside(path)
        parts = parts[len(above) :]
        if len(parts) == 1 and (alone := self._place_by_kind(path, parts[0])):
            return alone
        place = self.root.place.split("/") if self.root.place else []
        return self._put_right(path, [*place, *parts])

    def _put_right(self, path: str, parts: list[str]) -> str:
        """Return the path in an overlay, with its folders named and nested as the game has them."""
        top, *rest = parts
        if top.lower() not in TOPS or not rest:
            self._look_for_another_root(path, parts)
            return "/".join(parts)
        top = self._rename(top)
        if top != GAME_DIR:
            return "/".join([top, *rest])
        while len(rest) > 1 and rest[0].lower() == GAME_DIR:
            self._moved["left4dead2_twice"].append(path)
            rest = rest[1:]
        if len(rest) == 1:
            place = f"{GAME_DIR}/{rest[0]}"
            return place if is_pack_in_place(place) else self._place_by_kind(path, rest[0]) or place
        if rest[0].lower() in IN_ADDONS:
            self._moved[ADDONS_DIR].append(path)
            rest = ["addons", *rest]
        elif rest[0].lower() in INNER:
            rest[0] = self._rename(rest[0])
        elif rest[0].lower() in _IN_SOURCEMOD:
            self._moved[SOURCEMOD_DIR].append(path)
            rest = ["addons", "sourcemod", *rest]
        else:
            self._look_for_another_root(path, rest)
        if rest[0] == "addons" and len(rest) > 2:
            if rest[1].lower() == GAME_DIR:
                self._moved[GAME_DIR].append(path)
                return self._put_right(path, rest[1:])
            if rest[1].lower() in IN_ADDONS:
                rest[1] = self._rename(rest[1])
            if rest[1] == "sourcemod" and len(rest) > 3 and rest[2].lower() in _IN_SOURCEMOD:
                rest[2] = self._rename(rest[2])
        return "/".join([GAME_DIR, *rest])

    def _look_for_another_root(self, path: str, parts: Sequence[str]) -> None:
        """Remember a file that seems to belong to the game, but is beside what the game reads."""
        if _find_game(parts) or _find_content(parts):
            self._unread.append(path)

    def _rename(self, folder: str) -> str:
        if folder != folder.lower():
            self._renamed.add((folder, folder.lower()))
        return folder.lower()

    def _place_by_kind(self, path: str, name: str) -> str:
        place = _PLACES.get(posixpath.splitext(name)[1].lower(), "")
        if not place:
            return ""
        self._moved[place].append(path)
        return f"{place}/{name}"

    def _find_place_alone(self, path: str) -> str:
        """Return where a file belongs by its name alone, since no folder says so."""
        name = posixpath.basename(path)
        if place := self._place_by_kind(path, name):
            return place
        if name.lower().endswith(_UNPLACEABLE):
            self._unplaced.append(path)
        return self._put_beside(path)

    def _put_beside(self, path: str) -> str:
        self._beside.append(path)
        return path

    def tell(self) -> Iterator[ContentFinding]:
        """Yield what there is to say about all that."""
        if self.root is not None and self.root.above:
            yield _note(
                "root_too_deep", f"Everything was below {show_path('/'.join(self.root.above))}/."
            )
        if self.root is not None and self.root.place:
            yield _note(
                "no_game_folder",
                f"Its folders belong in {self.root.place}/, and were put there.",
            )
        for where, paths in self._moved.items():
            if where == "left4dead2_twice":
                yield _note("root_too_high", f"One {GAME_DIR}/ was inside another.")
            else:
                yield _note("moved", f"{_count(paths)} put into {where}/: {_list(paths)}.")
        for old, new in sorted(self._renamed):
            yield _note(
                "wrong_case",
                f"The folder {show_path(old)} was renamed {new}, the name under which the game finds it.",
            )
        yield from self._tell_unread()
        yield from _tell_collisions(self.places)

    def _tell_unread(self) -> Iterator[ContentFinding]:
        has_placed = len(self._beside) < len(self.paths)
        if not has_placed:
            yield _refuse(
                "nothing_for_the_game",
                f"Nothing tells where the game should read {_list(self._beside)}. "
                f"Upload that in folders as the game has them: {GAME_DIR}/addons/…, {GAME_DIR}/cfg/….",
                self._beside[0],
            )
        if self._unread:
            yield ContentFinding(
                "beside",
                ContentSeverity.WARNED,
                f"{_count(self._unread)} left beside {GAME_DIR}/, where nothing reads them: "
                f"{_list(self._unread)}. If the game should read them, upload them to an overlay of their "
                "own.",
            )
        if has_placed and self._unplaced:
            yield ContentFinding(
                "not_placed",
                ContentSeverity.WARNED,
                f"{_count(self._unplaced)} kept where nothing reads them, as it cannot be told where they "
                f"belong: {_list(self._unplaced)}. Bring them in folders as the game has them.",
            )


def _tell_collisions(places: Mapping[str, str]) -> Iterator[ContentFinding]:
    """Yield what keeps two files from both going where they belong. Names that differ in case collide."""
    sharing: dict[str, list[str]] = defaultdict(list)
    for path, place in places.items():
        sharing[place.casefold()].append(path)
    folders = {folder for key in sharing for folder in _folders_of(key)}
    for key, paths in sharing.items():
        if len(paths) > 1 or key in folders:
            others = [*paths[1:], *(["a folder"] if key in folders else [])]
            yield _refuse(
                "same_place",
                f"It belongs at {show_path(places[paths[0]])}, and so does {_list(others)}. Remove all but "
                "one.",
                paths[0],
            )


def _folders_of(path: str) -> Iterator[str]:
    while path := posixpath.dirname(path):
        yield path


# --- Words --------------------------------------------------------------------------------------


def _note(code: str, text: str) -> ContentFinding:
    return ContentFinding(code, ContentSeverity.NOTED, text)


def _refuse(code: str, text: str, path: str = "") -> ContentFinding:
    return ContentFinding(code, ContentSeverity.REFUSED, text, show_path(path))


def _count(paths: Sequence[str]) -> str:
    return "1 file was" if len(paths) == 1 else f"{len(paths):,} files were"


def _list(paths: Sequence[str]) -> str:
    shown = ", ".join(show_path(path) for path in paths[:_MOST_SHOWN])
    return f"{shown} and {len(paths) - _MOST_SHOWN:,} more" if len(paths) > _MOST_SHOWN else shown
