"""Something was removed by somebody else after a request had read it: no request fails because of that."""

from pathlib import Path

import pytest
from django.conf import LazySettings
from django.contrib.auth.models import User
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from servers import store
from servers.config import CureError, apply_cure
from servers.models import Blueprint, Overlay, Upload

pytestmark = pytest.mark.django_db


@pytest.fixture
def overlay(alice: User, tmp_path: Path, settings: LazySettings) -> Overlay:
    """Return an overlay of Alice's, with a store of its own."""
    settings.CONTENT_ROOT = tmp_path / "content"
    return Overlay.objects.create(name="maps", owner=alice, is_shared=False)


def test_an_overlay_is_removed_by_two_clicks(overlay: Overlay) -> None:
    second = Overlay.objects.get(pk=overlay.pk)
    version = overlay.versions.create(
        number=1,
        digest="0" * 64,
        reference=f"maps@1-{'0' * 64}",
        files=1,
        size_bytes=1,
        added_bytes=1,
        looked_at=timezone.now(),
    )
    store.remove_overlay(overlay)
    store.remove_overlay(second)
    store.remove_version(version)
    assert not Overlay.objects.exists()


@pytest.mark.usefixtures("worker")
def test_an_upload_that_is_discarded_in_another_tab_takes_no_file(
    as_alice: Client, alice: User, overlay: Overlay, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin = store.begin_upload

    def begin_and_discard(*args: object, **kwargs: object) -> Upload:
        upload = begin(*args, **kwargs)  # type: ignore[arg-type]
        store.discard(upload)
        return upload

    upload = begin(overlay, by=alice, adds_to_latest=True)
    part = store.add_part(upload, "a.zip", 3)
    store.discard(upload)
    with pytest.raises(store.UploadGoneError):
        store.remove_part(part)
    monkeypatch.setattr(store, "begin_upload", begin_and_discard)
    page = reverse("jobs:uploads", args=[overlay.name])
    answer = as_alice.post(
        page,
        {"files": [SimpleUploadedFile("a.cfg", b"a")]},
    )
    assert answer.status_code == 409
    assert "was discarded meanwhile" in answer.content.decode()


def test_nothing_is_uploaded_to_an_overlay_that_was_removed(overlay: Overlay, alice: User) -> None:
    Overlay.objects.filter(pk=overlay.pk).delete()
    with pytest.raises(store.UploadRefusedError, match="removed meanwhile"):
        store.begin_upload(overlay, by=alice, adds_to_latest=True)


def test_a_blueprint_that_was_removed_is_not_cured(blueprint: Blueprint, alice: User) -> None:
    Blueprint.objects.filter(pk=blueprint.pk).delete()
    with pytest.raises(CureError, match="removed meanwhile"):
        apply_cure(alice, blueprint, "out 1")
