"""Makes versions of overlays, and says what is in them and how two of them differ."""

import contextlib
import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import Max
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from hostops.specs import (
    ManifestError,
    ManifestFile,
    OverlayReference,
    read_known_files,
    read_known_lines,
    require_readable_paths,
    write_manifest,
)
from servers.models import Overlay, OverlayVersion, Upload, UploadState
from servers.permissions import Verb, may
from servers.quotas import find_content_obstacle, lock_person
from servers.store.native_code import find_native
from servers.store.panel_store import BlobError, get_store

MAX_MANIFEST_BYTES = 64 * 1024**2
MOST_VERSIONS = 500
"""The most versions of an overlay: each change reads the manifests of all of them, and each one has a row."""
TRIES = 5
"""How often to try to make a version when another one keeps coming between."""


class VersionRefusedError(ValidationError):
    """A version that cannot be made. The text tells people why."""


class NewerVersionError(VersionRefusedError):
    """Another version was made after the one that this was to follow."""


class _OtherVersionsError(Exception):
    """The versions of an overlay are no longer those that were read."""


@dataclass(frozen=True)
class FileChange:
    """A file that differs between two versions; None for the version that does not have it."""

    path: str
    before: ManifestFile | None
    after: ManifestFile | None


@dataclass(frozen=True)
class _Known:
    """What the existing versions of an overlay have of the files of a new one."""

    ids: frozenset[int]
    files: frozenset[ManifestFile]
    """Those at the paths of the new files."""
    hashes: frozenset[str]
    """Those of the new files that a version has anywhere, and of the manifests of all versions."""
    has_native_code: bool

    @classmethod
    def read(cls, overlay: Overlay, new: Sequence[ManifestFile]) -> "_Known":
        """Read it; what the store has lost counts as unknown. Takes 3 ms for a version of 3,400 files.

        The manifests of no more than two versions are in memory at a time: there can be hundreds of them.
        """
        paths, new_hashes = {file.path for file in new}, {file.sha256 for file in new}
        versions = list(overlay.versions.order_by("number").only("pk", "digest", "has_native_code"))
        files: set[ManifestFile] = set()
        hashes = {version.digest for version in versions}
        before: set[bytes] = set()
        for version in versions:
            with contextlib.suppress(BlobError):
                lines = set(read_lines(version))
                # Most are those of the version before.
                for file in read_known_files(lines - before):
                    if file.path in paths:
                        files.add(_strip(file))
                    if file.sha256 in new_hashes:
                        hashes.add(file.sha256)
                before = lines
        return cls(
            frozenset(version.pk for version in versions),
            frozenset(files),
            frozenset(hashes),
            any(version.has_native_code for version in versions),
        )

    def find_native(
        self, files: Iterable[ManifestFile], stored: Mapping[str, Path]
    ) -> list[ManifestFile]:
        """Return the files that are code, without opening those already known not to be."""
        suspects = [file for file in files if self.has_native_code or not self.has(file)]
        return find_native(suspects, stored)

    def has(self, file: ManifestFile) -> bool:
        """Return whether a version has these bytes at that path, whether or not it is a seed."""
        return _strip(file) in self.files


def _strip(file: ManifestFile) -> ManifestFile:
    return file if file.is_seed is None else replace(file, is_seed=None)


def make_version(
    overlay: Overlay,
    files: Sequence[ManifestFile],
    *,
    by: User,
    stored: Iterable[tuple[Path, str]] = (),
    origin: str = "",
    note: str = "",
    report: Mapping[str, Any] | None = None,
    follows: OverlayVersion | None = None,
    is_first: bool = False,
    upload: Upload | None = None,
) -> OverlayVersion:
    """Make the next version of an overlay the latest one; return the latest if that has these files.

    `stored` are files on the store's file system, with their hashes, that become blobs; all other blobs must
    exist already. `report` has further columns of the version. The database is held only while the rows are
    written. Raises `VersionRefusedError`, `ManifestError` for files that cannot lie beside each other, and
    `NewerVersionError` unless `follows` is still the latest version, or, with `is_first`, there is none.

    `upload` is where the files come from: it is marked done in the transaction that makes the version.
    """
    if not files:
        raise VersionRefusedError(_("A version needs at least one file."))
    manifest, store = write_manifest(files), get_store()
    stored = [(path, sha256) for path, sha256 in stored]
    with store.adding():
        known = _Known.read(overlay, files)
        old = {file.path for file in known.files}
        new = [file.path for file in files if file.path not in old]
        require_readable_paths(new, (file.path for file in files))
        native = known.find_native(files, {sha256: path for path, sha256 in stored})
        _require_permission(native, known, by)
        # Before anything is stored: what is refused must not end up in the store as if it had been allowed.
        owner = User.objects.get(pk=overlay.owner_id or by.pk)
        more_bytes = _count_new_bytes(files, manifest, known)
        if obstacle := find_content_obstacle(owner, more_bytes, without=upload):
            raise VersionRefusedError(obstacle)
        store.adopt(stored)
        if missing := store.find_missing(file.sha256 for file in files):
            count = len(missing)
            raise VersionRefusedError(
                ngettext(
                    "%(count)d file is no longer in the store. Upload it again.",
                    "%(count)d files are no longer in the store. Upload them again.",
                    count,
                )
                % {"count": count}
            )
        digest = store.add_bytes(manifest)
        for _try in range(TRIES):
            try:
                with transaction.atomic():
                    return _store_row(
                        overlay,
                        by,
                        known.ids,
                        follows_id=follows.pk if follows else None,
                        is_bound=follows is not None or is_first,
                        upload=upload,
                        digest=digest,
                        files=len(files),
                        size_bytes=sum(file.size for file in files),
                        added_bytes=_count_new_bytes(files, manifest, known),
                        has_native_code=bool(native),
                        origin=origin,
                        note=note,
                        **(report or {}),
                    )
            except _OtherVersionsError:
                known = _Known.read(overlay, files)
    raise NewerVersionError(
        _("Others keep making versions of %(name)s at the same time. Try again.")
        % {"name": overlay.name}
    )


