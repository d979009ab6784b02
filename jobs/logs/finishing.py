"""How running jobs end, and the one place that stores it: only of a job that is still its worker's."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from types import MappingProxyType
from typing import Any, NamedTuple

from django.utils import timezone

from jobs.database import adapt, among, update_all, update_counted
from jobs.models import Job, JobState
from servers.models import Run


class Ending(NamedTuple):
    """How a job ended, and what it learned about its server, by column; `error` is for people.

    When the server's state was asked for is not among it: that is now, when it is stored. `run` is what it has
    started, to be stored with it.
    """

    state: JobState
    exit_code: int | None
    error: str = ""
    server_changes: Mapping[str, Any] = MappingProxyType({})
    run: Run | None = None


def store_runs(endings: Iterable[Ending]) -> None:
    """Store the runs that jobs have started, in the transaction that is open and stores the ends too."""
    if runs := [ending.run for ending in endings if ending.run]:
        Run.record(runs)


def store_endings(endings: Iterable[tuple[Job, Ending]]) -> Callable[[], bool]:
    """Store how jobs end, in the transaction that is open, which is to be announced to both channels.

    Ends that are alike are stored together. What is returned tells, in the same transaction, whether all of
    the jobs still were their worker's: if not, it is to be rolled back.
    """
    now = timezone.now()
    of_jobs: dict[tuple[int, JobState, int | None, str], list[int]] = defaultdict(list)
    of_servers: dict[tuple[Any, ...], list[int]] = defaultdict(list)
    for job, ending in endings:
        end = (job.worker_id or 0, ending.state, ending.exit_code, one_line(ending.error))
        of_jobs[end].append(job.id)
        if job.server_id and ending.server_changes:
            of_servers[tuple(ending.server_changes.items())].append(job.server_id)
    stored = [
        (store_end(*end, now=now, job_ids=job_ids), len(job_ids))
        for end, job_ids in of_jobs.items()
    ]
    for changes, server_ids in of_servers.items():
        times = {"actual_state_at": now, "updated_at": now}
        update_all("servers_server", {**dict(changes), **times}, server_ids)
    return lambda: all(count_stored() == count for count_stored, count in stored)


def store_end(
    worker_id: int,
    state: JobState,
    exit_code: int | None,
    error: str,
    *,
    now: datetime,
    job_ids: Sequence[int],
) -> Callable[[], int]:
    """Store one end of several jobs of a worker (0: of none); what is returned tells how many were its own."""
    is_one, one_of = among(job_ids)
    return update_counted(
        "UPDATE jobs_job"  # noqa: S608 - nothing but places for parameters
        " SET state = %s, exit_code = %s, error = %s, finished_at = %s, updated_at = %s,"
        " progress = CASE WHEN %s AND progress IS NOT NULL THEN 100 ELSE progress END"
        f" WHERE state = 'running' AND COALESCE(worker_id, 0) = %s AND id {is_one}",
        [
            *map(adapt, (state, exit_code, error, now, now, state == JobState.SUCCEEDED)),
            *(worker_id, *one_of),
        ],
    )


def one_line(text: str) -> str:
    """Return `text` on one line."""
    return " ".join(text.split())
