"""Mounts by file descriptor: open_tree(2), mount_setattr(2) and move_mount(2), which Debian 12's C library
lacks.

The numbers are those of Linux 5.12, the same on every architecture
(include/uapi/asm-generic/unistd.h, include/uapi/linux/mount.h).
"""

import ctypes
import os

from hostops.linux.namespaces import call, libc

_OPEN_TREE = 428
_MOVE_MOUNT = 429
_MOUNT_SETATTR = 442

_AT_FDCWD = -100
_AT_EMPTY_PATH = 0x1000
_AT_RECURSIVE = 0x8000
_OPEN_TREE_CLONE = 1
_MOVE_MOUNT_F_EMPTY_PATH = 4
_MNT_DETACH = 2

READ_ONLY = 1
NO_SUID = 2
NO_DEVICES = 4
NO_EXEC = 8
"""MOUNT_ATTR_*; for tmpfs and proc these are also the flags of mount(2)."""


class _Attributes(ctypes.Structure):
    """struct mount_attr."""

    _fields_ = [
        ("attr_set", ctypes.c_uint64),
        ("attr_clr", ctypes.c_uint64),
        ("propagation", ctypes.c_uint64),
        ("userns_fd", ctypes.c_uint64),
    ]


def clone_tree(path: str, attributes: int) -> int:
    """Return a descriptor for a copy of the mounts at and below `path`, with these restrictions added.

    Recursive, because the kernel refuses (EINVAL) to uncover what a mount from outside covers.
    """
    tree = call(
        f"opening {path}",
        libc.syscall,
        _OPEN_TREE,
        _AT_FDCWD,
        os.fsencode(path),
        _OPEN_TREE_CLONE | os.O_CLOEXEC | _AT_RECURSIVE,
    )
    restrict(tree, path, attributes, recursive=True)
    return tree


def restrict(tree: int, path: str, attributes: int, *, recursive: bool = False) -> None:
    """Add restrictions to a mount; `path` is for error messages."""
    setting = _Attributes(attr_set=attributes)
    call(
        f"restricting the mount of {path}",
        libc.syscall,
        _MOUNT_SETATTR,
        tree,
        b"",
        _AT_EMPTY_PATH | (_AT_RECURSIVE if recursive else 0),
        ctypes.byref(setting),
        ctypes.c_size_t(ctypes.sizeof(setting)),
    )


def attach(tree: int, path: str) -> None:
    """Mount a copied tree at `path` and close its descriptor."""
    call(
        f"mounting {path}",
        libc.syscall,
        _MOVE_MOUNT,
        tree,
        b"",
        _AT_FDCWD,
        os.fsencode(path),
        _MOVE_MOUNT_F_EMPTY_PATH,
    )
    os.close(tree)


def mount_tmpfs(path: str, size_bytes: int, mode: str = "755") -> None:
    """Mount an empty in-memory file system of at most this size at `path`."""
    options = f"size={size_bytes},nr_inodes=65536,mode={mode}".encode()
    call(
        f"mounting memory at {path}",
        libc.mount,
        b"tmpfs",
        os.fsencode(path),
        b"tmpfs",
        NO_SUID | NO_DEVICES,
        options,
    )


def mount_proc(path: str) -> bool:
    """Mount a read-only /proc for this PID namespace; return False if the kernel refuses.

    It refuses if the existing /proc is partly covered, as in containers and hardened units, or if this
    PID namespace belongs to another user namespace.
    """
    flags = READ_ONLY | NO_SUID | NO_DEVICES | NO_EXEC
    mounted: int = libc.mount(b"proc", os.fsencode(path), b"proc", flags, None)
    return mounted == 0


def leave_old_root() -> None:
    """Make the working directory, which must be a mount's root, the root, and unmount the old one."""
    # As pivot_root(2) describes: the old root ends up on top of the new one, and is then unmounted.
    call("changing the root", libc.pivot_root, b".", b".")
    call("unmounting the old root", libc.umount2, b".", _MNT_DETACH)
