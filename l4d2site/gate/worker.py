"""gunicorn's worker with the gate's connections: `worker_class` in `deploy/gunicorn.conf.py`."""

from gunicorn.workers import gasgi

from l4d2site.gate.connections import ConnectionLimits, Connections, GateProtocol, most_connections


class GateWorker(gasgi.ASGIWorker):  # type: ignore[misc]
    """Serves ASGI, and holds connections to their limits."""

    connections: Connections
    _has_backlog = False

    def init_process(self) -> None:
        """Load the application and serve, until told to stop."""
        # The worker names its protocol's class in a function of a hundred lines that offers no other way in.
        gasgi.ASGIProtocol = GateProtocol
        super().init_process()

    def run(self) -> None:
        """Serve. The settings are there by now, and the process may have been given more descriptors."""
        from django.conf import settings

        limits = ConnectionLimits(
            most=most_connections(self.worker_connections),
            per_address=settings.CONNECTIONS_PER_ADDRESS,
            header_seconds=settings.HEADER_SECONDS,
            proxies=settings.TRUSTED_PROXIES,
        )
        self.connections = Connections(limits)
        # gunicorn gives a silent body up after `timeout`, without an answer. Before that, `bodies` answers.
        self.cfg.set("timeout", int(settings.BODY_SECONDS) + 30)
        super().run()

    def notify(self) -> None:
        """Tell that this process is alive; gunicorn calls this each second from when it listens."""
        super().notify()
        if not self._has_backlog:
            # asyncio made the queue of connections 100 long. One that finds it full tries again after 1, 3, 7
            # seconds: in a flood, so would those of others. Linux takes the new length at once.
            self._has_backlog = True
            for listener in self.sockets:
                listener.sock.listen(self.cfg.backlog)
