"""The reports of hosts' workers about overlays and releases: their condition and their contents."""

from typing import Any

from django.db import models
from django.utils.translation import gettext_lazy, ngettext

from hostops.specs import ContentSeverity
from servers.models.hosts import Host

REPORT_VERSION = 1
"""The version of the rules for reports. A report of another version is made again, even if nothing changed."""

FINGERPRINT_CHARS = 32
OVERLAY_NAME_CHARS = 32


class ContentReport(models.Model):
    """The report on a set of files. `campaigns` and `maps` are in the form of `hostops.specs`."""

    campaigns = models.JSONField(default=list)
    maps = models.JSONField(default=list, help_text=gettext_lazy("Lower-case names without .bsp."))
    version = models.PositiveSmallIntegerField(default=REPORT_VERSION)
    looked_at = models.DateTimeField(
        help_text=gettext_lazy("When it was found to be so for the first time.")
    )

    class Meta:
        abstract = True

    @property
    def campaign_titles(self) -> list[str]:
        """The titles of its campaigns, each with its number of maps."""
        return [describe_campaign(campaign) for campaign in self.campaigns]


class WithFindings:
    """Sorts the `findings` of a report, which have the form of `hostops.specs.ContentFinding`."""

    findings: Any

    @property
    def refusals(self) -> list[dict[str, Any]]:
        """The findings that keep servers with this overlay from starting."""
        return self._findings_of(ContentSeverity.REFUSED)

    @property
    def warnings(self) -> list[dict[str, Any]]:
        """The findings that somebody should look into."""
        return self._findings_of(ContentSeverity.WARNED)

    @property
    def notes(self) -> list[dict[str, Any]]:
        """The findings that are just good to know."""
        return self._findings_of(ContentSeverity.NOTED)

    def _findings_of(self, severity: ContentSeverity) -> list[dict[str, Any]]:
        return [finding for finding in self.findings if finding["severity"] == severity]


class OverlayReportQuerySet(models.QuerySet["OverlayReport"]):
    """Reports on overlays, by host and name."""

    def fingerprints(self) -> dict[int, dict[str, str]]:
        """Return the fingerprints of overlays by host and by name."""
        found: dict[int, dict[str, str]] = {}
        for host_id, name, fingerprint in self.values_list("host_id", "name", "fingerprint"):
            found.setdefault(host_id, {})[name] = fingerprint
        return found


class OverlayReport(WithFindings, ContentReport):
    """The report on an overlay on one host, made by the host's worker.

    There is one for each overlay on the host, whether or not the panel has an `Overlay` of that name.
    `findings` have the form of `hostops.specs.ContentFinding`, most serious first.
    """

    host = models.ForeignKey(Host, models.CASCADE, related_name="overlay_reports")
    name = models.CharField(max_length=OVERLAY_NAME_CHARS)
    fingerprint = models.CharField(
        max_length=FINGERPRINT_CHARS,
        blank=True,
        help_text=gettext_lazy(
            "Another one once a file has changed; empty if they cannot be looked at."
        ),
    )
    files = models.PositiveIntegerField(default=0)
    size_bytes = models.BigIntegerField(default=0)
    findings = models.JSONField(default=list)

    objects = OverlayReportQuerySet.as_manager()

    class Meta:
        ordering = ["name"]
        constraints = [
            models.UniqueConstraint(fields=["host", "name"], name="overlay_report_once_per_host")
        ]

    def __str__(self) -> str:
        return f"{self.name} on {self.host}"


class ReleaseReport(ContentReport):
    """The contents of a host's current release. `obstacles` are sentences about what could not be read."""

    host = models.OneToOneField(Host, models.CASCADE, related_name="release_report")
    build_id = models.CharField(max_length=32)
    obstacles = models.JSONField(default=list)

    def __str__(self) -> str:
        return f"{self.build_id} on {self.host}"


def describe_campaign(campaign: dict[str, Any]) -> str:
    """Return a campaign's title, and how many maps it has in the mode with the most."""
    count = max((len(mode["chapters"]) for mode in campaign["modes"]), default=0)
    title = campaign["title"] or campaign["name"] or campaign["path"]
    text = ngettext("%(title)s (%(count)d map)", "%(title)s (%(count)d maps)", count)
    return text % {"title": title, "count": count}
