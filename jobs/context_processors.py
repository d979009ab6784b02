"""What pages say about the workers of the hosts that they show: that they are away, or take no jobs."""

from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext as _

from jobs.models import Job, Worker
from servers.models import Host, Server
from servers.permissions import Verb, may

SHOW_HOSTS = ("/hosts/", "/servers/", "/jobs/", "/admin/jobs/", "/admin/servers/")
"""The beginnings of the addresses that show hosts, servers or jobs."""


def worker_notes(request: HttpRequest) -> dict[str, list[str]]:
    """Return `worker_notes` on the hosts that the page shows, for somebody who has signed in."""
    user = getattr(request, "user", None)
    is_signed_in = user is not None and user.is_authenticated
    return {"worker_notes": describe_workers(hosts_of(request)) if is_signed_in else []}


def hosts_of(request: HttpRequest) -> QuerySet[Host]:
    """Return the hosts that the page is about and that matter to the signed-in user."""
    hosts = find_shown_hosts(request)
    if may(request.user, Verb.VIEW_HOSTS):
        return hosts
    seen_servers = Server.objects.allowed(request.user, Verb.VIEW)
    return hosts.filter(pk__in=seen_servers.order_by().values("host_id"))


def find_shown_hosts(request: HttpRequest) -> QuerySet[Host]:
    """Return the hosts that a page is about: all for a list, one for a server, a job or a host."""
    path, match = request.path_info, request.resolver_match
    if match is None or not (path == "/admin/" or path.startswith(SHOW_HOSTS)):
        return Host.objects.none()
    if path.startswith("/servers/") and "name" in match.kwargs:
        return Host.objects.filter(servers__name=match.kwargs["name"])
    if path.startswith("/hosts/") and "name" in match.kwargs:
        return Host.objects.filter(name=match.kwargs["name"])
    if path.startswith("/jobs/") and "pk" in match.kwargs:
        return Host.objects.filter(pk__in=Job.objects.filter(pk=match.kwargs["pk"]).values("host"))
    return Host.objects.all()


def describe_workers(hosts: QuerySet[Host]) -> list[str]:
    """Return one sentence for each host that begins no jobs now: why, and until when."""
    named = list(hosts.only("name", "is_draining"))
    alive = Worker.objects.alive().filter(host__in=[host.pk for host in named])
    is_claiming: dict[int, bool] = {}
    for host_id, claims in alive.values_list("host_id", "is_claiming"):
        is_claiming[host_id] = claims or is_claiming.get(host_id, False)
    notes = []
    for host in named:
        if host.pk not in is_claiming:
            notes.append(
                _("No worker is running on host %(host)s. Jobs wait until it is back.")
                % {"host": host.name}
            )
        elif not is_claiming[host.pk]:
            notes.append(
                _(
                    "The worker on host %(host)s takes no more jobs: it is shutting down, or "
                    "JOB_WORKER_ENABLED is false. Jobs wait until a worker takes them."
                )
                % {"host": host.name}
            )
        elif host.is_draining:
            notes.append(
                _(
                    "Host %(host)s takes no more jobs, as an admin is draining it. Jobs wait "
                    "until that ends."
                )
                % {"host": host.name}
            )
    return notes
