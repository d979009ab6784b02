"""Jobs, their logs and the workers in the Django admin, read-only."""

from datetime import datetime
from typing import Any

from django.contrib import admin
from django.db.models import Model, QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.formats import date_format
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.text import Truncator
from django.utils.timezone import localtime
from django.utils.translation import gettext, gettext_lazy

from jobs.models import Job, JobLog, JobState, Operation, Worker
from servers.permissions import Verb, follows_everything, may

ERROR_CHARS = 120
"""How much of an error the list of jobs shows; its page has all of it."""


def format_time(time: datetime) -> str:
    """Return a time in text that a narrow column can break; Django's own never does, and is cut off."""
    return date_format(localtime(time), "j M Y, H:i")


class ReadOnly:
    """Rows that machines write and people only read."""

    def has_add_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:  # noqa: ARG002
        """Refuse."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:  # noqa: ARG002
        """Refuse."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:  # noqa: ARG002
        """Refuse."""
        return False


class OfVisibleJobs:
    """Rows of jobs, for staff who may see any: the same ones that the panel's pages show them."""

    of_jobs: str
    """The lookup from these rows to the ids of their jobs."""

    def has_view_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:  # noqa: ARG002
        """Return whether the user may see any."""
        return follows_everything(request.user)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """Return the rows that the user may see."""
        rows: QuerySet[Any] = super().get_queryset(request)  # type: ignore[misc]
        visible = Job.objects.visible_to(request.user)
        if not visible.query.has_filters():
            return rows  # There may be millions of lines: no need to look up the job of each.
        return rows.filter(**{f"{self.of_jobs}__in": visible.order_by().values("pk")})


class OperationFilter(admin.SimpleListFilter):
    """Filters by operation; the column itself has no choices."""

    title = "operation"
    parameter_name = "operation"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:  # noqa: ARG002
        """Return the known operations."""
        return [(operation.value, str(operation.label)) for operation in Operation]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:  # noqa: ARG002
        """Return the jobs with the chosen operation."""
        return queryset.filter(operation=self.value()) if self.value() else queryset


@admin.register(Job)
class JobAdmin(OfVisibleJobs, ReadOnly, admin.ModelAdmin):  # type: ignore[type-arg]
    """All jobs. Each links to its own page, with the live log and the actions."""

    of_jobs = "pk"

    list_display = [
        "page",
        "what",
        "about",
        "how_far",
        "asked_by",
        "requested_at",
        "ended_at",
    ]
    list_display_links = None
    list_filter = ["state", OperationFilter]
    search_fields = ["=id", "server_name", "overlay_name", "host_name", "requested_by_name"]
    ordering = ["-id"]
    show_full_result_count = False

    @admin.display(description=gettext_lazy("job"), ordering="id")
    def page(self, job: Job) -> SafeString:
        """Link to the job's page."""
        return format_html('<a href="{}">#{}</a>', job.get_absolute_url(), job.pk)

    @admin.display(description=gettext_lazy("operation"), ordering="operation")
    def what(self, job: Job) -> str:
        """Return the operation in words."""
        return job.operation_label

    @admin.display(description=gettext_lazy("subject"), ordering="server_name")
    def about(self, job: Job) -> str:
        """Return what it is about, and on which host that is."""
        if job.subject == job.host_name:
            return job.subject
        return gettext("%(subject)s on %(host)s") % {"subject": job.subject, "host": job.host_name}

    @admin.display(description=gettext_lazy("state"), ordering="state")
    def how_far(self, job: Job) -> str:
        """Return the state, with the stage and the progress of a running job or why one failed."""
        more = ""
        if job.state == JobState.RUNNING and job.stage:
            more = job.stage if job.progress is None else f"{job.stage} {job.progress} %"
        elif job.state == JobState.FAILED:
            more = Truncator(job.error).chars(ERROR_CHARS)
        return f"{job.get_state_display()}: {more}" if more else job.get_state_display()

    @admin.display(description=gettext_lazy("requested by"), ordering="requested_by_name")
    def asked_by(self, job: Job) -> str:
        """Return who requested it."""
        return job.requested_by_name

    @admin.display(description=gettext_lazy("requested at"), ordering="created_at")
    def requested_at(self, job: Job) -> str:
        """Return when it was requested."""
        return format_time(job.created_at)

    @admin.display(description=gettext_lazy("ended at"), ordering="finished_at")
    def ended_at(self, job: Job) -> str:
        """Return when it ended; nothing of a job that has not."""
        return format_time(job.finished_at) if job.finished_at else ""

    def view_on_site(self, job: Job) -> str:
        """Return the address of the job's page."""
        return reverse("jobs:detail", args=[job.pk])


@admin.register(JobLog)
class JobLogAdmin(OfVisibleJobs, ReadOnly, admin.ModelAdmin):  # type: ignore[type-arg]
    """Log lines of all jobs; search by a job's number."""

    of_jobs = "job_id"

    list_display = ["job_id", "seq", "stream", "line", "created_at"]
    search_fields = ["=job__id"]
    search_help_text = gettext_lazy("The number of a job")
    ordering = ["-id"]
    show_full_result_count = False


@admin.register(Worker)
class WorkerAdmin(ReadOnly, admin.ModelAdmin):  # type: ignore[type-arg]
    """The worker processes, past and present."""

    list_display = ["pid", "host", "alive", "is_claiming", "concurrency", "started_at", "beat"]
    list_filter = ["host"]
    list_select_related = ["host"]

    def has_view_permission(self, request: HttpRequest, obj: Worker | None = None) -> bool:  # noqa: ARG002
        """Return whether the user may see hosts."""
        return may(request.user, Verb.VIEW_HOSTS)

    @admin.display(boolean=True)
    def alive(self, worker: Worker) -> bool:
        """Return whether the worker has not stopped and its heartbeat is within the lease."""
        return worker.is_alive

    @admin.display(description=gettext_lazy("last heartbeat"), ordering="heartbeat_at")
    def beat(self, worker: Worker) -> Any:
        """Return when the worker last sent a heartbeat."""
        return worker.heartbeat_at
