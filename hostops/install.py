"""Installs and updates the game: SteamCMD works in `staging`, and what it made whole becomes a release."""

from hostops import releases
from hostops.callbacks import Callbacks
from hostops.errors import HostError
from hostops.files import can_share_blocks, copy_tree, free_bytes, make_dir, remove_tree, tree_size
from hostops.layout import HostLayout
from hostops.steamcmd import SteamCmd

GAME_BYTES = 12 * 10**9
"""What a first install takes on disk at its peak: the game, and what SteamCMD has under way."""

UPDATE_BYTES = 2 * 10**9
"""What an update takes beside the copy of the game."""


def install_runtime(
    layout: HostLayout, steamcmd: SteamCmd, lock: int, callbacks: Callbacks, *, needs_space: bool
) -> str:
    """Install the game, or bring it up to date, and return the build id that is current now.

    The caller holds the host's lock alone, with the descriptor `lock`. `staging` is kept when this
    fails or is ended at any point, and the next call goes on with it; `current` always points to a
    whole release. Running servers keep the release they were started from.
    """
    make_dir(layout.releases_dir)
    before = _adopt(layout, callbacks)
    if needs_space:
        require_space(layout)
    if not layout.staging_dir.is_dir():
        _seed_staging(layout, callbacks)
    build_id = steamcmd.install(layout.staging_dir, lock, callbacks)
    callbacks.stage("Checking")
    if releases.is_whole(layout.releases_dir / build_id):
        # The same files: a release is never changed once it is there.
        remove_tree(layout.staging_dir)
        callbacks.say(f"Build {build_id} is the latest and was installed already.")
    else:
        releases.discard_damaged(layout, build_id)
        releases.publish(layout, layout.staging_dir, build_id)
    if build_id != before:
        releases.switch(layout, build_id)
        callbacks.say(f"Build {build_id} is current now. Servers take it at their next start.")
    callbacks.stage("Cleaning up")
    releases.prune(layout, [build_id, _kept_release(layout, build_id, before)], callbacks)
    return build_id


def require_space(layout: HostLayout) -> None:
    """Raise HostError if the disk cannot take what the install needs on top of what is there."""
    staged = tree_size(layout.staging_dir) if layout.staging_dir.is_dir() else 0
    seed = releases.latest(layout)
    if staged:
        needed = max(GAME_BYTES - staged, UPDATE_BYTES)
    elif seed is None:
        needed = GAME_BYTES
    elif can_share_blocks(layout.root):
        needed = UPDATE_BYTES
    else:
        needed = tree_size(layout.releases_dir / seed) + UPDATE_BYTES
    free = free_bytes(layout.root)
    if free < needed:
        raise HostError(
            f"The disk of {layout.root} has {free / 1e9:.1f} GB free, and the install needs "
            f"{needed / 1e9:.1f} GB: free some space, or set HOST_ROOT to a larger disk, then install again."
        )


def _adopt(layout: HostLayout, callbacks: Callbacks) -> str | None:
    """Return the current release; a whole one that was not switched to before a crash becomes current."""
    current = releases.read_current(layout)
    if current is None and (found := releases.latest(layout)) is not None:
        callbacks.say(f"Build {found} is whole, but was not made current: doing that now.")
        releases.switch(layout, found)
        return found
    return current


def _seed_staging(layout: HostLayout, callbacks: Callbacks) -> None:
    """Begin an update with a copy of the latest release, so that SteamCMD fetches only what
    changed.

    It is a copy and no hard links: SteamCMD rewrites some files in place.
    """
    seed = releases.latest(layout)
    if seed is None:
        make_dir(layout.staging_dir)
        return
    callbacks.say(f"Copying build {seed}, which the update starts from.")
    copying = layout.root / f".staging.{seed}"
    for leftover in layout.root.glob(".staging.*"):
        if leftover != copying:
            remove_tree(leftover)
    copy_tree(
        layout.releases_dir / seed,
        copying,
        callbacks.cancel,
        lambda percent: callbacks.stage("Copying the game", percent),
    )
    copying.rename(layout.staging_dir)


def _kept_release(layout: HostLayout, current: str, before: str | None) -> str:
    """Return the older release to keep: the one that was current before, else the latest other."""
    if before is not None and before != current:
        return before
    others = (release.build_id for release in releases.list_releases(layout))
    return next((build_id for build_id in others if build_id != current), current)
