"""gunicorn's settings: one process whose event loop serves pages and streams."""

import importlib
import os
import resource
import sys
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from gunicorn.arbiter import Arbiter

# What the processes write is their account's alone.
os.umask(0o077)
# Of a Unix socket only: who is in its group may connect, which a proxy has to be.
umask = 0o117
address = os.environ.get("BIND", "127.0.0.1")
if address.startswith("unix:"):
    bind = address
else:
    bind = f"{f'[{address}]' if ':' in address else address}:{os.environ.get('PORT', '8000')}"
worker_class = "l4d2site.gate.worker.GateWorker"
workers = 1
# Each open page holds a stream. The streams have a limit of their own below this (jobs/live/streams.py).
# Further connections are answered with 503 (l4d2site/gate/connections.py).
worker_connections = 10_000
# Streams end by themselves when the server stops; this is for requests that hang.
graceful_timeout = 10
accesslog = None
# It would lie in the home folder, shared by every gunicorn of the user.
control_socket_disable = True


def post_fork(_server: Any, _worker: Any) -> None:
    """Say in one line what is wrong with the settings; gunicorn would show a traceback, and try for ever."""
    try:
        importlib.import_module(os.environ.get("DJANGO_SETTINGS_MODULE", "l4d2site.settings"))
    except ImproperlyConfigured as error:
        print(f"saferoom: {error}", file=sys.stderr)
        sys.exit(Arbiter.WORKER_BOOT_ERROR)


def post_worker_init(worker: Any) -> None:
    """Prepare for thousands of streams, and tell them when this process has been asked to stop."""
    from jobs.live import server_stop

    # A process is given 1,024 descriptors to begin with, and each stream is one.
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = worker_connections + 1000
    if soft != resource.RLIM_INFINITY and soft < wanted:
        most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    server_stop.ask_by(lambda: not worker.alive)