def _require_permission(native: Iterable[ManifestFile], known: _Known, by: User) -> None:
    """Raise unless `by` may bring native code, or versions of the overlay already have it at the same paths."""
    new = [file for file in native if not known.has(file)]
    if new and not may(by, Verb.BRING_NATIVE_CODE):
        raise VersionRefusedError(
            _(
                "%(path)s is code that would run on the host, and you may not upload that. Leave out such "
                "files, or ask an admin."
            )
            % {"path": new[0].path}
        )


def _count_new_bytes(files: Iterable[ManifestFile], manifest: bytes, known: _Known) -> int:
    """Return the bytes of the files that are not `known`, each once, and of the manifest if it is not known."""
    digest = hashlib.sha256(manifest).hexdigest()
    return _sum_sizes(files, digest, len(manifest), known.hashes)


def _sum_sizes(
    files: Iterable[ManifestFile], digest: str, manifest_bytes: int, known: Collection[str]
) -> int:
    """Return what a version adds to what is `known`, by hash. Its manifest takes space as its files do."""
    sizes = {file.sha256: file.size for file in files}
    sizes[digest] = manifest_bytes
    return sum(size for sha256, size in sizes.items() if sha256 not in known)


def _store_row(
    overlay: Overlay,
    by: User,
    known_ids: frozenset[int],
    *,
    follows_id: int | None,
    is_bound: bool,
    upload: Upload | None,
    **columns: Any,
) -> OverlayVersion:
    """Store a version in a transaction, after whichever one is the latest by now."""
    owner_id = overlay.owner_id or by.pk
    owner = lock_person(User.objects.get(pk=owner_id))
    rows = Overlay.objects.select_for_update(of=("self",)).select_related("latest")
    this = rows.filter(pk=overlay.pk).first()
    if this is None:
        raise VersionRefusedError(
            _("Overlay %(name)s has just been removed.") % {"name": overlay.name}
        )
    overlay = this
    if is_bound and overlay.latest_id != follows_id:
        raise NewerVersionError(
            _("%(name)s has a newer version than the one you changed.") % {"name": overlay.name}
        )
    if upload:
        # Before checking what the owner may have: from here on its files belong to the version.
        _settle(upload, follows_id)
    if overlay.latest and overlay.latest.digest == columns["digest"]:
        if upload:
            Upload.objects.filter(pk=upload.pk).update(version=overlay.latest)
        return overlay.latest
    if set(overlay.versions.values_list("pk", flat=True)) != known_ids:
        raise _OtherVersionsError
    if len(known_ids) >= MOST_VERSIONS:
        raise VersionRefusedError(
            _(
                "%(name)s has %(most)d versions, and no overlay has more. Remove some that you no longer need."
            )
            % {"name": overlay.name, "most": MOST_VERSIONS}
        )
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


def _settle(upload: Upload, base_id: int | None) -> None:
    """Mark an upload as done. Raises if it no longer waits, as when a worker returns after a long pause."""
    waiting = Upload.objects.filter(pk=upload.pk, state=UploadState.WAITING)
    now = timezone.now()
    if not waiting.update(state=UploadState.DONE, error="", base_id=base_id, finished_at=now):
        raise VersionRefusedError(
            _("The upload no longer waits for a version: it was discarded or finished.")
        )


def read_files(version: OverlayVersion) -> tuple[ManifestFile, ...]:
    """Return the files of a version. Raises `BlobError` if the store has lost or damaged its manifest."""
    return read_files_of(version.digest)


def read_files_of(digest: str) -> tuple[ManifestFile, ...]:
    """Return the files of the versions whose manifest has this hash. Raises as `read_files` does."""
    return tuple(read_known_files(_read_lines_of(digest)))


def read_lines(version: OverlayVersion) -> list[bytes]:
    """Return the lines of a version's manifest, for `read_known_files`. Raises as `read_files` does."""
    return _read_lines_of(version.digest)


def _read_lines_of(digest: str) -> list[bytes]:
    data = get_store().read(digest, MAX_MANIFEST_BYTES)
    try:
        return read_known_lines(data, digest)
    except ManifestError as error:
        raise BlobError(str(error)) from error


def recount_added_bytes(overlay: Overlay) -> None:
    """Count each file of an overlay for the first version that has it, in a transaction that removed one.

    What a removed version brought may also be in later ones, for which it did not count. A version whose
    manifest the store has lost keeps the bytes counted for it.
    """
    known: set[str] = set()
    seen: set[bytes] = set()
    for version in overlay.versions.order_by("number"):
        try:
            new = set(read_lines(version)) - seen
            manifest_bytes = get_store().size_of(version.digest)
        except BlobError:
            continue
        files = tuple(read_known_files(new))
        added = _sum_sizes(files, version.digest, manifest_bytes, known)
        seen |= new
        known.update((version.digest, *(file.sha256 for file in files)))
        if added != version.added_bytes:
            version.added_bytes = added
            version.save(update_fields=["added_bytes"])


def compare(before: Iterable[ManifestFile], after: Iterable[ManifestFile]) -> list[FileChange]:
    """Return the files that differ, sorted by path."""
    old = {file.path: file for file in before}
    new = {file.path: file for file in after}
    return [
        FileChange(path, old.get(path), new.get(path))
        for path in sorted(old.keys() | new.keys())
        if old.get(path) != new.get(path)
    ]
