"""gunicorn's settings: one process whose event loop serves pages and streams."""

import importlib
import os
import resource
import sys
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from gunicorn.arbiter import Arbiter

# Only their own account may read what the processes write.
os.umask(0o077)
# For a Unix socket only: members of its group may connect, so a proxy has to be one.
umask = 0o117
address = os.environ.get("BIND", "127.0.0.1")
if address.startswith("unix:"):
    bind = address
else:
    bind = f"{f'[{address}]' if ':' in address else address}:{os.environ.get('PORT', '8000')}"
worker_class = "l4d2site.gate.worker.GateWorker"
workers = 1
# Each open page uses a stream. Streams have their own limit, lower than this (jobs/live/streams.py).
# Further connections are answered with 503 (l4d2site/gate/connections.py).
worker_connections = 10_000
# Streams end on their own when the server stops; this is for requests that hang.
graceful_timeout = 10
accesslog = None
# It would be in the home folder, shared by every gunicorn of the user.
control_socket_disable = True


def post_fork(_server: Any, _worker: Any) -> None:
    """Say in one line what is wrong with the settings; gunicorn would show a traceback, and retry forever."""
    try:
        importlib.import_module(os.environ.get("DJANGO_SETTINGS_MODULE", "l4d2site.settings"))
    except ImproperlyConfigured as error:
        print(f"saferoom: {error}", file=sys.stderr)
        sys.exit(Arbiter.WORKER_BOOT_ERROR)


def post_worker_init(worker: Any) -> None:
    """Prepare for thousands of streams, and let them know when this process has been asked to stop."""
    from jobs.live import server_stop

    # A process starts with a limit of 1,024 descriptors, and each stream takes one.
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = worker_connections + 1000
    if soft != resource.RLIM_INFINITY and soft < wanted:
        most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    server_stop.ask_by(lambda: not worker.alive)
