"""The pages of a server's people: who has which role, and how people get or lose one."""

import uuid

from django.contrib import messages
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.forms import Form
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from jobs.pages import describe_head
from l4d2site.accounts.addresses import make_link
from l4d2site.accounts.events import record_event
from l4d2site.accounts.forms import MemberForm, RoleForm, ServerInvitationForm
from l4d2site.accounts.memberships import give_role, record_role, take_role
from l4d2site.accounts.models import EventKind, Invitation
from l4d2site.accounts.panel_roles import may_make_links
from servers.access import SignedInRequest, get_server, get_server_or_404, require, sign_in_required
from servers.models import Membership, Server
from servers.people import count_game_people
from servers.permissions import Role, Verb, may, verb_to_give
from servers.quotas import describe_new_account

MOST_INVITATIONS = 20
"""The most open invitations of one server."""

MEMBER_IDS, LINK_IDS = "id_member_%s", "id_link_%s"
"""The ids of the fields of the page's two forms, both of which have a role."""


def get_member_or_404(server: Server, pk: int) -> Membership:
    """Return one of the memberships of `server`."""
    return get_object_or_404(server.memberships.select_related("user"), pk=pk)


@require_safe
@never_cache
@sign_in_required
def server_people(request: SignedInRequest, name: str) -> HttpResponse:
    """Show who has a role on a server. People who may not share it see only the owner and themselves."""
    return show_people(request, get_server_or_404(request.user, name))


def show_people(
    request: SignedInRequest,
    server: Server,
    member_form: MemberForm | None = None,
    invitation_form: ServerInvitationForm | None = None,
) -> HttpResponse:
    """Show the page of a server's people, with one of its forms as it was refused."""
    user = request.user
    may_share = may(user, Verb.SHARE, server)
    memberships = server.memberships.select_related("user").exclude(user_id=server.owner_id)
    if not may_share:
        memberships = memberships.filter(user=user)
    invitations = [
        (
            invitation,
            make_link(request, invitation.get_absolute_url()) if invitation.is_backed else "",
        )
        for invitation in (find_invitations(user, server) if may_share else [])
    ]
    made = request.GET.get("made", "")
    context = describe_head(request, server, "people") | {
        "here": reverse("server_people", args=[server.name]),
        "game_people": count_game_people(server),
        "may_share": may_share,
        "may_make_links": may_share and may_make_links(user),
        "most_invitations": MOST_INVITATIONS,
        "new_account": describe_new_account(),
        "members": [
            (
                membership,
                RoleForm(
                    user=user,
                    server=server,
                    initial={"role": membership.role},
                    auto_id=f"id_{membership.pk}_%s",
                )
                if may(user, verb_to_give(Role(membership.role)), server)
                else None,
            )
            for membership in memberships
        ],
        "member_form": member_form or MemberForm(user=user, server=server, auto_id=MEMBER_IDS),
        "invitation_form": invitation_form
        or ServerInvitationForm(user=user, server=server, auto_id=LINK_IDS),
        "invitations": invitations,
        "new_link": next((link for one, link in invitations if str(one.pk) == made), ""),
    }
    return render(request, "servers/people.html", context)


def find_invitations(user: User, server: Server) -> list[Invitation]:
    """Return the open invitations to a server that `user` may revoke."""
    invitations = (
        Invitation.objects.open().filter(server=server).select_related("server", "made_by")
    )
    return [one for one in invitations if may(user, verb_to_give(Role(one.role)), server)]


def describe_errors(form: Form) -> str:
    """Return what is wrong with `form`, in sentences."""
    return " ".join(str(error) for errors in form.errors.values() for error in errors)


@require_POST
@sign_in_required
def member_add(request: SignedInRequest, name: str) -> HttpResponse:
    """Give a role to somebody who has an account."""
    server = get_server(request.user, name, Verb.SHARE)
    form = MemberForm(request.POST, user=request.user, server=server, auto_id=MEMBER_IDS)
    if not form.is_valid():
        return show_people(request, server, member_form=form)
    give_role(server, form.member, form.chosen)
    record_role(request, form.member, server, form.chosen, request.user)
    messages.success(
        request,
        _("%(member)s is now %(label)s of %(server)s.")
        % {"member": form.member, "label": form.chosen.label, "server": server.name},
    )
    return redirect("server_people", name)


