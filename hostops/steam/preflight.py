"""Checks what Valve's SteamCMD needs of a host before fetching or running it: it fails late and in riddles."""

import os
import platform
import socket
from collections.abc import Iterator
from pathlib import Path

from hostops.errors import HostError
from hostops.layout import HostLayout
from hostops.linux.files import free_bytes
from hostops.specs import Finding

STEAMCMD_BYTES = 600 * 10**6
"""SteamCMD's own disk usage; it refuses to update itself with less than 250 MB free."""

LOADER_PATH = Path("/lib/ld-linux.so.2")
LIBRARIES = ("libc.so.6", "libgcc_s.so.1", "libstdc++.so.6")
STEAM_HOST = "api.steampowered.com"

# Debian's and Ubuntu's two ways (foreign architecture, lib32 packages), Fedora's, Arch's.
_LIBRARY_DIRS = (
    "/lib/i386-linux-gnu",
    "/usr/lib/i386-linux-gnu",
    "/lib32",
    "/usr/lib32",
    "/lib",
    "/usr/lib",
)
_ELF_32_BIT = b"\x7fELF\x01"
_MACHINES = ("x86_64", "i686", "i586", "i386")
_INSTALL_LIBRARIES = (
    "On Debian or Ubuntu: dpkg --add-architecture i386 && apt-get update && "
    "apt-get install libc6:i386 lib32gcc-s1 lib32stdc++6."
)


def require_ready(layout: HostLayout, needed_bytes: int) -> None:
    """Raise HostError, with the cause and the cure of each problem, if an install could not work."""
    found = (
        examine_writing(layout),
        examine_space(layout, needed_bytes),
        examine_execution(layout),
        examine_programs(),
        examine_network(),
    )
    if failures := [finding for finding in found if not finding.is_ok]:
        raise HostError(" ".join(f"{finding.text} {finding.cure}" for finding in failures))


def examine_writing(layout: HostLayout) -> Finding:
    """Check that everything an install writes to, or links, is ours."""
    cure = (
        f"Give it to the user that runs this: chown -R {os.geteuid()}:{os.getegid()} {layout.root}."
    )
    for folder in _written(layout):
        status = folder.lstat()
        if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
            return Finding("Folder", False, f"{folder} cannot be written to.", cure)
        # The kernel refuses links to files of others, and an overlay cannot take their files over.
        if folder != layout.root and (status.st_uid, status.st_gid) != (os.geteuid(), os.getegid()):
            return Finding("Folder", False, f"{folder} belongs to another user or group.", cure)
    return Finding("Folder", True, f"{layout.root} can be written to.")


def examine_space(layout: HostLayout, needed_bytes: int) -> Finding:
    """Check that the disk has room for the install."""
    free = free_bytes(layout.root)
    return Finding(
        "Space for the game",
        free >= needed_bytes,
        f"The disk of {layout.root} has {free / 1e9:.1f} GB free, and the install needs "
        f"{needed_bytes / 1e9:.1f} GB.",
        ""
        if free >= needed_bytes
        else "Free some space, or set HOST_ROOT to a larger disk, then install again.",
    )


def examine_execution(layout: HostLayout) -> Finding:
    """Check that programs may be executed from the folders of SteamCMD and the game."""
    folders = (layout.root, layout.steamcmd_dir, layout.home_dir, layout.releases_dir)
    for folder in (folder for folder in folders if folder.exists()):
        if os.statvfs(folder).f_flag & os.ST_NOEXEC:
            return Finding(
                "Executing programs",
                False,
                f"The disk of {folder} is mounted noexec, so neither SteamCMD nor the game can be executed "
                "there.",
                f"Mount it without noexec (findmnt -T {folder} shows the mount), or set HOST_ROOT to another "
                "disk.",
            )
    return Finding("Executing programs", True, f"Programs below {layout.root} may be executed.")


def examine_programs() -> Finding:
    """Check that this host can run 32-bit x86 programs, as SteamCMD and the game are."""
    subject = "32-bit programs"
    if platform.machine() not in _MACHINES:
        return Finding(
            subject,
            False,
            f"SteamCMD and the game are programs for x86, and this is a {platform.machine()} machine.",
            "Use a host with an x86 processor.",
        )
    if not LOADER_PATH.exists():
        return Finding(
            subject,
            False,
            f"SteamCMD and the game are 32-bit programs, and what runs those is missing: {LOADER_PATH}.",
            _INSTALL_LIBRARIES,
        )
    missing = [name for name in LIBRARIES if not _has_library(name)]
    if missing:
        return Finding(
            subject,
            False,
            f"SteamCMD and the game are 32-bit programs and need {', '.join(missing)} in 32 bits.",
            _INSTALL_LIBRARIES,
        )
    return Finding(subject, True, "They can be run.")


def examine_network() -> Finding:
    """Check that Steam's name can be resolved. Takes as long as the resolver does."""
    subject = "Name resolution"
    try:
        socket.getaddrinfo(STEAM_HOST, 443, type=socket.SOCK_STREAM)
    except OSError as error:
        return Finding(
            subject,
            False,
            f"The name {STEAM_HOST} cannot be resolved: {error.strerror or error}.",
            "Check the host's network and /etc/resolv.conf.",
        )
    return Finding(subject, True, f"{STEAM_HOST} can be resolved.")


def _written(layout: HostLayout) -> Iterator[Path]:
    """Yield the existing folders that an install writes to, and one program of each release."""
    yield layout.root
    for path in (layout.releases_dir, layout.home_dir, layout.staging_dir, layout.steamcmd_dir):
        if path.exists():
            yield path
    yield from layout.releases_dir.glob("[0-9]*")
    yield from layout.releases_dir.glob("[0-9]*/srcds_linux")


def _has_library(name: str) -> bool:
    for path in (Path(folder, name) for folder in _library_dirs()):
        try:
            with path.open("rb") as file:
                if file.read(len(_ELF_32_BIT)) == _ELF_32_BIT:
                    return True
        except OSError:  # missing, or not readable for us
            continue
    return False


def _library_dirs() -> Iterator[str]:
    yield from _LIBRARY_DIRS
    for path in (Path("/etc/ld.so.conf"), *sorted(Path("/etc/ld.so.conf.d").glob("*.conf"))):
        try:
            lines = path.read_text(errors="replace").splitlines()
        except OSError:
            continue
        yield from (line.strip() for line in lines if line.startswith("/"))
