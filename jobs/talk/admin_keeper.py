"""Applies changed admins to a host's running servers: writes SourceMod's file, and makes the server reload it.

The start of a server writes the file too (`hostops.instances.admin_files`). The result is stored for the page
of admins.
"""

import logging
from dataclasses import dataclass

from django.db import transaction
from django.db.models import Q

from hostops.errors import HostError
from hostops.specs import AdminsOutcome, CommandWay, SpecAdmin
from jobs import operations
from jobs.database import Channel, announce, write_turn
from jobs.logs import faults, make_line_safe
from jobs.talk.command_desk import masked_for
from jobs.talk.keeping import Keeping
from servers.models import ActualState, AdminsNote, AdminsState, GameAdmin, Host, Server

logger = logging.getLogger(__name__)

ANSWER_SECONDS = 2.0

RELOAD = "sm_reloadadmins"
_UNKNOWN = "Unknown command"
_SHOWN_CHARS = 200

_AS_TOLD = {
    AdminsOutcome.WAITING: AdminsState.WAITING,
    AdminsOutcome.NO_SOURCEMOD: AdminsState.NO_SOURCEMOD,
    AdminsOutcome.REFUSED: AdminsState.REFUSED,
}


@dataclass(frozen=True)
class WantedAdmins:
    """The admins that a server should have, in which run of it, and whether it runs."""

    run: int
    run_started_at: float
    is_running: bool
    admins: tuple[SpecAdmin, ...]


class AdminKeeper:
    """Keeps the admins of one host's servers. For use by one thread.

    `refusing` has, by the name of a server, the run that has refused the RCON password.
    """

    def __init__(self, host: Host, refusing: dict[str, int]) -> None:
        self._host = host
        self._refusing = refusing
        self._keeping = Keeping[WantedAdmins]()

    def look(self) -> bool:
        """Update every server whose admins or run have changed; return whether some are still to be updated."""
        of_host = self._host.servers.order_by()
        # Servers that have lost their last admin still have a note.
        concerned = of_host.filter(
            Q(pk__in=GameAdmin.objects.values("server")) | Q(admins_note__isnull=False)
        )
        columns = ("name", "host", "actual_state", "console_run", "console_run_started_at")
        notes = "admins_note__state"
        servers = list(concerned.select_related("admins_note").only(*columns, notes))
        admins: dict[int, list[SpecAdmin]] = {server.pk: [] for server in servers}
        for row in GameAdmin.objects.filter(server__in=admins) if servers else ():
            admins[row.server_id].append(row.to_spec())

        def find_wanted(server: Server) -> WantedAdmins | None:
            wanted = WantedAdmins(
                server.console_run,
                server.console_run_started_at,
                server.actual_state == ActualState.RUNNING,
                tuple(admins[server.pk]),
            )
            is_given = wanted == self._keeping.given.get(server.pk)
            return None if is_given and not is_pending(server) else wanted

        return self._keeping.take_turn(servers, find_wanted, self._see_to)

    def _see_to(self, server: Server, wanted: WantedAdmins, _until: float) -> bool:
        """Write the file, make the server reload it, and store the result; return whether that succeeded."""
        try:
            state, remark = self._carry_out(server, wanted)
        except (HostError, OSError) as error:
            what = f"server {server.name}: its admins cannot be written, or it cannot be told to reload them"
            faults.tell(logger, what, error, is_explained=True)
            return False
        store(server, state, remark)
        return True

    def _carry_out(self, server: Server, wanted: WantedAdmins) -> tuple[AdminsState, str]:
        host = operations.get_host(self._host.name)
        report = host.write_admins(server.name, wanted.admins)
        if report.outcome in _AS_TOLD:
            return _AS_TOLD[report.outcome], report.remark
        if not wanted.is_running:
            return AdminsState.WAITING, report.remark  # It is starting, and will read the file.
        answer = host.tell(
            server.name,
            RELOAD,
            timeout_seconds=ANSWER_SECONDS,
            refusing_run=self._refusing.get(server.name, 0),
        )
        if answer.is_password_refused:
            self._refusing[server.name] = answer.run
        if answer.way is CommandWay.TYPED:
            return AdminsState.TYPED, f"{report.remark} {answer.why_typed}".strip()
        first, *_ = answer.text.strip().split("\n")
        if _UNKNOWN in first or not first:
            said = f"It was told {RELOAD}, and answered: {first or 'nothing'}"
            return AdminsState.NOT_LOADED, f"{report.remark} {said[:_SHOWN_CHARS]}".strip()
        return AdminsState.IN_FORCE, report.remark


def is_pending(server: Server) -> bool:
    """Return whether somebody waits for the result of a change, even if a later one has undone it."""
    note: AdminsNote | None = getattr(server, "admins_note", None)
    return note is not None and note.state == AdminsState.PENDING


def store(server: Server, state: AdminsState, remark: str) -> None:
    """Store the state of a server's admins, and update its open pages."""
    if remark:
        # It may quote the game's answer, and everybody who sees the server can read it.
        concerned = Server.objects.select_related("blueprint", "host").get(pk=server.pk)
        remark = make_line_safe(masked_for(concerned)(remark))
    with write_turn(), transaction.atomic():
        AdminsNote.record(server, state, remark)
        announce(Channel.PAGES)
