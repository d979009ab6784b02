"""The ASGI application: Django, before it the collected static files, and before both the gate."""

import os
import threading
from typing import Any

from django.core.asgi import get_asgi_application
from servestatic import ServeStaticASGI

os.umask(0o077)
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "l4d2site.settings")

django_application = get_asgi_application()

from django.conf import settings  # noqa: E402 - Django has to be set up first

from l4d2site.gate.answers import Application, Receive, Send  # noqa: E402
from l4d2site.gate.entrance import behind_gate, is_stream  # noqa: E402
from l4d2site.security import add_static_headers  # noqa: E402
from l4d2site.uploads import UploadDoor  # noqa: E402
from servers.logs import CLIENT_HAS_LEFT  # noqa: E402

TRANSFERS = "/content/blobs/"
"""Where workers on other machines fetch files of any size."""


async def serve(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    """Let Django answer a request; one that may last, for a stream or a file, without a thread of its own.

    Called in the usual way, Django keeps a thread for each request until its response has ended. `handle`
    is the same without that: who may follow a stream is then found out in the one thread that asgiref has
    for such cases, and no thread is held while the answer lasts.
    """
    if scope["type"] != "http":
        await django_application(scope, receive, send)
    elif is_stream(scope) or scope["path"].startswith(TRANSFERS):
        await django_application.handle(scope, receive, send)
    else:
        await serve_page(scope, receive, send)


async def serve_page(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    """Let Django answer, and let the thread of the view know when nobody waits for the answer any more.

    Django ends what can be cancelled when a client leaves, and a thread cannot: it has to look.
    """
    has_left = threading.Event()

    async def receive_and_look() -> dict[str, Any]:
        message = await receive()
        if message["type"] == "http.disconnect":
            has_left.set()
        return message

    try:
        await django_application({**scope, CLIENT_HAS_LEFT: has_left}, receive_and_look, send)
    finally:
        has_left.set()


served: Application = serve
if settings.STATIC_ROOT.is_dir():
    # Beside Django rather than a middleware in it: a static file touches no session and no thread.
    served = ServeStaticASGI(
        serve,
        root=settings.STATIC_ROOT,
        prefix=settings.STATIC_URL,
        allow_all_origins=False,
        add_headers_function=add_static_headers,
    )
application = behind_gate(served, door=UploadDoor)
