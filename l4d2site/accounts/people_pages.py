"""The pages where admins let people in, and those that their links lead to."""

import uuid
from typing import Any, cast

from allauth.account.internal.flows.login import perform_password_login
from allauth.account.models import Login
from allauth.core import ratelimit
from allauth.mfa.models import Authenticator
from django.contrib import messages
from django.contrib.auth.models import User
from django.contrib.auth.views import INTERNAL_RESET_SESSION_TOKEN, PasswordResetConfirmView
from django.contrib.messages.views import SuccessMessageMixin
from django.core.exceptions import PermissionDenied
from django.core.paginator import Paginator
from django.db import IntegrityError, transaction
from django.db.models import Count, Exists, OuterRef, Q, QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse, reverse_lazy
from django.utils import timezone
from django.utils.encoding import force_bytes
from django.utils.http import urlsafe_base64_encode
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from l4d2site.accounts.addresses import make_link
from l4d2site.accounts.events import ADDRESS_CHARS, make_printable, record_event
from l4d2site.accounts.forms import (
    AcceptanceForm,
    InvitationForm,
    ResetForm,
    ResetRequestForm,
)
from l4d2site.accounts.mail import has_mail, send_invitation_mail, send_reset_mail
from l4d2site.accounts.memberships import give_role, record_role
from l4d2site.accounts.models import EventKind, Invitation
from l4d2site.accounts.names import find_mailbox
from l4d2site.accounts.panel_roles import PERMISSION_LOOKUPS, may_reset, panel_role_of
from l4d2site.accounts.password_changes import note_link
from l4d2site.accounts.reset_links import ResetTokens, was_mailed
from l4d2site.accounts.sessions import store_session
from l4d2site.errors import too_many_requests
from l4d2site.gate.throttling import note_turned_away
from servers.access import SignedInRequest, sign_in_required
from servers.models import Server
from servers.permissions import PEOPLE_VERBS, Role, Verb, may, roles_from
from servers.quotas import describe_new_account

PEOPLE_PER_PAGE = 100

require_page = require_http_methods(["GET", "HEAD", "POST"])


def may_see_people(user: User) -> bool:
    """Return whether `user` may see who has an account."""
    return any(may(user, verb) for verb in PEOPLE_VERBS)


@require_safe
@never_cache
@sign_in_required
def people(request: SignedInRequest) -> HttpResponse:
    """Show who has an account, and the open invitations."""
    if not may_see_people(request.user):
        raise PermissionDenied(_("Only an admin can see who has an account."))
    text, kind = request.GET.get("q", "").replace("\0", "").strip(), request.GET.get("kind", "")
    page = Paginator(find_people(text, kind), PEOPLE_PER_PAGE).get_page(request.GET.get("page"))
    context = {
        "page": page,
        "people": [
            (person, panel_role_of(person), may_reset(request.user, person)) for person in page
        ],
        "text": text,
        "kind": kind if kind in KINDS else "",
        "kinds": [(name, label) for name, (label, _rows) in KINDS.items()],
        "may_read_record": may(request.user, Verb.READ_RECORD),
        "may_invite": may(request.user, Verb.INVITE),
        "may_set_quotas": may(request.user, Verb.SET_QUOTAS),
        "new_account": describe_new_account(),
        "form": make_invitation_form(),
        "invitations": [
            (
                invitation,
                make_link(request, invitation.get_absolute_url()) if invitation.is_backed else "",
            )
            # Prefetched, so that invitations of one maker share what is read about that person's permissions.
            for invitation in Invitation.objects.open()
            .filter(server=None)
            .prefetch_related("made_by")
        ]
        if may(request.user, Verb.INVITE)
        else [],
    }
    return render(request, "accounts/people.html", context)


KINDS = {
    "": (gettext_lazy("everybody"), Q()),
    "staff": (gettext_lazy("staff"), Q(is_staff=True)),
    "off": (gettext_lazy("deactivated"), Q(is_active=False)),
}
"""The filters of the list: in words, and as a condition."""


def find_people(text: str, kind: str) -> QuerySet[User]:
    """Return the accounts with `text` in their names, with the facts that the list shows."""
    _label, condition = KINDS.get(kind, KINDS[""])
    rows = User.objects.filter(condition, username__icontains=text)
    return (
        rows.prefetch_related(*PERMISSION_LOOKUPS)
        .annotate(
            has_second_factor=Exists(Authenticator.objects.filter(user_id=OuterRef("pk"))),
            server_count=Count("servers", distinct=True),
        )
        .order_by("username")
    )


