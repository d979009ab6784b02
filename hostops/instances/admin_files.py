"""Puts a server's admins into SourceMod's `admins_simple.ini`, in the instance's own layer.

The game may have put anything there, and may be running. A file renamed into the upper layer of a mounted
overlay is not visible through the mount: the kernel keeps showing the old one, and the game's own renames fail
(ESTALE; Linux 6.18). So each start renames the file into place, but while the game runs it is written in place.
The complete new text is first saved beside the instance, so that an interrupted write can be completed later.
"""

import contextlib
import json
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NoReturn

from hostops.callbacks import Callbacks
from hostops.instances import admin_block, records
from hostops.instances.cfg_files import MAX_FILE_BYTES, UnreadableFileError, read_regular
from hostops.layout import HostLayout, InstanceLayout
from hostops.linux import untrusted
from hostops.linux.files import replace_at, write_atomically
from hostops.linux.untrusted import UntrustedFileError
from hostops.specs import AdminsOutcome, AdminsReport, SpecAdmin

FOLDER = "left4dead2/addons/sourcemod/configs"
NAME = "admins_simple.ini"
PATH = f"{FOLDER}/{NAME}"
SOURCEMOD_DIR = "left4dead2/addons/sourcemod/bin"
"""The folder of SourceMod itself; layers that only add to it have other folders."""

NO_SOURCEMOD = "There is no SourceMod in the server’s overlays, and nothing else reads the admins."
_WHITEOUT = "its game, or somebody on it, has removed it"


def write_at_start(
    instance: InstanceLayout,
    stack: Sequence[Path],
    admins: Iterable[SpecAdmin],
    callbacks: Callbacks,
) -> None:
    """Put the file into the own layer of a stopped instance; `stack` are the layers below, top one first.

    It does so even without admins, so that some can be added while the game runs. A failure is only a warning,
    because a server also starts without its admins.
    """
    admins = tuple(admins)
    own_dir = find_own_dir(instance)
    if not _has_sourcemod(instance, own_dir, stack):
        if admins:
            callbacks.warn(
                f"The {len(admins)} admins of {instance.name} are not written. {NO_SOURCEMOD}"
            )
        return
    try:
        with _open_own_folder(own_dir, instance) as folder:
            current = _read_own(folder)
            before = _read_journal(instance) or current
            if before is None and untrusted.exists_at(folder, NAME):
                before = b""  # The game removed it, so the file of the layers below does not count.
            edited = admin_block.write_block(before, admins, _read_base(stack))
            if edited.text != current:
                replace_at(folder, NAME, edited.text)
            forget(instance)
    except (UntrustedFileError, UnreadableFileError) as error:
        callbacks.warn(f"The admins of {instance.name} are not written: {PATH}: {error}")
        return
    for remark in edited.remarks:
        callbacks.warn(remark)


def write_while_running(
    layout: HostLayout, instance: InstanceLayout, admins: Iterable[SpecAdmin]
) -> AdminsReport:
    """Put these admins into the file of a running instance. SourceMod reads it only on command."""
    own_dir = find_own_dir(instance)
    if not _has_sourcemod(instance, own_dir, read_launched_stack(layout, instance)):
        return AdminsReport(AdminsOutcome.NO_SOURCEMOD, NO_SOURCEMOD)
    path = own_dir / PATH
    try:
        descriptor = untrusted.open_file(path, instance.trusted_dir, os.O_RDWR)
    except FileNotFoundError:
        return AdminsReport(
            AdminsOutcome.WAITING
        )  # It was started by an earlier version, or its game removed the file.
    except UntrustedFileError as error:
        return AdminsReport(AdminsOutcome.REFUSED, str(error))
    with open(descriptor, "r+b", buffering=0) as file:  # noqa: PTH123 - a descriptor
        current = file.read(MAX_FILE_BYTES + 1) or b""
        if len(current) > MAX_FILE_BYTES:
            text = f"{PATH} has more than {MAX_FILE_BYTES // 1024} KiB, and is not changed."
            return AdminsReport(AdminsOutcome.REFUSED, text)
        edited = admin_block.write_block(_read_journal(instance) or current, admins)
        if edited.text != current:
            _write_journal(instance, edited.text)
            _write_in_place(file.fileno(), edited.text)
        forget(instance)
    is_news = edited.text != current
    outcome = AdminsOutcome.WRITTEN if is_news else AdminsOutcome.UNCHANGED
    return AdminsReport(outcome, " ".join(edited.remarks))


