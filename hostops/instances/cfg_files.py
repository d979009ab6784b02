"""Reads the cfg files of a layer. Their authors are not trusted: no link is followed, and only regular
files of bounded size are read.
"""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

CFG_DIR = "left4dead2/cfg"
"""The only folder where the game looks for cfg files."""

SERVER_CFG = "server.cfg"

MAX_FILE_BYTES = 256 * 1024
MAX_FILES = 2_000
MAX_BYTES = 8 * 1024**2
MAX_DEPTH = 16
"""The deepest nesting of folders; each level briefly costs an open descriptor."""


class UnreadableFileError(Exception):
    """A file cannot be read because of what it is; the text completes “it …”."""


@dataclass
class Budget:
    """How many more files and bytes may be read. `is_spent` once something was left out because of that."""

    files: int = MAX_FILES
    bytes: int = MAX_BYTES
    is_spent: bool = False

    def take(self, size: int) -> bool:
        """Subtract one file of `size` bytes; return False if it exceeds what is left."""
        if self.files < 1 or self.bytes < size:
            self.is_spent = True
            return False
        self.files -= 1
        self.bytes -= size
        return True


@dataclass
class CfgFiles:
    """The cfg files of a layer by their path below cfg/, and the unread ones with the reason."""

    contents: dict[str, bytes] = field(default_factory=dict)
    unread: dict[str, str] = field(default_factory=dict)


def read_cfg_files(layer: Path, budget: Budget) -> CfgFiles:
    """Return the cfg files of a layer in a stable order. Its server.cfg is read whatever the budget."""
    found = CfgFiles()
    paths = [SERVER_CFG]
    paths += [path for path in _list_cfg_files(layer, found) if path != SERVER_CFG]
    for path in paths:
        try:
            with _opened(layer, f"{CFG_DIR}/{path}") as descriptor:
                size = min(os.fstat(descriptor).st_size, MAX_FILE_BYTES)
                if path == SERVER_CFG or budget.take(size):
                    found.contents[path] = _read(descriptor, MAX_FILE_BYTES)
        except FileNotFoundError:
            continue  # Most layers have no server.cfg; any other file was just removed.
        except UnreadableFileError as error:
            found.unread[path] = str(error)
    return found


def read_regular(folder: Path, path: str, max_bytes: int) -> bytes:
    """Return the content of a regular file below `folder`. The folder itself may be a link.

    Raises FileNotFoundError if there is none, and UnreadableFileError for a link, even among the folders of
    `path`, for a pipe, a socket or a device, and for a file of more than `max_bytes`.
    """
    with _opened(folder, path) as descriptor:
        return _read(descriptor, max_bytes)


def show_path(path: str) -> str:
    """Return a path in a form that fits into a line of text, whatever bytes it contains."""
    text = path.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    return "".join(one if one.isprintable() else "\N{REPLACEMENT CHARACTER}" for one in text)


@contextmanager
def _opened(folder: Path, path: str) -> Iterator[int]:
    """Open a file or folder below `folder` for reading, without following a link."""
    here = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        *above, name = path.split("/")
        for part in above:
            here = _step(here, part, os.O_DIRECTORY)
        # O_NONBLOCK: opening a pipe without a writer would block forever.
        here = _step(here, name, os.O_NONBLOCK)
        yield here
    finally:
        os.close(here)


def _step(folder: int, name: str, flags: int) -> int:
    """Open `name` in a folder, and if that worked, close the folder."""
    try:
        opened = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | flags, dir_fd=folder)
    except FileNotFoundError:
        raise
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENOTDIR):
            raise UnreadableFileError("is a link, or has one among its folders") from None
        raise UnreadableFileError(f"cannot be opened ({error.strerror})") from None
    os.close(folder)
    return opened


def _read(descriptor: int, max_bytes: int) -> bytes:
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        raise UnreadableFileError("is no regular file")
    content = b""
    while len(content) <= max_bytes:
        if not (data := os.read(descriptor, max_bytes + 1 - len(content))):
            return content
        content += data
    raise UnreadableFileError(f"has more than {max_bytes // 1024} KiB")


def _list_cfg_files(layer: Path, found: CfgFiles) -> Iterator[str]:
    """Yield the paths of a layer's cfg files; unreadable folders are recorded in `found.unread`."""
    folders = [""]
    while folders:
        folder = folders.pop()
        try:
            with (
                _opened(layer, f"{CFG_DIR}/{folder}".rstrip("/")) as descriptor,
                os.scandir(descriptor) as entries,
            ):
                listed = sorted((one.name, one.is_dir(follow_symlinks=False)) for one in entries)
        except FileNotFoundError:
            continue
        except NotADirectoryError:
            found.unread[folder.rstrip("/") or "."] = "is no folder"
            continue
        except UnreadableFileError as error:
            found.unread[folder.rstrip("/") or "."] = str(error)
            continue
        inner = [f"{folder}{name}/" for name, is_folder in listed if is_folder]
        if inner and folder.count("/") >= MAX_DEPTH:
            found.unread[folder.rstrip("/")] = "has folders more than 16 deep"
            inner = []
        folders += reversed(inner)
        for name, is_folder in listed:
            if not is_folder and name.lower().endswith(".cfg"):
                yield f"{folder}{name}"
