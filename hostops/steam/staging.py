"""Where SteamCMD works: in a plain folder, or in an overlay over the release that it updates.

An overlaid update costs only what it changes. SteamCMD sees the whole release at `staging/merged` and
writes to `staging/upper`, so it cannot change any installed file, whatever it does. When it is done, the
folder is marked as finished: nothing writes there from then on, and the new release is assembled from hard
links to the old release's files and to the changed ones.
"""

import errno
import filecmp
import os
import stat
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from hostops.instances import releases
from hostops.layout import HostLayout
from hostops.linux.files import make_dir, remove_tree, sync_dir, write_atomically
from hostops.specs import CancelToken

UPDATE_MOUNT_COMMAND = (
    sys.executable,
    "-I",
    "-S",
    str(Path(__file__).resolve().with_name("update_mount.py")),
)

STEAM_DIR_NAME = "steamapps"
"""The folder of Steam's own notes; all other files are the game."""

_OPAQUE = "user.overlay.opaque"
_OVERLAY_PREFIX = "user.overlay."


class InstallFolder(Protocol):
    """A folder that SteamCMD installs to, and its content as seen from outside."""

    @property
    def install_dir(self) -> Path:
        """The folder that SteamCMD is told to install to."""

    def command(self, argv: Sequence[str]) -> list[str]:
        """Return the command that runs `argv` where `install_dir` is visible."""

    def find(self, path: str) -> Path | None:
        """Return the path for reading the file at a relative path, or None if there is none."""


@dataclass(frozen=True)
class PlainFolder:
    """An ordinary folder."""

    install_dir: Path

    def command(self, argv: Sequence[str]) -> list[str]:
        """Return `argv` unchanged."""
        return list(argv)

    def find(self, path: str) -> Path | None:
        """Return the file in the folder."""
        file = self.install_dir / path
        return file if file.is_file() else None


@dataclass(frozen=True)
class OverlaidRelease:
    """The staging folder as an overlay over the release `base`."""

    layout: HostLayout
    base: str

    @property
    def install_dir(self) -> Path:
        """Where SteamCMD, and only SteamCMD, sees the release with its changes."""
        return self.layout.staging_dir / "merged"

    @property
    def base_dir(self) -> Path:
        """The release at the bottom."""
        return self.layout.releases_dir / self.base

    @property
    def upper_dir(self) -> Path:
        """The files that SteamCMD has written."""
        return self.layout.staging_dir / "upper"

    @property
    def finished_build(self) -> str | None:
        """The build that is ready to become a release. If set, nothing may write to the upper layer."""
        try:
            return self._finished_path.read_text().strip() or None
        except FileNotFoundError:
            return None

    @property
    def _finished_path(self) -> Path:
        return self.layout.staging_dir / "finished"

    def command(self, argv: Sequence[str]) -> list[str]:
        """Return the command that mounts the overlay for itself and then becomes `argv`."""
        return [*UPDATE_MOUNT_COMMAND, str(self.layout.root), self.base, *argv]

    def find(self, path: str) -> Path | None:
        """Return the file from the topmost layer that has it."""
        here = self.upper_dir
        for part in Path(path).parts:
            here /= part
            try:
                mode = here.lstat().st_mode
            except FileNotFoundError:
                below = self.base_dir / path
                return below if below.is_file() else None
            if not stat.S_ISDIR(mode) or _is_opaque(here):
                break
        above = self.upper_dir / path
        return above if above.is_file() else None

    def mark_finished(self, build_id: str) -> None:
        """Record that the upper layer is complete and must not change from now on."""
        # SteamCMD's files have to be on disk before this record is.
        os.sync()
        write_atomically(self._finished_path, f"{build_id}\n")


def open_overlaid(layout: HostLayout) -> OverlaidRelease | None:
    """Return the existing overlaid staging folder; None if it is of another kind, or there is none."""
    try:
        base = (layout.staging_dir / "base").readlink().name
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.EINVAL):
            return None
        raise
    return OverlaidRelease(layout, base)


