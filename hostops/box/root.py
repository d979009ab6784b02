"""The files of the box: it has its own root, which contains only what is listed here.

The list names what is visible, not what is hidden: hiding left /etc, /var/lib and every folder that nobody
thought of readable. A path in the box is either the host's own or missing. A path written down outside (a
folder, an interpreter) therefore means the same inside.
"""

from __future__ import annotations

# Without pathlib, like everything the launcher imports:
# ruff: noqa: PTH101, PTH102, PTH103, PTH104, PTH108, PTH110, PTH112, PTH114, PTH115, PTH120, PTH123, PTH211
import os
import stat
import time

from hostops.box.mounts import (
    NO_DEVICES,
    NO_EXEC,
    NO_SUID,
    READ_ONLY,
    attach,
    clone_tree,
    leave_old_root,
    mount_proc,
    mount_tmpfs,
    restrict,
)
from hostops.box.small_etc import read_small_etc
from hostops.box.wall import OWN_ROOT, Wall
from hostops.linux.namespaces import LaunchError, enter_mount_namespace, libc

_CLONE_NEWIPC = 0x08000000  # linux/sched.h
_SYSTEM = ("/usr", "/lib", "/lib32", "/lib64", "/libx32", "/bin", "/sbin")
# Not /etc/ssl itself: root can read its private keys, and a game started by root is root too.
_CERTIFICATES = ("/etc/ssl/certs", "/etc/pki/tls/certs", "/etc/pki/ca-trust/extracted")
DEVICES = ("null", "zero", "full", "random", "urandom")
_DEVICE_LINKS = {
    "fd": "/proc/self/fd",
    "stdin": "/proc/self/fd/0",
    "stdout": "/proc/self/fd/1",
    "stderr": "/proc/self/fd/2",
}
_STAGE_BYTES = 16 << 20


class Root:
    """The contents of a box besides the system. All paths are absolute.

    game_dir     the instance's tree, or its mounted overlay: the game's working directory, writable
    home_dir     its HOME, writable: a folder that belongs to the instance
    read_only    more files and folders; a link's target appears under both names
    hidden       folders that must stay invisible even if a parent is visible: the host's root, the panel's
    steamclient  Valve's steamclient.so, or "" if there is none; it appears as ~/.steam/sdk32/steamclient.so
    """

    def __init__(
        self,
        game_dir: str,
        home_dir: str,
        read_only: tuple[str, ...] = (),
        hidden: tuple[str, ...] = (),
        steamclient: str = "",
        *,
        tmp_bytes: int = 1 << 30,
        shm_bytes: int = 256 << 20,
    ) -> None:
        self.game_dir = game_dir
        self.home_dir = home_dir
        self.read_only = read_only
        self.hidden = hidden
        self.steamclient = steamclient
        self.tmp_bytes = tmp_bytes
        self.shm_bytes = shm_bytes

    @property
    def writable_dirs(self) -> tuple[str, ...]:
        """Return every folder that the game may write to."""
        return (self.game_dir, self.home_dir, "/tmp", "/dev/shm")  # noqa: S108 - they are its own


def leave_mounts() -> Wall:
    """Move to a private mount namespace and, if allowed, a private one for System V and POSIX queues.

    Needs the capabilities of a user namespace. Later mounts are visible only here.
    """
    enter_mount_namespace()
    name = "Own shared memory and message queues"
    if libc.unshare(_CLONE_NEWIPC) == 0:
        return Wall(name, stands=True)
    return Wall(
        name,
        False,
        "IPC namespaces are refused here: the game shares System V memory and POSIX queues with this "
        "account's programs.",
        "Allow them: RestrictNamespaces=user mnt pid ipc in the unit, or the container's seccomp profile.",
    )


def enter_root(root: Root) -> tuple[Wall, ...]:
    """Build the root of the box and move into it, with the working directory; return which walls stand.

    Call it after `leave_mounts` and after mounting the overlay, with their capabilities, which the caller
    drops later. Afterwards nothing of the old root is mounted in this namespace: only open descriptors lead
    there. As it ends with a chroot, no user namespaces can be made from then on. Raises LaunchError.
    """
    try:
        shown = _clone_sources(root)
        steamclient = (
            clone_tree(os.path.realpath(root.steamclient), READ_ONLY | NO_SUID | NO_DEVICES)
            if root.steamclient
            else None
        )
        files = read_small_etc(root.home_dir)
        # The game's folder is sure to exist, and its contents, covered by this mount, are copied already.
        mount_tmpfs(root.game_dir, _STAGE_BYTES)
        os.chdir(root.game_dir)
        os.mkdir("root", 0o755)
        wall = _furnish("root", root, shown, files)
        leave_old_root()
        stage = _open_folder(".")
        restrict(stage, "the root", READ_ONLY)
        os.close(stage)
        os.chdir("root")
        os.chroot(".")
        if steamclient is not None:
            # Not earlier: the game may have left links in its home, but here they cannot lead outside.
            _attach_steamclient(steamclient, root.home_dir)
        os.chdir(root.game_dir)
    except OSError as error:
        raise LaunchError(
            f"Making the game's own root failed at {error.filename or 'a mount'}: {error.strerror}."
        ) from error
    return (Wall(OWN_ROOT, stands=True), wall)


