"""The manifest of an overlay's version: it names each file, and the hash of its bytes.

A manifest is a text: a first line that says its kind, then a JSON array for each file, in the order of the
paths, `["left4dead2/addons/maps.vpk", "<sha256>", <bytes>, "<flags>"]`. The same files always make the same
bytes, so the hash of a manifest identifies the version, and two versions with the same content are the same
version. The flag `x` marks a file that may be executed, and `s` or `m` one that is a seed or managed wherever
it is.
"""

import hashlib
import json
import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

HEADER = "saferoom content 1"
MAX_FILES = 50_000
MAX_MANIFEST_BYTES = 64 * 1024**2
MAX_PATH_BYTES = 512
MAX_NAME_BYTES = 255  # NAME_MAX of Linux's file systems
MAX_FILE_BYTES = 1024**4
MAX_FOLDERS = 32
# Control and format characters, halves of UTF-16 pairs, private ones, line and paragraph separators: no editor
# shows them.
_INVISIBLE = frozenset({"Cc", "Cf", "Co", "Cs", "Zl", "Zp"})

SHA256 = re.compile(r"[0-9a-f]{64}", re.ASCII)
_CONTROL_CHARACTER = re.compile(r"[\x00-\x1f\x7f]")
_EXECUTABLE = "x"
_KINDS = {None: "", True: "s", False: "m"}
_FLAGS = {
    executable + kind: (bool(executable), is_seed)
    for executable in ("", _EXECUTABLE)
    for is_seed, kind in _KINDS.items()
}

_SEED_FOLDERS = (
    "left4dead2/cfg/",
    "left4dead2/ems/",
    "left4dead2/save/",
    "left4dead2/addons/sourcemod/configs/",
    "left4dead2/addons/sourcemod/data/",
    "left4dead2/addons/sourcemod/logs/",
)
"""Where games, plugins and people change files of a server."""
_SEED_TEXT = re.compile(r"left4dead2/[^/]+\.txt")  # motd.txt, host.txt


class ManifestError(ValueError):
    """Something cannot be the content of an overlay. The text says what, and in which file."""


@dataclass(frozen=True, order=True)
class ManifestFile:
    """One file: its path below the game's folder, with `/` between names, and its content."""

    path: str
    sha256: str
    size: int
    is_executable: bool = False
    is_seed: bool | None = None
    """Whether somebody has made it a seed, or managed; None: its path decides."""

    @property
    def servers_keep_theirs(self) -> bool:
        """Whether a server with its own copy of this file keeps that copy, because this is a seed.

        A server's own copy of a managed file is moved aside at each start.
        """
        return is_seed_path(self.path) if self.is_seed is None else self.is_seed


def is_seed_path(path: str) -> bool:
    """Return whether a file at this path is a seed unless somebody has decided otherwise."""
    folded = path.casefold()
    return folded.startswith(_SEED_FOLDERS) or _SEED_TEXT.fullmatch(folded) is not None


def write_manifest(files: Iterable[ManifestFile]) -> bytes:
    """Return the manifest of these files, whatever their order. Raises `ManifestError`."""
    files = list(files)
    require_files(files)
    return _join(files)


def _join(files: Iterable[ManifestFile]) -> bytes:
    lines = [HEADER]
    for file in sorted(files):
        flags = (_EXECUTABLE if file.is_executable else "") + _KINDS[file.is_seed]
        entry = [file.path, file.sha256, file.size, flags]
        lines.append(json.dumps(entry, ensure_ascii=False, separators=(",", ":")))
    return "\n".join([*lines, ""]).encode()


def read_manifest(data: bytes) -> tuple[ManifestFile, ...]:
    """Return the files of a manifest. Raises `ManifestError` unless `write_manifest` could have written it."""
    if len(data) > MAX_MANIFEST_BYTES:
        raise ManifestError(f"A manifest of {len(data):,} bytes is too large.")
    try:
        header, *lines = data.decode().split("\n")
        if header != HEADER:
            raise ManifestError(f"A manifest begins with {HEADER!r}, not with {header[:40]!r}.")
        files = tuple(_read_file(line) for line in lines[:-1])
        require_files(files)
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError, TypeError) as error:
        raise ManifestError(f"This is no manifest: {error}.") from None
    if _join(files) != data:
        raise ManifestError("This manifest is not written as Saferoom writes them.")
    return files


def read_known_lines(data: bytes, digest: str) -> list[bytes]:
    """Return the lines of a manifest that `write_manifest` has written, as its hash proves.

    The hash makes the checks of `read_manifest` unnecessary, which take eight times as long.
    `read_known_files` parses the lines: of many manifests, the lines they have in common need to be parsed
    only once. Raises `ManifestError` if the bytes do not have that hash.
    """
    if hashlib.sha256(data).hexdigest() != digest:
        raise ManifestError(
            f"The manifest {digest} is damaged: its bytes are not those it is named by."
        )
    return data.split(b"\n")[1:-1]


def read_known_files(lines: Iterable[bytes]) -> Iterator[ManifestFile]:
    """Yield the files that lines of `read_known_lines` describe."""
    for path, sha256, size, flags in map(json.loads, lines):
        yield ManifestFile(path, sha256, size, *_FLAGS[flags])


