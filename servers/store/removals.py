"""Removes versions and whole overlays: what keeps one from being removed, and what happens to the rest."""

import contextlib
from collections.abc import Iterator
from functools import cached_property

from django.contrib.auth.models import AnonymousUser, User
from django.db import IntegrityError, transaction
from django.db.models import OuterRef, Q, Subquery
from django.utils.translation import gettext as _

from servers.models import UP_STATES, Blueprint, Overlay, OverlayVersion, Run, Server
from servers.permissions import Verb
from servers.store.versions import VersionRefusedError, recount_added_bytes


def find_holders(overlay: Overlay, reader: User | None = None) -> dict[str, list[str]]:
    """Return what keeps versions of an overlay from being removed, as sentences by their references.

    That is being the latest version, pins of blueprints, and what servers run with or could be started with
    “as it was”. A `reader` only gets names that they may see. A few queries, however many versions there are.
    """
    names = _Names(reader)
    found: dict[str, list[str]] = {}

    def hold(reference: str, sentence: str) -> None:
        sentences = found.setdefault(reference, [])
        if sentence not in sentences:
            sentences.append(sentence)

    if overlay.latest is not None:
        hold(overlay.latest.reference, _("It is the latest."))
    places = overlay.blueprint_overlays.exclude(version=None).order_by("blueprint__name")
    for name, reference in places.values_list("blueprint__name", "version__reference"):
        hold(reference, _("%(who)s is pinned to it.") % {"who": names.of_blueprint(name)})
    for name, reference, is_up in _used_references(overlay):
        words = (
            _("%(who)s runs with it.")
            if is_up
            else _("%(who)s can still be started as it was, with it.")
        )
        hold(reference, words % {"who": names.of_server(name)})
    return found


class _Names:
    """The names of servers and blueprints as somebody may see them: the names of other people's stay hidden."""

    def __init__(self, reader: User | None) -> None:
        self._reader = reader

    def of_server(self, name: str) -> str:
        """Return “Server one”, or that it is somebody else's."""
        if self._may_see("servers", name):
            return _("Server %(name)s") % {"name": name}
        return _("A server of somebody else")

    def of_blueprint(self, name: str) -> str:
        """Return “Blueprint one”, or that it is somebody else's."""
        if self._may_see("blueprints", name):
            return _("Blueprint %(name)s") % {"name": name}
        return _("A blueprint of somebody else")

    def _may_see(self, kind: str, name: str) -> bool:
        return self._reader is None or name in self._seen[kind]

    @cached_property
    def _seen(self) -> dict[str, frozenset[str]]:
        reader = self._reader or AnonymousUser()
        servers = Server.objects.allowed(reader, Verb.VIEW)
        blueprints = Blueprint.objects.visible_to(reader)
        return {
            "servers": frozenset(servers.values_list("name", flat=True)),
            "blueprints": frozenset(blueprints.values_list("name", flat=True)),
        }


@contextlib.contextmanager
def _whole_removal() -> Iterator[None]:
    """Remove in one transaction. Raises `VersionRefusedError` for what somebody has started to use just now."""
    try:
        with transaction.atomic():
            yield
    except IntegrityError as error:  # ProtectedError is one, and so are errors at commit.
        raise VersionRefusedError(
            _("Somebody has begun to use it just now. Look again what uses it.")
        ) from error


def _used_references(overlay: Overlay) -> Iterator[tuple[str, str, bool]]:
    """Yield servers by name, with the references of what they run with or last answered with."""
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
    """Remove a version that nothing holds. Its files go with the next sweep in which nothing else has them.

    Raises `VersionRefusedError` with what holds it. Does nothing if the whole overlay was removed meanwhile.
    """
    with _whole_removal():
        rows = Overlay.objects.select_for_update(of=("self",))
        overlay = rows.filter(pk=version.overlay_id).first()
        if overlay is None:
            return
        if holders := find_holders(overlay).get(version.reference):
            raise VersionRefusedError(" ".join(holders))
        version.delete()
        recount_added_bytes(overlay)


def find_overlay_holders(overlay: Overlay, reader: User | None = None) -> list[str]:
    """Return what keeps a whole overlay from being removed, as sentences like those of `find_holders`."""
    names = _Names(reader)
    blueprints = overlay.blueprints.order_by("name").values_list("name", flat=True).distinct()
    found = [_("%(who)s uses it.") % {"who": names.of_blueprint(name)} for name in blueprints]
    for name, _reference, is_up in _used_references(overlay):
        words = (
            _("%(who)s runs with a version of it.")
            if is_up
            else _("%(who)s can still be started as it was, with a version of it.")
        )
        found.append(words % {"who": names.of_server(name)})
    return list(dict.fromkeys(found))


def remove_overlay(overlay: Overlay) -> None:
    """Remove an overlay that nothing uses, with its versions. Raises `VersionRefusedError` with what uses it.

    Does nothing if it was removed meanwhile, for instance by a second click.
    """
    with _whole_removal():
        row = Overlay.objects.select_for_update(of=("self",)).filter(pk=overlay.pk).first()
        if row is None:
            return
        if holders := find_overlay_holders(row):
            raise VersionRefusedError(" ".join(holders))
        row.delete()
