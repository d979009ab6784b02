"""The ASGI application: Django, and before it the collected static files."""

import os
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from django.core.asgi import get_asgi_application
from servestatic import ServeStaticASGI

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "l4d2site.settings")

django_application = get_asgi_application()

from django.conf import settings  # noqa: E402 - Django has to be set up first

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[Mapping[str, Any]], Awaitable[None]]


async def serve(scope: Scope, receive: Receive, send: Send) -> None:
    """Let Django answer a request; one for a stream, which may last for days, without a thread of its own.

    Called in the usual way, Django keeps a thread for each request until its response has ended. `handle`
    is the same without that: who may follow a stream is then found out in the one thread that asgiref has
    for such cases, and no thread is held while the stream lasts. The address of every stream ends in
    `/events`, and of nothing else.
    """
    if scope["type"] == "http" and scope["path"].endswith("/events"):
        await django_application.handle(scope, receive, send)
    else:
        await django_application(scope, receive, send)


application = serve
if settings.STATIC_ROOT.is_dir():
    # Beside Django rather than a middleware in it: a static file touches no session and no thread.
    application = ServeStaticASGI(
        serve,
        root=settings.STATIC_ROOT,
        prefix=settings.STATIC_URL,
        allow_all_origins=False,
    )
