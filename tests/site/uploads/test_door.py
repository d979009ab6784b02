"""The upload door: what it accepts, how much of it is kept, and what it refuses, in words."""

import asyncio
import errno
import fcntl
import os
import stat
import threading
from collections.abc import Callable
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.conf import LazySettings
from django.contrib.auth.models import User
from django.contrib.sessions.backends.db import SessionStore
from django.db import connection
from django.utils import timezone

from l4d2site.accounts.models import OwnQuotas
from l4d2site.accounts.password_changes import MUST_CHANGE
from l4d2site.uploads import UploadDoor, access, writing
from l4d2site.uploads.tus_headers import TusRefusedError
from servers import store
from servers.models import Overlay, Upload, UploadPart, UploadState
from servers.store import begin_upload, discard, path_of, remove_abandoned, upload_files
from tests.site.gate.asgi import Exchange
from tests.site.uploads.door import (
    BODY,
    DoorClient,
    encode,
    location_of,
    nothing_here,
    text_of,
)
from tests.waiting import wait_until

pytestmark = pytest.mark.django_db(transaction=True)

MIB = 1024**2


@pytest.fixture
def door(alice: User) -> DoorClient:
    """Return Alice at the door."""
    return DoorClient(alice)


async def waiting(predicate: Callable[[], bool]) -> None:
    """Wait until something is so, while the event loop runs."""
    await asyncio.to_thread(wait_until, predicate, 10, "the door does not get that far")


