"""Checks whether an overlay's files are where the game reads them, and whether the game can use them."""

import os
import posixpath
import re
import stat
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path

from hostops.content.fingerprints import OverlayFile, list_files
from hostops.content.libraries import LibraryError, read_library
from hostops.content.search_paths import ADDONS_DIR, GAME_DIR, ROOTS, is_pack_part
from hostops.errors import HostError
from hostops.instances.cfg_files import show_path
from hostops.instances.config_chain import SERVER_CONFIG_PATH
from hostops.linux import untrusted
from hostops.specs import ContentFinding, ContentSeverity

MOST_OF_A_KIND = 5
"""The most findings of one kind that are listed; the rest is only counted."""

TOPS = frozenset({*ROOTS, "bin", "platform", "config"})
"""The top folders of the game's own tree."""

INNER = frozenset(
    {
        "addons",
        "cfg",
        "ems",
        "maps",
        "materials",
        "media",
        "missions",
        "models",
        "particles",
        "resource",
        "scripts",
        "shaders",
        "sound",
    }
)
"""The content folders, which belong in `left4dead2/`."""

IN_ADDONS = frozenset({"metamod", "sourcemod", "stripper", "workshop"})
"""The folders that belong only in `left4dead2/addons/`."""

MAX_DEPTH = 4
"""How many folders deep to search for the root."""

_MAX_LIBRARIES = 300
_ARCHIVE = re.compile(r"\.(?:zip|7z|rar|tar|tgz|tar\.(?:gz|bz2|xz|zst))$", re.IGNORECASE)
_MAIN_PACK = re.compile(r"[^/]+/pak\d\d_dir\.vpk", re.IGNORECASE)
_MAP_PLACE = re.compile(rf"(?:[^/]+|{ADDONS_DIR}/[^/]+)/maps/")

_refuse = partial(ContentFinding, severity=ContentSeverity.REFUSED)
_warn = partial(ContentFinding, severity=ContentSeverity.WARNED)


def find_faults(overlay: Path, files: Sequence[OverlayFile]) -> list[ContentFinding]:
    """Return the findings about the shape of an overlay.

    A server may not start with an overlay of which nothing reaches the game because of a known mistake: the
    person who added it expected something else.
    """
    if not files:
        return [_warn("empty", text="It has no files.")]
    return [*_look_at_root(files), *_look_at_places(files), *_look_at_libraries(overlay, files)]


def require_usable(overlay: Path, name: str, server: str) -> None:
    """Raise HostError if a known mistake keeps an overlay's files from the game, saying how to lay them out.

    Stops at the first file that reaches the game: a few milliseconds for a correct overlay. An empty or
    unreadable overlay does not keep a server from starting.
    """
    try:
        with untrusted.open_folder(overlay, overlay) as top:
            if any(_reaches_game(path) for path, _ in untrusted.walk(top)):
                return
        faults = _look_at_root(list_files(overlay))
    except (FileNotFoundError, untrusted.UntrustedFileError):
        return
    refusals = [fault for fault in faults if fault.severity is ContentSeverity.REFUSED]
    if refusals:
        said = " ".join(dict.fromkeys(fault.text for fault in refusals[:MOST_OF_A_KIND]))
        raise HostError(
            f"{server} is not started, as the game would read nothing of its overlay {name}, in {overlay}. "
            f"{said}"
        )


def _reaches_game(path: str) -> bool:
    parts = path.split("/")
    return parts[0] in TOPS and _find_misplaced(parts) is None


def arrange(findings: Iterable[ContentFinding]) -> list[ContentFinding]:
    """Return the most serious findings first; of each kind only a few, and the number of the others."""
    order = list(ContentSeverity)
    return sorted(_limit(findings), key=lambda one: order.index(one.severity))


def _limit(findings: Iterable[ContentFinding]) -> Iterator[ContentFinding]:
    counts: Counter[tuple[str, ContentSeverity]] = Counter()
    for finding in findings:
        kind = (finding.code, finding.severity)
        counts[kind] += 1
        if counts[kind] <= MOST_OF_A_KIND:
            yield finding
    for (code, severity), count in counts.items():
        if count > MOST_OF_A_KIND:
            yield ContentFinding(code, severity, f"{count - MOST_OF_A_KIND:,} more are like this.")


# --- Where the root is --------------------------------------------------------------------------


