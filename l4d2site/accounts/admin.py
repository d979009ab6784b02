"""The record in the Django admin, to be read. What allauth puts there is taken out: it has tokens in it."""

from typing import Any

from allauth.account.models import EmailAddress
from allauth.mfa.models import Authenticator
from django.contrib import admin
from django.http import HttpRequest

from l4d2site.accounts.models import AccountEvent

for model in (EmailAddress, Authenticator):
    admin.site.unregister(model)


@admin.register(AccountEvent)
class AccountEventAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    """Who signed in and who could not, and what was changed of accounts."""

    list_display = ["at", "kind", "name", "address", "browser", "detail", "count", "last_at"]
    list_filter = ["kind", "at"]
    list_per_page = 100
    search_fields = ["name", "address"]
    show_full_result_count = False

    def has_add_permission(self, request: HttpRequest) -> bool:  # noqa: ARG002 - as Django calls it
        """Return False: only what happened is recorded."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:  # noqa: ARG002
        """Return False: what happened stays."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:  # noqa: ARG002
        """Return False: rows go by their age and number."""
        return False
