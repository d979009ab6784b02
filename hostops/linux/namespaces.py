"""Mounts an overlay that only this process and its children see, without root and without leaving anything
behind.

For small programs that then become another program: the launchers of game servers and of updates. They use
only the standard library, and little of it, because one runs at every start of a server.
"""

from __future__ import annotations

# Without pathlib, whose import would take a quarter of the start-up time:
# ruff: noqa: PTH112, PTH123
import ctypes
import errno
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any  # it takes 2 ms to import

EXIT_FAILED = 71

# linux/sched.h, linux/mount.h, linux/prctl.h, linux/capability.h
_CLONE_NEWNS = 0x00020000
_CLONE_NEWUSER = 0x10000000
_MS_RDONLY = 0x1
_MS_NOSUID = 0x2
_MS_NODEV = 0x4
_MS_NOEXEC = 0x8
_MS_REMOUNT = 0x20
_MS_NOATIME = 0x400
_MS_NODIRATIME = 0x800
_MS_BIND = 0x1000
_MS_REC = 0x4000
_MS_PRIVATE = 0x40000
_MS_RELATIME = 0x200000
_ST_RELATIME = 0x1000  # statvfs(3); its other flags have the numbers of mount(2)
_PR_CAPBSET_READ = 23
_PR_CAPBSET_DROP = 24
_PR_SET_NO_NEW_PRIVS = 38
_CAPABILITY_VERSION_3 = 0x20080522
_CAPABILITIES = 64
_MAX_OPTION_BYTES = 4095  # mount(2) takes one page, with the NUL

libc = ctypes.CDLL(None, use_errno=True)


class LaunchError(Exception):
    """The launch failed; the text is for people."""

    def __init__(self, text: str, exit_code: int = EXIT_FAILED) -> None:
        super().__init__(text)
        self.exit_code = exit_code


def enter_namespaces() -> None:
    """Move to a user namespace where we keep our identity, and to a private mount namespace."""
    _enter_user_namespace("making a user and a mount namespace", _CLONE_NEWUSER | _CLONE_NEWNS)
    make_mounts_private()


def enter_user_namespace() -> None:
    """Move to a user namespace where we keep our identity, with every capability over what we create there."""
    _enter_user_namespace("making a user namespace", _CLONE_NEWUSER)


def enter_mount_namespace() -> None:
    """Move to a private mount namespace. Needs the capabilities of a user namespace."""
    call("making a mount namespace", libc.unshare, _CLONE_NEWNS)
    make_mounts_private()


def make_mounts_private() -> None:
    """Isolate the mounts of this namespace from those outside, in both directions."""
    call("making mounts private", libc.mount, b"none", b"/", None, _MS_REC | _MS_PRIVATE, None)


def _enter_user_namespace(what: str, flags: int) -> None:
    uid, gid = os.geteuid(), os.getegid()
    try:
        call(what, libc.unshare, flags)
    except LaunchError as error:
        if ctypes.get_errno() != errno.ENOSPC:
            raise
        # The kernel says "No space left on device", but means the number of namespaces.
        raise LaunchError(f"{what[0].upper()}{what[1:]} failed: no more are allowed.") from error
    for path, text in (
        ("/proc/self/setgroups", "deny"),
        ("/proc/self/uid_map", f"{uid} {uid} 1"),
        ("/proc/self/gid_map", f"{gid} {gid} 1"),
    ):
        try:
            with open(path, "w", encoding="utf-8") as file:
                file.write(text)
        except OSError as error:
            raise LaunchError(f"Writing {path} failed: {error.strerror}.") from error


def mount_overlay(
    lower: list[str], upper: str, work: str, merged: str, name: str = "overlay"
) -> None:
    """Mount an overlay, the first of `lower` on top. Paths are relative to the working directory.

    `name` is the source shown in /proc/PID/mounts. Relative paths keep the options short, and free of the
    colons and commas that the root's path may have.
    """
    _mount_overlay(make_options(lower, upper, work), (*lower, upper, work, merged), name)


def mount_layers(lower: list[str], merged: str) -> None:
    """Mount at least two layers, read-only, over the folder `merged`, whatever it contains."""
    _mount_overlay(f"lowerdir={':'.join(lower)},userxattr".encode(), (*lower, merged), "overlay")


def make_options(lower: list[str], upper: str, work: str) -> bytes:
    """Return an overlay's mount options; raise LaunchError if they are longer than the kernel accepts."""
    options = (
        f"lowerdir={':'.join(lower)},upperdir={upper},workdir={work},userxattr,index=off".encode()
    )
    if len(options) > _MAX_OPTION_BYTES:
        raise LaunchError(
            f"The names of the {len(lower)} layers take {len(options)} bytes, and the kernel takes "
            f"{_MAX_OPTION_BYTES}: use fewer overlays, or shorter names."
        )
    return options


def _mount_overlay(options: bytes, folders: tuple[str, ...], name: str) -> None:
    """Mount at the last of `folders`. All of them must exist."""
    for folder in folders:
        if not os.path.isdir(folder):
            raise LaunchError(f"The folder {folder} is missing.")
    flags = _MS_NOSUID | _MS_NODEV
    call(
        "mounting the overlay",
        libc.mount,
        name.encode(),
        folders[-1].encode(),
        b"overlay",
        flags,
        options,
    )


def make_read_only(folder: str) -> None:
    """Let nothing in this mount namespace change the folder. Mounts below it stay as they are.

    Files that are already open can still be written to.
    """
    mount, path = libc.mount, folder.encode()
    call("binding the folder", mount, path, path, None, _MS_BIND | _MS_REC, None)
    # The owner of a user namespace may not lift restrictions that the mount already has.
    state = os.statvfs(folder).f_flag
    kept = state & (_MS_NOSUID | _MS_NODEV | _MS_NOEXEC | _MS_NOATIME | _MS_NODIRATIME)
    if state & _ST_RELATIME:
        kept |= _MS_RELATIME
    flags = _MS_REMOUNT | _MS_BIND | _MS_RDONLY | kept
    call("making the folder read-only", mount, None, path, None, flags, None)


def drop_privileges() -> None:
    """Give up every capability permanently, including those that a user namespace's owner would get by exec."""
    for capability in range(_CAPABILITIES):
        if libc.prctl(_PR_CAPBSET_READ, capability, 0, 0, 0) == 1 and (
            libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0) != 0
        ):
            if ctypes.get_errno() != errno.EPERM:
                raise LaunchError(f"Dropping capability {capability} failed.")
            break  # Without CAP_SETPCAP there is nothing to drop, and the next lines prevent gaining any.
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    call("dropping capabilities", libc.capset, header, (ctypes.c_uint32 * 6)())
    call("forbidding new privileges", libc.prctl, _PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)


def call(what: str, function: Any, *arguments: Any) -> int:
    """Call a C library function and return its result; raise LaunchError if that is negative."""
    result: int = function(*arguments)
    if result < 0:
        number = ctypes.get_errno()
        name = errno.errorcode.get(number, str(number))
        raise LaunchError(f"{what[0].upper()}{what[1:]} failed: {os.strerror(number)} ({name}).")
    return result