def _look_at_root(files: Sequence[OverlayFile]) -> list[ContentFinding]:
    """Return what is wrong with the overlay's root; as refusals if not a single file is in its place."""
    faults: dict[str, ContentFinding] = {}
    is_effective = False
    for file in files:
        parts = file.path.split("/")
        fault = _find_misplaced(parts)
        if fault is not None:
            faults.setdefault(fault.text, fault)
        else:
            is_effective |= _reaches_game(file.path)
    if is_effective or not files:
        return list(faults.values())
    if not faults:
        if all(_ARCHIVE.search(file.path) for file in files):
            return [
                _refuse(
                    "packed_archive",
                    text="It is an archive that was not unpacked: the game reads nothing of it. Unpack it.",
                    path=show_path(files[0].path),
                )
            ]
        # No refusal: the topmost gameinfo.txt may name other folders, and somebody may have intended this.
        return [
            _warn(
                "nothing_for_the_game",
                text=f"None of its files is where the game looks. Lay them out as in the game's folder: "
                f"{GAME_DIR}/addons/…, {GAME_DIR}/cfg/….",
                path=show_path(files[0].path),
            )
        ]
    return [_refuse(one.code, text=one.text, path=one.path) for one in faults.values()]


def _find_misplaced(parts: Sequence[str]) -> ContentFinding | None:
    """Return why the game does not find a file, from the parts of its path; None if its folders are right.

    All files of one folder get the same finding.
    """
    top, *rest = parts
    if top in TOPS:
        return _find_misplaced_in_game(rest) if top == GAME_DIR else None
    if top.lower() in TOPS and rest:
        return _wrong_case(top)
    if top.lower() in INNER and rest:
        return _move(top, f"{GAME_DIR}/", "no_game_folder")
    if (top.lower() in IN_ADDONS and rest) or (not rest and _is_pack(top)):
        return _move(top, f"{ADDONS_DIR}/", "no_game_folder")
    for depth, part in enumerate(rest[:MAX_DEPTH]):
        folder = "/".join(parts[: depth + 1])
        if part.lower() == GAME_DIR and depth + 1 < len(rest):
            return ContentFinding(
                "root_too_deep",
                ContentSeverity.WARNED,
                f"Its root is one folder too deep: move what is in {show_path(folder)} to the top of the "
                f"overlay, so that {GAME_DIR}/ is there.",
                show_path(folder),
            )
        if part.lower() in INNER and depth + 1 < len(rest):
            return _move(f"{folder}/{part}", f"{GAME_DIR}/", "no_game_folder")
    return None


def _find_misplaced_in_game(rest: Sequence[str]) -> ContentFinding | None:
    """Return the same for a path below `left4dead2/`."""
    if len(rest) < 2:
        return None
    inner, name = rest[0], rest[1]
    if inner == GAME_DIR:
        return ContentFinding(
            "root_too_high",
            ContentSeverity.WARNED,
            f"{GAME_DIR}/ is in it twice: move what is in {GAME_DIR}/{GAME_DIR} one folder up.",
            f"{GAME_DIR}/{GAME_DIR}",
        )
    if inner not in INNER and inner.lower() in INNER:
        return _wrong_case(f"{GAME_DIR}/{inner}")
    if inner.lower() in IN_ADDONS:
        return _move(f"{GAME_DIR}/{inner}", f"{ADDONS_DIR}/", "not_read")
    is_folder = len(rest) > 2
    if inner == "addons" and is_folder and name not in IN_ADDONS and name.lower() in IN_ADDONS:
        return _wrong_case(f"{ADDONS_DIR}/{name}")
    if inner == "addons" and name == GAME_DIR and is_folder:
        return ContentFinding(
            "not_read",
            ContentSeverity.WARNED,
            f"The game does not look into {ADDONS_DIR}/{GAME_DIR}: move what is in it to {GAME_DIR}/.",
            f"{ADDONS_DIR}/{GAME_DIR}",
        )
    return None


def _wrong_case(folder: str) -> ContentFinding:
    return ContentFinding(
        "wrong_case",
        ContentSeverity.WARNED,
        f"The folder {show_path(folder)} must be called {show_path(folder.lower())}: on Linux the game does "
        "not find it otherwise.",
        show_path(folder),
    )


def _move(what: str, where: str, code: str) -> ContentFinding:
    return ContentFinding(
        code,
        ContentSeverity.WARNED,
        f"The game does not look for {show_path(what)} there: move it into {where}.",
        show_path(what),
    )


# --- Single files -------------------------------------------------------------------------------


