"""Installs and updates the game: SteamCMD works in `staging`, and the complete result becomes a release."""

from pathlib import Path
from typing import NamedTuple

from hostops.callbacks import Callbacks
from hostops.errors import HostError
from hostops.instances import releases
from hostops.layout import HostLayout
from hostops.linux.files import can_share_blocks, copy_tree, make_dir, remove_tree, tree_size
from hostops.steam import staging
from hostops.steam.staging import OverlaidRelease, PlainFolder
from hostops.steam.steamcmd import SteamCmd, require_installed

GAME_BYTES = 12 * 10**9
"""The peak disk usage of a first install: the game, and SteamCMD's temporary files."""

UPDATE_BYTES = 2 * 10**9
"""The disk usage of an update, in addition to the copy of the game."""


class Outcome(NamedTuple):
    """The build that SteamCMD has left, and whether its files are new or repaired."""

    build_id: str
    is_changed: bool


def install_runtime(
    layout: HostLayout,
    steamcmd: SteamCmd,
    lock: int,
    callbacks: Callbacks,
    *,
    can_overlay: bool,
) -> str:
    """Install or update the game, and return the build id that is now current.

    The caller holds the host's lock exclusively, with the descriptor `lock`. If this fails or is interrupted at
    any point, `staging` is kept, and the next call resumes from it; `current` always points to a complete
    release. Running servers keep the release they were started from. With `can_overlay`, an update works in an
    overlay over the release, otherwise in a copy of it.
    """
    make_dir(layout.releases_dir)
    before = _adopt(layout, callbacks)
    folder = _open_staging(layout, callbacks, can_overlay=can_overlay)
    if isinstance(folder, OverlaidRelease):
        build_id, is_changed = _update_overlaid(layout, folder, steamcmd, lock, callbacks)
    else:
        build_id, is_changed = _install_plain(layout, folder, steamcmd, lock, callbacks)
    if build_id != before:
        releases.switch(layout, build_id)
        result = f"Build {build_id} is current now. Servers take it at their next start."
        callbacks.say(result)
    elif is_changed:
        result = f"Build {build_id} is the newest. Its damaged files were repaired."
    else:
        result = f"Build {build_id} is the newest; nothing was changed."
    # Finished: nothing is cancelled from here on.
    callbacks.on_stage("Cleaning up", None)
    releases.prune(layout, [build_id, _kept_release(layout, build_id, before)], callbacks)
    callbacks.on_stage(result, None)
    return build_id


def needed_bytes(layout: HostLayout, *, can_overlay: bool) -> int:
    """Return how much free disk space the install needs in addition to what is used already."""
    staged = tree_size(layout.staging_dir) if layout.staging_dir.is_dir() else 0
    seed = releases.latest(layout)
    if seed is None:
        return max(GAME_BYTES - staged, UPDATE_BYTES)
    if staged or can_overlay or can_share_blocks(layout.root):
        return UPDATE_BYTES
    return tree_size(layout.releases_dir / seed) + UPDATE_BYTES


def _install_plain(
    layout: HostLayout, folder: PlainFolder, steamcmd: SteamCmd, lock: int, callbacks: Callbacks
) -> Outcome:
    build_id = steamcmd.install(folder, lock, callbacks)
    callbacks.stage("Checking")
    is_whole = releases.is_whole(layout.releases_dir / build_id)
    if is_whole:
        # The files are the same: an existing release never changes.
        staging.discard(layout)
        _say_up_to_date(build_id, callbacks)
    else:
        releases.publish(layout, folder.install_dir, build_id)
    return Outcome(build_id, not is_whole)


