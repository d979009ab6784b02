"""People in the Django admin with their quotas, and the record, read-only.

allauth's own admin pages are removed: they show tokens.
"""

from typing import Any

from allauth.account.models import EmailAddress
from allauth.mfa.models import Authenticator
from django.conf import settings
from django.contrib import admin
from django.contrib.auth.admin import UserAdmin
from django.contrib.auth.models import User
from django.http import HttpRequest
from django.utils.translation import gettext as _

from l4d2site.accounts.models import AccountEvent, OwnQuotas

for model in (EmailAddress, Authenticator, User):
    admin.site.unregister(model)


class OwnQuotasInline(admin.StackedInline):  # type: ignore[type-arg]
    """One person's limits, which override the settings."""

    model = OwnQuotas
    can_delete = False

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


@admin.register(User)
class PersonAdmin(UserAdmin):  # type: ignore[type-arg]
    """Django's admin for people, with their quotas."""

    def get_inlines(self, request: HttpRequest, obj: Any) -> list[Any]:  # noqa: ARG002
        """Show the quotas of an existing account that has any."""
        return [OwnQuotasInline] if obj and not obj.is_superuser else []


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

    def has_add_permission(self, request: HttpRequest) -> bool:  # noqa: ARG002 - as Django calls it
        """Return False: rows are written only when something happens."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:  # noqa: ARG002
        """Return False: the record does not change."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:  # noqa: ARG002
        """Return False: rows are removed by age and number."""
        return False
