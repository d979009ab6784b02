"""The pages of overlays: where each lies, what is in it, and what is wrong with it."""

from django.http import Http404, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from servers.access import SignedInRequest, sign_in_required
from servers.content import read_overlay_rows
from servers.models import Blueprint, Host, Overlay, OverlayReport
from servers.permissions import Verb, may


@require_safe
@sign_in_required
def overlay_list(request: SignedInRequest) -> HttpResponse:
    """List the overlays that one may use, and, for who sees hosts, the folders that are none yet."""
    user = request.user
    rows = read_overlay_rows(Overlay.objects.usable_by(user), Host.objects.all())
    strays = OverlayReport.objects.none()
    if may(user, Verb.VIEW_HOSTS):
        strays = OverlayReport.objects.exclude(name__in=Overlay.objects.values("name"))
    context = {
        "rows": rows,
        "strays": strays.select_related("host").defer("maps").order_by("name", "host__name"),
        "may_add": may(user, Verb.BRING_NATIVE_CODE) and user.has_perm("servers.add_overlay"),
    }
    return render(request, "overlays/list.html", context)


@require_safe
@sign_in_required
def overlay_detail(request: SignedInRequest, name: str) -> HttpResponse:
    """Show what was found of one overlay on each host."""
    user = request.user
    reports = OverlayReport.objects.filter(name=name).select_related("host").order_by("host__name")
    overlay = Overlay.objects.filter(name=name).first()
    if overlay is None:
        if not (may(user, Verb.VIEW_HOSTS) and reports):
            raise Http404
    elif not is_known_to(request, overlay):
        raise Http404
    hosts = {report.host_id for report in reports}
    looked_at = Host.objects.filter(overlays_reported_at__isnull=False)
    context = {
        "name": name,
        "overlay": overlay,
        "may_upload": overlay is not None and may(user, Verb.CHANGE_OVERLAY, overlay),
        "reports": reports,
        "missing": looked_at.exclude(pk__in=hosts) if overlay else [],
        "blueprints": Blueprint.objects.visible_to(user).filter(overlays__name=name).distinct(),
    }
    return render(request, "overlays/detail.html", context)


def is_known_to(request: SignedInRequest, overlay: Overlay) -> bool:
    """Whether somebody may read of an overlay: one that they may use, or that a blueprint of theirs has."""
    usable = Overlay.objects.usable_by(request.user).filter(pk=overlay.pk)
    if usable.exists():
        return True
    return Blueprint.objects.visible_to(request.user).filter(overlays=overlay).exists()
