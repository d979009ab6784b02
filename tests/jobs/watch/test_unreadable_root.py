"""A worker whose HOST_ROOT cannot be read says so, but not each time that it looks."""

from pathlib import Path

import pytest
from django.test import override_settings

from jobs import operations
from jobs.logs import process_log
from jobs.logs.process_log import FaultLog
from jobs.watch import HostWatch, console_guard
from jobs.worker import chores
from jobs.worker.chores import Chore
from servers.models import ActualState, Blueprint, Host, Server
from tests.states import record_state

pytestmark = pytest.mark.django_db


def test_it_is_one_line_whoever_looks_and_however_often(
    server: Server,
    host: Host,
    blueprint: Blueprint,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fresh = FaultLog()
    for module in (process_log, operations, chores, console_guard):
        monkeypatch.setattr(module, "faults", fresh)
    other = Server.objects.create(name="beta", owner=server.owner, host=host, blueprint=blueprint)
    for one in (server, other):
        record_state(one, ActualState.RUNNING)
    root = tmp_path / "root"
    root.write_text("in its place")
    with override_settings(HOST_ROOT=root):
        watch = HostWatch(host)
        for _ in range(5):
            for do in (watch.store_states, watch.report_host, watch.store_sizes):
                Chore(do, 0).do_if_due()
            assert watch.guard.look() > 0
            operations.read_status(server.host.name, server.name)
    assert len(caplog.messages) == 1, caplog.messages
    assert f"The folder {root} cannot be read: Not a directory." in caplog.messages[0]
    assert caplog.records[0].exc_info is None
    server.refresh_from_db()
    assert server.actual_state == ActualState.RUNNING


def test_a_root_that_is_not_there_yet_is_only_empty(host: Host, tmp_path: Path) -> None:
    with override_settings(HOST_ROOT=tmp_path / "root"):
        layer = operations.get_host(host.name)
        assert layer.statuses() == {}
        assert layer.releases() == []
        assert layer.trim_consoles(0) == {}
