"""Which files of an instance's full copy of the game are ours, and in what version; all others are its own.

The manifest that says so is beside the copy. Size and modification time distinguish versions of a file.
"""

import json
import os
from collections.abc import Callable
from contextlib import suppress

from hostops.instances.records import MALFORMED
from hostops.layout import InstanceLayout
from hostops.linux import untrusted
from hostops.linux.files import find_copied, write_atomically
from hostops.linux.untrusted import UntrustedFileError

Version = tuple[int, int]
"""Size in bytes and modification time in nanoseconds."""

_MAX_MANIFEST_BYTES = 64 * 1024**2
_MOST_READS = 10


class OwnFiles:
    """Tells a server's own files in its copy from ours, also while a start updates the copy.

    A start lists a new version before it copies it. So if a file is not listed and the manifest has changed, it
    is read again, a few times at most: the game may be able to change it all the time.
    """

    def __init__(self, instance: InstanceLayout, on_damage: Callable[[str], object]) -> None:
        self._instance = instance
        self._on_damage = on_damage
        self._path = str(instance.tree_manifest_path)
        self._ours: dict[str, list[Version]] = {}
        self._identity: tuple[int, int] | None = None
        self._reads = 0

    def is_own(self, path: str, status: os.stat_result) -> bool:
        """Return whether the server wrote, or changed, a file of the copy."""
        if self._is_listed(path, status):
            return False
        if self._reads == _MOST_READS or not self._has_changed():
            return True
        self._reads += 1
        self._ours = read_manifest(self._instance, self._on_damage)
        return not self._is_listed(path, status)

    def _is_listed(self, path: str, status: os.stat_result) -> bool:
        if (status.st_size, status.st_mtime_ns) in self._ours.get(path, ()):
            return True
        # While a start copies one of our files, and after one that was killed then, the copy has another name.
        # A game must not be able to hide a larger file by such a name.
        copied = find_copied(path)
        return copied is not None and any(
            status.st_size <= size for size, _time_ns in self._ours.get(copied, ())
        )

    def _has_changed(self) -> bool:
        known, self._identity = self._identity, None
        # For each of the server's own files. To open the folders above it first takes ten times as long.
        with suppress(OSError):
            status = os.lstat(self._path)
            self._identity = (status.st_ino, status.st_mtime_ns)
        return self._identity != known


def read_manifest(
    instance: InstanceLayout, on_damage: Callable[[str], object]
) -> dict[str, list[Version]]:
    """Return which files of the copy are ours. Without a manifest, all of them are the server's own.

    Where overlays cannot be mounted, the game may be able to write the manifest. If it cannot be read,
    `on_damage` gets the beginning of a sentence that says so.
    """
    path = instance.tree_manifest_path
    try:
        document = json.loads(untrusted.read_file(path, instance.trusted_dir, _MAX_MANIFEST_BYTES))
        return {
            name: [(int(size), int(time_ns)) for size, time_ns in versions]
            for name, versions in document.items()
        }
    except FileNotFoundError:
        return {}
    except (*MALFORMED, UntrustedFileError) as error:
        on_damage(f"{path.name} does not tell which files of {instance.name} are ours ({error})")
        return {}


def write_manifest(instance: InstanceLayout, manifest: dict[str, list[Version]]) -> None:
    """Replace the manifest. A version has to be in it before it is in the copy."""
    write_atomically(instance.tree_manifest_path, json.dumps(manifest))
