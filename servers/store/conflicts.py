"""Finds overlays that do not work together over the game, or may not, by comparing their manifests.

Overlays kept by hand on hosts have no manifest, so they are listed as not checked. They may contain
what others lack, so with one of them nothing that seems to be missing is certain.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from hostops.specs import ManifestFile, OverlayReference
from servers.models import OverlayVersion
from servers.store.panel_store import BlobError
from servers.store.traits import METAMOD, SOURCEMOD, Traits, read_traits
from servers.store.versions import read_files

MAX_FILES_READ = 100_000
"""The most files read for one page: about half a second, and as much again for what is not in memory."""

SHOWN_PATHS = 10
SHOWN_LACKS = 30

_CHAINED = "left4dead2/cfg/server.cfg"
"""All overlays' are executed, one after the other: none hides another."""


class Kind(Enum):
    """The kind of a fault. Its value names what has to be removed from all overlays but one."""

    L4DTOOLZ = "l4dtoolz"
    TICKRATE = "tickrate_enabler"
    METAMOD = METAMOD
    SOURCEMOD = SOURCEMOD
    CONTENT = ""


@dataclass(frozen=True)
class Fault:
    """Overlays that do not work together; unless `is_certain`, they may work all the same.

    `overlays` are the names of the overlays concerned, topmost first. `paths` are files by these names;
    without these files there would be no fault. If `is_final`, the host refuses to start the server at all.
    """

    kind: Kind
    sentence: str
    overlays: tuple[str, ...]
    paths: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    is_certain: bool = True
    is_final: bool = False


@dataclass(frozen=True)
class Need:
    """What a plugin, or SourceMod, cannot do without: a stack, or an extension or plugin, named by its file.

    `library` is what that plugin provides for others; another plugin may provide it instead.
    """

    file: str
    library: str = ""
    is_stack: bool = False

    @property
    def label(self) -> str:
        """The need in words."""
        if self.is_stack:
            return self.file
        words = _("the plugin %(file)s") if self.library else _("the extension %(file)s")
        return words % {"file": self.file}

    def is_met_by(self, traits: Traits, plugins: Sequence[Mapping[str, Any]]) -> bool:
        """Return whether a version meets the need, by its traits and by what is known of its plugins."""
        if self.is_stack:
            return self.file in traits.stacks
        if not self.library:
            return self.file in traits.extensions
        is_file = self.file.lower() in traits.plugins
        return is_file or any(self.library in plugin["provides"] for plugin in plugins)


@dataclass(frozen=True)
class Lack:
    """Something that is needed and that no overlay has; unless `is_certain`, one that was not checked may.

    `overlay` is the topmost overlay that needs it, and `users` are its plugins that do; for a stack there are
    none.
    """

    need: Need
    overlay: str
    users: tuple[str, ...] = ()
    is_certain: bool = True
    is_final: bool = False
    """Never: the game starts, without what lacks something."""

    @property
    def sentence(self) -> str:
        """What needs it, and what happens without it."""
        words = {"name": self.overlay, "need": self.need.label}
        if not self.users:
            text = _(
                "%(name)s needs %(need)s, and none of these overlays contains it. Without it, the game does "
                "not load that part of %(name)s."
            )
            return text % words
        more = len(self.users) - 1
        words |= {"plugin": self.users[0]}
        if not more:
            text = _(
                "%(plugin)s in %(name)s needs %(need)s, and none of these overlays contains it. Without it, "
                "SourceMod does not load the plugin."
            )
            return text % words
        text = ngettext(
            "%(plugin)s and %(more)d more plugin in %(name)s need %(need)s, and none of these overlays "
            "contains it. Without it, SourceMod does not load them.",
            "%(plugin)s and %(more)d more plugins in %(name)s need %(need)s, and none of these overlays "
            "contains it. Without it, SourceMod does not load them.",
            more,
        )
        return text % (words | {"more": more})


@dataclass(frozen=True)
class SharedFiles:
    """Files that two overlays bring to the same place; the ones of `winner` count."""

    winner: str
    loser: str
    paths: Sequence[str]

    @property
    def shown(self) -> Sequence[str]:
        """The first of them."""
        return self.paths[:SHOWN_PATHS]

    @property
    def more_count(self) -> int:
        """The number of the files that are not `shown`."""
        return len(self.paths) - len(self.shown)

    @property
    def sentence(self) -> str:
        """How many there are, and which ones count."""
        count = len(self.paths)
        return ngettext(
            "%(count)d file is in both %(winner)s and %(loser)s. The one in %(winner)s is used, because it is "
            "above.",
            "%(count)d files are in both %(winner)s and %(loser)s. Those in %(winner)s are used, because it "
            "is above.",
            count,
        ) % {"count": count, "winner": self.winner, "loser": self.loser}


