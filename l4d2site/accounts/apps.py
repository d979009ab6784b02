"""The room as a Django app."""

from django.apps import AppConfig
from django.utils.translation import gettext_lazy


class AccountsConfig(AppConfig):
    """Listens to signals from Django and allauth about accounts, and stores them."""

    name = "l4d2site.accounts"
    label = "accounts"
    verbose_name = gettext_lazy("Accounts")

    def ready(self) -> None:
        """Connect the receivers."""
        # As Django requires: not before the apps are loaded.
        from l4d2site.accounts import receivers, setting_changes  # noqa: F401
