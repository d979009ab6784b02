"""The builds of the game on one host: what is installed, what runs from each, and what can be done."""

from collections.abc import Collection
from dataclasses import dataclass

from django.utils.translation import gettext as _

from jobs.models import Job, JobState, Operation
from servers.models import Host, Release, Server


@dataclass(frozen=True)
class Build:
    """An installed build, with the servers that run from it, and how many more the user may not see."""

    release: Release
    servers: list[Server]
    others_count: int


@dataclass(frozen=True)
class HostBuilds:
    """The builds of one host, the latest first."""

    host: Host
    builds: list[Build]
    failed_check: Job | None
    """The newest check for updates, if it failed: then the latest known build is older than that."""

    @classmethod
    def of(cls, host: Host, seen: Collection[int]) -> "HostBuilds":
        """Read what the host's page shows; `seen` has the ids of servers that may be named. Three queries."""
        running: dict[str, list[Server]] = {}
        for server in host.servers.exclude(running_build_id=""):
            server.host = host
            running.setdefault(server.running_build_id, []).append(server)
        builds = []
        for release in host.releases.all():
            servers = running.get(release.build_id, [])
            named = [server for server in servers if server.pk in seen]
            builds.append(Build(release, named, len(servers) - len(named)))
        return cls(host, builds, find_failed_check(host))

    @property
    def rollback_to(self) -> Release | None:
        """What `hostops.instances.releases.choose_rollback` will choose: the latest that is not current."""
        older = (build.release for build in self.builds if not build.release.is_current)
        return next(older, None)

    @property
    def has_latest_installed(self) -> bool:
        """Whether the build that Steam offers is installed, current or not."""
        return any(build.release.build_id == self.host.latest_build_id for build in self.builds)

    @property
    def later_release(self) -> Release | None:
        """An installed release that is later than the current one, after a rollback."""
        latest = self.builds[0].release if self.builds else None
        return latest if latest and not latest.is_current else None

    @property
    def available_build_id(self) -> str:
        """The build that Steam offers and that is not installed yet, as far as is known."""
        return "" if self.has_latest_installed else self.host.available_build_id


def find_failed_check(host: Host) -> Job | None:
    """Return the newest check for updates of a host, if it failed."""
    # Filtered by no server, which only jobs of whole hosts have: otherwise this would search all jobs ever
    # made.
    checks = Job.objects.finished().filter(server=None, host=host, operation=Operation.CHECK)
    newest = checks.first()
    return newest if newest and newest.state == JobState.FAILED else None


def find_rollback_obstacle(host: Host, from_build: str, to_build: str) -> str:
    """Return in a sentence why a host cannot go from one build to another; an empty text if it can.

    The form posts both builds, so that a second click, or an outdated page, does not roll forward again.
    """
    if from_build != host.build_id:
        text = (
            _("Nothing was done: build %(current)s is now current on host %(host)s.")
            if host.build_id
            else _("Nothing was done: no build is current on host %(host)s now.")
        )
        return text % {"current": host.build_id, "host": host.name}
    if not host.releases.filter(build_id=to_build).exists():
        return _("Nothing was done: build %(build)s is not installed on host %(host)s.") % {
            "build": to_build or _("none"),
            "host": host.name,
        }
    return ""