@dataclass(frozen=True)
class Conflicts:
    """What there is to say about overlays that are used together."""

    faults: Sequence[Fault] = ()
    lacks: Sequence[Lack] = ()
    shared: Sequence[SharedFiles] = ()
    unseen: Sequence[str] = ()
    """Overlays that were not checked, each with the reason."""

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self.faults) + len(self.lacks) + len(self.shared)

    @property
    def certain(self) -> Sequence[Fault | Lack]:
        """Those that keep a server from starting, unless somebody wants to start it all the same."""
        found: list[Fault | Lack] = [*self.faults, *self.lacks]
        return [one for one in found if one.is_certain]


@dataclass(frozen=True)
class _Layer:
    """A version among those that are used together."""

    name: str
    version: OverlayVersion
    traits: Traits

    @property
    def plugins(self) -> Sequence[Mapping[str, Any]]:
        """What is known of its plugins."""
        return self.version.plugins or ()


def find_conflicts(references: Sequence[str], *, with_shared: bool = True) -> Conflicts:
    """Return the conflicts of overlays, topmost first, as in `Blueprint.overlay_references`.

    Costs one query, and the time to read the manifests, which is bounded. Those read recently cost nothing,
    apart from finding the files that they share.
    """
    parsed = [OverlayReference.parse(one) for one in references]
    of_panel = OverlayVersion.objects.filter(
        reference__in=[str(one) for one in parsed if one.digest]
    )
    versions = of_panel.defer("campaigns", "maps").in_bulk(field_name="reference")
    layers: list[_Layer] = []
    files: dict[str, tuple[ManifestFile, ...]] = {}
    unseen = []
    left = MAX_FILES_READ
    for reference in parsed:
        version = versions.get(str(reference))
        if version is None:
            unseen.append(
                _("%(name)s: it is kept by hand on the hosts.") % {"name": reference.label}
            )
            continue
        left -= version.files
        if left < 0:
            unseen.append(
                _("%(name)s: these are too many files to compare.") % {"name": reference.label}
            )
            continue
        try:
            if with_shared:
                files[reference.name] = read_files(version)
            layers.append(_Layer(reference.name, version, read_traits(version)))
        except BlobError as error:
            unseen.append(f"{reference.label}: {error}")
    lacks = tuple(_find_lacks(layers, has_unseen=bool(unseen)))
    if len(parsed) == 1:
        unseen = []  # There is nothing to compare it with.
    faults = (*_find_refusals(layers), *_find_faults(layers))
    return Conflicts(faults, lacks[:SHOWN_LACKS], tuple(_find_shared(files)), tuple(unseen))


def _find_refusals(layers: Iterable[_Layer]) -> Iterable[Fault]:
    """Yield the faults of single versions for which the host refuses to start a server."""
    for layer in layers:
        for finding in layer.version.refusals:
            sentence = f"{layer.name}: {finding['text']}"
            yield Fault(Kind.CONTENT, sentence, (layer.name,), is_final=True)


def _find_faults(layers: Sequence[_Layer]) -> Iterable[Fault]:
    """Yield what does not work together."""
    toolz = {layer.name: layer.traits.l4dtoolz for layer in layers if layer.traits.l4dtoolz}
    places = {path.lower(): (name, path) for name, paths in toolz.items() for path in paths}
    if len(places) > 1:
        sentence = _(
            "There are %(count)d copies of l4dtoolz (%(where)s). They do not work together: keep one and "
            "remove the others."
        ) % {
            "count": len(places),
            "where": ", ".join(
                _("in %(name)s, loaded by %(kind)s")
                % {"name": name, "kind": METAMOD if "/metamod/" in path.lower() else "addons/"}
                for name, path in places.values()
            ),
        }
        yield Fault(Kind.L4DTOOLZ, sentence, tuple(toolz), toolz)
    ticks = {layer.name: layer.traits.tickrate for layer in layers if layer.traits.tickrate}
    if ticks and any("/metamod/" not in path for path in places):
        sentence = _(
            "tickrate_enabler (in %(ticks)s) and an l4dtoolz in addons/ may both set the tickrate: the "
            "l4dtoolz by lakwsh does. If it is that one, remove tickrate_enabler."
        ) % {"ticks": ", ".join(ticks)}
        yield Fault(Kind.TICKRATE, sentence, tuple(ticks), ticks, is_certain=False)
    for kind in (Kind.METAMOD, Kind.SOURCEMOD):
        stacks = {
            layer.name: layer.traits.stacks[kind.value]
            for layer in layers
            if kind.value in layer.traits.stacks
        }
        top, *others = stacks.items() or [("", {})]
        mixed = [name for name, files in others if _is_mixed(top[1], files)]
        if mixed:
            names = (top[0], *mixed)
            sentence = _(
                "%(stack)s is in %(names)s. That would mix the files of two versions: keep it in one overlay."
            ) % {"stack": kind.value, "names": ", ".join(names)}
            yield Fault(kind, sentence, names)


