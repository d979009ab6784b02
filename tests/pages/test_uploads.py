"""The page on which files are uploaded to an overlay, without a browser; `test_upload_browser` has one."""

import zipfile
from io import BytesIO
from pathlib import Path

import pytest
from django.conf import LazySettings
from django.contrib.auth.models import User
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.utils.timezone import now

from jobs import queue
from jobs.models import Job, JobState, Operation
from l4d2site.accounts.models import OwnQuotas
from servers import store
from servers.models import Blueprint, Overlay, Upload, UploadPart, UploadState
from servers.store import add_part, begin_upload, discard, path_of, save_file, upload_files

pytestmark = pytest.mark.django_db

PAGE = "/overlays/maps/uploads/"
JSON = {"Accept": "application/json"}


@pytest.fixture(autouse=True)
def store_below(tmp_path: Path, settings: LazySettings) -> None:
    """Give each test a store of its own."""
    settings.CONTENT_ROOT = tmp_path / "content"


@pytest.fixture
def overlay(alice: User) -> Overlay:
    """Return an overlay of Alice's without any version, which others may use."""
    return Overlay.objects.create(name="maps", owner=alice, is_shared=True)


def make_zip(name: str) -> SimpleUploadedFile:
    target = BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        archive.writestr("left4dead2/cfg/a.cfg", b"a")
    return SimpleUploadedFile(name, target.getvalue())


@pytest.mark.usefixtures("worker")
def test_a_form_without_javascript_brings_small_files_and_requests_the_version(
    as_alice: Client, overlay: Overlay
) -> None:
    assert b"data-upload-form" in as_alice.get(PAGE).content
    files = [make_zip("pack.zip"), SimpleUploadedFile("b.vpk", b"vpk")]
    answer = as_alice.post(PAGE, {"adds": "0", "note": "  two\nlines ", "files": files})
    assert (answer.status_code, answer.headers["Location"]) == (303, PAGE)
    upload = Upload.objects.get()
    assert (upload.note, upload.adds_to_latest, upload.state) == (
        "two lines",
        False,
        UploadState.WAITING,
    )
    assert [path_of(part).stat().st_size for part in upload.parts.all()] == [files[0].size, 3]
    job = Job.objects.get()
    assert (job.operation, job.upload, job.overlay_name) == (Operation.UNPACK, upload, "maps")
    page = as_alice.get(PAGE).content.decode()
    assert "Unpack upload" in page
    assert f'action="/jobs/{job.pk}/cancel"' in page
    assert 'value="Discard"' not in page
    listed = as_alice.get("/jobs/").content.decode()
    assert f'href="/jobs/{job.pk}/">Unpack upload for <span class="name">maps</span>' in listed


@pytest.mark.usefixtures("worker")
def test_a_note_with_a_nul_is_stored_nowhere(as_alice: Client, overlay: Overlay) -> None:
    assert as_alice.post(PAGE, {"note": "a\0b"}, headers=JSON).status_code == 400
    assert not Upload.objects.exists()
    assert as_alice.post(PAGE, {"note": "ab"}, headers=JSON).status_code == 201


def finish(overlay: Overlay, alice: User) -> None:
    """Make version 1 as a job does, and mark the upload as done."""
    version = save_file(overlay, "left4dead2/cfg/a.cfg", b"a", opened="", by=alice, note="")
    Upload.objects.create(
        overlay=overlay, by=alice, state=UploadState.DONE, version=version, finished_at=now()
    )


def test_a_version_that_was_made_leads_on_to_a_blueprint(
    as_alice: Client, overlay: Overlay, alice: User, blueprint: Blueprint
) -> None:
    assert "What comes next" not in as_alice.get(PAGE).content.decode()
    finish(overlay, alice)
    page = as_alice.get(PAGE).content.decode()
    edit = f"/blueprints/{blueprint.name}/edit/?overlay=maps"
    for address in (edit, "/blueprints/new/?overlay=maps", "/overlays/maps/versions/1/"):
        assert f'href="{address}"' in page, address
    answer = as_alice.get(edit)
    form = answer.context["form"]
    assert [one.overlay for one in form.overlay_places() if one.is_chosen] == [overlay]
    said = " ".join(answer.content.decode().split())
    link = f'<a class="name" href="#place-{overlay.pk}" autofocus>maps</a>'
    assert f"{link} is added below. Save to keep it." in said
    new = as_alice.get("/blueprints/new/?overlay=maps").content.decode()
    assert "is added below" in new
    assert new.count(" autofocus") == 1, "the keyboard starts at the name"
    blueprint.set_overlays([overlay])
    page = " ".join(as_alice.get(PAGE).content.decode().split())
    assert "uses it: its servers have version 1 from their next start." in page
    assert edit not in page
    assert "is added below" not in as_alice.get(edit).content.decode()
    assert "is the latest" not in page
    save_file(overlay, "left4dead2/cfg/b.cfg", b"b", opened="", by=alice, note="")
    page = " ".join(as_alice.get(PAGE).content.decode().split())
    assert '<a href="/overlays/maps/">version 2</a> is the latest.' in page


