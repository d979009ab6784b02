"""Makes a version of an overlay from an upload: the job `unpack`, which runs without the database.

The host layer unpacks archives, in a child with limits; other files are taken as they are. Everything is
arranged as the game expects it, combined with the latest version if the upload adds to that, examined, and
stored. The upload's own files are only linked until the version exists, so that another try still has them
all.
"""

import errno
import hashlib
import os
import re
import shutil
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, Protocol, TypeVar, Unpack

from django.core.exceptions import ValidationError
from django.db import connection

from hostops.blobs import BlobError
from hostops.callbacks import Callbacks
from hostops.errors import HostError
from hostops.specs import (
    Arrangement,
    CallbackArguments,
    CancelToken,
    ManifestError,
    ManifestFile,
    OverlayReport,
    UnpackedFile,
    UnpackLimits,
    folders_of,
    require_files,
)
from jobs.database import is_away, outage_log
from servers import store
from servers.content import describe_overlay, describe_plugins
from servers.models import Overlay, OverlayVersion, Upload, UploadPart

ARCHIVE = re.compile(
    r".+\.(?:zip|7z|rar|tar|tgz|tbz2?|txz|tar\.(?:gz|bz2|xz|zst))", re.IGNORECASE | re.DOTALL
)
HASHED_BYTES = 1024**2
LINKS_PER_LOOK = 500
AGAIN_SECONDS = 1.0
NAMED_SOURCES = 3
ORIGIN_CHARS = 200
MOST_NOTES = 100
"""The most notes kept with a version on where files were put."""

T = TypeVar("T")


class UnpackingHost(Protocol):
    """The part of `hostops.host.Host` that this needs."""

    def unpack(
        self,
        archive: Path,
        name: str,
        into: Path,
        *,
        limits: UnpackLimits | None = None,
        **callbacks: Unpack[CallbackArguments],
    ) -> list[UnpackedFile]:
        """Unpack an archive into numbered files."""

    def arrange_files(self, paths: Collection[str]) -> Arrangement:
        """Return where files belong in an overlay."""

    def folder_report(
        self, folder: Path, name: str, *, cancel: CancelToken | None = None
    ) -> OverlayReport:
        """Return the report on a folder as if it were an overlay."""


@dataclass(frozen=True)
class Brought:
    """A file that arrived: with which part, under which path, and where its bytes are."""

    source: str
    path: str
    sha256: str
    size: int
    stored_at: Path
    is_executable: bool = False

    @property
    def as_file(self) -> ManifestFile:
        """The file as part of a version."""
        return ManifestFile(self.path, self.sha256, self.size, self.is_executable)


class Budget:
    """How much all archives of one upload may unpack to together: as much as a single archive.

    Otherwise ten thousand small ones could take ten thousand times as much of the disk and of a worker's
    time.
    """

    def __init__(self) -> None:
        self._most = UnpackLimits()
        self._until = time.monotonic() + self._most.seconds
        self._bytes = self._entries = 0

    @property
    def left(self) -> UnpackLimits:
        """How much the next archive may unpack to. Raises HostError if nothing is left."""
        left = replace(
            self._most,
            seconds=self._until - time.monotonic(),
            total_bytes=self._most.total_bytes - self._bytes,
            entries=self._most.entries - self._entries,
        )
        if min(left.seconds, left.total_bytes, left.entries) <= 0:
            raise HostError(
                "There is more in these archives than is unpacked at a time: "
                f"{self._most.total_bytes // 1024**3} GiB, {self._most.entries:,} files and "
                f"{self._most.seconds / 60:.0f} minutes. Bring them in several uploads."
            )
        return left

    def take(self, files: Sequence[UnpackedFile]) -> None:
        """Subtract what an archive unpacked to."""
        self._bytes += sum(file.size for file in files)
        self._entries += len(files) + len(folders_of(file.path for file in files))