def foresee(instance: InstanceLayout, stack: Sequence[Path]) -> AdminsReport:
    """Return what the next start of a stopped instance will do with its admins."""
    if _has_sourcemod(instance, find_own_dir(instance), stack):
        return AdminsReport(AdminsOutcome.WAITING)
    return AdminsReport(AdminsOutcome.NO_SOURCEMOD, NO_SOURCEMOD)


def forget(instance: InstanceLayout) -> None:
    """Discard the saved text of an interrupted write."""
    untrusted.remove_file(instance.admins_path, instance.trusted_dir)


def read_launched_stack(layout: HostLayout, instance: InstanceLayout) -> list[Path]:
    """Return the layers that the instance was launched with, top one first; empty if unknown."""
    plan = records.read_document(instance.launch_path, instance.trusted_dir) or {}
    lower = plan.get("lower")
    if not isinstance(lower, list):
        return []
    return [layout.root / path for path in lower if isinstance(path, str)]


def find_own_dir(instance: InstanceLayout) -> Path:
    """Return the folder of the game's own files: the upper layer, or the full copy if there is one."""
    is_copy = untrusted.exists(instance.tree_dir, instance.trusted_dir)
    return instance.tree_dir if is_copy else instance.upper_dir


def _has_sourcemod(instance: InstanceLayout, own_dir: Path, stack: Iterable[Path]) -> bool:
    with contextlib.suppress(FileNotFoundError, UntrustedFileError):
        own = untrusted.read_status(own_dir / SOURCEMOD_DIR, instance.trusted_dir)
        return stat.S_ISDIR(own.st_mode)
    return own_dir == instance.upper_dir and any(
        (layer / SOURCEMOD_DIR).is_dir() for layer in stack
    )


@contextlib.contextmanager
def _open_own_folder(own_dir: Path, instance: InstanceLayout) -> Iterator[int]:
    with untrusted.open_folder(own_dir, instance.trusted_dir, opens_up=True) as top:
        folder = untrusted.make_folders(top, FOLDER, _refuse)
        try:
            yield folder
        finally:
            os.close(folder)


def _refuse(folder: int, name: str) -> NoReturn:
    is_whiteout = stat.S_ISCHR(untrusted.stat_at(folder, name).st_mode)
    raise UntrustedFileError(
        f"{name}: {_WHITEOUT if is_whiteout else 'something else is in its place'}."
    )


def _read_own(folder: int) -> bytes | None:
    """Return the file of the own layer; None if it is missing, or marked as removed by overlayfs."""
    try:
        if stat.S_ISCHR(untrusted.stat_at(folder, NAME).st_mode):
            return None
        descriptor = untrusted.open_at(folder, NAME)
    except FileNotFoundError:
        return None
    with open(descriptor, "rb") as file:  # noqa: PTH123 - a descriptor
        content = file.read(MAX_FILE_BYTES + 1)
    if len(content) > MAX_FILE_BYTES:
        raise UntrustedFileError(f"it has more than {MAX_FILE_BYTES // 1024} KiB.")
    return content


def _read_base(stack: Iterable[Path]) -> bytes | None:
    """Return the file of the topmost layer that has one. Raises `UnreadableFileError` if it is no file."""
    for layer in stack:
        with contextlib.suppress(FileNotFoundError):
            try:
                return read_regular(layer, PATH, MAX_FILE_BYTES)
            except UnreadableFileError as error:
                raise UnreadableFileError(f"that of {layer.name} {error}.") from None
    return None


def _write_in_place(descriptor: int, text: bytes) -> None:
    written = 0
    while written < len(text):
        written += os.pwrite(descriptor, text[written:], written)
    os.ftruncate(descriptor, len(text))
    os.fsync(descriptor)


def _read_journal(instance: InstanceLayout) -> bytes | None:
    """Return the text of an interrupted write; None if there was none."""
    text = (records.read_document(instance.admins_path, instance.trusted_dir) or {}).get("text")
    if not isinstance(text, str):
        return None
    return text.encode("latin-1", "replace")


def _write_journal(instance: InstanceLayout, text: bytes) -> None:
    # Latin-1 maps every byte to a character.
    write_atomically(instance.admins_path, json.dumps({"text": text.decode("latin-1")}))