def test_a_request_that_is_cancelled_while_its_file_is_opened_leaves_no_lock(
    upload: Upload, alice: User, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "part"
    path.touch()
    begun, goes_on = threading.Event(), threading.Event()

    def open_slowly(_part: UploadPart) -> int:
        begun.set()
        assert goes_on.wait(10)
        return os.open(path, os.O_WRONLY | os.O_CLOEXEC)

    def is_free() -> bool:
        with path.open("wb") as other:
            try:
                fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
        return True

    monkeypatch.setattr(store, "open_file", open_slowly)
    part = UploadPart(upload=upload, path="a.vpk", size=10)
    found = access.Found(part, upload, alice.pk, offset=0)
    door = UploadDoor(nothing_here)

    async def cancel_it() -> None:
        task = asyncio.create_task(door._write(found, 0, None))
        await waiting(begun.is_set)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        goes_on.set()

    asyncio.run(cancel_it())
    door._disk.shutdown()
    assert is_free()


def test_a_file_comes_in_pieces_and_is_whole(door: DoorClient, upload: Upload) -> None:
    content = os.urandom(3 * MIB + 17)
    created = door.create(upload, "my maps/a.vpk", len(content))
    location = location_of(created)
    assert created.headers[b"upload-expires"].endswith(b"GMT")
    assert door.offset(location) == 0
    cut = MIB + 5
    first = door.patch(location, 0, [content[:1000], content[1000:cut]])
    assert (first.status, first.headers[b"upload-offset"]) == (204, b"%d" % cut)
    assert UploadPart.objects.get().received_at is None
    last = door.patch(location, cut, [content[cut:]])
    assert last.headers[b"upload-offset"] == b"%d" % len(content)
    part = UploadPart.objects.get()
    assert part.received_at
    assert path_of(part).read_bytes() == content
    assert stat.S_IMODE(path_of(part).stat().st_mode) == 0o660


def test_cut_at_every_chunk_it_goes_on_where_it_ended(door: DoorClient, upload: Upload) -> None:
    content = os.urandom(10_007)
    location = location_of(door.create(upload, "a.vpk", len(content)))
    offset, pieces = 0, 0
    while offset < len(content):
        # The connection ends within the body, and the browser asks how much has arrived.
        chunk = content[offset : offset + 1009]
        door.patch(location, offset, [chunk[:500], chunk[500:]], is_complete=False)
        offset, pieces = door.offset(location), pieces + 1
        assert offset == min(len(content), pieces * 1009)
    assert path_of(UploadPart.objects.get()).read_bytes() == content
    assert UploadPart.objects.get().received_at


def test_small_and_empty_files_take_one_request(door: DoorClient, upload: Upload) -> None:
    created = door.create(upload, "cfg/server.cfg", 11, [b"sv_cheats 0"])
    assert created.headers[b"upload-offset"] == b"11"
    location_of(door.create(upload, "empty.txt", 0))
    assert [part.received_at is not None for part in UploadPart.objects.all()] == [True, True]


def test_one_who_was_killed_before_the_note_of_the_end_is_told_the_truth(
    door: DoorClient, upload: Upload
) -> None:
    location = location_of(door.create(upload, "a.vpk", 3, [b"abc"]))
    UploadPart.objects.update(received_at=None)
    assert door.offset(location) == 3
    assert UploadPart.objects.get().received_at


def test_the_wrong_offset_is_refused_with_the_right_one(door: DoorClient, upload: Upload) -> None:
    location = location_of(door.create(upload, "a.vpk", 10, [b"abc"]))
    for offset in (0, 2, 4):
        refused = door.patch(location, offset, [b"x"])
        assert (refused.status, refused.headers[b"upload-offset"]) == (409, b"3")
    assert path_of(UploadPart.objects.get()).read_bytes() == b"abc"


def test_more_than_was_said_is_refused_and_not_written(door: DoorClient, upload: Upload) -> None:
    location = location_of(door.create(upload, "a.vpk", 4))
    declared = door.ask(
        "PATCH", location, [b"12345"], content_type=BODY, upload_offset="0", content_length="5"
    )
    assert (declared.status, door.offset(location)) == (413, 0)
    # In chunks, which do not say how long they are.
    assert door.patch(location, 0, [b"123", b"45"]).status == 413
    assert path_of(UploadPart.objects.get()).read_bytes() == b"1234"


def test_a_second_request_for_a_part_is_refused_while_the_first_one_writes(
    door: DoorClient, upload: Upload
) -> None:
    location = location_of(door.create(upload, "a.vpk", 4))

    async def talk() -> tuple[Exchange, Exchange, Exchange]:
        first, second, removal = Exchange([b"12"], is_complete=False), Exchange([b"12"]), Exchange()
        headers = {"content_type": BODY, "upload_offset": "0"}
        scope = door.scope("PATCH", location, **headers)
        running = asyncio.create_task(first.run(door.application, scope))
        await waiting(lambda: not first.parts_left)
        second.has_left.set()
        await second.run(door.application, door.scope("PATCH", location, **headers))
        removal.has_left.set()
        await removal.run(door.application, door.scope("DELETE", location))
        first.has_left.set()
        await running
        return first, second, removal

    first, second, removal = asyncio.run(talk())
    assert (first.status, second.status, removal.status) == (204, 423, 423)
    assert door.offset(location) == 2


def test_one_that_sends_nothing_more_is_ended_and_what_came_is_kept(
    door: DoorClient, upload: Upload, settings: LazySettings
) -> None:
    settings.BODY_IDLE_SECONDS = 0.1
    location = location_of(door.create(upload, "a.vpk", 4))

    async def talk() -> Exchange:
        exchange = Exchange([b"12"], is_complete=False)
        scope = door.scope("PATCH", location, content_type=BODY, upload_offset="0")
        running = asyncio.create_task(exchange.run(door.application, scope))
        await waiting(lambda: exchange.status is not None)
        exchange.has_left.set()
        await running
        return exchange

    exchange = asyncio.run(talk())
    assert exchange.status == 408
    assert "kept" in text_of(exchange)
    assert door.offset(location) == 2


def test_a_file_is_on_the_disk_before_it_is_noted(
    door: DoorClient, upload: Upload, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[bool] = []
    real = store.sync_file

    def sync(part: UploadPart, descriptor: int) -> None:
        synced.append(UploadPart.objects.get().received_at is None)
        connection.close()  # This is a thread of the door.
        real(part, descriptor)

    monkeypatch.setattr(store, "sync_file", sync)
    location = location_of(door.create(upload, "a.vpk", 4))
    door.patch(location, 0, [b"12"])
    assert not synced
    door.patch(location, 2, [b"34"])
    assert synced == [True]


def test_no_more_is_held_than_a_batch(
    door: DoorClient, upload: Upload, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    real = writing.PartWriter.append

    def append(writer: writing.PartWriter, batch: bytes) -> None:
        sizes.append(len(batch))
        real(writer, batch)

    monkeypatch.setattr(writing.PartWriter, "append", append)
    monkeypatch.setattr(writing, "BATCH_BYTES", 4)
    location = location_of(door.create(upload, "a.vpk", 9))
    assert door.patch(location, 0, [b"12", b"34", b"5", b"678", b"9"]).status == 204
    assert sizes == [4, 4, 1]


def test_places_are_limited_for_one_person_and_for_all() -> None:
    places = writing.Places()
    with ExitStack() as taken:
        for number in range(writing.WRITES_OF_PERSON):
            taken.enter_context(places.taken(1))
            assert not places.are_scarce, number
        with pytest.raises(TusRefusedError), places.taken(1):
            pass
        for person in range(2, 7):
            for _ in range(writing.WRITES_OF_PERSON):
                taken.enter_context(places.taken(person))
        # The last ones are for people who have none.
        assert places.are_scarce
        for person in range(7, 7 + writing.WRITES_IN_ALL - writing.CROWDED_AT):
            taken.enter_context(places.taken(person))
            with pytest.raises(TusRefusedError), places.taken(person):
                pass
        with pytest.raises(TusRefusedError), places.taken(99):
            pass
    with places.taken(99), places.taken(99):
        assert not places.are_scarce


def test_what_is_discarded_while_it_is_put_onto_the_disk_is_not_there(
    door: DoorClient, upload: Upload, monkeypatch: pytest.MonkeyPatch
) -> None:
    location = location_of(door.create(upload, "a.vpk", 4))

    def discard_first(part: UploadPart, descriptor: int) -> None:
        discard(upload)
        connection.close()
        upload_files.sync_file(part, descriptor)

    monkeypatch.setattr(store, "sync_file", discard_first)
    answer = door.patch(location, 0, [b"1234"])
    assert (answer.status, "was discarded" in text_of(answer)) == (404, True)


@pytest.mark.parametrize("is_crowded", [False, True])
def test_what_hardly_comes_keeps_its_place_only_while_nobody_needs_it(
    door: DoorClient, upload: Upload, monkeypatch: pytest.MonkeyPatch, is_crowded: bool
) -> None:
    monkeypatch.setattr(writing, "SLOW_SECONDS", 0.0)
    monkeypatch.setattr(writing, "CROWDED_AT", 1 if is_crowded else 2)
    location = location_of(door.create(upload, "a.vpk", 4))
    answer = door.patch(location, 0, [b"1", b"2", b"3"])
    assert answer.status == (408 if is_crowded else 204)
    assert ("place was given to others" in text_of(answer)) is is_crowded
    assert door.offset(location) == (1 if is_crowded else 3)


def test_what_comes_at_a_fair_pace_keeps_its_place(
    door: DoorClient, upload: Upload, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "SLOW_SECONDS", 0.0)
    monkeypatch.setattr(writing, "SLOW_BYTES", 2)
    monkeypatch.setattr(writing, "CROWDED_AT", 1)
    first = location_of(door.create(upload, "a.vpk", 8))
    assert door.patch(first, 0, [b"12", b"34", b"5"]).status == 408
    assert door.offset(first) == 5
    second = location_of(door.create(upload, "b.vpk", 8))
    monkeypatch.setattr(writing, "SLOW_BYTES", 1)
    assert door.patch(second, 0, [b"12", b"34", b"5"]).status == 204


def test_a_full_disk_is_told_and_loses_nothing(
    door: DoorClient, upload: Upload, monkeypatch: pytest.MonkeyPatch
) -> None:
    location = location_of(door.create(upload, "a.vpk", 6, [b"ab"]))

    class FullDisk:
        """The system's calls, with a write that takes one more byte and then none."""

        def __getattr__(self, name: str) -> object:
            return getattr(os, name)

        def pwrite(self, descriptor: int, data: memoryview, offset: int) -> int:
            if offset >= 3:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return os.pwrite(descriptor, data[:1], offset)

    with monkeypatch.context() as patch:
        patch.setattr(writing, "os", FullDisk())
        refused = door.patch(location, 2, [b"cdef"])
    assert (refused.status, refused.headers[b"upload-offset"]) == (507, b"3")
    assert "disk is full" in text_of(refused)
    assert door.patch(location, 3, [b"def"]).status == 204
    assert path_of(UploadPart.objects.get()).read_bytes() == b"abcdef"


def test_a_file_for_which_the_disk_has_no_room_is_not_begun(
    door: DoorClient, upload: Upload, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upload_files, "free_bytes", lambda: 100)
    assert door.create(upload, "a.vpk", 101).status == 507
    assert door.create(upload, "a.vpk", 100).status == 201


MALFORMED: tuple[dict[str, Any], ...] = (
    {"upload_length": "-1"},
    {"upload_length": ""},
    {"upload_length": "1e3"},
    {"upload_length": "٣"},
    {"upload_length": "9" * 40},
    {"upload_length": "", "upload_defer_length": "1"},
    {"upload_metadata": ""},
    {"upload_metadata": "path"},
    {"upload_metadata": "path not-base64!"},
    {"upload_metadata": "path /w=="},  # No UTF-8.
    {"upload_metadata": "path YQ==,path YQ=="},
    {"upload_metadata": encode(path="a" * 4000)},
    {"upload_metadata": encode(path="a.vpk", modified="yesterday")},
)
LEADING_OUT = (
    *("../a.vpk", "/etc/passwd", "a/../../b", "a//b", "C:\\a.vpk", "a\\b", "a\nb", "x" * 256, "."),
)


def test_malformed_headers_and_paths_that_lead_out_are_refused_with_a_sentence(
    door: DoorClient, upload: Upload
) -> None:
    for headers in MALFORMED:
        refused = door.create(upload, "a.vpk", 3, **headers)
        assert refused.status == 400, headers
        assert refused.headers[b"tus-resumable"] == b"1.0.0"
        assert text_of(refused).strip().endswith("."), headers
    for path in LEADING_OUT:
        assert door.create(upload, path, 3).status == 422, path
    assert door.create(upload, "a.vpk", 3, upload_length=str(2**50)).status == 413
    assert not UploadPart.objects.exists()


def test_other_versions_methods_types_and_addresses_are_refused(
    door: DoorClient, upload: Upload
) -> None:
    location = location_of(door.create(upload, "a.vpk", 3))
    assert door.ask("HEAD", location, tus_resumable="0.2.2").status == 412
    assert door.ask("GET", location).status == 405
    assert door.ask("POST", location).status == 405
    assert door.ask("PATCH", f"/uploads/{upload.pk}/").status == 405
    assert door.ask("PATCH", location, [b"abc"], upload_offset="0").status == 415
    assert (
        door.ask("PATCH", location, [b"abc"], content_type="text/plain", upload_offset="0").status
        == 415
    )
    assert (
        door.ask("PATCH", location, [b"abc"], content_type=BODY, upload_offset="-1").status == 400
    )
    assert door.ask("HEAD", "/uploads/../etc/passwd").status == 404
    assert door.ask("HEAD", f"/uploads/{upload.pk}/{'0' * 32}").status == 404
    assert door.ask("OPTIONS", f"/uploads/{upload.pk}/").headers[b"tus-version"] == b"1.0.0"
    assert door.ask("GET", "/servers/").status == 418
    assert door.offset(location) == 0


def test_what_another_site_sends_is_refused(door: DoorClient, upload: Upload) -> None:
    location = location_of(door.create(upload, "a.vpk", 3))
    for origin in ("", "http://testserver.evil.example", "https://testserver", "null"):
        headers: dict[str, Any] = {
            "content_type": BODY,
            "upload_offset": "0",
            "origin": origin,
        }
        assert door.ask("PATCH", location, [b"abc"], **headers).status == 403, origin
        assert door.ask("DELETE", location, origin=origin).status == 403, origin
        assert door.create(upload, "b.vpk", 3, origin=origin).status == 403, origin
    assert door.offset(location) == 0
    assert UploadPart.objects.count() == 1


def test_strangers_find_nothing(
    door: DoorClient, upload: Upload, overlay: Overlay, bob: User, dana: User
) -> None:
    location = location_of(door.create(upload, "a.vpk", 3))
    for is_shared in (False, True):  # Somebody who may use an overlay may not change it.
        Overlay.objects.update(is_shared=is_shared)
        stranger = DoorClient(bob)
        assert stranger.ask("HEAD", location).status == 404
        assert stranger.patch(location, 0, [b"abc"]).status == 404
        assert stranger.ask("DELETE", location).status == 404
        assert stranger.create(upload, "b.vpk", 3).status == 404
    assert DoorClient(None).patch(location, 0, [b"abc"]).status == 401
    other = begin_upload(overlay, by=dana, adds_to_latest=True)
    assert door.ask("HEAD", location.replace(f"/{upload.pk}/", f"/{other.pk}/")).status == 404
    assert DoorClient(dana).offset(location) == 0


def test_an_account_that_is_off_or_unready_is_refused(
    door: DoorClient, upload: Upload, alice: User
) -> None:
    location = location_of(door.create(upload, "a.vpk", 3))
    # By queries, which leave the session as it is.
    User.objects.filter(pk=alice.pk).update(is_active=False)
    assert door.patch(location, 0, [b"abc"]).status == 401
    User.objects.filter(pk=alice.pk).update(is_active=True)
    session = SessionStore(door.cookie.partition("=")[2])
    session[MUST_CHANGE] = True
    session.save()
    assert door.patch(location, 0, [b"abc"]).status == 403
    assert path_of(UploadPart.objects.get()).read_bytes() == b""


def test_a_nul_in_the_cookie_does_not_get_to_the_database(door: DoorClient, upload: Upload) -> None:
    location = location_of(door.create(upload, "a.vpk", 3))
    key = door.cookie.partition("=")[2]
    # Read without it, as by pages; PostgreSQL would refuse it with an error.
    assert door.ask("HEAD", location, cookie=f'sessionid="\\000{key}"').status == 200


def test_removing_a_part_removes_its_bytes(door: DoorClient, upload: Upload) -> None:
    location = location_of(door.create(upload, "a.vpk", 3, [b"ab"]))
    path = path_of(UploadPart.objects.get())
    assert path.exists()
    assert door.ask("DELETE", location).status == 204
    assert door.ask("HEAD", location).status == 404
    assert not path.exists()


def test_a_file_that_is_dropped_again_replaces_the_first(door: DoorClient, upload: Upload) -> None:
    first = location_of(door.create(upload, "a.vpk", 3, [b"abc"]))
    old_path = path_of(UploadPart.objects.get())
    second = location_of(door.create(upload, "a.vpk", 4, [b"abcd"]))
    assert first != second
    assert not old_path.exists()
    assert path_of(UploadPart.objects.get()).read_bytes() == b"abcd"


def files_of(upload: Upload) -> list[str]:
    """Return the names of an upload's files on disk."""
    folder = upload_files.folder_of(upload.pk)
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


@pytest.mark.parametrize("way", ["replaced", "removed", "discarded"])
def test_a_part_that_goes_between_its_row_and_its_file_leaves_no_file(
    door: DoorClient, upload: Upload, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    location = location_of(door.create(upload, "a.vpk", 4))

    def open_late(part: UploadPart) -> int:
        if way == "replaced":
            store.add_part(upload, part.path, 4)
        elif way == "removed":
            store.remove_part(part)
        else:
            discard(upload)
        connection.close()
        return upload_files.open_file(part)

    monkeypatch.setattr(store, "open_file", open_late)
    answer = door.patch(location, 0, [b"1234"])
    assert (answer.status, "a.vpk was discarded" in text_of(answer)) == (404, True)
    assert files_of(upload) == [part.token.hex for part in UploadPart.objects.all()]


def test_a_part_has_its_file_from_the_start(door: DoorClient, upload: Upload) -> None:
    location_of(door.create(upload, "a.vpk", 4))
    assert files_of(upload) == [UploadPart.objects.get().token.hex]


def test_a_part_from_before_files_were_made_with_their_rows_goes_on(
    door: DoorClient, upload: Upload
) -> None:
    location = location_of(door.create(upload, "a.vpk", 4))
    path_of(UploadPart.objects.get()).unlink()
    assert door.patch(location, 0, [b"1234"]).status == 204
    assert path_of(UploadPart.objects.get()).read_bytes() == b"1234"


def test_no_file_is_made_for_an_upload_that_is_done(door: DoorClient, upload: Upload) -> None:
    location = location_of(door.create(upload, "a.vpk", 4, [b"1234"]))
    Upload.objects.update(state=UploadState.DONE)
    upload_files.remove_files(upload.pk)
    assert door.ask("HEAD", location).status == 200
    assert door.ask("DELETE", location).status == 404
    assert files_of(upload) == []


def test_nothing_is_added_to_an_upload_that_is_over(door: DoorClient, upload: Upload) -> None:
    location = location_of(door.create(upload, "a.vpk", 3, [b"ab"]))
    Upload.objects.update(state=UploadState.WAITING)
    assert door.patch(location, 2, [b"c"]).status == 410
    assert door.create(upload, "b.vpk", 3).status == 422
    assert door.ask("DELETE", location).status == 422
    assert door.offset(location) == 2


def test_many_at_a_time_take_no_more_than_the_quota(
    upload: Upload, alice: User, settings: LazySettings
) -> None:
    OwnQuotas.objects.create(user=alice, content_bytes=10 * MIB)
    door = DoorClient(alice)

    async def talk() -> list[int | None]:
        exchanges = [Exchange() for _ in range(8)]
        for exchange in exchanges:
            exchange.has_left.set()
        await asyncio.gather(
            *(
                exchange.run(
                    door.application,
                    door.scope(
                        "POST",
                        f"/uploads/{upload.pk}/",
                        upload_length=str(3 * MIB),
                        upload_metadata=encode(path=f"{number}.vpk"),
                    ),
                )
                for number, exchange in enumerate(exchanges)
            )
        )
        return [exchange.status for exchange in exchanges]

    statuses = asyncio.run(talk())
    assert sorted(statuses, key=str) == [201] * 3 + [422] * 5
    # What was promised counts before it has arrived, and no longer once it is removed.
    refused = door.create(upload, "one more.vpk", 2 * MIB)
    assert refused.status == 422
    assert "Remove versions or uploads" in text_of(refused)
    assert door.create(upload, "a small one.vpk", MIB).status == 201
    discard(upload)
    another = begin_upload(upload.overlay, by=alice, adds_to_latest=True)
    assert door.create(another, "a.vpk", 10 * MIB).status == 201


def test_one_person_has_so_many_bodies_written_at_a_time(
    door: DoorClient, upload: Upload, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "WRITES_OF_PERSON", 0)
    refused = door.create(upload, "a.vpk", 3, [b"abc"])
    assert (refused.status, refused.headers[b"retry-after"]) == (429, b"2")


def test_what_nobody_continues_for_a_week_is_removed(
    door: DoorClient, upload: Upload, overlay: Overlay, alice: User
) -> None:
    door.create(upload, "a.vpk", 3, [b"ab"])
    fresh = begin_upload(overlay, by=alice, adds_to_latest=True)
    door.create(fresh, "a.vpk", 3, [b"ab"])
    old, kept = path_of(upload.parts.get()), path_of(fresh.parts.get())
    assert remove_abandoned() == []
    Upload.objects.filter(pk=upload.pk).update(touched_at=timezone.now() - timedelta(days=8))
    stray: Path = old.parent.with_name("999999")
    stray.mkdir()
    assert remove_abandoned() == [upload.pk, 999999]
    assert (old.exists(), kept.exists(), stray.exists()) == (False, True, False)
    assert list(Upload.objects.all()) == [fresh]


def test_files_whose_part_is_gone_are_removed_after_an_hour(
    door: DoorClient, upload: Upload
) -> None:
    door.create(upload, "a.vpk", 3, [b"ab"])
    part = UploadPart.objects.get()
    stray, young = (path_of(part).with_name(letter * 32) for letter in "bc")
    for path in (stray, young):
        path.write_bytes(b"bytes that nobody counts")
    for path in (stray, path_of(part)):
        os.utime(path, (0, 0))
    assert remove_abandoned() == []
    assert files_of(upload) == sorted([part.token.hex, young.name])


def test_only_where_the_files_are_is_anything_removed(
    upload: Upload, settings: LazySettings, tmp_path: Path
) -> None:
    """A worker on another host has the rows of all uploads, and the files of none."""
    Upload.objects.filter(pk=upload.pk).update(touched_at=timezone.now() - timedelta(days=8))
    settings.CONTENT_ROOT = tmp_path / "of another host"
    settings.CONTENT_ROOT.mkdir()
    assert remove_abandoned() == []
    assert Upload.objects.get() == upload


def test_what_is_discarded_while_it_comes_takes_no_more_of_the_disk(
    door: DoorClient, upload: Upload, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "BATCH_SECONDS", 0.0)
    location = location_of(door.create(upload, "a.vpk", 9))
    part = UploadPart.objects.get()

    def discard_it() -> None:
        discard(upload)
        connection.close()

    async def talk() -> Exchange:
        exchange = Exchange([b"ab"], is_complete=False)
        scope = door.scope("PATCH", location, content_type=BODY, upload_offset="0")
        task = asyncio.create_task(exchange.run(door.application, scope))
        await waiting(lambda: upload_files.read_offset(part) == 2)
        await asyncio.to_thread(discard_it)
        exchange.has_left.set()
        await task
        return exchange

    exchange = asyncio.run(talk())
    assert exchange.status == 404
    assert "a.vpk was discarded" in text_of(exchange)


def test_some_of_the_disk_stays_free(
    door: DoorClient, upload: Upload, settings: LazySettings
) -> None:
    location = location_of(door.create(upload, "a.vpk", 3))
    settings.HOST_MIN_FREE_BYTES = 2**50
    assert door.create(upload, "b.vpk", 1).status == 507
    assert door.patch(location, 0, [b"abc"]).status == 507
    assert door.offset(location) == 0


def test_the_door_keeps_no_thread_and_no_connection_of_who_waits(
    door: DoorClient, upload: Upload
) -> None:
    of_others = set(threading.enumerate())  # of doors of earlier tests, until they are collected
    locations = [location_of(door.create(upload, f"{number}.vpk", 4)) for number in range(6)]

    async def talk() -> int:
        exchanges = [Exchange([b"1"], is_complete=False) for _ in locations]
        tasks = [
            asyncio.create_task(
                exchange.run(
                    door.application,
                    door.scope("PATCH", location, content_type=BODY, upload_offset="0"),
                )
            )
            for exchange, location in zip(exchanges, locations, strict=True)
        ]
        await waiting(lambda: not any(exchange.parts_left for exchange in exchanges))
        threads = set(threading.enumerate()) - of_others
        for exchange in exchanges:
            exchange.has_left.set()
        await asyncio.gather(*tasks)
        return sum(one.name.startswith("uploads-") for one in threads)

    assert 0 < asyncio.run(talk()) <= 6
    assert [door.offset(location) for location in locations] == [1] * 6
