"""Where a request came from, and the full addresses of links."""

import ipaddress

from django.conf import settings
from django.http import HttpRequest


def client_address(request: HttpRequest) -> str:
    """Return the IP address that `request` came from; empty if it came through a Unix socket."""
    text = str(request.META.get("REMOTE_ADDR", ""))
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        return ""


def make_link(request: HttpRequest, path: str) -> str:
    """Return the full address of `path`, for giving it to another person.

    It begins with PANEL_URL, or if that is empty, with the address at which the panel is being used.
    """
    return settings.PANEL_URL + path if settings.PANEL_URL else request.build_absolute_uri(path)


def has_passkeys(request: HttpRequest) -> bool:
    """Return whether browsers support passkeys at the address at which the panel is being used.

    They do for a name, over TLS or on the same machine, but never for an IP address (WebAuthn level 2, 5.1.3).
    """
    name = request.get_host().rpartition(":")[0] or request.get_host()
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return request.is_secure() or name == "localhost" or name.endswith(".localhost")
    return False
