"""The requests of pages that update themselves. The other half is `static/js/live/live.js`."""

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
