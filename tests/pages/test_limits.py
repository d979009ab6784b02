"""What a blueprint's servers may use of their hosts: its form asks, and pages say where it is not enforced."""

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse

from servers.models import Blueprint, Host, Server

NEW = reverse("servers:blueprint_create")
NO_LIMITS = {"memory_limit_mib": "", "tasks_limit": "", "cpu_weight": ""}


def form_of(**limits: str) -> dict[str, str]:
    """Return what the form for a blueprint sends."""
    return {"name": "versus", "arguments": "", "config": "", **NO_LIMITS, **limits}


def test_limits_reach_the_host_layer(as_alice: Client, server: Server) -> None:
    as_alice.post(NEW, form_of(memory_limit_mib="2048", tasks_limit="200", cpu_weight="50"))
    server.blueprint = Blueprint.objects.get(name="versus")
    limits = server.to_spec().limits
    assert (limits.memory_bytes, limits.tasks, limits.cpu_weight) == (2 * 1024**3, 200, 50)


def test_no_limit_is_none(as_alice: Client, server: Server) -> None:
    as_alice.post(NEW, form_of())
    server.blueprint = Blueprint.objects.get(name="versus")
    assert server.to_spec().limits.is_empty


@pytest.mark.parametrize(
    ("limits", "complaint"),
    [
        ({"memory_limit_mib": "511"}, "The game needs 512 MiB at the least"),
        ({"memory_limit_mib": "0"}, "The game needs 512 MiB at the least"),
        ({"memory_limit_mib": "1048577"}, "less than or equal to 1048576"),
        ({"memory_limit_mib": "2 GB"}, "Enter a whole number"),
        ({"tasks_limit": "31"}, "The game needs 32 at the least"),
        ({"tasks_limit": "32769"}, "less than or equal to 32768"),
        ({"cpu_weight": "0"}, "greater than or equal to 1"),
        ({"cpu_weight": "10001"}, "less than or equal to 10000"),
    ],
)
def test_a_limit_that_makes_no_sense_is_told_in_the_form(
    as_alice: Client, limits: dict[str, str], complaint: str
) -> None:
    page = as_alice.post(NEW, form_of(**limits)).content.decode()
    assert complaint in page
    assert '<details class="panel" open>' in page
    assert not Blueprint.objects.exists()


@pytest.mark.parametrize("highest", [{"memory_limit_mib": 1048576}, {"tasks_limit": 32768}])
def test_what_the_form_takes_the_host_layer_takes(
    as_alice: Client, server: Server, highest: dict[str, int]
) -> None:
    as_alice.post(NEW, form_of(**{name: str(value) for name, value in highest.items()}))
    server.blueprint = Blueprint.objects.get(name="versus")
    assert not server.to_spec().limits.is_empty


def test_the_form_folds_limits_that_nobody_has_set(as_alice: Client, blueprint: Blueprint) -> None:
    url = reverse("servers:blueprint_edit", args=[blueprint.name])
    assert '<details class="panel">' in as_alice.get(url).content.decode()
    Blueprint.objects.update(cpu_weight=7)
    assert '<details class="panel" open>' in as_alice.get(url).content.decode()


def test_an_admin_sets_limits_in_the_admin_too(
    as_dana: Client, blueprint: Blueprint, alice: User
) -> None:
    url = reverse("admin:servers_blueprint_change", args=[blueprint.pk])
    page = as_dana.get(url).content.decode()
    assert 'name="memory_limit_mib"' in page
    rows = {"blueprint_overlays-TOTAL_FORMS": "0", "blueprint_overlays-INITIAL_FORMS": "0"}
    form = {**form_of(memory_limit_mib="1024"), "owner": str(alice.pk), **rows}
    as_dana.post(url, form)
    assert Blueprint.objects.get().memory_limit_mib == 1024


class TestWhatPagesSay:
    @pytest.fixture(autouse=True)
    def limited(self, server: Server) -> None:
        Blueprint.objects.update(memory_limit_mib=2048, cpu_weight=50)

    def test_the_blueprints_page_names_its_limits(self, as_alice: Client, server: Server) -> None:
        page = as_alice.get(server.blueprint.get_absolute_url()).content.decode()
        assert "2048 MiB of memory, CPU weight 50" in page

    def test_a_server_that_is_held_to_its_limits_says_just_those(
        self, as_alice: Client, server: Server
    ) -> None:
        Host.objects.update(driver="systemd")
        page = as_alice.get(server.get_absolute_url()).content.decode()
        assert "2048 MiB of memory, CPU weight 50" in page
        assert "Without effect" not in page

    def test_a_server_of_the_process_driver_says_that_nothing_holds_it(
        self, as_alice: Client, server: Server
    ) -> None:
        Host.objects.update(driver="process", limits_without_effect="memory, tasks, CPU weight")
        page = as_alice.get(server.get_absolute_url()).content.decode()
        assert "Without effect here: memory, CPU weight." in page
        assert "runs servers as plain processes" in page

    def test_a_kernel_without_a_controller_is_named_for_the_limits_it_concerns(
        self, as_alice: Client, server: Server
    ) -> None:
        Host.objects.update(driver="systemd", limits_without_effect="tasks, CPU weight")
        page = as_alice.get(server.get_absolute_url()).content.decode()
        assert "Without effect here: CPU weight." in page
        assert "The kernel of host local" in page
