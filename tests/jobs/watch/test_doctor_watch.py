"""The doctor's findings on a host are stored, and open pages are told of new ones."""

from datetime import timedelta

import pytest
from django.utils import timezone

from hostops.specs import Finding, Severity
from jobs.watch import DoctorWatch, doctor_watch
from servers.models import Host
from tests.fakes import FakeHost

pytestmark = pytest.mark.django_db

FAULT = Finding("Box", False, "No box.\nReally +login kim hunter2", "Allow namespaces.")


@pytest.fixture
def announced(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Return what open pages were told."""
    told: list[object] = []
    monkeypatch.setattr(doctor_watch, "announce", told.append)
    return told


def test_findings_are_stored_safe_to_be_shown(host: Host, fake_host: FakeHost) -> None:
    fake_host.findings = [Finding("User", True, "Fine."), FAULT]
    DoctorWatch(host).look_if_due(is_asked=False)
    host.refresh_from_db()
    assert host.findings_at is not None
    assert [one["subject"] for one in host.fine_findings] == ["User"]
    (problem,) = host.problems
    assert problem["severity"] == Severity.FAULT
    assert problem["cure"] == "Allow namespaces."
    assert "hunter2" not in problem["text"]
    assert "\n" not in problem["text"]


def test_pages_are_told_of_news_alone(
    host: Host, fake_host: FakeHost, announced: list[object]
) -> None:
    watch = DoctorWatch(host)
    fake_host.findings = [FAULT]
    watch.look_if_due(is_asked=True)
    assert len(announced) == 1
    Host.objects.update(findings_at=timezone.now() - timedelta(days=1))
    watch.look_if_due(is_asked=True)
    assert len(announced) == 1
    host.refresh_from_db()
    assert host.findings_at is not None
    assert host.findings_at > timezone.now() - timedelta(hours=1)


def test_it_looks_now_and_then_and_when_it_is_asked(host: Host, fake_host: FakeHost) -> None:
    watch = DoctorWatch(host)
    watch.look_if_due(is_asked=False)
    fake_host.findings = [FAULT]
    watch.look_if_due(is_asked=False)
    host.refresh_from_db()
    assert host.problems == []
    watch.look_if_due(is_asked=True)
    host.refresh_from_db()
    assert len(host.problems) == 1


def test_what_goes_wrong_is_logged_and_ends_nothing(
    host: Host,
    fake_host: FakeHost,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def break_down() -> list[Finding]:
        raise RuntimeError("no doctor")

    monkeypatch.setattr(fake_host, "doctor", break_down)
    DoctorWatch(host).look_if_due(is_asked=True)
    assert "host local cannot be examined" in caplog.text
