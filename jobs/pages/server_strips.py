"""The strip on a server's pages: what its job does, and for a while what the last one did."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db.models import OuterRef, Subquery
from django.db.models.functions import Coalesce
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_POST

from jobs.models import STARTS, Job, JobLog, JobStage, JobState, LogStream, Operation
from jobs.pages.ways_back import read_next_page, see_other
from jobs.queue import explain_waiting
from servers.access import SignedInRequest, get_server_or_404, sign_in_required
from servers.config import find_way_back
from servers.content import MissingMap, find_missing_map
from servers.models import ActualState, Crash, Run, Server
from servers.permissions import Person, may

HEADLINES = {
    JobState.QUEUED: gettext_lazy("%(operation)s waits"),
    JobState.RUNNING: gettext_lazy("%(operation)s runs"),
    JobState.SUCCEEDED: gettext_lazy("%(operation)s finished"),
    JobState.CANCELLED: gettext_lazy("%(operation)s was cancelled"),
    JobState.FAILED: gettext_lazy("%(operation)s failed"),
}
"""What a strip of one line says of a job, by its state. Its `line` follows, or when it ended."""

LINES_OF_FAILURE = 8
NEWS_FOR = timedelta(minutes=2)
"""How long a job that did not fail is told after its end. The head tells the state that it has led to."""

ENDED_STAGES = ("Stopping", "Writing files", "Preparing", "Starting")
"""The stages of a restart from the moment in which the server is told to quit, in the host layer's words."""

DISMISSED = "dismissed_failures"
"""In a session: the ids of failed jobs that somebody has read, by the ids of their servers."""

MOST_DISMISSED = 100


@dataclass(frozen=True)
class Remedy:
    """What to do about a failed start that another try would not mend; its reason may be a `missing_map`."""

    label: str
    url: str
    missing_map: MissingMap | None = None


@dataclass(frozen=True)
class Strip:
    """What a server's pages show of its jobs: the running one, else the next one, else the last one.

    `waiting` is what a queued one waits for; `behind_count` jobs of the server wait behind it. A failed start
    `is_overcome` if the server runs all the same. A cancelled restart `has_left_down` a server that it had
    stopped.
    """

    job: Job
    is_in_hand: bool
    waiting: str = ""
    behind_count: int = 0
    failure_lines: tuple[JobLog, ...] = ()
    way_back: Run | None = None
    is_overcome: bool = False
    has_left_down: bool = False
    remedy: Remedy | None = None

    @property
    def headline(self) -> str:
        """What the job does or has come to, in one line; a colon leads to `line`."""
        headline = str(HEADLINES[JobState(self.job.state)]) % {
            "operation": self.job.operation_label
        }
        return f"{headline}:" if self.line else headline

    @property
    def line(self) -> str:
        """What is important about the job, for one line: how far it is, what it waits for, or why it failed."""
        if self.job.state == JobState.RUNNING:
            return self.job.stage
        if self.has_left_down:
            return _("The server was stopped already.")
        if self.job.state == JobState.FAILED:
            return self.job.cause
        return self.waiting or self.job.error

    @property
    def has_ended_run(self) -> bool:
        """Whether the job ends what the server ran, or has ended it, so that nobody is on any longer."""
        is_restart = self.job.operation == Operation.RESTART
        stages = ENDED_STAGES if is_restart else ENDED_STAGES[:1]
        return self.job.state == JobState.RUNNING and self.job.stage in stages

    @property
    def is_starting(self) -> bool:
        """Whether the job is starting the server."""
        return self.job.state == JobState.RUNNING and self.job.operation in STARTS

    @property
    def can_be_cancelled(self) -> bool:
        """Whether the user may still cancel the job."""
        return self.is_in_hand and self.job.can_be_cancelled

    @property
    def can_be_retried(self) -> bool:
        """Whether the user may request the failed job again, and that may help."""
        has_failed = self.job.state == JobState.FAILED and self.job.can_be_retried
        return self.is_in_hand and has_failed and not self.is_overcome and not self.remedy

    @property
    def has_next_step(self) -> bool:
        """Whether its own button is the one that helps most, so that no other on the page is as prominent."""
        return bool(self.remedy) or self.can_be_retried

    @property
    def missing_map(self) -> MissingMap | None:
        """The map that there is not, if the job failed because of it."""
        return self.remedy.missing_map if self.remedy else None