def begin_overlaid(layout: HostLayout, base: str) -> OverlaidRelease:
    """Create a staging folder over the release `base`; it appears by one rename."""
    beginning = layout.root / ".staging.new"
    remove_tree(beginning)
    for name in ("upper", "work", "merged"):
        make_dir(beginning / name)
    (beginning / "base").symlink_to(f"../releases/{base}")
    # The root of the new release gets its mode from here.
    (beginning / "upper").chmod(stat.S_IMODE((layout.releases_dir / base).stat().st_mode))
    beginning.rename(layout.staging_dir)
    sync_dir(layout.root)
    return OverlaidRelease(layout, base)


def discard(layout: HostLayout) -> None:
    """Remove the staging folder, after moving it out of the way by one rename.

    Its files may be linked into a release by now, so the leftovers of a crash must not be taken for an update
    to resume.
    """
    doomed = layout.root / ".staging.done"
    remove_tree(doomed)
    if layout.staging_dir.is_dir():
        layout.staging_dir.rename(doomed)
        sync_dir(layout.root)
    remove_tree(doomed)


@dataclass
class Assembly:
    """Assembles a release at `target` from a finished overlay; `changed` are the files that differ."""

    source: OverlaidRelease
    target: Path
    cancel: CancelToken
    changed: list[str] = field(default_factory=list)

    @property
    def changed_game_files(self) -> list[str]:
        """The changed files except Steam's own notes."""
        return [path for path in self.changed if Path(path).parts[0] != STEAM_DIR_NAME]

    def build(self) -> None:
        """Link every file of the merged tree into `target`, which must not exist.

        A file that was rewritten with the same contents is taken from the old release.
        """
        self._merge(Path(), has_base=True, has_upper=True)

    def _merge(self, inside: Path, *, has_base: bool, has_upper: bool) -> None:
        base, upper = self.source.base_dir / inside, self.source.upper_dir / inside
        folder = self.target / inside
        folder.mkdir()
        below = set(os.listdir(base)) if has_base else set()  # noqa: PTH208 - names only
        above = set(os.listdir(upper)) if has_upper else set()  # noqa: PTH208
        for name in sorted(below | above):
            self.cancel.raise_if_cancelled()
            self._take(inside / name, in_base=name in below, in_upper=name in above)
        folder.chmod(stat.S_IMODE((upper if has_upper else base).stat().st_mode))

    def _take(self, path: Path, *, in_base: bool, in_upper: bool) -> None:
        base, upper = self.source.base_dir / path, self.source.upper_dir / path
        base_mode = base.lstat().st_mode if in_base else 0
        if not in_upper:
            if stat.S_ISDIR(base_mode):
                self._merge(path, has_base=True, has_upper=False)
            else:
                os.link(base, self.target / path, follow_symlinks=False)
            return
        upper_status = upper.lstat()
        if stat.S_ISDIR(upper_status.st_mode):
            shines_through = stat.S_ISDIR(base_mode) and not _is_opaque(upper)
            self._merge(path, has_base=shines_through, has_upper=True)
        elif stat.S_ISCHR(upper_status.st_mode) and upper_status.st_rdev == 0:
            self.changed.append(str(path))  # a whiteout: the file is gone
        elif in_base and _is_same(base, upper):
            os.link(base, self.target / path, follow_symlinks=False)
        else:
            self.changed.append(str(path))
            _forget_overlay(upper)
            os.link(upper, self.target / path, follow_symlinks=False)


def check_overlaid(layout: HostLayout, staging: OverlaidRelease) -> bool:
    """Whether the release under a staging folder still exists to be updated."""
    return releases.is_whole(layout.releases_dir / staging.base)


def _is_same(one: Path, other: Path) -> bool:
    mode = one.lstat().st_mode
    if mode != other.lstat().st_mode:
        return False
    if stat.S_ISLNK(mode):
        return one.readlink() == other.readlink()
    return stat.S_ISREG(mode) and filecmp.cmp(one, other, shallow=False)


def _is_opaque(folder: Path) -> bool:
    """Whether overlayfs hides what is below this folder of an upper layer."""
    try:
        return os.getxattr(folder, _OPAQUE) == b"y"
    except OSError as error:
        if error.errno in (errno.ENODATA, errno.EOPNOTSUPP):
            return False
        raise


def _forget_overlay(file: Path) -> None:
    """Remove overlayfs's notes from a file: they mean nothing in the lower layer that it becomes part of."""
    for name in os.listxattr(file, follow_symlinks=False):
        if name.startswith(_OVERLAY_PREFIX):
            os.removexattr(file, name, follow_symlinks=False)
