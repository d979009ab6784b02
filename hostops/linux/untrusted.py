"""Opens, lists, moves and removes files that a game server, native code from strangers, could have written.

Nothing here follows a symbolic link below the folder that the caller trusts, waits for another program, or
accepts any kind of file but the expected one. A file is pinned first (O_PATH, which opens no device and
wakes no writer), checked, and only then opened: so the file that was checked is the file that is read.

Relative paths stay within their folder: they have no `..`. A missing path raises FileNotFoundError; any other
obstacle raises `UntrustedFileError`. If a game has closed a file of this account to its owner (a mode of
000), that is no obstacle: the file is opened up.
"""

import contextlib
import ctypes
import errno
import os
import stat
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

from hostops.errors import HostError

MAX_RECORD_BYTES = 1024**2
"""No record that this program writes about an instance or a run is larger."""

MAX_ENTRIES = 200_000
"""A tree with more files is not walked. The game with SourceMod and every addon has a tenth of that."""

_OPENAT2 = 437  # the same number on every architecture; Linux 5.6
_RESOLVE = 0x02 | 0x04 | 0x08  # NO_MAGICLINKS, NO_SYMLINKS, BENEATH of linux/openat2.h
_NOT_AVAILABLE = (errno.ENOSYS, errno.EPERM)  # EPERM: a seccomp profile that does not know the call
_PIN = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_NEVER_WAIT = os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_REMOVALS = 100
_FILLED_AGAIN = (errno.ENOTEMPTY, errno.EEXIST, errno.EISDIR, errno.ENOTDIR)
_OF_OWNER = stat.S_IRUSR | stat.S_IWUSR
_BATCH = 4096
_NAME_BYTES = 255
_OWN = ".own"

_KINDS = {
    stat.S_IFREG: "a file",
    stat.S_IFDIR: "a folder",
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}
_REASONS = {
    errno.ELOOP: "leads through a symbolic link",
    errno.ENOTDIR: "leads through something that is not a folder",
    errno.EXDEV: "leads out of its folder",
    errno.ENAMETOOLONG: "has a name that is too long",
    errno.EACCES: "may not be opened",
    errno.EAGAIN: "is held by a program that does not let go of it",
    errno.EISDIR: "is a folder",
}

_CURE = "Remove it, or reset the server if its game put it there."
_GIVE = "Give it to the account that runs this."

_libc = ctypes.CDLL(None, use_errno=True)


class _OpenHow(ctypes.Structure):
    _fields_ = (
        ("flags", ctypes.c_uint64),
        ("mode", ctypes.c_uint64),
        ("resolve", ctypes.c_uint64),
    )


class UntrustedFileError(HostError):
    """Something that this program did not put there has taken the place of one of its files."""


# --- One file -----------------------------------------------------------------------------------


def pin(folder: int, relative: str) -> int:
    """Return an O_PATH descriptor of whatever is at `relative`, even a link; the caller closes it."""
    parts = _split(relative)
    global _open_beneath  # noqa: PLW0603 - which call the kernel has is determined once
    try:
        return _open_beneath(folder, parts)
    except OSError as error:
        if _open_beneath is _open_at_once and error.errno in _NOT_AVAILABLE:
            _open_beneath = _open_step_by_step
            return pin(folder, relative)
        raise _explained(error, relative) from None


def open_at(folder: int, relative: str, flags: int = os.O_RDONLY, kind: int = stat.S_IFREG) -> int:
    """Return a descriptor of the file at `relative`, which must be of this kind (S_IFREG, S_IFIFO, S_IFDIR)."""
    pinned = pin(folder, relative)
    try:
        status = _require_kind(pinned, relative, kind)
        if kind != stat.S_IFDIR and not _may_open(status, flags):
            # A game can close a file through a descriptor that it inherited, such as its console's.
            os.chmod(_name_of(pinned), stat.S_IMODE(status.st_mode) | _OF_OWNER)  # noqa: PTH101
        return _reopen(pinned, relative, flags)
    finally:
        os.close(pinned)


def stat_at(folder: int, relative: str) -> os.stat_result:
    """Return the status of what is at `relative`, as lstat does."""
    pinned = pin(folder, relative)
    try:
        return os.fstat(pinned)
    finally:
        os.close(pinned)


def exists_at(folder: int, relative: str) -> bool:
    """Whether anything is at `relative`, even a link."""
    try:
        os.close(pin(folder, relative))
    except FileNotFoundError:
        return False
    return True


