"""What pages say of overlays before a start: where one is missing, what is wrong with it, what is in it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from django.utils.translation import gettext as _

from servers.models import Host, Overlay, OverlayReport

MOST_SENTENCES = 3
"""So much is said of an overlay on a host outside of its own page."""


@dataclass(frozen=True)
class HostNotes:
    """What is to be said of an overlay on one host: refusals of a start, and warnings."""

    host: Host
    refusals: Sequence[str]
    warnings: Sequence[str]

    @property
    def is_refused(self) -> bool:
        """Whether no server is started with the overlay there."""
        return bool(self.refusals)

    @property
    def sentences(self) -> list[str]:
        """The first of them, those that weigh most at the front."""
        return [*self.refusals, *self.warnings][:MOST_SENTENCES]

    @property
    def more_count(self) -> int:
        """How many more there are."""
        return len(self.refusals) + len(self.warnings) - len(self.sentences)


@dataclass(frozen=True)
class OverlayRow:
    """An overlay as pages list it: what is in it, and what is to be said of it on each host."""

    overlay: Overlay
    campaigns: Sequence[str]
    hosts: Sequence[HostNotes]


def read_overlay_rows(overlays: Iterable[Overlay], hosts: Iterable[Host]) -> list[OverlayRow]:
    """Return what is to be said of overlays on these hosts; one query, however many they are."""
    overlays, hosts = list(overlays), list(hosts)
    reports: dict[str, dict[int, OverlayReport]] = {}
    if overlays and hosts:
        rows = OverlayReport.objects.filter(host__in=hosts, name__in=[one.name for one in overlays])
        for report in rows.defer("maps"):
            reports.setdefault(report.name, {})[report.host_id] = report
    return [to_row(overlay, hosts, reports.get(overlay.name, {})) for overlay in overlays]


def list_campaigns(rows: Iterable[OverlayRow]) -> list[str]:
    """Return the campaigns of overlays, each once, those of the topmost first."""
    return list(dict.fromkeys(title for row in rows for title in row.campaigns))


def to_row(
    overlay: Overlay, hosts: Iterable[Host], reports: dict[int, OverlayReport]
) -> OverlayRow:
    """Return what is to be said of one overlay, by what was reported of it, for each host."""
    titles = [title for report in reports.values() for title in report.campaign_titles]
    notes = [describe(host, reports.get(host.pk)) for host in hosts]
    return OverlayRow(
        overlay, list(dict.fromkeys(titles)), [one for one in notes if one and one.sentences]
    )


def describe(host: Host, report: OverlayReport | None) -> HostNotes | None:
    """Return what is to be said of an overlay on one host; None where nobody has looked yet."""
    if report is not None:
        return HostNotes(
            host,
            [to_sentence(finding) for finding in report.refusals],
            [to_sentence(finding) for finding in report.warnings],
        )
    if host.overlays_reported_at is None:
        return None
    missing = _("It is not on host %(host)s. Its page says what to do.") % {"host": host.name}
    return HostNotes(host, [missing], [])


def to_sentence(finding: dict[str, Any]) -> str:
    """Return a finding as a line of text: what it is about, and what is to be said of that."""
    return f"{finding['path']}: {finding['text']}" if finding["path"] else finding["text"]
