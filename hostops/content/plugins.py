"""Reads what a compiled SourceMod plugin (`.smx`) says about itself, and which other plugins it needs.

The format is that of SourcePawn's smx-headers.h and SourceMod's structures (`myinfo`, `__ext_…`, `__pl_…`).
Plugins come from strangers: no length in a file is trusted, and whatever its bytes are, only ValueError is
raised.
"""

import os
import posixpath
import struct
import time
import zlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from hostops.content.search_paths import ADDONS_DIR
from hostops.instances.cfg_files import show_path
from hostops.linux import untrusted
from hostops.linux.untrusted import UntrustedFileError
from hostops.specs import (
    ContentFinding,
    ContentSeverity,
    PluginExtension,
    PluginFacts,
    PluginLibrary,
    PluginNeeds,
)

MAX_FILE_BYTES = 8 * 1024**2
MAX_IMAGE_BYTES = 32 * 1024**2
"""The largest plugin that is read; the largest of 554 known ones has 2 MiB."""

MAX_PLUGINS = 1_000
_SOURCEMOD_DIR = f"{ADDONS_DIR}/sourcemod"
PLUGINS_DIR = f"{_SOURCEMOD_DIR}/plugins"
_EXTENSIONS_DIR = f"{_SOURCEMOD_DIR}/extensions/"
_SECONDS = 2.0
"""The most plugins of an overlay that are read, and the longest time for that: 250 take 0.2 s."""

_UNLOADED = frozenset({"disabled", "optional"})
"""SourceMod does not load by itself what is in folders of these names, wherever they are."""

_HEAD = struct.Struct("<IHBIIBII")
_SECTION = struct.Struct("<3I")
_DATA = struct.Struct("<3I")
_VARIABLE = struct.Struct("<2I")
_MAGIC = 0x53504646
_UNCOMPRESSED, _ZLIB = 0, 1
_CELL_BYTES = 4
_MAX_TEXT_BYTES = 256
_MAX_NEEDS = 200
_MAX_TABLE_BYTES = 64 * 1024


@dataclass(frozen=True)
class Plugin:
    """A plugin of an overlay, below its folder of plugins. Without `facts` it cannot be read: see `fault`."""

    path: str
    facts: PluginFacts | None
    fault: str = ""

    @property
    def is_loaded(self) -> bool:
        """Whether SourceMod loads it by itself."""
        return self.path.endswith(".smx") and _UNLOADED.isdisjoint(self.path.split("/")[:-1])


def read_plugin(data: bytes, file_name: str = "") -> PluginFacts:
    """Return what a compiled plugin says about itself. The text of a ValueError completes “The plugin …”.

    `file_name` is its own name: a library that names this file is one that it provides.
    """
    variables = _Variables(_read_sections(data))
    title, description, author, version, url = variables.read_info()
    extensions: list[PluginExtension] = []
    for address in variables.addresses("__ext_"):
        name, file = variables.read_texts(address, 2)
        extensions.append(PluginExtension(name, file, variables.read_flag(address, 3)))
    needs: list[PluginLibrary] = []
    for address in variables.addresses("__pl_"):
        name, file = variables.read_texts(address, 2)
        needs.append(PluginLibrary(name, file, variables.read_flag(address, 2)))
    own = file_name.lower()
    return PluginFacts(
        title=title,
        author=author,
        version=version,
        description=description,
        url=url,
        extensions=tuple(extensions),
        libraries=tuple(one for one in needs if not own or one.file.lower() != own),
        provides=tuple(one.name for one in needs if own and one.file.lower() == own),
    )


def list_plugins(folder: int) -> tuple[list[Plugin], bool]:
    """Return the plugins below an open folder of an overlay, in a stable order, and whether these are all.

    Stops after MAX_PLUGINS, or when its time is up.
    """
    until = time.monotonic() + _SECONDS
    found: list[Plugin] = []
    try:
        plugins = untrusted.open_folder_at(folder, PLUGINS_DIR)
    except (FileNotFoundError, UntrustedFileError):
        return [], True
    try:
        for path, _ in untrusted.walk(plugins, takes_what_it_can=True):
            if not path.lower().endswith(".smx"):
                continue
            if len(found) >= MAX_PLUGINS or time.monotonic() > until:
                return found, False
            found.append(_read_file(plugins, path))
    finally:
        os.close(plugins)
    return found, True


