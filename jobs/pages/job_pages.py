"""The pages of jobs, and the views that request jobs. What pages follow live is in `jobs.live.streams`."""

from datetime import timedelta
from http import HTTPStatus

from django.contrib import messages
from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, StreamingHttpResponse
from django.shortcuts import get_object_or_404, render
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_POST, require_safe

from jobs import queue
from jobs.models import (
    ACTIVE_STATES,
    STARTS,
    Job,
    JobLog,
    JobState,
    Operation,
    SteamGuardCode,
)
from jobs.pages.content_refusals import accepts_conflicts, show_conflicts
from jobs.pages.job_lists import parse_id, read_newest
from jobs.pages.server_strips import Remedy, find_remedy, read_failure_lines
from jobs.pages.ways_back import read_next_page, see_other
from jobs.queue import explain_waiting
from servers.access import SignedInRequest, get_server, get_server_or_404, require, sign_in_required
from servers.config import find_way_back
from servers.logs import LogPage, RowLog, read_log_page, send_text
from servers.models import Run, Server
from servers.pages import choose_renewal, needs_log
from servers.permissions import SERVER_OPERATION_VERBS, Verb, may
from servers.refusals import refuse, wants_json

JOBS_PER_PAGE = 50
LINES_PER_CHUNK = 1_000
DEFERRED_HOURS = 12
MOST_DEFERRED_HOURS = 168


def get_job_or_404(user: User, pk: int) -> Job:
    """Return the job with what it is about, if `user` may see it."""
    related = ("server__host", "server__blueprint", "host", "retry_of", "run")
    jobs = Job.objects.visible_to(user).select_related(*related)
    return get_object_or_404(jobs, pk=pk)


def refuse_request(
    request: SignedInRequest, refusal: queue.RequestRefused, back_to: str
) -> HttpResponse:
    """Answer why a request is not queued, with the ways out where there are any."""
    if isinstance(refusal, queue.ContentRefused) and not wants_json(request):
        return show_conflicts(request, refusal, back_to)
    is_flood = isinstance(refusal, queue.TooManyWaiting)
    status = HTTPStatus.TOO_MANY_REQUESTS if is_flood else HTTPStatus.CONFLICT
    return refuse(request, str(refusal), back_to, status)


# --- Pages ------------------------------------------------------------------------------------


@require_safe
@sign_in_required
def job_list(request: SignedInRequest) -> HttpResponse:
    """List the jobs that the user may see, newest first."""
    state = request.GET.get("state", "")
    choices = {"active": ACTIVE_STATES, **{one: (one,) for one in JobState.values}}
    if state not in choices:
        state = ""
    # Pages by id, not by number: they stay the same while jobs come in, and cost the same at any depth.
    before = parse_id(request.GET.get("before", ""))
    states = choices.get(state, JobState.values)
    shown = read_newest(request.user, states, before, JOBS_PER_PAGE + 1)
    context = {
        "jobs": shown[:JOBS_PER_PAGE],
        "older_before": shown[JOBS_PER_PAGE - 1].pk if len(shown) > JOBS_PER_PAGE else None,
        "is_newest": before is None,
        "state": state,
        "states": list(choices),
        "renewal": choose_renewal(is_running=any(job.is_active for job in shown), has_form=False),
    }
    return render(request, "jobs/list.html", context)


@require_safe
@sign_in_required
def job_detail(request: SignedInRequest, pk: int) -> HttpResponse:
    """Show one job: its state, its latest output, and what can be done about it."""
    job = get_job_or_404(request.user, pk)
    has_failed = job.state == JobState.FAILED
    log = LogPage()
    if needs_log(request):
        log = read_log_page(RowLog(job.logs.all(), job.timed_stages()), request)
    if log.search and log.must_jump:
        return HttpResponseRedirect(f"{job.get_absolute_url()}{log.search.first_url}")
    context = {
        "job": job,
        "is_in_hand": may(request.user, job.verb, job),
        "log": log,
        "failure_lines": read_failure_lines(job) if has_failed else (),
        "waiting": explain_waiting(job) if job.state == JobState.QUEUED else "",
        "retries": job.retries.order_by("id"),
        "way_back": find_way_back_of(request.user, job),
        "remedy": find_remedy_of(request.user, job),
        "renewal": choose_renewal(
            is_running=job.is_active, has_form=job.asks_for_code or bool(request.GET)
        ),
    }
    return render(request, "jobs/detail.html", context)


