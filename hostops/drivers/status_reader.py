"""Reads what servers are doing, and queries those that run without having answered anybody yet."""

import time
from collections.abc import Iterable

from hostops.drivers import unanswered
from hostops.drivers.host_settings import HostSettings
from hostops.drivers.readiness import find_answering
from hostops.instances import runs
from hostops.instances.status_memory import StatusMemory
from hostops.linux.files import tolerate_no_space
from hostops.specs import SILENT_NOTE, InstanceState, InstanceStatus

_UNATTENDED_SECONDS = 5.0
"""A waiting start notices the answer at once. After this many seconds, status readers check for it too."""

_ASK_EVERY_SECONDS = 2.0
_ASK_SECONDS = 0.2
"""How often, and for how long, a status reader queries the servers that have not answered, all at once."""


class StatusReader:
    """Reads the statuses of one host's instances. What only the driver knows is added later."""

    def __init__(self, settings: HostSettings) -> None:
        self._settings = settings
        self._memory = StatusMemory()
        self._asked_at: dict[str, float] = {}

    def read_statuses(self, names: Iterable[str]) -> dict[str, InstanceStatus]:
        """Read what instances are doing, and query those that nobody has had an answer from yet."""
        layout = self._settings.layout
        statuses = {name: self._memory.read_status(layout.instance(name)) for name in names}
        asked = {
            name: (run.address or self._settings.query_address, run.port)
            for name, status in statuses.items()
            if self._is_to_be_asked(status)
            and (run := runs.read_run(layout.instance(name))) is not None
        }
        answering = find_answering(asked, _ASK_SECONDS) if asked else ()
        for name in asked:
            self._note_answer(statuses[name], does_answer=name in answering)
            statuses[name] = runs.read_status(layout.instance(name))
        return statuses

    def _is_to_be_asked(self, status: InstanceStatus) -> bool:
        """Whether this run never answered, no start is waiting for it, and it was not queried just now.

        A run that began in the future did so before the clock was set back, nobody knows how long ago.
        """
        is_silent = status.state is InstanceState.RUNNING and status.note == SILENT_NOTE
        if not is_silent and (
            status.state is not InstanceState.STARTING
            or status.started_at is None
            or 0 <= time.time() - status.started_at < _UNATTENDED_SECONDS
        ):
            return False
        now = time.monotonic()
        if now - self._asked_at.get(status.name, float("-inf")) < _ASK_EVERY_SECONDS:
            return False
        self._asked_at[status.name] = now
        return True

    def _note_answer(self, status: InstanceStatus, *, does_answer: bool) -> None:
        """Record what a run was seen to do, if that differs from what was known."""
        instance = self._settings.layout.instance(status.name)
        run = runs.read_run(instance)
        if run is None or run.run != status.run:
            return
        # On a full disk the other servers' states matter too; a later look records it.
        with tolerate_no_space():
            if does_answer:
                runs.mark_ready(instance, run)
            elif (
                status.state is InstanceState.STARTING
                and run.age_seconds > self._settings.start_timeout_seconds
            ):
                unanswered.give_up_on(self._settings, instance, run)
