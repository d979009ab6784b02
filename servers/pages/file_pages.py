"""The pages for changing files of an overlay. Each change makes a new version."""

from django.contrib import messages
from django.http import Http404, HttpResponse
from django.shortcuts import redirect, render
from django.utils.http import urlencode
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST

from hostops.specs import ManifestFile, find_character_faults
from servers.access import SignedInRequest, get_overlay, sign_in_required
from servers.forms import FileForm, LastChange, NewPathForm, NewTextForm, TextForm
from servers.models import Overlay, OverlayReport, OverlayVersion
from servers.pages.new_server_pages import form_page
from servers.pages.version_pages import (
    files_page,
    find_file,
    look_up,
    read_path,
)
from servers.permissions import Verb
from servers.store import (
    NEW_TEXT,
    FileChangedError,
    VersionRefusedError,
    choose_seed,
    read_if_text,
    remove_file,
    rename_file,
    save_file,
)


def get_latest(request: SignedInRequest, name: str) -> tuple[Overlay, OverlayVersion]:
    """Return an overlay that the user may change, and its latest version; 404 if it has none."""
    overlay = get_overlay(request.user, name, Verb.CHANGE_OVERLAY)
    if overlay.latest is None:
        raise Http404
    return overlay, overlay.latest


def lead_to_version(
    request: SignedInRequest, overlay: Overlay, version: OverlayVersion, before: int | None
) -> HttpResponse:
    """Say which version a change has made, and redirect to its overlay."""
    if version.pk == before:
        messages.info(request, _("No version was made: nothing differs from the latest one."))
    else:
        if overlay.blueprint_overlays.exists():
            text = _("Version %(number)d was made. Servers use it from their next start on.")
        else:
            text = _(
                "Version %(number)d was made. Add the overlay to a blueprint for servers to use it."
            )
        messages.success(request, text % {"number": version.number})
    return redirect(overlay)


def warn_of_characters(request: SignedInRequest, path: str, text: str) -> None:
    """Say which line of a config, if any, the game cannot read to its end."""
    if not path.lower().endswith(".cfg"):
        return
    for number, line in enumerate(text.split("\n"), start=1):
        for fault in find_character_faults(line.removesuffix("\r")):
            words = {"number": number, "path": path, "fault": fault}
            messages.warning(request, _("Line %(number)s of %(path)s %(fault)s") % words)
            return


@form_page
@sign_in_required
@files_page
def overlay_file_new(request: SignedInRequest, name: str) -> HttpResponse:
    """Create a text file; it may be the first file of an overlay."""
    overlay = get_overlay(request.user, name, Verb.CHANGE_OVERLAY)
    form = NewTextForm(request.POST or None, initial={"path": read_path(request)})
    if request.method == "POST" and form.is_valid():
        values = form.cleaned_data
        try:
            version = save_file(
                overlay, values["path"], form.bytes, opened="", by=request.user, note=values["note"]
            )
        except VersionRefusedError as error:
            form.add_error(None, error)
        else:
            warn_of_characters(request, values["path"], values["text"])
            return lead_to_version(request, overlay, version, overlay.latest_id)
    is_folder = overlay.latest is None and overlay.is_host_folder
    takes_folders = is_folder and OverlayReport.objects.filter(name=name).exists()
    context = {
        "overlay": overlay,
        "form": form,
        "takes_folders": takes_folders,
        "title": _("New text file"),
        "button": _("Save as a new version"),
    }
    return render(request, "overlays/file_form.html", context)


