"""Whether a library could be loaded into the game, and what the dynamic loader says if not (dlopen(3)).

A game server is a program of 32 bits, so that is what its libraries have to be. Nothing of them is run.
"""

import os
import re
from pathlib import Path

ELF_HEAD_BYTES = 52
CLASS_AT, CLASS_32, CLASS_64 = 4, 1, 2
MAX_LIBRARY_BYTES = 64 * 1024 * 1024
VERSIONS = re.compile(rb"\0GLIBC_(\d{1,3})\.(\d{1,3})(?=[.\0])")


def find_load_error(path: Path) -> str:
    """Return what `dlerror()` says once a library could not be loaded; empty if it could be."""
    try:
        with path.open("rb") as file:
            content = file.read(MAX_LIBRARY_BYTES)
    except OSError as error:
        return f"{path}: cannot open shared object file: {error.strerror}"
    if len(content) < ELF_HEAD_BYTES:
        return f"{path}: file too short"
    if not content.startswith(b"\x7fELF"):
        return f"{path}: invalid ELF header"
    if content[CLASS_AT] == CLASS_64:
        return f"{path}: wrong ELF class: ELFCLASS64"
    if content[CLASS_AT] != CLASS_32:
        return f"{path}: invalid ELF header"
    newest = max(((int(one), int(two)) for one, two in VERSIONS.findall(content)), default=(0, 0))
    if newest > own_glibc():
        return (
            f"/lib/i386-linux-gnu/libc.so.6: version `GLIBC_{newest[0]}.{newest[1]}' not found "
            f"(required by {path})"
        )
    return ""


def own_glibc() -> tuple[int, int]:
    """Return the version of this machine's C library, as (2, 36)."""
    name = os.confstr("CS_GNU_LIBC_VERSION") or "glibc 0.0"
    major, _, minor = name.rpartition(" ")[2].partition(".")
    return int(major), int(minor.partition(".")[0])
