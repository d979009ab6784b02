"""Bans in a server's config: those from the panel, and those that the game has written itself.

The game executes its configs on every map. A ban with an end starts over at each execution, so its keeper must
lift it in time (`jobs.talk.ban_keeper`).
"""

import re
import stat
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from hostops.callbacks import Callbacks
from hostops.instances.cfg_files import CFG_DIR, MAX_FILE_BYTES
from hostops.layout import InstanceLayout
from hostops.linux import untrusted
from hostops.linux.files import replace_at
from hostops.linux.untrusted import UntrustedFileError
from hostops.specs import SpecBan

MAX_BYTES = 4 * 1024
"""The limit on a file of bans. The engine's command buffer has 8,192 bytes, shared with other waiting texts."""

OWN_FILES = ("banned_user.cfg", "banned_ip.cfg")
"""The files that the game writes on `writeid` and `writeip`, in the order in which to execute them."""

_MAX_OWN_BYTES = 4 * 1024**2
_FOR_GOOD = re.compile(rb'[ \t]*banid +0(?:\.0*)? +"?STEAM_\d:(\d:\d+)\b')
_BAN = {
    "banned_user.cfg": re.compile(rb'banid +[\d.]+ +"?STEAM_\d:\d:\d+"?( +kick)?'),
    "banned_ip.cfg": re.compile(rb'addip +[\d.]+ +"?[\d.]+"?'),
}


@dataclass(frozen=True)
class OwnBans:
    """Which of the game's own ban files to execute, their size, and why others are not executed."""

    executed: tuple[str, ...] = ()
    bytes: int = 0
    warnings: tuple[str, ...] = ()


def find_own_bans(
    instance: InstanceLayout, below: Iterable[Mapping[str, bytes]], executed: Collection[str]
) -> OwnBans:
    """Return what to do about the game's own ban files as they are now.

    `below` are the cfg files of the layers by their path in lower case, topmost layer first, and `executed`
    those that configs already execute. A file that contains anything but bans is not executed: the game wrote
    it, and could otherwise make itself execute the file forever.
    """
    chosen: list[str] = []
    warnings: list[str] = []
    size = 0
    for name in OWN_FILES:
        if name in executed:
            continue
        try:
            content = _read(instance, name, below)
        except UntrustedFileError as error:
            warnings.append(f"The server’s own {name} is not executed. {error}")
            continue
        if content is None:
            continue
        if fault := _find_fault(name, content):
            warnings.append(f"The server’s own cfg/{name} is not executed, as {fault}")
        elif content.strip():
            chosen.append(name)
            size += len(content)
    return OwnBans(tuple(chosen), size, tuple(warnings))


def make_bans(bans: Iterable[SpecBan], most_bytes: int) -> tuple[bytes, int]:
    """Return commands for the first of these bans, within this many bytes, and how many bans are left out."""
    lines: list[str] = []
    size = left_out = 0
    for ban in bans:
        line = f"banid {ban.minutes} {ban.steam_id}\n"
        if left_out or size + len(line) > most_bytes:
            left_out += 1
            continue
        lines.append(line)
        size += len(line)
    return "".join(lines).encode(), left_out


def take_out(instance: InstanceLayout, steam_ids: Collection[str], callbacks: Callbacks) -> None:
    """Remove these people's bans from the file that a stopped instance wrote itself, and report it.

    Whatever writes the file, as SourceMod does on each of its bans, includes the bans from the panel. They
    would come back from there after they were lifted. All other lines stay.
    """
    if not steam_ids:
        return
    name = OWN_FILES[0]
    lifted = {steam_id.partition(":")[2].encode() for steam_id in steam_ids}
    folder_path = _own_dir(instance) / CFG_DIR
    try:
        with untrusted.open_folder(folder_path, instance.trusted_dir) as folder:
            if stat.S_ISCHR(untrusted.stat_at(folder, name).st_mode):
                return  # overlayfs's mark of a removed file
            content = untrusted.read_file(folder_path / name, instance.trusted_dir, _MAX_OWN_BYTES)
            lines = content.splitlines(keepends=True)
            kept = [line for line in lines if _banned_account(line) not in lifted]
            if len(kept) == len(lines):
                return
            replace_at(folder, name, b"".join(kept))
    except FileNotFoundError:
        return
    except UntrustedFileError as error:
        callbacks.warn(f"No lifted bans are taken out of the server’s own {name}. {error}")
        return
    count = len(lines) - len(kept)
    callbacks.say(
        f"{count} lifted ban{'' if count == 1 else 's'} taken out of the server’s own {name}."
    )


def _own_dir(instance: InstanceLayout) -> Path:
    """Return the folder of the game's own files: the upper layer, or the full copy if there is one."""
    is_copy = untrusted.exists(instance.tree_dir, instance.trusted_dir)
    return instance.tree_dir if is_copy else instance.upper_dir


def _banned_account(line: bytes) -> bytes:
    """Return the Steam ID that a line bans permanently, without its universe; empty if it bans nobody so."""
    match = _FOR_GOOD.match(line)
    return match[1] if match else b""


def _read(
    instance: InstanceLayout, name: str, below: Iterable[Mapping[str, bytes]]
) -> bytes | None:
    """Return the file as the game sees it; None if there is none."""
    trusted = instance.trusted_dir
    path = _own_dir(instance) / CFG_DIR / name
    try:
        if stat.S_ISCHR(untrusted.read_status(path, trusted).st_mode):
            return None  # A device here is overlayfs's mark that the game removed a layer's file.
        return untrusted.read_file(path, trusted, MAX_FILE_BYTES)
    except FileNotFoundError:
        contents = (layer.get(name) for layer in below)
        is_copy = _own_dir(instance) == instance.tree_dir
        return None if is_copy else next((one for one in contents if one is not None), None)


def _find_fault(name: str, content: bytes) -> str:
    """Return why the game should not execute a file, phrased as the rest of a sentence."""
    for number, line in enumerate(content.splitlines(), start=1):
        command = line.partition(b"//")[0].strip()
        if command and not _BAN[name].fullmatch(command):
            return f"line {number} is no ban. Take the line out."
    if len(content) > MAX_BYTES:
        return (
            f"it has {len(content):,} bytes, and the game’s command buffer could lose some of them. Take its "
            "lines over on the page of bans."
        )
    return ""
