"""The hosts page: what each host is like, who works there, and whether it is being drained."""

from collections import Counter, defaultdict
from dataclasses import dataclass
from datetime import datetime

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.db.models import Count, Max
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_POST, require_safe

from jobs.database import Channel, announce
from jobs.models import Job, Worker
from servers.access import SignedInRequest, sign_in_required
from servers.models import ActualState, Host, Release, Server

NAMED_JOBS = 8
"""So many running jobs of a host are named; it can have a hundred very short ones."""


@dataclass
class HostRow:
    """A host with what is on it now."""

    host: Host
    servers: Counter[str]
    workers: list[Worker]
    running_jobs: list[Job]
    queued_job_count: int
    last_heartbeat_at: datetime | None

    @property
    def server_count(self) -> int:
        """How many servers are placed on it."""
        return self.servers.total()

    @property
    def running_server_count(self) -> int:
        """How many of them run."""
        return self.servers[ActualState.RUNNING]

    @property
    def named_jobs(self) -> list[Job]:
        """The running jobs that are named: those that have run for longest."""
        return self.running_jobs[:NAMED_JOBS]

    @property
    def unnamed_job_count(self) -> int:
        """How many more jobs run."""
        return len(self.running_jobs) - len(self.named_jobs)

    @property
    def older_releases(self) -> list[Release]:
        """The installed builds that are not current: what servers may still run, and can be gone back to."""
        return [release for release in self.host.releases.all() if not release.is_current]


def read_hosts() -> list[HostRow]:
    """Read every host, in a number of queries that does not grow with theirs."""
    servers: dict[int, Counter[str]] = defaultdict(Counter)
    for host_id, state in Server.objects.values_list("host_id", "actual_state"):
        servers[host_id][state] += 1
    running: dict[int | None, list[Job]] = defaultdict(list)
    for job in Job.objects.running().order_by("started_at", "id"):
        running[job.host_id].append(job)
    of_queued = Job.objects.queued().order_by().values_list("host")
    queued = Counter(dict(of_queued.annotate(Count("pk"))))
    workers: dict[int, list[Worker]] = defaultdict(list)
    for worker in Worker.objects.alive().order_by("pid"):
        workers[worker.host_id].append(worker)
    beats = dict(Worker.objects.order_by().values_list("host").annotate(Max("heartbeat_at")))
    return [
        HostRow(
            host,
            servers[host.pk],
            workers[host.pk],
            running[host.pk],
            queued[host.pk],
            beats.get(host.pk),
        )
        for host in Host.objects.prefetch_related("releases")
    ]


def require_admin(request: SignedInRequest) -> None:
    """Refuse whoever is not an admin."""
    if not request.user.is_staff:
        raise PermissionDenied("Hosts are an admin's business.")


@require_safe
@sign_in_required
def host_list(request: SignedInRequest) -> HttpResponse:
    """Show every host."""
    require_admin(request)
    return render(request, "hosts/list.html", {"rows": read_hosts()})


@require_POST
@sign_in_required
def host_drain(request: SignedInRequest, name: str) -> HttpResponse:
    """Let a host's workers take no more jobs, or take them again: `draining` is `true` or `false`."""
    require_admin(request)
    host = get_object_or_404(Host, name=name)
    host.is_draining = request.POST.get("draining") == "true"
    host.save(update_fields=["is_draining"])
    announce(Channel.QUEUE, Channel.PAGES)
    if host.is_draining:
        messages.info(request, f"Host {host.name} takes no more jobs. What runs there may finish.")
    else:
        messages.info(request, f"Host {host.name} takes jobs again.")
    return redirect("jobs:hosts")
