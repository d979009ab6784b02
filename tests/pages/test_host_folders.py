"""Which overlays may stand for folders of hosts: those that people with the permission have marked."""

from importlib import import_module
from unittest.mock import Mock

import pytest
from django.apps import apps
from django.contrib.auth.models import Group, Permission, User
from django.db import connection
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from hostops.specs import InstanceState
from jobs.models import Job, JobState
from jobs.worker.single_job import run_worker_once
from servers.models import Blueprint, Host, Overlay, OverlayReport, OverlayVersion, Server
from tests.fakes import FakeHost

pytestmark = pytest.mark.django_db

MIGRATION = import_module("servers.migrations.0025_overlay_is_host_folder")


@pytest.mark.parametrize("may_bring", [True, False])
def test_what_is_made_on_the_panels_page_is_one_if_its_maker_may_name_folders(
    as_alice: Client, alice: User, may_bring: bool
) -> None:
    if may_bring:
        User.objects.filter(pk=alice.pk).update(is_staff=True)
        alice.user_permissions.add(Permission.objects.get(codename="bring_native_code"))
    sent = {"name": "mine", "is_host_folder": "on"}
    assert as_alice.post(reverse("servers:overlay_create"), sent).status_code == 302
    assert Overlay.objects.get().is_host_folder is may_bring


def test_an_owner_is_told_nothing_of_a_folder_that_has_the_name_of_theirs(
    as_alice: Client, alice: User, host: Host
) -> None:
    overlay = Overlay.objects.create(name="maps", owner=alice)
    OverlayReport.objects.create(host=host, name="maps", looked_at=host.created_at, files=77)
    for url, is_told in (
        (overlay.get_absolute_url(), True),
        (reverse("servers:overlay_list"), False),
    ):
        for is_folder in (False, True):
            Overlay.objects.update(is_host_folder=is_folder)
            page = as_alice.get(url).content.decode()
            assert ("77 files" in page) is (is_folder and is_told)
            assert ("kept by hand on" in page) is is_folder


def test_an_upgrade_marks_what_hosts_were_told_by_name(
    alice: User, dana: User, blueprint: Blueprint
) -> None:
    """Dana is a superuser; the helper may bring native code through a group."""
    group = Group.objects.create(name="helpers")
    group.permissions.add(Permission.objects.get(codename="bring_native_code"))
    people = {
        "nobody": None,
        "alice": alice,
        "dana": dana,
        "helper": User.objects.create(username="helper", is_staff=True),
        "former": User.objects.create(username="former", is_staff=False),
    }
    for name in ("helper", "former"):
        group.user_set.add(User.objects.get(username=name))
    overlays = {
        name: Overlay.objects.create(name=name, owner=owner) for name, owner in people.items()
    }
    given, versioned = (Overlay.objects.create(name=name, owner=alice) for name in ("given", "v"))
    versioned.latest = OverlayVersion.objects.create(
        overlay=versioned,
        number=1,
        reference="v@1",
        looked_at=timezone.now(),
        files=1,
        size_bytes=1,
        added_bytes=1,
    )
    versioned.save()
    blueprint.set_overlays([given, versioned])
    MIGRATION.mark_host_folders(apps, Mock(connection=connection))
    marked = set(Overlay.objects.filter(is_host_folder=True).values_list("name", flat=True))
    assert marked == {"nobody", "dana", "helper", "given"}
    assert overlays.keys() - marked == {"alice", "former"}


def test_a_start_with_an_empty_overlay_is_taken_and_fails_with_what_to_do(
    as_alice: Client, alice: User, server: Server, fake_host: FakeHost
) -> None:
    server.blueprint.set_overlays([Overlay.objects.create(name="empty", owner=alice)])
    url = reverse("jobs:create", args=[server.name])
    assert as_alice.post(url, {"operation": "start"}).status_code == 303
    fake_host.states[server.name] = InstanceState.STOPPED
    assert run_worker_once()
    job = Job.objects.get()
    assert job.state == JobState.FAILED
    assert "Overlays of the blueprint have no files: empty." in job.error
    for page in (server.get_absolute_url(), server.blueprint.get_absolute_url()):
        told = as_alice.get(page).content.decode()
        assert "It has no files yet. Upload some on its page." in told
