"""The pages of hosts: their state, workers, builds of the game, and jobs; and the requests for such jobs."""

from collections import Counter, defaultdict
from dataclasses import dataclass
from datetime import datetime

from django.contrib import messages
from django.db.models import Count, Max, QuerySet
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST, require_safe

from jobs import queue
from jobs.database import Channel, announce
from jobs.models import Job, JobQuerySet, JobState, Operation, Worker
from jobs.pages.host_builds import HostBuilds, find_rollback_obstacle
from jobs.pages.ways_back import read_next_page, see_other
from jobs.queue import explain_waiting
from servers.access import SignedInRequest, require, sign_in_required
from servers.models import ActualState, Host, Server
from servers.pages import choose_renewal
from servers.permissions import HOST_OPERATION_VERBS, Person, Verb, may
from servers.refusals import refuse
from servers.secrets import keys_note

SERVERS_SHOWN = 50
JOBS_SHOWN = 10
NAMED_JOBS = 8
"""How many running jobs of a host are named; it can have a hundred very short ones."""


@dataclass
class HostRow:
    """A host and what is on it now."""

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
        """Whether it has no live worker to report on its servers, but had one before."""
        return not self.workers and self.last_heartbeat_at is not None

    @property
    def running_server_count(self) -> int:
        """How many of its servers run."""
        return self.servers[ActualState.RUNNING]

    @property
    def named_jobs(self) -> list[Job]:
        """The running jobs that are named: of those that the user may see, the ones running longest."""
        return self.seen_jobs[:NAMED_JOBS]

    @property
    def unnamed_job_count(self) -> int:
        """How many other jobs run."""
        return self.running_job_count - len(self.named_jobs)


def read_hosts(user: Person, hosts: QuerySet[Host]) -> list[HostRow]:
    """Read `hosts`, as `user` sees them; the number of queries does not grow with the number of hosts."""
    ids = hosts.values("pk")
    servers: dict[int, Counter[str]] = defaultdict(Counter)
    counted = Server.objects.filter(host__in=ids).order_by().values("host_id", "actual_state")
    for group in counted.annotate(count=Count("pk")):
        servers[group["host_id"]][group["actual_state"]] = group["count"]
    seen: dict[int | None, list[Job]] = defaultdict(list)
    running_jobs = Job.objects.visible_to(user).running().filter(host__in=ids)
    for job in running_jobs.order_by("started_at", "id"):
        seen[job.host_id].append(job)
    running, queued = (
        Counter(dict(jobs.order_by().values_list("host").annotate(Count("pk"))))
        for jobs in (
            Job.objects.running().filter(host__in=ids),
            Job.objects.queued().filter(host__in=ids),
        )
    )
    workers: dict[int, list[Worker]] = defaultdict(list)
    for worker in Worker.objects.alive().filter(host__in=ids).order_by("pid"):
        workers[worker.host_id].append(worker)
    of_hosts = Worker.objects.filter(host__in=ids).order_by()
    beats = dict(of_hosts.values_list("host").annotate(Max("heartbeat_at")))
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
        for host in hosts
    ]


@require_safe
@sign_in_required
def host_list(request: SignedInRequest) -> HttpResponse:
    """Show every host."""
    require(request.user, Verb.VIEW_HOSTS)
    rows = read_hosts(request.user, Host.objects.all())
    is_running = any(row.running_job_count or row.queued_job_count for row in rows)
    context = {
        "rows": rows,
        "secrets_note": keys_note(),
        "renewal": choose_renewal(is_running=is_running, has_form=False),
    }
    return render(request, "hosts/list.html", context)


