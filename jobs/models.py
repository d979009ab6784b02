"""The rows: jobs, their log lines, and the workers that carry them out. The transitions are in `jobs.queue`."""

import re
from datetime import datetime, timedelta
from itertools import zip_longest
from typing import Any

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, override

from hostops.specs import STEAM_GUARD_CODE, STEAM_GUARD_STAGE
from jobs.titles import split_title
from servers.durations import describe_duration
from servers.models import DesiredState, Host, Run, Server, Upload, has_role
from servers.permissions import (
    HOST_OPERATION_VERBS,
    SERVER_OPERATION_VERBS,
    UNPACK_VERB,
    Person,
    Role,
    Verb,
    may,
)


class Operation(models.TextChoices):
    """What a job does. The column accepts any text: a job with an unknown operation fails and says so."""

    INSTALL = "install", gettext_lazy("Install the game")
    ROLLBACK = "rollback", gettext_lazy("Roll back the game")
    CHECK = "check", gettext_lazy("Check for updates")
    UNPACK = "unpack", gettext_lazy("Unpack upload")
    INITIALIZE = "initialize", gettext_lazy("Rebuild files")
    START = "start", gettext_lazy("Start")
    STOP = "stop", gettext_lazy("Stop")
    RESTART = "restart", gettext_lazy("Restart")
    RESET = "reset", gettext_lazy("Reset")
    DELETE = "delete", gettext_lazy("Delete files")


EXCLUSIVE_OPERATIONS = (Operation.INSTALL, Operation.ROLLBACK)
"""Operations on a whole host: such a job runs while no other job of its host does."""

HOST_OPERATIONS = (*EXCLUSIVE_OPERATIONS, Operation.CHECK, Operation.UNPACK)
"""Operations without a server. Checking for updates and unpacking touch no game: other jobs run beside them."""


STARTS = (Operation.START, Operation.RESTART)
"""Operations that leave a server running, with the settings saved at that time."""

ENDING_OPERATIONS = (Operation.STOP, Operation.RESET, Operation.DELETE)
"""Operations that leave a server down; each includes all the ones before it. No quota refuses them."""

FIRST_SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[A-Z“])")
"""What is between the first sentence of an error and the next one."""

DEFERRABLE = (Operation.STOP, Operation.RESTART)
"""Operations that disconnect players, and can wait until nobody is on the server."""


DESIRED_STATES: dict[str, DesiredState] = {
    Operation.START: DesiredState.RUNNING,
    Operation.RESTART: DesiredState.RUNNING,
    Operation.STOP: DesiredState.STOPPED,
    Operation.RESET: DesiredState.STOPPED,
    Operation.DELETE: DesiredState.STOPPED,
}
"""The desired state of a server, from the moment at which a job with this operation is claimed."""


class JobState(models.TextChoices):
    """Where a job is.

    `queued → running → succeeded | failed | cancelled`, and `queued → cancelled`; `running → queued` for a job
    that a worker has claimed and not begun: a job is running from its claim. No other transitions; the last
    three states are final.
    """

    QUEUED = "queued", gettext_lazy("queued")
    RUNNING = "running", gettext_lazy("running")
    SUCCEEDED = "succeeded", gettext_lazy("succeeded")
    FAILED = "failed", gettext_lazy("failed")
    CANCELLED = "cancelled", gettext_lazy("cancelled")


ACTIVE_STATES = (JobState.QUEUED, JobState.RUNNING)
FINAL_STATES = (JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED)
UNSUCCESSFUL_STATES = (JobState.FAILED, JobState.CANCELLED)


class LogStream(models.TextChoices):
    """The output of a command that a line came from."""

    STDOUT = "stdout", "stdout"
    STDERR = "stderr", "stderr"


class WorkerQuerySet(models.QuerySet["Worker"]):
    """Workers, by whether they are alive."""

    def alive(self) -> "WorkerQuerySet":
        """Return the workers that have not stopped and whose heartbeat is within the lease."""
        return self.filter(stopped_at=None, heartbeat_at__range=Worker.lease_limits())


