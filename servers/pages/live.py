"""How open pages stay true: by requests of scripts (`static/js/live/live.js`), and without scripts."""

from enum import StrEnum

from django.http import HttpRequest

REFRESH_HEADER = "X-Saferoom-Refresh"


# The value with which a page also fetches lines of its log; see `static/js/log/chunks.js`.
WITH_LOG = "log"


def is_refresh(request: HttpRequest) -> bool:
    """Whether an open page is fetching itself, or part of itself, again."""
    return REFRESH_HEADER in request.headers


def needs_log(request: HttpRequest) -> bool:
    """Whether log lines are wanted. A page that refreshes itself gets them from their own stream."""
    return request.headers.get(REFRESH_HEADER, WITH_LOG) == WITH_LOG


class Renewal(StrEnum):
    """How a page is renewed in a browser without scripts: `templates/base.html` takes it as `renewal`."""

    NONE = ""
    ITSELF = "itself"
    BY_HAND = "by-hand"


def choose_renewal(*, is_running: bool, has_form: bool) -> Renewal:
    """Return how a page is renewed: by itself only while something runs, and never with a form to fill in."""
    if not is_running:
        return Renewal.NONE
    return Renewal.BY_HAND if has_form else Renewal.ITSELF
