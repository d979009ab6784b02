"""People and groups in the Django admin, with quotas, and the record, read-only.

Roles and permissions are given by superusers alone, as on the panel's pages.
allauth's own admin pages are removed: they show tokens.
"""

from typing import Any, cast

from allauth.account.models import EmailAddress
from allauth.mfa.models import Authenticator
from django.conf import settings
from django.contrib import admin
from django.contrib.admin.utils import unquote
from django.contrib.auth.admin import GroupAdmin, UserAdmin
from django.contrib.auth.forms import AdminUserCreationForm, UserChangeForm
from django.contrib.auth.models import Group, User
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils.translation import gettext as _

from l4d2site.accounts.events import record_event
from l4d2site.accounts.mail import warn_of_address
from l4d2site.accounts.models import AccountEvent, EventKind, OwnQuotas
from l4d2site.accounts.names import FreeNameMixin, require_mailable
from l4d2site.accounts.panel_roles import has_rights_of
from servers.admin import ToldCollisions
from servers.permissions import Verb, may

for model in (EmailAddress, Authenticator, Group, User):
    admin.site.unregister(model)


class OwnQuotasInline(admin.StackedInline):  # type: ignore[type-arg]
    """One person's limits, which override the settings."""

    model = OwnQuotas
    can_delete = False

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:  # noqa: ARG002
        """Follow the permission rule: a person without limits of their own has no row yet."""
        return may(request.user, Verb.SET_QUOTAS)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:  # noqa: ARG002
        """Follow the permission rule."""
        return may(request.user, Verb.SET_QUOTAS)

    def get_formset(self, request: HttpRequest, obj: Any = None, **kwargs: Any) -> Any:
        """Say beside each field what leaving it empty means."""
        formset = super().get_formset(request, obj, **kwargs)
        fields = formset.form.base_fields
        fields["servers"].help_text = _("Empty: %(servers_per_owner)s, as for everybody.") % {
            "servers_per_owner": settings.SERVERS_PER_OWNER
        }
        fields["waiting_jobs"].help_text = _(
            "Jobs that they have asked for and that have not begun. Empty: "
            "%(waiting_jobs_per_owner)s, or two for each of their servers."
        ) % {"waiting_jobs_per_owner": settings.WAITING_JOBS_PER_OWNER}
        fields["streams"].help_text = _(
            "Pages that they follow live. Empty: %(streams_per_person)s, as for everybody."
        ) % {"streams_per_person": settings.STREAMS_PER_PERSON}
        fields["content_bytes"].help_text = _(
            "How much their overlays may take in the panel’s store. Empty: "
            "%(content_bytes_per_owner)s bytes, as for everybody."
        ) % {"content_bytes_per_owner": f"{settings.CONTENT_BYTES_PER_OWNER:,}"}
        return formset


class PersonForm(FreeNameMixin, UserChangeForm):  # type: ignore[type-arg]
    """Changes an account."""

    def clean_email(self) -> str:
        """Refuse another address that links for a new password would not reach."""
        if "email" in self.changed_data:
            require_mailable(self.cleaned_data["email"])
        return str(self.cleaned_data["email"])


class NewPersonForm(FreeNameMixin, AdminUserCreationForm):  # type: ignore[type-arg]
    """Creates an account."""


