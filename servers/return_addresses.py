"""Where a form leads once it is done, if the page it stands on wants people to stay there."""

from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.utils.http import url_has_allowed_host_and_scheme

RETURN_FIELD = "return_to"
"""The hidden field with the address of a page of the panel. Without it a form leads where it always did."""


def return_address(request: HttpRequest) -> str:
    """Return the address that the form asks to be led to; empty if there is none, or it is not the panel's."""
    address = request.POST.get(RETURN_FIELD, "")
    is_path = address.startswith("/") and url_has_allowed_host_and_scheme(address, None)
    return address if is_path else ""


def lead_back(request: HttpRequest, otherwise: str) -> HttpResponse:
    """Lead from a change to the page that the form asks for, or to `otherwise`."""
    return HttpResponseRedirect(return_address(request) or otherwise, status=303)
