"""A worker checks bans, admins and players when something was committed, or a check has more to do."""

import threading
from functools import partial

import pytest
from django.db import connection

from jobs.worker import chores
from jobs.worker.worker_process import WorkerLoop
from servers.models import Host
from tests.fakes import FakeHost
from tests.waiting import wait_until

pytestmark = pytest.mark.django_db(transaction=True)


class Look:
    """Stands in for one of the checks; the test says whether it has more to do."""

    def __init__(self) -> None:
        self.count = 0
        self.has_more = True

    def __call__(self, *_: object) -> "Look":
        """Be made."""
        return self

    def look(self) -> bool:
        """Count."""
        self.count += 1
        return self.has_more

    def has_come_since(self, count: int) -> bool:
        """Return whether there have been more looks than `count`."""
        return self.count > count


def test_rounds_go_on_while_a_look_has_more_to_do_and_after_each_commit(
    host: Host, fake_host: FakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    look = Look()
    monkeypatch.setattr(chores, "MapChecker", look)
    monkeypatch.setattr(chores, "READ_PLAYERS_SECONDS", 0.01)
    monkeypatch.setattr(chores, "LONGEST_REST_SECONDS", 3600)
    loop = WorkerLoop(host=host, concurrency=1)

    def run() -> None:
        loop.run()
        connection.close()

    worker = threading.Thread(target=run)
    worker.start()
    try:
        wait_until(lambda: look.count > 20, 20, "it did not look on")
        look.has_more = False
        for _ in range(3):
            before = look.count
            Host.objects.update(load_average=before)
            wait_until(partial(look.has_come_since, before), 20, "it missed a commit")
    finally:
        loop.stop()
        worker.join(30)
    assert not worker.is_alive()
