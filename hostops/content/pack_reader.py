"""The child process that reads packs (VPK files), which come from strangers.

    python -I pack_reader.py RESULTS FILE:FOLDER:KIND:NAME …

RESULTS, FILE and FOLDER are open descriptors: where to write one line of JSON per pack, the pack, and the
folder with its further parts (`NAME_000.vpk` …). KIND is `pack`, or `mission` for a campaign's file. Before it
reads a pack, the process limits its memory, its CPU time and the size of its output, and gives up the
network, other programs and other processes. A pack that exceeds what is left of these limits ends the process,
and is then missing from the output. Earlier packs share the limits, so only the first pack can be blamed for
exceeding them.
"""

import json
import os
import resource
import struct
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

# Run by path and isolated, so the package is not on its search path.
if not __package__:
    sys.path.append(__file__.rsplit("/", 3)[0])

from srctools.vpk import VPK, FileInfo, get_arch_filename

from hostops.box import seccomp
from hostops.content.missions import MAX_MISSION_BYTES, read_mission
from hostops.content.pack_facts import MAX_CAMPAIGNS, MAX_MAPS, Pack
from hostops.content.search_paths import to_map_name
from hostops.linux import untrusted
from hostops.linux.namespaces import drop_privileges
from hostops.specs import Campaign

MEMORY_BYTES = 512 * 1024**2
CPU_SECONDS = 20
_WRITTEN_BYTES = 16 * 1024**2
_OPEN_FILES = 128

_SIGNATURE = 0x55AA1234
_HEADER = struct.Struct("<III")
_HEADER_2_BYTES = 16
"""How much longer the header of version 2 is."""
_MAX_TREE_BYTES = 64 * 1024**2
_MAX_ENTRIES = 250_000
_MAX_NAME_CHARS = 255
_MAX_CONFIGS = 50
_COPY_BYTES = 1024**2


class PackError(Exception):
    """A pack cannot be read; the text completes “The pack …”."""


def main(arguments: list[str]) -> int:
    """Write one line for each pack named on the command line."""
    results = int(arguments[0])
    targets = [target.split(":", 3) for target in arguments[1:]]
    limit()
    written = 0
    for number, (file, folder, kind, name) in enumerate(targets):
        try:
            pack = read_pack(int(file), int(folder), name, is_mission=kind == "mission")
            line = json.dumps(asdict(pack)).encode() + b"\n"
        except MemoryError:
            if number:
                return 0
            line = json.dumps(asdict(Pack(fault="needs more memory than one may take"))).encode()
            line += b"\n"
        written += len(line)
        if written > _WRITTEN_BYTES:
            return 0
        os.write(results, line)
    return 0


def limit() -> None:
    """Limit this process to what reading needs."""
    for what, most in (
        (resource.RLIMIT_AS, MEMORY_BYTES),
        (resource.RLIMIT_CPU, CPU_SECONDS),
        (resource.RLIMIT_FSIZE, _WRITTEN_BYTES),
        (resource.RLIMIT_NOFILE, _OPEN_FILES),
        (resource.RLIMIT_CORE, 0),
    ):
        _, hard = resource.getrlimit(what)
        bounded = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(what, (bounded, bounded))
    drop_privileges()
    seccomp.refuse_calls(os.getpid(), seccomp.OF_NO_USE_TO_READERS)


def read_pack(file: int, folder: int, name: str, *, is_mission: bool = False) -> Pack:
    """Return the facts about a pack and its content. A fault of the pack is part of the result.

    A mission file is treated as a pack that contains nothing else. Raises MemoryError.
    """
    try:
        if is_mission:
            campaign = read_mission(os.pread(file, MAX_MISSION_BYTES + 1, 0), name)
            return Pack(
                has_directory=True, is_whole=True, campaigns=(campaign,) if campaign else ()
            )
        return _read(file, folder, name)
    except PackError as error:
        return Pack(fault=str(error))


def _read(file: int, folder: int, name: str) -> Pack:
    size = os.fstat(file).st_size
    head = os.pread(file, _HEADER.size, 0)
    if len(head) < _HEADER.size:
        raise PackError(f"has only {size:,} bytes")
    signature, version, tree_bytes = _HEADER.unpack(head)
    if signature != _SIGNATURE:
        raise PackError("is no VPK: it begins with other bytes")
    if version not in (1, 2):
        raise PackError(f"is a VPK of version {version}, which nobody knows")
    if tree_bytes > _MAX_TREE_BYTES:
        raise PackError(f"says of its directory that it takes {tree_bytes:,} bytes")
    start = _HEADER.size + (_HEADER_2_BYTES if version == 2 else 0)
    if start + tree_bytes > size:
        raise PackError(f"is cut short: it ends within its directory, after {size:,} bytes")
    pack = _OpenPack(file, folder, name, data_start=start + tree_bytes)
    found = _Found()
    for entry in _read_directory(file, start, tree_bytes):
        path = _to_path(entry)
        if path is None:
            found.odd_paths += 1
        else:
            found.add(path, entry, pack)
    return Pack(
        version=version,
        fault=pack.find_fault(found.ends),
        has_directory=True,
        is_whole=len(found.maps) <= MAX_MAPS,
        odd_paths=found.odd_paths,
        maps=tuple(sorted(found.maps)[:MAX_MAPS]),
        campaigns=tuple(found.campaigns),
        configs=tuple(sorted(found.configs)[:_MAX_CONFIGS]),
    )


