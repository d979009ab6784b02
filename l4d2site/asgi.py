"""The ASGI application: Django, and before it the collected static files."""

import os

from django.core.asgi import get_asgi_application
from servestatic import ServeStaticASGI

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "l4d2site.settings")

django_application = get_asgi_application()

from django.conf import settings  # noqa: E402 - Django has to be set up first

application = django_application
if settings.STATIC_ROOT.is_dir():
    # Beside Django rather than a middleware in it: a static file touches no session and no thread.
    application = ServeStaticASGI(
        django_application,
        root=settings.STATIC_ROOT,
        prefix=settings.STATIC_URL,
        allow_all_origins=False,
    )
