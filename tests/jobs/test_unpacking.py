"""Making a version of an upload: through the queue, a worker and the real host layer."""

import errno
import hashlib
import io
import os
import tarfile
import zipfile
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from django.conf import LazySettings
from django.contrib.auth.models import Permission, User
from django.db import OperationalError

from hostops.errors import OperationCancelled
from hostops.host import Host as HostLayer
from hostops.specs import CancelToken, ManifestFile, UnpackLimits
from jobs import operations, queue, unpacking
from jobs.models import Job, JobState, Operation
from jobs.pages.job_lists import read_newest
from jobs.queue.transitions import WORKER_STOPPED
from jobs.unpacking import is_archive, lay_over
from jobs.worker import run_worker_once
from servers import store
from servers.models import Overlay, OverlayVersion, Upload, UploadState
from servers.store import begin_upload, path_of, read_files
from tests.overlays import manifest_bytes
from tests.smx_files import make_plugin

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def store_below(tmp_path: Path, settings: LazySettings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give each test a store and a host of its own."""
    settings.CONTENT_ROOT = tmp_path / "content"
    layer = HostLayer(tmp_path / "host", driver="process", game_source="simulator")
    monkeypatch.setattr(operations, "get_host", lambda _name: layer)


@pytest.fixture
def overlay(alice: User) -> Overlay:
    """Return an overlay of Alice's without any version."""
    return Overlay.objects.create(name="maps", owner=alice, is_shared=False)


def make_zip(files: Mapping[str, bytes]) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, content in files.items():
            archive.writestr(path, content)
    return target.getvalue()


def make_tar(files: Mapping[str, bytes]) -> bytes:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as archive:
        for path, content in files.items():
            entry = tarfile.TarInfo(path)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return target.getvalue()


def bring(
    overlay: Overlay, by: User, files: Mapping[str, bytes], *, adds: bool = True, bundle: str = ""
) -> Upload:
    """Return an upload whose files have all arrived; the one called `bundle` contains many."""
    upload = begin_upload(overlay, by=by, adds_to_latest=adds)
    for path, content in files.items():
        part = store.add_part(upload, path, len(content), is_bundle=path == bundle)
        descriptor = store.open_file(part)
        os.write(descriptor, content)
        os.close(descriptor)
        store.note_received(part)
    return upload


def unpack(upload: Upload, by: User) -> Job:
    """Have a worker make a version of an upload; return the job as it ended."""
    job = queue.request(Operation.UNPACK, upload=upload, requested_by=by).job
    assert run_worker_once()
    job.refresh_from_db()
    upload.refresh_from_db()
    return job


def paths_of(version: OverlayVersion) -> list[str]:
    return [file.path for file in read_files(version)]


def test_archives_bundles_and_files_become_one_version(overlay: Overlay, alice: User) -> None:
    upload = bring(
        overlay,
        alice,
        {
            "pack.zip": make_zip(
                {"pack-main/left4dead2/cfg/a.cfg": b"a", "pack-main/left4dead2/addons/b.vpk": b"b"}
            ),
            "small.tar": make_tar(
                {"left4dead2/scripts/one.txt": b"1", "left4dead2/scripts/two.txt": b"2"}
            ),
            "left4dead2/maps/c.nav": b"nav",
        },
        bundle="small.tar",
    )
    files = [path_of(part) for part in upload.parts.all()]
    job = unpack(upload, alice)
    assert (job.state, job.error) == (JobState.SUCCEEDED, "")
    assert (job.subject, job.operation_label) == ("maps", "Unpack upload")
    assert (upload.state, upload.version) == (UploadState.DONE, overlay.versions.get())
    version = overlay.versions.get()
    assert paths_of(version) == [
        "left4dead2/addons/b.vpk",
        "left4dead2/cfg/a.cfg",
        "left4dead2/maps/c.nav",
        "left4dead2/scripts/one.txt",
        "left4dead2/scripts/two.txt",
    ]
    assert version.origin == "pack.zip, left4dead2/maps/c.nav"
    assert any("pack-main" in finding["text"] for finding in version.findings)
    assert version.added_bytes == 7 + manifest_bytes(version)
    assert not any(path.exists() for path in files), "its own files are not needed any more"
    assert list(store.get_store().incoming_dir.iterdir()) == []


def test_what_its_plugins_need_is_kept_with_the_version(overlay: Overlay, dana: User) -> None:
    says = ("Fun " * 50, "All of it", "Ann", "3.1", "")
    plugin = make_plugin(says, extensions=[("SDKTools", "SDKTools.ext", True)])
    upload = bring(overlay, dana, {"left4dead2/addons/sourcemod/plugins/fun.smx": plugin})
    assert unpack(upload, dana).error == ""
    needs = {"path": "fun.smx", "extensions": ["sdktools.ext"], "libraries": [], "provides": []}
    about = {"title": ("Fun " * 50)[:100], "author": "Ann", "version": "3.1"}
    assert overlay.versions.get().plugins == [needs | about]


def test_it_adds_to_the_latest_version_or_replaces_everything(
    overlay: Overlay, alice: User
) -> None:
    first = {"left4dead2/cfg/Server.cfg": b"old", "left4dead2/addons/kept.vpk": b"kept"}
    unpack(bring(overlay, alice, first), alice)
    upload = bring(overlay, alice, {"Left4Dead2/cfg/server.cfg": b"new"})
    unpack(upload, alice)
    second = overlay.versions.get(number=2)
    # The game ignores case: it is the same file, under the name that it had.
    assert [(file.path, file.size) for file in read_files(second)] == [
        ("left4dead2/addons/kept.vpk", 4),
        ("left4dead2/cfg/Server.cfg", 3),
    ]
    assert upload.base == overlay.versions.get(number=1)
    unpack(bring(overlay, alice, {"left4dead2/cfg/server.cfg": b"new"}, adds=False), alice)
    assert paths_of(overlay.versions.get(number=3)) == ["left4dead2/cfg/server.cfg"]


def test_a_version_that_somebody_makes_meanwhile_is_kept(
    overlay: Overlay, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload = bring(overlay, alice, {"left4dead2/cfg/mine.cfg": b"mine"})
    real, tries = store.make_version, []

    def make(*args: object, **kwargs: object) -> OverlayVersion:
        tries.append(kwargs["follows"])
        if len(tries) == 1:
            blob = store.get_store().add_bytes(b"other")
            other = ManifestFile("left4dead2/cfg/other.cfg", blob, 5)
            real(Overlay.objects.get(), [other], by=alice)
        return real(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(store, "make_version", make)
    job = unpack(upload, alice)
    assert (job.state, job.error) == (JobState.SUCCEEDED, "")
    assert paths_of(overlay.versions.get(number=2)) == [
        "left4dead2/cfg/mine.cfg",
        "left4dead2/cfg/other.cfg",
    ]


def test_what_is_refused_is_told_and_can_be_tried_again_or_discarded(
    overlay: Overlay, alice: User
) -> None:
    upload = bring(overlay, alice, {"broken.zip": b"PK\3\4 and no more"})
    job = unpack(upload, alice)
    assert job.state == JobState.FAILED
    assert job.error.startswith("broken.zip was not unpacked")
    assert (upload.state, upload.error) == (UploadState.FAILED, job.error)
    assert path_of(upload.parts.get()).exists()
    assert job.can_be_retried
    again = queue.retry(job, requested_by=alice).job
    upload.refresh_from_db()
    assert (upload.state, again.upload) == (UploadState.WAITING, upload)
    with pytest.raises(store.UploadRefusedError, match="Cancel that first"):
        store.discard(upload)
    queue.cancel(again)
    upload.refresh_from_db()
    assert upload.state == UploadState.CANCELLED
    store.discard(upload)
    again.refresh_from_db()
    assert not again.can_be_retried
    assert (again.subject, again.upload_id) == ("maps", None)


def test_code_is_refused_from_who_may_not_bring_it(overlay: Overlay, alice: User) -> None:
    upload = bring(overlay, alice, {"left4dead2/addons/sourcemod/plugins/x.smx": b"code"})
    job = unpack(upload, alice)
    assert "x.smx is code that would run on the host" in job.error
    assert not OverlayVersion.objects.exists()
    alice.is_staff = True
    alice.save()
    alice.user_permissions.add(Permission.objects.get(codename="bring_native_code"))
    retried = queue.retry(job, requested_by=alice).job
    assert run_worker_once()
    retried.refresh_from_db()
    assert (retried.state, retried.error) == (JobState.SUCCEEDED, "")
    assert overlay.versions.get().has_native_code


def test_a_permission_that_is_taken_away_while_it_is_unpacked_does_not_count(
    overlay: Overlay, dana: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload = bring(overlay, dana, {"left4dead2/addons/sourcemod/plugins/x.txt": b"FFPS code"})
    real = unpacking.lay_out

    def lay_out(*given: Any) -> Path:
        User.objects.filter(pk=dana.pk).update(is_superuser=False)
        return real(*given)

    monkeypatch.setattr(unpacking, "lay_out", lay_out)
    assert "x.txt is code that would run on the host" in unpack(upload, dana).error


def test_what_unpacks_to_more_than_its_owner_may_have_is_not_stored(
    overlay: Overlay, alice: User, settings: LazySettings
) -> None:
    settings.CONTENT_BYTES_PER_OWNER = 1_000_000
    pack = make_zip({"left4dead2/addons/big.vpk": bytes(1_000_001)})
    job = unpack(bring(overlay, alice, {"pack.zip": pack}), alice)
    assert "Remove versions or uploads" in job.error
    assert list(store.get_store().walk()) == []
    # The size of the archive itself does not count besides its content, but the list of files does.
    settings.CONTENT_BYTES_PER_OWNER = 1_000_001 + 200
    retried = queue.retry(job, requested_by=alice).job
    assert run_worker_once()
    retried.refresh_from_db()
    assert (retried.state, retried.error) == (JobState.SUCCEEDED, "")


@pytest.mark.parametrize("limit", [{"total_bytes": 150}, {"entries": 3}, {"seconds": 0.0}])
def test_all_archives_of_an_upload_take_no_more_than_one_may(
    overlay: Overlay, alice: User, monkeypatch: pytest.MonkeyPatch, limit: dict[str, Any]
) -> None:
    monkeypatch.setattr(unpacking, "UnpackLimits", partial(UnpackLimits, **limit))
    packs = {
        f"{name}.zip": make_zip({f"left4dead2/cfg/{name}.cfg": os.urandom(100)}) for name in "ab"
    }
    job = unpack(bring(overlay, alice, packs), alice)
    assert "at a time" in job.error
    assert not overlay.versions.exists()
    assert list(store.get_store().incoming_dir.iterdir()) == []


def test_a_file_that_is_the_folder_of_another_is_told(overlay: Overlay, alice: User) -> None:
    unpack(bring(overlay, alice, {"left4dead2/scripts/a": b"file"}), alice)
    job = unpack(bring(overlay, alice, {"left4dead2/scripts/a/b.txt": b"in it"}), alice)
    assert job.error == (
        "'left4dead2/scripts/a' is a file, and the folder of 'left4dead2/scripts/a/b.txt'."
    )


def test_a_file_with_as_many_names_as_it_may_have_is_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "blob"
    source.write_bytes(b"bytes")

    def refuse(*_: object) -> None:
        raise OSError(errno.EMLINK, os.strerror(errno.EMLINK))

    with monkeypatch.context() as patch:
        patch.setattr(os, "link", refuse)
        unpacking.link(source, tmp_path / "another")
    assert (tmp_path / "another").read_bytes() == b"bytes"


def test_two_different_files_for_one_place_are_refused(overlay: Overlay, alice: User) -> None:
    one, other = ({"left4dead2/cfg/a.cfg": text} for text in (b"one", b"other"))
    job = unpack(bring(overlay, alice, {"1.zip": make_zip(one), "2.zip": make_zip(other)}), alice)
    assert (
        "Two different files belong at left4dead2/cfg/a.cfg: those of 1.zip and 2.zip" in job.error
    )
    same = unpack(bring(overlay, alice, {"1.zip": make_zip(one), "2.zip": make_zip(one)}), alice)
    assert (same.state, same.error) == (JobState.SUCCEEDED, "")


def test_nothing_is_made_of_what_has_not_arrived(overlay: Overlay, alice: User) -> None:
    upload = begin_upload(overlay, by=alice, adds_to_latest=True)
    with pytest.raises(queue.RequestRefused, match="No file has been uploaded yet"):
        queue.request(Operation.UNPACK, upload=upload, requested_by=alice)
    store.add_part(upload, "a.vpk", 3)
    with pytest.raises(queue.RequestRefused, match="Its file has not fully arrived"):
        queue.request(Operation.UNPACK, upload=upload, requested_by=alice)
    with pytest.raises(queue.RequestRefused, match="Start one on an overlay"):
        queue.request(Operation.UNPACK, requested_by=alice)


def test_two_clicks_make_one_job(overlay: Overlay, alice: User) -> None:
    upload = bring(overlay, alice, {"left4dead2/cfg/a.cfg": b"a"})
    first = queue.request(Operation.UNPACK, upload=upload, requested_by=alice)
    second = queue.request(Operation.UNPACK, upload=upload, requested_by=alice)
    assert (first.job, first.is_new, second.is_new) == (second.job, True, False)
    assert run_worker_once()
    with pytest.raises(queue.RequestRefused, match="was already made from this upload"):
        queue.request(Operation.UNPACK, upload=upload, requested_by=alice)


def test_one_whose_worker_died_is_done_by_another_try(
    overlay: Overlay, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload = bring(overlay, alice, {"left4dead2/cfg/a.cfg": b"a"})

    def die(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        # As late as possible: the blobs exist, and the rows do not.
        patch.setattr("servers.store.versions._store_row", die)
        job = queue.request(Operation.UNPACK, upload=upload, requested_by=alice).job
        with pytest.raises(KeyboardInterrupt):
            run_worker_once()
    assert not OverlayVersion.objects.exists()
    Job.objects.filter(pk=job.pk).update(state=JobState.RUNNING, worker=None, finished_at=None)
    assert [one.pk for one in queue.recover_stale_jobs()] == [job.pk]
    job.refresh_from_db()
    upload.refresh_from_db()
    assert (upload.state, upload.error) == (UploadState.FAILED, WORKER_STOPPED)
    queue.retry(job, requested_by=alice)
    assert run_worker_once()
    assert paths_of(overlay.versions.get()) == ["left4dead2/cfg/a.cfg"]


def test_it_waits_for_a_database_that_is_away_and_makes_no_second_version(
    overlay: Overlay, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload = bring(overlay, alice, {"left4dead2/cfg/a.cfg": b"a"})
    real, tries = store.make_version, []

    def make(*args: object, **kwargs: object) -> OverlayVersion:
        tries.append(1)
        version = real(*args, **kwargs)  # type: ignore[arg-type]
        if len(tries) == 1:
            raise OperationalError("server closed the connection unexpectedly")
        return version

    monkeypatch.setattr(store, "make_version", make)
    monkeypatch.setattr(unpacking, "is_away", lambda error: isinstance(error, OperationalError))
    monkeypatch.setattr(unpacking, "AGAIN_SECONDS", 0.01)
    job = unpack(upload, alice)
    assert (job.state, len(tries), overlay.versions.count()) == (JobState.SUCCEEDED, 1, 1)


def test_cancelled_at_any_stage_it_leaves_all_as_it_was(overlay: Overlay, alice: User) -> None:
    content = {"pack.zip": make_zip({"left4dead2/cfg/a.cfg": b"a"}), "left4dead2/cfg/b.cfg": b"b"}
    upload = bring(overlay, alice, content)
    Upload.objects.update(state=UploadState.WAITING)
    upload = Upload.objects.select_related("overlay__latest", "by").get()
    layer, parts = operations.get_host("local"), list(upload.parts.all())
    stages: list[str] = []
    unpacked: set[str] = set()
    # Ended at each stage in turn, until there is no stage left.
    while True:
        cancel = CancelToken()

        def on_stage(name: str, _progress: int | None, cancel: CancelToken = cancel) -> None:
            if name not in unpacked:
                unpacked.add(name)
                stages.append(name)
                cancel.cancel()

        try:
            unpacking.make_version_of(
                layer, upload, parts, on_line=lambda *_: None, on_stage=on_stage, cancel=cancel
            )
        except OperationCancelled:
            assert not OverlayVersion.objects.exists()
            assert list(store.get_store().incoming_dir.iterdir()) == []
            assert all(path_of(part).exists() for part in parts)
            continue
        break
    assert "Storing the version" in stages
    assert len(stages) >= 4
    assert overlay.versions.count() == 1


def test_who_uploads_sees_the_job_and_strangers_do_not(
    overlay: Overlay, alice: User, bob: User, dana: User
) -> None:
    Overlay.objects.update(is_shared=True)
    job = unpack(bring(overlay, alice, {"left4dead2/cfg/a.cfg": b"a"}), alice)
    for person, sees in ((alice, True), (bob, False), (dana, True)):
        assert Job.objects.visible_to(person).filter(pk=job.pk).exists() is sees, person
        assert (job in read_newest(person, JobState.values, None, 10)) is sees, person
    assert job not in Job.objects.about_hosts()


def test_the_names_of_archives() -> None:
    for name in ("a.zip", "a.7Z", "b/c.rar", "a.tar.gz", "a.tgz", "a.tar.zst"):
        assert is_archive(name), name
    for name in (".zip", "a.vpk", "zip", "a.zip.txt", "a.gz"):
        assert not is_archive(name), name


def test_paths_are_spelled_as_they_were() -> None:
    sha256 = hashlib.sha256(b"").hexdigest()
    base = [ManifestFile("left4dead2/addons/SourceMod/configs/admins.cfg", sha256, 0)]
    more = [
        ManifestFile("left4dead2/addons/sourcemod/plugins/A.smx", sha256, 0),
        ManifestFile("left4dead2/Addons/sourcemod/Plugins/b.smx", sha256, 0),
    ]
    assert [file.path for file in lay_over(base, more)] == [
        "left4dead2/addons/SourceMod/configs/admins.cfg",
        "left4dead2/addons/SourceMod/plugins/A.smx",
        "left4dead2/addons/SourceMod/plugins/b.smx",
    ]


def test_what_was_said_of_a_file_counts_for_the_one_that_takes_its_place() -> None:
    sha256 = hashlib.sha256(b"").hexdigest()
    base = [ManifestFile("left4dead2/A.cfg", sha256, 0, is_seed=False)]
    more = [ManifestFile("left4dead2/a.cfg", sha256, 1), ManifestFile("left4dead2/b", sha256, 2)]
    assert lay_over(base, more) == [
        ManifestFile("left4dead2/A.cfg", sha256, 1, is_seed=False),
        ManifestFile("left4dead2/b", sha256, 2),
    ]
