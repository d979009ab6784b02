"""Checks whether this host can do its work, and says what to do where it cannot."""

import os
from collections.abc import Iterable, Iterator

from hostops.box.wall import OWN_ROOT, Wall
from hostops.errors import HostError
from hostops.instances import instance_files, releases
from hostops.instances.layers import Layering
from hostops.layout import HostLayout
from hostops.linux.files import free_bytes, walk_files
from hostops.specs import Finding, Severity
from hostops.steam import preflight, steamcmd
from hostops.steam.install import GAME_BYTES

_LOW_SPACE_BYTES = 2 * 10**9


def examine(layout: HostLayout, layering: Layering, game_source: str) -> Iterator[Finding]:
    """Yield one finding for each important fact, good or bad."""
    yield _examine_user()
    yield _examine_root(layout)
    yield Finding(
        "Layers",
        layering.is_overlay,
        "Servers share the game's files through overlays."
        if layering.is_overlay
        else f"Overlays cannot be mounted, so every server gets a full copy. {layering.detail}",
        layering.cure,
        if_not=Severity.WARNING,
    )
    yield from _examine_game(layout)
    yield from _examine_overlays(layout)
    yield from _examine_passwords(layout)
    if game_source == "simulator":
        yield Finding(
            "Game source", True, "The game is simulated: nothing is downloaded from Steam."
        )
    else:
        yield from _examine_steam(layout)


def examine_walls(walls: Iterable[Wall], *, needs_box: bool) -> Iterator[Finding]:
    """Yield one finding for each wall of the box that game servers run in.

    With `needs_box`, no server starts without its own root: the wall that makes it a box.
    """
    for wall in walls:
        text = (
            f"{wall.name} stands." if wall.stands else f"{wall.name} does not stand. {wall.why_not}"
        )
        is_needed = needs_box and wall.name == OWN_ROOT
        yield Finding(
            "Box", wall.stands, text, wall.cure, Severity.FAULT if is_needed else Severity.WARNING
        )


def _examine_user() -> Finding:
    if os.geteuid() == 0:
        return Finding(
            "User",
            False,
            "This runs as root, and so do the game servers (without root's capabilities).",
            "Run the worker as a user of its own, for example saferoom.",
            if_not=Severity.WARNING,
        )
    return Finding("User", True, f"This runs as the unprivileged user {os.geteuid()}.")


def _examine_root(layout: HostLayout) -> Finding:
    if not os.access(layout.root, os.R_OK | os.W_OK | os.X_OK):
        return Finding(
            "Folder",
            False,
            f"{layout.root} cannot be written to.",
            f"Give it to the worker's user: chown {os.geteuid()} {layout.root}",
        )
    free = free_bytes(layout.root)
    return Finding(
        "Folder",
        free >= _LOW_SPACE_BYTES,
        f"{layout.root} can be written to and has {free / 1e9:.1f} GB free.",
        ""
        if free >= _LOW_SPACE_BYTES
        else "Free some space: servers write logs, and updates need room.",
        if_not=Severity.WARNING,
    )


def examine_new_root(layout: HostLayout, *, is_new: bool) -> Iterator[Finding]:
    """Yield that the root was made for this examination: its name may be a mistake."""
    if is_new:
        yield Finding(
            "Folder",
            False,
            f"{layout.root} was not there, and was made just now.",
            "If this host has servers already, set HOST_ROOT to their folder, and remove this one.",
            if_not=Severity.TODO,
        )


def _examine_game(layout: HostLayout) -> Iterator[Finding]:
    current = releases.read_current(layout)
    yield Finding(
        "Game",
        current is not None,
        f"Build {current} is current." if current else "The game is not installed.",
        "" if current else "Press “Install the game” on the host’s page, or run l4d2ctl install.",
        if_not=Severity.TODO,
    )
    if layout.staging_dir.is_dir():
        yield Finding(
            "Unfinished install",
            False,
            f"{layout.staging_dir} holds an install or update of the game that is not finished.",
            "Unless one is running, install or update the game on the host’s page, or run l4d2ctl install: "
            "it continues where it stopped.",
            if_not=Severity.TODO,
        )


def _examine_overlays(layout: HostLayout) -> Iterator[Finding]:
    """Find files of other users: the kernel refuses (EOVERFLOW) to let a server change those."""
    mine = (os.geteuid(), os.getegid())
    for folder in sorted(layout.overlays_dir.glob("*")):
        try:
            foreign = next(
                (
                    path
                    for path, status in walk_files(folder)
                    if (status.st_uid, status.st_gid) != mine
                ),
                None,
            )
        except HostError as error:
            yield Finding(f"Overlay {folder.name}", False, str(error), f"Look at {folder}.")
            continue
        if foreign is not None:
            yield Finding(
                f"Overlay {folder.name}",
                False,
                f"{foreign} belongs to another user or group, so servers cannot change their copy of it.",
                f"chown -R {mine[0]}:{mine[1]} {folder}",
            )


def _examine_passwords(layout: HostLayout) -> Iterator[Finding]:
    """Report passwords in configs that people wrote: everybody who may use a blueprint can read it."""
    names = [
        name
        for name in layout.instance_names()
        if instance_files.has_password_in_config(layout.instance(name))
    ]
    if names:
        yield Finding(
            "Passwords",
            True,
            f"{', '.join(names)} {'has its' if len(names) == 1 else 'have their'} password in a config, "
            "which all who may use its blueprint can read.",
            "Set SECRETS_KEYS for panel and workers (manage.py makesecretskey prints a line with one) and "
            "restart them: passwords are moved into fields of the servers, and stored encrypted.",
        )


def _examine_steam(layout: HostLayout) -> Iterator[Finding]:
    command = steamcmd.find(layout)
    yield Finding(
        "SteamCMD",
        True,
        f"{command[0]} is used." if command else "It is fetched from Valve at the first install.",
    )
    yield preflight.examine_execution(layout)
    yield preflight.examine_programs()
    yield preflight.examine_network()
    if releases.read_current(layout) is None:
        yield preflight.examine_space(layout, GAME_BYTES)
