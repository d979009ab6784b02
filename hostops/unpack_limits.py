"""How much unpacking an archive may take.

It is not in `hostops.specs`: the child process that unpacks needs nothing else from there, and loading it took
40 of the 140 ms of its start.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class UnpackLimits:
    """How much unpacking one archive may take. Bytes count all its files together.

    `ratio` limits how many times larger than the archive the files may be, once they exceed
    `ratio_after_bytes`. `entries` counts files and folders; `path_bytes` and `depth` apply to each path.
    `min_free_bytes` stay free on the disk that the files are written to.
    """

    seconds: float = 900.0
    total_bytes: int = 16 * 1024**3
    entries: int = 50_000
    ratio: int = 200
    ratio_after_bytes: int = 64 * 1024**2
    path_bytes: int = 1024
    depth: int = 32
    memory_bytes: int = 512 * 1024**2
    min_free_bytes: int = 0
