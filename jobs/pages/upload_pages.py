"""The page on which files are uploaded to an overlay, and what it posts. `l4d2site.uploads` takes the bytes."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from http import HTTPStatus
from typing import Any

from django.conf import settings
from django.contrib.auth.models import User
from django.core.files.uploadedfile import UploadedFile
from django.http import Http404, HttpResponse, JsonResponse
from django.shortcuts import render
from django.template.defaultfilters import filesizeformat
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from jobs import queue
from jobs.models import Job, JobState, Operation, Worker
from jobs.pages.ways_back import see_other
from jobs.queue import explain_waiting
from servers import store
from servers.access import SignedInRequest, get_overlay, sign_in_required
from servers.content import find_next_steps
from servers.models import NOTE_CHARS, Host, Overlay, Upload, UploadState
from servers.pages import choose_renewal
from servers.permissions import Verb, may
from servers.quotas import count_content_bytes, most_content_bytes
from servers.refusals import refuse, wants_json

DONE_SHOWN = 3
DONE_SHOWN_FOR = timedelta(days=1)
MISSING_SHOWN = 10


@dataclass(frozen=True)
class MissingPart:
    """An incomplete file of an upload, and how many of its bytes have arrived."""

    path: str
    arrived: int
    size: int


@dataclass(frozen=True)
class UploadRow:
    """An upload as its overlay's page shows it: `job` is the newest one that makes a version of it."""

    upload: Upload
    arrived: int
    size: int
    gap: str
    missing: Sequence[MissingPart]
    more_missing: int
    job: Job | None
    is_in_hand: bool
    waiting: str


def get_upload(user: User, name: str, pk: int) -> Upload:
    """Return an upload to the overlay: 404 if the user may not know of it, 403 if they may not upload to it."""
    overlay = get_overlay(user, name, Verb.CHANGE_OVERLAY)
    upload = overlay.uploads.select_related("by", "version").filter(pk=pk).first()
    if upload is None:
        raise Http404
    upload.overlay = overlay
    return upload


@require_http_methods(["GET", "HEAD", "POST"])
@sign_in_required
def uploads(request: SignedInRequest, name: str) -> HttpResponse:
    """Show the uploads to an overlay, or begin another one.

    A form without JavaScript sends its files along, as many as one request can carry, and the version is
    requested at once. Scripts ask for JSON, and send the files by tus.
    """
    overlay = get_overlay(request.user, name, Verb.CHANGE_OVERLAY)
    if request.method != "POST":
        return render(request, "overlays/upload.html", describe_page(request, overlay))
    page = reverse("jobs:uploads", args=[overlay.name])
    files = [file for file in request.FILES.getlist("files") if isinstance(file, UploadedFile)]
    if not files and not wants_json(request):
        return refuse(request, _("Choose some files first."), page, HTTPStatus.UNPROCESSABLE_ENTITY)
    if obstacle := find_obstacle():
        return refuse(request, obstacle, page)
    try:
        upload = store.begin_upload(
            overlay,
            by=request.user,
            adds_to_latest=request.POST.get("adds", "1") == "1",
            note=" ".join(request.POST.get("note", "").split())[:NOTE_CHARS],
        )
        if wants_json(request):
            return JsonResponse(describe_upload(upload), status=HTTPStatus.CREATED)
        take_files(upload, files)
        queue.request(Operation.UNPACK, upload=upload, requested_by=request.user)
    except (store.UploadRefusedError, queue.RequestRefused) as refusal:
        return refuse(request, str(refusal), page)
    except OSError as error:
        if error.errno not in store.NO_SPACE:
            raise
        text = _("The panel’s disk is full: ask an admin to make room, then try again.")
        return refuse(request, text, page, HTTPStatus.INSUFFICIENT_STORAGE)
    return see_other(page)


def take_files(upload: Upload, files: "list[UploadedFile[Any]]") -> None:
    """Take the files that came with a form. The upload is discarded if one of them is refused."""
    try:
        for file in files:
            part = store.add_part(upload, file.name or "", file.size or 0)
            descriptor = store.open_file(part)
            try:
                for chunk in file.chunks():
                    left = memoryview(chunk)
                    while left:
                        left = left[os.write(descriptor, left) :]
                store.sync_file(part, descriptor)
            finally:
                os.close(descriptor)
            store.note_received(part)
    except FileNotFoundError:
        store.discard(upload)
        text = _("The upload was discarded while its files came. Start another one.")
        raise store.UploadRefusedError(text) from None
    except BaseException:
        store.discard(upload)
        raise


@require_safe
@sign_in_required
def upload_detail(request: SignedInRequest, name: str, pk: int) -> HttpResponse:
    """Tell a script what has arrived of an upload, so that it sends the rest; show people the page."""
    upload = get_upload(request.user, name, pk)
    if not wants_json(request):
        return see_other(reverse("jobs:uploads", args=[name]))
    return JsonResponse(describe_upload(upload))


