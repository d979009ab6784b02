"""The pages of console commands and their answers, and the views that send a command."""

from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus

from django.http import HttpResponse, HttpResponseRedirect, JsonResponse
from django.shortcuts import get_object_or_404, render
from django.urls import reverse
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods, require_safe

from jobs.command_requests import CommandRefused, TooManyCommands, send_command
from jobs.pages.job_lists import parse_id
from jobs.pages.server_heads import describe_head
from servers.access import SignedInRequest, get_server, get_server_or_404, sign_in_required
from servers.console import judge, read_latest, read_names
from servers.downloads import as_download
from servers.logs import SearchTurn, turns
from servers.models import ConsoleCommand, Server
from servers.permissions import Verb
from servers.refusals import refuse, wants_json

COMMANDS_PER_PAGE = 50
LONGEST_SEARCH = 200


@sensitive_post_parameters("command")
@require_http_methods(["GET", "HEAD", "POST"])
@sign_in_required
def commands(request: SignedInRequest, name: str) -> HttpResponse:
    """List the commands of a server, or send one."""
    create_or_list = command_create if request.method == "POST" else command_list
    return create_or_list(request, name)


def command_create(request: SignedInRequest, name: str) -> HttpResponse:
    """Send a command to a server, and redirect to its console; ask first if it would disconnect players."""
    server = get_server(request.user, name, Verb.COMMAND)
    line = request.POST.get("command", "").strip()
    judgement = judge(line, server.players)
    if judgement.refusal:
        return refuse(request, judgement.refusal, server.get_absolute_url(), HTTPStatus.CONFLICT)
    if judgement.question and request.POST.get("confirmed") != line:
        return ask(request, server, line, judgement.question)
    try:
        command = send_command(server, line, requested_by=request.user)
    except CommandRefused as refusal:
        return refuse_command(request, refusal, server.get_absolute_url())
    if wants_json(request):
        answer = {"command": command.pk, "text": command.text}
        return JsonResponse(answer, status=HTTPStatus.CREATED)
    return HttpResponseRedirect(f"{server.get_absolute_url()}#console-prompt", status=303)


def refuse_command(request: SignedInRequest, refusal: CommandRefused, back_to: str) -> HttpResponse:
    """Answer why a command is not sent."""
    is_flood = isinstance(refusal, TooManyCommands)
    status = HTTPStatus.TOO_MANY_REQUESTS if is_flood else HTTPStatus.CONFLICT
    return refuse(request, str(refusal), back_to, status)


def ask(
    request: SignedInRequest,
    server: Server,
    line: str,
    question: str,
    action: str = "",
    fields: Mapping[str, str] | None = None,
    back_to: str = "",
    what: str = "",
) -> HttpResponse:
    """Ask whether to send a command that affects players; a program gets the question as JSON.

    The answer is posted to `action` with `fields`; by default, the command itself is posted again. Cancelling
    leads to `back_to`, by default the console. `what` is the chapter that the command changes to, in words,
    if a person chose that instead of typing the command.
    """
    status = HTTPStatus.CONFLICT
    if wants_json(request):
        return JsonResponse({"question": question}, status=status)
    context = {
        "server": server,
        "line": line,
        "question": question,
        "what": what,
        "action": action or reverse("jobs:commands", args=[server.name]),
        "fields": {"command": line} if fields is None else fields,
        "back_to": back_to or server.get_absolute_url(),
    }
    return render(request, "servers/command_question.html", context, status=status)


@require_safe
@sign_in_required
def command_names(request: SignedInRequest, name: str) -> HttpResponse:
    """Send what can be typed into a server's console, for completion: names, help texts, whether a command."""
    server = get_server(request.user, name, Verb.COMMAND)
    rows = [(one["name"], one["help"], one["is_command"]) for one in read_names(server)]
    return JsonResponse({"names": rows})


@require_safe
@sign_in_required
def command_latest(request: SignedInRequest, name: str) -> HttpResponse:
    """Send the part of a server's page with the latest commands, for pages whose stream does not carry it."""
    server = get_server_or_404(request.user, name)
    context = {"server": server, "commands": read_latest(server)}
    return render(request, "servers/_commands_live.html", context)


@dataclass(frozen=True)
class Wanted:
    """The commands that a page shows."""

    text: str
    before: int | None

    def read(
        self, server: Server, request: SignedInRequest
    ) -> tuple[list[ConsoleCommand], int | None]:
        """Return a page of commands, newest first, and the id before which there may be older ones, or None.

        Long answers are cut. A search goes back as far as its time allows.
        """
        commands = server.console_commands.shown()
        if self.before is not None:
            commands = commands.filter(pk__lt=self.before)
        if not self.text:
            shown = list(commands[: COMMANDS_PER_PAGE + 1])
            is_more = len(shown) > COMMANDS_PER_PAGE
            shown = shown[:COMMANDS_PER_PAGE]
            return shown, shown[-1].pk if is_more else None
        with turns.taken(request) as turn:
            found, older_before = self._search(server, turn)
        return list(commands.filter(pk__in=found)), older_before

    def _search(self, server: Server, turn: SearchTurn) -> tuple[list[int], int | None]:
        """Return the ids of the commands with the text, and the id before which nothing was searched.

        Searched here and not by the database: `LIKE` tries a long text again at each character of an answer,
        and a game can give an answer in which it nearly matches everywhere.
        """
        rows = server.console_commands.order_by("-id")
        if self.before is not None:
            rows = rows.filter(pk__lt=self.before)
        wanted = self.text.lower()
        found: list[int] = []
        columns = ("pk", "text", "answer", "requested_by_name")
        looked_back_to: int | None = None
        for pk, text, answer, name in rows.values_list(*columns).iterator(chunk_size=1):
            # At least one is searched, so that paging makes progress.
            if looked_back_to and (len(found) == COMMANDS_PER_PAGE or not turn.may_go_on()):
                return found, looked_back_to
            looked_back_to = pk
            if wanted in text.lower() or wanted in answer.lower() or wanted == name.lower():
                found.append(pk)
        return found, None


def command_list(request: SignedInRequest, name: str) -> HttpResponse:
    """List the commands sent to a server, or those with a certain text."""
    server = get_server_or_404(request.user, name)
    text = request.GET.get("q", "").replace("\0", "")[:LONGEST_SEARCH].strip()
    wanted = Wanted(text, parse_id(request.GET.get("before", "")))
    shown, older_before = wanted.read(server, request)
    context = describe_head(request, server, "console") | {
        "commands": shown,
        "older_before": older_before,
        "is_newest": wanted.before is None,
        "text": wanted.text,
    }
    return render(request, "servers/commands.html", context)


@require_safe
@sign_in_required
def command_answer(request: SignedInRequest, name: str, pk: int) -> HttpResponse:
    """Send a whole answer as text."""
    server = get_server_or_404(request.user, name)
    command = get_object_or_404(server.console_commands, pk=parse_id(str(pk)))
    response = HttpResponse(command.answer + "\n", content_type="text/plain; charset=utf-8")
    return as_download(response, f"saferoom-{name}-command-{command.pk}.txt")
