"""The hosts page: what each host is like, who works there, and whether it is being drained."""

from collections import Counter, defaultdict
from dataclasses import dataclass, field

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_POST, require_safe

from jobs.models import Job, JobState, Worker
from jobs.wakeup import Channel, announce
from servers.access import SignedInRequest, sign_in_required
from servers.models import ActualState, Host, Server


@dataclass
class HostRow:
    """A host with what is on it now."""

    host: Host
    servers: Counter[str]
    jobs: Counter[str]
    workers: list[Worker] = field(default_factory=list)

    @property
    def server_count(self) -> int:
        """How many servers are placed on it."""
        return self.servers.total()

    @property
    def running_server_count(self) -> int:
        """How many of them run."""
        return self.servers[ActualState.RUNNING]

    @property
    def running_job_count(self) -> int:
        """How many jobs run."""
        return self.jobs[JobState.RUNNING]

    @property
    def queued_job_count(self) -> int:
        """How many jobs wait."""
        return self.jobs[JobState.QUEUED]

    @property
    def living_workers(self) -> list[Worker]:
        """The workers that beat."""
        return [worker for worker in self.workers if worker.is_alive]

    @property
    def last_worker(self) -> Worker | None:
        """The worker that beat last, be it gone or not."""
        return max(self.workers, key=lambda worker: worker.heartbeat_at, default=None)


def read_hosts() -> list[HostRow]:
    """Read every host, in a number of queries that does not grow with theirs."""
    servers: dict[int, Counter[str]] = defaultdict(Counter)
    for host_id, state in Server.objects.values_list("host_id", "actual_state"):
        servers[host_id][state] += 1
    jobs: dict[int | None, Counter[str]] = defaultdict(Counter)
    for host_id, state in Job.objects.active().values_list("host_id", "state"):
        jobs[host_id][state] += 1
    rows = [HostRow(host, servers[host.pk], jobs[host.pk]) for host in Host.objects.all()]
    of_id = {row.host.pk: row for row in rows}
    for worker in Worker.objects.filter(stopped_at=None).order_by("-heartbeat_at")[:200]:
        of_id[worker.host_id].workers.append(worker)
    return rows


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
