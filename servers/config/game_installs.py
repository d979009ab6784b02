"""Whether the game is installed on the hosts, or about to be, for the pages where servers are made."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from django.db.models import OuterRef, Subquery

from servers.models import Host


@dataclass(frozen=True)
class GameOnHost:
    """A host with its newest install, if that is unfinished or left the host without the game."""

    host: Host
    job: Any | None

    @property
    def is_coming(self) -> bool:
        """Whether an install is waiting or running."""
        return self.job is not None and self.job.is_active

    @property
    def is_missing(self) -> bool:
        """Whether there is no game, and as far as is known nobody has requested it."""
        return not self.host.build_id and not self.is_coming


def read_games(hosts: Iterable[Host]) -> list[GameOnHost]:
    """Return the state of the game on each of `hosts`. Costs one query."""
    hosts = list(hosts)
    # `jobs` depends on this package, not the other way round. Its model is reached through the relation.
    jobs: Any = Host.jobs.rel.related_model
    # Only jobs of whole hosts have no server. Without that condition, the query would go through all jobs ever.
    installs = jobs.objects.filter(server=None, host=OuterRef("pk"), operation="install")
    newest_id = Subquery(installs.order_by("-id").values("pk")[:1])
    ids = Host.objects.filter(pk__in=[host.pk for host in hosts]).values(newest_id=newest_id)
    newest = {job.host_id: job for job in jobs.objects.filter(pk__in=ids)}
    return [GameOnHost(host, to_tell(host, newest.get(host.pk))) for host in hosts]


def to_tell(host: Host, job: Any | None) -> Any | None:
    """Return `job` if it still matters."""
    return job if job is not None and (job.is_active or not host.build_id) else None
