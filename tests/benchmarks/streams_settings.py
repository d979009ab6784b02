"""The product's settings, with django-eventstream beside it."""

from l4d2site.settings import *  # noqa: F403
from l4d2site.settings import INSTALLED_APPS, LOGGING

INSTALLED_APPS = [*INSTALLED_APPS, "django_eventstream"]
ROOT_URLCONF = "tests.benchmarks.streams_site"
EVENTSTREAM_STORAGE_CLASS = "django_eventstream.storage.DjangoModelStorage"
LOGGING["root"]["level"] = "ERROR"
