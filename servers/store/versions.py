"""Makes versions of overlays, and says what is in them and what differs between two."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import Max
from django.utils import timezone
from django.utils.translation import gettext as _

from hostops.specs import ManifestFile, OverlayReference, read_manifest, write_manifest
from servers.models import Overlay, OverlayVersion, Upload, UploadState
from servers.permissions import Verb, may
from servers.quotas import find_content_obstacle, lock_person
from servers.store.panel_store import get_store

NATIVE_SUFFIXES = (".so", ".smx")
"""Code that runs on the host: libraries of the engine, and SourceMod's compiled plugins."""

MAX_MANIFEST_BYTES = 64 * 1024**2


class VersionRefusedError(ValidationError):
    """A version that cannot be made. The text says why, for people."""


class LatestChangedError(Exception):
    """An overlay has got another latest version since its files were put together with those of an upload."""


@dataclass(frozen=True)
class FileChange:
    """One file that two versions have differently; None where one of them has none."""

    path: str
    before: ManifestFile | None
    after: ManifestFile | None


def make_version(
    overlay: Overlay,
    files: Sequence[ManifestFile],
    *,
    by: User,
    stored: Iterable[tuple[Path, str]] = (),
    origin: str = "",
    note: str = "",
    report: Mapping[str, Any] | None = None,
    upload: Upload | None = None,
    base: OverlayVersion | None = None,
) -> OverlayVersion:
    """Make the next version of an overlay, and let it be the latest; return the latest if that has these files.

    `stored` are files on the store's file system, with their hashes, that become blobs; all others have to be
    there. `report` has further columns of the version. The database is only held for the rows.

    `upload` is where the files come from, and `base` the version that they were put together with: the upload
    is done in the transaction that makes the version.

    Raises `VersionRefusedError`, `LatestChangedError` if an upload adds to the latest version and `base` is
    that no longer, and `ManifestError` for files that cannot lie beside each other.
    """
    if not files:
        raise VersionRefusedError(_("There is no file in it."))
    native = find_native(files)
    if native and not may(by, Verb.BRING_NATIVE_CODE):
        raise VersionRefusedError(
            _(
                "%(path)s is code that would run on the host, and you may not bring that. Leave such files "
                "out, or ask an admin."
            )
            % {"path": native[0].path}
        )
    manifest, store = write_manifest(files), get_store()
    with store.adding():
        added = store.adopt(stored)
        if missing := store.find_missing(file.sha256 for file in files):
            raise VersionRefusedError(
                _("%(count)d files are not in the store any more. Bring them again.")
                % {"count": len(missing)}
            )
        digest = store.add_bytes(manifest)
        with transaction.atomic():
            return _store_row(
                overlay,
                by,
                digest=digest,
                files=len(files),
                size_bytes=sum(file.size for file in files),
                added_bytes=added,
                has_native_code=bool(native),
                origin=origin,
                note=note,
                upload=upload,
                base=base,
                **(report or {}),
            )


def _store_row(
    overlay: Overlay,
    by: User,
    *,
    upload: Upload | None,
    base: OverlayVersion | None,
    **columns: Any,
) -> OverlayVersion:
    """Store a version in a transaction, behind the one that is the latest by now."""
    owner_id = overlay.owner_id or by.pk
    owner = lock_person(User.objects.get(pk=owner_id))
    overlay = (
        Overlay.objects.select_for_update(of=("self",)).select_related("latest").get(pk=overlay.pk)
    )
    if upload:
        if upload.adds_to_latest and overlay.latest != base:
            raise LatestChangedError
        # Before it is looked at what the owner may have: its files are the version's from now on.
        _settle(upload, base)
    if overlay.latest and overlay.latest.digest == columns["digest"]:
        if upload:
            Upload.objects.filter(pk=upload.pk).update(version=overlay.latest)
        return overlay.latest
    if obstacle := find_content_obstacle(owner, columns["added_bytes"]):
        raise VersionRefusedError(obstacle)
    last: int = overlay.versions.aggregate(last=Max("number"))["last"] or 0
    reference = OverlayReference(overlay.name, last + 1, columns["digest"])
    version = OverlayVersion.objects.create(
        overlay=overlay,
        number=last + 1,
        reference=str(reference),
        created_by=by,
        created_by_name=by.get_username(),
        **{"looked_at": timezone.now(), **columns},
    )
    overlay.latest = version
    overlay.save(update_fields=["latest"])
    if upload:
        Upload.objects.filter(pk=upload.pk).update(version=version)
    return version


def _settle(upload: Upload, base: OverlayVersion | None) -> None:
    """Let an upload be done; another worker that still has it in hand, after a long pause, is refused."""
    waiting = Upload.objects.filter(pk=upload.pk, state=UploadState.WAITING)
    now = timezone.now()
    if not waiting.update(state=UploadState.DONE, error="", base=base, finished_at=now):
        raise VersionRefusedError(
            _("The upload is not waiting for this any more: it was discarded or done.")
        )


def read_files(version: OverlayVersion) -> tuple[ManifestFile, ...]:
    """Return the files of a version. Raises `hostops.blobs.BlobError` if the store has lost its manifest."""
    return read_manifest(get_store().read(version.digest, MAX_MANIFEST_BYTES))


def find_native(files: Iterable[ManifestFile]) -> list[ManifestFile]:
    """Return the files that are code."""
    return [file for file in files if file.path.lower().endswith(NATIVE_SUFFIXES)]


def compare(before: Iterable[ManifestFile], after: Iterable[ManifestFile]) -> list[FileChange]:
    """Return the files that differ, in the order of their paths."""
    old = {file.path: file for file in before}
    new = {file.path: file for file in after}
    return [
        FileChange(path, old.get(path), new.get(path))
        for path in sorted(old.keys() | new.keys())
        if old.get(path) != new.get(path)
    ]
