"""Workers that share an SQLite database take turns writing."""

import fcntl
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.db import connection, transaction

from jobs.database import write_turns
from jobs.database.write_turns import write_turn
from servers.models import Host

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif("connection.vendor != 'sqlite'", reason="PostgreSQL needs no turns"),
]


@pytest.fixture
def others() -> Iterator[int]:
    """Return the turns' file as opened by another process."""
    with write_turn():
        path = Path(f"{connection.settings_dict['NAME']}-turns")
    assert path.exists()
    descriptor = os.open(path, os.O_RDWR)
    yield descriptor
    os.close(descriptor)


def is_free(others: int) -> bool:
    try:
        fcntl.flock(others, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    fcntl.flock(others, fcntl.LOCK_UN)
    return True


def test_a_turn_excludes_other_workers_until_it_is_over(others: int) -> None:
    with write_turn():
        assert not is_free(others)
    assert is_free(others)


def test_a_turn_that_failed_is_over(others: int) -> None:
    with pytest.raises(ZeroDivisionError), write_turn():
        _ = 1 / 0
    assert is_free(others)


def test_a_turn_begins_as_soon_as_the_other_one_is_over(
    others: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(write_turns, "PATIENCE_SECONDS", 20)
    fcntl.flock(others, fcntl.LOCK_EX)
    was_freed = threading.Event()

    def free() -> None:
        was_freed.set()
        fcntl.flock(others, fcntl.LOCK_UN)

    threading.Timer(0.02, free).start()
    with write_turn():
        assert was_freed.is_set()
        assert not is_free(others)


def test_the_threads_of_a_worker_take_turns_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(write_turns, "PATIENCE_SECONDS", 20)
    has_begun, may_end = threading.Event(), threading.Event()

    def hold() -> None:
        with write_turn():
            has_begun.set()
            may_end.wait(20)

    thread = threading.Thread(target=hold)
    thread.start()
    assert has_begun.wait(20)
    threading.Timer(0.02, may_end.set).start()
    with write_turn():
        assert may_end.is_set()
    thread.join()


def test_a_frozen_worker_is_not_waited_for_for_ever(others: int, host: Host) -> None:
    fcntl.flock(others, fcntl.LOCK_EX)
    with write_turn(), transaction.atomic():
        host.is_draining = True
        host.save()
    assert Host.objects.get().is_draining


def test_inside_of_a_transaction_there_is_nothing_to_wait_for(others: int) -> None:
    with transaction.atomic(), write_turn():
        assert is_free(others)
