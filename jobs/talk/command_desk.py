"""Sends console commands: the worker's part of them, beside its jobs, even those of the same server.

A command is claimed before it is sent, so none is ever sent twice. Each server is sent one at a time.
"""

import logging
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from time import monotonic
from typing import Any

from django.conf import settings
from django.db import IntegrityError, connection, transaction
from django.utils import timezone
from django.utils.translation import gettext_noop

from hostops.errors import AnswerLostError, HostError
from hostops.specs import CommandAnswer, CommandWay
from jobs import operations
from jobs.database import Channel, announce, execute, is_away, outage_log, write_turn
from jobs.logs import faults, make_line_safe, mask_known, secrets_of_server
from servers.models import (
    ANSWER_SECONDS,
    LOST_AFTER,
    TAKE_WITHIN,
    CommandState,
    ConsoleCommand,
    Host,
    PlayerSession,
    Server,
)
from servers.people import find_kicked

logger = logging.getLogger(__name__)

SENDERS = 8
"""How many servers are sent commands at a time. One that hangs blocks a thread for `ANSWER_SECONDS`."""

MAX_ANSWER_CHARS = 8 * 1024**2
"""More than the host layer lets through, so no line of an answer is cut."""

STORE_SECONDS = 10.0
STORE_RETRY_SECONDS = 0.2
"""How long an answer waits while the database is away. After that the command counts as lost."""

UNFINISHED = """
SELECT command.server_id, command.state FROM servers_consolecommand command
  JOIN servers_server server ON server.id = command.server_id
  WHERE command.state IN ('queued', 'sent') AND server.host_id = %s
"""
"""The first query of each `look`: usually it finds nothing."""

LOST = gettext_noop(
    "The worker stopped before the answer came. The command may have been carried out, so it is "
    "not sent again."
)
NOT_TAKEN = gettext_noop(
    "No worker of host {host} took it within {seconds:.0f} seconds, so it was not "
    "sent. Send it again."
)