def _is_mixed(upper: Mapping[str, str], lower: Mapping[str, str]) -> bool:
    """Return whether files of two versions lie side by side: not if the upper ones hide all of the lower ones.

    Nor if the files at the same paths are the same: then one version was brought in parts.
    """
    common = upper.keys() & lower.keys()
    is_one = bool(common) and all(upper[path] == lower[path] for path in common)
    return not is_one and not lower.keys() <= upper.keys()


def _find_lacks(layers: Sequence[_Layer], *, has_unseen: bool) -> Iterable[Lack]:
    """Yield what is needed and missing, the most fundamental first."""

    def is_met(need: Need) -> bool:
        return any(need.is_met_by(layer.traits, layer.plugins) for layer in layers)

    needs_metamod = [
        layer.name
        for layer in layers
        if SOURCEMOD in layer.traits.stacks or layer.traits.has_metamod_plugins
    ]
    needs_sourcemod = [layer.name for layer in layers if layer.traits.plugins]
    for stack, names in ((METAMOD, needs_metamod), (SOURCEMOD, needs_sourcemod)):
        need = Need(stack, is_stack=True)
        if names and not is_met(need):
            yield Lack(need, names[0], is_certain=not has_unseen)
    has_sourcemod = is_met(Need(SOURCEMOD, is_stack=True))
    has_unread = any(layer.version.plugins is None for layer in layers)
    for need, (name, users) in _list_needs(layers).items():
        # Most extensions come with SourceMod, whose absence has been reported already.
        if is_met(need) or not (need.library or has_sourcemod):
            continue
        is_certain = not has_unseen and not (need.library and has_unread)
        yield Lack(need, name, tuple(users), is_certain)


def _list_needs(layers: Iterable[_Layer]) -> Mapping[Need, tuple[str, list[str]]]:
    """Return what plugins need, each with the topmost overlay that needs it and its plugins that do."""
    found: dict[Need, tuple[str, list[str]]] = {}
    for layer in layers:
        for plugin in layer.plugins:
            needs = [
                *(Need(file) for file in plugin["extensions"]),
                *(Need(file, library) for library, file in plugin["libraries"]),
            ]
            for need in needs:
                name, users = found.setdefault(need, (layer.name, []))
                if name == layer.name:
                    users.append(plugin["path"])
    return found


def list_needs(version: OverlayVersion) -> Mapping[Need, Sequence[str]]:
    """Return what a version needs from others, the most fundamental first, each with the plugins that need it.

    Raises `BlobError` as `read_traits` does.
    """
    layer = _Layer(version.overlay.name, version, read_traits(version))
    stacks = (
        [METAMOD] if SOURCEMOD in layer.traits.stacks or layer.traits.has_metamod_plugins else []
    )
    stacks += [SOURCEMOD] if layer.traits.plugins else []
    needs: dict[Need, Sequence[str]] = {Need(stack, is_stack=True): () for stack in stacks}
    needs |= {need: users for need, (_name, users) in _list_needs([layer]).items()}
    return {
        need: users
        for need, users in needs.items()
        if not need.is_met_by(layer.traits, layer.plugins)
    }


def _find_shared(layers: Mapping[str, Iterable[ManifestFile]]) -> Iterable[SharedFiles]:
    """Return the paths at which two overlays have different files, by pairs of overlays."""
    tops: dict[str, tuple[str, ManifestFile]] = {}
    pairs: dict[tuple[str, str], list[str]] = {}
    for name, files in layers.items():
        for file in files:
            folded = file.path.casefold()  # The game finds files whatever their case.
            top, other = tops.setdefault(folded, (name, file))
            if top != name and folded != _CHAINED and other.sha256 != file.sha256:
                pairs.setdefault((top, name), []).append(file.path)
    return [SharedFiles(*pair, tuple(paths)) for pair, paths in pairs.items()]
