"""What stands against each other in overlays that are laid over the game together, by their manifests.

Overlays that are kept by hand on hosts have none: they are named as not looked at.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from hostops.specs import ManifestFile, OverlayReference
from servers.models import OverlayVersion
from servers.store.panel_store import BlobError
from servers.store.versions import read_files

MAX_FILES_READ = 100_000
"""So many files are looked at for one page: about half a second."""

SHOWN_PATHS = 10

_CHAINED = "left4dead2/cfg/server.cfg"
"""All overlays' are executed, one after the other: none hides another."""

_ADDONS = "left4dead2/addons/"
_L4DTOOLZ = re.compile(re.escape(_ADDONS) + r"(metamod/)?l4dtoolz[^/]*\.vdf")
_TICKRATE = re.compile(re.escape(_ADDONS) + r"(metamod/)?tickrate_enabler[^/]*\.(vdf|so)")
_STACKS = {
    "MetaMod": f"{_ADDONS}metamod/bin/",
    "SourceMod": f"{_ADDONS}sourcemod/bin/",
}


@dataclass(frozen=True)
class SharedFiles:
    """Files that two overlays bring to the same place: those of `winner` count."""

    winner: str
    loser: str
    paths: Sequence[str]

    @property
    def shown(self) -> Sequence[str]:
        """The first of them."""
        return self.paths[:SHOWN_PATHS]

    @property
    def more_count(self) -> int:
        """How many more there are."""
        return len(self.paths) - len(self.shown)

    @property
    def sentence(self) -> str:
        """What there is of them, and which count."""
        count = len(self.paths)
        return ngettext(
            "%(count)d file is in %(winner)s and in %(loser)s. The one of %(winner)s counts, as it lies above.",
            "%(count)d files are in %(winner)s and in %(loser)s. Those of %(winner)s count, as it lies above.",
            count,
        ) % {"count": count, "winner": self.winner, "loser": self.loser}


@dataclass(frozen=True)
class Conflicts:
    """What is to be said of overlays that are used together."""

    faults: Sequence[str] = ()
    """What does not work together."""
    shared: Sequence[SharedFiles] = ()
    unseen: Sequence[str] = ()
    """Overlays that were not looked at, each with the reason."""

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self.faults) + len(self.shared)


def find_conflicts(references: Sequence[str]) -> Conflicts:
    """Return the conflicts of overlays, the topmost first, as `Blueprint.overlay_references` has them.

    One query, and the time to read the manifests, which is bounded.
    """
    parsed = [OverlayReference.parse(one) for one in references]
    of_panel = OverlayVersion.objects.filter(
        reference__in=[str(one) for one in parsed if one.digest]
    )
    versions = of_panel.in_bulk(field_name="reference")
    layers: dict[str, tuple[ManifestFile, ...]] = {}
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
            layers[reference.name] = read_files(version)
        except BlobError as error:
            unseen.append(f"{reference.label}: {error}")
    if len(parsed) == 1:
        unseen = []  # There is nothing to compare it with.
    return Conflicts(tuple(_find_faults(layers)), tuple(_find_shared(layers)), tuple(unseen))


def _find_faults(layers: Mapping[str, Iterable[ManifestFile]]) -> Iterable[str]:
    """Yield what does not work together, in sentences."""
    toolz: list[tuple[str, str]] = []
    ticks: list[str] = []
    stacks: dict[str, list[str]] = {}
    for name, files in layers.items():
        kinds: set[str] = set()
        has_tickrate = False
        found: set[str] = set()
        for file in files:
            path = file.path.lower()
            if not path.startswith(_ADDONS):
                continue
            if match := _L4DTOOLZ.fullmatch(path):
                kinds.add("MetaMod" if match[1] else "addons/")
            has_tickrate = has_tickrate or bool(_TICKRATE.fullmatch(path))
            found.update(stack for stack, folder in _STACKS.items() if path.startswith(folder))
        toolz += [(name, kind) for kind in sorted(kinds)]
        ticks += [name] if has_tickrate else []
        for stack in found:
            stacks.setdefault(stack, []).append(name)
    if len(toolz) > 1:
        yield _(
            "l4dtoolz is there %(count)d times (%(where)s). Its kinds exclude one another: keep one, and "
            "take the others out."
        ) % {
            "count": len(toolz),
            "where": ", ".join(
                _("in %(name)s, loaded by %(kind)s") % {"name": name, "kind": kind}
                for name, kind in toolz
            ),
        }
    if ticks and any(kind == "addons/" for _name, kind in toolz):
        yield _(
            "tickrate_enabler (in %(ticks)s) and an l4dtoolz in addons/ both set the tickrate. The one of "
            "lakwsh does that itself: take tickrate_enabler out if it is that one."
        ) % {"ticks": ", ".join(ticks)}
    for stack, names in sorted(stacks.items()):
        if len(names) > 1:
            yield _(
                "%(stack)s is in %(names)s. Files of two versions of it would be mixed: keep it in one overlay."
            ) % {"stack": stack, "names": ", ".join(names)}


def _find_shared(layers: Mapping[str, Iterable[ManifestFile]]) -> Iterable[SharedFiles]:
    """Return the places at which two overlays have other files, by pairs of overlays."""
    tops: dict[str, tuple[str, ManifestFile]] = {}
    pairs: dict[tuple[str, str], list[str]] = {}
    for name, files in layers.items():
        for file in files:
            folded = file.path.casefold()  # The game finds files whatever their case.
            top, other = tops.setdefault(folded, (name, file))
            if top != name and folded != _CHAINED and other.sha256 != file.sha256:
                pairs.setdefault((top, name), []).append(file.path)
    return [SharedFiles(*pair, tuple(paths)) for pair, paths in pairs.items()]
