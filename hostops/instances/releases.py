"""The installed builds of the game: which one is current, switching to another, removing old ones."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from hostops.callbacks import Callbacks
from hostops.engine_command import PROGRAM
from hostops.errors import HostError
from hostops.instances import runs
from hostops.layout import HostLayout
from hostops.linux.files import exchange, remove_tree, switch_symlink, sync_dir
from hostops.specs import InstalledRelease

REQUIRED_FILES = ("srcds_run", "srcds_linux")
"""Without these an install is no Linux server, whatever SteamCMD said. Only the engine is ever executed."""

_PROGRAM_NAME = PROGRAM.removeprefix("./")


def is_whole(folder: Path) -> bool:
    """Whether the folder contains a game server that can be started."""
    return not _find_fault(folder)


def read_current(layout: HostLayout) -> str | None:
    """Return the build id of the release that the next start will use, or None."""
    build_id = _read_link(layout)
    return build_id if build_id and is_whole(layout.releases_dir / build_id) else None


def require_current(layout: HostLayout) -> str:
    """Return the current build id, or raise HostError saying what to do."""
    build_id = _read_link(layout)
    if build_id is None or not (layout.releases_dir / build_id).is_dir():
        raise HostError("The game is not installed on this host: run install first.")
    if fault := _find_fault(layout.releases_dir / build_id):
        raise HostError(
            f"Build {build_id} on this host cannot be started: {fault}. Install the game again."
        )
    return build_id


def list_releases(layout: HostLayout) -> list[InstalledRelease]:
    """Return the installed releases, latest first."""
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
    """Make a checked folder the release `build_id`, complete and on disk, replacing a damaged one.

    Raises HostError if a server is running from the damaged one.
    """
    layout.releases_dir.mkdir(mode=0o750, exist_ok=True)
    target = layout.releases_dir / build_id
    if target.is_dir() and (users := _users(layout).get(build_id)):
        raise HostError(
            f"Build {build_id} is damaged and cannot be replaced while {', '.join(users)} runs from it: "
            "stop that, then install again."
        )
    os.utime(folder)  # The release's time, by which releases are ordered.
    # Ten gigabytes in six thousand files: one call for all is faster than an fsync for each.
    os.sync()
    if target.is_dir():
        # The damaged release must not end up where an install would resume from it: it may share files
        # with other releases.
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
    """Make `current` point to another complete release, by one rename."""
    folder = layout.releases_dir / build_id
    if fault := _find_fault(folder):
        raise HostError(f"Release {build_id} cannot be used: {fault}. Install the game again.")
    switch_symlink(layout.current_link, f"releases/{build_id}")


def choose_rollback(layout: HostLayout, build_id: str | None) -> str:
    """Return the release to go back to: the requested one, or the latest that is not current."""
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
    """Remove the releases that are not in `kept`, and that no instance uses or is to be restarted from."""
    if not layout.releases_dir.is_dir():
        return
    needed = {*kept, *_users(layout), *_restartable(layout)}
    for folder in _folders_by_age(layout):
        if folder.name not in needed:
            callbacks.say(f"Removing release {folder.name}: nothing uses it.")
            _doom(folder)
    for folder in (*layout.releases_dir.glob(".deleting-*"), *layout.releases_dir.glob(".new-*")):
        remove_tree(folder)


def _doom(folder: Path) -> None:
    """Take a release out by one rename; `prune` then removes its files."""
    doomed = folder.with_name(f".deleting-{folder.name}")
    remove_tree(doomed)
    folder.rename(doomed)
    sync_dir(folder.parent)


def latest(layout: HostLayout) -> str | None:
    """Return the build id of the most recently installed release, or None."""
    return next((folder.name for folder in _folders_by_age(layout) if is_whole(folder)), None)


def _read_link(layout: HostLayout) -> str | None:
    """Return the build id that `current` names, whether or not that release exists; None without a link."""
    try:
        return layout.current_link.readlink().name
    except FileNotFoundError:
        return None


def _find_fault(folder: Path) -> str:
    """Return why a folder is not a game server that can be started; empty if it is one."""
    program = folder / _PROGRAM_NAME
    if not program.is_file():
        return f"it has no {_PROGRAM_NAME}"
    return "" if os.access(program, os.X_OK) else f"its {_PROGRAM_NAME} may not be executed"


def _folders_by_age(layout: HostLayout) -> list[Path]:
    """Return the folders of releases, latest first."""
    folders = [path for path in layout.releases_dir.glob("*") if path.name.isdecimal()]
    return sorted(folders, key=lambda path: (path.stat().st_mtime, path.name), reverse=True)


def _restartable(layout: HostLayout) -> Iterator[str]:
    """Yield the releases from which systemd may restart crashed servers, after its pause."""
    for name in layout.instance_names():
        instance = layout.instance(name)
        last_run = runs.read_run(instance)
        if last_run is not None and runs.has_crashed(instance, last_run):
            end = runs.read_end(instance, last_run)
            if end is None or not end.is_final:
                yield last_run.release


def _users(layout: HostLayout) -> dict[str, list[str]]:
    """Return the instances that run from each release in use."""
    users: dict[str, list[str]] = {}
    for name in layout.instance_names():
        instance = layout.instance(name)
        last_run = runs.read_run(instance)
        if last_run is not None and runs.is_alive(instance):
            users.setdefault(last_run.release, []).append(name)
    return users
