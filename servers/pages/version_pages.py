"""The pages of one version of an overlay: its files, differences to other versions, going back, removal."""

import logging
from collections.abc import Callable, Iterable
from functools import wraps
from http import HTTPStatus
from typing import Any

from django.contrib import messages
from django.core.paginator import Paginator
from django.http import Http404, HttpResponse, HttpResponseBase
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST, require_safe

from hostops.specs import ManifestFile
from servers.access import SignedInRequest, get_overlay, sign_in_required
from servers.config import find_providers
from servers.forms import find_passwords
from servers.models import OverlayVersion
from servers.pages.new_server_pages import form_page
from servers.permissions import Verb, may
from servers.refusals import refuse
from servers.store import (
    PLUGINS_DIR,
    BlobError,
    FileChange,
    VersionRefusedError,
    compare,
    diff_change,
    find_folder,
    find_holders,
    go_back,
    is_loaded_plugin,
    label_lines,
    open_lone_folders,
    parent_of,
    read_files,
    read_if_text,
    remove_version,
    send_file,
    show_changes,
)

logger = logging.getLogger(__name__)

FILES_PER_PAGE = 500
CHANGES_SHOWN = 1_000
PATH_CHARS = 512
OTHERS_SHOWN = 100
PLUGINS_SHOWN = 300