def _look_at_places(files: Sequence[OverlayFile]) -> Iterator[ContentFinding]:
    names = {file.path.lower().rpartition(".")[2] for file in files}
    for file in files:
        yield from _look_at_kind(file)
        path, lower = file.path, file.path.lower()
        if path == SERVER_CONFIG_PATH:
            yield ContentFinding(
                "server_cfg",
                ContentSeverity.NOTED,
                "It becomes one part of each server’s config: the release’s server.cfg comes before it, and "
                "the blueprint’s and the server’s own config after it.",
                path,
            )
        elif lower in ("server.cfg", f"{GAME_DIR}/server.cfg", SERVER_CONFIG_PATH):
            yield _unread(path, "config_not_read", f"call it {SERVER_CONFIG_PATH}")
        elif lower.endswith(".bsp") and not _MAP_PLACE.match(path):
            yield _unread(path, "map_not_read", f"move it to {GAME_DIR}/maps/")
        elif lower.endswith(".smx") and not path.startswith(f"{ADDONS_DIR}/sourcemod/plugins/"):
            yield _unread(path, "plugin_not_read", f"move it to {ADDONS_DIR}/sourcemod/plugins/")
        elif _is_pack(path) and not is_pack_in_place(path):
            yield _unread(path, "pack_not_read", f"move it to {ADDONS_DIR}/")
        elif _ARCHIVE.search(path) and not path.startswith(f"{ADDONS_DIR}/sourcemod/"):
            yield _unread(path, "packed_archive", "unpack it")
    if "dll" in names and "so" not in names:
        yield _warn(
            "windows_only",
            text="It has libraries for Windows (.dll) and none for Linux (.so): get the build for Linux.",
        )


def _look_at_kind(file: OverlayFile) -> Iterator[ContentFinding]:
    if file.is_link:
        where = posixpath.normpath(posixpath.join(posixpath.dirname(file.path), file.target))
        if file.target.startswith("/") or where == ".." or where.startswith("../"):
            yield _warn(
                "link_leads_out",
                text=f"It is a link to {show_path(file.target)}, outside of the overlay, where a game cannot "
                "read: put the files themselves there.",
                path=show_path(file.path),
            )
    elif not stat.S_ISREG(file.status.st_mode):
        yield _warn(
            "special_file",
            text="It is neither a file nor a link: remove it.",
            path=show_path(file.path),
        )


def _unread(path: str, code: str, cure: str) -> ContentFinding:
    return _warn(code, text=f"The game does not read it there: {cure}.", path=show_path(path))


def _is_pack(path: str) -> bool:
    return path.lower().endswith(".vpk") and not is_pack_part(path)


def is_pack_in_place(path: str) -> bool:
    """Whether the game reads a pack at this path."""
    return posixpath.dirname(path) == ADDONS_DIR or (
        _MAIN_PACK.fullmatch(path) is not None and path.split("/", maxsplit=1)[0] in TOPS
    )


# --- Libraries ----------------------------------------------------------------------------------


def _look_at_libraries(overlay: Path, files: Sequence[OverlayFile]) -> Iterator[ContentFinding]:
    paths = [
        file.path
        for file in files
        if file.path.endswith(".so") and stat.S_ISREG(file.status.st_mode)
    ]
    if not paths:
        return
    newest = _own_glibc()
    with untrusted.open_folder(overlay, overlay) as top:
        for path in paths[:_MAX_LIBRARIES]:
            yield from _look_at_library(top, path, newest)


def _look_at_library(
    top: int, path: str, newest: tuple[int, int] | None
) -> Iterator[ContentFinding]:
    shown = show_path(path)
    try:
        file = untrusted.open_at(top, path)
    except FileNotFoundError:
        return  # It was just removed; the next report will not have it.
    except (untrusted.UntrustedFileError, OSError) as error:
        yield _warn("unreadable", text=f"It cannot be read: {error}", path=shown)
        return
    try:
        library = read_library(file)
    except LibraryError as error:
        yield _warn(
            "library_broken",
            text=f"It {error}: the game cannot load it. Get it once more.",
            path=shown,
        )
        return
    finally:
        os.close(file)
    # Packages contain one of each kind, and the game takes the one it can load: metamod-source#70.
    if library.bits == 64 and "64" not in path:
        yield _warn(
            "library_64_bit",
            text="It is a library of 64 bits, and the game has 32: get the build for 32 bits.",
            path=shown,
        )
    if library.glibc and newest and library.glibc > newest:
        yield _warn(
            "library_needs_newer",
            text=f"It needs the C library in version {_show(library.glibc)}, and this host has "
            f"{_show(newest)}: get a build for older systems, or bring the host up to date.",
            path=shown,
        )


def _own_glibc() -> tuple[int, int] | None:
    """Return the version of this host's C library; distributions ship the 32-bit one in the same version."""
    match = re.fullmatch(r"glibc (\d+)\.(\d+).*", os.confstr("CS_GNU_LIBC_VERSION") or "")
    return (int(match[1]), int(match[2])) if match else None


def _show(version: tuple[int, int]) -> str:
    return ".".join(str(part) for part in version)
