"""What a version of an overlay is to others that are used with it: what it loads, provides and needs.

All but what its plugins need is told by the paths of its files, and so by its manifest alone.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from hostops.specs import ManifestFile
from servers.models import OverlayVersion
from servers.store.versions import read_files_of

VERSIONS_KEPT = 256
"""Of so many versions the traits are kept in memory: a few kilobytes each. Those of a digest never change."""

METAMOD, SOURCEMOD = "MetaMod", "SourceMod"

_ADDONS = "left4dead2/addons/"
PLUGINS_DIR = f"{_ADDONS}sourcemod/plugins/"
_EXTENSIONS_DIR = f"{_ADDONS}sourcemod/extensions/"
_STACKS = {METAMOD: f"{_ADDONS}metamod/bin/", SOURCEMOD: f"{_ADDONS}sourcemod/bin/"}
_L4DTOOLZ = re.compile(re.escape(_ADDONS) + r"(?:metamod/)?l4dtoolz[^/]*\.vdf")
_TICKRATE = re.compile(re.escape(_ADDONS) + r"(?:metamod/)?tickrate_enabler[^/]*\.(?:vdf|so)")
_METAMOD_PLUGIN = re.compile(re.escape(_ADDONS) + r"metamod/[^/]+\.vdf")
_UNLOADED = ("disabled/", "optional/")
"""What lies there SourceMod does not load by itself."""


@dataclass(frozen=True)
class Traits:
    """What a version is to others. Paths are spelled as the version does, names are in lower case.

    `stacks` has the files of MetaMod and of SourceMod themselves: hashes by paths, these in lower case.
    `plugins` are the files of plugins that are loaded, without their folders, and `extensions` are named as
    plugins name them (`sdktools.ext`).
    """

    l4dtoolz: tuple[str, ...] = ()
    tickrate: tuple[str, ...] = ()
    has_metamod_plugins: bool = False
    stacks: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    extensions: frozenset[str] = frozenset()
    plugins: frozenset[str] = frozenset()


def read_traits(version: OverlayVersion) -> Traits:
    """Return the traits of a version. Raises `BlobError` if the store has lost its manifest, or damaged it."""
    return _read_traits(version.digest)


@lru_cache(maxsize=VERSIONS_KEPT)
def _read_traits(digest: str) -> Traits:
    return find_traits(read_files_of(digest))


def find_traits(files: Iterable[ManifestFile]) -> Traits:
    """Return the traits of a version that has these files."""
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
    """Return how plugins name an extension by its path, in lower case, below the folder of extensions.

    `x.ext` is `x.ext.2.l4d2.so`, `x.ext.so` or `auto.x.ext/2.l4d2.so`.
    """
    first, _, _ = path.partition("/")
    stem, mark, _ = first.removeprefix("auto.").partition(".ext")
    return f"{stem}{mark}"
