"""The ports a server may have: those of the range, and for admins others that the panel does not need."""

from django.conf import settings
from django.utils.translation import gettext as _

from hostops.specs import PORT_RANGE
from servers.models.reach import LOOPBACK

POSTGRES_PORT = 5432


def find_panel_ports() -> frozenset[int]:
    """Return the ports that the panel itself needs on this machine: the web server's and the database's."""
    ports = {settings.PANEL_PORT}
    database = settings.DATABASES["default"]
    address = str(database.get("HOST") or "")
    # A path is the folder of the database's socket: then it is on this machine, and uses its port as well.
    own = (*LOOPBACK, settings.HOST_ADDRESS, settings.MACHINE_ADDRESS)
    is_here = address in own or address.startswith("/")
    if not settings.IS_SQLITE and is_here:
        ports.add(int(database.get("PORT") or POSTGRES_PORT))
    return frozenset(ports)


def find_port_obstacle(port: int, *, is_any_allowed: bool) -> str:
    """Return why a server cannot have a port, in a sentence; empty if it can.

    `is_any_allowed` says whether this person may choose a port outside the range.
    """
    if not is_any_allowed and port not in PORT_RANGE:
        return _(
            "Choose a port from %(first)s to %(last)s, or leave this empty to get the next free "
            "one. Only an admin can assign any other."
        ) % {"first": PORT_RANGE[0], "last": PORT_RANGE[-1]}
    if port in find_panel_ports():
        return _("Saferoom itself needs port %(port)s. Choose another one.") % {"port": port}
    return ""