@dataclass(frozen=True)
class Arranged:
    """All files at the paths where they belong, and what there is to say about that."""

    files: Sequence[Brought]
    notes: Sequence[dict[str, Any]]


def make_version_of(
    host: UnpackingHost,
    upload: Upload,
    parts: Sequence[UploadPart],
    **given: Unpack[CallbackArguments],
) -> None:
    """Make a version of an upload, whose overlay, latest version and `by` have been read.

    Raises HostError with a sentence for people, and OperationCancelled. Safe to run again after it was
    killed.
    """
    callbacks = Callbacks(**given)
    with store.get_store().incoming(f"upload-{upload.pk}") as folder:
        try:
            arranged = arrange(host, take_all(host, parts, folder, callbacks), callbacks)
            version = store_version(host, upload, parts, arranged, folder, callbacks)
        except (ValidationError, ManifestError, BlobError) as error:
            raise HostError(to_sentence(error)) from error
        except OSError as error:
            if error.errno not in store.NO_SPACE:
                raise
            raise HostError(
                "The panel's disk is full: nothing was changed. Ask an admin to make room, then try again."
            ) from error
    callbacks.on_line(
        "stdout", f"{version} has {version.files:,} files, {version.size_bytes:,} bytes."
    )
    store.remove_files(upload.pk)


def to_sentence(error: Exception) -> str:
    """Return an error as a sentence for people."""
    return " ".join(error.messages) if isinstance(error, ValidationError) else str(error)


# --- What came ----------------------------------------------------------------------------------


def is_archive(path: str) -> bool:
    """Return whether a file must be unpacked, judging by its name."""
    return ARCHIVE.fullmatch(path) is not None


