"""The child process that reads packs (VPK files), which strangers made.

    python -I pack_reader.py RESULTS FILE:FOLDER:NAME …

All but NAME are numbers of open descriptors: where to write a line of JSON for each pack, the pack, and the
folder where its further parts are (`NAME_000.vpk` …). The process limits its memory, its CPU time and the size
of what it writes, and gives up the network, other programs and other processes before it looks at a pack. One
that costs more than the limits ends the process, and so is told by having no line.
"""

import json
import os
import resource
import struct
import sys
from dataclasses import asdict

# Run by its path and isolated, it does not have the package on its search path.
if not __package__:
    sys.path.append(__file__.rsplit("/", 3)[0])

from srctools.vpk import VPK, FileInfo, get_arch_filename

from hostops.box import seccomp
from hostops.content.pack_facts import MAX_MAPS, Pack
from hostops.content.search_paths import to_map_name
from hostops.linux import untrusted
from hostops.linux.namespaces import drop_privileges

MEMORY_BYTES = 512 * 1024**2
CPU_SECONDS = 20
_WRITTEN_BYTES = 80 * 1024**2
_OPEN_FILES = 128

_SIGNATURE = 0x55AA1234
_HEADER = struct.Struct("<III")
_HEADER_2_BYTES = 16
"""By which the header of version 2 is longer."""
_MAX_TREE_BYTES = 64 * 1024**2
_MAX_ENTRIES = 250_000
_MAX_NAME_CHARS = 255
_COPY_BYTES = 1024**2


class PackError(Exception):
    """A pack is not read; the text completes “The pack …”."""


def main(arguments: list[str]) -> int:
    """Write a line for each pack that the command line names."""
    results = int(arguments[0])
    targets = [target.split(":", 2) for target in arguments[1:]]
    limit()
    for file, folder, name in targets:
        pack = read_pack(int(file), int(folder), name)
        line = json.dumps(asdict(pack)).encode() + b"\n"
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


def read_pack(file: int, folder: int, name: str) -> Pack:
    """Return what a pack is and holds. What is wrong with it is in the result too."""
    try:
        return _read(file, folder, name)
    except PackError as error:
        return Pack(fault=str(error))
    except MemoryError:
        return Pack(fault="needs more memory than one may take")


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
    entries = _read_directory(file, start, tree_bytes)
    maps: set[str] = set()
    odd_paths = 0
    data_end = start + tree_bytes
    ends: dict[int | None, int] = {}
    for entry in entries:
        path = _to_path(entry)
        if path is None:
            odd_paths += 1
            continue
        if entry.arch_len:
            end = entry.offset + entry.arch_len
            ends[entry.arch_index] = max(ends.get(entry.arch_index, 0), end)
        if path.startswith("maps/") and (found := to_map_name(path[len("maps/") :])):
            maps.add(found)
    if data_end + ends.pop(None, 0) > size:
        fault = f"is cut short: it has {size:,} bytes, and its directory names more"
    else:
        fault = _find_fault_of_parts(folder, name, ends)
    return Pack(
        version=version,
        fault=fault,
        has_directory=True,
        odd_paths=odd_paths,
        maps=tuple(sorted(maps)[:MAX_MAPS]),
        is_whole=len(maps) <= MAX_MAPS,
    )


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


def _find_fault_of_parts(folder: int, name: str, ends: dict[int | None, int]) -> str:
    """Return what is wrong with the further files of a pack, by where the data in each ends."""
    for index, end in sorted(ends.items(), key=lambda item: item[0] or 0):
        part = get_arch_filename(name, index)
        try:
            size = untrusted.stat_at(folder, part).st_size
        except (untrusted.UntrustedFileError, OSError):
            return f"lacks its part {part}"
        if size < end:
            return f"is cut short: its part {part} has {size:,} bytes, and its directory names more"
    return ""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