@require_POST
@sign_in_required
def upload_finish(request: SignedInRequest, name: str, pk: int) -> HttpResponse:
    """Request a version of what has arrived."""
    upload = get_upload(request.user, name, pk)
    page = reverse("jobs:uploads", args=[name])
    try:
        queue.request(Operation.UNPACK, upload=upload, requested_by=request.user)
    except queue.RequestRefused as refusal:
        return refuse(request, str(refusal), page)
    if wants_json(request):
        return JsonResponse({"page": page}, status=HTTPStatus.ACCEPTED)
    return see_other(page)


@require_POST
@sign_in_required
def upload_discard(request: SignedInRequest, name: str, pk: int) -> HttpResponse:
    """Discard an upload and everything that has arrived of it."""
    page = reverse("jobs:uploads", args=[name])
    try:
        store.discard(get_upload(request.user, name, pk))
    except store.UploadRefusedError as refusal:
        return refuse(request, str(refusal), page)
    if wants_json(request):
        return HttpResponse(status=HTTPStatus.NO_CONTENT)
    return see_other(page)


def describe_upload(upload: Upload) -> dict[str, Any]:
    """Return what a script needs to know about an upload; the addresses of parts lead to `l4d2site.uploads`."""
    name, door = upload.overlay.name, f"/uploads/{upload.pk}/"
    return {
        "id": upload.pk,
        "parts_url": door,
        "finish_url": reverse("jobs:upload_finish", args=[name, upload.pk]),
        "discard_url": reverse("jobs:upload_discard", args=[name, upload.pk]),
        "is_receiving": upload.is_receiving,
        "parts": [
            {
                "path": part.path,
                "size": part.size,
                "modified": part.modified_ms,
                "is_received": part.received_at is not None,
                "url": f"{door}{part.token.hex}",
            }
            for part in upload.parts.all()
        ],
    }


def describe_page(request: SignedInRequest, overlay: Overlay) -> dict[str, Any]:
    """Return the context of the page."""
    rows = read_rows(request.user, overlay)
    done = overlay.uploads.filter(
        state=UploadState.DONE, finished_at__gt=timezone.now() - DONE_SHOWN_FOR
    ).select_related("version")
    return {
        "overlay": overlay,
        "here": request.path,
        "rows": rows,
        "done": done[:DONE_SHOWN],
        "renewal": choose_renewal(
            is_running=any(row.job and row.job.is_active for row in rows), has_form=True
        ),
        "next_steps": find_next_steps(request.user, overlay) if overlay.latest else None,
        "obstacle": find_obstacle(),
        "limits": describe_limits(overlay, request.user),
        "may_bring_native": may(request.user, Verb.BRING_NATIVE_CODE),
        "most_form_bytes": settings.BODY_MAX_BYTES,
        "note_chars": NOTE_CHARS,
    }


def read_rows(user: User, overlay: Overlay) -> list[UploadRow]:
    """Return the state of each upload that is not done. The number of queries does not depend on theirs."""
    uploads = list(overlay.uploads.open().select_related("by").prefetch_related("parts"))
    jobs = Job.objects.filter(upload__in=uploads).select_related("host").order_by("id")
    newest = {job.upload_id: job for job in jobs}
    for upload in uploads:
        upload.overlay = overlay
        if upload.pk in newest:
            newest[upload.pk].upload = upload
    return [describe_row(user, upload, newest.get(upload.pk)) for upload in uploads]


def describe_row(user: User, upload: Upload, newest_job: Job | None) -> UploadRow:
    """Return the state of one upload."""
    parts = upload.parts.all()
    missing = [
        MissingPart(part.path, store.read_offset(part), part.size)
        for part in parts
        if part.received_at is None
    ]
    received = [part.size for part in parts if part.received_at is not None]
    job = None if upload.is_receiving else newest_job
    return UploadRow(
        upload,
        arrived=sum(received) + sum(part.arrived for part in missing),
        size=sum(part.size for part in parts),
        gap=store.describe_gap(parts=len(parts), received=len(received)),
        missing=missing[:MISSING_SHOWN],
        more_missing=max(len(missing) - MISSING_SHOWN, 0),
        job=job,
        is_in_hand=job is not None and may(user, job.verb, job),
        waiting=explain_waiting(job) if job and job.state == JobState.QUEUED else "",
    )


def find_obstacle() -> str:
    """Return why an upload could not soon become a version, in a sentence; empty if it could."""
    host = Host.local()
    if Worker.objects.alive().filter(host=host).exists():
        return ""
    return _(
        "No worker is running on host %(host)s, which unpacks uploads. Nothing can be uploaded until an "
        "admin starts one."
    ) % {"host": host.name}


def describe_limits(overlay: Overlay, user: User) -> str:
    """Return how much the overlay's owner uses, and may use, in a sentence; empty if there is no limit."""
    owner = overlay.owner or user
    most = most_content_bytes(owner)
    if most is None:
        return ""
    return _("%(owner)s’s overlays take %(used)s of %(most)s.") % {
        "owner": owner.get_username(),
        "used": filesizeformat(count_content_bytes(owner)),
        "most": filesizeformat(most),
    }
