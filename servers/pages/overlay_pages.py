"""The pages of overlays: where each lies, what is in it, who uses it, and what is wrong with it."""

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from django.contrib import messages
from django.contrib.auth.models import User
from django.core.paginator import Paginator
from django.db.models import Count, Prefetch
from django.http import Http404, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_safe

from hostops.specs import OverlayReference
from servers.access import SignedInRequest, get_overlay, get_overlay_or_404, sign_in_required
from servers.config import newest_runs
from servers.content import find_next_steps, read_overlay_rows
from servers.forms import OverlayForm
from servers.models import (
    Blueprint,
    BlueprintOverlay,
    Host,
    LaidOutVersion,
    Overlay,
    OverlayReport,
    OverlayVersion,
    Server,
)
from servers.pages.new_server_pages import form_page
from servers.pages.version_pages import describe_plugins
from servers.permissions import Verb, may
from servers.quotas import count_content_bytes, find_overlay_obstacle, most_content_bytes
from servers.store import (
    BlobError,
    VersionRefusedError,
    find_holders,
    find_overlay_holders,
    read_files,
    remove_overlay,
)

OVERLAYS_SHOWN = 500
SERVERS_SHOWN = 100
VERSIONS_PER_PAGE = 50
TEXTS_OF_BLUEPRINTS = ("blueprint__arguments", "blueprint__config")
TEXTS_OF_SERVERS = ("arguments", "config", "config_chain", *TEXTS_OF_BLUEPRINTS)
LAID_OUT = Prefetch(
    "laid_out", LaidOutVersion.objects.select_related("host").order_by("host__name")
)


@dataclass(frozen=True)
class ServerUse:
    """A server that is made of an overlay, and what it runs with, if a start now would use something else."""

    server: Server
    version: OverlayVersion | None
    is_pinned: bool
    runs_other: str


@require_safe
@sign_in_required
def overlay_list(request: SignedInRequest) -> HttpResponse:
    """List the overlays that the user may use and, for people who see hosts, folders without an overlay."""
    user = request.user
    overlays = Overlay.objects.usable_by(user).with_summaries().select_related("latest", "owner")
    overlays = overlays.annotate(blueprint_count=Count("blueprint_overlays"))
    rows = read_overlay_rows(overlays[:OVERLAYS_SHOWN], Host.objects.all())
    strays = OverlayReport.objects.none()
    if may(user, Verb.VIEW_HOSTS):
        strays = OverlayReport.objects.exclude(name__in=Overlay.objects.values("name"))
    context = {
        "rows": rows,
        "strays": strays.select_related("host").defer("maps").order_by("name", "host__name"),
        "may_add": may(user, Verb.BRING_NATIVE_CODE) and user.has_perm("servers.add_overlay"),
        "obstacle": find_overlay_obstacle(user),
        "used_bytes": count_content_bytes(user),
        "most_bytes": most_content_bytes(user),
    }
    return render(request, "overlays/list.html", context)


@require_safe
@sign_in_required
def overlay_detail(request: SignedInRequest, name: str) -> HttpResponse:
    """Show the versions of an overlay, or what was found in it on each host."""
    user = request.user
    reports = OverlayReport.objects.filter(name=name).select_related("host").order_by("host__name")
    if not Overlay.objects.filter(name=name).exists():
        if not (may(user, Verb.VIEW_HOSTS) and reports):
            raise Http404
        return render(request, "overlays/detail.html", {"name": name, "reports": reports})
    overlay = get_overlay_or_404(user, name)
    context: dict[str, Any] = {"name": name, "overlay": overlay, **describe_use(user, overlay)}
    if overlay.latest is None:
        looked_at = Host.objects.filter(overlays_reported_at__isnull=False)
        # Without the right to name a folder, it is not one: a host's folder of the same name is unrelated.
        is_by_hand = overlay.is_host_folder and (bool(reports) or overlay.owner is None)
        hosts = {report.host_id for report in reports}
        context |= {
            "reports": reports if is_by_hand or may(user, Verb.VIEW_HOSTS) else [],
            "missing": looked_at.exclude(pk__in=hosts) if is_by_hand else [],
            "is_by_hand": is_by_hand,
        }
    else:
        holders = find_holders(overlay)
        versions = overlay.versions.select_related("created_by").prefetch_related(LAID_OUT)
        page = Paginator(versions, VERSIONS_PER_PAGE).get_page(request.GET.get("page"))
        context |= {
            "versions": [(version, holders.get(version.reference, ())) for version in page],
            "page": page,
            "version": overlay.latest,
            "next_steps": find_next_steps(user, overlay),
        }
        if context["may_read_files"]:
            with suppress(BlobError, OSError):  # The pages of its files say what is lost.
                files = read_files(overlay.latest)
                context |= describe_plugins(request, overlay.latest, files)
    return render(request, "overlays/detail.html", context)


