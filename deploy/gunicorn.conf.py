"""gunicorn's settings: one process whose event loop serves pages and streams."""

import os
import resource
from typing import Any

# What the processes write is their account's alone. gunicorn's setting `umask` is for Unix sockets only.
os.umask(0o077)
address = os.environ.get("BIND", "127.0.0.1")
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


def post_worker_init(worker: Any) -> None:
    """Prepare for thousands of streams, and tell them when this process has been asked to stop."""
    from jobs.live import fan_out

    # A process is given 1,024 descriptors to begin with, and each stream is one.
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = worker_connections + 1000
    if soft != resource.RLIM_INFINITY and soft < wanted:
        most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    fan_out.is_server_stopping = lambda: not worker.alive
