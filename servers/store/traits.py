"""What a version of an overlay means for others used with it: what it loads, provides and needs.

Everything except what its plugins need follows from the paths of its files, so the manifest alone is enough.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from hostops.specs import ManifestFile
from servers.models import OverlayVersion
from servers.store.versions import read_files_of

VERSIONS_KEPT = 256
"""How many versions' traits are kept in memory: a few kilobytes each. Those of a digest never change."""

METAMOD, SOURCEMOD = "MetaMod", "SourceMod"

_ADDONS = "left4dead2/addons/"
PLUGINS_DIR = f"{_ADDONS}sourcemod/plugins/"
_EXTENSIONS_DIR = f"{_ADDONS}sourcemod/extensions/"
_STACKS = {METAMOD: f"{_ADDONS}metamod/bin/", SOURCEMOD: f"{_ADDONS}sourcemod/bin/"}
_L4DTOOLZ = re.compile(re.escape(_ADDONS) + r"(?:metamod/)?l4dtoolz[^/]*\.vdf")
_TICKRATE = re.compile(re.escape(_ADDONS) + r"(?:metamod/)?tickrate_enabler[^/]*\.(?:vdf|so)")
_METAMOD_PLUGIN = re.compile(re.escape(_ADDONS) + r"metamod/[^/]+\.vdf")
_UNLOADED = ("disabled/", "optional/")
"""SourceMod does not load what is in these folders by itself."""


@dataclass(frozen=True)
class Traits:
    """What a version means for others. Paths are spelled as in the version, names are in lower case.

    `stacks` has the files of MetaMod and SourceMod themselves: their hashes by path in lower case. `plugins`
    are the files of plugins that are loaded, without their folders. `extensions` are named as plugins name
    them (`sdktools.ext`).
    """

    l4dtoolz: tuple[str, ...] = ()
    tickrate: tuple[str, ...] = ()
    has_metamod_plugins: bool = False
    stacks: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    extensions: frozenset[str] = frozenset()
    plugins: frozenset[str] = frozenset()


def read_traits(version: OverlayVersion) -> Traits:
    """Return the traits of a version. Raises `BlobError` if the store has lost or damaged its manifest."""
    return _read_traits(version.digest)


@lru_cache(maxsize=VERSIONS_KEPT)
def _read_traits(digest: str) -> Traits:
    return find_traits(read_files_of(digest))


def find_traits(files: Iterable[ManifestFile]) -> Traits:
    """Return the traits of a version with these files."""
    toolz, ticks = [], []
    has_metamod_plugins = False
    stacks: dict[str, dict[str, str]] = {}
    extensions, plugins = set(), set()
    for file in files:
        path = file.path.lower()
        if not path.startswith(_ADDONS):
            continue
        if _L4DTOOLZ.fullmatch(path):
            toolz.append(file.path)
        if _TICKRATE.fullmatch(path):
            ticks.append(file.path)
        has_metamod_plugins = has_metamod_plugins or bool(_METAMOD_PLUGIN.fullmatch(path))
        for name, folder in _STACKS.items():
            if path.startswith(folder):
                stacks.setdefault(name, {})[path] = file.sha256
        if path.startswith(_EXTENSIONS_DIR):
            extensions.add(to_extension(path[len(_EXTENSIONS_DIR) :]))
        if is_loaded_plugin(path):
            plugins.add(path.rpartition("/")[2])
    return Traits(
        tuple(toolz),
        tuple(ticks),
        has_metamod_plugins,
        stacks,
        frozenset(extensions),
        frozenset(plugins),
    )


def is_loaded_plugin(path: str) -> bool:
    """Return whether a file of an overlay is a plugin that SourceMod loads by itself."""
    inner = path.lower().removeprefix(PLUGINS_DIR)
    is_plugin = len(inner) < len(path) and inner.endswith(".smx")
    return is_plugin and not inner.startswith(_UNLOADED)


def to_extension(path: str) -> str:
    """Return the name by which plugins call an extension, from its lower-case path below the extensions folder.

    `x.ext` is `x.ext.2.l4d2.so`, `x.ext.so` or `auto.x.ext/2.l4d2.so`.
    """
    first, _, _ = path.partition("/")
    stem, mark, _ = first.removeprefix("auto.").partition(".ext")
    return f"{stem}{mark}"
