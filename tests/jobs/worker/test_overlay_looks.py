"""A worker checks its host's overlays, and sweeps the store, in a thread that does not delay its end."""

import os
import threading
from pathlib import Path

import pytest
from django.conf import LazySettings
from django.db import connection

from hostops.specs import CancelToken, OverlayReport
from jobs.worker import chores
from jobs.worker.worker_process import WorkerLoop
from servers import models
from servers.models import Host
from servers.store import claim_store, get_store
from tests.fakes import FakeHost
from tests.waiting import wait_until

pytestmark = pytest.mark.django_db(transaction=True)


def test_overlays_are_reported_and_the_end_of_the_worker_ends_a_look_that_takes_long(
    host: Host,
    fake_host: FakeHost,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    settings: LazySettings,
) -> None:
    settings.CONTENT_ROOT = tmp_path / "content"
    store = get_store()
    with store.adding():
        unneeded = store.add_bytes(b"that no version has")
    os.utime(store.path_of(unneeded), (0, 0))
    claim_store()
    is_looking = threading.Event()
    cancelled: list[bool] = []

    def report(name: str, *, cancel: CancelToken) -> OverlayReport:
        if name == "quick":
            return fake_host.overlays[name]
        is_looking.set()
        cancelled.append(cancel.wait(60))
        cancel.raise_if_cancelled()
        return fake_host.overlays[name]

    fake_host.overlays["quick"] = OverlayReport("quick", "f", 1, 1)
    monkeypatch.setattr(fake_host, "overlay_report", report)
    monkeypatch.setattr(chores, "FIRST_LOOK_SECONDS", 0)
    monkeypatch.setattr("jobs.watch.overlay_watch.LOOK_SECONDS", 0.05)
    loop = WorkerLoop(host=host, concurrency=1)

    def run() -> None:
        loop.run()
        connection.close()

    worker = threading.Thread(target=run)
    worker.start()
    try:
        wait_until(models.OverlayReport.objects.exists, 20, "No overlay was reported.")
        wait_until(lambda: unneeded not in store, 20, "The store was not swept.")
        fake_host.overlays["slow"] = OverlayReport("slow", "f", 1, 1)
        assert is_looking.wait(20)
    finally:
        loop.stop()
        worker.join(30)
    assert not worker.is_alive()
    assert cancelled == [True]
    assert [row.name for row in models.OverlayReport.objects.all()] == ["quick"]
