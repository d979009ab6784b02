"""Reads the progress of a start from the game's output: the map is loaded, or cannot be, or why it ended.

The lines are the engine's own, as in public copies of the Source SDK and in consoles of Left 4 Dead 2.
"""

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from hostops.instances import runs
from hostops.layout import InstanceLayout
from hostops.linux import untrusted
from hostops.linux.holes import find_data
from hostops.linux.lines import decode_line
from hostops.linux.untrusted import UntrustedFileError

READY_LINE = b"Connection to Steam servers successful."
"""srcds prints this once it is up, if it reaches Steam."""

_LOADED_MARKS = (READY_LINE, b'Started map "', b"Server is hibernating")
_CHUNK_BYTES = 1 << 20
_TURN_BYTES = 4 << 20
"""The most searched in one call, which takes a few milliseconds."""
_MAX_LINE_BYTES = 4096
_MOST_FAILED_MAPS = 20

# Printed by Host_Map_Helper() of the engine.
_MAP_FAILED = re.compile(rb"map load failed: ([^\r\n]{1,260}?) not found or invalid")
# CModelLoader::Map_IsValid says whether it was not found or invalid, and why.
_MAP_REASON = re.compile(rb"CModelLoader::Map_IsValid: [^\r\n]{1,400}")

_INSTALL_AGAIN = "Install the game again."
_32_BIT = (
    "The engine is a 32-bit program: install its libraries on the host (on Debian and Ubuntu `dpkg "
    "--add-architecture i386`, then `apt install lib32gcc-s1 lib32stdc++6`), or the library that is named."
)
# What ends an engine before it has a map, and the remedy. The engine's own libraries have no system path and no
# version in their names.
_ENDINGS = (
    (re.compile(r"error while loading shared libraries: |wrong ELF class"), _32_BIT),
    (re.compile(r"version [`'][A-Z]+_[\d.]+' not found"), _32_BIT),
    (re.compile(r"Failed to open (\S+) \((?:\S*/)?\1: cannot open shared object"), _INSTALL_AGAIN),
    (re.compile(r"Failed to open \S+ \(\S+: cannot open shared object file"), _32_BIT),
    (re.compile(r"AppFramework : Unable to load module "), _INSTALL_AGAIN),
    (re.compile(r"Setup file 'gameinfo\.txt' doesn't exist"), _INSTALL_AGAIN),
    (
        re.compile(r"Couldn't allocate any server IP port"),
        "Another program has its port: stop that, or give the server another port.",
    ),
)
# Metamod tries its 64-bit build too, and says that it cannot be loaded; no engine ends because of addons.
_OF_ADDONS = re.compile(r"\baddons/|\[META\]|\[SM\]")


@dataclass(frozen=True)
class FailedMap:
    """A map that the engine refused, in the engine's own words."""

    name: str
    lines: tuple[str, ...]


class StartupConsole:
    """Reads the output of one run, every byte once, however much it is."""

    def __init__(self, instance: InstanceLayout, run: runs.Run) -> None:
        self._instance = instance
        self._path = instance.console_log_path(run.run)
        self._descriptor = -1
        self._offset = 0
        self._size_seen = 0
        self._reason = b""
        self.has_loaded = False
        """Whether it has printed something that it prints only with a map."""
        self.has_gaps = False
        """Whether part of the output was freed on disk before it was read."""
        self.failed_maps: list[FailedMap] = []

    def close(self) -> None:
        """Close the file."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    @property
    def is_open(self) -> bool:
        """Whether the file is open."""
        return self._descriptor >= 0

    @property
    def bytes_read(self) -> int:
        """The offset up to which it was read."""
        return self._offset

    def read(self) -> bool:
        """Search the next `_TURN_BYTES` of the output; return whether that was all of it.

        A flood may outrun that. If nothing is new, it costs a microsecond or two.
        """
        if self._descriptor < 0:
            try:
                self._descriptor = untrusted.open_file(self._path, self._instance.trusted_dir)
            except (FileNotFoundError, UntrustedFileError):
                return False
        size = os.fstat(self._descriptor).st_size
        if size == self._size_seen:
            return True
        begin = find_data(self._descriptor, self._offset)
        self.has_gaps = self.has_gaps or begin > self._offset
        self._offset = begin
        end = self._offset + _TURN_BYTES
        while self._offset < end:
            data = os.pread(self._descriptor, _CHUNK_BYTES, self._offset)
            # Later output may complete the last line, but an overlong line is not waited for.
            whole = data.rfind(b"\n") + 1 or max(0, len(data) - _MAX_LINE_BYTES)
            self._search(data[:whole])
            self._offset += whole
            if len(data) < _CHUNK_BYTES:
                self._size_seen = size
                return True
        return False

    def find_failed_map(self, wanted: Iterable[str]) -> FailedMap | None:
        """Return the refusal of one of the requested maps, if there is any."""
        names = {to_map_name(name) for name in wanted}
        return next((one for one in self.failed_maps if to_map_name(one.name) in names), None)

    def _search(self, data: bytes) -> None:
        self.has_loaded = self.has_loaded or any(mark in data for mark in _LOADED_MARKS)
        if b"Map_IsValid" not in data and b"map load failed" not in data:
            return
        for line in data.splitlines():
            if match := _MAP_REASON.search(line):
                self._reason = match[0]
            elif match := _MAP_FAILED.search(line):
                lines = [decode_line(one) for one in (self._reason, match[0]) if one]
                self._reason = b""
                if len(self.failed_maps) < _MOST_FAILED_MAPS:
                    self.failed_maps.append(FailedMap(decode_line(match[1]), tuple(lines)))


def to_map_name(text: str) -> str:
    """Return a map's name as the engine compares it: without `maps/`, without `.bsp`, in lower case."""
    return text.strip().lower().removeprefix("maps/").removesuffix(".bsp")


def find_wanted_maps(argv: Sequence[str]) -> list[str]:
    """Return the maps that a command line asks for; a quoted argument may contain several words."""
    words = " ".join(argv).replace('"', " ").split()
    return [name for word, name in pairwise(words) if word.lower() == "+map"]


def find_ending(lines: Sequence[str]) -> tuple[str, str] | None:
    """Return the console line that says why the engine ended, and the remedy; None if there is none."""
    for line in reversed(lines):
        if _OF_ADDONS.search(line):
            continue
        for pattern, cure in _ENDINGS:
            if pattern.search(line):
                return line.strip(), cure
    return None
