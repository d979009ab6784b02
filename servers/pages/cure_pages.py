"""Cures a conflict of a blueprint's overlays: what the buttons of `servers.config.propose_cures` send."""

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST

from servers.access import SignedInRequest, get_blueprint, is_address_of_ours, sign_in_required
from servers.config import CureError, apply_cure
from servers.permissions import Verb
from servers.store import VersionRefusedError


@require_POST
@sign_in_required
def blueprint_cure(request: SignedInRequest, name: str) -> HttpResponse:
    """Apply a `cure` to a blueprint; redirect to its page, or to `next`."""
    blueprint = get_blueprint(request.user, name, Verb.CHANGE_BLUEPRINT)
    try:
        done = apply_cure(request.user, blueprint, request.POST.get("cure", ""))
    except (CureError, VersionRefusedError) as error:
        messages.error(request, " ".join(error.messages))
    else:
        text = _("Blueprint %(blueprint)s: %(done)s It applies at the next start of its servers.")
        messages.success(request, text % {"blueprint": name, "done": done})
    back_to = request.POST.get("next", "")
    return redirect(back_to if is_address_of_ours(back_to) else blueprint.get_absolute_url())
