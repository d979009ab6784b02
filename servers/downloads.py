"""Makes browsers save a response as a file: the one place that names a download."""

from typing import TypeVar

from django.http.response import HttpResponseBase
from django.utils.http import content_disposition_header

R = TypeVar("R", bound=HttpResponseBase)


def as_download(response: R, filename: str) -> R:
    """Return `response` with headers that make a browser save it as `filename`, and never show it."""
    disposition = content_disposition_header(as_attachment=True, filename=filename)
    response["Content-Disposition"] = disposition or "attachment"
    response["X-Content-Type-Options"] = "nosniff"
    return response