def make_invitation_form(data: Any = None) -> InvitationForm:
    """Return the form for an invitation; it has an address field only if mail is set up."""
    form = InvitationForm(data)
    if not has_mail():
        del form.fields["email"]
    return form


def describe_errors(form: InvitationForm) -> str:
    """Return what is wrong with `form`, in sentences."""
    return " ".join(str(error) for errors in form.errors.values() for error in errors)


def describe_invitation(invitation: Invitation, *, names_maker: bool = False) -> str:
    """Return which invitation it is, for the record: its note, where it was mailed to, and who made it."""
    mailed = make_printable(invitation.email, ADDRESS_CHARS)
    words = [
        invitation.note,
        f"mailed to {mailed}" if mailed else "",
        f"made by {invitation.made_by}" if names_maker else "",
    ]
    return ", ".join(filter(None, words))


@require_POST
@sign_in_required
def invitation_make(request: SignedInRequest) -> HttpResponse:
    """Create an invitation. The page of people shows its link while it is open."""
    if not may(request.user, Verb.INVITE):
        raise PermissionDenied(_("Only an admin can invite people."))
    form = make_invitation_form(request.POST)
    form.instance.made_by = request.user
    if not form.is_valid():
        messages.error(
            request,
            _("Nothing was done. %(faults)s") % {"faults": describe_errors(form)},
        )
        return redirect("people")
    email = form.instance.email
    if email and not ratelimit.consume(request, action="mail_invitation", key=find_mailbox(email)):
        note_turned_away(request, request.user.get_username())
        messages.error(
            request,
            _(
                "Nothing was done. Within an hour, you can mail 30 invitations, and two of them to one "
                "address. Leave the address empty to pass a link on yourself."
            ),
        )
        return redirect("people")
    invitation = form.save()
    detail = describe_invitation(invitation)
    record_event(EventKind.INVITATION_MADE, request, user=request.user, detail=detail)
    if invitation.email and send_invitation_mail(invitation):
        messages.success(
            request, _("The invitation is on its way to %(email)s.") % {"email": invitation.email}
        )
    else:
        messages.success(
            request, _("The invitation is ready. Send its link to the person it is for.")
        )
    return redirect("people")


@require_POST
@sign_in_required
def invitation_revoke(request: SignedInRequest, pk: uuid.UUID) -> HttpResponse:
    """Revoke an invitation that has not been accepted."""
    if not may(request.user, Verb.INVITE):
        raise PermissionDenied(_("Only an admin can revoke invitations."))
    mine = Invitation.objects.open().filter(server=None, pk=pk)
    found = mine.select_related("made_by").first()
    if found and mine.delete()[0]:
        detail = describe_invitation(found, names_maker=True)
        record_event(EventKind.INVITATION_REVOKED, request, user=request.user, detail=detail)
        messages.success(request, _("The invitation was revoked. Its link no longer works."))
    else:
        messages.error(
            request, _("That invitation had already been accepted or revoked, or had expired.")
        )
    return redirect("people")


@require_page
@never_cache
@sensitive_post_parameters("password1", "password2")
def invitation(request: HttpRequest, token: str) -> HttpResponse:
    """Create the account of a person who was invited, and sign them in."""
    found = Invitation.of_token(token)
    if found is None:
        return render(request, "accounts/invitation_over.html", status=404)
    if request.user.is_authenticated:
        if found.server is None:
            return render(request, "accounts/invitation_other.html")
        return join(cast("SignedInRequest", request), found)
    form = AcceptanceForm(request.POST or None, invitation=found)
    if form.is_valid():
        try:
            user = accept(found, form)
        except IntegrityError:
            form.add_error("username", _("That name has just been taken. Choose another one."))
        else:
            if user is None:
                return render(request, "accounts/invitation_over.html", status=404)
            record_event(
                EventKind.INVITATION_ACCEPTED,
                request,
                user=user,
                detail=describe_invitation(found, names_maker=True),
                server=found.server,
            )
            if found.server:
                record_role(request, user, found.server, Role(found.role), found.made_by)
            credentials = {"username": user.get_username()}
            response: HttpResponse = perform_password_login(request, credentials, Login(user=user))
            return response
    return render(request, "accounts/invitation.html", {"form": form, "invitation": found})


