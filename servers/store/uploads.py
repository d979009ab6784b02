"""Begins, receives and discards uploads: every change of their rows except those made by a job."""

from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import Count
from django.template.defaultfilters import filesizeformat
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from hostops.specs import ManifestError, require_paths, require_readable_paths
from servers.models import (
    MOST_PARTS,
    Overlay,
    Upload,
    UploadPart,
    UploadState,
)
from servers.quotas import find_content_obstacle, lock_person
from servers.store import upload_files
from servers.store.panel_store import get_store

MOST_OPEN = 10
"""The most uploads that one person may have open at a time."""


class UploadRefusedError(ValidationError):
    """Something that an upload does not accept. The text tells people why."""

    def __str__(self) -> str:
        return " ".join(self.messages)


class UploadGoneError(UploadRefusedError):
    """The upload was discarded meanwhile, in another tab or with its overlay."""


def begin_upload(overlay: Overlay, *, by: User, adds_to_latest: bool, note: str = "") -> Upload:
    """Return a new upload that is ready for parts. Raises `UploadRefusedError`."""
    with transaction.atomic():
        lock_person(by)
        if Upload.objects.open().filter(by=by).count() >= MOST_OPEN:
            raise UploadRefusedError(
                _(
                    "You already have %(most)d unfinished uploads. Continue one of them, or discard those "
                    "you no longer need."
                )
                % {"most": MOST_OPEN}
            )
        # While the row is locked, nobody can remove the overlay.
        if not Overlay.objects.select_for_update(of=("self",)).filter(pk=overlay.pk).exists():
            raise UploadRefusedError(_("The overlay was removed meanwhile."))
        upload = Upload(overlay=overlay, by=by, adds_to_latest=adds_to_latest, note=note)
        upload.full_clean()
        upload.save()
    return upload


def lock_upload(pk: int) -> Upload:
    """Return the row of an upload, locked until the transaction ends. Raises `UploadGoneError`."""
    row = Upload.objects.select_for_update(of=("self",)).filter(pk=pk).first()
    if row is None:
        raise UploadGoneError(_("This upload was discarded meanwhile. Start another one."))
    return row


def add_part(
    upload: Upload, path: str, size: int, *, modified_ms: int = 0, is_bundle: bool = False
) -> UploadPart:
    """Return a new, empty part of an upload. It replaces one with the same path.

    From now on its full size counts towards what the overlay's owner may have. Raises `UploadRefusedError`,
    and OSError if its file cannot be made.
    """
    try:
        require_paths([path])
        require_readable_paths([path])
    except ManifestError as error:
        raise UploadRefusedError(str(error)) from None
    with transaction.atomic():
        # The owner is locked first, as when a version is made: two different orders would deadlock.
        owner = lock_person(upload.overlay.owner or upload.by)
        upload = lock_upload(upload.pk)
        if not upload.is_receiving:
            raise UploadRefusedError(_("This upload takes no more files. Start another one."))
        replaced = upload.parts.filter(path=path).first()
        if replaced:
            replaced.delete()
        elif upload.parts.count() >= MOST_PARTS:
            raise UploadRefusedError(
                _(
                    "An upload takes at most %(most)s separate files. Put them into an archive, or split "
                    "them over several uploads."
                )
                % {"most": f"{MOST_PARTS:,}"}
            )
        if obstacle := find_content_obstacle(owner, size):
            raise UploadRefusedError(obstacle)
        free = upload_files.free_bytes()
        if size > free:
            raise UploadRefusedError(
                _(
                    "%(path)s needs %(size)s, but the panel’s disk has only %(free)s left. Ask an admin to "
                    "make room."
                )
                % {"path": path, "size": filesizeformat(size), "free": filesizeformat(free)},
                code="no_space",
            )
        part = UploadPart.objects.create(
            upload=upload, path=path, size=size, modified_ms=modified_ms, is_bundle=is_bundle
        )
        upload.touch()
        upload_files.make_file(part)
    if replaced:
        upload_files.remove_file(replaced)
    return part


