"""Where a request for a job redirects: to the page of its form, or by default to the job's own page."""

from django.http import HttpRequest, HttpResponse, HttpResponseRedirect

from servers.access import is_address_of_ours

RETURN_FIELD = "next"
"""The hidden field of a page's form. Programs that do not send it are redirected to the job."""


def read_next_page(request: HttpRequest) -> str:
    """Return the URL within the panel to which a form wants to return; empty if it names none."""
    wanted = request.POST.get(RETURN_FIELD, "")
    return wanted if is_address_of_ours(wanted) else ""


def see_other(url: str) -> HttpResponse:
    """Redirect from a change to a page."""
    return HttpResponseRedirect(url, status=303)