def describe_use(user: User, overlay: Overlay) -> dict[str, Any]:
    """Return what an overlay's page says about where it is used, and what the user may do with it."""
    places = (
        BlueprintOverlay.objects.filter(
            overlay=overlay, blueprint__in=Blueprint.objects.visible_to(user)
        )
        .select_related("blueprint", "version")
        .defer(*TEXTS_OF_BLUEPRINTS)
        .order_by("blueprint__name")
    )
    versions = {place.blueprint_id: place.version for place in places}
    visible = Server.objects.visible_to(user).filter(blueprint__in=versions)
    visible = visible.select_related("host", "owner", "blueprint").defer(*TEXTS_OF_SERVERS)
    servers = list(visible.with_heartbeat()[:SERVERS_SHOWN])
    return {
        "may_change": may(user, Verb.CHANGE_OVERLAY, overlay),
        "may_read_files": may(user, Verb.USE_OVERLAY, overlay),
        "places": places,
        "uses": list(find_uses(overlay, servers, versions)),
    }


def find_uses(
    overlay: Overlay, servers: Iterable[Server], pins: dict[int, OverlayVersion | None]
) -> Iterable[ServerUse]:
    """Yield what servers would get from an overlay at a start, and what the running ones have instead."""
    up = [server.pk for server in servers if server.is_up]
    runs = dict(newest_runs(up).values_list("server_id", "overlays")) if up else {}
    for server in servers:
        pin = pins[server.blueprint_id]
        wanted = pin or overlay.latest
        running = [
            reference
            for text, _fingerprint in runs.get(server.pk, ())
            if (reference := OverlayReference.parse(text)).name == overlay.name
        ]
        wanted_text = wanted.reference if wanted else overlay.name
        is_same = server.pk not in runs or wanted_text in map(str, running)
        runs_other = "" if is_same else describe_running(running)
        yield ServerUse(server, wanted, pin is not None, runs_other)


def describe_running(references: list[OverlayReference]) -> str:
    """Return, in words, what a running server has of an overlay."""
    if not references:
        return _("runs without it")
    if references[0].number is None:
        return _("runs with the folder of its host")
    return _("runs with version %(number)d") % {"number": references[0].number}


@form_page
@sign_in_required
def overlay_create(request: SignedInRequest) -> HttpResponse:
    """Make an overlay that the user owns, with nothing in it yet."""
    overlay = Overlay(owner=request.user, is_shared=False)
    form = OverlayForm(request.POST or None, instance=overlay, user=request.user)
    if request.method == "POST" and form.is_valid() and form.try_save():
        messages.success(
            request, _("Overlay %(name)s was made. Now upload its files.") % {"name": overlay.name}
        )
        return redirect(overlay)
    obstacle = "" if request.method == "POST" else find_overlay_obstacle(request.user)
    return render(request, "overlays/form.html", {"form": form, "obstacle": obstacle})


@form_page
@sign_in_required
def overlay_edit(request: SignedInRequest, name: str) -> HttpResponse:
    """Change an overlay's description, and who may use it."""
    overlay = get_overlay(request.user, name, Verb.CHANGE_OVERLAY)
    form = OverlayForm(request.POST or None, instance=overlay, user=request.user)
    if request.method == "POST" and form.is_valid() and form.try_save():
        messages.success(request, _("Overlay %(name)s was saved.") % {"name": name})
        return redirect(overlay)
    context = {"form": form, "name": name}
    return render(request, "overlays/form.html", context, status=form.status)


@form_page
@sign_in_required
def overlay_remove(request: SignedInRequest, name: str) -> HttpResponse:
    """Ask whether to remove an overlay with its versions, and do so if nothing uses it."""
    overlay = get_overlay(request.user, name, Verb.CHANGE_OVERLAY)
    status = 200
    if request.method == "POST":
        try:
            remove_overlay(overlay)
        except VersionRefusedError:
            status = 409  # The page says what uses it.
        else:
            messages.success(request, _("Overlay %(name)s was removed.") % {"name": name})
            return redirect("servers:overlay_list")
    context = {
        "overlay": overlay,
        "holders": find_overlay_holders(overlay, request.user),
        "version_count": overlay.versions.count(),
        "lies_on_hosts": OverlayReport.objects.filter(name=name).exists(),
    }
    return render(request, "overlays/remove.html", context, status=status)