class CommandDesk:
    """Sends the commands for the servers of one host. `look` is for one thread, the rest for any."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._senders = ThreadPoolExecutor(SENDERS, "command")
        self._busy: set[int] = set()
        """Servers whose answer this desk waits for."""
        self._lock = threading.Lock()
        self.refusing: dict[str, int] = {}
        """By the name of a server, the run that has refused the RCON password."""
        self._news = threading.Event()

    def look_soon(self) -> None:
        """Make `wait` return: there may be a command."""
        self._news.set()

    def wait(self) -> None:
        """Wait until there may be something to do; not forever, because signals can get lost."""
        self._news.wait(settings.JOB_WORKER_POLL_SECONDS)
        self._news.clear()

    def look(self) -> None:
        """Send what waits, and record what can no longer be answered."""
        if self._is_all_under_way():
            return
        unfinished = ConsoleCommand.objects.unfinished().filter(server__host=self._host)
        tried: set[int] = set()
        for command in unfinished.select_related("server__blueprint", "server__host").order_by(
            "id"
        ):
            if command.state == CommandState.SENT:
                self._give_up_if_lost(command)
            elif is_past(command.created_at, TAKE_WITHIN):
                text = NOT_TAKEN.format(host=self._host, seconds=TAKE_WITHIN.total_seconds())
                finish(command, CommandState.QUEUED, CommandState.FAILED, remark=text)
            elif command.server_id not in tried:
                # Only the oldest one: while another worker sends it, a later one would overtake it.
                tried.add(command.server_id)
                self._begin(command)

    def close(self) -> None:
        """Wait for answers to what was sent: at most `ANSWER_SECONDS` while the database answers."""
        self._senders.shutdown()

    def _is_all_under_way(self) -> bool:
        """Return whether every unfinished command has been sent by this desk and waits for its answer."""
        rows = execute(UNFINISHED, [self._host.pk]).rows
        with self._lock:
            return all(
                state == CommandState.SENT and server_id in self._busy for server_id, state in rows
            )

    def _begin(self, command: ConsoleCommand) -> None:
        with self._lock:
            if command.server_id in self._busy:
                return
            self._busy.add(command.server_id)
        try:
            is_ours = claim(command)
        except BaseException:
            self._let_go(command)
            raise
        if is_ours:
            self._senders.submit(self._send, command)
        else:
            self._let_go(command)

    def _let_go(self, command: ConsoleCommand) -> None:
        with self._lock:
            self._busy.discard(command.server_id)

    def _send(self, command: ConsoleCommand) -> None:
        """Send a claimed command, and store the result."""
        try:
            state, changes = self._carry_out(command)
            store_patiently(
                lambda: finish(command, CommandState.SENT, state, **changes),
                f"the answer to {command} waits",
            )
        except Exception as error:  # noqa: BLE001 - logged; the row becomes `lost`
            faults.tell(logger, f"{command}: its result is not stored", error)
        finally:
            connection.close()
            self._let_go(command)
            self.look_soon()  # For the server's next command.

    def _carry_out(self, command: ConsoleCommand) -> tuple[CommandState, dict[str, Any]]:
        """Return how a command ends, and the values to store, without passwords."""
        server = command.server
        host = operations.get_host(self._host.name)
        remark = ""
        answer: CommandAnswer | None = None
        try:
            answer = host.tell(
                server.name,
                command.typed,
                timeout_seconds=ANSWER_SECONDS,
                refusing_run=self.refusing.get(server.name, 0),
            )
            self._note_refusal(server, answer)
            is_typed = answer.way is CommandWay.TYPED
            state, remark = (
                CommandState.TYPED if is_typed else CommandState.ANSWERED,
                answer.why_typed,
            )
        except AnswerLostError as error:
            state, remark = CommandState.UNANSWERED, str(error)
        except (HostError, ValueError, OSError) as error:
            state, remark = CommandState.FAILED, str(error)
        mask = masked_for(server)
        text = "\n".join(map(mask, answer.text.rstrip("\n").split("\n"))) if answer else ""
        return state, {
            "text": mask(command.typed),
            "answer": text,
            "answer_bytes": len(text.encode()),
            "remark": mask(remark.replace("\n", " ")),
        }

    def _note_refusal(self, server: Server, answer: CommandAnswer) -> None:
        if answer.is_password_refused:
            self.refusing[server.name] = answer.run
        elif answer.way is CommandWay.RCON:
            self.refusing.pop(server.name, None)

    def _give_up_if_lost(self, command: ConsoleCommand) -> None:
        with self._lock:
            if command.server_id in self._busy:
                return  # This worker is alive, and is about to store the answer.
        if command.sent_at is None or is_past(command.sent_at, LOST_AFTER):
            finish(command, CommandState.SENT, CommandState.LOST, remark=LOST)


def is_past(moment: Any, age: Any) -> bool:
    """Return whether `moment` is longer ago than `age`, or so far ahead that a clock was set back."""
    passed = timezone.now() - moment
    return bool(passed > age or passed < -age)


def claim(command: ConsoleCommand) -> bool:
    """Take a command for this worker; return False if another worker has it, or is speaking to the server.

    Committed before anything is sent: whatever happens afterwards, nobody sends it again.
    """
    try:
        with write_turn(), transaction.atomic():
            changes = {"sent_at": timezone.now(), "typed": ""}
            is_ours = command.change(CommandState.QUEUED, CommandState.SENT, **changes)
    except IntegrityError:
        return False
    return is_ours


def finish(
    command: ConsoleCommand, before: CommandState, after: CommandState, **changes: Any
) -> None:
    """Store how a command ended, unless that is already stored."""
    with write_turn(), transaction.atomic():
        changes |= {"finished_at": timezone.now(), "typed": ""}
        if command.change(before, after, **changes):
            ConsoleCommand.prune(command.server_id)
            if after == CommandState.ANSWERED:
                kicked = find_kicked(changes["text"], changes["answer"])
                end_session(command.server_id, kicked, changes["finished_at"])
        announce(Channel.PAGES)


def end_session(server_id: int, steam_id: str, now: datetime) -> None:
    """Store that a kicked player is off, if anybody is named. The next look at who is on may find otherwise."""
    sessions = PlayerSession.objects.open().filter(server=server_id, steam_id=steam_id)
    if steam_id and sessions.update(left_at=now):
        Server.objects.filter(pk=server_id).update(updated_at=now)


def store_patiently(store: Callable[[], None], what: str) -> None:
    """Call `store`, again and again while the database is away; after `STORE_SECONDS` raise its error."""
    until = monotonic() + STORE_SECONDS
    while True:
        try:
            store()
        except Exception as error:
            if not is_away(error) or monotonic() > until:
                raise
            outage_log.tell(what, error)
            connection.close()
            threading.Event().wait(STORE_RETRY_SECONDS)
        else:
            outage_log.end(what)
            return


def masked_for(server: Server) -> Callable[[str], str]:
    """Return a function that makes a line about `server` safe, without the passwords it has and runs with."""
    secrets = secrets_of_server(server)
    secrets |= operations.read_running_secrets(server.host.name, server.name)
    if settings.STEAM_PASSWORD:
        secrets |= {settings.STEAM_PASSWORD}
    return lambda line: make_line_safe(mask_known(line, secrets), MAX_ANSWER_CHARS)
