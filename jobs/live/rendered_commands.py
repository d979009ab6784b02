"""The latest commands of servers, as their pages show them: rendered once for all watchers."""

import threading

from django.template.loader import render_to_string

from servers.console import read_latest
from servers.models import Server

MOST_CHARS = 64 * 1024
"""A longer list is not sent to everybody at each change: pages fetch it."""


class RenderedCommands(threading.local):
    """The last rendering for each server: nothing is read while the version of its commands is the same.

    Each thread has its own. The one of a stream reader goes away with its thread, once nobody watches.
    """

    def __init__(self) -> None:
        self._latest: dict[int, tuple[int, dict[str, str]]] = {}

    def of(self, server: Server) -> dict[str, str]:
        """Return the list as `html`; nothing if it is too long. Costs a query, or none.

        The list may already be newer than the server's version.
        """
        known_version, parts = self._latest.get(server.pk, (0, {}))
        if known_version != server.commands_version:
            parts = render(server)
            self._latest[server.pk] = server.commands_version, parts
        return parts


rendered_commands = RenderedCommands()


def render(server: Server) -> dict[str, str]:
    """Return the list of a server's latest commands as `html`, by the same template as its page."""
    context = {"server": server, "commands": read_latest(server)}
    html = render_to_string("servers/_commands_live.html", context)
    return {"html": html} if len(html) <= MOST_CHARS else {}
