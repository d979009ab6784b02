"""The ways to resolve conflicts between a blueprint's overlays, each as one button, and what each one does."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.db import transaction
from django.utils.translation import gettext as _

from servers.models import Blueprint, Overlay, OverlayVersion
from servers.permissions import Verb, may
from servers.store import (
    MAX_FILES_READ,
    BlobError,
    Conflicts,
    Fault,
    Kind,
    Lack,
    Need,
    SharedFiles,
    Traits,
    drop_files,
    find_conflicts,
    list_needs,
    read_traits,
)

CANDIDATES = 200
PROVIDERS_OFFERED = 3
REMOVABLE = (Kind.L4DTOOLZ, Kind.TICKRATE)
"""Faults that consist of a few files, which can be removed from an overlay."""


class CureError(ValidationError):
    """A cure that no longer exists, or that this person may not choose. The text says why."""


@dataclass(frozen=True)
class Cure:
    """One way to resolve a conflict: what its button says, and what it sends.

    `add 7`, `out 7`, `above 7 3` or `strip 7 l4dtoolz`; the numbers are ids of overlays.
    """

    wish: str
    label: str


@dataclass(frozen=True)
class Problem:
    """A conflict with its cures. `paths` are the first of the files that it is about."""

    sentence: str
    cures: Sequence[Cure] = ()
    paths: Sequence[str] = ()
    more_count: int = 0


@dataclass(frozen=True)
class Provided:
    """Something that a version needs from others: which of its plugins need it, and which overlays have it."""

    need: Need
    users: Sequence[str]
    overlays: Sequence[Overlay]


@dataclass(frozen=True)
class _Candidate:
    overlay: Overlay
    version: OverlayVersion
    traits: Traits


def propose_cures(user: User, blueprint: Blueprint, conflicts: Conflicts) -> list[Problem]:
    """Return the conflicts of a blueprint that `user` may change, each with its cures.

    Costs about four queries, and reading the manifests of overlays that may have what is missing.
    """
    overlays = {overlay.name: overlay for overlay in blueprint.ordered_overlays()}
    pins = blueprint.read_pins()
    own = {
        name
        for name, overlay in overlays.items()
        if overlay.pk not in pins and may(user, Verb.CHANGE_OVERLAY, overlay)
    }
    candidates = _read_candidates(user, overlays) if conflicts.lacks else []
    return [
        *(Problem(fault.sentence, _cure_fault(fault, overlays, own)) for fault in conflicts.faults),
        *(_cure_lack(lack, candidates) for lack in conflicts.lacks),
        *(
            Problem(
                shared.sentence,
                _cure_shared(shared, overlays),
                shared.shown,
                shared.more_count,
            )
            for shared in conflicts.shared
        ),
    ]


def find_providers(user: User, version: OverlayVersion) -> list[Provided]:
    """Return what a version needs from others, with the overlays that `user` may use and that have it.

    Raises `BlobError` if the store has lost the version's manifest.
    """
    needs = list_needs(version)
    candidates = _read_candidates(user, [version.overlay.name]) if needs else []
    return [
        Provided(need, users, _find_those_with(need, candidates)[:PROVIDERS_OFFERED])
        for need, users in needs.items()
    ]


def find_overlays_with(user: User, need: Need, present: Iterable[str]) -> list[Overlay]:
    """Return the overlays that `user` may use and that have what is needed, except those in `present`."""
    return _find_those_with(need, _read_candidates(user, present))


def _find_those_with(need: Need, candidates: Iterable[_Candidate]) -> list[Overlay]:
    return [
        one.overlay for one in candidates if need.is_met_by(one.traits, one.version.plugins or ())
    ]


def _cure_fault(fault: Fault, overlays: Mapping[str, Overlay], own: set[str]) -> list[Cure]:
    cures = []
    # An overlay that an admin has renamed keeps its old name in the versions made of it.
    for name in filter(overlays.__contains__, fault.overlays):
        overlay = overlays[name]
        if name in own and fault.kind in REMOVABLE:
            words = _("Take %(what)s out of %(name)s")
            label = words % {"what": fault.kind.value, "name": name}
            cures.append(Cure(f"strip {overlay.pk} {fault.kind.value}", label))
        else:
            label = _("Leave %(name)s out") % {"name": name}
            cures.append(Cure(f"out {overlay.pk}", label))
    return cures


def _cure_lack(lack: Lack, candidates: Iterable[_Candidate]) -> Problem:
    cures = [
        Cure(f"add {overlay.pk}", _("Add %(name)s below") % {"name": overlay.name})
        for overlay in _find_those_with(lack.need, candidates)[:PROVIDERS_OFFERED]
    ]
    sentence = lack.sentence
    if not lack.is_certain:
        sentence += " " + _(
            "Not all of these overlays could be checked: one of them may contain it."
        )
    if not cures:
        sentence += " " + _("No overlay that you may use contains it. Upload it to one first.")
    return Problem(sentence, cures)


def _cure_shared(shared: SharedFiles, overlays: Mapping[str, Overlay]) -> list[Cure]:
    loser, winner = (overlays.get(name) for name in (shared.loser, shared.winner))
    if not (loser and winner):
        return []
    words = {"name": loser.name, "other": winner.name}
    label = _("Move %(name)s up, above %(other)s") % words
    return [Cure(f"above {loser.pk} {winner.pk}", label)]


def _read_candidates(user: User, present: Iterable[str]) -> list[_Candidate]:
    """Return the overlays that may have what is missing: only those with code."""
    usable = Overlay.objects.usable_by(user).filter(latest__has_native_code=True)
    usable = usable.exclude(name__in=list(present))
    overlays = usable.with_summaries().select_related("latest")
    found = []
    left = MAX_FILES_READ
    for overlay in overlays[:CANDIDATES]:
        version = overlay.latest
        if version is None or version.files > left:
            continue
        left -= version.files
        try:
            found.append(_Candidate(overlay, version, read_traits(version)))
        except BlobError:
            continue  # The store has lost it, as its own page says: it cures nothing.
    return found


def apply_cure(user: User, blueprint: Blueprint, wish: str) -> str:
    """Do what a cure's button asks, to a blueprint that `user` may change; return a sentence about the result.

    Raises `CureError`, and `VersionRefusedError` if no version can be made of an overlay.
    """
    way, *rest = wish.split(" ")
    if way == "strip" and len(rest) == 2:
        return _strip(user, blueprint, *rest)
    with transaction.atomic():
        # Two clicks take turns: the second one sees what the first one has done.
        this = Blueprint.objects.select_for_update(no_key=True).filter(pk=blueprint.pk)
        if this.first() is None:
            raise CureError(_("The blueprint was removed meanwhile."))
        order = list(blueprint.ordered_overlays())
        here = [one for one in order if rest and str(one.pk) == rest[0]]
        if way == "add" and len(rest) == 1 and not here:
            overlay = _find_usable(user, rest[0])
            order.append(overlay)
            sentence = _("%(name)s was added, below the others.") % {"name": overlay.name}
        elif way == "out" and len(rest) == 1 and here:
            order.remove(here[0])
            sentence = _("%(name)s was left out.") % {"name": here[0].name}
        elif way == "above" and len(rest) == 2 and here:
            sentence = _lift(order, here[0], rest[1])
        else:
            raise CureError(_("That was done already, or fits no longer. Nothing was changed."))
        blueprint.set_overlays(order, blueprint.read_pins())
        blueprint.save(update_fields=["updated_at"])
    return sentence


def _find_usable(user: User, pk: str) -> Overlay:
    usable = Overlay.objects.usable_by(user).exclude(latest=None)
    found = (
        usable.filter(pk=int(pk)).first()
        if pk.isascii() and pk.isdigit() and len(pk) < 18
        else None
    )
    if found is None:
        raise CureError(_("You may not use that overlay, or it no longer exists."))
    return found


def _lift(order: list[Overlay], overlay: Overlay, other_pk: str) -> str:
    """Move an overlay directly above another one that is above it now."""
    places = [place for place, one in enumerate(order) if str(one.pk) == other_pk]
    if not places or places[0] >= order.index(overlay):
        raise CureError(
            _("%(name)s lies above it already. Nothing was changed.") % {"name": overlay.name}
        )
    other = order[places[0]]
    order.remove(overlay)
    order.insert(places[0], overlay)
    words = {"name": overlay.name, "other": other.name}
    return _("%(name)s lies above %(other)s now.") % words


def _strip(user: User, blueprint: Blueprint, overlay_pk: str, what: str) -> str:
    """Remove the files of a fault from one overlay, as a version of it."""
    here = [one for one in blueprint.ordered_overlays() if str(one.pk) == overlay_pk]
    if not here:
        raise CureError(_("That overlay is not used here any more. Nothing was changed."))
    overlay = here[0]
    if not may(user, Verb.CHANGE_OVERLAY, overlay) or overlay.pk in blueprint.read_pins():
        raise CureError(
            _("You may not change %(name)s, or it is pinned to a version here.")
            % {"name": overlay.name}
        )
    faults = find_conflicts(Blueprint.objects.get(pk=blueprint.pk).overlay_references).faults
    paths = [
        path
        for fault in faults
        if fault.kind in REMOVABLE and fault.kind.value == what
        for path in fault.paths.get(overlay.name, ())
    ]
    if not paths:
        raise CureError(_("It is not there any more. Nothing was changed."))
    note = _("without %(what)s") % {"what": what}
    version = drop_files(overlay, paths, by=user, note=note)
    words = {"name": overlay.name, "what": what, "number": version.number}
    return _("Version %(number)d of %(name)s is made, without %(what)s.") % words
