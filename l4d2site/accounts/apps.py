"""The room as a Django app."""

from django.apps import AppConfig


class AccountsConfig(AppConfig):
    """Listens to what Django and allauth tell of accounts, and stores it."""

    name = "l4d2site.accounts"
    label = "accounts"
    verbose_name = "Accounts"

    def ready(self) -> None:
        """Connect the receivers."""
        # Django's way: not before the apps are there.
        from l4d2site.accounts import receivers, setting_changes  # noqa: F401
