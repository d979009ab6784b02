"""The project as a Django app, and the Django admin served by our own admin site."""

from django.apps import AppConfig
from django.contrib.admin.apps import AdminConfig


class SaferoomConfig(AppConfig):
    """What ties the other apps together: management commands, static files."""

    name = "l4d2site"


class SaferoomAdminConfig(AdminConfig):
    """Registers the models of every app at `SaferoomAdminSite`."""

    default = False
    default_site = "l4d2site.admin_site.SaferoomAdminSite"
