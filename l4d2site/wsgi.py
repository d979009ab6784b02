"""The WSGI application."""

import os

from django.core.wsgi import get_wsgi_application

os.umask(0o077)
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "l4d2site.settings")

application = get_wsgi_application()