@admin.register(User)
class PersonAdmin(ToldCollisions, UserAdmin):  # type: ignore[type-arg]
    """Django's admin for people, with their quotas.

    The right to change accounts includes neither roles nor the accounts of people with more rights: it would be
    a way to get any right.
    """

    form = PersonForm
    add_form = NewPersonForm
    facts = ["last_login", "date_joined"]
    given_by_superusers = ["is_staff", "is_superuser", "groups", "user_permissions"]

    def has_change_permission(self, request: HttpRequest, obj: User | None = None) -> bool:
        """Return whether the user has all the rights of `obj`; that includes setting its password."""
        is_allowed = super().has_change_permission(request, obj)
        return is_allowed and (obj is None or has_rights_of(cast("User", request.user), obj))

    def has_delete_permission(self, request: HttpRequest, obj: User | None = None) -> bool:
        """Return whether the user is not `obj`, and has all its rights: so a superuser always remains.

        Django asks for each row of a bulk deletion.
        """
        user = cast("User", request.user)
        is_allowed = super().has_delete_permission(request, obj)
        return is_allowed and (obj is None or (obj.pk != user.pk and has_rights_of(user, obj)))

    def get_readonly_fields(self, request: HttpRequest, obj: User | None = None) -> list[str]:
        """Protect roles from all but superusers, and one's own: people could lock themselves out.

        Nobody writes the facts: a sign-in could be hidden, and links for a new password depend on them.
        """
        user = cast("User", request.user)
        if obj is not None and obj.pk == user.pk:
            return [*self.facts, "is_active", *self.given_by_superusers]
        return self.facts if user.is_superuser else [*self.facts, *self.given_by_superusers]

    def user_change_password(
        self,
        request: HttpRequest,
        id: str,  # noqa: A002 - as Django calls it
        form_url: str = "",
    ) -> HttpResponse:
        """Set somebody's password; one's own on the page that asks for the old one."""
        if self.get_object(request, unquote(id)) == request.user:
            return HttpResponseRedirect(reverse("password_change"))
        return super().user_change_password(request, id, form_url)

    def save_formset(self, request: HttpRequest, form: Any, formset: Any, change: bool) -> None:
        """Store the quotas, and record that as the panel's page does."""
        super().save_formset(request, form, formset, change)
        changed = [name for one in formset.forms if one.has_changed() for name in one.changed_data]
        if changed:
            detail = f"{', '.join(changed)}, by {request.user.get_username()}"
            record_event(EventKind.QUOTAS_CHANGED, request, user=form.instance, detail=detail)

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:
        """Store groups and permissions too; a promotion warns as on the panel's page."""
        super().save_related(request, form, formsets, change)
        has_new_rights = not set(self.given_by_superusers).isdisjoint(form.changed_data)
        if has_new_rights and form.instance.is_staff:
            warn_of_address(request, form.instance)

    def get_inlines(self, request: HttpRequest, obj: Any) -> list[Any]:  # noqa: ARG002
        """Show the quotas of an existing account that has any."""
        return [OwnQuotasInline] if obj and not obj.is_superuser else []


@admin.register(Group)
class PanelGroupAdmin(ToldCollisions, GroupAdmin):
    """Django's admin for groups, changed by superusers alone: a group gives its members permissions."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Return whether the user is a superuser."""
        return cast("User", request.user).is_superuser

    def has_change_permission(self, request: HttpRequest, obj: Group | None = None) -> bool:  # noqa: ARG002
        """Return whether the user is a superuser."""
        return cast("User", request.user).is_superuser

    def has_delete_permission(self, request: HttpRequest, obj: Group | None = None) -> bool:  # noqa: ARG002
        """Return whether the user is a superuser."""
        return cast("User", request.user).is_superuser


@admin.register(AccountEvent)
class AccountEventAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    """Sign-ins, failed ones too, and changes to accounts."""

    list_display = [
        "at",
        "kind",
        "name",
        "actor_name",
        "address",
        "browser",
        "detail",
        "count",
        "last_at",
    ]
    list_filter = ["kind", "at"]
    list_per_page = 100
    search_fields = ["name", "actor_name", "address"]
    show_full_result_count = False

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:  # noqa: ARG002
        """Follow the permission rule."""
        return may(request.user, Verb.READ_RECORD)

    def has_add_permission(self, request: HttpRequest) -> bool:  # noqa: ARG002 - as Django calls it
        """Return False: rows are written only when something happens."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:  # noqa: ARG002
        """Return False: the record does not change."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:  # noqa: ARG002
        """Return False: rows are removed by age and number."""
        return False
