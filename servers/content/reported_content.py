"""What a server finds in its layers, according to its host's reports on its release and its overlays."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from hostops.specs import OverlayReference
from servers.models import OverlayReport, OverlayVersion, ReleaseReport, Server

_HIDING = frozenset({"unreadable", "pack_broken"})
"""Codes of findings: an overlay with one of these may have more maps than were reported."""


@dataclass(frozen=True)
class ReportedContent:
    """What was reported about a release and about overlays, topmost overlay first.

    `release` is None until that build is reported; `missing` are the overlays without a report.
    """

    release: ReleaseReport | None
    overlays: Sequence[OverlayReport | OverlayVersion]
    missing: Sequence[str]

    @property
    def is_complete(self) -> bool:
        """Whether a map that is not among `maps` is in none of these layers."""
        return (
            self.release is not None
            and not self.release.obstacles
            and not self.missing
            and not any(has_hidden_maps(report.findings) for report in self.overlays)
        )

    @cached_property
    def maps(self) -> frozenset[str]:
        """The maps of all layers: lower-case names without `.bsp`."""
        return frozenset(one for report in self._layers for one in report.maps)

    @cached_property
    def campaigns(self) -> tuple[Mapping[str, Any], ...]:
        """The campaigns, those of the topmost layer first, in the form of `hostops.specs.Campaign`.

        A mission file hides the one at the same place in a lower layer. The game identifies campaigns by
        name, so of several with the same name the topmost counts.
        """
        found: dict[str, Mapping[str, Any]] = {}
        places: set[str] = set()
        for report in self._layers:
            own_places = {campaign["path"].lower() for campaign in report.campaigns}
            for campaign in report.campaigns:
                if campaign["path"].lower() not in places:
                    key = campaign["name"].lower() or campaign["path"].lower()
                    found.setdefault(key, campaign)
            places |= own_places
        return tuple(found.values())

    @property
    def _layers(self) -> Iterable[OverlayReport | OverlayVersion | ReleaseReport]:
        return (*self.overlays, *((self.release,) if self.release else ()))


def read_content(server: Server, overlays: Sequence[str], build_id: str) -> ReportedContent:
    """Return what is in the layers of a server: the references of its overlays, topmost first, and a build.

    For folders that is what its host reported; a version is the same everywhere. At most three queries.
    """
    release = ReleaseReport.objects.filter(host=server.host_id, build_id=build_id).first()
    found: dict[str, OverlayReport | OverlayVersion] = {}
    versions = [one for one in overlays if OverlayReference.parse(one).digest]
    if len(versions) < len(overlays):
        rows = OverlayReport.objects.filter(host=server.host_id, name__in=overlays)
        found |= {report.name: report for report in rows}
    if versions:
        of_panel = OverlayVersion.objects.filter(reference__in=versions)
        found |= {version.reference: version for version in of_panel}
    return ReportedContent(
        release,
        [found[one] for one in overlays if one in found],
        [OverlayReference.parse(one).label for one in overlays if one not in found],
    )


def has_hidden_maps(findings: Sequence[dict[str, Any]]) -> bool:
    """Whether the findings on an overlay mean that it may have further maps."""
    return any(finding["code"] in _HIDING for finding in findings)
