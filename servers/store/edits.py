"""Edits of single files of an overlay: each makes a new version of it."""

import contextlib
import hashlib
import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from django.contrib.auth.models import User
from django.utils.translation import gettext as _

from hostops.specs import ManifestError, ManifestFile, is_seed_path
from servers.models import NOTE_CHARS, Overlay, OverlayVersion
from servers.store.panel_store import get_store
from servers.store.traits import PLUGINS_DIR, is_loaded_plugin
from servers.store.versions import (
    TRIES,
    NewerVersionError,
    VersionRefusedError,
    make_version,
    read_files,
)

logger = logging.getLogger(__name__)

Files = dict[str, ManifestFile]
"""The files of a version by their paths."""


class FileChangedError(VersionRefusedError):
    """A file has changed since somebody opened it. `now` is the file as it is; None if it is gone."""

    def __init__(self, path: str, now: ManifestFile | None) -> None:
        super().__init__(
            _("%(path)s has been changed since you opened it.")
            if now
            else _("%(path)s has been removed since you opened it."),
            params={"path": path},
        )
        self.now = now


@contextlib.contextmanager
def explained() -> Iterator[None]:
    """Raise `VersionRefusedError` where the store accepts nothing: its disk is full, or read-only."""
    try:
        yield
    except OSError as error:
        logger.exception("The store of overlays takes nothing")
        raise VersionRefusedError(
            _("The panel could not store it: %(reason)s. Nothing was changed. Tell an admin.")
            % {"reason": error.strerror}
        ) from error


@explained()
def save_file(
    overlay: Overlay, path: str, data: bytes, *, opened: str, by: User, note: str = ""
) -> OverlayVersion:
    """Store a file's new bytes as a version. `opened` is the hash it had when opened, empty for a new file.

    Raises `FileChangedError` if its hash is different by now, otherwise what `make_version` raises.
    """
    sha256 = hashlib.sha256(data).hexdigest()

    def change(files: Files) -> None:
        before = _require(files, path, opened)
        new = before or ManifestFile(path, "", 0)
        files[path] = replace(new, sha256=sha256, size=len(data))

    store = get_store()
    with store.incoming("text") as folder:
        source = folder / "0"
        source.write_bytes(data)
        return _make(overlay, change, by=by, note=note, stored=[(source, sha256)])


@explained()
def rename_file(
    overlay: Overlay, path: str, new_path: str, *, opened: str, by: User, note: str = ""
) -> OverlayVersion:
    """Rename a file, as a version. Raises as `save_file` does."""

    def change(files: Files) -> None:
        before = _require(files, path, opened)
        if new_path in files and new_path != path:
            raise VersionRefusedError(
                _(
                    "There is already a file at %(path)s. Choose another name, or remove that file first."
                )
                % {"path": new_path}
            )
        if before is not None:
            del files[path]
            files[new_path] = replace(before, path=new_path)

    return _make(overlay, change, by=by, note=note, renamed={path: new_path})


@explained()
def choose_seed(
    overlay: Overlay, path: str, *, is_seed: bool, opened: str, by: User
) -> OverlayVersion:
    """Set whether servers keep their own copy of a file, as a version. Raises as `save_file` does."""

    def change(files: Files) -> None:
        before = _require(files, path, opened)
        if before is not None and before.servers_keep_theirs != is_seed:
            is_usual = is_seed_path(path) == is_seed
            files[path] = replace(before, is_seed=None if is_usual else is_seed)

    words = _("Servers keep their own %(path)s.") if is_seed else _("Servers use this %(path)s.")
    note = (words % {"path": path})[:NOTE_CHARS]
    return _make(overlay, change, by=by, note=note)


@explained()
def remove_file(
    overlay: Overlay, path: str, *, opened: str, by: User, note: str = ""
) -> OverlayVersion:
    """Leave a file out of the next version. Raises as `save_file` does."""

    def change(files: Files) -> None:
        _require(files, path, opened)
        files.pop(path, None)

    return _make(overlay, change, by=by, note=note)


@explained()
def drop_files(
    overlay: Overlay, paths: Collection[str], *, by: User, note: str = ""
) -> OverlayVersion:
    """Leave files out of the next version, as far as they exist. Raises as `make_version` does."""

    def change(files: Files) -> None:
        for path in paths:
            files.pop(path, None)

    return _make(overlay, change, by=by, note=note)


@explained()
def go_back(version: OverlayVersion, *, by: User) -> OverlayVersion:
    """Make the files of an older version the latest again, as a new version."""
    return make_version(
        version.overlay,
        read_files(version),
        by=by,
        origin=version.origin,
        note=_("as version %(number)d") % {"number": version.number},
        report=report_of(version),
    )


