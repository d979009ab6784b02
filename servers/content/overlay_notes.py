"""What pages say about overlays before a start: where one is missing, what is wrong with it, what is in it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.utils.translation import gettext as _

from servers.models import Host, Overlay, OverlayReport, OverlayVersion

MOST_SENTENCES = 3
"""The most that is said about an overlay on a host, except on the overlay's own page."""


@dataclass(frozen=True)
class HostNotes:
    """What there is to say about an overlay on one host: refusals of a start, and warnings.

    Without a host it applies to all of them: it is about a version, which is the same everywhere.
    """

    host: Host | None
    refusals: Sequence[str]
    warnings: Sequence[str]

    @property
    def is_refused(self) -> bool:
        """Whether no server with this overlay can be started there."""
        return bool(self.refusals)

    @property
    def sentences(self) -> list[str]:
        """The first of them, most serious first."""
        return [*self.refusals, *self.warnings][:MOST_SENTENCES]

    @property
    def more_count(self) -> int:
        """The number of the others."""
        return len(self.refusals) + len(self.warnings) - len(self.sentences)


@dataclass(frozen=True)
class OverlayRow:
    """An overlay as lists show it: what is in it, and what there is to say about it on each host."""

    overlay: Overlay
    campaigns: Sequence[str]
    hosts: Sequence[HostNotes]
    version: OverlayVersion | None = None
    is_pinned: bool = False
    is_kept_by_hand: bool = False


def read_overlay_rows(
    overlays: Iterable[Overlay],
    hosts: Iterable[Host],
    pins: Mapping[int, OverlayVersion] | None = None,
) -> list[OverlayRow]:
    """Return what there is to say about overlays on these hosts; one query, however many there are.

    The latest versions must have been fetched. `pins` has versions that count instead, by overlay.
    """
    overlays, hosts, pins = list(overlays), list(hosts), pins or {}
    reports: dict[str, dict[int, OverlayReport]] = {}
    by_hand = [one.name for one in overlays if one.latest_id is None and one.is_host_folder]
    if by_hand and hosts:
        rows = OverlayReport.objects.filter(host__in=hosts, name__in=by_hand)
        for report in rows.defer("maps"):
            reports.setdefault(report.name, {})[report.host_id] = report
    found = []
    for overlay in overlays:
        version = pins.get(overlay.pk) or overlay.latest
        if version is None:
            found.append(to_row(overlay, hosts, reports.get(overlay.name, {})))
        else:
            found.append(to_version_row(overlay, version, is_pinned=overlay.pk in pins))
    return found


def list_campaigns(rows: Iterable[OverlayRow]) -> list[str]:
    """Return the campaigns of overlays, each once, those of the topmost overlay first."""
    return list(dict.fromkeys(title for row in rows for title in row.campaigns))


def to_row(
    overlay: Overlay, hosts: Iterable[Host], reports: dict[int, OverlayReport]
) -> OverlayRow:
    """Return what there is to say about an overlay without versions, from each host's report on it."""
    if not overlay.is_host_folder:
        empty = _("It has no files yet. Upload some on its page.")
        return OverlayRow(overlay, [], [HostNotes(None, [empty], [])])
    titles = [title for report in reports.values() for title in report.campaign_titles]
    notes = [describe(host, reports.get(host.pk)) for host in hosts]
    return OverlayRow(
        overlay,
        list(dict.fromkeys(titles)),
        [one for one in notes if one and one.sentences],
        is_kept_by_hand=bool(reports) or overlay.owner_id is None,
    )


def to_version_row(overlay: Overlay, version: OverlayVersion, *, is_pinned: bool) -> OverlayRow:
    """Return what there is to say about a version of an overlay, wherever it is used."""
    notes = describe_report(None, version)
    return OverlayRow(
        overlay,
        version.campaign_titles,
        [notes] if notes.sentences else [],
        version=version,
        is_pinned=is_pinned,
    )


def describe(host: Host, report: OverlayReport | None) -> HostNotes | None:
    """Return what there is to say about an overlay on one host; None where nobody has looked yet."""
    if report is not None:
        return describe_report(host, report)
    if host.overlays_reported_at is None:
        return None
    missing = _("It is not on host %(host)s. Its page says what to do.") % {"host": host.name}
    return HostNotes(host, [missing], [])


def describe_report(host: Host | None, report: OverlayReport | OverlayVersion) -> HostNotes:
    """Return what there is to say about what was found in an overlay."""
    return HostNotes(
        host,
        [to_sentence(finding) for finding in report.refusals],
        [to_sentence(finding) for finding in report.warnings],
    )


def to_sentence(finding: dict[str, Any]) -> str:
    """Return a finding as a line of text: what it is about, and what it says about that."""
    return f"{finding['path']}: {finding['text']}" if finding["path"] else finding["text"]
