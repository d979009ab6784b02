"""The hosts page: what each host is like, who works there, and whether it is being drained."""

from collections import Counter, defaultdict
from dataclasses import dataclass
from datetime import datetime

from django.contrib import messages
from django.db.models import Count, Max
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_POST, require_safe

from jobs.database import Channel, announce
from jobs.models import Job, Worker
from servers.access import SignedInRequest, require, sign_in_required
from servers.models import ActualState, Host, Release, Server
from servers.permissions import Person, Verb
from servers.secrets import keys_note

NAMED_JOBS = 8
"""So many running jobs of a host are named; it can have a hundred very short ones."""


@dataclass
class HostRow:
    """A host with what is on it now."""

    host: Host
    servers: Counter[str]
    workers: list[Worker]
    seen_jobs: list[Job]
    running_job_count: int
    queued_job_count: int
    last_heartbeat_at: datetime | None

    @property
    def server_count(self) -> int:
        """How many servers are placed on it."""
        return self.servers.total()

    @property
    def is_silent(self) -> bool:
        """Whether nobody is there to tell what its servers do, but somebody was."""
        return not self.workers and self.last_heartbeat_at is not None

    @property
    def running_server_count(self) -> int:
        """How many of them run."""
        return self.servers[ActualState.RUNNING]

    @property
    def named_jobs(self) -> list[Job]:
        """The running jobs that are named: of those that one may see, what has run for longest."""
        return self.seen_jobs[:NAMED_JOBS]

    @property
    def unnamed_job_count(self) -> int:
        """How many more jobs run."""
        return self.running_job_count - len(self.named_jobs)

    @property
    def older_releases(self) -> list[Release]:
        """The installed builds that are not current: what servers may still run, and can be gone back to."""
        return [release for release in self.host.releases.all() if not release.is_current]


def read_hosts(user: Person) -> list[HostRow]:
    """Read every host, as `user` sees it, in a number of queries that does not grow with theirs."""
    servers: dict[int, Counter[str]] = defaultdict(Counter)
    for host_id, state in Server.objects.values_list("host_id", "actual_state"):
        servers[host_id][state] += 1
    seen: dict[int | None, list[Job]] = defaultdict(list)
    for job in Job.objects.visible_to(user).running().order_by("started_at", "id"):
        seen[job.host_id].append(job)
    running, queued = (
        Counter(dict(jobs.order_by().values_list("host").annotate(Count("pk"))))
        for jobs in (Job.objects.running(), Job.objects.queued())
    )
    workers: dict[int, list[Worker]] = defaultdict(list)
    for worker in Worker.objects.alive().order_by("pid"):
        workers[worker.host_id].append(worker)
    beats = dict(Worker.objects.order_by().values_list("host").annotate(Max("heartbeat_at")))
    return [
        HostRow(
            host,
            servers[host.pk],
            workers[host.pk],
            seen[host.pk],
            running[host.pk],
            queued[host.pk],
            beats.get(host.pk),
        )
        for host in Host.objects.prefetch_related("releases")
    ]


@require_safe
@sign_in_required
def host_list(request: SignedInRequest) -> HttpResponse:
    """Show every host."""
    require(request.user, Verb.VIEW_HOSTS)
    context = {"rows": read_hosts(request.user), "secrets_note": keys_note()}
    return render(request, "hosts/list.html", context)


@require_POST
@sign_in_required
def host_drain(request: SignedInRequest, name: str) -> HttpResponse:
    """Let a host's workers take no more jobs, or take them again: `draining` is `true` or `false`."""
    require(request.user, Verb.DRAIN)
    host = get_object_or_404(Host, name=name)
    host.is_draining = request.POST.get("draining") == "true"
    host.save(update_fields=["is_draining"])
    announce(Channel.QUEUE, Channel.PAGES)
    if host.is_draining:
        messages.info(request, f"Host {host.name} takes no more jobs. What runs there may finish.")
    else:
        messages.info(request, f"Host {host.name} takes jobs again.")
    return redirect("jobs:hosts")
