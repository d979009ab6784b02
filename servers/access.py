"""Who may see and change what. Every view starts with one of these functions."""

from collections.abc import Callable
from functools import wraps
from typing import Any
from urllib.parse import urlsplit

from django.contrib.auth.models import User
from django.contrib.auth.views import redirect_to_login
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponseBase
from django.shortcuts import get_object_or_404
from django.urls import reverse
from django.utils.http import url_has_allowed_host_and_scheme
from django.utils.translation import gettext as _

from servers.models import Blueprint, Overlay, Server
from servers.permissions import RULES, Thing, Verb, may

LONGEST_ADDRESS = 2_000
"""In characters: pages repeat it. An address of the panel with all its filters has a few hundred."""


class SignedInRequest(HttpRequest):
    """A request that `sign_in_required` has checked: somebody is signed in."""

    user: User


def sign_in_required(
    view: Callable[..., HttpResponseBase],
) -> Callable[..., HttpResponseBase]:
    """Send strangers to the login page, and from there back to the page they were on."""

    @wraps(view)
    def checked(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if request.user.is_authenticated:
            return view(request, *args, **kwargs)
        return redirect_to_login(page_to_return_to(request))

    return checked


def page_to_return_to(request: HttpRequest) -> str:
    """Return the address of the page that `request` shows, or that a change was posted from."""
    if request.method in ("GET", "HEAD"):
        return request.get_full_path()
    # The session ended while the page was open. Its form's address answers only to POST, so after signing
    # in the browser must go to the page with the form instead.
    referer = request.headers.get("Referer", "")
    if url_has_allowed_host_and_scheme(referer, {request.get_host()}):
        return urlsplit(referer).path or "/"
    return reverse("servers:list")


def get_server_or_404(user: User, name: str) -> Server:
    """Return the server with its host, blueprint and owner, if `user` may know about it."""
    servers = Server.objects.visible_to(user).with_heartbeat()
    servers = servers.select_related("host", "blueprint", "owner")
    return get_object_or_404(servers, name=name)


def require(user: User, verb: Verb, thing: Thing | None = None) -> None:
    """Refuse with 403 anybody who may not do `verb`: to `thing`, which they may see, or to the whole panel."""
    if not may(user, verb, thing):
        rule = RULES[verb]
        if rule.least is None:
            raise PermissionDenied(_("Only an admin may %(words)s.") % {"words": rule.words})
        raise PermissionDenied(
            _(
                "Your role is not enough. It takes the role %(label)s, or a higher one, to %(words)s."
            )
            % {"label": rule.least.label, "words": rule.words}
        )


def get_server(user: User, name: str, verb: Verb) -> Server:
    """Return the server if `user` may do `verb` to it: 404 if they may not even see it, otherwise 403."""
    server = get_server_or_404(user, name)
    require(user, verb, server)
    return server


def get_blueprint_or_404(user: User, name: str) -> Blueprint:
    """Return the blueprint with its owner, if `user` may know about it."""
    blueprints = Blueprint.objects.visible_to(user).select_related("owner")
    return get_object_or_404(blueprints, name=name)


def get_blueprint(user: User, name: str, verb: Verb) -> Blueprint:
    """Return the blueprint if `user` may do `verb` to it; 403 if they may only use it."""
    blueprint = get_blueprint_or_404(user, name)
    if not may(user, verb, blueprint):
        raise PermissionDenied(
            _("Blueprint %(blueprint)s belongs to %(owner)s: only they or an admin can change it.")
            % {"blueprint": blueprint.name, "owner": blueprint.owner}
        )
    return blueprint


def is_address_of_ours(address: str) -> bool:
    """Return whether a form may lead to an address: a path of the panel, which is no longer than any needs."""
    is_path = len(address) <= LONGEST_ADDRESS and address.startswith("/")
    return is_path and url_has_allowed_host_and_scheme(address, allowed_hosts=None)


def get_overlay_or_404(user: User, name: str) -> Overlay:
    """Return the overlay with its owner and latest version, if `user` may know about it.

    They may if they may use it, or if one of their blueprints has it.
    """
    overlays = Overlay.objects.select_related("owner", "latest")
    overlay = get_object_or_404(overlays, name=name)
    if may(user, Verb.USE_OVERLAY, overlay):
        return overlay
    if Blueprint.objects.visible_to(user).filter(overlays=overlay).exists():
        return overlay
    raise Http404


def get_overlay(user: User, name: str, verb: Verb) -> Overlay:
    """Return the overlay if `user` may do `verb` to it; 403 if they may only know about it."""
    overlay = get_overlay_or_404(user, name)
    if may(user, verb, overlay):
        return overlay
    owner = overlay.owner or _("the admins")
    words = (
        _(
            "Overlay %(overlay)s belongs to %(owner)s and is not shared: only they can see its files."
        )
        if verb is Verb.USE_OVERLAY
        else _("Overlay %(overlay)s belongs to %(owner)s: only they or an admin can change it.")
    )
    raise PermissionDenied(words % {"overlay": overlay.name, "owner": owner})