class Worker(models.Model):
    """A `manage.py runjobs` process, past or present.

    Host, boot id, pid namespace, pid and start time together identify a process: a pid alone is reused.
    """

    host = models.ForeignKey(Host, models.CASCADE, related_name="workers")
    pid = models.PositiveIntegerField()
    boot_id = models.CharField(max_length=36)
    pid_namespace = models.CharField(max_length=32)
    process_started = models.PositiveBigIntegerField(
        help_text=gettext_lazy("Clock ticks after boot, as in /proc/PID/stat.")
    )
    concurrency = models.PositiveSmallIntegerField()
    is_claiming = models.BooleanField(default=True)
    version = models.CharField(max_length=32, blank=True)
    started_at = models.DateTimeField()
    heartbeat_at = models.DateTimeField(db_index=True)
    stopped_at = models.DateTimeField(null=True, blank=True)

    objects = WorkerQuerySet.as_manager()

    class Meta:
        ordering = ["-started_at"]

    def __str__(self) -> str:
        return f"worker {self.pid} on {self.host}"

    @classmethod
    def lease_limits(cls) -> tuple[datetime, datetime]:
        """Return the oldest and the newest heartbeat with which a worker counts as alive.

        Clocks of machines differ a little. A heartbeat from further ahead is one from before the clock was set
        back, and proves nothing.
        """
        now, lease = timezone.now(), timedelta(seconds=settings.JOB_WORKER_LEASE_SECONDS)
        return now - lease, now + lease

    @property
    def is_alive(self) -> bool:
        """Whether the worker has not stopped and its heartbeat is within the lease."""
        oldest, newest = self.lease_limits()
        return self.stopped_at is None and oldest <= self.heartbeat_at <= newest


class JobQuerySet(models.QuerySet["Job"]):
    """Jobs, by their state and by who may see them."""

    def queued(self) -> "JobQuerySet":
        """Return the jobs that wait, the oldest first."""
        return self.filter(state=JobState.QUEUED).order_by("created_at", "id")

    def running(self) -> "JobQuerySet":
        """Return the jobs that run."""
        return self.filter(state=JobState.RUNNING)

    def active(self) -> "JobQuerySet":
        """Return the jobs that wait or run."""
        return self.filter(state__in=ACTIVE_STATES, finished_at=None)

    def in_state(self, state: str) -> "JobQuerySet":
        """Return the jobs in one state: from the index by state, unless most jobs are in it."""
        jobs = self.filter(state=state)
        # A database uses that index only where a query says, as the index does, what is left out of it.
        return jobs if state == JobState.SUCCEEDED else jobs.exclude(state=JobState.SUCCEEDED)

    def finished(self) -> "JobQuerySet":
        """Return the jobs that are in a final state."""
        return self.filter(state__in=FINAL_STATES)

    def about_hosts(self) -> "JobQuerySet":
        """Return the jobs about a whole host: those that never were about a server or an upload."""
        return self.filter(server=None, server_name="", overlay_name="")

    def visible_to(self, user: Person) -> "JobQuerySet":
        """Return the jobs that `user` may see: those of the servers and hosts that they may see.

        A job outlives its server; then the person who requested it still sees it. Somebody who uploads
        something sees the job that unpacks it.
        """
        sees_servers, sees_hosts = may(user, Verb.VIEW), may(user, Verb.VIEW_HOSTS)
        if may(user, Verb.VIEW_ANY_JOB) or (sees_servers and sees_hosts):
            return self
        is_of_host = Q(server=None, server_name="", overlay_name="")
        if sees_servers:
            return self.exclude(is_of_host)
        is_own = Q(server=None, requested_by_id=user.pk) & ~is_of_host
        seen = has_role(user, Verb.VIEW, "server__") | is_own
        return self.filter(seen | is_of_host if sees_hosts else seen)


