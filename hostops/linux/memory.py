"""How much memory this machine has, and how much programs could still get (`/proc/meminfo`)."""

from pathlib import Path
from typing import NamedTuple

_MEMINFO_PATH = Path("/proc/meminfo")


class Memory(NamedTuple):
    """In bytes. `available` is the kernel's estimate of what programs can get without swapping."""

    total: int
    available: int


def read_memory() -> Memory | None:
    """Return the machine's memory; None if the kernel does not provide it."""
    try:
        return parse_meminfo(_MEMINFO_PATH.read_text())
    except OSError:
        return None


def parse_meminfo(text: str) -> Memory | None:
    """Parse lines such as `MemTotal:  16318496 kB`; return None if one of the two is missing."""
    found: dict[str, int] = {}
    for line in text.splitlines():
        name, _, value = line.partition(":")
        number = value.removesuffix("kB").strip()
        if name in ("MemTotal", "MemAvailable") and number.isdecimal():
            found[name] = int(number) * 1024
    if len(found) < 2:
        return None
    return Memory(found["MemTotal"], found["MemAvailable"])
