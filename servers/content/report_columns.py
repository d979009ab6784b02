"""What rows keep of the host layer's reports on overlays and releases, column by column."""

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from hostops.specs import Campaign, OverlayReport, ReleaseReport
from servers.models import REPORT_VERSION

ABOUT_CHARS = 100
"""How much is kept of what a plugin calls itself: there may be a thousand plugins."""


def describe_overlay(report: OverlayReport) -> dict[str, Any]:
    """Return the columns of a row about an overlay, in JSON form."""
    return {
        "fingerprint": report.fingerprint,
        "files": report.files,
        "size_bytes": report.size_bytes,
        "findings": [asdict(finding) for finding in report.findings],
        "campaigns": describe_campaigns(report.campaigns),
        "maps": list(report.maps),
        "version": REPORT_VERSION,
    }


def describe_plugins(report: OverlayReport) -> list[dict[str, Any]] | None:
    """Return the column of a version's row about the plugins of an overlay, in JSON form."""
    if report.plugins is None:
        return None
    return [
        {
            "path": one.path,
            "extensions": list(one.extensions),
            "libraries": [list(library) for library in one.libraries],
            "provides": list(one.provides),
            "title": one.title[:ABOUT_CHARS],
            "author": one.author[:ABOUT_CHARS],
            "version": one.version[:ABOUT_CHARS],
        }
        for one in report.plugins
    ]


def describe_release(report: ReleaseReport) -> dict[str, Any]:
    """Return the columns of a row about a release, in JSON form."""
    return {
        "build_id": report.build_id,
        "campaigns": describe_campaigns(report.campaigns),
        "maps": list(report.maps),
        "obstacles": list(report.obstacles),
        "version": REPORT_VERSION,
    }


def describe_campaigns(campaigns: Iterable[Campaign]) -> list[dict[str, Any]]:
    """Return campaigns in JSON form, in which tuples are lists."""
    return [
        {
            **asdict(campaign),
            "modes": [
                {"name": mode.name, "chapters": [asdict(chapter) for chapter in mode.chapters]}
                for mode in campaign.modes
            ],
        }
        for campaign in campaigns
    ]