@form_page
@sign_in_required
@files_page
def overlay_file_edit(request: SignedInRequest, name: str) -> HttpResponse:
    """Change the text of a file of the latest version."""
    overlay, latest = get_latest(request, name)
    path = read_path(request)
    file = look_up(latest, path)
    before = read_if_text(file)
    if request.method == "POST":
        # What was typed survives even if the file is gone by now, or is no longer a text.
        before = before or NEW_TEXT
    if before is None:
        raise Http404
    opened = file.sha256 if file else ""
    form = TextForm(request.POST or None, path=path, before=before, opened=opened)
    if request.method == "POST" and form.is_valid():
        try:
            version = save_file(
                overlay,
                path,
                form.bytes,
                opened=form.seen_version,
                by=request.user,
                note=form.cleaned_data["note"],
            )
        except FileChangedError as error:
            show_both(request, form, overlay, error)
        except VersionRefusedError as error:
            form.add_error(None, error)
        else:
            warn_of_characters(request, path, form.cleaned_data["text"])
            return lead_to_version(request, overlay, version, latest.pk)
    context = {
        "overlay": overlay,
        "form": form,
        "path": path,
        "reload_url": f"{request.path}?{urlencode({'path': path})}",
        "is_text": True,
        "title": _("Edit a file"),
        "verb": _("Edit"),
        "button": _("Save as a new version"),
    }
    return render(request, "overlays/file_form.html", context, status=form.status)


def show_both(
    request: SignedInRequest, form: TextForm, overlay: Overlay, error: FileChangedError
) -> None:
    """Show what was saved meanwhile beside what was typed, and who made the latest version."""
    now = read_if_text(error.now)
    theirs = now.shown if now else ""
    form.show_conflict(form.cleaned_data["text"], theirs, error.now.sha256 if error.now else "")
    latest = overlay.versions.first()
    if latest is not None:
        what = _("version %(number)d") % {"number": latest.number}
        is_own = latest.created_by_id == request.user.pk
        form.last_change = LastChange(latest.created_by_name, latest.created_at, what, is_own)


@form_page
@sign_in_required
@files_page
def overlay_file_rename(request: SignedInRequest, name: str) -> HttpResponse:
    """Give a file of the latest version another path."""
    overlay, latest = get_latest(request, name)
    file = find_file(latest, read_path(request))
    form = NewPathForm(
        request.POST or None, opened=file.sha256, path=file.path, text=read_if_text(file)
    )
    if request.method == "POST" and form.is_valid():
        values = form.cleaned_data
        try:
            version = rename_file(
                overlay,
                file.path,
                values["path"],
                opened=form.seen_version,
                by=request.user,
                note=values["note"],
            )
        except VersionRefusedError as error:
            form.add_error(None, error)
        else:
            return lead_to_version(request, overlay, version, latest.pk)
    context = {
        "overlay": overlay,
        "form": form,
        "path": file.path,
        "title": _("Rename a file"),
        "verb": _("Rename"),
        "button": _("Rename the file"),
    }
    return render(request, "overlays/file_form.html", context)


@require_POST
@sign_in_required
@files_page
def overlay_file_seed(request: SignedInRequest, name: str) -> HttpResponse:
    """Let servers keep their own copy of a file of the latest version, or stop letting them."""
    overlay, latest = get_latest(request, name)
    path = read_path(request)
    try:
        version = choose_seed(
            overlay,
            path,
            is_seed=request.POST.get("seed") == "1",
            opened=request.POST.get("version", ""),
            by=request.user,
        )
    except VersionRefusedError as error:
        messages.error(request, " ".join(error.messages))
        return redirect(overlay)
    return lead_to_version(request, overlay, version, latest.pk)


@form_page
@sign_in_required
@files_page
def overlay_file_remove(request: SignedInRequest, name: str) -> HttpResponse:
    """Ask whether to leave a file out of the next version, and do so."""
    overlay, latest = get_latest(request, name)
    file: ManifestFile = find_file(latest, read_path(request))
    form = FileForm(request.POST or None, opened=file.sha256)
    if request.method == "POST" and form.is_valid():
        try:
            version = remove_file(
                overlay,
                file.path,
                opened=form.seen_version,
                by=request.user,
                note=form.cleaned_data["note"],
            )
        except VersionRefusedError as error:
            form.add_error(None, error)
        else:
            return lead_to_version(request, overlay, version, latest.pk)
    context = {
        "overlay": overlay,
        "form": form,
        "path": file.path,
        "is_removal": True,
        "title": _("Remove a file"),
        "verb": _("Remove"),
        "button": _("Remove the file"),
    }
    return render(request, "overlays/file_form.html", context)