@require_POST
@sign_in_required
def member_change(request: SignedInRequest, name: str, pk: int) -> HttpResponse:
    """Give a member another role."""
    server = get_server(request.user, name, Verb.SHARE)
    membership = get_member_or_404(server, pk)
    require(request.user, verb_to_give(Role(membership.role)), server)
    form = RoleForm(request.POST, user=request.user, server=server)
    if not form.is_valid():
        messages.error(
            request,
            _("Nothing was done. %(faults)s") % {"faults": describe_errors(form)},
        )
        return redirect("server_people", name)
    if form.chosen != membership.role:
        give_role(server, membership.user, form.chosen)
        record_role(request, membership.user, server, form.chosen, request.user)
    messages.success(
        request,
        _("%(user)s is %(label)s of %(server)s.")
        % {"user": membership.user, "label": form.chosen.label, "server": server.name},
    )
    return redirect("server_people", name)


@require_http_methods(["GET", "HEAD", "POST"])
@never_cache
@sign_in_required
def member_remove(request: SignedInRequest, name: str, pk: int) -> HttpResponse:
    """Ask whether to take a member's role, or to leave a server oneself, and do so."""
    server = get_server_or_404(request.user, name)
    is_self = server.memberships.filter(pk=pk, user=request.user).exists()
    if not is_self:
        require(request.user, Verb.SHARE, server)
    membership = get_member_or_404(server, pk)
    role = Role(membership.role)
    if not is_self:
        require(request.user, verb_to_give(role), server)
    if request.method != "POST":
        context = {
            "server": server,
            "membership": membership,
            "is_self": is_self,
            "knows_passwords": role == Role.MANAGER and bool(server.stored_secrets),
        }
        return render(request, "servers/people_remove.html", context)
    if take_role(membership):
        record_role(request, membership.user, server, None, request.user)
    if is_self:
        messages.success(request, _("You have left server %(server)s.") % {"server": server.name})
        return redirect("servers:list")
    messages.success(
        request,
        _("%(user)s no longer has a role on %(server)s.")
        % {"user": membership.user, "server": server.name},
    )
    return redirect("server_people", name)


@require_POST
@sign_in_required
def invitation_make(request: SignedInRequest, name: str) -> HttpResponse:
    """Make a link that gives a role on a server, and an account to people who have none."""
    server = get_server(request.user, name, Verb.SHARE)
    if not may_make_links(request.user):
        raise PermissionDenied(
            _("Here only an admin can make links for new people (OWNERS_INVITE).")
        )
    form = ServerInvitationForm(request.POST, user=request.user, server=server, auto_id=LINK_IDS)
    if not form.is_valid():
        return show_people(request, server, invitation_form=form)
    if (invitation := make_invitation(server, form, request.user)) is None:
        messages.error(
            request,
            _(
                "Nothing was done. This server has reached its limit of open links "
                "(%(most_invitations)s). Revoke one first."
            )
            % {"most_invitations": MOST_INVITATIONS},
        )
    else:
        note, role = invitation.note, form.chosen
        detail = f"{role.value} of {server.name}" + (f": {note}" if note else "")
        record_event(
            EventKind.INVITATION_MADE, request, user=request.user, detail=detail, server=server
        )
        return redirect(f"{reverse('server_people', args=[name])}?made={invitation.pk}")
    return redirect("server_people", name)


@transaction.atomic
def make_invitation(server: Server, form: ServerInvitationForm, user: User) -> Invitation | None:
    """Store the link that the form describes; None if the server has as many open ones as it may."""
    # Those that make one at the same moment take turns: each counts what the others have made.
    get_object_or_404(Server.objects.select_for_update(no_key=True), pk=server.pk)
    if Invitation.objects.open().filter(server=server).count() >= MOST_INVITATIONS:
        return None
    note, role = form.cleaned_data["note"], form.chosen
    return Invitation.objects.create(server=server, role=role.value, note=note, made_by=user)


@require_POST
@sign_in_required
def invitation_revoke(request: SignedInRequest, name: str, pk: uuid.UUID) -> HttpResponse:
    """Revoke a link that has not been used."""
    server = get_server(request.user, name, Verb.SHARE)
    of_server = Invitation.objects.open().filter(server=server).select_related("made_by")
    invitation = of_server.filter(pk=pk).first()
    if invitation is None:
        messages.error(request, _("That link had already been used or revoked, or had expired."))
        return redirect("server_people", name)
    require(request.user, verb_to_give(Role(invitation.role)), server)
    invitation.delete()
    note = f": {invitation.note}" if invitation.note else ""
    detail = f"{invitation.role} of {server.name}{note}, made by {invitation.made_by}"
    record_event(
        EventKind.INVITATION_REVOKED, request, user=request.user, detail=detail, server=server
    )
    messages.success(request, _("The link was revoked. It no longer works."))
    return redirect("server_people", name)
