"""Takes a command from a person: stores a row, and wakes the worker of the server's host (`jobs.talk`).

It is not in that room, because web processes load no code that touches a host.
"""

from django.contrib.auth.models import User
from django.db import transaction
from django.utils.translation import gettext as _

from jobs.database import Channel, announce, execute
from jobs.logs import make_line_safe, mask_known, secrets_of_server
from servers.models import ConsoleCommand, Host, MapChange, Server, note_news

MOST_UNFINISHED = 20
"""How many commands of one server may wait: no person types faster than that, but a program would."""

WAITING = (
    "SELECT 1 FROM servers_consolecommand command"
    " JOIN servers_server server ON server.id = command.server_id"
    " WHERE command.state = 'queued' AND server.host_id = %s LIMIT 1"
)
"""Executed whenever a worker is signalled a change; uses the index of commands by state."""


class CommandRefused(Exception):  # noqa: N818 - an answer to a person, not a fault
    """The command cannot be sent; the text says why, and what to do instead."""


class TooManyCommands(CommandRefused):
    """Too many commands of the server already wait; they will be answered in a moment."""


def send_command(server: Server, line: str, *, requested_by: User | None) -> ConsoleCommand:
    """Store a command for the worker to send, and return it. Whether it may be sent is not judged here.

    `requested_by` is None for Saferoom's own commands. Raises `CommandRefused`.
    """
    if not server.is_up:
        raise CommandRefused(
            _("%(server)s is not running. Start it first.") % {"server": server.name}
        )
    with transaction.atomic():
        # This also serializes the senders to one server, so that the count is right.
        note_news(server.pk)
        if ConsoleCommand.objects.unfinished().filter(server=server).count() >= MOST_UNFINISHED:
            raise TooManyCommands(
                _(
                    "%(most_unfinished)s commands for %(server)s are already waiting. If it does "
                    "not answer, look at its console, or restart it."
                )
                % {"most_unfinished": MOST_UNFINISHED, "server": server.name}
            )
        command = ConsoleCommand.objects.create(
            server=server,
            requested_by=requested_by,
            requested_by_name=requested_by.get_username() if requested_by else "",
            typed=line,
            text=make_line_safe(mask_known(line, secrets_of_server(server))),
        )
        announce(Channel.QUEUE, Channel.PAGES)
    return command


def has_waiting_commands(host: Host) -> bool:
    """Return whether a command waits to be sent to a server of `host`."""
    return bool(execute(WAITING, [host.pk]).rows)


def change_map(
    server: Server, line: str, map_name: str, mode: str, *, requested_by: User | None
) -> MapChange:
    """Send a command that changes the map, and have its result checked. Raises `CommandRefused`."""
    with transaction.atomic():
        return MapChange.objects.create(
            server=server,
            command=send_command(server, line, requested_by=requested_by),
            map=map_name,
            mode=mode,
            was_map=server.map,
            was_mode=server.mode,
        )
