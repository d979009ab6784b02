"""Lays out versions of overlays on a host, from its cache of their files, and removes those that are unused.

A version is a folder `versions/<name>/<digest>` of hard links into the cache. It appears by a single rename,
complete and on disk, and never changes afterwards, so that running servers keep what they were started with.
Files missing from the cache are fetched first. Mode and owner belong to the file, not to the link: so the
cache has two copies of a file that may be executed, and of one with as many links as the file system allows.

The content lock is held shared while versions are laid out, and while one is needed that no record names yet.
`prune` holds it exclusively.
"""

import contextlib
import errno
import hashlib
import json
import os
import secrets
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from hostops.blobs import SWEEP_AFTER_SECONDS, BlobError, BlobFolder
from hostops.callbacks import Callbacks
from hostops.content.blob_fetching import WantedBlob, fetch_blobs
from hostops.errors import BlobSourceError, HostError
from hostops.instances import disk_usage, instance_files
from hostops.layout import HostLayout
from hostops.linux.files import (
    copy_file,
    make_dir,
    remove_tree,
    sync_dir,
    sync_file_system,
    write_atomically,
)
from hostops.linux.locks import hold, hold_if_free
from hostops.manifests import (
    MAX_MANIFEST_BYTES,
    SHA256,
    ManifestError,
    ManifestFile,
    read_manifest,
)
from hostops.specs import BlobSource, OverlayReference, PrunedContent

_FILE_MODE = 0o644
_PROGRAM_MODE = 0o755
_FOLDER_MODE = 0o755
_LOOK_EACH = 256


@dataclass(frozen=True)
class Needs:
    """What versions are prepared for: which server, from which source, and how much stays free."""

    server: str
    source: BlobSource | None
    min_free_bytes: int


@contextlib.contextmanager
def hold_ready(
    layout: HostLayout, overlays: Sequence[str], needs: Needs, callbacks: Callbacks
) -> Iterator[None]:
    """Get the versions among `overlays` ready, and keep them until the end of the block.

    By then an instance's record has to say that they are needed. Raises HostError.
    """
    versions = [one for one in map(OverlayReference.parse, overlays) if one.digest is not None]
    if not versions:
        yield
        return
    with hold(layout.content_lock_path, f"lay out for {needs.server}", callbacks, shared=True):
        for version in versions:
            with _explained(version, needs):
                _make_ready(layout, version, needs, callbacks)
        yield


def find_laid_out(layout: HostLayout) -> frozenset[tuple[str, str]]:
    """Return the versions that are laid out, each as its overlay's name and its manifest's digest."""
    return frozenset(
        (folder.parent.name, folder.name)
        for folder in layout.versions_dir.glob("*/*")
        if SHA256.fullmatch(folder.name)
    )


def prune(layout: HostLayout, *, now: float | None = None) -> PrunedContent | None:
    """Remove the versions and the cached files that have not been needed for a day.

    A version is needed if an instance's record or last launch names it; a file, if a version links to it.
    Returns None, and does nothing, while somebody lays out a version, or if it is unclear what a server is
    made of. `now` is in seconds since the epoch.
    """
    before = (time.time() if now is None else now) - SWEEP_AFTER_SECONDS
    if not (layout.versions_dir.is_dir() or layout.blobs_dir.is_dir()):
        return PrunedContent()
    with hold_if_free(layout.content_lock_path, "prune versions of overlays") as is_ours:
        if not is_ours:
            return None
        needed = instance_files.find_needed_folders(layout)
        if needed is None:
            return None
        versions = _prune_versions(layout, needed, before)
        blobs = _Cache(layout).prune(before)
        return PrunedContent(versions, blobs)


