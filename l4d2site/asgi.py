"""The ASGI application: the gate first, then the collected static files, then Django."""

import logging
import os
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

from asgiref.sync import sync_to_async
from django.core.asgi import get_asgi_application
from django.core.handlers.asgi import ASGIHandler
from servestatic import ServeStaticASGI

os.umask(0o077)
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "l4d2site.settings")

django_application = get_asgi_application()

from django.conf import settings  # noqa: E402 - Django has to be set up first
from django.core.exceptions import ImproperlyConfigured  # noqa: E402
from django.http import HttpRequest, HttpResponseBase  # noqa: E402

from l4d2site.gate.answers import Application, Receive, Send  # noqa: E402
from l4d2site.gate.charsets import forget_unknown_charsets  # noqa: E402
from l4d2site.gate.entrance import behind_gate, is_stream  # noqa: E402
from l4d2site.security import add_static_headers  # noqa: E402
from l4d2site.staticfiles import HashedStaticFilesStorage  # noqa: E402
from l4d2site.uploads import UploadDoor  # noqa: E402
from servers.logs import CLIENT_HAS_LEFT  # noqa: E402

logger = logging.getLogger(__name__)

TRANSFERS = "/content/blobs/"
"""Where workers on other machines fetch files of any size."""


class PageHandler(ASGIHandler):
    """Django for pages: their middlewares run in the thread of the view, one after the other.

    In Django's own handler each middleware goes to that thread and back, for the request and for the response.
    """

    def load_middleware(self, is_async: bool = False) -> None:  # noqa: ARG002 - Django asks for the async ones
        """Load the middlewares in their sync form."""
        super().load_middleware(is_async=False)

    async def get_response_async(self, request: HttpRequest) -> HttpResponseBase:
        """Return the answer, made in the thread of the request."""
        response: HttpResponseBase = await sync_to_async(self.get_response)(request)
        return response


page_application = PageHandler()


async def serve(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    """Let Django answer a request; for a stream or a file, which may take long, without holding a thread.

    Called in the usual way, Django keeps a thread for each request until its response has ended. `handle`
    skips that: the check of who may follow a stream runs in the one thread that asgiref has for such cases,
    and no thread is held while the response lasts.
    """
    if scope["type"] != "http":
        await django_application(scope, receive, send)
    elif is_stream(scope) or scope["path"].startswith(TRANSFERS):
        await django_application.handle(scope, receive, send)
    else:
        await serve_page(scope, receive, send)


async def serve_page(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    """Let Django answer, and tell the view's thread when nobody is waiting for the answer.

    When a client leaves, Django cancels what can be cancelled. A thread cannot be: it has to check.
    """
    has_left = threading.Event()

    async def receive_and_look() -> dict[str, Any]:
        message = await receive()
        if message["type"] == "http.disconnect":
            has_left.set()
        return message

    try:
        await page_application({**scope, CLIENT_HAS_LEFT: has_left}, receive_and_look, send)
    finally:
        has_left.set()


class CollectedFiles(ServeStaticASGI):  # type: ignore[misc]
    """Serves the static files that are there when it starts, except links to nothing.

    `collectstatic` may run meanwhile, and give a file that is listed another name before it is looked at. The
    library by itself would then not start.
    """

    def update_files_dictionary(self, root: str, prefix: str) -> None:
        """Take all files below `root`. Raises `OSError` for a folder or a file that may not be looked at."""
        found: dict[str, os.stat_result] = {}
        for folder, _folders, names in os.walk(root, onerror=_raise_unless_gone, followlinks=True):
            for name in names:
                path = os.path.join(folder, name)  # noqa: PTH118 - the library wants text
                with suppress(FileNotFoundError):
                    found[path] = os.stat(path)  # noqa: PTH116
        for path in found:
            self.add_file_to_dictionary(
                prefix + path[len(root) :], path, root=root, stat_cache=found
            )


def _raise_unless_gone(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise error


def with_static_files(application: Application, folder: Path) -> Application:
    """Return `application` behind the collected static files, if there are any.

    Raises `ImproperlyConfigured` if their manifest may not be read: no page could be made. If only others may
    not be looked at, it serves none and says so: another web server may do that.
    """
    manifest = folder / HashedStaticFilesStorage.manifest_name
    try:
        manifest.open("rb").close()
    except PermissionError as error:
        raise ImproperlyConfigured(
            f"This account may not read {manifest}, without which no page can be made. Give STATIC_ROOT and "
            "all that is in it to the account that runs this, or set STATIC_ROOT to another folder."
        ) from error
    except OSError:
        pass  # Not collected yet.
    if not os.path.isdir(folder):  # noqa: PTH112 - Path.is_dir() raises for some, until Python 3.14
        return application
    try:
        # Outside Django, not as a middleware in it: a static file then touches no session and no thread.
        served: Application = CollectedFiles(
            application,
            root=folder,
            prefix=settings.STATIC_URL,
            allow_all_origins=False,
            add_headers_function=add_static_headers,
        )
    except PermissionError as error:
        logger.warning(
            "No static file is served here, as this account may not look at %s in STATIC_ROOT. Unless another "
            "web server serves them, give it to the account that runs this.",
            error.filename,
        )
        return application
    return served


forget_unknown_charsets()
application = behind_gate(with_static_files(serve, settings.STATIC_ROOT), door=UploadDoor)