@dataclass(frozen=True)
class _OpenPack:
    """The files of a pack. The data of entries in the first file begins at `data_start`."""

    file: int
    folder: int
    name: str
    data_start: int

    def read(self, entry: FileInfo, max_bytes: int) -> bytes:
        """Return the beginning of an entry's content; shorter than expected if the pack is truncated."""
        begin = entry.start_data[:max_bytes]
        length = min(entry.arch_len, max_bytes - len(begin))
        if entry.arch_index is None:
            return begin + os.pread(self.file, length, self.data_start + entry.offset)
        try:
            part = untrusted.open_at(self.folder, get_arch_filename(self.name, entry.arch_index))
        except (untrusted.UntrustedFileError, OSError):
            return begin
        try:
            return begin + os.pread(part, length, entry.offset)
        finally:
            os.close(part)

    def find_fault(self, ends: Mapping[int | None, int]) -> str:
        """Return what is wrong with the files. `ends` says where the data in each ends (None: the first)."""
        size = os.fstat(self.file).st_size
        if self.data_start + ends.get(None, 0) > size:
            return f"is cut short: it has {size:,} bytes, and its directory names more"
        for index in sorted(one for one in ends if one is not None):
            part = get_arch_filename(self.name, index)
            try:
                size = untrusted.stat_at(self.folder, part).st_size
            except (untrusted.UntrustedFileError, OSError):
                return f"lacks its part {part}"
            if size < ends[index]:
                return f"is cut short: its part {part} has {size:,} bytes, and its directory names more"
        return ""


@dataclass
class _Found:
    """What was found in the entries of a pack."""

    odd_paths: int = 0
    maps: set[str] = field(default_factory=set)
    configs: list[str] = field(default_factory=list)
    campaigns: list[Campaign] = field(default_factory=list)
    ends: dict[int | None, int] = field(default_factory=dict)

    def add(self, path: str, entry: FileInfo, pack: _OpenPack) -> None:
        """Add one entry, by its path in lower case."""
        if entry.arch_len:
            end = entry.offset + entry.arch_len
            self.ends[entry.arch_index] = max(self.ends.get(entry.arch_index, 0), end)
        top, _, rest = path.partition("/")
        if top == "maps" and (name := to_map_name(rest)):
            self.maps.add(name)
        elif top == "cfg":
            self.configs.append(path)
        elif top == "missions" and path.endswith(".txt") and len(self.campaigns) < MAX_CAMPAIGNS:
            campaign = read_mission(pack.read(entry, MAX_MISSION_BYTES + 1), path)
            if campaign:
                self.campaigns.append(campaign)


def _read_directory(file: int, start: int, tree_bytes: int) -> list[FileInfo]:
    """Return the entries of a pack's directory.

    srctools reads everything after the directory into memory, which for an addon means its maps. So it gets a
    copy of just the directory, as a pack of version 1.
    """
    copy = os.memfd_create("directory")
    try:
        os.write(copy, _HEADER.pack(_SIGNATURE, 1, tree_bytes))
        position = start
        while position < start + tree_bytes:
            wanted = min(_COPY_BYTES, start + tree_bytes - position)
            data = os.pread(file, wanted, position)
            if not data:
                raise PackError("was changed while it was read")
            os.write(copy, data)
            position += len(data)
        try:
            entries = list(VPK(f"/proc/self/fd/{copy}"))
        except MemoryError:
            raise
        except Exception as error:
            # srctools lets through whatever its parts raise: struct.error, ValueError and bare Exceptions.
            raise PackError("has a directory that is damaged") from error
    finally:
        os.close(copy)
    if len(entries) > _MAX_ENTRIES:
        raise PackError(f"names {len(entries):,} files")
    return entries


def _to_path(entry: FileInfo) -> str | None:
    """Return the path of an entry in lower case; None if no honest pack would have such a path."""
    path: str = entry.filename
    parts = path.split("/")
    if len(path) > _MAX_NAME_CHARS or any(part in ("", ".", "..") for part in parts):
        return None
    if "\\" in path or ":" in path or not path.isprintable():
        return None
    return path.lower()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