def find_remedy_of(user: User, job: Job) -> Remedy | None:
    """Return what `user` may change so that the failed `job` can succeed; None if another try may succeed."""
    if (
        job.state != JobState.FAILED
        or job.server is None
        or not may(user, Verb.CONFIGURE, job.server)
    ):
        return None
    return find_remedy(job.server, job)


def find_way_back_of(user: User, job: Job) -> Run | None:
    """Return the run that `user` may repeat after `job` failed to start its server; None if there is none."""
    has_failed = job.operation in STARTS and job.state == JobState.FAILED
    server = job.server
    if not has_failed or server is None or server.is_up or not may(user, job.verb, job):
        return None
    return find_way_back(server)


@require_safe
@sign_in_required
def job_log(request: SignedInRequest, pk: int) -> StreamingHttpResponse:
    """Send the whole log as text; lines that come during the download are left out."""
    job = get_job_or_404(request.user, pk)
    stored = job.logs.filter(seq__lte=job.last_seq()).order_by("seq")

    def read(after: int) -> tuple[str, int | None]:
        lines = list(stored.filter(seq__gt=after)[:LINES_PER_CHUNK])
        return format_lines(lines), lines[-1].seq if lines else None

    return send_text(request, read, f"saferoom-job-{job.pk}.txt")


def format_lines(lines: list[JobLog]) -> str:
    """Return one line of text for each line of the log: its time, its stream and its text."""
    return "".join(
        f"{line.created_at.isoformat(timespec='milliseconds')} {line.stream} {line.line}\n"
        for line in lines
    )


# --- Changes ----------------------------------------------------------------------------------


@require_POST
@sign_in_required
def job_create(request: SignedInRequest, name: str) -> HttpResponse:
    """Request an operation on a server, and redirect to its job: a new one, or an existing one.

    A start uses the saved settings or, with `run`, those of that run. With `when=empty` the job is made once
    nobody is on the server. It is refused for overlays that do not work as they are, unless somebody who may
    configure the server wants it `despite_conflicts`. If the form says how many `people` its page showed and
    there are more by now, the user is asked again. With `next`, redirects there instead.
    """
    server = get_server_or_404(request.user, name)
    operation = request.POST.get("operation", "")
    require(request.user, SERVER_OPERATION_VERBS.get(operation, Verb.OPERATE), server)
    back_to = read_next_page(request) or server.get_absolute_url()
    run = None
    if operation == Operation.START and "run" in request.POST:
        run = server.runs.filter(pk=parse_id(request.POST["run"]) or 0).first()
        if run is None:
            text = _(
                "What %(server)s was started with then is no longer stored. Start it with what is"
                " saved."
            ) % {"server": server.name}
            return refuse(request, text, back_to, HTTPStatus.CONFLICT)
    if request.POST.get("when") == "empty":
        return defer(request, server, operation, back_to)
    if has_more_people(request, server):
        return ask(request, server, operation, back_to)
    try:
        requested = queue.request(
            operation,
            server=server,
            requested_by=request.user,
            run=run,
            accepts_conflicts=accepts_conflicts(request, server),
        )
    except queue.RequestRefused as refusal:
        return refuse_request(request, refusal, back_to)
    return lead_to(request, requested)


def has_more_people(request: HttpRequest, server: Server) -> bool:
    """Return whether more people are, or may be, on a server than the page showed when the user clicked."""
    shown = parse_id(request.POST.get("people", ""))
    return shown is not None and server.count_people() > shown


def ask(
    request: HttpRequest, server: Server, operation: str, back_to: str, *, is_saved: bool = False
) -> HttpResponse:
    """Ask whether to disconnect the people who are, or may be, on a server, which was perhaps just saved."""
    context = {"server": server, "operation": operation, "here": back_to, "is_saved": is_saved}
    return render(request, "servers/ask.html", context, status=HTTPStatus.CONFLICT)