def join(request: SignedInRequest, invitation: Invitation) -> HttpResponse:
    """Ask a person with an account whether to accept the invitation to a server, and do so."""
    server, role = cast("Server", invitation.server), Role(invitation.role)
    own_role = server.role_of(request.user)
    is_enough = own_role in roles_from(role)
    if is_enough or request.method != "POST":
        context = {
            "invitation": invitation,
            "server": server,
            "role": role,
            "own_role": own_role,
            "is_enough": is_enough,
        }
        return render(request, "accounts/invitation_to_server.html", context)
    with transaction.atomic():
        is_open = invitation.accept()
        if is_open:
            give_role(server, request.user, role)
    if not is_open:
        return render(request, "accounts/invitation_over.html", status=404)
    record_event(
        EventKind.INVITATION_ACCEPTED,
        request,
        user=request.user,
        detail=describe_invitation(invitation, names_maker=True),
        server=server,
    )
    record_role(request, request.user, server, role, invitation.made_by)
    messages.success(
        request,
        _("You are now %(label)s of %(server)s.") % {"label": role.label, "server": server.name},
    )
    return redirect(server)


@transaction.atomic
def accept(invitation: Invitation, form: AcceptanceForm) -> User | None:
    """Create the account that `form` describes, with the role that the invitation gives.

    None if the invitation was used or revoked in the meantime.
    """
    user = User.objects.create_user(
        form.cleaned_data["username"],
        email=form.address,
        password=form.cleaned_data["password1"],
    )
    if invitation.accept(user):
        if invitation.server:
            give_role(invitation.server, user, Role(invitation.role))
        return user
    transaction.set_rollback(True)
    return None


@require_POST
@never_cache
@sign_in_required
def reset_link(request: SignedInRequest, pk: int) -> HttpResponse:
    """Make a link with which a person can set a new password, and show it once."""
    if not may_reset(request.user):
        raise PermissionDenied(_("Only an admin can make links for new passwords."))
    person = get_object_or_404(User, pk=pk, is_active=True)
    if not may_reset(request.user, person):
        raise PermissionDenied(
            _(
                "%(person)s has rights that you do not have: ask a superuser for the link for "
                "their new password."
            )
            % {"person": person}
        )
    place = [
        urlsafe_base64_encode(force_bytes(person.pk)),
        ResetTokens(request.user).make_token(person),
    ]
    by = request.user.get_username()
    record_event(EventKind.RESET_LINK_MADE, request, user=person, detail=f"by {by}")
    context = {
        "person": person,
        "link": make_link(request, reverse("reset", args=place)),
        "has_second_factor": Authenticator.objects.filter(user=person).exists(),
    }
    return render(request, "accounts/reset_link.html", context)


class PasswordReset(SuccessMessageMixin, PasswordResetConfirmView):  # type: ignore[type-arg]
    """Sets a new password through a link. It signs nobody in: a second factor is still required."""

    form_class = ResetForm
    token_generator = ResetTokens()
    template_name = "accounts/reset.html"
    success_url = reverse_lazy("account_login")
    success_message = gettext_lazy("Your password was changed. Sign in with it.")

    def dispatch(self, *args: Any, **kwargs: Any) -> HttpResponseBase:
        """Show the form. Django keeps the link in the session: nobody else may know the key of that."""
        session, held = self.request.session, INTERNAL_RESET_SESSION_TOKEN
        before = session.get(held)
        response = super().dispatch(*args, **kwargs)
        if session.get(held) not in (None, before):
            session.cycle_key()
            if self.request.user.is_authenticated:
                store_session(self.request, self.request.user, timezone.now())
        return response

    def form_valid(self, form: Any) -> HttpResponse:
        """Set it. The record says that it was with a link, and if that came by mail."""
        token = self.request.session.get(INTERNAL_RESET_SESSION_TOKEN, "")
        note_link(self.request, was_mailed=was_mailed(token))
        return super().form_valid(form)


@require_page
@never_cache
def reset_request(request: HttpRequest) -> HttpResponse:
    """Mail a link for a new password, if the panel sends mail. The answer is the same for everybody."""
    if not has_mail():
        raise Http404(_("This panel does not send mail."))
    form = ResetRequestForm(request.POST or None)
    if not form.is_valid():
        return render(request, "accounts/reset_request.html", {"form": form})
    key = find_mailbox(form.cleaned_data["email"])
    if not ratelimit.consume(request, action="reset_password", key=key):
        return too_many_requests(request)
    if not send_reset_mail(form):
        return render(
            request, "accounts/reset_request.html", {"form": form, "is_busy": True}, status=503
        )
    return render(request, "accounts/reset_requested.html")
