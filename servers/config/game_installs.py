"""Whether the game is on the hosts, or on its way there, as pages for those who make servers tell it."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from django.db.models import OuterRef, Subquery

from servers.models import Host


@dataclass(frozen=True)
class GameOnHost:
    """A host, and its newest install, if that is not over or has left the host without the game."""

    host: Host
    job: Any | None

    @property
    def is_coming(self) -> bool:
        """Whether an install waits or runs."""
        return self.job is not None and self.job.is_active

    @property
    def is_missing(self) -> bool:
        """Whether there is no game, and nobody has asked for it as far as is known."""
        return not self.host.build_id and not self.is_coming


def read_games(hosts: Iterable[Host]) -> list[GameOnHost]:
    """Return how far the game is on each of `hosts`. One query."""
    hosts = list(hosts)
    # `jobs` knows this package, not the other way round: the relation leads to its model.
    jobs: Any = Host.jobs.rel.related_model
    # Without a server are only the jobs of whole hosts: else all jobs there ever were would be gone through.
    installs = jobs.objects.filter(server=None, host=OuterRef("pk"), operation="install")
    newest_id = Subquery(installs.order_by("-created_at", "-id").values("pk")[:1])
    ids = Host.objects.filter(pk__in=[host.pk for host in hosts]).values(newest_id=newest_id)
    newest = {job.host_id: job for job in jobs.objects.filter(pk__in=ids)}
    return [GameOnHost(host, to_tell(host, newest.get(host.pk))) for host in hosts]


def to_tell(host: Host, job: Any | None) -> Any | None:
    """Return `job` if it matters still."""
    return job if job is not None and (job.is_active or not host.build_id) else None
