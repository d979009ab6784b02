"""The page of one person, for admins: their role in the panel, their limits, and what belongs to them."""

from django.contrib import messages
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.template.defaultfilters import filesizeformat
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST, require_safe

from jobs.models import Job
from l4d2site.accounts.events import record_event
from l4d2site.accounts.forms import PanelRoleForm, QuotasForm
from l4d2site.accounts.mail import warn_of_address
from l4d2site.accounts.models import EventKind, OwnQuotas
from l4d2site.accounts.panel_roles import PanelRole, give_panel_role, may_reset, panel_role_of
from l4d2site.accounts.people_pages import may_see_people
from servers.access import SignedInRequest, require, sign_in_required
from servers.models import Server
from servers.permissions import Verb, may
from servers.quotas import (
    count_content_bytes,
    lock_person,
    most_content_bytes,
    most_servers,
    most_streams,
    most_waiting_jobs,
)

SERVERS_SHOWN = 50


def get_person_or_404(pk: int) -> User:
    """Return a person with their quotas and groups."""
    people = User.objects.select_related("own_quotas").prefetch_related("groups")
    return get_object_or_404(people, pk=pk)


def may_appoint(user: User, person: User) -> bool:
    """Return whether `user` may set the panel role of `person`: a superuser may, except their own."""
    return user.is_superuser and user.is_staff and user.pk != person.pk


def may_switch(user: User, person: User) -> bool:
    """Return whether `user` may deactivate and reactivate `person`; nobody can lock themselves out."""
    return may_reset(user, person) and user.pk != person.pk


def may_limit(user: User, person: User) -> bool:
    """Return whether `user` may set the limits of `person`; a superuser has none."""
    return may(user, Verb.SET_QUOTAS) and not person.is_superuser


@require_safe
@never_cache
@sign_in_required
def person_page(request: SignedInRequest, pk: int) -> HttpResponse:
    """Show a person."""
    if not may_see_people(request.user):
        raise PermissionDenied(_("Only an admin can see who has an account."))
    person = get_person_or_404(pk)
    return show_person(request, person)


def show_person(
    request: SignedInRequest, person: User, quotas_form: QuotasForm | None = None
) -> HttpResponse:
    """Render the page of a person, keeping what was typed into the form of their limits."""
    user = request.user
    visible = Server.objects.visible_to(user).select_related("host", "owner").with_heartbeat()
    owned = list(visible.filter(owner=person)[:SERVERS_SHOWN])
    own_count = Server.objects.filter(owner=person).count()
    memberships = person.memberships.filter(server__in=Server.objects.allowed(user, Verb.VIEW))
    context = {
        "person": person,
        "role": panel_role_of(person),
        "usages": describe_usages(person, own_count),
        "servers": owned,
        "unseen_count": own_count - len(owned),
        "memberships": memberships.select_related("server")[:SERVERS_SHOWN],
        "role_form": PanelRoleForm(person=person) if may_appoint(user, person) else None,
        "quotas_form": (quotas_form or QuotasForm(instance=quotas_of(person)))
        if may_limit(user, person)
        else None,
        "may_reset": may_reset(user, person) and person.is_active,
        "may_switch": may_switch(user, person),
        "may_read_record": may(user, Verb.READ_RECORD),
    }
    return render(request, "accounts/person.html", context)


def describe_usages(person: User, server_count: int) -> list[tuple[str, str]]:
    """Return, in words, how much of their limits a person uses."""
    waiting = Job.objects.queued().filter(requested_by=person).order_by().count()
    rows = [
        (_("Servers"), str(server_count), most_servers(person)),
        (_("Waiting jobs"), str(waiting), most_waiting_jobs(person)),
        (_("Pages that they follow live"), "", most_streams(person)),
    ]
    content = (_("Content of overlays"), describe_bytes(person))
    return [*((label, describe_usage(used, most)) for label, used, most in rows), content]


def describe_bytes(person: User) -> str:
    """Return, in words, how much of their byte limit a person's overlays use."""
    used, most = filesizeformat(count_content_bytes(person)), most_content_bytes(person)
    if most is None:
        return used
    return _("%(used)s of %(most)s") % {"used": used, "most": filesizeformat(most)}


def describe_usage(used: str, most: int | None) -> str:
    """Return, in words, how much of `most` is used; None means no limit."""
    if most is None:
        return used or _("no limit")
    if not used:
        return _("at most %(most)d") % {"most": most}
    return _("%(used)s of %(most)d") % {"used": used, "most": most}


def quotas_of(person: User) -> OwnQuotas:
    """Return the row of a person's limits, which may not be stored yet."""
    return OwnQuotas.objects.filter(user=person).first() or OwnQuotas(user=person)


@require_POST
@sign_in_required
def person_role(request: SignedInRequest, pk: int) -> HttpResponse:
    """Make somebody an owner, a host admin or a superuser."""
    if not (request.user.is_superuser and request.user.is_staff):
        raise PermissionDenied(_("Only a superuser can change somebody’s role in the panel."))
    person = get_person_or_404(pk)
    if not may_appoint(request.user, person):
        raise PermissionDenied(_("You cannot change your own role. Ask another superuser."))
    form = PanelRoleForm(request.POST, person=person)
    if not form.is_valid():
        messages.error(request, _("Nothing was done: choose a role."))
        return redirect("person", pk)
    names = {"person": person, "role": form.chosen.label}
    if form.chosen in (PanelRole.OTHER, panel_role_of(person)):
        messages.info(request, _("Nothing was done: %(person)s already has that role.") % names)
    else:
        give_panel_role(person, form.chosen)
        messages.success(request, _("%(person)s is now: %(role)s.") % names)
        if form.chosen != PanelRole.OWNER:
            warn_of_address(request, person)
    return redirect("person", pk)


@require_POST
@sign_in_required
def person_quotas(request: SignedInRequest, pk: int) -> HttpResponse:
    """Set limits for a person, overriding the settings."""
    require(request.user, Verb.SET_QUOTAS)
    person = get_person_or_404(pk)
    if not may_limit(request.user, person):
        messages.error(request, _("Nothing was done: a superuser has no limits."))
        return redirect("person", pk)
    with transaction.atomic():
        # Two that set the first limits of a person take turns, so that the second changes the first's row.
        lock_person(person)
        form = QuotasForm(request.POST, instance=quotas_of(person))
        if form.is_valid() and form.has_changed():
            form.save()
            detail = f"{', '.join(form.changed_data)}, by {request.user.get_username()}"
            record_event(EventKind.QUOTAS_CHANGED, request, user=person, detail=detail)
    if not form.is_valid():
        return show_person(request, person, form)
    messages.success(
        request,
        _("The limits of %(person)s were saved. They apply immediately.") % {"person": person},
    )
    return redirect("person", pk)


@require_POST
@sign_in_required
def person_switch(request: SignedInRequest, pk: int) -> HttpResponse:
    """Deactivate an account or reactivate it: `active` is `true` or `false`. `receivers` ends its sessions."""
    require(request.user, Verb.MAKE_RESET_LINK)
    person = get_person_or_404(pk)
    if not may_switch(request.user, person):
        raise PermissionDenied(
            _(
                "You cannot deactivate or reactivate yourself, nor somebody with rights that you "
                "do not have."
            )
        )
    person.is_active = request.POST.get("active") == "true"
    person.save(update_fields=["is_active"])
    if person.is_active:
        messages.success(request, _("%(person)s may sign in again.") % {"person": person})
    else:
        text = _("%(person)s was deactivated and signed out. Their servers keep running.")
        messages.success(request, text % {"person": person})
    return redirect("person", pk)
