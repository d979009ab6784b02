"""What certainly does not work in what a server is about to be started with, by the files of its overlays."""

from collections.abc import Sequence

from servers.config.waiting_changes import newest_runs
from servers.models import BlueprintOverlay, Server
from servers.models.blueprints import refer
from servers.store import Fault, Lack, find_conflicts


def find_certain_conflicts(server: Server) -> Sequence[Fault | Lack]:
    """Return the conflicts for which a server is not started unless somebody wants it all the same.

    Once it has come up with just these overlays, only what its host would refuse is among them. Two queries, or
    three, and the manifests that are not in memory yet.
    """
    places = BlueprintOverlay.objects.filter(blueprint=server.blueprint_id)
    references = tuple(refer(places))
    if not references:
        return ()
    certain = find_conflicts(references, with_shared=False).certain
    if not certain:
        return ()
    run = newest_runs([server.pk]).first()
    if run and run.has_answered and run.overlay_references == references:
        return [one for one in certain if one.is_final]
    return certain
