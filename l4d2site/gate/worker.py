"""gunicorn's worker with the gate's connections: `worker_class` in `deploy/gunicorn.conf.py`."""

import sys

from django.core.exceptions import ImproperlyConfigured
from gunicorn.arbiter import Arbiter
from gunicorn.workers import gasgi

from l4d2site.gate.connections import ConnectionLimits, Connections, GateProtocol, most_connections


class GateWorker(gasgi.ASGIWorker):  # type: ignore[misc]
    """Serves ASGI, and limits connections."""

    connections: Connections
    _has_backlog = False

    def init_process(self) -> None:
        """Load the application and serve, until told to stop."""
        # The worker names its protocol class inside a function of a hundred lines, with no other way in.
        gasgi.ASGIProtocol = GateProtocol
        super().init_process()

    def load_wsgi(self) -> None:
        """Load the application. If the settings forbid it, say so in one line: gunicorn shows a traceback."""
        try:
            super().load_wsgi()
        except ImproperlyConfigured as error:
            print(f"saferoom: {error}", file=sys.stderr)
            sys.exit(Arbiter.WORKER_BOOT_ERROR)

    def run(self) -> None:
        """Serve. The settings are loaded by now, and the process may have been given more descriptors."""
        from django.conf import settings

        limits = ConnectionLimits(
            most=most_connections(self.worker_connections),
            per_address=settings.CONNECTIONS_PER_ADDRESS,
            header_seconds=settings.HEADER_SECONDS,
            proxies=settings.TRUSTED_PROXIES,
        )
        self.connections = Connections(limits)
        # gunicorn gives up on a silent body after `timeout`, without an answer. `bodies` answers before that.
        self.cfg.set("timeout", int(settings.BODY_SECONDS) + 30)
        super().run()

    def notify(self) -> None:
        """Report that this process is alive; gunicorn calls this every second once it listens."""
        super().notify()
        if not self._has_backlog:
            # asyncio set the connection queue to 100. A connection that finds it full retries after 1, 3, 7
            # seconds, and in a flood that would hit other people's too. Linux applies the new length at once.
            self._has_backlog = True
            for listener in self.sockets:
                listener.sock.listen(self.cfg.backlog)
