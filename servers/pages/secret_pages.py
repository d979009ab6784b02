"""Shows a server's password to a person who may change it, when they ask for it."""

from django.http import Http404, HttpResponse
from django.shortcuts import render
from django.views.decorators.cache import cache_control
from django.views.decorators.http import require_POST

from servers.access import SignedInRequest, get_server, sign_in_required
from servers.permissions import Verb
from servers.secrets import SecretError, ServerSecret


@cache_control(no_store=True)
@require_POST
@sign_in_required
def show_secret(request: SignedInRequest, name: str, secret: str) -> HttpResponse:
    """Answer with a password: as text to a script, otherwise as a page. If it cannot be decrypted: 409."""
    server = get_server(request.user, name, Verb.READ_SECRETS)
    kind = next((one for one in ServerSecret if one.value == secret), None)
    if kind is None or not server.has_secret(kind):
        raise Http404(f"server {name} has no {secret!r}")
    plain, fault, status = "", "", 200
    try:
        plain = server.read_secret(kind)
    except SecretError as error:
        fault, status = str(error), 409
    if not request.accepts("text/html"):
        return HttpResponse(plain or fault, content_type="text/plain; charset=utf-8", status=status)
    context = {"server": server, "secret": kind, "plain": plain, "fault": fault}
    return render(request, "servers/secret.html", context, status=status)
