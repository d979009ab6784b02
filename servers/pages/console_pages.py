"""The page of a server's console: its runs, and a search over all of them; and the console as text."""

from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from django.http import HttpRequest, StreamingHttpResponse
from django.shortcuts import get_object_or_404
from django.views.decorators.http import require_safe

from servers.access import SignedInRequest, get_server_or_404, sign_in_required
from servers.console import Console
from servers.logs import (
    LogPage,
    Search,
    read_log_page,
    read_wanted,
    send_text,
    to_seq,
    turns,
)
from servers.models import ConsoleRun, Server, StoredLine
from servers.pages.live import needs_log

RUNS_SHOWN = 20
MATCHES_SHOWN = 100
LINES_PER_CHUNK = 5_000


@dataclass(frozen=True)
class Chapter:
    """A run as the page lists it, with its kept lines from `first_seq` to `last_seq`."""

    run: ConsoleRun
    first_seq: int
    last_seq: int

    @property
    def line_count(self) -> int:
        """How many of its lines are kept."""
        return max(0, self.last_seq - self.first_seq + 1)


@dataclass(frozen=True)
class Match:
    """A line that a search has found, and the address that shows it among its neighbours."""

    line: StoredLine
    url: str


@dataclass(frozen=True)
class RunMatches:
    """What a search has found in one run; with None, before the first run that is kept."""

    run: ConsoleRun | None
    matches: list[Match]


def read_console_page(request: HttpRequest, server: Server) -> dict[str, Any]:
    """Return the context of the console page: a server's runs, and its lines or the matches of a search."""
    console = Console(server.pk)
    text = read_wanted(request.GET)
    is_search = bool(text) and to_seq(request.GET.get("line")) is None
    context: dict[str, Any] = {
        **list_chapters(console, to_seq(request.GET.get("runs_before"))),
        "is_search": is_search,
        "console": LogPage(),
    }
    if is_search and needs_log(request):
        context |= find_matches(console, text, request)
    elif needs_log(request):
        context["console"] = read_log_page(console, request)
    return context


def list_chapters(console: Console, before: int | None) -> dict[str, Any]:
    """Return the newest runs for the page, or those before the run `before`; and whether there are more."""
    runs = console.runs().order_by("-first_seq", "-id")
    end = console.last_seq() + 1
    if before:
        mark = ConsoleRun.objects.filter(server_id=console.server_id, pk=before).first()
        if mark:
            runs = runs.filter(first_seq__lte=mark.first_seq, pk__lt=mark.pk)
            end = mark.first_seq
    shown = list(runs[: RUNS_SHOWN + 1])
    first_seq = console.first_seq()
    chapters = []
    for run in shown[:RUNS_SHOWN]:
        chapters.append(Chapter(run, max(run.first_seq, first_seq), end - 1))
        end = run.first_seq
    has_older = len(shown) > RUNS_SHOWN
    return {
        "chapters": chapters,
        "runs_before": shown[RUNS_SHOWN - 1].pk if has_older else None,
        "has_newer_runs": before is not None,
    }


def find_matches(console: Console, text: str, request: HttpRequest) -> dict[str, Any]:
    """Return the matches of a search for the page: the newest ones, or those before a line."""
    before = to_seq(request.GET.get("matches_before"))
    with turns.taken(request) as turn:
        found = console.find(text, before, MATCHES_SHOWN, turn)
    groups: list[RunMatches] = []
    runs = console.chapters(found.lines[-1].seq, found.lines[0].seq) if found.lines else []
    search = Search(text, found.count)
    for line in found.lines:
        while runs and runs[-1].first_seq > line.seq:
            runs.pop()
        run = runs[-1] if runs else None
        if not groups or run != groups[-1].run:
            groups.append(RunMatches(run, []))
        groups[-1].matches.append(Match(line, search.url(line.seq)))
    older = {"q": text, "matches_before": found.go_on_before} if found.go_on_before else None
    return {
        "search": search,
        "runs_with_matches": groups,
        "older_matches": f"?{urlencode(older)}" if older else "",
        "found": found,
        "is_newest": before is None,
    }


# --- The console as a file --------------------------------------------------------------------


@require_safe
@sign_in_required
def console_text(request: SignedInRequest, name: str) -> StreamingHttpResponse:
    """Send the console as text, or one run of it with `?run=`."""
    server = get_server_or_404(request.user, name)
    console = Console(server.pk)
    after, last, label = 0, console.last_seq(), "console"
    if "run" in request.GET:
        run = get_object_or_404(console.runs(), pk=to_seq(request.GET["run"]))
        later = console.runs().filter(pk__gt=run.pk).first()
        after, last = run.first_seq - 1, later.first_seq - 1 if later else last
        label = f"run-{run.started_at:%Y%m%d-%H%M%S}"

    def read(position: int) -> tuple[str, int | None]:
        lines = console.read_after(position, LINES_PER_CHUNK, last)
        if not lines:
            return "", None
        chapters = console.chapters(lines[0].seq, lines[-1].seq)
        begun = [run for run in chapters if run.first_seq > position]
        return format_lines(lines, begun), lines[-1].seq

    return send_text(request, read, f"saferoom-{server.name}-{label}.txt", after)


def format_lines(lines: list[StoredLine], runs: list[ConsoleRun]) -> str:
    """Return one line of text for each line, and a heading before the first of each run."""
    heads = {run.first_seq: run for run in runs}
    texts = []
    for line in lines:
        if run := heads.get(line.seq):
            build = f", build {run.build_id}" if run.build_id else ""
            texts.append(f"==== {run.name}{build}: {run.outcome} ====\n")
        texts.append(f"{line.created_at.isoformat(timespec='milliseconds')} {line.line}\n")
    return "".join(texts)
