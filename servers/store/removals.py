"""Removing versions and whole overlays: what holds one, and what becomes of the rest."""

from collections.abc import Iterator

from django.db import transaction
from django.db.models import OuterRef, Q, Subquery
from django.utils.translation import gettext as _

from servers.models import UP_STATES, Overlay, OverlayVersion, Run, Server
from servers.store.versions import VersionRefusedError, charge_anew


def find_holders(overlay: Overlay) -> dict[str, list[str]]:
    """Return what keeps versions of an overlay from being removed, in sentences by their references.

    The latest one, pins of blueprints, and what servers run with, or would be started with “as it was”. Three
    queries, however many there are.
    """
    found: dict[str, list[str]] = {}

    def hold(reference: str, sentence: str) -> None:
        sentences = found.setdefault(reference, [])
        if sentence not in sentences:
            sentences.append(sentence)

    if overlay.latest is not None:
        hold(overlay.latest.reference, _("It is the latest."))
    places = overlay.blueprint_overlays.exclude(version=None).order_by("blueprint__name")
    for name, reference in places.values_list("blueprint__name", "version__reference"):
        hold(reference, _("Blueprint %(name)s is pinned to it.") % {"name": name})
    for name, reference, is_up in _used_references(overlay):
        words = (
            _("Server %(name)s runs with it.")
            if is_up
            else _("Server %(name)s can still be started as it was, with it.")
        )
        hold(reference, words % {"name": name})
    return found


def _used_references(overlay: Overlay) -> Iterator[tuple[str, str, bool]]:
    """Yield servers by name with the references of what they run with, or last answered with."""
    runs = Run.objects.filter(server=OuterRef("pk")).order_by("-id").values("pk")
    answered = runs.filter(has_answered=True).exclude(sealed="")
    servers = Server.objects.order_by("name").annotate(
        newest_run=Subquery(runs[:1]), answered_run=Subquery(answered[:1])
    )
    rows = list(servers.values_list("name", "actual_state", "newest_run", "answered_run"))
    of_runs = dict(
        Run.objects.filter(
            Q(pk__in=[newest for _n, _s, newest, _a in rows])
            | Q(pk__in=[last for _n, _s, _r, last in rows])
        ).values_list("pk", "overlays")
    )
    prefix = f"{overlay.name}@"
    for name, state, newest, last in rows:
        is_up = state in UP_STATES
        for run, runs_now in ((newest, True), (last, False)):
            if run is None or (runs_now and not is_up):
                continue
            for reference, _fingerprint in of_runs.get(run, ()):
                if reference.startswith(prefix):
                    yield name, reference, runs_now


def remove_version(version: OverlayVersion) -> None:
    """Remove a version that nothing holds. Its files go with the next sweep that finds nobody with them.

    Raises `VersionRefusedError` with what holds it.
    """
    with transaction.atomic():
        overlay = Overlay.objects.select_for_update(of=("self",)).get(pk=version.overlay_id)
        if holders := find_holders(overlay).get(version.reference):
            raise VersionRefusedError(" ".join(holders))
        version.delete()
        charge_anew(overlay)


def find_overlay_holders(overlay: Overlay) -> list[str]:
    """Return what keeps a whole overlay from being removed, in sentences."""
    blueprints = overlay.blueprints.order_by("name").values_list("name", flat=True).distinct()
    found = [_("Blueprint %(name)s uses it.") % {"name": name} for name in blueprints]
    for name, _reference, is_up in _used_references(overlay):
        sentence = (
            _("Server %(name)s runs with a version of it.")
            if is_up
            else _("Server %(name)s can still be started as it was, with a version of it.")
        ) % {"name": name}
        if sentence not in found:
            found.append(sentence)
    return found


def remove_overlay(overlay: Overlay) -> None:
    """Remove an overlay that nothing uses, with its versions. Raises `VersionRefusedError` with what does."""
    with transaction.atomic():
        overlay = Overlay.objects.select_for_update(of=("self",)).get(pk=overlay.pk)
        if holders := find_overlay_holders(overlay):
            raise VersionRefusedError(" ".join(holders))
        overlay.delete()