class Job(models.Model):
    """One request to carry out one operation, and its result.

    It has copies of the names of what it is about, so that the history outlives those rows.
    """

    operation = models.CharField(max_length=32)
    build_id = models.CharField(
        max_length=32, blank=True, help_text=gettext_lazy("Which build a rollback makes current.")
    )
    # No index for each relation, because each index is written twice for every job. The indexes below serve
    # them too, and finished jobs are looked up by host or worker only when that row is removed.
    server = models.ForeignKey(
        Server, models.SET_NULL, null=True, blank=True, related_name="jobs", db_index=False
    )
    host = models.ForeignKey(
        Host, models.SET_NULL, null=True, blank=True, related_name="jobs", db_index=False
    )
    requested_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.SET_NULL, null=True, blank=True, related_name="jobs"
    )
    upload = models.ForeignKey(
        Upload, models.SET_NULL, null=True, blank=True, related_name="jobs", db_index=False
    )
    server_name = models.CharField(max_length=32, blank=True)
    overlay_name = models.CharField(max_length=32, blank=True, default="", db_default="")
    host_name = models.CharField(max_length=32, blank=True)
    requested_by_name = models.CharField(max_length=150, blank=True)
    retry_of = models.ForeignKey(
        "self", models.SET_NULL, null=True, blank=True, related_name="retries"
    )
    run = models.ForeignKey(
        Run,
        models.SET_NULL,
        null=True,
        blank=True,
        related_name="jobs",
        db_index=False,
        help_text=gettext_lazy(
            "The run whose settings a start takes, in the place of those that are saved."
        ),
    )

    state = models.CharField(max_length=16, choices=JobState, default=JobState.QUEUED)
    exit_code = models.IntegerField(null=True, blank=True)
    error = models.TextField(blank=True, help_text=gettext_lazy("One line for people."))
    stage = models.CharField(max_length=120, blank=True)
    progress = models.PositiveSmallIntegerField(
        null=True, blank=True, help_text=gettext_lazy("Percent.")
    )
    worker = models.ForeignKey(
        Worker, models.SET_NULL, null=True, blank=True, related_name="jobs", db_index=False
    )
    cancel_requested_at = models.DateTimeField(null=True, blank=True)

    created_at = models.DateTimeField(default=timezone.now)
    started_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)
    updated_at = models.DateTimeField(auto_now=True)

    objects = JobQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]
        # Neither a claim nor a success changes an index in which each server has pages of its own: with 128
        # jobs as many pages would change, and all of them would go to the disk with the commit. Those that wait
        # or run are few, and share their pages. Jobs that succeeded are found among all jobs of their server,
        # because most do (docs/adr/0025).
        indexes = [
            models.Index(
                fields=["host", "created_at", "id"],
                condition=Q(state="queued"),
                name="queued_jobs_of_host",
            ),
            models.Index(
                fields=["host"], condition=Q(state="running"), name="running_jobs_of_host"
            ),
            models.Index(fields=["server", "id"], name="jobs_of_server"),
            models.Index(
                fields=["requested_by"], condition=Q(state="queued"), name="queued_jobs_of_person"
            ),
            # The lists of jobs are read from these (`jobs.pages.job_lists`).
            models.Index(
                fields=["server", "id"],
                condition=Q(finished_at__isnull=True),
                # `jobs/queue/scheduler.py` names it in a statement.
                name="unfinished_jobs_of_server",
            ),
            models.Index(
                fields=["server", "state", "id"],
                condition=Q(state__in=[state.value for state in UNSUCCESSFUL_STATES]),
                name="unsuccessful_jobs_of_server",
            ),
            models.Index(
                fields=["requested_by", "id"],
                condition=Q(server=None) & ~Q(server_name=""),
                name="jobs_of_removed_servers",
            ),
            models.Index(
                fields=["requested_by", "id"],
                condition=~Q(overlay_name=""),
                name="jobs_of_uploaders",
            ),
            models.Index(fields=["upload"], condition=~Q(upload=None), name="jobs_of_upload"),
            models.Index(
                fields=["state", "id"],
                condition=~Q(state="succeeded"),
                name="jobs_by_state",
            ),
            models.Index(fields=["-created_at", "-id"], name="jobs_by_age"),
            models.Index(fields=["updated_at"], name="jobs_by_change"),
            # Few jobs repeat a run, and runs are removed by the dozen.
            models.Index(fields=["run"], condition=~Q(run=None), name="jobs_of_run"),
        ]
        constraints = [
            models.CheckConstraint(
                condition=Q(state__in=[state.value for state in JobState]),
                name="job_state_is_known",
            ),
            models.CheckConstraint(
                condition=Q(progress=None) | Q(progress__lte=100), name="job_progress_is_percent"
            ),
            models.UniqueConstraint(
                fields=["server"], condition=Q(state="running"), name="one_running_job_per_server"
            ),
            models.UniqueConstraint(
                fields=["host"],
                condition=Q(
                    state="running", operation__in=[one.value for one in EXCLUSIVE_OPERATIONS]
                ),
                name="one_running_exclusive_job_per_host",
            ),
        ]

    def __str__(self) -> str:
        return f"#{self.pk} {self.operation} {self.subject}"

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Save the row; a new one gets its host, and the names of what it is about."""
        if self._state.adding:
            self.copy_names()
        super().save(*args, **kwargs)

    def get_absolute_url(self) -> str:
        """Return the address of the job's page."""
        return reverse("jobs:detail", args=[self.pk])

    def role_of(self, user: Person) -> Role | None:
        """Return the role that `user` has on its server, or on the overlay that it unpacks something for.

        Without such a role, the person who requested it is still a viewer.
        """
        if self.server:
            return self.server.role_of(user)
        if self.upload:
            role = self.upload.role_of(user)
            if role == Role.OWNER:
                return role
        is_own = self.requested_by_id == user.pk and bool(self.server_name or self.overlay_name)
        return Role.VIEWER if is_own else None

    @property
    def verb(self) -> Verb:
        """The permission needed to cancel it, or to request it again."""
        if self.operation == Operation.UNPACK:
            return UNPACK_VERB
        verbs = SERVER_OPERATION_VERBS if self.server_name else HOST_OPERATION_VERBS
        return verbs.get(self.operation, Verb.OPERATE)

    def copy_names(self) -> None:
        """Copy the names of a new job's server, overlay, host and requester. Sets the host if there is none."""
        if self.host is None:
            self.host = self.server.host if self.server else Host.local()
        self.host_name = self.host.name
        self.server_name = self.server.name if self.server else self.server_name
        self.overlay_name = self.upload.overlay.name if self.upload else self.overlay_name
        if self.requested_by:
            self.requested_by_name = self.requested_by.get_username()

    @property
    def operation_label(self) -> str:
        """The operation in words; an unknown operation as it is."""
        return label_operation(self.operation, self.run_id, self.build_id)

    @property
    def plain_label(self) -> str:
        """The operation in words, whether or not it is one of an earlier start."""
        return label_operation(self.operation, None, self.build_id)

    @property
    def title_parts(self) -> tuple[str, str]:
        """What `title` says before the name of what the job is about, and after it."""
        return split_title(self.operation, self.plain_label, as_it_was=self.run_id is not None)

    @property
    def title(self) -> str:
        """What the job does to what, such as “Install the game on local”."""
        return self.subject.join(self.title_parts)

    @property
    def result(self) -> str:
        """The sentence that a job which succeeded ends with, if its last stage is one."""
        is_said = self.state == JobState.SUCCEEDED and self.stage.endswith(".")
        return self.stage if is_said else ""

    @property
    def cause(self) -> str:
        """Why it failed, in the first sentence of its error; what it was doing if nothing says why.

        A sentence that begins with the server's name has it in quotes: many names are words too.
        """
        cause = split_cause(self.error)[0] or self.failed_at
        name = self.server_name
        return f"“{name}”{cause.removeprefix(name)}" if cause.startswith(f"{name} ") else cause

    @property
    def after_cause(self) -> str:
        """The sentences of its error after the cause: what follows from it, and what to do."""
        return split_cause(self.error)[1]

    @property
    def failed_at(self) -> str:
        """In which stage it failed and with which exit code, in words."""
        words = {"stage": self.stage, "code": self.exit_code}
        if self.exit_code is None:
            return _("Failed at “%(stage)s”") % words if self.stage else _("Failed")
        if self.stage:
            return _("Failed at “%(stage)s”, exit code %(code)d") % words
        return _("Failed, exit code %(code)d") % words

    @property
    def subject(self) -> str:
        """What the job is about: the name of its server, its overlay or its host."""
        return name_subject(self.server_name, self.overlay_name, self.host_name)

    @property
    def is_start(self) -> bool:
        """Whether it starts or restarts a server."""
        return self.operation in STARTS

    @property
    def is_active(self) -> bool:
        """Whether the job waits or runs."""
        return self.state in ACTIVE_STATES

    @property
    def is_final(self) -> bool:
        """Whether the job will never change again."""
        return self.state in FINAL_STATES

    @property
    def can_be_cancelled(self) -> bool:
        """Whether requesting cancellation would still change something."""
        return self.is_active and self.cancel_requested_at is None

    @property
    def asks_for_code(self) -> bool:
        """Whether it waits for somebody to enter a Steam Guard code on its page."""
        return (
            self.state == JobState.RUNNING
            and self.stage == STEAM_GUARD_STAGE
            and self.cancel_requested_at is None
        )

    @property
    def can_be_retried(self) -> bool:
        """Whether the job ended without success and what it is about still exists."""
        is_over = self.state in (JobState.FAILED, JobState.CANCELLED)
        if self.operation == Operation.UNPACK:
            return is_over and self.upload is not None and self.upload.can_be_tried
        has_subject = self.host_id is not None and (
            self.operation in HOST_OPERATIONS or self.server_id is not None
        )
        return is_over and has_subject and self.operation in Operation

    @property
    def duration_seconds(self) -> float | None:
        """How long the job ran, or has been running; None before it started."""
        if self.started_at is None:
            return None
        return ((self.finished_at or timezone.now()) - self.started_at).total_seconds()

    @property
    def duration_label(self) -> str:
        """How long the job ran, or has been running, in words; empty before it started."""
        seconds = self.duration_seconds
        return "" if seconds is None else describe_duration(seconds)

    def timed_stages(self) -> list["JobStage"]:
        """Return the stages in order, each with its end: when the next one began or the job ended."""
        stages = list(self.stages.all())
        for stage, following in zip_longest(stages, stages[1:]):
            stage.ended_at = following.started_at if following else self.finished_at
        return stages

    def last_seq(self) -> int:
        """Return the number of the log's last line so far; 0 for none."""
        last: int = self.logs.aggregate(last=models.Max("seq"))["last"] or 0
        return last


