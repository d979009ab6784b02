"""Where a request for a job leads: to the page that it was made on, or, as ever, to the job's own page."""

from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.utils.http import url_has_allowed_host_and_scheme

RETURN_FIELD = "next"
"""What a form of a page sends besides. Programs that send nothing are led to the job."""


def find_way_back(request: HttpRequest) -> str:
    """Return the address within the panel that a form wants to be led back to; empty if it names none."""
    wanted = request.POST.get(RETURN_FIELD, "")
    is_ours = wanted.startswith("/") and url_has_allowed_host_and_scheme(wanted, allowed_hosts=None)
    return wanted if is_ours else ""


def see_other(url: str) -> HttpResponse:
    """Lead from a change to a page."""
    return HttpResponseRedirect(url, status=303)