class _Shown:
    """A copied mount and its path in the box."""

    def __init__(self, path: str, tree: int, *, is_folder: bool) -> None:
        self.path = path
        self.tree = tree
        self.is_folder = is_folder


def _clone_sources(root: Root) -> list[_Shown]:
    """Copy all mounts that belong in the box, in the order in which they will be attached."""
    fixed = READ_ONLY | NO_SUID | NO_DEVICES
    shown: list[_Shown] = []

    def show(path: str, attributes: int, source: str = "") -> None:
        source = source or path
        tree = clone_tree(source, attributes)
        shown.append(_Shown(path, tree, is_folder=os.path.isdir(source)))

    for path in _SYSTEM:
        if os.path.isdir(path) and not os.path.islink(path):
            show(path, fixed)
    for path in _CERTIFICATES:
        if os.path.isdir(path):
            show(path, fixed, os.path.realpath(path))
    for name in DEVICES:
        show(f"/dev/{name}", NO_SUID | NO_EXEC)
    show("/proc", fixed | NO_EXEC)
    names = {_both_names(path): os.path.realpath(path) for path in root.read_only}
    # A folder comes before its contents, because mounting it would cover them.
    for name, source in sorted((name, source) for both, source in names.items() for name in both):
        if not _is_within(name, _SYSTEM) or _is_within(name, root.hidden):
            show(name, fixed, source)
    show(root.home_dir, NO_SUID | NO_DEVICES)
    show(root.game_dir, NO_SUID | NO_DEVICES)
    return shown


def _furnish(top: str, root: Root, shown: list[_Shown], files: dict[str, bytes]) -> Wall:
    """Put everything in its place below `top`; return the wall that says if the game has its own /proc."""
    for path in _SYSTEM:
        if os.path.islink(path):
            os.symlink(os.readlink(path), f"{top}{path}")
    for name, content in files.items():
        _write(f"{top}/etc/{name}", content)
    for folder, size in (("/tmp", root.tmp_bytes), ("/dev/shm", root.shm_bytes)):  # noqa: S108
        os.makedirs(f"{top}{folder}", 0o755)
        mount_tmpfs(f"{top}{folder}", size, "1777")
    for name, target in _DEVICE_LINKS.items():
        os.symlink(target, f"{top}/dev/{name}")
    hidden = dict.fromkeys(name for path in root.hidden for name in _both_names(path))
    has_own_proc = False
    masks: list[tuple[str, int]] = []
    for mount in shown:
        _make_mount_point(f"{top}{mount.path}", mount.is_folder)
        if mount.path == "/proc" and (has_own_proc := mount_proc(f"{top}/proc")):
            os.close(mount.tree)
        else:
            attach(mount.tree, f"{top}{mount.path}")
        for path in hidden:
            mask = f"{top}{path}"
            if _is_within(path, (mount.path,)) and os.path.isdir(mask):
                mount_tmpfs(mask, _STAGE_BYTES)
                masks.append((mask, _open_folder(mask)))
    # Only now, because mounts inside them first needed their mount points.
    for mask, descriptor in masks:
        restrict(descriptor, mask, READ_ONLY)
        os.close(descriptor)
    name = "Other processes out of sight"
    if has_own_proc:
        return Wall(name, stands=True)
    return Wall(
        name,
        False,
        "The kernel allows no /proc of the game's own: it sees which processes run on this host, with "
        "their command lines, but can neither signal nor read them.",
        "It takes a PID namespace, and a /proc of which no part is covered (containers cover parts).",
    )


def _open_folder(path: str) -> int:
    return os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)


def _both_names(path: str) -> tuple[str, ...]:
    """Return the path, and the one it resolves to if it has links."""
    return tuple(dict.fromkeys((os.path.normpath(path), os.path.realpath(path))))


def _is_within(path: str, folders: tuple[str, ...]) -> bool:
    return any(path == folder or path.startswith(f"{folder}/") for folder in folders)


def _make_mount_point(path: str, is_folder: bool) -> None:
    """Create the mount point for a folder or a file, unless it exists."""
    if os.path.exists(path):
        return
    os.makedirs(path if is_folder else os.path.dirname(path), 0o755, exist_ok=True)
    if not is_folder:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644))


def _write(path: str, content: bytes) -> None:
    os.makedirs(os.path.dirname(path), 0o755, exist_ok=True)
    with open(path, "xb") as file:
        file.write(content)


def _attach_steamclient(tree: int, home_dir: str) -> None:
    """Mount Valve's library where srcds looks for it. This runs inside the box; the home is the game's."""
    folder = home_dir
    for name in (".steam", "sdk32"):
        folder = f"{folder}/{name}"
        _clear_place(folder, stat.S_IFDIR)
        os.makedirs(folder, 0o755, exist_ok=True)
        os.chmod(folder, stat.S_IRWXU)
    path = f"{folder}/steamclient.so"
    _clear_place(path, stat.S_IFREG)
    if not os.path.lexists(path):
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644))
    attach(tree, path)


def _clear_place(path: str, kind: int) -> None:
    """Move aside whatever the game left at `path`, unless it is of the right kind.

    Never open it: a FIFO would block the launch forever.
    """
    if not os.path.lexists(path) or stat.S_IFMT(os.lstat(path).st_mode) == kind:
        return
    if os.path.isdir(path) and not os.path.islink(path):
        os.rename(path, f"{path}.saved-{time.time_ns()}")
    else:
        os.unlink(path)
