"""Asks running servers by RCON. Nothing is typed into a console: what people read there is theirs."""

import logging

from hostops.errors import HostError, RconUnusableError
from jobs import operations
from jobs.logs import faults
from servers.models import Host, Server

logger = logging.getLogger(__name__)


class Questioner:
    """Asks the servers of one host. To be used by one thread.

    `refusing` has by the name of a server its run that has refused the RCON password: it is not asked again.
    """

    def __init__(self, host: Host, refusing: dict[str, int]) -> None:
        self._host = host
        self._refusing = refusing

    def ask(self, server: Server, command: str, timeout_seconds: float, unknown: str) -> str | None:
        """Return what a server answers; None if nothing can be had. `unknown` says what is not known then."""
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
