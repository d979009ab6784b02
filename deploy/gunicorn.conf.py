"""gunicorn's settings: one process whose event loop serves pages and streams."""

import os
from typing import Any

address = os.environ.get("BIND", "127.0.0.1")
bind = f"{f'[{address}]' if ':' in address else address}:{os.environ.get('PORT', '8000')}"
worker_class = "asgi"
workers = 1
# Each open page holds a stream or two.
worker_connections = 10_000
# Streams end by themselves when the server stops; this is for requests that hang.
graceful_timeout = 10
accesslog = None
# It would lie in the home folder, shared by every gunicorn of the user.
control_socket_disable = True


def post_worker_init(worker: Any) -> None:
    """Tell the streams when this process has been asked to stop, so that they end."""
    from jobs import hub

    hub.is_server_stopping = lambda: not worker.alive