def restore_file(part: UploadPart) -> None:
    """Make the file of a part made by a version that did not make files with their rows. Raises OSError."""
    if upload_files.path_of(part).exists():
        return
    with transaction.atomic():
        uploads = Upload.objects.select_for_update(of=("self",)).filter(pk=part.upload_id)
        upload = uploads.first()
        # Of a finished upload, only the rows are kept.
        if upload and upload.is_receiving and upload.parts.filter(pk=part.pk).exists():
            upload_files.make_file(part)


def note_received(part: UploadPart) -> bool:
    """Record that a part is complete on disk; return False if it has been removed."""
    now = timezone.now()
    is_there = UploadPart.objects.filter(pk=part.pk).update(received_at=now)
    Upload.objects.filter(pk=part.upload_id).update(touched_at=now)
    part.received_at = now
    return bool(is_there)


def remove_part(part: UploadPart) -> None:
    """Remove a part of an upload that is still receiving. Raises `UploadRefusedError`."""
    with transaction.atomic():
        upload = lock_upload(part.upload_id)
        if not upload.is_receiving:
            raise UploadRefusedError(
                _("This upload can no longer be changed. Discard it as a whole.")
            )
        UploadPart.objects.filter(pk=part.pk).delete()
        upload.touch()
    upload_files.remove_file(part)


def discard(upload: Upload) -> None:
    """Remove an upload and its files. Raises `UploadRefusedError` while a version is being made of it."""
    with transaction.atomic():
        row = Upload.objects.select_for_update(of=("self",)).filter(pk=upload.pk).first()
        if row is None:
            return
        if row.state == UploadState.WAITING:
            raise UploadRefusedError(
                _("A version is being made from it. Cancel that first, then discard the upload.")
            )
        upload_id = row.pk
        row.delete()
    upload_files.remove_files(upload_id)


def find_gap(upload: Upload) -> str:
    """Return a sentence saying why no version can be made of an upload yet; empty if one can."""
    counts = upload.parts.aggregate(parts=Count("pk"), received=Count("received_at"))
    return describe_gap(**counts)


def describe_gap(*, parts: int, received: int) -> str:
    """Return what `find_gap` does, for an upload with this many parts."""
    if not parts:
        return _("No file has been uploaded yet.")
    if missing := parts - received:
        if parts == 1:
            return _("Its file has not fully arrived yet.")
        text = ngettext(
            "%(missing)d of its %(parts)d parts has not fully arrived yet.",
            "%(missing)d of its %(parts)d parts have not fully arrived yet.",
            missing,
        )
        return text % {"missing": missing, "parts": parts}
    return ""


def remove_abandoned() -> list[int]:
    """Remove uploads that nobody has continued for a week, and files whose upload is gone; return which.

    In the uploads that stay, remove files whose part is gone: the process was killed before it could remove
    them.

    This only happens where the files are: a worker on another machine, or one whose store is not mounted at
    the moment, would remove rows whose files still exist.
    """
    if not upload_files.are_here():
        return []
    removed = []
    for upload in Upload.objects.abandoned():
        with transaction.atomic():
            this = Upload.objects.abandoned().select_for_update(of=("self",)).filter(pk=upload.pk)
            if row := this.first():
                removed.append(row.pk)
                row.delete()
    get_store().remove_left_behind()
    # Listed before the rows are read: the row of an upload exists before its files do.
    with_files = upload_files.list_uploads()
    kept = set(Upload.objects.open().filter(pk__in=with_files).values_list("pk", flat=True))
    for upload_id in set(with_files) - kept:
        upload_files.remove_files(upload_id)
        removed.append(upload_id)
    for upload_id in kept:
        parts = UploadPart.objects.filter(upload=upload_id)
        upload_files.remove_strays(
            upload_id, {token.hex for token in parts.values_list("token", flat=True)}
        )
    return sorted(set(removed))