def split_cause(error: str) -> tuple[str, str]:
    """Return the first sentence of an error, and the others."""
    first, *others = FIRST_SENTENCE_END.split(error.strip(), maxsplit=1)
    return first, "".join(others)


def label_operation(operation: str, run_id: int | None, build_id: str) -> str:
    """Return what a job does, in words; an unknown operation as it is."""
    if operation not in Operation:
        return operation
    label = str(Operation(operation).label)
    if build_id:
        label = _("%(operation)s to build %(build)s") % {"operation": label, "build": build_id}
    return _("%(operation)s as it was") % {"operation": label} if run_id else label


def label_as_stored(operation: str, run_id: int | None, build_id: str) -> str:
    """Return the same for a row, which people read in any language: in the words of this module."""
    with override(None):
        return label_operation(operation, run_id, build_id)


def name_subject(server_name: str, overlay_name: str, host_name: str) -> str:
    """Return what a job is about: the name of its server, its overlay or its host."""
    return server_name or overlay_name or host_name


class DeferredAction(models.Model):
    """An operation to do once nobody plays on a server. `jobs.queue.deferrals` has its transitions.

    There is one per server. It waits until `until` at most. If it is not done, it stays as an answer to the
    person who requested it, with `ended_at` and the `outcome` in a sentence, until it is removed or replaced.
    """

    server = models.OneToOneField(Server, models.CASCADE, related_name="deferred_action")
    operation = models.CharField(max_length=32, choices=[(one, one.label) for one in DEFERRABLE])
    requested_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.SET_NULL, null=True, related_name="+"
    )
    requested_by_name = models.CharField(max_length=150, blank=True)
    until = models.DateTimeField()
    ended_at = models.DateTimeField(null=True)
    outcome = models.TextField(blank=True)
    created_at = models.DateTimeField(default=timezone.now)

    def __str__(self) -> str:
        return f"{self.operation} of {self.server} when it is empty"

    @property
    def is_waiting(self) -> bool:
        """Whether it may still be done."""
        return self.ended_at is None

    @property
    def operation_label(self) -> str:
        """The operation in words."""
        return str(Operation(self.operation).label)