@pytest.mark.usefixtures("worker")
def test_what_a_form_brings_is_refused_as_a_whole(
    as_alice: Client, overlay: Overlay, alice: User
) -> None:
    OwnQuotas.objects.create(user=alice, content_bytes=5)
    assert as_alice.post(PAGE, {"adds": "1"}).status_code == 422
    good, bad = SimpleUploadedFile("a.vpk", b"abc"), SimpleUploadedFile("b.vpk", b"def")
    answer = as_alice.post(PAGE, {"files": [good, bad]})
    assert answer.status_code == 409
    assert b"Remove versions or uploads you no longer need" in answer.content
    assert not Upload.objects.exists()
    assert not Job.objects.exists()


@pytest.mark.usefixtures("worker")
def test_what_is_discarded_while_a_form_brings_it_is_refused(
    as_alice: Client, overlay: Overlay, monkeypatch: pytest.MonkeyPatch
) -> None:
    def open_late(part: UploadPart) -> int:
        discard(part.upload)
        return upload_files.open_file(part)

    monkeypatch.setattr(store, "open_file", open_late)
    answer = as_alice.post(PAGE, {"files": [SimpleUploadedFile("a.vpk", b"abc")]})
    assert answer.status_code == 409
    assert b"The upload was discarded while its files came." in answer.content
    assert not Upload.objects.exists()


def test_without_a_worker_it_says_so_before_anything_is_sent(
    as_alice: Client, overlay: Overlay
) -> None:
    page = as_alice.get(PAGE).content.decode()
    assert "No worker is running on host local, which unpacks uploads" in page
    assert "data-upload-form" in page  # It is true again when the worker is back, without a reload.
    assert as_alice.post(PAGE, {"files": [make_zip("a.zip")]}).status_code == 409
    assert as_alice.post(PAGE, {}, headers=JSON).json()["error"].startswith("No worker is running")
    assert not Upload.objects.exists()


@pytest.mark.usefixtures("worker")
def test_a_script_begins_an_upload_and_is_told_what_has_arrived(
    as_alice: Client, overlay: Overlay
) -> None:
    told = as_alice.post(PAGE, {"adds": "1", "note": "x"}, headers=JSON)
    upload = Upload.objects.get()
    assert told.status_code == 201
    assert told.json()["parts_url"] == f"/uploads/{upload.pk}/"
    part = add_part(upload, "dir/a.vpk", 7, modified_ms=1234)
    again = as_alice.get(f"{PAGE}{upload.pk}/", headers=JSON).json()
    assert again["parts"] == [
        {
            "path": "dir/a.vpk",
            "size": 7,
            "modified": 1234,
            "is_received": False,
            "url": f"/uploads/{upload.pk}/{part.token.hex}",
        }
    ]
    assert as_alice.get(f"{PAGE}{upload.pk}/").headers["Location"] == PAGE
    refused = as_alice.post(again["finish_url"], headers=JSON)
    assert (refused.status_code, refused.json()["error"]) == (
        409,
        "Its file has not fully arrived yet.",
    )
    page = as_alice.get(PAGE).content.decode()
    assert "To continue, choose the same files again." in page
    assert "dir/<wbr>a.<wbr>vpk" in page
    assert as_alice.post(again["discard_url"], headers=JSON).status_code == 204
    assert not Upload.objects.exists()


@pytest.mark.usefixtures("worker")
def test_a_person_has_so_many_open_uploads(as_alice: Client, overlay: Overlay, alice: User) -> None:
    for _ in range(10):
        begin_upload(overlay, by=alice, adds_to_latest=True)
    refused = as_alice.post(PAGE, {}, headers=JSON)
    assert refused.status_code == 409
    assert "You already have 10 unfinished uploads" in refused.json()["error"]


@pytest.mark.usefixtures("worker")
def test_a_failed_one_says_why_and_offers_another_try(
    as_alice: Client, overlay: Overlay, alice: User
) -> None:
    as_alice.post(PAGE, {"files": [SimpleUploadedFile("broken.zip", b"PK")]})
    job = Job.objects.get()
    Job.objects.update(state=JobState.RUNNING)
    job.refresh_from_db()
    queue.finish_job(job, exit_code=1, error="broken.zip was not unpacked: it is damaged.")
    page = as_alice.get(PAGE).content.decode()
    assert "broken.zip was not unpacked: it is damaged." in page
    assert f'action="/jobs/{job.pk}/retry"' in page
    assert 'data-kind="danger">Discard' in page
    upload = Upload.objects.get()
    assert (upload.state, upload.error) == (
        UploadState.FAILED,
        "broken.zip was not unpacked: it is damaged.",
    )
    assert as_alice.post(f"/jobs/{job.pk}/retry", {"next": PAGE}).headers["Location"] == PAGE
    upload.refresh_from_db()
    assert upload.state == UploadState.WAITING
    assert Job.objects.count() == 2


def test_others_may_not_even_look(client: Client, overlay: Overlay, alice: User, bob: User) -> None:
    upload = begin_upload(overlay, by=alice, adds_to_latest=True)
    client.force_login(bob)
    for address in (PAGE, f"{PAGE}{upload.pk}/"):
        assert client.get(address, headers=JSON).status_code == 403, address
    for action in ("version", "discard"):
        assert client.post(f"{PAGE}{upload.pk}/{action}").status_code == 403, action
        assert client.get(f"{PAGE}{upload.pk}/{action}").status_code == 405, action
    overlay.is_shared = False
    overlay.save()
    assert client.get(PAGE).status_code == 404
    assert b"Upload files" not in client.get("/overlays/").content
    assert Upload.objects.exists()
