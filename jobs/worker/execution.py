"""One job from its plan to its outcome, whatever the host does. `worker_process` claims it."""

import logging
import traceback
from collections.abc import Callable
from functools import partial
from subprocess import CalledProcessError
from typing import Any, NamedTuple

from django.db import DEFAULT_DB_ALIAS, connections

from hostops.errors import HostError, OperationCancelled
from hostops.specs import CancelToken, InstanceStatus
from jobs import operations
from jobs.claimed_jobs import ClaimedJob, ClaimedServer
from jobs.database import is_away
from jobs.logs import (
    Ending,
    LogWriter,
    faults,
    find_secrets,
    make_line_safe,
    mask_known,
    secrets_of,
)
from jobs.models import HOST_OPERATIONS, STARTS, JobState, LogStream, Operation
from jobs.watch import describe_players, finish_console
from servers.models import ActualState, DesiredState

logger = logging.getLogger(__name__)


class Plan(NamedTuple):
    """A running job and the function that carries it out.

    That function may use the database (`operations.Prepared` says when), but holds no connection while the host
    works.
    """

    job: ClaimedJob
    operate: Callable[..., object]
    secrets: frozenset[str] = frozenset()
    planned_run: operations.PlannedRun | None = None


def plan(job: ClaimedJob) -> Plan:
    """Read everything that the job needs. If something is wrong with it, carrying it out raises the error.

    Raises only errors of which `is_away` is true: then the database is away, and the job has not begun.
    """
    try:
        operate, spec, planned_run = operations.prepare(job, finish_console)
        secrets = secrets_of(job, spec)
        if spec and planned_run and planned_run.as_it_was_at:
            # The settings of that run may contain passwords that the rows no longer know.
            secrets |= find_secrets(" ".join(spec.arguments), spec.config)
        return Plan(job, operate, secrets, planned_run)
    except Exception as error:
        if is_away(error):
            raise
        return Plan(job, partial(fail_with, error))


def fail_with(error: Exception, **_callbacks: object) -> None:
    """Raise `error`."""
    raise error


def execute(plan: Plan, writer: LogWriter, cancel: CancelToken) -> None:
    """Drive the host as planned, and hand the outcome to `writer`, which stores it.

    Does not raise the job's errors: they are stored in the job's row and its log, and written to the process
    log, with a traceback unless a command failed. No transaction and no connection is held while the host is
    driven, unless the caller holds one.
    """
    job = plan.job
    logger.info("job %s: %s of %s begins", job.id, job.operation, job.subject)
    before = operations.Before.look(job) if plan.planned_run else None
    ending = carry_out(plan, writer, cancel)
    ending = learn_from(plan, ending, before)
    release_connection()  # `learn_from` may have stored an install's result from this thread.
    logger.info("job %s: over, %s", job.id, ending.state)
    writer.finish(job, ending)


def carry_out(plan: Plan, writer: LogWriter, cancel: CancelToken) -> Ending:
    """Drive the host and pass its output to `writer`; return how the job ended."""
    job, secrets = plan.job, plan.secrets
    if job.server_id:
        # A running server may print the passwords that it was started with.
        secrets |= operations.read_running_secrets(job.host_name, job.server_name)

    def on_line(stream: str, text: str) -> None:
        writer.line(job, stream, mask_known(text, secrets))

    def on_stage(name: str, progress: int | None = None) -> None:
        writer.stage(job, mask_known(name, secrets), progress)

    def words(error: Exception | SystemExit) -> str:
        # The error may quote the game: names of its files, the last line that it printed.
        return make_line_safe(mask_known(str(error) or type(error).__name__, secrets))

    def fail(exit_code: int, error: Exception | SystemExit, output: str) -> Ending:
        for line in output.splitlines():
            on_line(LogStream.STDERR, line)
        return Ending(JobState.FAILED, exit_code, words(error))

    try:
        cancel.raise_if_cancelled()
        plan.operate(on_line=on_line, on_stage=on_stage, cancel=cancel)
    except OperationCancelled:
        writer.line(job, LogStream.STDERR, cancel.reason)
        return Ending(JobState.CANCELLED, None, cancel.reason)
    except CalledProcessError as error:
        logger.info("job %s: %s", job.id, words(error))
        return fail(error.returncode, error, unread_stderr(error) + str(error))
    except (Exception, SystemExit) as error:  # noqa: BLE001 - it fails the job, and is logged
        log_failure(job, error, words(error), secrets)
        return fail(1, error, str(error) or type(error).__name__)
    return Ending(JobState.SUCCEEDED, 0)


def log_failure(job: ClaimedJob, error: BaseException, words: str, secrets: frozenset[str]) -> None:
    """Log why a job failed: in `words`, and with the traceback, in which `secrets` are masked.

    What the host layer explains is a warning; anything else is a bug of ours.
    """
    level = logging.WARNING if isinstance(error, HostError) else logging.ERROR
    trace = "\n".join(
        make_line_safe(mask_known(line, secrets))
        for line in "".join(traceback.format_exception(error)).splitlines()
    )
    text, what = "job %s: %s of %s failed: %s", (job.id, job.operation, job.subject, words)
    record = logger.makeRecord(__name__, level, __file__, 0, text, what, None)
    record.exc_text = trace  # The error's own would have secrets.
    logger.handle(record)


