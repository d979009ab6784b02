"""What is known of a pack (VPK file) once it was read."""

from dataclasses import dataclass

MAX_MAPS = 2_000
"""So many maps are taken of a pack; campaigns have five."""


@dataclass(frozen=True)
class Pack:
    """A pack as `pack_reader` found it.

    `fault` completes "The pack …" and is empty if nothing is wrong with it. Without `has_directory` nothing is
    known of what is in it, and with it `is_whole` says whether the rest here is all that there is. `odd_paths`
    counts the entries that lead out of the game's folder, or have names that no file has.
    """

    version: int = 0
    fault: str = ""
    has_directory: bool = False
    is_whole: bool = False
    odd_paths: int = 0
    maps: tuple[str, ...] = ()
