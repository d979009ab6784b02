"""Landlock, the second wall around the files: its rules hold even where a mount would allow access.

The numbers are from include/uapi/linux/landlock.h and include/uapi/asm-generic/unistd.h.
"""

import ctypes
import os

from hostops.box.root import DEVICES, Root
from hostops.box.wall import Wall
from hostops.linux.namespaces import call, libc

_CREATE_RULESET = 444
_ADD_RULE = 445
_RESTRICT_SELF = 446
_CREATE_RULESET_VERSION = 1
_RULE_PATH_BENEATH = 1

_EXECUTE = 1 << 0
_WRITE_FILE = 1 << 1
_READ_FILE = 1 << 2
_READ_DIR = 1 << 3
_MAKE_CHAR = 1 << 6
_MAKE_REG = 1 << 8
_MAKE_BLOCK = 1 << 11
_TRUNCATE = 1 << 14
_IOCTL_DEV = 1 << 15
# All rights known to each version of the interface: a kernel refuses rights it does not know.
_RIGHTS = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 4: (1 << 15) - 1, 5: (1 << 16) - 1}
_READING = _EXECUTE | _READ_FILE | _READ_DIR
_OF_DEVICES = _READ_FILE | _WRITE_FILE | _TRUNCATE | _IOCTL_DEV

_OLDEST_VERSION = 2
_SCOPES_VERSION = 6
_SCOPE_ABSTRACT_SOCKETS = 1 << 0
_SCOPE_SIGNALS = 1 << 1

_NAME = "Landlock"


class _Ruleset(ctypes.Structure):
    """struct landlock_ruleset_attr. Older kernels take the beginning, and the rest if it is 0."""

    _fields_ = [
        ("handled_access_fs", ctypes.c_uint64),
        ("handled_access_net", ctypes.c_uint64),
        ("scoped", ctypes.c_uint64),
    ]


class _PathBeneath(ctypes.Structure):
    """struct landlock_path_beneath_attr."""

    _pack_ = 1
    _fields_ = [("allowed_access", ctypes.c_uint64), ("parent_fd", ctypes.c_int32)]


def look() -> Wall:
    """Report what this kernel's Landlock can do, without applying it."""
    version = _version()
    if version >= _SCOPES_VERSION:
        return Wall(_NAME, stands=True)
    if version < 1:
        return Wall(
            _NAME,
            False,
            "This kernel has none, or it is not switched on.",
            "Linux 5.19 or newer with landlock in the boot parameter lsm=.",
        )
    if version < _OLDEST_VERSION:
        return Wall(
            _NAME,
            False,
            "This kernel's first version of it forbids to move a file to another folder, which games do.",
            "Linux 5.19 or newer.",
        )
    return Wall(
        _NAME,
        False,
        f"Version {version} holds for files, but abstract sockets of this host can be reached.",
        "Linux 6.12 or newer.",
    )


def restrict_files(root: Root) -> None:
    """Restrict writing, for this process and its children, to the box's writable folders. Irrevocable.

    Call it in the box, after entering its root, with no_new_privs set. Does nothing if `look` finds no
    usable version. Raises LaunchError.
    """
    version = _version()
    if version < _OLDEST_VERSION:
        return
    rights = _RIGHTS[min(version, max(_RIGHTS))]
    ruleset = _make_rules(version, rights)
    _allow(ruleset, "/", _READING)
    for name in DEVICES:
        _allow(ruleset, f"/dev/{name}", _OF_DEVICES & rights)
    for folder in root.writable_dirs:
        _allow(ruleset, folder, rights & ~(_MAKE_CHAR | _MAKE_BLOCK | _IOCTL_DEV))
    _apply(ruleset)


def allow_new_files_only(folder: int) -> None:
    """From now on, let this process open only files that it creates in an open folder. Irrevocable.

    Descriptors that are already open stay usable. Call it with no_new_privs set. Does nothing if the kernel
    has no Landlock. Raises LaunchError.
    """
    version = _version()
    if version < 1:
        return
    ruleset = _make_rules(version, _RIGHTS[min(version, max(_RIGHTS))])
    _allow(ruleset, f"/proc/self/fd/{folder}", _MAKE_REG | _WRITE_FILE)
    _apply(ruleset)


def _make_rules(version: int, rights: int) -> int:
    """Return a descriptor of rules that refuse all of `rights` and everything that reaches other processes."""
    scopes = _SCOPE_ABSTRACT_SOCKETS | _SCOPE_SIGNALS if version >= _SCOPES_VERSION else 0
    attributes = _Ruleset(handled_access_fs=rights, scoped=scopes)
    return call(
        "making Landlock's rules",
        libc.syscall,
        _CREATE_RULESET,
        ctypes.byref(attributes),
        ctypes.c_size_t(ctypes.sizeof(attributes)),
        0,
    )


def _apply(ruleset: int) -> None:
    call("applying Landlock's rules", libc.syscall, _RESTRICT_SELF, ruleset, 0)
    os.close(ruleset)


def _version() -> int:
    """Return the version of the kernel's interface, or a negative number without one."""
    version: int = libc.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), _CREATE_RULESET_VERSION)
    return version


def _allow(ruleset: int, path: str, rights: int) -> None:
    target = os.open(path, os.O_PATH | os.O_CLOEXEC)
    rule = _PathBeneath(allowed_access=rights, parent_fd=target)
    call(
        f"adding {path} to Landlock's rules",
        libc.syscall,
        _ADD_RULE,
        ruleset,
        _RULE_PATH_BENEATH,
        ctypes.byref(rule),
        0,
    )
    os.close(target)
