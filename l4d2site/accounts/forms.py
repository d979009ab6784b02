"""The forms of accounts."""

from datetime import date, datetime, time, timedelta
from typing import Any, cast

from allauth.account.forms import LoginForm
from allauth.core import context
from allauth.mfa.base.forms import AuthenticateForm, ReauthenticateForm
from allauth.mfa.totp.forms import ActivateTOTPForm
from django import forms
from django.conf import settings
from django.contrib.auth.forms import (
    BaseUserCreationForm,
    PasswordChangeForm,
    PasswordResetForm,
    SetPasswordForm,
)
from django.contrib.auth.models import User
from django.contrib.auth.signals import user_login_failed
from django.core.exceptions import ValidationError
from django.core.validators import MaxLengthValidator, MaxValueValidator, MinValueValidator
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from l4d2site.accounts.models import Invitation, OwnQuotas
from l4d2site.accounts.names import FreeNameMixin, require_mailable
from l4d2site.accounts.panel_roles import HOST_ADMINS, PanelRole, find_given_roles, panel_role_of
from servers.forms import PlainForm
from servers.models import Server
from servers.permissions import GIVEN_ROLES, Role, may, verb_to_give


class SignInForm(PlainForm, LoginForm):  # type: ignore[misc] # allauth has no types
    """allauth's form, with its field `login` sent as `username`, the name that browsers and scripts know."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["login"].label = _("Username")
        self.fields["login"].widget.attrs["autofocus"] = True
        self.fields["password"].help_text = ""
        for field in self.fields.values():
            field.widget.attrs.pop("placeholder", None)

    def add_prefix(self, field_name: str) -> str:
        """Return the name of a field as it is sent."""
        return "username" if field_name == "login" else field_name


SECOND_FIELD = "password2"


class FirstFieldMixin:
    """Reports a weak password where it was chosen: Django does so at the field that repeats it."""

    def validate_password_for_user(self, user: User, field_name: str = SECOND_FIELD) -> None:
        """Judge the first of the two fields."""
        first = field_name.replace("password2", "password1")
        super().validate_password_for_user(user, first)  # type: ignore[misc]


class NewPasswordForm(PlainForm, FirstFieldMixin, PasswordChangeForm):
    """Changes one's own password to a different one."""

    def clean_old_password(self) -> str:
        """Refuse a wrong password, and report it: it is a guess, just as at the sign-in."""
        try:
            return super().clean_old_password()
        except ValidationError:
            user_login_failed.send(
                sender=__name__,
                credentials={"username": self.user.get_username()},
                request=context.request,
            )
            raise

    def clean_new_password1(self) -> str:
        """Refuse the current password."""
        password = cast("str", self.cleaned_data["new_password1"])
        if self.user.check_password(password):
            raise ValidationError(_("That is your current password. Choose another one."))
        return password


class InvitationForm(PlainForm, forms.ModelForm):  # type: ignore[type-arg]
    """Invites somebody."""

    class Meta:
        model = Invitation
        fields = ["note", "email"]
        labels = {"note": _("For"), "email": _("E-mail address")}
        help_texts = {
            "note": _("Only for you, to tell your invitations apart."),
            "email": _(
                "A link is sent there, and the account may then have this address. Leave it empty to "
                "pass a link on yourself."
            ),
        }

    def clean_email(self) -> str:
        """Refuse an address that the link would not reach."""
        require_mailable(self.cleaned_data["email"])
        return str(self.cleaned_data["email"])


