"""Reports the overlays and the release of a host when they have changed; removes old versions there."""

import logging
import time
from typing import Any

from django.db import connection, transaction
from django.utils import timezone

from hostops.errors import OperationCancelled
from hostops.specs import CancelToken, OverlayReport
from jobs import operations
from jobs.database import Channel, announce, is_away, outage_log, write_turn
from jobs.logs import faults
from servers import models
from servers.content import describe_overlay, describe_release
from servers.models import REPORT_VERSION, Host, LaidOutVersion, OverlayVersion

logger = logging.getLogger(__name__)

LOOK_SECONDS = 20.0
PRUNE_SECONDS = 3600.0
"""How often versions of overlays are removed that nothing has needed for a day."""
FIRST_PRUNE_SECONDS = 300.0
MOST_OF_A_CORE = 0.01
"""How much of a core this may take: the more there is to read, the less often it is read."""


class OverlayWatch:
    """Watches the overlays and the release of one host. For use by one thread."""

    def __init__(self, host: Host, cancel: CancelToken) -> None:
        self._host = host
        self._layer = operations.get_host(host.name)
        self._cancel = cancel
        self._prune_at = time.monotonic() + FIRST_PRUNE_SECONDS

    def look(self) -> float:
        """Store what has changed; return in how many seconds to check again. Errors are logged."""
        began_at = time.thread_time()
        what = f"the overlays of host {self._host} cannot be reported"
        try:
            self._prune_if_due()
            self._store_news()
            outage_log.end(what)
        except OperationCancelled:
            return 0.0
        except Exception as error:  # noqa: BLE001 - logged
            faults.tell(logger, what, error)
            if is_away(error):
                connection.close()
        return max(LOOK_SECONDS, (time.thread_time() - began_at) / MOST_OF_A_CORE)

    def _store_news(self) -> None:
        fingerprints = self._layer.overlay_fingerprints()
        rows = models.OverlayReport.objects.filter(host=self._host)
        stored = {row.name: row for row in rows.filter(version=REPORT_VERSION)}
        found: list[OverlayReport] = []
        for name, fingerprint in fingerprints.items():
            row = stored.get(name)
            # An overlay that cannot be read has no fingerprint: its report says what the reason is now.
            if row is None or not fingerprint or row.fingerprint != fingerprint:
                report = self._layer.overlay_report(name, cancel=self._cancel)
                if report is not None and (
                    row is None or describe_overlay(report) != facts_of(row)
                ):
                    found.append(report)
        gone = set(rows.values_list("name", flat=True)).difference(fingerprints)
        self._store_overlays(found, gone)
        self._store_laid_out()
        self._store_release()

    def _prune_if_due(self) -> None:
        if time.monotonic() < self._prune_at:
            return
        self._prune_at = time.monotonic() + PRUNE_SECONDS
        pruned = self._layer.prune_content()
        if pruned is None:
            logger.info("host %s: versions of overlays will be pruned later", self._host)
        elif pruned.versions or pruned.freed_bytes:
            logger.info(
                "host %s: removed %s versions of overlays and %s bytes of files that nothing needs",
                self._host,
                pruned.versions,
                pruned.freed_bytes,
            )

    def _store_overlays(self, found: list[OverlayReport], gone: set[str]) -> None:
        is_first = not Host.objects.filter(
            pk=self._host.pk, overlays_reported_at__isnull=False
        ).exists()
        if not (found or gone or is_first):
            return
        now = timezone.now()
        with write_turn(), transaction.atomic():
            models.OverlayReport.objects.filter(host=self._host, name__in=gone).delete()
            for report in found:
                models.OverlayReport.objects.update_or_create(
                    host=self._host,
                    name=report.name,
                    defaults={**describe_overlay(report), "looked_at": now},
                )
            Host.objects.filter(pk=self._host.pk).update(overlays_reported_at=now)
            announce(Channel.PAGES)

    def _store_laid_out(self) -> None:
        """Store which versions of the panel's overlays are ready on this host."""
        there = self._layer.laid_out_versions()
        known = OverlayVersion.objects.filter(digest__in={digest for _name, digest in there})
        ready = {
            pk
            for pk, name, digest in known.values_list("pk", "overlay__name", "digest")
            if (name, digest) in there
        }
        rows = LaidOutVersion.objects.filter(host=self._host)
        stored = set(rows.values_list("version_id", flat=True))
        if ready == stored:
            return
        with write_turn(), transaction.atomic():
            rows.filter(version__in=stored - ready).delete()
            LaidOutVersion.objects.bulk_create(
                LaidOutVersion(host=self._host, version_id=pk) for pk in sorted(ready - stored)
            )
            announce(Channel.PAGES)

    def _store_release(self) -> None:
        current = next((one.build_id for one in self._layer.releases() if one.is_current), None)
        rows = models.ReleaseReport.objects.filter(host=self._host)
        if current is None:
            rows.delete()
            return
        if rows.filter(build_id=current, version=REPORT_VERSION).exists():
            return
        report = self._layer.release_report(cancel=self._cancel)
        if report is None:
            return
        now = timezone.now()
        with write_turn(), transaction.atomic():
            models.ReleaseReport.objects.update_or_create(
                host=self._host, defaults={**describe_release(report), "looked_at": now}
            )
            Host.objects.filter(pk=self._host.pk).update(overlays_reported_at=now)
            announce(Channel.PAGES)


COMPARED = ("fingerprint", "files", "size_bytes", "findings", "campaigns", "maps", "version")


def facts_of(row: models.OverlayReport) -> dict[str, Any]:
    """Return what a row says about its overlay."""
    return {name: getattr(row, name) for name in COMPARED}
