"""gunicorn's settings: one process whose event loop serves pages and streams."""

import gc
import os
import resource
import signal
from typing import Any

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
YOUNG_OBJECTS = 10_000
"""The garbage collector runs once this many more objects were made than freed; Python's own number is 700.

Waking a watcher makes a few objects that are freed a moment later. At 700, a line for 2,000 watchers ran the
collector twice, and it took some of them for long-lived ones. After some 70 lines there were so many of these
that it went through everything that 2,000 streams hold: 330 ms, after which the streams' reader paused as
long again. Much larger numbers cost memory, because requests are freed by the collector: 80 forms of 2.4 MB,
each answered with an error, took 44 MiB at 700, 50 at 10,000 and 129 at 50,000.
"""


def post_worker_init(worker: Any) -> None:
    """Prepare for thousands of streams, and let them know when this process has been asked to stop."""
    from jobs.database import write_watch
    from jobs.live import server_stop
    from l4d2site.log_filters import SafeLines

    # What gunicorn logs of a request that failed may quote it.
    for handler in worker.log.error_log.handlers:
        handler.setFormatter(SafeLines(worker.log.error_fmt, worker.log.datefmt))
    # A process starts with a limit of 1,024 descriptors, and each stream takes one.
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = worker_connections + 1000
    if soft != resource.RLIM_INFINITY and soft < wanted:
        most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    gc.set_threshold(YOUNG_OBJECTS)
    server_stop.ask_by(lambda: not worker.alive)
    # gunicorn starts another process. Live pages come back to it by themselves, as after a restart.
    write_watch.end_by(lambda: os.kill(os.getpid(), signal.SIGTERM))