def defer(request: SignedInRequest, server: Server, operation: str, back_to: str) -> HttpResponse:
    """Defer an operation until nobody is on a server, for at most as many `hours` as the form says."""
    hours = min(parse_id(request.POST.get("hours", "")) or DEFERRED_HOURS, MOST_DEFERRED_HOURS)
    until = timezone.now() + timedelta(hours=hours)
    try:
        queue.defer(
            operation,
            server=server,
            requested_by=request.user,
            until=until,
            accepts_conflicts=accepts_conflicts(request, server),
        )
    except queue.RequestRefused as refusal:
        return refuse_request(request, refusal, back_to)
    return see_other(back_to)


@require_POST
@sign_in_required
def deferred_forget(request: SignedInRequest, name: str) -> HttpResponse:
    """Cancel what waits until nobody is on a server, or dismiss the note that it was not done."""
    server = get_server(request.user, name, Verb.OPERATE)
    if not queue.forget_deferral(server):
        messages.info(request, _("Nothing is waiting there any longer: it was done or cancelled."))
    return see_other(read_next_page(request) or server.get_absolute_url())


@require_POST
@sign_in_required
def job_retry(request: SignedInRequest, pk: int) -> HttpResponse:
    """Request a failed or cancelled job's operation again, and redirect to the new job."""
    job = get_job_or_404(request.user, pk)
    require(request.user, job.verb, job)
    try:
        requested = queue.retry(job, requested_by=request.user)
    except queue.RequestRefused as refusal:
        return refuse_request(request, refusal, read_next_page(request) or job.get_absolute_url())
    return lead_to(request, requested)


def lead_to(request: HttpRequest, requested: queue.Requested) -> HttpResponse:
    """Redirect to the job that answers a request, and say so if it already existed."""
    job = requested.job
    if not requested.is_new:
        is_waiting = job.state == JobState.QUEUED
        if read_next_page(request) and is_waiting:
            text = _("“%(title)s” is already waiting: it is job %(job)s. No second job was made.")
        elif read_next_page(request):
            text = _("“%(title)s” is already running: it is job %(job)s. No second job was made.")
        elif is_waiting:
            text = _("“%(title)s” is already waiting: this is its job. No second job was made.")
        else:
            text = _("“%(title)s” is already running: this is its job. No second job was made.")
        messages.info(request, text % {"title": job.title, "job": job.pk})
    return see_other(read_next_page(request) or job.get_absolute_url())


@require_POST
@sign_in_required
def job_cancel(request: SignedInRequest, pk: int) -> HttpResponse:
    """Cancel a waiting job, or ask the worker of a running one to end it."""
    job = get_job_or_404(request.user, pk)
    require(request.user, job.verb, job)
    was_final = job.is_final
    job = queue.cancel(job)
    if was_final:
        messages.info(
            request,
            _("Job %(job)s had already ended: %(state)s.")
            % {"job": job.pk, "state": job.get_state_display()},
        )
    elif job.is_final:
        messages.success(
            request,
            _("Job %(job)s is %(state)s.") % {"job": job.pk, "state": job.get_state_display()},
        )
    else:
        messages.success(request, _("The worker was told to end job %(job)s.") % {"job": job.pk})
    return see_other(read_next_page(request) or job.get_absolute_url())


@sensitive_post_parameters("code")
@require_POST
@sign_in_required
def job_steam_guard_code(request: SignedInRequest, pk: int) -> HttpResponse:
    """Pass a Steam Guard code to a running job that waits for one."""
    job = get_job_or_404(request.user, pk)
    require(request.user, job.verb, job)
    if not job.asks_for_code:
        reason = _(
            "Job %(job)s is not waiting for a Steam Guard code. Nothing was sent to Steam."
        ) % {"job": job.pk}
        return refuse(request, reason, job.get_absolute_url())
    try:
        SteamGuardCode.offer(job, request.POST.get("code", ""))
    except ValueError as error:
        messages.error(request, str(error))
    else:
        messages.success(request, _("The code is on its way to Steam."))
    return see_other(read_next_page(request) or job.get_absolute_url())