def require_paths(paths: Iterable[str]) -> None:
    """Raise `ManifestError` unless there can be files at all of these paths at the same time.

    No path may lead outside the folder, or mean something else to another system, and no two may differ only
    in case, because the game ignores case in file names.
    """
    seen: dict[str, str] = {}
    folders: dict[str, str] = {}
    for path in paths:
        _require_path(path)
        folded = path.casefold()
        if (other := seen.get(folded)) is not None:
            same = "is there twice" if other == path else f"and {other!r} differ only in capitals"
            raise ManifestError(f"{path!r} {same}.")
        seen[folded] = path
        for folder in _folders_of(folded):
            folders.setdefault(folder, path)
    for folded, path in seen.items():
        if folded in folders:
            raise ManifestError(f"{path!r} is a file, and the folder of {folders[folded]!r}.")


def is_visible(name: str) -> bool:
    """Return whether people can see every character of a name."""
    return not any(unicodedata.category(one) in _INVISIBLE for one in name)


def to_seen_name(name: str) -> str:
    """Return a name without what most readers overlook: case, and how an accent is encoded."""
    return unicodedata.normalize("NFC", name).casefold()


def require_readable_paths(new: Iterable[str], others: Iterable[str] = ()) -> None:
    """Raise `ManifestError` for a new path that people cannot read, or cannot tell from one of `others`.

    Older versions may have such paths, so `require_paths` accepts them.
    """
    seen = {to_seen_name(path): path for path in others}
    for path in new:
        if not is_visible(path):
            shown = "".join(one if is_visible(one) else "\N{REPLACEMENT CHARACTER}" for one in path)
            raise ManifestError(f"{shown!r} has invisible characters in its name. Rename it.")
        if path.count("/") > MAX_FOLDERS:
            raise ManifestError(
                f"{path[:80]!r}… lies more than {MAX_FOLDERS} folders deep. Move it up."
            )
        other = seen.setdefault(to_seen_name(path), path)
        if other != path:
            raise ManifestError(f"{path!r} and {other!r} look the same. Rename one of them.")


def _read_file(line: str) -> ManifestFile:
    entry = json.loads(line)
    if not isinstance(entry, list) or [type(part) for part in entry] != [str, str, int, str]:
        raise ManifestError(f"A line of the manifest does not describe a file: {line[:80]!r}.")
    path, sha256, size, flags = entry
    if flags not in _FLAGS:
        raise ManifestError(f"{path!r} has the flags {flags!r}, which no version has.")
    return ManifestFile(path, sha256, size, *_FLAGS[flags])


def require_files(files: Iterable[ManifestFile]) -> None:
    """Raise `ManifestError` unless these can be the files of one version. Call it before laying them out."""
    files = list(files)
    if len(files) > MAX_FILES:
        raise ManifestError(
            f"{len(files):,} files are more than the {MAX_FILES:,} that an overlay can have."
        )
    require_paths(file.path for file in files)
    if len(folders_of((file.path for file in files), MAX_FILES)) > MAX_FILES:
        raise ManifestError(
            f"These files are in more than {MAX_FILES:,} folders, which is more than an overlay can have."
        )
    for file in files:
        if not SHA256.fullmatch(file.sha256):
            raise ManifestError(f"{file.path!r} has {file.sha256[:80]!r}, which is no SHA-256.")
        if not 0 <= file.size <= MAX_FILE_BYTES:
            raise ManifestError(f"{file.path!r} cannot have {file.size:,} bytes.")


def folders_of(paths: Iterable[str], most: int | None = None) -> set[str]:
    """Return the folders that files at these paths are in: all of them, or more than `most`."""
    folders: set[str] = set()
    for path in paths:
        folders.update(_folders_of(path))
        if most is not None and len(folders) > most:
            break
    return folders


def _require_path(path: str) -> None:
    try:
        data = path.encode()
    except UnicodeEncodeError:
        raise ManifestError(f"{path!r} is not a name in UTF-8.") from None
    if len(data) > MAX_PATH_BYTES:
        raise ManifestError(
            f"{path[:80]!r}… has {len(data):,} bytes: use {MAX_PATH_BYTES} at most."
        )
    if _CONTROL_CHARACTER.search(path):
        raise ManifestError(f"{path!r} contains a control character.")
    if "\\" in path or re.match(r"[A-Za-z]:", path):
        raise ManifestError(f"“{path}” is a Windows path: use / between names, and no drive.")
    if path.endswith("/") and path.strip("/"):
        raise ManifestError(f"“{path}” is a folder: add the name of a file.")
    for name in path.split("/"):
        if name in ("", ".", ".."):
            raise ManifestError(f"“{path}” is not a path below the overlay’s folder.")
        if len(name.encode()) > MAX_NAME_BYTES:
            raise ManifestError(f"{name[:80]!r}… is longer than a file name can be.")


def _folders_of(path: str) -> Iterator[str]:
    """Yield the folders around a path, outermost first."""
    position = path.find("/")
    while position >= 0:
        yield path[:position]
        position = path.find("/", position + 1)