class JobLog(models.Model):
    """One line of a job's output. `seq` counts 1, 2, 3 … without a gap."""

    job = models.ForeignKey(Job, models.CASCADE, related_name="logs", db_index=False)
    seq = models.PositiveBigIntegerField()
    stream = models.CharField(max_length=6, choices=LogStream)
    line = models.TextField()
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ["seq"]
        constraints = [
            models.UniqueConstraint(fields=["job", "seq"], name="log_seq_once_per_job"),
            models.CheckConstraint(
                condition=Q(stream__in=["stdout", "stderr"]), name="log_stream_is_known"
            ),
        ]

    def __str__(self) -> str:
        return self.line


class JobStage(models.Model):
    """Where in a job's log a stage began: at line `first_seq`, which may not exist yet.

    A stage without lines begins where the next one does; the ids give their order.
    """

    job = models.ForeignKey(Job, models.CASCADE, related_name="stages", db_index=False)
    name = models.CharField(max_length=120)
    first_seq = models.PositiveBigIntegerField()
    started_at = models.DateTimeField()

    ended_at: datetime | None = None
    """When it ended; set by `Job.timed_stages`."""

    class Meta:
        ordering = ["id"]
        indexes = [models.Index(fields=["job", "first_seq"], name="stages_of_job")]

    def __str__(self) -> str:
        return self.name

    @property
    def duration_label(self) -> str:
        """How long it took, or has taken so far, in words."""
        ended_at = self.ended_at or timezone.now()
        return describe_duration((ended_at - self.started_at).total_seconds())