class RoleForm(PlainForm, forms.Form):
    """Chooses one of the roles that a person may give on a server."""

    role = forms.ChoiceField(label=_("Role"), widget=forms.Select(attrs={"autocomplete": "off"}))

    def __init__(self, *args: Any, user: User, server: Server, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        choice = cast("forms.ChoiceField", self.fields["role"])
        choice.choices = [
            (role.value, role.label)
            for role in GIVEN_ROLES
            if may(user, verb_to_give(role), server)
        ]

    @property
    def chosen(self) -> Role:
        """The role, once the form is valid."""
        return Role(self.cleaned_data["role"])


class MemberForm(RoleForm):
    """Gives a role to somebody who has an account."""

    username = forms.CharField(
        label=_("Username"),
        max_length=150,
        widget=forms.TextInput(attrs={"autocapitalize": "none", "autocomplete": "off"}),
    )
    field_order = ["username", "role"]

    def __init__(self, *args: Any, server: Server, **kwargs: Any) -> None:
        super().__init__(*args, server=server, **kwargs)
        self.server = server
        self.member: User

    def clean_username(self) -> str:
        """Find the account; refuse it if it already has a role."""
        username = cast("str", self.cleaned_data["username"])
        # As at the sign-in, an exact name wins over one that differs only in case.
        found = list(User.objects.filter(username__iexact=username, is_active=True)[:2])
        exact = [person for person in found if person.username == username]
        if not exact and len(found) != 1:
            raise ValidationError(
                _("Nobody here is called %(username)s. Give somebody new a link instead.")
                % {"username": username}
            )
        self.member = (exact or found)[0]
        if role := self.server.role_of(self.member):
            raise ValidationError(
                _("%(member)s is already %(label)s of %(server)s.")
                % {"member": self.member, "label": role.label, "server": self.server}
            )
        return username


class ServerInvitationForm(RoleForm):
    """Invites somebody to a server with a link."""

    note = forms.CharField(
        label=_("For"),
        max_length=80,
        required=False,
        help_text=_("Only to tell links apart."),
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
    )
    field_order = ["note", "role"]


class PanelRoleForm(PlainForm, forms.Form):
    """Chooses a person's role in the whole panel."""

    role = forms.ChoiceField(label=_("Role"))

    def __init__(self, *args: Any, person: User, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        current = panel_role_of(person)
        given = find_given_roles()
        roles = [*given, *([current] if current == PanelRole.OTHER else [])]
        choice = cast("forms.ChoiceField", self.fields["role"])
        choice.choices = [(role.value, role.label) for role in roles]
        if PanelRole.HOST_ADMIN not in given:
            choice.help_text = _(
                "Nobody can become a host admin: the group “%(group)s” is gone. Make one with that name and "
                "its permissions on the admin pages."
            ) % {"group": HOST_ADMINS}
        self.initial["role"] = current.value

    @property
    def chosen(self) -> PanelRole:
        """The role, once the form is valid."""
        return PanelRole(self.cleaned_data["role"])


class QuotasForm(PlainForm, forms.ModelForm):  # type: ignore[type-arg]
    """One person's limits, which override the settings. An empty field means the setting applies."""

    class Meta:
        model = OwnQuotas
        fields = ["servers", "waiting_jobs", "streams", "content_bytes"]
        labels = {
            "servers": _("Servers"),
            "waiting_jobs": _("Waiting jobs"),
            "streams": _("Pages that they follow live"),
            "content_bytes": _("Bytes of overlays"),
        }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        as_set = {
            "servers": settings.SERVERS_PER_OWNER,
            "waiting_jobs": settings.WAITING_JOBS_PER_OWNER,
            "streams": settings.STREAMS_PER_PERSON,
            "content_bytes": settings.CONTENT_BYTES_PER_OWNER,
        }
        for name, number in as_set.items():
            self.fields[name].widget.attrs["placeholder"] = str(number)
        self.fields["waiting_jobs"].help_text = _(
            "Empty: this many, or two for each of their servers if that is more."
        )


class AcceptanceForm(FreeNameMixin, PlainForm, FirstFieldMixin, BaseUserCreationForm):  # type: ignore[type-arg]
    """Creates the account of a person who was invited.

    It gets the invitation's address only if that person says so, with the link that was mailed there: somebody
    else has typed the address, may have passed that link on, and could have a new password mailed to them.
    """

    has_address = forms.BooleanField(required=False)

    class Meta:
        model = User
        fields = ["username"]
        help_texts = {"username": _("Letters, digits and @/./+/-/_ only.")}

    def __init__(self, *args: Any, invitation: Invitation, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["username"].widget.attrs |= {"autofocus": True, "autocomplete": "username"}
        self.fields["password2"].help_text = ""
        self._address = invitation.email if invitation.came_by_mail else ""
        if self._address:
            self.fields["has_address"].label = _("%(email)s is my own address") % {
                "email": self._address
            }
            self.fields["has_address"].help_text = _(
                "Links for a new password can then be mailed there: anyone who reads that mail can get "
                "into your account."
            )
        else:
            del self.fields["has_address"]

    @property
    def address(self) -> str:
        """The account's mail address, once the form is valid; empty if it gets none."""
        return self._address if self.cleaned_data.get("has_address") else ""


class ResetForm(FirstFieldMixin, SetPasswordForm):  # type: ignore[type-arg]
    """Sets a new password through a link."""


class ResetRequestForm(PlainForm, PasswordResetForm):
    """Requests a mail with a link."""

    email = forms.EmailField(
        label=_("E-mail address"),
        max_length=254,
        widget=forms.EmailInput(attrs={"autocomplete": "email", "autofocus": True}),
    )


LONGEST_CODE = 64
"""With room for blanks and dashes; codes have eight characters at most."""


def limit_chars(field: forms.Field, most: int) -> None:
    """Give one of allauth's text fields a limit. Setting `max_length` alone checks nothing."""
    cast("forms.CharField", field).max_length = most
    field.validators.append(MaxLengthValidator(most))
    field.widget.attrs["maxlength"] = str(most)


class CodeMixin:
    """Has a field for a code, for which phones show a number pad."""

    fields: dict[str, forms.Field]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["code"].label = _("Code")
        limit_chars(self.fields["code"], LONGEST_CODE)
        attributes = self.fields["code"].widget.attrs
        attributes.pop("placeholder", None)
        attributes |= {"inputmode": "numeric", "autofocus": True}


class SecondFactorForm(CodeMixin, PlainForm, AuthenticateForm):  # type: ignore[misc]
    """Asks for a code after the password."""


class ReauthenticationForm(CodeMixin, PlainForm, ReauthenticateForm):  # type: ignore[misc]
    """Asks for a code once more."""


class AppForm(CodeMixin, PlainForm, ActivateTOTPForm):  # type: ignore[misc]
    """Sets up an app."""


class DayField(forms.DateField):
    """A day as `2026-11-27`, which is what browsers send."""

    widget = forms.DateInput(format="%Y-%m-%d", attrs={"type": "date"})

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(
            required=False,
            input_formats=["%Y-%m-%d"],
            error_messages={"invalid": _("Enter a day such as 2026-11-27.")},
            validators=[MinValueValidator(date(2000, 1, 1)), MaxValueValidator(date(2999, 12, 30))],
            **kwargs,
        )


class AuditPeriodForm(PlainForm, forms.Form):
    """The first and the last day that the audit shows, in the panel's time zone."""

    since = DayField(label=_("From"))
    until = DayField(label=_("Until"))

    def clean(self) -> dict[str, Any]:
        """Refuse a period that ends before it begins."""
        days: dict[str, Any] = super().clean() or {}
        since, until = days.get("since"), days.get("until")
        if since and until and until < since:
            self.add_error("until", _("Choose the first day or a later one."))
        return self.cleaned_data

    def read_period(self) -> tuple[datetime | None, datetime | None]:
        """Return when the period begins and when it is over; None for an end that is open or not understood."""
        self.full_clean()
        since, until = self.cleaned_data.get("since"), self.cleaned_data.get("until")
        return (
            begin_of_day(since) if since else None,
            begin_of_day(until + timedelta(days=1)) if until else None,
        )


def begin_of_day(day: date) -> datetime:
    """Return when `day` begins in the panel's time zone."""
    return timezone.make_aware(datetime.combine(day, time.min))