class _Cache:
    """The blobs of a host, and the second copies of those that may be executed."""

    def __init__(self, layout: HostLayout) -> None:
        self.files = BlobFolder(layout.blobs_dir, file_mode=_FILE_MODE)
        self.programs = BlobFolder(layout.blobs_dir / "programs", file_mode=_PROGRAM_MODE)

    def has_manifest(self, digest: str) -> bool:
        """Whether a manifest is there, complete: a damaged one would lay out a different version."""
        try:
            data = self.files.read(digest, MAX_MANIFEST_BYTES)
        except BlobError:
            return False
        return hashlib.sha256(data).hexdigest() == digest

    def find_missing(self, files: Iterable[ManifestFile]) -> list[WantedBlob]:
        """Return the blobs that are missing, each once. One of the wrong size is damaged, and is removed."""
        wanted: dict[str, WantedBlob] = {}
        for file in files:
            if file.sha256 in wanted:
                continue
            path = self.files.path_of(file.sha256)
            try:
                if path.stat().st_size == file.size:
                    continue
                path.unlink()
            except FileNotFoundError:
                pass
            wanted[file.sha256] = WantedBlob(file.sha256, file.size, file.size)
        return list(wanted.values())

    def make_programs(
        self, files: Iterable[ManifestFile], folder: Path, callbacks: Callbacks
    ) -> None:
        """Make the second copies of the files that may be executed; they are copied in `folder`."""
        missing = self.programs.find_missing(file.sha256 for file in files if file.is_executable)
        copies = [(folder / f"{sha256}.program", sha256) for sha256 in missing]
        if copies:
            with self.programs.adding():
                for path, sha256 in copies:
                    copy_file(self.files.path_of(sha256), path, callbacks.cancel)
                self.programs.adopt(copies)

    def link(self, file: ManifestFile, target: str, folder: Path, callbacks: Callbacks) -> None:
        """Link a file to its place in a version; `folder` is for a file that has to be copied."""
        blobs = self.programs if file.is_executable else self.files
        path = blobs.path_of(file.sha256)
        try:
            os.link(path, target)
        except OSError as error:
            if error.errno != errno.EMLINK:
                raise
            _renew(path, folder / f"{file.sha256}.renewed", callbacks)
            os.link(path, target)

    def prune(self, before: float) -> int:
        """Remove what no version links to and nobody has touched since `before`; return how many bytes."""
        removed_bytes = 0
        for blobs in (self.files, self.programs):
            for folder in blobs.root.glob("[0-9a-f][0-9a-f]"):
                for entry in os.scandir(folder):
                    status = entry.stat(follow_symlinks=False)
                    # Making or removing a link also sets the change time.
                    if status.st_nlink == 1 and status.st_ctime < before:
                        os.unlink(entry.path)  # noqa: PTH108 - of very many
                        removed_bytes += status.st_size
            for path in blobs.incoming_dir.glob("*"):
                if path.lstat().st_ctime < before:
                    remove_tree(path)
        return removed_bytes


def _make_ready(
    layout: HostLayout, version: OverlayReference, needs: Needs, callbacks: Callbacks
) -> None:
    """Get one version ready, if it is not. What an earlier try has fetched is not fetched again."""
    folder = layout.overlay_folder(str(version))
    if _is_there(folder):
        return
    cache = _Cache(layout)
    purpose = f"lay out {version.label}"
    with hold(layout.version_lock_path(version.name), purpose, callbacks):
        if _is_there(folder):  # Whoever held the lock before has laid it out.
            return
        make_dir(folder.parent, _FOLDER_MODE)
        _remove_leftovers(folder.parent)
        with cache.files.adding():
            incoming = make_dir(cache.files.incoming_dir / f"of-{version.name}")
            files = _fetch(layout, cache, version, needs, incoming, callbacks)
            callbacks.stage(f"Laying out {version.label}")
            cache.make_programs(files, incoming, callbacks)
            _write_choices(layout.choices_path(folder), files)
            _lay_out(cache, files, folder, incoming, callbacks)
    callbacks.say(
        f"{version.label[0].upper()}{version.label[1:]} is laid out: {len(files):,} files."
    )


def _is_there(folder: Path) -> bool:
    """Whether a version is laid out; if so, note that it was needed just now."""
    try:
        os.utime(folder)
    except FileNotFoundError:
        return False
    return True


def _fetch(
    layout: HostLayout,
    cache: _Cache,
    version: OverlayReference,
    needs: Needs,
    incoming: Path,
    callbacks: Callbacks,
) -> tuple[ManifestFile, ...]:
    """Fetch what the cache lacks of a version; return the version's files."""
    stage = f"Fetching {version.label}"
    digest = version.digest or ""
    if not cache.has_manifest(digest):
        source = _require_source(version, needs)
        wanted = [WantedBlob(digest, MAX_MANIFEST_BYTES)]
        cache.files.adopt(fetch_blobs(source, wanted, incoming, stage, callbacks))
    try:
        files = read_manifest(cache.files.read(digest, MAX_MANIFEST_BYTES))
    except ManifestError as error:
        raise HostError(
            f"{needs.server} needs {version.label}, and what it is said to consist of cannot be: {error} "
            "Choose another version of it."
        ) from None
    missing = cache.find_missing(files)
    if missing:
        source = _require_source(version, needs)
        _require_room(layout, version, needs, missing, incoming)
        cache.files.adopt(fetch_blobs(source, missing, incoming, stage, callbacks))
    return files


