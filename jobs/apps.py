"""The verbs: jobs, their queue, their logs, and the worker that carries them out."""

from django.apps import AppConfig


class JobsConfig(AppConfig):
    """Jobs and workers."""

    name = "jobs"
