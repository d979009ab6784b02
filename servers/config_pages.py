"""The page of a server's config: which files it consists of, in the order in which the game reads them."""

from django.http import HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from servers.access import SignedInRequest, get_server, sign_in_required
from servers.permissions import Verb
from servers.waiting_changes import describe_waiting


@require_safe
@sign_in_required
def server_config(request: SignedInRequest, name: str) -> HttpResponse:
    """Show the parts of `cfg/server.cfg` as the server's host wrote them last, without passwords."""
    server = get_server(request.user, name, Verb.CONFIGURE)
    context = {
        "server": server,
        "parts": server.config_chain,
        "waiting": describe_waiting(server),
    }
    return render(request, "servers/config.html", context)
