"""Asks running servers by RCON. Never types into a console: that belongs to the people who read it."""

import logging

from hostops.errors import HostError, RconUnusableError
from jobs import operations
from jobs.logs import faults
from servers.models import Host, Server

logger = logging.getLogger(__name__)


class Questioner:
    """Asks the servers of one host. For use by one thread.

    `refusing` has, by the name of a server, the run that has refused the RCON password: it is not asked again.
    """

    def __init__(self, host: Host, refusing: dict[str, int]) -> None:
        self._host = host
        self._refusing = refusing

    def ask(self, server: Server, command: str, timeout_seconds: float, unknown: str) -> str | None:
        """Return a server's answer; None if there is none. `unknown` says what remains unknown then."""
        try:
            answer = operations.get_host(self._host.name).tell(
                server.name,
                command,
                timeout_seconds=timeout_seconds,
                may_type=False,
                refusing_run=self._refusing.get(server.name, 0),
            )
        except RconUnusableError as error:
            if error.refusing_run:
                self._refusing[server.name] = error.refusing_run
            return None
        except (HostError, OSError) as error:
            what = f"server {server.name}: {unknown}"
            faults.tell(logger, what, error, is_explained=True)
            return None
        return answer.text
