"""Which maps an installed game has: loose ones, and those inside VPK files, whose directories it reads.

A reader of its own, as everything of the simulator stands alone: a game server imports nothing else of ours.
"""

import struct
from collections.abc import Iterator
from pathlib import Path

ROOTS = ("update", "left4dead2_dlc3", "left4dead2_dlc2", "left4dead2_dlc1", "hl2")
"""Searched beside the game's own folder (its gameinfo.txt)."""

VPK_SIGNATURE = 0x55AA1234
VPK_HEADER = struct.Struct("<III")
ENTRY_BYTES = 18
PRELOAD_BYTES_AT = 4
TERMINATOR = b"\xff\xff"
MAX_DIRECTORY_BYTES = 64 * 1024 * 1024


class PackError(Exception):
    """A file is not a VPK of version 1, which alone Left 4 Dead 2 reads."""


def map_names(game_dir: Path) -> set[str]:
    """Return the names of all maps that the game in `game_dir` finds, in lower case."""
    names: set[str] = set()
    for folder in (game_dir, *(game_dir.parent / root for root in ROOTS)):
        names.update(path.stem.lower() for path in folder.glob("maps/*.bsp") if path.is_file())
        for pack in folder.glob("pak[0-9][0-9]_dir.vpk"):
            names.update(_maps_in(pack))
    for pack in addons(game_dir):
        names.update(_maps_in(pack))
    return names


def addons(game_dir: Path) -> list[Path]:
    """Return the packs that the game loads because they lie in its folder of addons."""
    return sorted(path for path in (game_dir / "addons").glob("*.vpk") if path.is_file())


def read_pack(path: Path) -> list[str]:
    """Return the paths of the files in a VPK. Raises PackError, and OSError."""
    with path.open("rb") as file:
        header = file.read(VPK_HEADER.size)
        if len(header) < VPK_HEADER.size:
            raise PackError("it is too short")
        signature, version, size = VPK_HEADER.unpack(header)
        if signature != VPK_SIGNATURE or version != 1 or size > MAX_DIRECTORY_BYTES:
            raise PackError("it is not a VPK of version 1")
        directory = file.read(size)
    try:
        return list(_entries(directory))
    except (ValueError, IndexError):
        raise PackError("its directory is broken") from None


def _maps_in(pack: Path) -> Iterator[str]:
    try:
        paths = read_pack(pack)
    except (PackError, OSError):
        return
    for path in paths:
        folder, _, name = path.lower().rpartition("/")
        if folder == "maps" and name.endswith(".bsp"):
            yield name.removesuffix(".bsp")


def _entries(directory: bytes) -> Iterator[str]:
    """Yield the paths: for each extension its folders, for each folder its names, each list ended by \"\"."""
    position = 0

    def word() -> str:
        nonlocal position
        end = directory.index(b"\0", position)
        text, position = directory[position:end], end + 1
        return text.decode("utf-8", "surrogateescape")

    while extension := word():
        while folder := word():
            while name := word():
                entry = directory[position : position + ENTRY_BYTES]
                if len(entry) < ENTRY_BYTES or not entry.endswith(TERMINATOR):
                    raise ValueError
                position += ENTRY_BYTES + int.from_bytes(
                    entry[PRELOAD_BYTES_AT : PRELOAD_BYTES_AT + 2], "little"
                )
                prefix = "" if folder == " " else f"{folder}/"
                yield f"{prefix}{name}.{extension}"
