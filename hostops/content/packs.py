"""Reads the packs (VPK files) of a layer with a limited child process, and caches the results.

A cached result is valid while the pack's size, time and inode stay the same. That is enough for files from
people and SteamCMD. A game could forge a pack with the same stamp, so nothing is cached for folders that a game
can write to.
"""

import contextlib
import hashlib
import json
import os
import posixpath
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

from hostops.content.pack_facts import Pack, to_pack
from hostops.content.search_paths import PACK_EXTENSION
from hostops.errors import CommandError, HostError
from hostops.instances.records import MALFORMED
from hostops.linux import untrusted
from hostops.linux.files import make_dir, write_atomically
from hostops.linux.process import minimal_environment, run
from hostops.linux.untrusted import UntrustedFileError
from hostops.specs import CancelToken

READER_PATH = Path(__file__).with_name("pack_reader.py")
MAX_PACKS = 2_000
"""The most packs read in one layer."""

LAYER_SECONDS = 120.0
MAX_LAYER_RESULT_BYTES = 16 * 1024**2
"""Limits on time and results for all packs of a layer together. The game's own layer takes a second and
100 KiB, and 2,000 addons take less than half the limits."""

_AT_ONCE = 16
_SECONDS = 60.0
_MAX_KEPT_BYTES = 64 * 1024**2
_FORMAT = 3
"""The format of the cache. Results in another format are read again."""


@dataclass(frozen=True)
class _Stamp:
    """Identifies a pack's file."""

    size: int
    mtime_ns: int
    inode: int

    @classmethod
    def of(cls, status: os.stat_result) -> "_Stamp":
        return cls(status.st_size, status.st_mtime_ns, status.st_ino)


_Read = tuple[Pack, _Stamp | None]
"""A pack, and the stamp of the file it was read from; None if it must be read again in any case."""


def read_packs(
    layer: Path,
    paths: Sequence[str],
    *,
    cache_dir: Path | None = None,
    cancel: CancelToken | None = None,
) -> dict[str, Pack]:
    """Return the facts about the packs, or mission files, at `paths` in a layer.

    With `cache_dir`, for layers that no game can write to, only those that changed since the last time are
    read. A reading child costs about 0.1 s, and the game's own pack of 60,000 files another 0.3 s. Once a layer
    has used up its time or memory, its remaining packs are not read, and their fault says so.

    Raises HostError if the child cannot be started, or fails for a reason other than a pack.
    """
    cancel = cancel or CancelToken()
    kept = _read_kept(cache_dir, layer) if cache_dir else {}
    found: dict[str, _Read] = {}
    unread: list[str] = []
    budget = _Budget()
    with untrusted.open_folder(layer, layer) as top:
        for path in paths[:MAX_PACKS]:
            if path in kept and _is_unchanged(top, path, kept[path][1]):
                found[path] = kept[path]
            else:
                unread.append(path)
        while unread and not budget.fault:
            found |= _read_some(top, unread[:_AT_ONCE], budget, cancel)
            # A child that ended early leaves the current pack and those after it to the next child.
            unread = [path for path in unread if path not in found]
        others = {
            path: read
            for path, read in kept.items()
            if path not in found and _is_unchanged(top, path, read[1])
        }
    to_keep = others | {path: read for path, read in found.items() if read[1]}
    if cache_dir and to_keep != kept:
        _keep(cache_dir, layer, to_keep)
    too_many = Pack(fault=budget.fault or f"is one of more than {MAX_PACKS:,}, and not read")
    return {path: found[path][0] if path in found else too_many for path in paths}


class _Budget:
    """What is left of a layer's limits. `fault` says why the remaining packs are not read."""

    def __init__(self) -> None:
        self._until = time.monotonic() + LAYER_SECONDS
        self._bytes_left = MAX_LAYER_RESULT_BYTES

    @property
    def seconds_left(self) -> float:
        return self._until - time.monotonic()

    @property
    def fault(self) -> str:
        if self.seconds_left <= 0:
            return f"is not read: the packs before it took {LAYER_SECONDS:.0f} s"
        if self._bytes_left <= 0:
            return "is not read: there is more in the packs before it than is kept"
        return ""

    def take(self, size: int) -> None:
        """Subtract the size of a result."""
        self._bytes_left -= size


def _is_unchanged(top: int, path: str, stamp: _Stamp | None) -> bool:
    try:
        return _Stamp.of(untrusted.stat_at(top, path)) == stamp
    except (FileNotFoundError, UntrustedFileError):
        return False


@dataclass(frozen=True)
class _Open:
    """The file of a pack and its folder, as descriptors."""

    path: str
    file: int
    folder: int

    @property
    def argument(self) -> str:
        """The pack's argument on the child's command line."""
        name = posixpath.basename(self.path)
        kind = "pack" if name.lower().endswith(PACK_EXTENSION) else "mission"
        stem = name[: -len("_dir.vpk")] if name.lower().endswith("_dir.vpk") else name
        return f"{self.file}:{self.folder}:{kind}:{stem}"

    @property
    def stamp(self) -> _Stamp:
        return _Stamp.of(os.fstat(self.file))


