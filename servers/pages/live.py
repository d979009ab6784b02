"""What a page that keeps itself true asks for. The other half is `static/js/live/live.js`."""

from django.http import HttpRequest

REFRESH_HEADER = "X-Saferoom-Refresh"


# The value with which a page fetches lines of its log besides; see `static/js/log/chunks.js`.
WITH_LOG = "log"


def is_refresh(request: HttpRequest) -> bool:
    """Whether an open page fetches itself again, or a part of it."""
    return REFRESH_HEADER in request.headers


def needs_log(request: HttpRequest) -> bool:
    """Whether lines of a log are wanted. A page that refreshes itself has them from their own stream."""
    return request.headers.get(REFRESH_HEADER, WITH_LOG) == WITH_LOG