def _update_overlaid(
    layout: HostLayout,
    folder: OverlaidRelease,
    steamcmd: SteamCmd,
    lock: int,
    callbacks: Callbacks,
) -> Outcome:
    build_id = folder.finished_build
    if build_id is None:
        build_id = steamcmd.install(folder, lock, callbacks)
        # From here on nothing is written there, so its files can be linked into the release.
        folder.mark_finished(build_id)
    callbacks.stage("Putting the release together")
    target = layout.releases_dir / f".new-{build_id}"
    remove_tree(target)
    assembly = staging.Assembly(folder, target, callbacks.cancel)
    assembly.build()
    callbacks.stage("Checking")
    try:
        _require_build(target, build_id)
    except HostError:
        remove_tree(target)
        staging.discard(layout)
        raise
    is_there = releases.is_whole(layout.releases_dir / build_id)
    is_changed = not is_there or (build_id == folder.base and bool(assembly.changed_game_files))
    if not is_changed:
        remove_tree(target)
        _say_up_to_date(build_id, callbacks)
    else:
        if is_there:
            callbacks.warn(
                f"Files of build {build_id} were damaged, and Steam has repaired them: "
                f"{', '.join(assembly.changed_game_files[:5])}."
            )
        releases.publish(layout, target, build_id)
        callbacks.say(
            f"Build {build_id} shares all files with build {folder.base} "
            f"but {len(assembly.changed)} that changed."
        )
    staging.discard(layout)
    return Outcome(build_id, is_changed)


def _require_build(release_dir: Path, build_id: str) -> None:
    """Raise HostError unless the folder is a complete server of this build, by its manifest and files."""
    found = require_installed(PlainFolder(release_dir))
    if found != build_id or not releases.is_whole(release_dir):
        raise HostError(
            f"What was put together is build {found} and not a whole build {build_id}: install again."
        )


def _say_up_to_date(build_id: str, callbacks: Callbacks) -> None:
    callbacks.say(f"Build {build_id} is the latest and was installed already.")


def _adopt(layout: HostLayout, callbacks: Callbacks) -> str | None:
    """Return the current release. If a crash prevented the switch to a complete one, make that current."""
    current = releases.read_current(layout)
    if current is None and (found := releases.latest(layout)) is not None:
        callbacks.say(f"Build {found} is whole, but was not made current: doing that now.")
        releases.switch(layout, found)
        return found
    return current


def _open_staging(
    layout: HostLayout, callbacks: Callbacks, *, can_overlay: bool
) -> OverlaidRelease | PlainFolder:
    """Return the folder that SteamCMD will work in: the one of an interrupted install, or a new one."""
    copying = layout.root / f".staging.{releases.latest(layout)}"
    for leftover in layout.root.glob(".staging.*"):
        if leftover != copying or can_overlay:
            remove_tree(leftover)
    if (overlaid := staging.open_overlaid(layout)) is not None:
        if staging.check_overlaid(layout, overlaid) and (can_overlay or overlaid.finished_build):
            callbacks.say(f"Going on with the update of build {overlaid.base}.")
            return overlaid
        callbacks.say("The interrupted update cannot be resumed: starting over.")
        staging.discard(layout)
    if not layout.staging_dir.is_dir():
        seed = releases.latest(layout)
        if seed is None:
            make_dir(layout.staging_dir)
        elif can_overlay:
            return staging.begin_overlaid(layout, seed)
        else:
            _copy_release(layout, seed, copying, callbacks)
    return PlainFolder(layout.staging_dir)


def _copy_release(layout: HostLayout, build_id: str, copying: Path, callbacks: Callbacks) -> None:
    """Begin an update with a copy of a release, on a host that cannot mount overlays.

    Hard links would not do: SteamCMD rewrites some files in place.
    """
    callbacks.say(f"Copying build {build_id}, which the update starts from.")
    copy_tree(
        layout.releases_dir / build_id,
        copying,
        callbacks.cancel,
        lambda percent: callbacks.stage("Copying the game", percent),
    )
    copying.rename(layout.staging_dir)


def _kept_release(layout: HostLayout, current: str, before: str | None) -> str:
    """Return the older release to keep: the previously current one, or else the latest other."""
    if before is not None and before != current:
        return before
    others = (release.build_id for release in releases.list_releases(layout))
    return next((build_id for build_id in others if build_id != current), current)