class SteamGuardCode(models.Model):
    """A code that a person has entered for a running job, kept for the seconds until the job takes it.

    Nobody sees it again: no page shows it, and it is not logged. A code that is not taken is void after
    `VALID_FOR`, and deleted at the latest when the next one is entered.
    """

    VALID_FOR = timedelta(minutes=2)

    job = models.OneToOneField(Job, models.CASCADE, primary_key=True, related_name="+")
    code = models.CharField(max_length=8)
    created_at = models.DateTimeField()

    def __str__(self) -> str:
        return f"a code for {self.job}"

    @classmethod
    def offer(cls, job: Job, text: str) -> None:
        """Store an entered code in place of an earlier one. Raises ValueError if it cannot be a code."""
        code = text.strip().upper()
        if not STEAM_GUARD_CODE.fullmatch(code):
            raise ValueError(_("A Steam Guard code has five letters and digits."))
        now = timezone.now()
        cls.objects.filter(created_at__lt=now - cls.VALID_FOR).delete()
        cls.objects.update_or_create(job=job, defaults={"code": code, "created_at": now})

    @classmethod
    def take(cls, job_id: int) -> str:
        """Return the code entered for a job, and delete it; empty if there is none or it is void."""
        row = cls.objects.filter(job=job_id).first()
        if row is None:
            return ""
        # Not a newer code that has just replaced it: the next call takes that one.
        is_taken, _rows = cls.objects.filter(job=job_id, created_at=row.created_at).delete()
        is_valid = timezone.now() - row.created_at < cls.VALID_FOR
        return row.code if is_taken and is_valid else ""