def open_file(path: Path, beneath: Path, flags: int = os.O_RDONLY, kind: int = stat.S_IFREG) -> int:
    """Return a descriptor of the file `path`. Only `beneath` is trusted."""
    with _trusted(beneath) as folder:
        return open_at(folder, _relative(path, beneath), flags, kind)


def create_file(path: Path, beneath: Path, mode: int = 0o600) -> int:
    """Return a read-write descriptor of the file `path`, which is created if missing."""
    with open_folder(path.parent, beneath) as folder:
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with contextlib.suppress(FileExistsError):
            return os.open(path.name, flags, mode, dir_fd=folder)
        return open_at(folder, path.name, os.O_RDWR)


def read_file(path: Path, beneath: Path, max_bytes: int = MAX_RECORD_BYTES) -> bytes:
    """Return the content of the file `path`. Only `beneath` is trusted."""
    descriptor = open_file(path, beneath)
    with open(descriptor, "rb") as file:  # noqa: PTH123 - a descriptor
        data = file.read(max_bytes + 1)
    if len(data) > max_bytes:
        raise UntrustedFileError(f"{path} has more than {max_bytes:,} bytes, and is not read.")
    return data


def read_status(path: Path, beneath: Path) -> os.stat_result:
    """Return the status of what is at `path`, as lstat does. Only `beneath` is trusted."""
    with _trusted(beneath) as folder:
        return stat_at(folder, _relative(path, beneath))


def exists(path: Path, beneath: Path) -> bool:
    """Whether anything is at `path`. Only `beneath` is trusted."""
    try:
        read_status(path, beneath)
    except (FileNotFoundError, UntrustedFileError):
        return False
    return True


def remove_file(path: Path, beneath: Path) -> None:
    """Remove whatever is at the file path `path`; it may be missing."""
    with contextlib.suppress(FileNotFoundError), open_folder(path.parent, beneath) as folder:
        remove_at(folder, path.name)


# --- One folder ---------------------------------------------------------------------------------


@contextlib.contextmanager
def open_folder(path: Path, beneath: Path, *, opens_up: bool = False) -> Iterator[int]:
    """Hold the folder `path` open for the block. Only `beneath` is trusted.

    `opens_up` is passed to `open_folder_at`.
    """
    with _trusted(beneath) as anchor:
        relative = _relative(path, beneath)
        descriptor = (
            open_folder_at(anchor, relative, opens_up=opens_up) if relative else os.dup(anchor)
        )
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def open_folder_at(folder: int, relative: str, *, opens_up: bool = False) -> int:
    """Return a descriptor of the folder at `relative`.

    With `opens_up`, a folder closed to its owner is opened up: overlayfs and games leave such folders.
    """
    pinned = pin(folder, relative)
    try:
        status = _require_kind(pinned, relative, stat.S_IFDIR)
        if opens_up and status.st_mode & stat.S_IRWXU != stat.S_IRWXU:
            os.chmod(_name_of(pinned), stat.S_IRWXU)  # noqa: PTH101
        return _reopen(pinned, relative, os.O_RDONLY | os.O_DIRECTORY)
    finally:
        os.close(pinned)


def make_folders(
    folder: int, relative: str, move_aside: Callable[[int, str], object], mode: int = 0o750
) -> int:
    """Return a descriptor of the folder at `relative`, creating it and its parents if they are missing.

    If anything but a folder is in the way, `move_aside` is called with its parent folder and its name.
    """
    current = os.dup(folder)
    try:
        for name in _split(relative) if relative else ():
            try:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(name, mode, dir_fd=current)
                inner = open_folder_at(current, name, opens_up=True)
            except UntrustedFileError:
                move_aside(current, name)
                os.mkdir(name, mode, dir_fd=current)
                inner = open_folder_at(current, name)
            os.close(current)
            current = inner
    except BaseException:
        os.close(current)
        raise
    return current


def require_folder(path: Path, beneath: Path, mode: int = 0o750) -> None:
    """Create the folder `path` if it is missing; raise `UntrustedFileError` if something else is there."""
    with open_folder(path.parent, beneath) as folder:
        with contextlib.suppress(FileExistsError):
            os.mkdir(path.name, mode, dir_fd=folder)
        os.close(open_folder_at(folder, path.name))


def list_names(folder: int, max_entries: int) -> list[str]:
    """Return the names in a folder; UntrustedFileError if there are more than `max_entries`."""
    with os.scandir(folder) as entries:
        names = [entry.name for entry in islice(entries, max_entries + 1)]
    if len(names) > max_entries:
        raise UntrustedFileError(_describe_too_many(folder, max_entries))
    return names


