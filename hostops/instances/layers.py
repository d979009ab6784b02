"""The layers of an instance: which they are, and whether this host can mount them.

From the top: the files that the server itself writes (upper), the files generated for it, its overlays in
order, the release. All but the upper layer are shared, and read-only to the game. Their files must not be
changed while a server that uses them runs: the kernel shows such changes partly or not at all. A change
is made in a new folder.
"""

import contextlib
import errno
import hashlib
import os
import stat
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hostops.callbacks import Callbacks
from hostops.errors import CommandError, HostError
from hostops.layout import HostLayout, InstanceLayout, find_code_dir
from hostops.linux import untrusted
from hostops.linux.files import make_dir, remove_tree, sync_dir
from hostops.linux.namespaces import LaunchError, make_options
from hostops.linux.process import minimal_environment, run
from hostops.specs import OverlayReference

LAUNCHER_PATH = find_code_dir() / "hostops" / "launcher.py"
LAUNCHER_COMMAND = (sys.executable, "-I", "-S", str(LAUNCHER_PATH))

_PROBE_SECONDS = 600  # No probe takes longer: an older folder is left from an interrupted one.
_OPAQUE = "user.overlay.opaque"
# Below /proc/sys: the switch, its values that forbid and allow user namespaces, and what forbids them.
_NAMESPACE_SWITCHES = (
    (
        "kernel/apparmor_restrict_unprivileged_userns",
        "1",
        "0",
        "AppArmor forbids user namespaces to programs without a profile",
    ),
    (
        "kernel/unprivileged_userns_clone",
        "0",
        "1",
        "The kernel forbids user namespaces to normal users",
    ),
    (
        "user/max_user_namespaces",
        "0",
        "15000",
        "The kernel allows no user namespaces at all",
    ),
)


@dataclass(frozen=True)
class Layering:
    """How instances get their files here: `overlay`, or `copy` with the reason and the cure."""

    kind: str
    detail: str = ""
    cure: str = ""

    @property
    def is_overlay(self) -> bool:
        """Whether layers are mounted, not copied."""
        return self.kind == "overlay"


def probe(root: Path) -> Layering:
    """Try the launcher's own mount on the root's file system, and return the result."""
    for leftover in root.glob(".probe-*"):
        with contextlib.suppress(FileNotFoundError):  # Another probe has just removed it.
            if time.time() - leftover.stat().st_mtime > _PROBE_SECONDS:
                remove_tree(leftover)
    folder = Path(tempfile.mkdtemp(prefix=".probe-", dir=root))
    said: list[str] = []
    try:
        for name in ("lower", "upper", "work", "merged"):
            (folder / name).mkdir()
        (folder / "lower" / "file").write_text("from the lower layer\n")
        run(
            [*LAUNCHER_COMMAND, "--probe", str(folder)],
            environment=minimal_environment(folder),
            on_line=lambda _, line: said.append(line),
        )
    except CommandError:
        failure = " ".join(said)
        return Layering("copy", failure, _find_cure(failure))
    finally:
        remove_tree(folder)
    return Layering("overlay")


def name_layer(files: Mapping[str, bytes]) -> str:
    """Return the digest that names the layer of exactly these files."""
    digest = hashlib.sha256()
    for path, content in sorted(files.items()):
        digest.update(
            f"{path}\0{len(content)}\0".encode(errors="surrogateescape") + content + b"\0"
        )
    return digest.hexdigest()[:16]


def generate_layer(layers_dir: Path, files: Mapping[str, bytes]) -> str:
    """Create the layer of exactly these files, by relative path, and return its digest.

    Only the game's own account can read the files, because some contain passwords.
    """
    name = name_layer(files)
    layer_dir = layers_dir / name
    if not layer_dir.is_dir():
        unfinished = make_dir(layers_dir) / f".{name}.new"
        remove_tree(unfinished)
        make_dir(unfinished)
        for path, content in files.items():
            make_dir((unfinished / path).parent)
            _write_synced(unfinished / path, content)
        for folder in {folder for path in files for folder in Path(path).parents}:
            sync_dir(unfinished / folder)
        unfinished.rename(layer_dir)
        sync_dir(layers_dir)
    return name


def prune_layers(layers_dir: Path, kept: Collection[str]) -> None:
    """Remove generated layers except `kept`, and unfinished ones. Nothing may be running."""
    for path in layers_dir.iterdir():
        if path.name not in kept:
            remove_tree(path)


def list_generated(layer_dir: Path) -> list[str]:
    """Return the relative paths of a generated layer's files."""
    return sorted(
        str(path.relative_to(layer_dir)) for path in layer_dir.rglob("*") if path.is_file()
    )


def lower_layers(
    layout: HostLayout,
    instance: InstanceLayout,
    layer: str,
    overlays: Iterable[str],
    release: str,
) -> list[Path]:
    """Return the read-only layers of an instance, top one first.

    Raises HostError if an overlay is not on this host. `overlays` are texts of `OverlayReference`.
    """
    return [
        instance.layers_dir / layer,
        *(require_overlay(layout, overlay, instance.name) for overlay in overlays),
        layout.releases_dir / release,
    ]