def read_strip(user: Person, server: Server) -> Strip | None:
    """Return the strip about a server's jobs; None if it never had one."""
    active = sorted(
        server.jobs.active().select_related("host", "server", "run"),
        key=lambda job: (job.state != JobState.RUNNING, job.pk),
    )
    job = active[0] if active else server.jobs.select_related("run").first()
    if job is None:
        return None
    job.server = server
    is_in_hand = may(user, job.verb, server)
    if job.state == JobState.QUEUED:
        return Strip(job, is_in_hand, explain_waiting(job), len(active) - 1)
    if job.state != JobState.FAILED:
        return Strip(
            job,
            is_in_hand,
            behind_count=max(len(active) - 1, 0),
            has_left_down=has_left_down(job, server),
        )
    is_way_back_wanted = job.operation in STARTS and not server.is_up and is_in_hand
    return Strip(
        job,
        is_in_hand,
        failure_lines=read_failure_lines(job),
        way_back=find_way_back(server) if is_way_back_wanted else None,
        is_overcome=job.operation in STARTS and server.actual_state == ActualState.RUNNING,
        remedy=find_remedy(server, job),
    )


def has_left_down(job: Job, server: Server) -> bool:
    """Return whether a restart was cancelled after it had stopped its server, which is still down."""
    is_cut_short = job.operation == Operation.RESTART and job.state == JobState.CANCELLED
    return is_cut_short and job.started_at is not None and server.is_down


def read_failure_lines(job: Job) -> tuple[JobLog, ...]:
    """Return the last lines of a failed job's log that may say more about the failure than its error does.

    They are those of the stage in which it failed, and of earlier ones what went to standard error.
    """
    newest = JobStage.objects.filter(job=OuterRef("job")).order_by("-first_seq", "-pk")
    began = Coalesce(Subquery(newest.values("first_seq")[:1]), 0)
    lines = job.logs.annotate(stage_began=began).order_by("-seq")[:LINES_OF_FAILURE]
    told = [
        line
        for line in reversed(lines)
        if (line.seq >= line.stage_began or line.stream == LogStream.STDERR)
        and (not job.error or line.line.strip() not in job.error)
    ]
    # A heading of lines that the error contains.
    while told and told[-1].line.rstrip().endswith(":"):
        told.pop()
    return tuple(told)


def find_remedy(server: Server, job: Job) -> Remedy | None:
    """Return what has to be changed before a failed start can succeed; None if another try may."""
    if job.operation not in STARTS or job.run_id:
        return None
    if missing_map := find_missing_map(server, job.error):
        url = reverse("jobs:map", args=[server.name])
        return Remedy(_("Change the map"), f"{url}#choose-heading", missing_map)
    if server.spec_faults:
        return Remedy(_("Edit the server"), reverse("servers:edit", args=[server.name]))
    return None


def is_news(strip: Strip, dismissed: Iterable[int], up_since: datetime | None) -> bool:
    """Return whether a strip is still worth its place: a job that is not over, or whose end is news.

    The end of a failed job is news until somebody has read it, or the server has been started since. A start
    that succeeded is no news once the server has crashed.
    """
    job = strip.job
    if job.is_active or job.finished_at is None:
        return True
    if job.state != JobState.FAILED:
        is_recent = timezone.now() - job.finished_at < NEWS_FOR
        return is_recent and not (job.operation in STARTS and has_crashed_since(job))
    return job.pk not in dismissed and not (up_since and up_since > job.finished_at)


def has_crashed_since(job: Job) -> bool:
    """Return whether the server of a job that is over has crashed after it."""
    crashes = Crash.objects.filter(server=job.server, at__gte=job.finished_at)
    return crashes.exists()


def is_told(server: Server, strip: Strip | None) -> bool:
    """Return whether the strip tells the server's last error, which contains its job's error, or did so."""
    return bool(strip and strip.job.error and strip.job.error in server.last_error)


def read_dismissed(request: HttpRequest) -> Iterable[int]:
    """Return the ids of the failed jobs that the user has read."""
    dismissed: dict[str, int] = request.session.get(DISMISSED, {})
    return dismissed.values()


@require_POST
@sign_in_required
def failure_dismiss(request: SignedInRequest, name: str) -> HttpResponse:
    """Take the strip about a server's failed job off the pages of the user who has read it."""
    server = get_server_or_404(request.user, name)
    strip = read_strip(request.user, server)
    if strip and strip.job.state == JobState.FAILED:
        kept: dict[str, int] = request.session.get(DISMISSED, {})
        kept = {key: pk for key, pk in kept.items() if key != str(server.pk)}
        newest = list(kept.items())[1 - MOST_DISMISSED :]
        request.session[DISMISSED] = dict(newest) | {str(server.pk): strip.job.pk}
    return see_other(read_next_page(request) or server.get_absolute_url())