def _require_source(version: OverlayReference, needs: Needs) -> BlobSource:
    if needs.source is None:
        raise HostError(
            f"{needs.server} needs {version.label}, which is not on this host, and nothing says where its "
            "files are: on the panel's machine CONTENT_ROOT has to be a folder that this account may read, and "
            "on any other PANEL_URL has to be the panel's address."
        )
    return needs.source


def _require_room(
    layout: HostLayout,
    version: OverlayReference,
    needs: Needs,
    missing: Iterable[WantedBlob],
    incoming: Path,
) -> None:
    """Raise HostError unless what is missing fits on the disk and leaves enough of it free."""
    here = sum(status.st_blocks for status in map(Path.lstat, incoming.iterdir())) * 512
    needed = sum(blob.size or 0 for blob in missing) - here
    disk_usage.require_room(
        layout, needs.server, needs.min_free_bytes, needed_bytes=needed, what=version.label
    )


def _lay_out(
    cache: _Cache,
    files: Sequence[ManifestFile],
    folder: Path,
    incoming: Path,
    callbacks: Callbacks,
) -> None:
    """Make the folder of a version, which appears complete, by one rename. Afterwards `incoming` is gone."""
    unfinished = folder.parent / f".{secrets.token_hex(8)}"
    try:
        _make_folder(str(unfinished))
        made = {""}
        for number, file in enumerate(files):
            if number % _LOOK_EACH == 0:
                callbacks.cancel.raise_if_cancelled()
            _make_folders(str(unfinished), file.path, made)
            cache.link(file, f"{unfinished}/{file.path}", incoming, callbacks)
        remove_tree(incoming)
        sync_file_system(unfinished)
        unfinished.rename(folder)
    except BaseException:
        remove_tree(unfinished)
        raise
    sync_dir(folder.parent)


def _write_choices(path: Path, files: Iterable[ManifestFile]) -> None:
    """Record the choices of which files are seeds and which are not, before the version's folder appears."""
    choices = {file.path: file.is_seed for file in files if file.is_seed is not None}
    if choices:
        write_atomically(path, json.dumps(choices))


def _make_folders(top: str, path: str, made: set[str]) -> None:
    """Make the folders around a path, except those already `made`."""
    parent = path.rpartition("/")[0]
    if parent not in made:
        _make_folders(top, parent, made)
        _make_folder(f"{top}/{parent}")
        made.add(parent)


def _make_folder(path: str) -> None:
    os.mkdir(path)  # noqa: PTH102 - of many
    os.chmod(path, _FOLDER_MODE)  # noqa: PTH101 - whatever the umask is


def _renew(path: Path, copy: Path, callbacks: Callbacks) -> None:
    """Replace a file that can have no more links by a copy; existing links keep the old file."""
    copy_file(path, copy, callbacks.cancel)
    descriptor = os.open(copy, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    copy.rename(path)


def _remove_leftovers(folder: Path) -> None:
    """Remove folders whose making or removal was interrupted. The caller's lock keeps others out."""
    for path in folder.glob(".*"):
        remove_tree(path)


def _prune_versions(layout: HostLayout, needed: frozenset[Path], before: float) -> int:
    removed = 0
    for parent in layout.versions_dir.glob("*"):
        _remove_leftovers(parent)
        for folder in parent.glob("*"):
            if folder in needed or folder.lstat().st_mtime >= before:
                continue
            if folder.suffix:
                if not folder.with_suffix("").exists():
                    folder.unlink()
                continue
            # By one rename, so that no half of it is ever mistaken for the whole.
            doomed = parent / f".{secrets.token_hex(8)}"
            folder.rename(doomed)
            remove_tree(doomed)
            layout.choices_path(folder).unlink(missing_ok=True)
            removed += 1
        with contextlib.suppress(OSError):  # It has other versions.
            parent.rmdir()
    return removed


@contextlib.contextmanager
def _explained(version: OverlayReference, needs: Needs) -> Iterator[None]:
    """Add to an error which server needs which version."""
    try:
        yield
    except BlobSourceError as error:
        raise HostError(
            f"{needs.server} needs {version.label}, which could not be fetched. {error}"
        ) from error
    except OSError as error:
        cure = (
            "Its files have to belong to the account that runs this, which may not link to those of others."
            if error.errno in (errno.EPERM, errno.EACCES)
            else "Look at that disk, and try again."
        )
        raise HostError(
            f"{needs.server} needs {version.label}, which could not be laid out: "
            f"{error.filename or 'the disk'}: {error.strerror}. {cure}"
        ) from error
