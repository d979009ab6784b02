"""Reads the cfg files of a layer. Who put them there is not trusted: no link is followed, and nothing but a
regular file of bounded size is read.
"""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

CFG_DIR = "left4dead2/cfg"
"""Where the game looks for cfg files. It takes no other folder."""

SERVER_CFG = "server.cfg"

MAX_FILE_BYTES = 256 * 1024
MAX_FILES = 2_000
MAX_BYTES = 8 * 1024**2
MAX_DEPTH = 16
"""Of folders below each other; each level costs an open descriptor for an instant."""


class UnreadableFileError(Exception):
    """A file is not read for what it is; the text completes “it …”."""


@dataclass
class Budget:
    """How many files, and bytes of them, are still read. `is_spent` once something was left out for it."""

    files: int = MAX_FILES
    bytes: int = MAX_BYTES
    is_spent: bool = False

    def take(self, size: int) -> bool:
        """Take one file of `size` bytes from the budget; False if that is more than is left."""
        if self.files < 1 or self.bytes < size:
            self.is_spent = True
            return False
        self.files -= 1
        self.bytes -= size
        return True


@dataclass
class CfgFiles:
    """The cfg files of a layer by their path below cfg/, and those that were not read, with the reason."""

    contents: dict[str, bytes] = field(default_factory=dict)
    unread: dict[str, str] = field(default_factory=dict)


def read_cfg_files(layer: Path, budget: Budget) -> CfgFiles:
    """Return the cfg files of a layer, in a stable order. Its server.cfg is read whatever the budget is."""
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
            continue  # Most layers have no server.cfg; another file was removed just now.
        except UnreadableFileError as error:
            found.unread[path] = str(error)
    return found


def read_regular(folder: Path, path: str, max_bytes: int) -> bytes:
    """Return the content of a regular file below `folder`, which is opened as it is.

    Raises FileNotFoundError if there is none, and UnreadableFileError for a link, also among the folders of
    `path`, for a pipe, a socket or a device, and for a file of more than `max_bytes`.
    """
    with _opened(folder, path) as descriptor:
        return _read(descriptor, max_bytes)


def show_path(path: str) -> str:
    """Return a path as a line of text can have it, whatever bytes it consists of."""
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
        # O_NONBLOCK: to open a pipe that nobody writes to would wait for ever.
        here = _step(here, name, os.O_NONBLOCK)
        yield here
    finally:
        os.close(here)


def _step(folder: int, name: str, flags: int) -> int:
    """Open what is called `name` in a folder, and close the folder, if that worked."""
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
    """Yield the paths of the cfg files of a layer; folders that cannot be read go to what is unread."""
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