def read_plugins(overlay: Path) -> tuple[list[Plugin], bool]:
    """Return the plugins of an overlay as `list_plugins` does."""
    with untrusted.open_folder(overlay, overlay) as folder:
        return list_plugins(folder)


def find_needs(plugins: Iterable[Plugin]) -> Iterator[PluginNeeds]:
    """Yield what plugins need, and what they provide; only for those that SourceMod loads by itself."""
    for plugin in plugins:
        if plugin.facts is not None and plugin.is_loaded:
            yield PluginNeeds(
                plugin.path,
                tuple(one.file.lower() for one in plugin.facts.extensions if one.is_required),
                tuple((one.name, one.file) for one in plugin.facts.libraries if one.is_required),
                plugin.facts.provides,
                plugin.facts.title,
                plugin.facts.author,
                plugin.facts.version,
            )


def find_lacks(
    plugins: Sequence[Plugin], paths: Iterable[str], *, are_all: bool
) -> Iterator[ContentFinding]:
    """Yield what there is to say about the plugins of an overlay; `paths` are its files.

    A need that another overlay or the game may well meet is not this overlay's fault.
    """
    if not are_all:
        text = f"It has more plugins than are checked: {len(plugins):,}."
        yield ContentFinding("plugins_not_read", ContentSeverity.NOTED, text, PLUGINS_DIR)
    for plugin in plugins:
        if plugin.facts is None:
            yield ContentFinding(
                "plugin_broken",
                ContentSeverity.WARNED,
                f"The plugin {plugin.fault} SourceMod cannot load it. Download it again.",
                show_path(f"{PLUGINS_DIR}/{plugin.path}"),
            )
    names = {posixpath.basename(plugin.path).lower() for plugin in plugins}
    extensions = {_to_extension(path) for path in paths if path.startswith(_EXTENSIONS_DIR)}
    needs: dict[str, list[str]] = defaultdict(list)
    for plugin in plugins:
        if plugin.facts is None or not plugin.is_loaded:
            continue
        for extension in plugin.facts.extensions:
            if extension.is_required and extension.file.lower() not in extensions:
                needs[f"the extension {extension.name}"].append(plugin.path)
        for library in plugin.facts.libraries:
            if library.is_required and library.file.lower() not in names:
                needs[f"the plugin {library.file}"].append(plugin.path)
    for need, users in sorted(needs.items()):
        more = f" and {len(users) - 1:,} more need" if len(users) > 1 else " needs"
        yield ContentFinding(
            "plugin_needs",
            ContentSeverity.NOTED,
            f"{show_path(users[0])}{more} {show_path(need)}, which is not in this overlay: another one has to "
            "bring it.",
        )


def _to_extension(path: str) -> str:
    """Return how plugins name an extension: x.ext is x.ext.2.l4d2.so, x.ext.so or auto.x.ext/2.l4d2.so."""
    inner = path[len(_EXTENSIONS_DIR) :].lower()
    folder, _, _ = inner.partition("/")
    stem, mark, _ = folder.removeprefix("auto.").partition(".ext")
    return f"{stem}{mark}"


def _read_file(folder: int, path: str) -> Plugin:
    try:
        descriptor = untrusted.open_at(folder, path)
    except (OSError, UntrustedFileError) as error:
        return Plugin(path, None, f"cannot be opened: {error}")
    with open(descriptor, "rb") as file:  # noqa: PTH123 - a descriptor
        data = file.read(MAX_FILE_BYTES + 1)
    try:
        return Plugin(path, read_plugin(data, posixpath.basename(path)))
    except ValueError as error:
        return Plugin(path, None, str(error))


# --- The file -----------------------------------------------------------------------------------


