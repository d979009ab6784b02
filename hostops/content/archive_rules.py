"""What an archive may contain: how much, and under which paths. The unpacking child and its parent check it."""

from hostops.manifests import is_visible, to_seen_name
from hostops.unpack_limits import UnpackLimits

ENCODINGS = ("cp437", "gb18030")
"""The encodings of zip names that are not UTF-8: the one of DOS, and the one of Windows in China."""

_NAME_BYTES = 255  # ext4, XFS, btrfs
_SHOWN_CHARS = 80


class RefusedError(Exception):
    """An archive is refused; the text completes “NAME was not unpacked: …”, and says what to do."""


class Names:
    """The names that an archive has had so far, as a tree of limited size."""

    def __init__(self, limits: UnpackLimits) -> None:
        self._limits = limits
        self._nodes: dict[tuple[int, str], int] = {}
        self._files: set[int] = set()
        self._folders: set[int] = {0}

    def add(self, path: str, *, is_folder: bool) -> None:
        """Add a path; RefusedError if it cannot exist beside those added before."""
        here = 0
        for part in path.split("/"):
            if here in self._files:
                raise RefusedError(
                    f"{show(path)} lies in a folder that is also a file in it. {_AGAIN}"
                )
            self._folders.add(here)
            key = (here, to_seen_name(part))
            here = self._nodes.setdefault(key, len(self._nodes) + 1)
        if len(self._nodes) > self._limits.entries:
            raise too_many(self._limits)
        if is_folder:
            if here in self._files:
                raise RefusedError(f"{show(path)} is both a file and a folder in it. {_AGAIN}")
            self._folders.add(here)
        elif here in self._files or here in self._folders:
            raise RefusedError(
                f"{show(path)} is in it twice, perhaps with different capitals. Remove one of the two, and "
                "pack it again."
            )
        else:
            self._files.add(here)


class Sizes:
    """How many bytes have come out of an archive, or are declared in it."""

    def __init__(self, archive_bytes: int, limits: UnpackLimits) -> None:
        self._archive_bytes = max(1, archive_bytes)
        self._limits = limits
        self.total_bytes = 0

    def add(self, size: int) -> None:
        """Add this many bytes; RefusedError if the limits do not allow them."""
        self.total_bytes += size
        limits = self._limits
        if self.total_bytes > limits.total_bytes:
            raise RefusedError(
                f"it unpacks to more than {_show_bytes(limits.total_bytes)}, which is as much as may come at a "
                "time. Bring it in several archives, each in an upload of its own."
            )
        most = limits.ratio * self._archive_bytes
        if self.total_bytes > max(most, limits.ratio_after_bytes):
            raise RefusedError(
                f"it unpacks to more than {limits.ratio} times its own {_show_bytes(self._archive_bytes)}, "
                "like archives made to fill a disk. If it is not one of those, upload its files unpacked."
            )


def too_many(limits: UnpackLimits) -> RefusedError:
    """Return the error for an archive that contains more than it may."""
    return RefusedError(
        f"it has more than {limits.entries:,} files and folders, which is as many as may come at a time. "
        "Bring it in several archives, each in an upload of its own."
    )


def to_path(name: str, limits: UnpackLimits) -> str:
    """Return a name from an archive as a relative path; empty for the top itself.

    Raises RefusedError for a path that leads outside, or that no file of a game has.
    """
    if name.startswith("/"):
        raise RefusedError(f"{show(name)} in it is an absolute path. {_AGAIN}")
    if len(name) > 1 and name[1] == ":" and name[0].isalpha():
        raise RefusedError(f"{show(name)} in it begins with a drive's letter. {_AGAIN}")
    if "\\" in name:
        raise RefusedError(f"{show(name)} in it has a backslash in its name. {_AGAIN}")
    if not is_visible(name):
        raise RefusedError(f"{show(name)} in it has invisible characters in its name. {_RENAME}")
    # `tar` begins paths with "./", and ends folders with "/".
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise RefusedError(f"{show(name)} in it leads out of its folder. {_AGAIN}")
    if len(parts) > limits.depth:
        raise RefusedError(
            f"{show(name)} in it lies more than {limits.depth} folders deep. {_RENAME}"
        )
    path = "/".join(parts)
    if len(path.encode()) > limits.path_bytes or any(
        len(part.encode()) > _NAME_BYTES for part in parts
    ):
        raise RefusedError(f"{show(name)} in it is too long for a path. {_RENAME}")
    return path


def show(name: str) -> str:
    """Return a name in a form that fits into a line of text: shortened, and without invisible characters."""
    text = "".join(
        one if one.isprintable() else "\N{REPLACEMENT CHARACTER}" for one in name[:_SHOWN_CHARS]
    )
    return f"{text}…" if len(name) > _SHOWN_CHARS else text


def _show_bytes(size: int) -> str:
    for unit, factor in (("GiB", 1024**3), ("MiB", 1024**2), ("KiB", 1024)):
        if size >= factor:
            return f"{size / factor:,.3g} {unit}"
    return f"{size:,} bytes"


_AGAIN = "Unpack it on your computer, check what is in it, and pack it again."
_RENAME = "Rename it, and pack the archive again."
