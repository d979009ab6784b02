"""Makes a server and starts it with one click. The screen is in `servers.pages.new_server_pages`."""

from django.contrib import messages
from django.http import HttpResponse
from django.urls import reverse
from django.utils.http import urlencode
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST

from jobs import queue
from jobs.models import Job, Operation
from jobs.pages.ways_back import read_next_page, see_other
from servers.access import SignedInRequest, sign_in_required
from servers.models import Host, Server
from servers.pages import MADE_PARAMETER, create_server
from servers.permissions import Verb, may


@require_POST
@sign_in_required
def server_make_and_start(request: SignedInRequest) -> HttpResponse:
    """Make the server that the form describes and request its start; redirect to the screen."""
    return create_server(request, start)


def start(request: SignedInRequest, server: Server) -> HttpResponse:
    """Request the start of a new server, and before it the install of the game if that is needed.

    If a request is refused, the user is told why; the server is made anyway.
    """
    if refusal := request_start(request, server):
        text = _("Server %(name)s was made, but not started: %(reason)s")
        messages.warning(request, text % {"name": server.name, "reason": refusal})
    page = read_next_page(request) or reverse("servers:create")
    return see_other(f"{page.partition('?')[0]}?{urlencode({MADE_PARAMETER: server.name})}")


def request_start(request: SignedInRequest, server: Server) -> str:
    """Request the start, and before it a missing install; return why that is refused, or an empty text."""
    host = server.host
    try:
        if host.lacks_game and not is_being_installed(host):
            if not may(request.user, Verb.INSTALL):
                return _("the game is not installed on host %(host)s yet.") % {"host": host.name}
            queue.request(Operation.INSTALL, host=host, requested_by=request.user)
        queue.request(Operation.START, server=server, requested_by=request.user)
    except queue.RequestRefused as refusal:
        return str(refusal)
    return ""


def is_being_installed(host: Host) -> bool:
    """Return whether an install of the game waits or runs on a host."""
    return Job.objects.active().filter(host=host, operation=Operation.INSTALL).exists()
