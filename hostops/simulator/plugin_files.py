"""Reads compiled plugins as SourcePawn loads them (its smx-v1-image.cpp), with its words for errors.

It is a reader of its own, because the simulator shares no code with anything else. No code of a plugin is
run, so what a plugin does only then, such as registering natives or refusing to load, is unknown here.
"""

import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

MAGIC = 0x53504646
VERSIONS = (0x0101, 0x0102, 0x0200)
UNCOMPRESSED, GZ = 0, 1
OLDEST_CODE, NEWEST_CODE = 9, 13
MAX_IMAGE_BYTES = 64 * 1024 * 1024

HEAD = struct.Struct("<IHBIIBII")
SECTION = struct.Struct("<3I")
CODE = struct.Struct("<IBBHII")
DATA = struct.Struct("<3I")
PUBVAR = struct.Struct("<2I")
NATIVE = struct.Struct("<I")
CELL_BYTES = 4


class PluginFileError(Exception):
    """A plugin cannot be loaded; the text is SourcePawn's."""


@dataclass(frozen=True)
class NeededExtension:
    """An extension that a plugin names."""

    name: str
    file: str
    is_autoloaded: bool
    is_required: bool


@dataclass(frozen=True)
class NamedLibrary:
    """A library of plugins that a plugin names: its own if `file` is the plugin's file."""

    name: str
    file: str
    is_required: bool


@dataclass(frozen=True)
class PluginFile:
    """The content of a compiled plugin.

    `info` is its title, description, author, version and address. `api` is the version of SourceMod's
    interface that it was compiled for.
    """

    info: tuple[str, ...]
    api: int
    made_with: str
    extensions: tuple[NeededExtension, ...]
    libraries: tuple[NamedLibrary, ...]
    natives: tuple[str, ...]

    @property
    def title(self) -> str:
        """What it is called; empty if it does not say so."""
        return self.info[0]

    @property
    def author(self) -> str:
        """Who made it."""
        return self.info[2]

    @property
    def version(self) -> str:
        """Its own version."""
        return self.info[3]

    @property
    def url(self) -> str:
        """Where it is from."""
        return self.info[4]


def read_plugin_file(path: Path) -> PluginFile:
    """Return the content of a compiled plugin. Raises PluginFileError, and OSError."""
    sections = _read_sections(path.read_bytes())
    names = sections.get(".names")
    if names is None:
        raise PluginFileError("could not find .names section")
    _require_code(sections)
    memory = _read_memory(sections)
    variables = [
        (_text(names, name), address)
        for address, name in _rows(PUBVAR, sections.get(".pubvars", b""))
    ]
    cells = _Cells(memory)
    info, api, made_with = [""] * 5, 0, ""
    extensions, libraries = [], []
    for name, address in variables:
        if name == "myinfo":
            info = [cells.text(address, index) for index in range(5)]
        elif name == "__version":
            api, made_with = cells.number(address, 0), cells.text(address, 1)
        elif name.startswith("__ext_"):
            extensions.append(
                NeededExtension(
                    cells.text(address, 0),
                    cells.text(address, 1),
                    cells.number(address, 2) != 0,
                    cells.number(address, 3) != 0,
                )
            )
        elif name.startswith("__pl_"):
            libraries.append(
                NamedLibrary(
                    cells.text(address, 0), cells.text(address, 1), cells.number(address, 2) != 0
                )
            )
    natives = tuple(_text(names, at) for (at,) in _rows(NATIVE, sections.get(".natives", b"")))
    return PluginFile(tuple(info), api, made_with, tuple(extensions), tuple(libraries), natives)


def _read_sections(data: bytes) -> dict[str, bytes]:
    if len(data) < HEAD.size:
        raise PluginFileError("bad header")
    magic, version, compression, disk_size, image_size, count, names_at, data_at = HEAD.unpack_from(
        data
    )
    if magic != MAGIC:
        raise PluginFileError("bad header")
    if version not in VERSIONS:
        raise PluginFileError("unsupported version")
    if compression == GZ:
        data = _inflate(data, disk_size, image_size, data_at)
    elif compression != UNCOMPRESSED:
        raise PluginFileError("unknown compression type")
    if names_at >= len(data):
        raise PluginFileError("invalid string table")
    if HEAD.size + count * SECTION.size > len(data):
        raise PluginFileError("invalid section table")
    sections: dict[str, bytes] = {}
    for number in range(count):
        name_at, begin, size = SECTION.unpack_from(data, HEAD.size + number * SECTION.size)
        if name_at >= data_at - names_at:
            raise PluginFileError("invalid section name")
        name = _text(data, names_at + name_at)
        if begin >= len(data) or size > len(data) - begin:
            raise PluginFileError(f"invalid {name.removeprefix('.')} section")
        sections.setdefault(name, data[begin : begin + size])
    return sections


def _inflate(data: bytes, disk_size: int, image_size: int, data_at: int) -> bytes:
    if disk_size > len(data):
        raise PluginFileError("illegal disk size")
    if data_at > len(data) or data_at < HEAD.size:
        raise PluginFileError("illegal compressed region")
    if image_size < data_at:
        raise PluginFileError("illegal image size")
    if image_size > MAX_IMAGE_BYTES:
        raise PluginFileError("out of memory")
    inflater = zlib.decompressobj()
    try:
        image = inflater.decompress(data[data_at:disk_size], image_size - data_at + 1)
    except zlib.error:
        image = b""
    if len(image) > image_size - data_at or not inflater.eof:
        raise PluginFileError("could not decode compressed region")
    return (data[:data_at] + image).ljust(image_size, b"\0")


def _require_code(sections: dict[str, bytes]) -> None:
    code = sections.get(".code")
    if code is None:
        raise PluginFileError("could not find code")
    if len(code) < CODE.size:
        raise PluginFileError("invalid code section")
    size, cell_size, version, _, _, begin = CODE.unpack_from(code)
    if version < OLDEST_CODE:
        raise PluginFileError("code version is too old, no longer supported")
    if version > NEWEST_CODE:
        raise PluginFileError("code version is too new, not supported")
    if cell_size != CELL_BYTES:
        raise PluginFileError("unsupported cellsize")
    if begin > len(code) or size > len(code) - begin:
        raise PluginFileError("invalid code blob")


def _read_memory(sections: dict[str, bytes]) -> bytes:
    data = sections.get(".data")
    if data is None:
        raise PluginFileError("could not find data")
    if len(data) < DATA.size:
        raise PluginFileError("invalid data section")
    size, _, begin = DATA.unpack_from(data)
    if begin > len(data) or size > len(data) - begin:
        raise PluginFileError("invalid data blob")
    return data[begin : begin + size]


def _rows(form: struct.Struct, data: bytes) -> list[tuple[int, ...]]:
    return list(form.iter_unpack(data[: len(data) // form.size * form.size]))


def _text(data: bytes, at: int) -> str:
    return data[at:].partition(b"\0")[0].decode("utf-8", "surrogateescape")


class _Cells:
    """A plugin's initial memory, which contains its variables."""

    def __init__(self, memory: bytes) -> None:
        self._memory = memory

    def number(self, address: int, index: int) -> int:
        at = address + index * CELL_BYTES
        return int.from_bytes(self._memory[at : at + CELL_BYTES], "little")

    def text(self, address: int, index: int) -> str:
        return _text(self._memory, self.number(address, index))
