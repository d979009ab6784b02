"""A server's own files that hide files of its overlays: which stay, and which are moved aside.

A file of an overlay's version is *managed* or a *seed* (`hostops.manifests`). A server's own copy of a
managed file is moved aside at each start; a seed is for servers that have no copy of their own yet. Files of
an overlay that is kept by hand are seeds, and so is the game itself.
"""

import contextlib
import json
import os
import stat
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path

from hostops.callbacks import Callbacks
from hostops.instances import layers
from hostops.layout import HostLayout
from hostops.linux import untrusted
from hostops.linux.untrusted import UntrustedFileError
from hostops.specs import OverlayReference, is_seed_path

_COMPARED_BYTES = 1024**2
_MOST_NAMED = 5


class Whose(Enum):
    """Whose copy of a file counts, if a server has its own besides that of its layers."""

    CONFIGURED = auto()
    """Saferoom's, written for this server."""
    MANAGED = auto()
    """That of a version of an overlay."""
    SEED = auto()
    """The server's own, although a version of an overlay has one."""
    OWN = auto()
    """The server's own, hiding one of a folder kept by hand or of the game: that is no news to anybody."""


@dataclass(frozen=True)
class _Layer:
    """An overlay of a server. `choices` has the files for which somebody has decided whether they are seeds."""

    folder: Path
    is_version: bool
    choices: Mapping[str, bool]

    def find_whose(self, path: str) -> Whose:
        """Return whose copy of one of its files counts."""
        if not self.is_version:
            return Whose.OWN
        return Whose.SEED if self.choices.get(path, is_seed_path(path)) else Whose.MANAGED


class OverlayFiles:
    """The overlays of a server, topmost first. `ours` are paths that Saferoom itself takes care of."""

    def __init__(
        self, layout: HostLayout, overlays: Sequence[str], *, ours: Collection[str] = ()
    ) -> None:
        self._layers = [_read_layer(layout, overlay) for overlay in overlays]
        self._ours = ours

    def find_whose(self, path: str) -> Whose:
        """Return whose copy of a file counts."""
        if path not in self._ours:
            for layer in self._layers:
                if os.path.lexists(layer.folder / path):
                    return layer.find_whose(path)
        return Whose.OWN

    def uncover(self, upper_dir: Path, callbacks: Callbacks) -> list[str]:
        """Move aside what hides managed files; return the seeds that stay hidden. The server must not run.

        Of a folder that the game has made, only the files in it count.
        """
        hidden: dict[str, Whose] = {}
        with untrusted.open_folder(upper_dir, upper_dir.parent, opens_up=True) as upper:
            for layer in self._layers:
                if layer.is_version:
                    for path in _find_hidden(upper, str(layer.folder), ""):
                        if path not in hidden:
                            hidden[path] = self.find_whose(path)
        managed = [path for path, whose in hidden.items() if whose is Whose.MANAGED]

        def move_aside(here: int, name: str, path: str, callbacks: Callbacks) -> None:
            self._move_aside(here, name, path, callbacks)

        layers.uncover(upper_dir, managed, callbacks, move_aside)
        return [path for path, whose in hidden.items() if whose is Whose.SEED]

    def _move_aside(self, here: int, name: str, path: str, callbacks: Callbacks) -> None:
        try:
            status = untrusted.stat_at(here, name)
        except FileNotFoundError:
            return
        if stat.S_ISCHR(status.st_mode) or self._is_same(here, name, path):
            untrusted.remove_at(here, name)
            return
        kept = untrusted.keep_last(here, name)
        callbacks.warn(
            f"The server had its own {path}; that of the overlay takes its place. The last one of its own is "
            f"kept as {kept}."
        )

    def _is_same(self, here: int, name: str, path: str) -> bool:
        """Whether something in a server's folder has exactly the bytes that its overlay has at `path`."""
        source = next(
            layer.folder / path for layer in self._layers if os.path.lexists(layer.folder / path)
        )
        try:
            descriptor = untrusted.open_at(here, name)
        except UntrustedFileError:
            return False
        with open(descriptor, "rb") as own, source.open("rb") as theirs:  # noqa: PTH123 - a descriptor
            if os.fstat(own.fileno()).st_size != os.fstat(theirs.fileno()).st_size:
                return False
            while (data := own.read(_COMPARED_BYTES)) == theirs.read(_COMPARED_BYTES):
                if not data:
                    return True
        return False


def tell_of_kept(paths: Sequence[str], callbacks: Callbacks) -> None:
    """Report which files of overlays a server does not use, because it has its own."""
    if paths:
        more = len(paths) - _MOST_NAMED
        named = ", ".join(sorted(paths)[:_MOST_NAMED]) + (f" and {more:,} more" if more > 0 else "")
        callbacks.say(
            f"The server has its own version of files of its overlays, and keeps it: {named}."
        )


def _read_layer(layout: HostLayout, overlay: str) -> _Layer:
    folder = layout.overlay_folder(overlay)
    if OverlayReference.parse(overlay).digest is None:
        return _Layer(folder, is_version=False, choices={})
    choices: dict[str, bool] = {}
    with contextlib.suppress(FileNotFoundError):
        choices = json.loads(layout.choices_path(folder).read_bytes())
    return _Layer(folder, is_version=True, choices=choices)


def _find_hidden(own: int, folder: str, prefix: str) -> Iterator[str]:
    """Yield the files of a version's folder that something in `own` hides, at their path or above it."""
    with os.scandir(folder) as entries:
        for entry in entries:
            path = f"{prefix}{entry.name}"
            try:
                status = untrusted.stat_at(own, entry.name)
            except FileNotFoundError:
                continue
            if not entry.is_dir(follow_symlinks=False):
                yield path
            elif not stat.S_ISDIR(status.st_mode):
                for parent, _folders, names in os.walk(entry.path):
                    inside = path + parent.removeprefix(entry.path)
                    yield from (f"{inside}/{name}" for name in names)
            else:
                inner = untrusted.open_folder_at(own, entry.name, opens_up=True)
                try:
                    layers.make_transparent(inner)
                    yield from _find_hidden(inner, entry.path, f"{path}/")
                finally:
                    os.close(inner)
