"""The child process that reads packs (VPK files), which strangers made.

    python -I pack_reader.py RESULTS FILE:FOLDER:KIND:NAME …

RESULTS, FILE and FOLDER are numbers of open descriptors: where to write a line of JSON for each pack, the pack,
and the folder where its further parts are (`NAME_000.vpk` …). KIND is `pack`, or `mission` for the file of a
campaign. The process limits its memory, its CPU time and the size of what it writes, and gives up the network,
other programs and other processes before it looks at a pack. One that costs more than what is left of that ends
the process, and so is told by having no line. What the packs before it took is among that: only of the first
can one say that it costs too much.
"""

import json
import os
import resource
import struct
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

# Run by its path and isolated, it does not have the package on its search path.
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
"""By which the header of version 2 is longer."""
_MAX_TREE_BYTES = 64 * 1024**2
_MAX_ENTRIES = 250_000
_MAX_NAME_CHARS = 255
_MAX_CONFIGS = 50
_COPY_BYTES = 1024**2


class PackError(Exception):
    """A pack is not read; the text completes “The pack …”."""


def main(arguments: list[str]) -> int:
    """Write a line for each pack that the command line names."""
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
    """Take from this process what reading does not need."""
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
    """Return what a pack is and holds. What is wrong with it is in the result too.

    A mission file is taken for a pack in which there is nothing else. Raises MemoryError.
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
    """The files of a pack: where `data_start` is in the first, the data of its entries begins."""

    file: int
    folder: int
    name: str
    data_start: int

    def read(self, entry: FileInfo, max_bytes: int) -> bytes:
        """Return the beginning of an entry's content; less than its length if the pack is cut short."""
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
        """Return what is wrong with the files, by where the data in each ends (None: the first)."""
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
    """What the entries of a pack were found to be."""

    odd_paths: int = 0
    maps: set[str] = field(default_factory=set)
    configs: list[str] = field(default_factory=list)
    campaigns: list[Campaign] = field(default_factory=list)
    ends: dict[int | None, int] = field(default_factory=dict)

    def add(self, path: str, entry: FileInfo, pack: _OpenPack) -> None:
        """Take one entry, by its path in lower case."""
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

    srctools reads all that follows the directory into memory, of an addon its maps: so it gets a copy of the
    directory alone, as a pack of version 1.
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
            # It raises whatever its parts raise: struct.error, ValueError and bare Exceptions.
            raise PackError("has a directory that is damaged") from error
    finally:
        os.close(copy)
    if len(entries) > _MAX_ENTRIES:
        raise PackError(f"names {len(entries):,} files")
    return entries


def _to_path(entry: FileInfo) -> str | None:
    """Return the path of an entry in lower case; None if no pack of good will has such a one."""
    path: str = entry.filename
    parts = path.split("/")
    if len(path) > _MAX_NAME_CHARS or any(part in ("", ".", "..") for part in parts):
        return None
    if "\\" in path or ":" in path or not path.isprintable():
        return None
    return path.lower()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
