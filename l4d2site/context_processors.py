"""What every page knows: its section, what its user may do, and that the game is simulated."""

from django.conf import settings
from django.http import HttpRequest

from servers.models import Host
from servers.pages import is_refresh
from servers.permissions import PEOPLE_VERBS, verbs_of


def page_context(request: HttpRequest) -> dict[str, object]:
    """Return `section`, `is_simulated`, `is_refresh`, and the user's permissions.

    `section` is the first part of the URL's path, by which the masthead marks the current section.
    `panel_verbs` is what the user may do to all things of a kind: names of `servers.permissions.Verb`.
    `sees_people` is whether one of these lets the user see who has an account.
    """
    user = getattr(request, "user", None)
    is_signed_in = user is not None and user.is_authenticated
    panel_verbs = verbs_of(user) if user is not None and is_signed_in else frozenset()
    return {
        "section": request.path_info.removeprefix("/").partition("/")[0],
        "is_simulated": settings.GAME_SOURCE == "simulator"
        or Host.objects.filter(game_source="simulator").exists(),
        "is_refresh": is_refresh(request),
        "panel_verbs": panel_verbs,
        "sees_people": not PEOPLE_VERBS.isdisjoint(panel_verbs),
    }
