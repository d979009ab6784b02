"""The project as a Django app, and the Django admin served by our own admin site."""

from django.apps import AppConfig
from django.contrib.admin.apps import AdminConfig


class SaferoomConfig(AppConfig):
    """Ties the other apps together: management commands, static files."""

    name = "l4d2site"

    def ready(self) -> None:
        """Register the checks, and the handler that sets a new SQLite database's mode."""
        # As Django requires: not before the apps are loaded.
        from jobs import database  # noqa: F401
        from l4d2site import checks  # noqa: F401


class SaferoomAdminConfig(AdminConfig):
    """Registers the models of every app at `SaferoomAdminSite`."""

    default = False
    default_site = "l4d2site.admin_site.SaferoomAdminSite"