def _read_some(
    top: int, paths: Sequence[str], budget: _Budget, cancel: CancelToken
) -> dict[str, _Read]:
    """Return the facts about the first of `paths`, or about all of them if no pack ends the child.

    A pack is blamed for the child's end only if the child's full limits were its own: only the first. So the
    result has at least one of `paths`, unless the time of the layer ran out.
    """
    found: dict[str, _Read] = {}
    with contextlib.ExitStack() as stack:

        def hold(descriptor: int) -> int:
            stack.callback(os.close, descriptor)
            return descriptor

        results = hold(os.memfd_create("packs"))
        opened: list[_Open] = []
        for path in paths:
            try:
                file = hold(untrusted.open_at(top, path))
                folder = hold(untrusted.open_folder_at(top, posixpath.dirname(path)))
            except (UntrustedFileError, OSError) as error:
                found[path] = (Pack(fault=f"cannot be opened: {_reason(error)}"), None)
            else:
                opened.append(_Open(path, file, folder))
        if not opened:
            return found
        stamps = [one.stamp for one in opened]
        death = _run_reader(results, opened, min(_SECONDS, budget.seconds_left), cancel)
        lines = _read_lines(results)
        for one, stamp, line in zip(opened, stamps, lines, strict=False):
            found[one.path] = (to_pack(json.loads(line)), stamp)
            budget.take(len(line))
        if not lines and not budget.fault:
            # A child that exits normally without any output has exceeded the output limit.
            fault = (
                f"cannot be read within the limits: {death.how}"
                if death
                else "has more in it than can be told"
            )
            # The duration depends on what else runs here, so another attempt may succeed.
            is_kept = not (death and death.is_of_time)
            found[opened[0].path] = (Pack(fault=fault), stamps[0] if is_kept else None)
    return found


class _Death(NamedTuple):
    """How a child was ended; `is_of_time` if it ran out of time."""

    how: str
    is_of_time: bool = False


def _run_reader(
    results: int, opened: Sequence[_Open], seconds: float, cancel: CancelToken
) -> _Death | None:
    """Let the child read the packs for at most `seconds`; return how it was ended, if it was."""
    until = time.monotonic() + seconds
    said: list[str] = []

    def give_up() -> None:
        if time.monotonic() > until:
            raise _TooLongError

    try:
        run(
            [
                sys.executable,
                "-I",
                str(READER_PATH),
                str(results),
                *(one.argument for one in opened),
            ],
            environment=minimal_environment(Path("/")),
            cwd=Path("/"),
            pass_fds=(results, *(one.file for one in opened), *(one.folder for one in opened)),
            on_line=lambda _, line: said.append(line),
            on_wait=give_up,
            cancel=cancel,
            grace_seconds=0.0,
        )
    except _TooLongError:
        return _Death(f"it took more than {seconds:.0f} s", is_of_time=True)
    except CommandError as error:
        if error.returncode < 0:
            return _Death(f"the reader was ended by {signal.Signals(-error.returncode).name}")
        raise HostError(
            f"Packs of the game cannot be read: {said[-1] if said else error} Run pip install -r "
            "requirements.txt, and read the worker's log if that does not help."
        ) from error
    return None


class _TooLongError(Exception):
    """The child has used up its time."""


def _read_lines(results: int) -> list[bytes]:
    """Return the whole lines that the child has written."""
    data = os.pread(results, os.fstat(results).st_size, 0)
    return data.split(b"\n")[:-1]


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error)


# --- What is kept -------------------------------------------------------------------------------


def _kept_path(cache_dir: Path, layer: Path) -> Path:
    return cache_dir / f"packs-{hashlib.sha256(os.fsencode(layer)).hexdigest()[:32]}.json"


def _read_kept(cache_dir: Path, layer: Path) -> dict[str, _Read]:
    """Return the cached results for a layer; nothing if they cannot be read, since a reader can redo them."""
    try:
        data = untrusted.read_file(_kept_path(cache_dir, layer), cache_dir, _MAX_KEPT_BYTES)
        document = json.loads(data)
        if (document["format"], document["layer"]) != (_FORMAT, str(layer)):
            return {}
        return {
            path: (to_pack(one["pack"]), _Stamp(**one["stamp"]))
            for path, one in document["packs"].items()
        }
    except (FileNotFoundError, UntrustedFileError, *MALFORMED):
        return {}


def _keep(cache_dir: Path, layer: Path, reads: Mapping[str, _Read]) -> None:
    document = {
        "format": _FORMAT,
        "layer": str(layer),
        "packs": {
            path: {"pack": asdict(pack), "stamp": asdict(stamp)}
            for path, (pack, stamp) in reads.items()
            if stamp
        },
    }
    # Without the cache packs are only read again, so a full disk is no error.
    with contextlib.suppress(OSError):
        write_atomically(
            make_dir(cache_dir) / _kept_path(cache_dir, layer).name, json.dumps(document)
        )