def require_overlay(layout: HostLayout, overlay: str, name: str) -> Path:
    """Return the folder of an overlay, or raise HostError saying which to create."""
    folder = layout.overlay_folder(overlay)
    reference = OverlayReference.parse(overlay)
    if not folder.is_dir() and reference.digest is not None:
        raise HostError(
            f"{name} needs the overlay {reference.label}, which is not laid out on this host: initialize it "
            "again, which fetches what is missing."
        )
    if not folder.is_dir():
        raise HostError(
            f"{name} needs the overlay {overlay}, which is not on this host: make the folder {folder} "
            "and put its files there, laid out as in the game's folder (left4dead2/addons/…)."
        )
    if not os.access(folder, os.R_OK | os.X_OK):
        raise HostError(
            f"{name} needs the overlay {reference.label}, and this account may not read its folder {folder}: "
            "give it the right to."
        )
    return folder


def try_layers(
    layout: HostLayout, instance: InstanceLayout, stack: Sequence[Path], overlays: Iterable[str]
) -> None:
    """Raise HostError if the kernel would refuse to mount these layers, which include `overlays`.

    If there are overlays, it tries the mount without an upper layer, in namespaces that end with the attempt:
    the kernel refuses layers if one is, or is inside, another. Nothing changes on the disk. Takes as long as
    starting a program.
    """
    lower = [str(path.relative_to(layout.root)) for path in stack]
    folders = [
        str(path.relative_to(layout.root)) for path in (instance.upper_dir, instance.work_dir)
    ]
    said: list[str] = []
    try:
        make_options(lower, *folders)
        if len(lower) > 2:  # Two are the generated layer, which may not exist yet, and the release.
            run(
                [*LAUNCHER_COMMAND, "--try", str(layout.root), *lower[1:]],
                environment=minimal_environment(layout.home_dir),
                on_line=lambda _, line: said.append(line),
            )
    except LaunchError as error:
        raise HostError(f"{instance.name} could not be started. {error}") from None
    except CommandError as error:
        names = "; ".join(OverlayReference.parse(one).label for one in overlays)
        raise HostError(
            f"{instance.name} could not be started: its overlays ({names}) cannot be laid over release "
            f"{stack[-1].name}. {' '.join(said)} Look whether one of their folders is a link to another."
        ) from error


MoveAside = Callable[[int, str, str, Callbacks], None]
"""Moves aside what is in a folder under a name; it is in the way of the file at a path."""


def uncover(
    upper_dir: Path,
    paths: Iterable[str],
    callbacks: Callbacks,
    move_aside: MoveAside | None = None,
) -> None:
    """Move aside whatever hides these files of a lower layer. The instance must not be running.

    The game may have written its own file in place of one of ours, or removed it or its folder, which
    overlayfs records as a whiteout (a 0:0 device) or an opaque folder. It may also have put a link or a
    FIFO there. What it wrote is kept beside it under a name with the time.
    """
    with untrusted.open_folder(upper_dir, upper_dir.parent, opens_up=True) as upper:
        for path in paths:
            _uncover_one(upper, path, callbacks, move_aside or _move_aside)


def _write_synced(path: Path, content: bytes) -> None:
    """Write a new file and sync it. The name of its layer, not its own, says that it is complete."""
    with open(path, "xb", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _uncover_one(upper: int, path: str, callbacks: Callbacks, move_aside: MoveAside) -> None:
    *folders, name = path.split("/")
    here = os.dup(upper)
    try:
        for folder in folders:
            if not _uncover_folder(here, folder, path, callbacks):
                return
            inner = untrusted.open_folder_at(here, folder, opens_up=True)
            os.close(here)
            here = inner
            make_transparent(here)
        move_aside(here, name, path, callbacks)
    finally:
        os.close(here)


def _uncover_folder(here: int, name: str, path: str, callbacks: Callbacks) -> bool:
    """Whether there is a folder; anything else in its place is moved aside."""
    try:
        if stat.S_ISDIR(untrusted.stat_at(here, name).st_mode):
            return True
    except FileNotFoundError:
        return False
    _move_aside(here, name, path, callbacks)
    return False


def _move_aside(here: int, name: str, path: str, callbacks: Callbacks) -> None:
    try:
        status = untrusted.stat_at(here, name)
    except FileNotFoundError:
        return
    if stat.S_ISCHR(status.st_mode):
        os.unlink(name, dir_fd=here)
        return
    saved = untrusted.save_aside(here, name, time.strftime("%Y%m%d-%H%M%S"))
    callbacks.warn(
        f"The server had its own {path}; the configured one takes its place. "
        f"The old one is kept as {saved}."
    )


def make_transparent(folder: int) -> None:
    """Let the layers below be seen in a folder of an upper layer."""
    try:
        os.removexattr(folder, _OPAQUE)
    except OSError as error:
        if error.errno not in (errno.ENODATA, errno.EOPNOTSUPP):
            raise


def _find_cure(failure: str) -> str:
    for name, forbidding, allowing, who in _NAMESPACE_SWITCHES:
        with contextlib.suppress(FileNotFoundError):
            if Path("/proc/sys", name).read_text().strip() == forbidding:
                setting = f"{name.replace('/', '.')}={allowing}"
                return f"{who}. Allow them: sysctl {setting} (and in /etc/sysctl.d to keep it)."
    if failure.startswith("Mounting the overlay"):
        return (
            "Linux 5.11 or newer is needed, with its overlay module, and HOST_ROOT on a file system that can "
            "carry an upper layer: ext4, XFS or btrfs, not NFS and not a container's own root (use a volume)."
        )
    return (
        "Something forbids user namespaces to this user: a container's seccomp profile, or systemd's "
        "RestrictNamespaces. Allow the user and mount namespaces there."
    )
