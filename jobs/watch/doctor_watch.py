"""Stores what the doctor finds on a worker's host, for the host's page."""

import logging
import time

from django.db import connection, transaction
from django.utils import timezone

from jobs import operations
from jobs.database import Channel, announce, is_away, outage_log, write_turn
from jobs.logs import faults, make_line_safe
from servers.models import Host

logger = logging.getLogger(__name__)

LOOK_SECONDS = 600.0
"""Rarely, because each check tries a mount and a box, and resolves Steam's name."""


class DoctorWatch:
    """Examines one host as `l4d2ctl doctor` does. For use by one thread."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._layer = operations.get_host(host.name)
        self._due_at = 0.0

    def look_if_due(self, *, is_asked: bool) -> None:
        """Store the findings if it is time or `is_asked`, as after an install. Errors are logged."""
        if not is_asked and time.monotonic() < self._due_at:
            return
        what = f"host {self._host} cannot be examined"
        try:
            self._store()
            outage_log.end(what)
        except Exception as error:  # noqa: BLE001 - logged
            faults.tell(logger, what, error)
            if is_away(error):
                connection.close()
                return
        self._due_at = time.monotonic() + LOOK_SECONDS

    def _store(self) -> None:
        found = [
            {
                "subject": finding.subject,
                "text": make_line_safe(finding.text),
                "cure": make_line_safe(finding.cure),
                "severity": finding.severity.value,
            }
            for finding in self._layer.doctor()
        ]
        with write_turn(), transaction.atomic():
            rows = Host.objects.filter(pk=self._host.pk)
            is_news = rows.exclude(findings=found).update(findings=found)
            rows.update(findings_at=timezone.now())
            if is_news:
                announce(Channel.PAGES)
