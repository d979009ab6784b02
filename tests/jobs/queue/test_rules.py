"""The rules of which jobs may run, without a database."""

from collections.abc import Sequence

from jobs.queue.rules import ActiveJob, Rules

HERE, ELSEWHERE = 1, 2


def start(job_id: int, server_id: int, host_id: int = HERE) -> ActiveJob:
    return ActiveJob(job_id, host_id, server_id, "start")


def install(job_id: int) -> ActiveJob:
    return ActiveJob(job_id, HERE, None, "install")


def check(job_id: int) -> ActiveJob:
    return ActiveJob(job_id, HERE, None, "check")


def blockers(running: Sequence[ActiveJob], queued: Sequence[ActiveJob]) -> list[ActiveJob | None]:
    """Return what each queued job waits for, oldest first."""
    rules = Rules(HERE, running)
    return [rules.admit(job) for job in queued]


def test_jobs_of_different_servers_run_side_by_side() -> None:
    assert blockers([start(1, 1)], [start(2, 2), start(3, 3), check(4), check(5)]) == [None] * 4


def test_a_job_waits_for_its_servers_job_wherever_that_runs() -> None:
    moved = start(1, 1, host_id=ELSEWHERE)
    assert blockers([moved], [start(2, 1), start(3, 2)]) == [moved, None]


def test_a_job_waits_for_the_older_one_of_its_server() -> None:
    first = start(1, 1)
    assert blockers([], [first, start(2, 1)]) == [None, first]


def test_nothing_runs_beside_an_exclusive_job() -> None:
    running = install(1)
    assert blockers([running], [start(2, 1), check(3), install(4)]) == [running] * 3


def test_an_exclusive_job_waits_for_what_runs_and_once_it_is_the_oldest_all_wait_for_it() -> None:
    running, waiting = start(1, 1), install(2)
    assert blockers([running], [waiting, start(3, 2)]) == [running, waiting]


def test_an_exclusive_job_is_the_oldest_once_those_before_it_run() -> None:
    first, waiting = start(1, 1), install(2)
    assert blockers([], [first, waiting, start(3, 2)]) == [None, first, waiting]


def test_an_exclusive_job_behind_a_blocked_one_holds_up_nothing() -> None:
    running, blocked = start(1, 1), start(2, 1)
    assert blockers([running], [blocked, install(3), start(4, 2)]) == [running, running, None]


def test_an_exclusive_job_runs_alone_and_does_not_wait_for_another_host() -> None:
    first = install(2)
    elsewhere = start(1, 1, host_id=ELSEWHERE)
    assert blockers([elsewhere], [first, start(3, 2), install(4)]) == [None, first, first]


def test_it_tells_when_nothing_more_may_run() -> None:
    rules = Rules(HERE, [start(1, 1)])
    rules.admit(start(2, 1))
    assert not rules.is_closed
    assert rules.busy_server_ids == [1]
    rules = Rules(HERE, [start(1, 1)])
    rules.admit(install(2))
    assert rules.is_closed


def unpack(job_id: int, person_id: int = 1) -> ActiveJob:
    return ActiveJob(job_id, HERE, None, "unpack", person_id)


def test_unpacking_runs_beside_servers_and_not_beside_an_install() -> None:
    assert blockers([unpack(1)], [start(2, 1), install(3)]) == [None, unpack(1)]
    assert blockers([install(1)], [start(2, 1), unpack(3)]) == [install(1), install(1)]


def test_nobody_waits_for_all_that_another_person_brings() -> None:
    first, other = unpack(1, 1), unpack(4, 2)
    queued = [unpack(2, 1), unpack(3, 1), other, unpack(5, 2), unpack(6, 3)]
    assert blockers([first], queued) == [first, first, None, other, first]
