"""Overlays and releases are reported when they have changed, and not again until they change again."""

from dataclasses import replace

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from hostops.errors import HostError, OperationCancelled
from hostops.specs import (
    Campaign,
    CampaignMode,
    CancelToken,
    Chapter,
    ContentFinding,
    ContentSeverity,
    InstalledRelease,
    OverlayReport,
    ReleaseReport,
)
from jobs.database import Channel
from jobs.watch import OverlayWatch, overlay_watch
from servers import models
from servers.models import Host, LaidOutVersion, Overlay, OverlayVersion
from tests.fakes import FakeHost

pytestmark = pytest.mark.django_db

CAMPAIGN = Campaign(
    "db", "Dead Beat", "missions/db.txt", (CampaignMode("coop", (Chapter("db_1", "One"),)),)
)
PACK = OverlayReport(
    name="pack",
    fingerprint="f1",
    files=3,
    size_bytes=2**40,
    findings=(
        ContentFinding("root_too_deep", ContentSeverity.REFUSED, "It is too deep.", "x"),
        ContentFinding(
            "server_cfg", ContentSeverity.NOTED, "It has one.", "left4dead2/cfg/server.cfg"
        ),
    ),
    campaigns=(CAMPAIGN,),
    maps=("db_1",),
)
RELEASE = ReleaseReport("100", (CAMPAIGN,), ("c1m1_hotel",), ("A pack is cut short.",))


@pytest.fixture
def watch(host: Host, fake_host: FakeHost) -> OverlayWatch:
    fake_host.overlays["pack"] = PACK
    return OverlayWatch(host, CancelToken())


def test_a_report_becomes_a_row_also_of_an_overlay_that_the_panel_does_not_know(
    watch: OverlayWatch, host: Host
) -> None:
    assert not Overlay.objects.exists()
    assert watch.look() == overlay_watch.LOOK_SECONDS
    row = models.OverlayReport.objects.get()
    assert (row.host, row.name, row.fingerprint, row.size_bytes) == (host, "pack", "f1", 2**40)
    assert [finding["code"] for finding in row.refusals] == ["root_too_deep"]
    assert [finding["path"] for finding in row.notes] == ["left4dead2/cfg/server.cfg"]
    assert row.warnings == []
    assert row.campaign_titles == ["Dead Beat (1 map)"]
    assert models.OverlayReport.objects.fingerprints() == {host.pk: {"pack": "f1"}}
    host.refresh_from_db()
    assert host.overlays_reported_at is not None


def test_what_has_not_changed_is_neither_read_nor_written_nor_announced_again(
    watch: OverlayWatch, fake_host: FakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_host.installed = [InstalledRelease("100", True, 0.0)]
    fake_host.release = RELEASE
    fake_host.overlays["locked"] = OverlayReport("locked", "", 0, 0)
    watch.look()
    announced: list[Channel] = []
    monkeypatch.setattr(overlay_watch, "announce", announced.append)
    fake_host.looked_at.clear()
    with CaptureQueriesContext(
        connection,
    ) as queries:
        watch.look()
    assert fake_host.looked_at == ["locked"]
    assert announced == []
    assert all(query["sql"].startswith("SELECT") for query in queries)


def test_a_change_a_new_release_and_a_removal_are_stored(
    watch: OverlayWatch, fake_host: FakeHost
) -> None:
    fake_host.installed = [InstalledRelease("100", True, 0.0)]
    fake_host.release = RELEASE
    watch.look()
    fake_host.overlays["pack"] = replace(PACK, fingerprint="f2", findings=())
    fake_host.installed = [InstalledRelease("101", True, 0.0), InstalledRelease("100", False, 0.0)]
    fake_host.release = replace(RELEASE, build_id="101", obstacles=())
    watch.look()
    row = models.OverlayReport.objects.get()
    assert (row.fingerprint, row.findings) == ("f2", [])
    release = models.ReleaseReport.objects.get()
    assert (release.build_id, release.maps, release.obstacles) == ("101", ["c1m1_hotel"], [])
    fake_host.overlays.clear()
    fake_host.installed = []
    watch.look()
    assert not models.OverlayReport.objects.exists()
    assert not models.ReleaseReport.objects.exists()


def test_a_report_that_was_made_by_other_rules_is_made_again(
    watch: OverlayWatch, fake_host: FakeHost
) -> None:
    watch.look()
    models.OverlayReport.objects.update(version=0, findings=[])
    watch.look()
    assert len(models.OverlayReport.objects.get().findings) == 2


def test_a_host_that_cannot_be_looked_at_is_told_of_and_looked_at_again(
    watch: OverlayWatch,
    fake_host: FakeHost,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fail() -> dict[str, str]:
        raise HostError("The folder cannot be read.")

    with monkeypatch.context() as patched:
        patched.setattr(fake_host, "overlay_fingerprints", fail)
        assert watch.look() == overlay_watch.LOOK_SECONDS
    assert "The folder cannot be read." in caplog.text
    watch.look()
    assert models.OverlayReport.objects.exists()


def test_the_end_of_a_worker_ends_a_look(
    watch: OverlayWatch, fake_host: FakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cancelled(name: str, *, cancel: CancelToken) -> OverlayReport:
        raise OperationCancelled("The worker ends.")

    monkeypatch.setattr(fake_host, "overlay_report", cancelled)
    assert watch.look() == 0
    assert not models.OverlayReport.objects.exists()


def test_it_looks_less_often_where_looking_takes_long(
    watch: OverlayWatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    times = iter((0.0, 3.0))
    monkeypatch.setattr("jobs.watch.overlay_watch.time.thread_time", lambda: next(times))
    assert watch.look() == pytest.approx(300)


def test_versions_that_nobody_needs_are_pruned_now_and_then(
    host: Host, fake_host: FakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    OverlayWatch(host, CancelToken()).look()
    assert fake_host.prunings == 0
    monkeypatch.setattr(overlay_watch, "FIRST_PRUNE_SECONDS", 0.0)
    watch = OverlayWatch(host, CancelToken())
    watch.look()
    watch.look()
    assert fake_host.prunings == 1


def test_the_versions_that_are_ready_on_the_host_become_rows(
    watch: OverlayWatch, host: Host, fake_host: FakeHost
) -> None:
    overlay = Overlay.objects.create(name="maps", is_host_folder=True)
    first, second = (
        OverlayVersion.objects.create(
            overlay=overlay,
            number=number,
            digest=str(number) * 64,
            reference=f"maps@{number}",
            files=1,
            size_bytes=1,
            added_bytes=1,
            looked_at=timezone.now(),
        )
        for number in (1, 2)
    )
    other = Host.objects.create(name="other")
    LaidOutVersion.objects.create(host=other, version=second)
    fake_host.laid_out = {("maps", first.digest), ("gone", second.digest), ("maps", "3" * 64)}
    watch.look()
    mine = LaidOutVersion.objects.filter(host=host)
    assert [row.version for row in mine] == [first]
    fake_host.laid_out = {("maps", second.digest)}
    watch.look()
    assert [row.version for row in mine.all()] == [second]
    fake_host.laid_out = set()
    watch.look()
    assert [row.host for row in LaidOutVersion.objects.all()] == [other]
