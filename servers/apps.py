"""The nouns: hosts, overlays, blueprints, servers."""

from django.apps import AppConfig


class ServersConfig(AppConfig):
    """Servers and what they are made of."""

    name = "servers"
