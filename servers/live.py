"""What a page that keeps itself true asks for. The other half is `static/js/live.js`."""

from django.http import HttpRequest

REFRESH_HEADER = "X-Saferoom-Refresh"


def is_refresh(request: HttpRequest) -> bool:
    """Whether an open page fetches itself again, for its live regions alone.

    Logs follow their own stream then, and a view need not read their lines.
    """
    return REFRESH_HEADER in request.headers
