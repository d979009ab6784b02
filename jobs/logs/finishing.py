"""Stores how running jobs end, if they still belong to their worker.

One way from running to cancelled is elsewhere: `jobs.queue.give_back`, for jobs that have not begun.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from types import MappingProxyType
from typing import Any, NamedTuple

from django.utils import timezone

from jobs.claimed_jobs import ClaimedJob
from jobs.database import Channel, Statement, announcing, execute_all
from jobs.models import Job, JobState
from servers.models import Run, Upload, UploadState

END = (
    "UPDATE jobs_job SET state = %s, exit_code = %s, error = %s, finished_at = %s, updated_at = %s,"
    " progress = CASE WHEN %s AND progress IS NOT NULL THEN 100 ELSE progress END"
    " WHERE id = ANY(%s) AND state = 'running' AND COALESCE(worker_id, 0) = %s"
)
"""The end of several jobs of one worker; 0 stands for no worker."""


class Ending(NamedTuple):
    """How a job ended, and what it learned about its server, by column; `error` is for people.

    The time of the server's state is not among the columns: it is set when this is stored. `run` is the run
    that the job has started, to be stored with its end.
    """

    state: JobState
    exit_code: int | None
    error: str = ""
    server_changes: Mapping[str, Any] = MappingProxyType({})
    run: Run | None = None


def store_runs(endings: Iterable[Ending]) -> None:
    """Store the runs that jobs have started, in the open transaction, which stores the endings too."""
    if runs := [ending.run for ending in endings if ending.run]:
        Run.record(runs)


def store_endings(endings: Iterable[tuple[ClaimedJob | Job, Ending]]) -> bool:
    """Store and announce how jobs end, in the open transaction; return if all still belonged to their worker.

    If not, the caller has to roll back. Equal endings share one statement. `store_runs` stores their runs.
    """
    now = timezone.now()
    by_end: dict[tuple[JobState, int | None, str, int], list[int]] = defaultdict(list)
    by_changes: dict[tuple[tuple[str, Any], ...], list[int]] = defaultdict(list)
    of_uploads: list[tuple[int, Ending]] = []
    for job, ending in endings:
        end = (ending.state, ending.exit_code, one_line(ending.error), job.worker_id or 0)
        by_end[end].append(job.id)
        if job.server_id and ending.server_changes:
            by_changes[tuple(ending.server_changes.items())].append(job.server_id)
        if job.upload_id and ending.state != JobState.SUCCEEDED:
            of_uploads.append((job.upload_id, ending))
    statements: list[Statement] = [
        (END, [state, exit_code, error, now, now, state == JobState.SUCCEEDED, job_ids, worker_id])
        for (state, exit_code, error, worker_id), job_ids in by_end.items()
    ]
    statements += [
        storing_changes(dict(changes), server_ids, now)
        for changes, server_ids in by_changes.items()
    ]
    results = execute_all([*statements, *announcing(Channel.QUEUE, Channel.PAGES)])
    # The ends come first; zip() leaves out the other results.
    if any(
        end.count != len(job_ids) for end, job_ids in zip(results, by_end.values(), strict=False)
    ):
        return False
    for upload_id, ending in of_uploads:
        release_upload(upload_id, ending.state, ending.error)
    return True


def release_upload(upload_id: int, state: JobState, error: str) -> None:
    """Store that no version was made from an upload, and why; unless one was, and its job failed afterwards."""
    Upload.objects.filter(pk=upload_id, state=UploadState.WAITING).update(
        state=UploadState.CANCELLED if state == JobState.CANCELLED else UploadState.FAILED,
        error=one_line(error),
        touched_at=timezone.now(),
    )


def storing_changes(
    changes: Mapping[str, Any], server_ids: Sequence[int], now: datetime
) -> Statement:
    """Return the statement that stores what jobs have just learned about servers."""
    values = {**changes, "actual_state_at": now, "updated_at": now}
    columns = ", ".join(f"{column} = %s" for column in values)
    statement = f"UPDATE servers_server SET {columns} WHERE id = ANY(%s)"  # noqa: S608 - names of columns
    return statement, [*values.values(), list(server_ids)]


def one_line(text: str) -> str:
    """Return `text` on one line, and without NUL, which PostgreSQL refuses."""
    return " ".join(text.replace("\0", "").split())