def take_all(
    host: UnpackingHost, parts: Sequence[UploadPart], folder: Path, callbacks: Callbacks
) -> Iterator[Brought]:
    """Yield every file of an upload; afterwards its bytes are in `folder`, or linked there."""
    total = sum(part.size for part in parts) or 1
    done = 0
    budget = Budget()
    (folder / "files").mkdir()
    for number, part in enumerate(parts):
        callbacks.cancel.raise_if_cancelled()
        require_whole(part)
        if part.is_bundle or is_archive(part.path):
            yield from unpack_part(host, part, folder / f"archive-{number}", budget, callbacks)
        else:
            callbacks.on_stage("Reading files", 100 * done // total)
            linked = folder / "files" / str(number)
            os.link(store.path_of(part), linked)
            sha256 = hash_file(linked, callbacks.cancel)
            yield Brought("", part.path, sha256, part.size, linked)
        done += part.size


def require_whole(part: UploadPart) -> None:
    """Raise HostError unless all bytes of a part have arrived."""
    if store.read_offset(part) != part.size:
        raise HostError(
            f"{part.path} is no longer complete. Discard this upload, and upload the files again."
        )


def unpack_part(
    host: UnpackingHost, part: UploadPart, into: Path, budget: Budget, callbacks: Callbacks
) -> Iterator[Brought]:
    """Yield the files in an archive. A browser's bundle counts as if each file had been sent by itself."""
    source = "" if part.is_bundle else part.path
    callbacks.on_line("stdout", f"Unpacking {part.path}, {part.size:,} bytes.")
    files = host.unpack(
        store.path_of(part),
        part.path,
        into,
        limits=budget.left,
        on_line=callbacks.on_line,
        on_stage=callbacks.on_stage,
        cancel=callbacks.cancel,
    )
    budget.take(files)
    callbacks.on_line("stdout", f"{part.path} has {len(files):,} files.")
    for file in files:
        yield Brought(source, file.path, file.sha256, file.size, file.stored_at, file.is_executable)


def hash_file(path: Path, cancel: CancelToken) -> str:
    """Return the SHA-256 of a file. Raises OperationCancelled."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while data := file.read(HASHED_BYTES):
            cancel.raise_if_cancelled()
            digest.update(data)
    return digest.hexdigest()


# --- Where it belongs ---------------------------------------------------------------------------


def arrange(host: UnpackingHost, brought: Iterable[Brought], callbacks: Callbacks) -> Arranged:
    """Find where files belong: for each archive separately, because each has a root of its own.

    Raises HostError if that cannot be decided, or if two different files belong at the same path.
    """
    groups: dict[str, dict[str, Brought]] = {}
    for file in brought:
        of_group = groups.setdefault(file.source, {})
        if file.path in of_group and of_group[file.path].sha256 != file.sha256:
            raise HostError(
                f"{file.path} was uploaded twice, with different contents. Remove one of them."
            )
        of_group[file.path] = file
    callbacks.on_stage("Arranging files", None)
    placed: dict[str, Brought] = {}
    notes: list[dict[str, Any]] = []
    for source, files in groups.items():
        callbacks.cancel.raise_if_cancelled()
        arrangement = host.arrange_files(list(files))
        if arrangement.refusals:
            said = " ".join(dict.fromkeys(note.text for note in arrangement.refusals))
            raise HostError(f"{source}: {said}" if source else said)
        for note in arrangement.notes:
            callbacks.on_line("stdout", f"{source}: {note.text}" if source else note.text)
            notes.append(asdict(note))
        for came_as, path in arrangement.places.items():
            add_placed(placed, replace(files[came_as], path=path))
    if not placed:
        raise HostError("It has no files for the game.")
    return Arranged(list(placed.values()), notes[:MOST_NOTES])


def add_placed(placed: dict[str, Brought], file: Brought) -> None:
    """Add a file at its place. Raises HostError if a different one is there already."""
    other = placed.setdefault(file.path.casefold(), file)
    if other.sha256 != file.sha256:
        sources = " and ".join(
            dict.fromkeys(one.source or "the separate files" for one in (other, file))
        )
        raise HostError(
            f"Two different files belong at {file.path}: those of {sources}. Upload them one after the "
            "other, the one to keep last."
        )


def lay_over(base: Iterable[ManifestFile], files: Iterable[ManifestFile]) -> list[ManifestFile]:
    """Return the files of a version with others added, or replacing those at the same path.

    The game ignores case, so paths are spelled as they are in `base`. Whether servers keep their own copy of
    a file, if somebody has decided that, also applies to its replacement.
    """
    combined = {file.path.casefold(): file for file in base}
    spelled = {}
    for file in combined.values():
        parents = (str(parent) for parent in PurePosixPath(file.path).parents)
        for path in (file.path, *parents):
            spelled[path.casefold()] = path
    for file in files:
        path = ""
        for name in file.path.split("/"):
            longer = f"{path}/{name}" if path else name
            path = spelled.setdefault(longer.casefold(), longer)
        before = combined.get(file.path.casefold())
        combined[file.path.casefold()] = replace(
            file, path=path, is_seed=before.is_seed if before else None
        )
    return list(combined.values())


# --- The version --------------------------------------------------------------------------------


def store_version(
    host: UnpackingHost,
    upload: Upload,
    parts: Sequence[UploadPart],
    arranged: Arranged,
    folder: Path,
    callbacks: Callbacks,
) -> OverlayVersion:
    """Store the upload as the next version of its overlay; combined with the latest one, if it adds to that.

    If somebody else makes a version meanwhile, the upload is combined with that one.
    """
    overlay, cancel = upload.overlay, callbacks.cancel
    stored = {file.sha256: file.stored_at for file in arranged.files}
    origin = describe_origin(parts)
    tries = 0
    while True:
        tries += 1
        base = overlay.latest if upload.adds_to_latest else None
        over = store.read_files(base) if base else ()
        files = lay_over(over, [file.as_file for file in arranged.files])
        require_files(files)
        callbacks.on_stage("Looking at the files", None)
        tree = lay_out(files, stored, folder / f"tree-{tries}", cancel)
        report = host.folder_report(tree, overlay.name, cancel=cancel)
        columns = describe_overlay(report)
        kept = {name: columns[name] for name in ("campaigns", "maps", "version")}
        kept["plugins"] = describe_plugins(report)
        kept["findings"] = [*columns["findings"], *arranged.notes]
        callbacks.on_stage("Storing the version", None)
        cancel.raise_if_cancelled()
        make = partial(
            store.make_version,
            overlay,
            files,
            stored=[(path, sha256) for sha256, path in stored.items()],
            origin=origin,
            note=upload.note,
            report=kept,
            upload=upload,
            follows=base,
            is_first=upload.adds_to_latest and base is None,
        )
        try:
            return outlast(partial(make_once, upload, make), cancel)
        except store.NewerVersionError:
            callbacks.on_line(
                "stdout", "The overlay has a newer version by now. Adding to that one."
            )
            shutil.rmtree(tree)
            overlay = outlast(partial(read_overlay, upload.overlay_id), cancel)


def make_once(upload: Upload, make: Callable[..., OverlayVersion]) -> OverlayVersion:
    """Make the version, unless an earlier try was committed and its answer lost with the connection.

    The uploader's permissions are read here: they may have been taken away while this was unpacking.
    """
    this = Upload.objects.select_related("version", "by").filter(pk=upload.pk).first()
    if this is None:
        raise HostError("The upload was discarded.")
    return this.version or make(by=this.by)


def describe_origin(parts: Sequence[UploadPart]) -> str:
    """Return where a version came from, in a few words."""
    names = [part.path for part in parts if not part.is_bundle]
    shown = ", ".join(names[:NAMED_SOURCES]) or "files from a browser"
    if len(names) > NAMED_SOURCES:
        shown = f"{shown} and {len(names) - NAMED_SOURCES} more"
    return shown if len(shown) <= ORIGIN_CHARS else f"{shown[: ORIGIN_CHARS - 1]}…"


def lay_out(
    files: Iterable[ManifestFile], stored: dict[str, Path], tree: Path, cancel: CancelToken
) -> Path:
    """Lay files out in a new folder by hard links, as the game would see them; return the folder."""
    blobs = store.get_store()
    made: set[Path] = set()
    for number, file in enumerate(files):
        if number % LINKS_PER_LOOK == 0:
            cancel.raise_if_cancelled()
        target = tree / file.path
        if target.parent not in made:
            target.parent.mkdir(parents=True, exist_ok=True)
            made.add(target.parent)
        source = stored.get(file.sha256)
        if source is None or not source.exists():
            source = blobs.path_of(file.sha256)
        try:
            link(source, target)
        except FileNotFoundError:
            raise HostError(
                f"{file.path}, of the version that this adds to, is no longer in the store. Replace "
                "everything instead, or ask an admin to restore it from a backup."
            ) from None
    return tree


def link(source: Path, target: Path) -> None:
    """Hard-link a file; copy it if it already has as many links as the file system allows."""
    try:
        os.link(source, target)
    except OSError as error:
        if error.errno != errno.EMLINK:
            raise
        shutil.copyfile(source, target)


def read_overlay(overlay_id: int) -> Overlay:
    """Return an overlay with its latest version."""
    return Overlay.objects.select_related("latest", "owner").get(pk=overlay_id)


def outlast(step: Callable[[], T], cancel: CancelToken) -> T:
    """Do something in the database, waiting until it is available; hold no connection before or after.

    Raises OperationCancelled while it waits.
    """
    what = "no version can be stored yet"
    while True:
        try:
            done = step()
        except Exception as error:
            if not is_away(error):
                raise
            outage_log.tell(what, error)
        else:
            outage_log.end(what)
            return done
        finally:
            if not connection.in_atomic_block:
                connection.close()
        cancel.wait(AGAIN_SECONDS)
        cancel.raise_if_cancelled()