def report_of(version: OverlayVersion) -> dict[str, Any]:
    """Return the columns that describe what is in a version."""
    return {
        "campaigns": version.campaigns,
        "maps": version.maps,
        "findings": version.findings,
        "plugins": version.plugins,
        "version": version.version,
        "looked_at": version.looked_at,
    }


def carry_report(
    base: OverlayVersion | None, before: Files, after: Files, renamed: Mapping[str, str]
) -> dict[str, Any]:
    """Return what is known of a version from what was found in the one before it.

    What was found in a file stays true as long as the file is the same. A map of a removed pack is gone if it
    belonged only to a campaign of that pack.
    """
    if base is None:
        return {"maps": _loose_maps(after)}
    gone = {
        path
        for path, file in before.items()
        if (now := after.get(renamed.get(path, path))) is None or now.sha256 != file.sha256
    }

    def find_file(inside: str) -> str:
        """Return the file of the version that contains something: itself, or the pack around it."""
        while inside and inside not in before:
            inside = inside.rpartition("/")[0]
        return inside

    campaigns, lost_maps = [], _loose_maps(before)
    for campaign in base.campaigns:
        file = find_file(campaign["path"])
        if file in gone:
            lost_maps += _maps_of(campaign)
        else:
            place = renamed.get(file, file) + campaign["path"][len(file) :]
            campaigns.append({**campaign, "path": place})
    kept_maps = {*_loose_maps(after), *(one for each in campaigns for one in _maps_of(each))}
    findings = [
        {**finding, "path": renamed.get(finding["path"], finding["path"])}
        for finding in base.findings
        if find_file(finding["path"]) not in gone
    ]
    return {
        "plugins": None if base.plugins is None else carry_plugins(base.plugins, gone, renamed),
        "campaigns": campaigns,
        "maps": sorted({*base.maps, *kept_maps} - (set(lost_maps) - kept_maps)),
        "findings": findings,
        "version": base.version,
        "looked_at": base.looked_at,
    }


def carry_plugins(
    plugins: Iterable[dict[str, Any]], gone: Collection[str], renamed: Mapping[str, str]
) -> list[dict[str, Any]]:
    """Return what is known of the plugins that are still loaded: those of files that are not `gone`.

    None can be new: the editor only stores texts, and SourceMod loads no plugin from a text.
    """
    kept = []
    for plugin in plugins:
        path = PLUGINS_DIR + plugin["path"]
        now = renamed.get(path, path)
        if path not in gone and is_loaded_plugin(now):
            kept.append({**plugin, "path": now[len(PLUGINS_DIR) :]})
    return kept


def _make(
    overlay: Overlay,
    change: Callable[[Files], None],
    *,
    by: User,
    note: str,
    stored: Sequence[tuple[Path, str]] = (),
    renamed: Mapping[str, str] | None = None,
) -> OverlayVersion:
    """Make a version of what `change` makes of the latest one's files; retry if another one comes between."""

    def try_it() -> OverlayVersion:
        row = Overlay.objects.select_related("latest").filter(pk=overlay.pk).first()
        base = row.latest if row else None
        before = {file.path: file for file in read_files(base)} if base else {}
        after = dict(before)
        change(after)
        return make_version(
            overlay,
            list(after.values()),
            by=by,
            stored=stored,
            note=note,
            report=carry_report(base, before, after, renamed or {}),
            follows=base,
            is_first=base is None,
        )

    try:
        for _try in range(TRIES - 1):
            with contextlib.suppress(NewerVersionError):
                return try_it()
        return try_it()
    except ManifestError as error:
        raise VersionRefusedError(str(error)) from error


def _require(files: Files, path: str, opened: str) -> ManifestFile | None:
    """Return the file at `path`, which must have the hash `opened`; if that is empty, there must be no file."""
    now = files.get(path)
    if (now.sha256 if now else "") == opened:
        return now
    if not opened:
        raise VersionRefusedError(
            _("There is already a file at %(path)s. Open that one, or choose another name.")
            % {"path": path}
        )
    raise FileChangedError(path, now)


def _loose_maps(files: Files) -> list[str]:
    """Return the maps that lie in the overlay itself, not in a pack."""
    folder, suffix = "left4dead2/maps/", ".bsp"
    return [
        path.lower().removeprefix(folder).removesuffix(suffix)
        for path in files
        if path.lower().startswith(folder) and path.lower().endswith(suffix)
    ]


def _maps_of(campaign: Mapping[str, Any]) -> list[str]:
    return [chapter["map"].lower() for mode in campaign["modes"] for chapter in mode["chapters"]]
