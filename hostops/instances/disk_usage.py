"""Measures what takes space on a host's disk: its releases, and the files that each server wrote itself."""

import contextlib
import heapq
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from hostops.errors import HostError
from hostops.instances.tree_manifests import OwnFiles
from hostops.layout import HostLayout, InstanceLayout
from hostops.linux import untrusted
from hostops.linux.files import free_bytes, is_no_space, tree_size
from hostops.linux.untrusted import UntrustedFileError

MIN_FREE_BYTES = 1024**3

_MAX_ENTRIES = 50_000
_LONGEST_SECONDS = 5.0
_MOST_NAMED = 5
_BLOCK_BYTES = 512


class _TimeIsUpError(Exception):
    """Ends a measurement of which enough is known."""


def own_bytes(instance: InstanceLayout) -> int:
    """Return how much disk space the files take that a server wrote itself, without its console.

    If there are more than 50,000 files, or counting them takes long, only the first ones count: this is
    measured beside other work. It skips folders that the game has closed, or whose path is longer than the
    kernel accepts (4 KiB).
    """
    own_files = OwnFiles(instance, on_damage=lambda _text: None)
    return _measure(instance, instance.upper_dir, lambda _path, _status: True) + _measure(
        instance, instance.tree_dir, own_files.is_own
    )


def require_room(
    layout: HostLayout, name: str, min_free_bytes: int, *, needed_bytes: int = 0, what: str = ""
) -> None:
    """Raise HostError, saying what takes the space, if less than `min_free_bytes` are free for a start.

    If `needed_bytes` for `what` must still be written, these have to be free in addition.
    """
    free = free_bytes(layout.root)
    if free >= min_free_bytes + max(needed_bytes, 0):
        return
    needed = f"{_describe(needed_bytes)} are needed for {what}, " if what else ""
    takers = heapq.nlargest(_MOST_NAMED, _takers(layout))
    named = "; ".join(f"{what}: {_describe(size)}" for size, what in takers)
    raise HostError(
        f"{name} is not started: {_describe(free)} are free on the disk of {layout.root}, {needed}and "
        f"{_describe(min_free_bytes)} are to stay free (HOST_MIN_FREE_BYTES). What takes most there: "
        f"{named or 'nothing of Saferoom'}. "
        "Reset or delete servers that you do not need, or make the disk larger."
    )


@contextlib.contextmanager
def explain_full_disk(layout: HostLayout) -> Iterator[None]:
    """Turn the error of a write for which the disk has no room into a HostError that says what to do."""
    try:
        yield
    except OSError as error:
        if not is_no_space(error):
            raise
        raise HostError(
            f"The disk of {layout.root} is full. Reset or delete servers that you do not need, or make it "
            "larger, and try again."
        ) from error


def _measure(
    instance: InstanceLayout, top: Path, is_own: Callable[[str, os.stat_result], bool]
) -> int:
    """Return how much space the server's own readable files below `top` take."""
    blocks = 0
    until = time.monotonic() + _LONGEST_SECONDS

    def look_at_clock(_count: int) -> None:
        if time.monotonic() > until:
            raise _TimeIsUpError

    with (
        contextlib.suppress(FileNotFoundError, UntrustedFileError, _TimeIsUpError),
        untrusted.open_folder(top, instance.trusted_dir) as folder,
    ):
        for path, status in untrusted.walk(
            folder, max_entries=_MAX_ENTRIES, takes_what_it_can=True, on_names=look_at_clock
        ):
            if is_own(path, status):
                blocks += status.st_blocks
    return blocks * _BLOCK_BYTES


def _takers(layout: HostLayout) -> Iterator[tuple[int, str]]:
    for release in layout.releases_dir.glob("[0-9]*"):
        yield tree_size(release), f"release {release.name}"
    for name in layout.instance_names():
        yield own_bytes(layout.instance(name)), f"what {name} wrote"
    yield tree_size(layout.blobs_dir), "the files of overlays’ versions"


def _describe(size: int) -> str:
    return f"{size / 1024**3:,.1f} GiB" if size >= 1024**3 // 10 else f"{size / 1024**2:,.0f} MiB"
