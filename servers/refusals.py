"""How a page refuses a request: in words for people, and as JSON for programs."""

from http import HTTPStatus

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render

RETRY_SECONDS = 10

REASON_CHARS = 4_000
"""A longer reason quotes what was sent."""


def refuse(
    request: HttpRequest, reason: str, back_to: str, status: HTTPStatus = HTTPStatus.CONFLICT
) -> HttpResponse:
    """Answer with the reason and a way back; a program that asks for JSON gets `{"error": reason}`."""
    if wants_json(request):
        return refuse_program(reason, status)
    context = {"reason": shorten(reason), "back_to": back_to}
    response = render(request, "refused.html", context, status=status)
    return say_when(response, status)


def refuse_program(reason: str, status: HTTPStatus) -> HttpResponse:
    """Answer a program with the reason."""
    return say_when(JsonResponse({"error": shorten(reason)}, status=status), status)


def shorten(reason: str) -> str:
    """Return a reason, or the beginning of one that is too long for a page."""
    return reason if len(reason) <= REASON_CHARS else f"{reason[:REASON_CHARS]}…"


def wants_json(request: HttpRequest) -> bool:
    """Return whether the client prefers JSON to a page."""
    return request.get_preferred_type(["text/html", "application/json"]) == "application/json"


def say_when(response: HttpResponse, status: HTTPStatus) -> HttpResponse:
    """Say in the header when to ask again, if time alone may change the answer."""
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        response.headers["Retry-After"] = str(RETRY_SECONDS)
    return response