def _read_sections(data: bytes) -> dict[bytes, bytes]:
    """Return the content of each section of a plugin."""
    if len(data) > MAX_FILE_BYTES:
        raise ValueError(f"has more than {MAX_FILE_BYTES:,} bytes.")
    if len(data) < _HEAD.size:
        raise ValueError("is cut short: it ends within its header.")
    magic, _, compression, _, image_bytes, count, names_at, data_at = _HEAD.unpack_from(data)
    if magic != _MAGIC:
        raise ValueError("is not one that SourceMod loads: it begins with other bytes.")
    if image_bytes > MAX_IMAGE_BYTES:
        raise ValueError(f"claims to have {image_bytes:,} bytes.")
    if not _HEAD.size <= data_at <= len(data):
        raise ValueError("is cut short: it ends before its data begin.")
    image = data[:data_at] + _inflate(data[data_at:], compression, image_bytes - data_at)
    sections: dict[bytes, bytes] = {}
    for number in range(count):
        at = _HEAD.size + number * _SECTION.size
        if at + _SECTION.size > data_at:
            raise ValueError("is damaged: its list of sections is cut short.")
        name, begin, size = _SECTION.unpack_from(image, at)
        if begin + size > len(image):
            raise ValueError("is cut short: one of its sections lies past its end.")
        sections.setdefault(_read_string(image, names_at + name), image[begin : begin + size])
    return sections


def _inflate(packed: bytes, compression: int, most: int) -> bytes:
    if compression == _UNCOMPRESSED:
        return packed
    if compression != _ZLIB:
        raise ValueError("is packed in an unknown way.")
    if most < 0:
        raise ValueError("is damaged: it claims to be smaller than its own header.")
    inflater = zlib.decompressobj()
    try:
        # One byte more than there should be, because a limit of 0 would be none.
        image = inflater.decompress(packed, most + 1)
    except zlib.error as error:
        raise ValueError("is damaged: it cannot be unpacked.") from error
    if len(image) != most or not inflater.eof:
        raise ValueError("is damaged: it does not have as many bytes as it claims.")
    return image


def _read_string(data: bytes, at: int) -> bytes:
    """Return the NUL-terminated string at a position; of one that is too long, as much as there is."""
    end = data.find(b"\0", at, at + _MAX_TEXT_BYTES)
    return data[at : end if end >= 0 else at + _MAX_TEXT_BYTES]


class _Variables:
    """The public variables of a plugin, and its initial memory, which contains them."""

    def __init__(self, sections: dict[bytes, bytes]) -> None:
        data = sections.get(b".data", b"")
        if len(data) < _DATA.size:
            raise ValueError("is damaged: it has no data.")
        size, _, begin = _DATA.unpack_from(data)
        self._memory = data[begin : begin + size]
        table, names = sections.get(b".pubvars", b""), sections.get(b".names", b"")
        whole = len(table) // _VARIABLE.size * _VARIABLE.size
        self._addresses = {
            _read_string(names, name): address
            for address, name in _VARIABLE.iter_unpack(table[: min(whole, _MAX_TABLE_BYTES)])
        }

    def addresses(self, prefix: str) -> Iterator[int]:
        """Yield the addresses of variables with this prefix, but no more than an honest plugin has."""
        found = (at for name, at in self._addresses.items() if name.startswith(prefix.encode()))
        yield from islice(found, _MAX_NEEDS)

    def read_info(self) -> list[str]:
        """Return name, description, author, version and address; empty where a plugin does not give them."""
        address = self._addresses.get(b"myinfo")
        return ["", "", "", "", ""] if address is None else self.read_texts(address, 5)

    def read_texts(self, address: int, count: int) -> list[str]:
        """Return the texts that the cells at and after an address point to."""
        return [
            _to_text(_read_string(self._memory, self._read_cell(address, index)))
            for index in range(count)
        ]

    def read_flag(self, address: int, index: int) -> bool:
        """Return whether a cell is set."""
        return self._read_cell(address, index) != 0

    def _read_cell(self, address: int, index: int) -> int:
        at = address + index * _CELL_BYTES
        cell = self._memory[at : at + _CELL_BYTES]
        if len(cell) < _CELL_BYTES:
            raise ValueError("is damaged: one of its variables lies past its end.")
        return int.from_bytes(cell, "little")


def _to_text(data: bytes) -> str:
    text = data.decode("utf-8", "replace")
    return "".join(one if one.isprintable() else " " for one in text).strip()
