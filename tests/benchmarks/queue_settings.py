"""Settings of the queue benchmark: the product's, with the peers' apps beside it in one database."""

import os
from importlib.util import find_spec
from typing import Any

from l4d2site.settings import *  # noqa: F403
from l4d2site.settings import INSTALLED_APPS, LOGGING

LOGGING["root"]["level"] = "WARNING"

if find_spec("django_tasks_db"):
    INSTALLED_APPS += ["django_tasks", "django_tasks_db"]
    TASKS = {"default": {"BACKEND": "django_tasks_db.DatabaseBackend"}}
if find_spec("django_q"):
    INSTALLED_APPS += ["django_q"]
    Q_CLUSTER: dict[str, Any] = {
        "name": "bench",
        "orm": "default",
        "workers": int(os.environ.get("BENCH_THREADS", "4")),
        "timeout": 60,
        "retry": 90,
        "log_level": "WARNING",
    }