def save_aside(folder: int, name: str, mark: str) -> str:
    """Rename `name` to `NAME.saved-MARK`, or similar if that is taken; return the new name."""
    for number in range(1000):
        suffix = f".saved-{mark}" + (f"-{number}" if number else "")
        saved = shorten(name, _NAME_BYTES - len(suffix)) + suffix
        try:
            stat_at(folder, saved)
        except FileNotFoundError:
            os.rename(name, saved, src_dir_fd=folder, dst_dir_fd=folder)
            return saved
    raise UntrustedFileError(
        f"{_path_of(folder)}/{name} is in the way, and no name is free to keep it under: remove it."
    )


def keep_last(folder: int, name: str) -> str:
    """Rename `name` to `NAME.own`, in the place of what was kept under that before; return the new name."""
    kept = shorten(name, _NAME_BYTES - len(_OWN)) + _OWN
    remove_at(folder, kept)
    os.rename(name, kept, src_dir_fd=folder, dst_dir_fd=folder)
    return kept


def shorten(name: str, max_bytes: int) -> str:
    """Return the beginning of a file's name, at most `max_bytes` long."""
    return os.fsdecode(os.fsencode(name)[:max_bytes])


# --- Trees --------------------------------------------------------------------------------------


def walk(
    folder: int,
    *,
    max_entries: int | None = MAX_ENTRIES,
    opens_up: bool = False,
    takes_what_it_can: bool = False,
    on_names: Callable[[int], object] | None = None,
) -> Iterator[tuple[str, os.stat_result]]:
    """Yield everything below `folder` except folders as (relative path, lstat), in a stable order.

    Links are yielded but not followed. Raises `UntrustedFileError` if there are more than `max_entries` in all,
    including folders, or if a folder cannot be opened. With `takes_what_it_can` it instead stops after the
    first `max_entries`, and skips such a folder. Between two items, everything but `folder` may change.
    `on_names` gets the number of names in each folder, and may end the walk by raising.
    """
    waiting = [""]
    count = 0
    while waiting:
        relative = waiting.pop()
        inside = f"{relative}/" if relative else ""
        try:
            here = (
                open_folder_at(folder, relative, opens_up=opens_up) if relative else os.dup(folder)
            )
        except FileNotFoundError:  # removed in the meantime
            continue
        except UntrustedFileError:
            if takes_what_it_can:
                continue
            raise
        folders: list[str] = []
        files: list[tuple[str, os.stat_result]] = []
        try:
            left = None if max_entries is None else max_entries - count
            if takes_what_it_can or left is None:
                names = _first_names(here, left)
            elif len(names := _first_names(here, left + 1)) > left:
                raise UntrustedFileError(_describe_too_many(folder, max_entries or 0))
            count += len(names)
            if on_names:
                on_names(len(names))
            for name in sorted(names):
                with contextlib.suppress(FileNotFoundError):
                    status = os.stat(name, dir_fd=here, follow_symlinks=False)
                    if stat.S_ISDIR(status.st_mode):
                        folders.append(inside + name)
                    else:
                        files.append((inside + name, status))
        finally:
            os.close(here)
        waiting.extend(reversed(folders))
        yield from files


def remove_at(folder: int, name: str) -> None:
    """Remove `name`, including all of a folder's contents; it may be missing.

    There is no limit on depth or number: folders inside are moved up to its top one by one, so neither the
    stack, nor the length of a path, nor the number of open files matters. Others may be removing files at the
    same time. Raises `UntrustedFileError` if a program keeps writing there.
    """
    for _ in range(_REMOVALS):
        try:
            _remove(folder, name)
        except FileNotFoundError:  # Somebody else has removed part of it.
            continue
        except OSError as error:
            if error.errno not in _FILLED_AGAIN:
                raise
            continue
        return
    raise UntrustedFileError(
        f"{_path_of(folder)}/{name} is not removed: a program goes on writing there. End it, and try once more."
    )


def _remove(folder: int, name: str) -> None:
    try:
        top = open_folder_at(folder, name, opens_up=True)
    except FileNotFoundError:
        return
    except UntrustedFileError:
        os.unlink(name, dir_fd=folder)
        return
    try:
        _empty(top)
    finally:
        os.close(top)
    os.rmdir(name, dir_fd=folder)