def unread_stderr(error: CalledProcessError) -> str:
    """Return the command's stderr that has not been passed on yet, in whole lines."""
    stderr = error.stderr or ""
    text: str = stderr.decode(errors="replace") if isinstance(stderr, bytes) else stderr
    return f"{text}\n" if text and not text.endswith("\n") else text


def learn_from(plan: Plan, ending: Ending, before: operations.Before | None) -> Ending:
    """Ask the host what the job left behind; return the ending with what to store about the server.

    `before` is what was so before a job that starts a server.
    """
    job = plan.job
    server = job.server
    if server is None:
        report_changed_host(job)
        return ending
    if ending.state == JobState.FAILED and job.operation in STARTS and job.host:
        # If a program holds the server's port, the page can then offer another one at once.
        try:
            operations.report_taken_ports(job.host)
        except Exception as error:  # noqa: BLE001 - logged
            what = f"job {job.id}: the ports of host {job.host} cannot be read"
            faults.tell(logger, what, error)
    status = operations.read_status(job.host_name, server.name)
    try:
        return describe_outcome(plan, server, ending, status, before)
    except Exception as error:  # noqa: BLE001 - logged
        # The job has ended, whatever the host says of its server.
        faults.tell(logger, f"job {job.id}: what it left behind cannot be described", error)
        return describe_outcome(plan, server, ending, None, before)


def describe_outcome(
    plan: Plan,
    server: ClaimedServer,
    ending: Ending,
    status: InstanceStatus | None,
    before: operations.Before | None,
) -> Ending:
    """Return the ending with what to store about the server; `status` is what its host says, if it is known."""
    job = plan.job
    changes = describe_server(plan, server, ending, status)
    run = operations.describe_run(
        job,
        plan.planned_run,
        status,
        before=before,
        has_answered=ending.state == JobState.SUCCEEDED,
        secrets=plan.secrets,
    )
    if run or changes["actual_state"] != ActualState.RUNNING:
        # Who was on, and what was played, was of an earlier run.
        changes |= describe_players(None)
    return Ending(ending.state, ending.exit_code, ending.error, changes, run)


def describe_server(
    plan: Plan, server: ClaimedServer, ending: Ending, status: InstanceStatus | None
) -> dict[str, Any]:
    """Return what the end of a job says about its server, by column; `status` is what its host says now."""
    job = plan.job
    changes = operations.describe_state(job.host_name, server, status)
    if job.operation in operations.BY_SPEC:
        changes |= operations.read_config_chain(job.host_name, server, plan.secrets)
    if changes["actual_state"] == ActualState.ABSENT:
        # The runs of its next instance start counting from one again.
        changes |= {"console_run": 0, "console_offset": 0, "crashed_run": 0, "own_bytes": None}
    elif job.operation in (Operation.STOP, Operation.RESET):
        changes["own_bytes"] = operations.measure_own_bytes(job.host_name, server.name)
    if ending.state == JobState.SUCCEEDED:
        changes["last_error"] = ""
    elif ending.state == JobState.FAILED:
        changes["last_error"] = f"{job.operation_label}: {ending.error}"
    else:
        changes["desired_state"] = desire_after_cancel(
            job.operation,
            changes["actual_state"],
            is_stopping=status is None or status.is_stopping,
            desired_before=server.desired_state,  # `server` is as it was before the claim.
        )
    return changes


def report_changed_host(job: ClaimedJob) -> None:
    """Store what the host of a job of no server reports of itself, if the job can have changed it."""
    if job.operation in HOST_OPERATIONS and job.operation != Operation.UNPACK and job.host:
        try:
            operations.report_host(job.host)
        except Exception as error:  # noqa: BLE001 - logged
            faults.tell(logger, f"job {job.id}: host {job.host} cannot be read", error)


def desire_after_cancel(
    operation: str, actual_state: str, *, is_stopping: bool, desired_before: str
) -> DesiredState:
    """Return the desired state of a server whose job was cancelled: mostly what has become of it.

    Somebody who cancels a start does not want the server started later. A server that was told to quit before
    its stop was cancelled will still quit. Somebody who cancels a restart that has stopped the server did not
    want it down: pages say that it should run, unless it was to be stopped before the restart as well.
    """
    if actual_state in (ActualState.STARTING, ActualState.RUNNING):
        return DesiredState.STOPPED if is_stopping else DesiredState.RUNNING
    was_to_run = desired_before == DesiredState.RUNNING
    is_restart = operation == Operation.RESTART
    return DesiredState.RUNNING if is_restart and was_to_run else DesiredState.STOPPED


def release_connection() -> None:
    """Give back this thread's database connection, unless a caller's transaction is open on it."""
    own = connections[DEFAULT_DB_ALIAS]
    if own.connection is not None and not own.in_atomic_block:
        own.close()
