"""The installed builds of the game: which is current, switching to another, removing old ones."""

import os
from collections.abc import Iterable
from pathlib import Path

from hostops.callbacks import Callbacks
from hostops.errors import HostError
from hostops.instances import runs
from hostops.layout import HostLayout
from hostops.linux.files import exchange, remove_tree, switch_symlink, sync_dir
from hostops.specs import InstalledRelease

REQUIRED_FILES = ("srcds_run", "srcds_linux")
"""Without these a folder is no Linux server, whatever SteamCMD said."""


def is_whole(folder: Path) -> bool:
    """Whether the folder holds a game server that can be started."""
    return all((folder / name).is_file() for name in REQUIRED_FILES) and os.access(
        folder / REQUIRED_FILES[0], os.X_OK
    )


def read_current(layout: HostLayout) -> str | None:
    """Return the build id of the release that the next start takes, or None."""
    try:
        build_id = layout.current_link.readlink().name
    except FileNotFoundError:
        return None
    return build_id if is_whole(layout.releases_dir / build_id) else None


def require_current(layout: HostLayout) -> str:
    """Return the current build id, or raise HostError saying what to do."""
    build_id = read_current(layout)
    if build_id is None:
        raise HostError("The game is not installed on this host: run install first.")
    return build_id


def list_releases(layout: HostLayout) -> list[InstalledRelease]:
    """Return the installed releases, the latest first."""
    current = read_current(layout)
    users = _users(layout)
    return [
        InstalledRelease(
            build_id=folder.name,
            is_current=folder.name == current,
            installed_at=folder.stat().st_mtime,
            used_by=tuple(users.get(folder.name, ())),
        )
        for folder in _folders_by_age(layout)
    ]


def publish(layout: HostLayout, folder: Path, build_id: str) -> None:
    """Make a checked folder the release `build_id`, whole and on disk, in the place of a damaged one.

    Raises HostError if a server runs from that.
    """
    layout.releases_dir.mkdir(mode=0o750, exist_ok=True)
    target = layout.releases_dir / build_id
    if target.is_dir() and (users := _users(layout).get(build_id)):
        raise HostError(
            f"Build {build_id} is damaged and cannot be replaced while {', '.join(users)} runs from it: "
            "stop that, then install again."
        )
    os.utime(folder)  # The time of the release, by which the older ones are told.
    # Ten gigabytes in six thousand files: one call for all is faster than fsync for each.
    os.sync()
    if target.is_dir():
        # The damaged one must not come to lie where an install would be gone on with in it: it may
        # share files with other releases.
        beside = layout.releases_dir / f".new-{build_id}"
        if folder != beside:
            remove_tree(beside)
            folder.rename(beside)
        exchange(beside, target)
        sync_dir(layout.releases_dir)
        remove_tree(beside)
    else:
        folder.rename(target)
    sync_dir(layout.releases_dir)
    sync_dir(layout.root)


def switch(layout: HostLayout, build_id: str) -> None:
    """Let `current` point to another whole release, by one rename."""
    folder = layout.releases_dir / build_id
    if not is_whole(folder):
        raise HostError(
            f"Release {build_id} lacks {' or '.join(REQUIRED_FILES)} and cannot be used: "
            "install the game again."
        )
    switch_symlink(layout.current_link, f"releases/{build_id}")


def choose_rollback(layout: HostLayout, build_id: str | None) -> str:
    """Return the release to go back to: the one that is asked for, or the latest that is not current."""
    installed = list_releases(layout)
    others = [release.build_id for release in installed if not release.is_current]
    if build_id is None:
        if not others:
            raise HostError(
                "There is no other release on this host to go back to: one is kept from the next update on."
            )
        return others[0]
    if build_id not in {release.build_id for release in installed}:
        raise HostError(
            f"Release {build_id} is not on this host. There are: "
            f"{', '.join(release.build_id for release in installed) or 'none'}."
        )
    return build_id


def prune(layout: HostLayout, kept: Iterable[str], callbacks: Callbacks) -> None:
    """Remove the releases that are neither in `kept` nor used by a running instance."""
    if not layout.releases_dir.is_dir():
        return
    needed = {*kept, *_users(layout)}
    for folder in _folders_by_age(layout):
        if folder.name not in needed:
            callbacks.say(f"Removing release {folder.name}: nothing uses it.")
            _doom(folder)
    for folder in (*layout.releases_dir.glob(".deleting-*"), *layout.releases_dir.glob(".new-*")):
        remove_tree(folder)


def _doom(folder: Path) -> None:
    """Take a release out by one rename; `prune` removes its files."""
    doomed = folder.with_name(f".deleting-{folder.name}")
    remove_tree(doomed)
    folder.rename(doomed)
    sync_dir(folder.parent)


def latest(layout: HostLayout) -> str | None:
    """Return the build id of the release that was installed last, or None."""
    return next((folder.name for folder in _folders_by_age(layout) if is_whole(folder)), None)


def _folders_by_age(layout: HostLayout) -> list[Path]:
    """Return the folders of releases, the latest first."""
    folders = [path for path in layout.releases_dir.glob("*") if path.name.isdecimal()]
    return sorted(folders, key=lambda path: (path.stat().st_mtime, path.name), reverse=True)


def _users(layout: HostLayout) -> dict[str, list[str]]:
    """Return, for each release in use, the instances that run from it."""
    users: dict[str, list[str]] = {}
    for name in layout.instance_names():
        instance = layout.instance(name)
        last_run = runs.read_run(instance)
        if last_run is not None and runs.is_alive(instance):
            users.setdefault(last_run.release, []).append(name)
    return users