def _empty(top: int) -> None:
    number = 0
    while names := _some_names(top):
        for name in names:
            try:
                os.unlink(name, dir_fd=top)
                continue
            except (
                IsADirectoryError,
                PermissionError,
            ) as error:  # unlink(2): EPERM on other systems
                if isinstance(error, PermissionError) and not _is_folder(top, name):
                    raise
            inner = open_folder_at(top, name, opens_up=True)
            try:
                while found := _some_names(inner):
                    for each in found:
                        if not _is_folder(inner, each):
                            os.unlink(each, dir_fd=inner)
                            continue
                        # Moving a folder changes its `..`, so it must be writable.
                        os.close(open_folder_at(inner, each, opens_up=True))
                        number = _hoist(inner, each, top, number)
            finally:
                os.close(inner)
            os.rmdir(name, dir_fd=top)


def _hoist(source: int, name: str, top: int, number: int) -> int:
    """Move a folder to `top` under a free number; return the next number to try."""
    while True:
        number += 1
        try:
            os.rename(name, f".{number}", src_dir_fd=source, dst_dir_fd=top)
        except (FileExistsError, NotADirectoryError, IsADirectoryError):
            continue
        except OSError as error:
            if error.errno != errno.ENOTEMPTY:
                raise
            continue
        return number


def _describe_too_many(folder: int, most: int) -> str:
    return f"{_path_of(folder)} holds more than {most:,} files, and is not gone through."


def _first_names(folder: int, most: int | None) -> list[str]:
    with os.scandir(folder) as entries:
        return [entry.name for entry in islice(entries, most)]


def _some_names(folder: int) -> list[str]:
    return _first_names(folder, _BATCH)


def _is_folder(folder: int, name: str) -> bool:
    return stat.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode)


# --- How ----------------------------------------------------------------------------------------


@contextlib.contextmanager
def _trusted(path: Path) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _open_at_once(folder: int, parts: list[str]) -> int:
    how = _OpenHow(_PIN, 0, _RESOLVE)
    path = os.fsencode("/".join(parts))
    size = ctypes.c_size_t(ctypes.sizeof(how))
    number = _libc.syscall(ctypes.c_long(_OPENAT2), folder, path, ctypes.byref(how), size)
    if number < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return int(number)


def _open_step_by_step(folder: int, parts: list[str]) -> int:
    """Do the same on a kernel without openat2: one component after another."""
    current = os.dup(folder)
    try:
        for name in parts[:-1]:
            inner = os.open(name, _PIN | os.O_DIRECTORY, dir_fd=current)
            os.close(current)
            current = inner
        return os.open(parts[-1], _PIN, dir_fd=current)
    finally:
        os.close(current)


_open_beneath: Callable[[int, list[str]], int] = _open_at_once


def _reopen(pinned: int, relative: str, flags: int) -> int:
    try:
        return os.open(_name_of(pinned), flags | _NEVER_WAIT)
    except OSError as error:
        raise _explained(error, relative) from None


def _name_of(descriptor: int) -> str:
    return f"/proc/self/fd/{descriptor}"


def _may_open(status: os.stat_result, flags: int) -> bool:
    """Whether a file's mode lets its owner open it. For another account's file this cannot be decided here."""
    if status.st_uid != os.geteuid():
        return True
    needed = {os.O_RDONLY: stat.S_IRUSR, os.O_WRONLY: stat.S_IWUSR}
    wanted = needed.get(flags & os.O_ACCMODE, _OF_OWNER)
    return status.st_mode & wanted == wanted


def _path_of(descriptor: int) -> str:
    with contextlib.suppress(OSError):
        return os.readlink(_name_of(descriptor))  # noqa: PTH115
    return "a folder"


def _require_kind(pinned: int, relative: str, kind: int) -> os.stat_result:
    status = os.fstat(pinned)
    found = stat.S_IFMT(status.st_mode)
    if found != kind:
        raise UntrustedFileError(
            f"{relative} is {_KINDS.get(found, 'nothing known')} where {_KINDS[kind]} belongs. {_CURE}"
        )
    return status


def _explained(error: OSError, relative: str) -> Exception:
    reason = _REASONS.get(error.errno or 0)
    if reason is None:
        return error
    # It is another account's, perhaps a person's own.
    cure = _GIVE if error.errno == errno.EACCES else _CURE
    return UntrustedFileError(f"{relative} {reason}. {cure}")


def _relative(path: Path, beneath: Path) -> str:
    """Return `path` relative to `beneath`, as text: neither is resolved."""
    text, top = str(path), f"{beneath}/"
    if text == str(beneath):
        return ""
    if not text.startswith(top):
        raise ValueError(f"{path} is not below {beneath}.")
    return text[len(top) :]


def _split(relative: str) -> list[str]:
    parts = relative.split("/")
    if any(part in ("", ".", "..") or "\0" in part for part in parts):
        raise UntrustedFileError(f"{relative!r} is not a path within a folder.")
    return parts
