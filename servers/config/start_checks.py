"""Finds conflicts that certainly keep a server from working as it is about to be started."""

from collections.abc import Sequence

from servers.config.waiting_changes import newest_runs
from servers.models import BlueprintOverlay, Server
from servers.models.blueprints import refer
from servers.store import Fault, Lack, find_conflicts


def find_certain_conflicts(server: Server) -> Sequence[Fault | Lack]:
    """Return the conflicts that keep a server from being started, unless somebody wants it all the same.

    Conflicts that its last run already started with are left out, even if a version has changed since: only
    new ones count, and those for which its host would refuse the start. Costs two to four queries, and
    reading the manifests that are not in memory yet.
    """
    places = BlueprintOverlay.objects.filter(blueprint=server.blueprint_id)
    references = tuple(reference for reference in refer(places) if reference is not None)
    if not references:
        return ()
    certain = find_conflicts(references, with_shared=False).certain
    if not certain:
        return ()
    run = newest_runs([server.pk]).first()
    if run and run.has_answered:
        before = find_conflicts(run.overlay_references, with_shared=False).certain
        known = set(map(_identify, before))
        return [one for one in certain if one.is_final or _identify(one) not in known]
    return certain


def _identify(conflict: Fault | Lack) -> object:
    """Return what identifies a conflict, whatever its sentences name."""
    if isinstance(conflict, Lack):
        return conflict.need, conflict.overlay, frozenset(conflict.users)
    return conflict.kind, frozenset(conflict.overlays)