@require_safe
@sign_in_required
def host_detail(request: SignedInRequest, name: str) -> HttpResponse:
    """Show one host: its state, builds of the game, servers, overlays and jobs."""
    require(request.user, Verb.VIEW_HOSTS)
    host = get_object_or_404(Host, name=name)
    user = request.user
    (row,) = read_hosts(user, Host.objects.filter(pk=host.pk))
    visible = Server.objects.visible_to(user).filter(host=host).select_related("host", "blueprint")
    servers = list(visible.with_heartbeat()[:SERVERS_SHOWN])
    seen = set(Server.objects.allowed(user, Verb.VIEW).values_list("pk", flat=True))
    context = {
        "row": row,
        "host": row.host,
        "here": request.path,
        "builds": HostBuilds.of(row.host, seen),
        "strips": read_strips(user, row.host),
        "renewal": choose_renewal(
            is_running=bool(row.running_job_count or row.queued_job_count), has_form=False
        ),
        "servers": servers,
        "more_servers_count": row.server_count - len(servers),
        "overlays": row.host.overlay_reports.defer("maps", "campaigns"),
        "jobs": jobs_of_host(row.host)[:JOBS_SHOWN],
        "may_drain": may(user, Verb.DRAIN),
    }
    return render(request, "hosts/detail.html", context)


@dataclass(frozen=True)
class HostStrip:
    """A job about a whole host, as its page shows it: `waiting` is what a queued one waits for."""

    job: Job
    is_in_hand: bool
    waiting: str


def jobs_of_host(host: Host) -> JobQuerySet:
    """Return the jobs that were about a whole host, the newest first."""
    # Jobs without a server are few: otherwise this would search all jobs ever made.
    return Job.objects.about_hosts().filter(host=host)


def read_strips(user: Person, host: Host) -> list[HostStrip]:
    """Return the jobs about a host that wait or run; if none, the last one, if it failed or has a result."""
    active = list(jobs_of_host(host).active().select_related("host").order_by("id"))
    last = None if active else jobs_of_host(host).select_related("host").first()
    if last is not None and (last.state == JobState.FAILED or last.result):
        active = [last]
    return [
        HostStrip(
            job,
            may(user, job.verb),
            explain_waiting(job) if job.state == JobState.QUEUED else "",
        )
        for job in active
    ]


@require_POST
@sign_in_required
def host_job_create(request: SignedInRequest, name: str) -> HttpResponse:
    """Request an `operation` on a whole host; redirect to the host's page, or to the form's own page.

    A rollback has the builds `from` which and `to` which it goes.
    """
    operation = request.POST.get("operation", "")
    require(request.user, HOST_OPERATION_VERBS.get(operation, Verb.INSTALL))
    host = get_object_or_404(Host, name=name)
    page = read_next_page(request) or host.get_absolute_url()
    build_id = ""
    if operation == Operation.ROLLBACK:
        build_id = request.POST.get("to", "")
        if obstacle := find_rollback_obstacle(host, request.POST.get("from", ""), build_id):
            return refuse(request, obstacle, page)
    try:
        requested = queue.request(
            operation, host=host, requested_by=request.user, build_id=build_id
        )
    except queue.RequestRefused as refusal:
        return refuse(request, str(refusal), page)
    if not requested.is_new:
        job = requested.job
        messages.info(
            request,
            _("%(operation_label)s is already waiting or running: job %(job)s.")
            % {"operation_label": job.operation_label, "job": job.pk},
        )
    return see_other(page)


@require_POST
@sign_in_required
def host_drain(request: SignedInRequest, name: str) -> HttpResponse:
    """Make a host's workers take no more jobs, or take them again: `draining` is `true` or `false`."""
    require(request.user, Verb.DRAIN)
    host = get_object_or_404(Host, name=name)
    host.is_draining = request.POST.get("draining") == "true"
    host.save(update_fields=["is_draining"])
    announce(Channel.QUEUE, Channel.PAGES)
    if host.is_draining:
        messages.info(
            request,
            _("Host %(host)s takes no more jobs. Running jobs may finish.") % {"host": host.name},
        )
    else:
        messages.info(request, _("Host %(host)s takes jobs again.") % {"host": host.name})
    return see_other(read_next_page(request) or reverse("jobs:hosts"))