def files_page(view: Callable[..., HttpResponseBase]) -> Callable[..., HttpResponseBase]:
    """Answer with a sentence if the store has lost what the page is about, or cannot be read."""

    @wraps(view)
    def guarded(request: SignedInRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        try:
            return view(request, *args, **kwargs)
        except BlobError as error:
            back_to = reverse("servers:overlay_detail", args=[kwargs["name"]])
            reason = _(
                "This cannot be shown. %(error)s A backup may have it, or an earlier version."
            )
            return refuse(request, reason % {"error": error}, back_to, HTTPStatus.GONE)
        except OSError as error:
            logger.exception("The store of overlays cannot be read")
            reason = _("The panel’s store cannot be read: %(error)s. Tell an admin.")
            status = HTTPStatus.INTERNAL_SERVER_ERROR
            back_to = reverse("servers:overlay_list")
            return refuse(request, reason % {"error": error.strerror}, back_to, status)

    return guarded


def get_version(request: SignedInRequest, name: str, number: int, verb: Verb) -> OverlayVersion:
    """Return a version with its overlay, if the user may do `verb` to the overlay."""
    overlay = get_overlay(request.user, name, verb)
    version = get_object_or_404(overlay.versions, number=number)
    version.overlay = overlay
    return version


def read_path(request: SignedInRequest) -> str:
    """Return the file or folder that the address names."""
    return request.GET.get("path", "")[:PATH_CHARS]


def find_file(version: OverlayVersion, path: str) -> ManifestFile:
    """Return the file of a version at `path`, or answer 404."""
    file = look_up(version, path)
    if file is None:
        raise Http404
    return file


def look_up(version: OverlayVersion, path: str) -> ManifestFile | None:
    """Return the file of a version at `path`; None if it has none."""
    return next((file for file in read_files(version) if file.path == path), None)


@require_safe
@sign_in_required
@files_page
def overlay_version(request: SignedInRequest, name: str, number: int) -> HttpResponse:
    """Show a version with one of its folders: the one at `path`, or the first that branches."""
    version = get_version(request, name, number, Verb.USE_OVERLAY)
    files = read_files(version)
    has_path = "path" in request.GET
    folder = find_folder(files, read_path(request)) if has_path else open_lone_folders(files)
    if folder is None:
        raise Http404
    entries = [*folder.folders, *folder.files]
    page = Paginator(entries, FILES_PER_PAGE).get_page(request.GET.get("page"))
    context = describe_version(request, version) | {
        "folder": folder,
        "is_whole": not has_path or not folder.path,
        "page": page,
        "holders": find_holders(version.overlay, request.user).get(version.reference, []),
        "others": version.overlay.versions.exclude(pk=version.pk)[:OTHERS_SHOWN],
    }
    if context["is_whole"]:
        context |= describe_plugins(request, version, files)
    return render(request, "overlays/version.html", context)


def describe_plugins(
    request: SignedInRequest, version: OverlayVersion, files: Iterable[ManifestFile]
) -> dict[str, Any]:
    """Return the plugins of a version that SourceMod loads by itself, and what it needs from others."""
    known = {PLUGINS_DIR + plugin["path"]: plugin for plugin in version.plugins or ()}
    plugins = [(file, known.get(file.path, {})) for file in files if is_loaded_plugin(file.path)]
    return {
        "plugins": plugins[:PLUGINS_SHOWN],
        "more_plugins": max(len(plugins) - PLUGINS_SHOWN, 0),
        "provided": find_providers(request.user, version),
    }


def describe_version(request: SignedInRequest, version: OverlayVersion) -> dict[str, Any]:
    """Return the context that all pages of a version share."""
    return {
        "overlay": version.overlay,
        "version": version,
        "is_latest": version.overlay.latest_id == version.pk,
        "may_change": may(request.user, Verb.CHANGE_OVERLAY, version.overlay),
    }


@require_safe
@sign_in_required
@files_page
def overlay_file(request: SignedInRequest, name: str, number: int) -> HttpResponse:
    """Show one file: what it is, and its text if it is one."""
    version = get_version(request, name, number, Verb.USE_OVERLAY)
    file = find_file(version, read_path(request))
    text = read_if_text(file)
    context = describe_version(request, version) | {
        "file": file,
        "folder_path": parent_of(file.path),
        "text": text,
        "passwords": find_passwords(file.path, text.shown) if text else [],
    }
    return render(request, "overlays/file.html", context)


@require_safe
@sign_in_required
@files_page
def overlay_file_download(request: SignedInRequest, name: str, number: int) -> HttpResponseBase:
    """Send one file of a version."""
    version = get_version(request, name, number, Verb.USE_OVERLAY)
    return send_file(request, find_file(version, read_path(request)))


@require_safe
@sign_in_required
@files_page
def overlay_changes(request: SignedInRequest, name: str, number: int) -> HttpResponse:
    """Show how a version differs from another one: `from`, or else the one before it.

    With a `path`, show how that file differs.
    """
    version = get_version(request, name, number, Verb.USE_OVERLAY)
    others = version.overlay.versions.exclude(pk=version.pk)
    other: OverlayVersion | None
    wanted = request.GET.get("from", "")
    if wanted.isascii() and wanted.isdigit() and len(wanted) < 10:
        other = get_object_or_404(others, number=int(wanted))
    else:
        other = others.filter(number__lt=number).first()
    changes = compare(read_files(other) if other else (), read_files(version))
    context = describe_version(request, version) | {
        "other": other,
        "others": others[:OTHERS_SHOWN],
        "path": read_path(request),
    }
    if path := read_path(request):
        change = next((change for change in changes if change.path == path), None)
        if change is None:
            raise Http404
        context |= {
            "change": change,
            "lines": diff_change(change),
            "is_seed_changed": is_seed_changed(change),
        }
        return render(request, "overlays/file_changes.html", context)
    is_asked = "lines" in request.GET
    shown = show_changes(changes, is_asked=is_asked)
    kinds = {
        "added": [one for one in shown if one.change.before is None],
        "removed": [one for one in shown if one.change.after is None],
        "changed": [one for one in shown if one.change.before and one.change.after],
    }
    context |= {
        **{kind: files[:CHANGES_SHOWN] for kind, files in kinds.items()},
        "counts": {kind: len(files) for kind, files in kinds.items()},
        "ask_label": ""
        if is_asked or all(one.is_read for one in shown)
        else label_lines(len(changes)),
        "most": CHANGES_SHOWN,
    }
    return render(request, "overlays/changes.html", context)


def is_seed_changed(change: FileChange) -> bool:
    """Return whether servers keep their own copy of a file in one of the versions only."""
    before, after = change.before, change.after
    return bool(before and after and before.servers_keep_theirs != after.servers_keep_theirs)


@require_POST
@sign_in_required
@files_page
def overlay_version_restore(request: SignedInRequest, name: str, number: int) -> HttpResponse:
    """Make the files of an older version the latest again, as a new version."""
    version = get_version(request, name, number, Verb.CHANGE_OVERLAY)
    latest_id = version.overlay.latest_id
    try:
        made = go_back(version, by=request.user)
    except VersionRefusedError as error:
        messages.error(request, " ".join(error.messages))
        return redirect("servers:overlay_version", name, number)
    if made.pk == latest_id:
        messages.info(request, _("No version was made: the latest one has the same files."))
    else:
        messages.success(
            request,
            _("Version %(number)d was made, with the files of version %(older)d.")
            % {"number": made.number, "older": number},
        )
    return redirect(version.overlay)


@form_page
@sign_in_required
def overlay_version_remove(request: SignedInRequest, name: str, number: int) -> HttpResponse:
    """Ask whether to remove a version, and do so if nothing holds it."""
    version = get_version(request, name, number, Verb.CHANGE_OVERLAY)
    status = 200
    if request.method == "POST":
        try:
            remove_version(version)
        except VersionRefusedError:
            status = 409  # The page says what holds it.
        else:
            messages.success(request, _("Version %(number)d was removed.") % {"number": number})
            return redirect(version.overlay)
    holders = find_holders(version.overlay, request.user).get(version.reference, [])
    context = {"overlay": version.overlay, "version": version, "holders": holders}
    return render(request, "overlays/version_remove.html", context, status=status)
