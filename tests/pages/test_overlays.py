"""Before a start, pages say where overlays are missing, what is wrong with them, and what is in them."""

from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from servers.models import Blueprint, Host, Overlay, OverlayReport, Server
from servers.templatetags.file_names import breakable
from tests.pages.queries import count_queries

CAMPAIGN = {
    "name": "db",
    "title": "Dead Beat",
    "path": "left4dead2/addons/db.vpk/missions/db.txt",
    "modes": [
        {
            "name": "coop",
            "chapters": [
                {"map": "db_one", "title": "<b>The Start</b>"},
                {"map": "db_two", "title": ""},
            ],
        }
    ],
    "problem": "",
}


def finding(severity: str, text: str, path: str = "left4dead2/x") -> dict[str, str]:
    return {"code": "a_code", "severity": severity, "text": text, "path": path}


def report(host: Host, name: str, *findings: dict[str, str], **facts: Any) -> OverlayReport:
    now = timezone.now()
    Host.objects.filter(pk=host.pk).update(overlays_reported_at=now)
    return OverlayReport.objects.create(
        host=host, name=name, findings=list(findings), looked_at=now, files=3, **facts
    )


@pytest.fixture
def overlay(blueprint: Blueprint) -> Overlay:
    """Return the overlay in the blueprint of the server alpha."""
    overlay = Overlay.objects.create(
        name="pack", description="Maps for a night.", is_host_folder=True
    )
    blueprint.set_overlays([overlay])
    return overlay


def text_of(client: Client, url: str) -> str:
    response = client.get(url)
    assert response.status_code == 200
    return " ".join(response.content.decode().split())


def urls_of(server: Server, overlay: Overlay) -> list[str]:
    return [
        server.get_absolute_url(),
        server.blueprint.get_absolute_url(),
        reverse("servers:overlay_list"),
        reverse("servers:overlay_detail", args=[overlay.name]),
    ]


def test_nothing_is_said_where_nobody_has_looked_yet(
    as_alice: Client, server: Server, overlay: Overlay
) -> None:
    for url in urls_of(server, overlay):
        assert f"not on host {server.host.name}" not in text_of(as_alice, url).lower()


def test_an_overlay_that_is_missing_on_a_host_is_told_on_every_page(
    as_alice: Client, server: Server, overlay: Overlay
) -> None:
    report(server.host, "another")
    for url in urls_of(server, overlay):
        text = text_of(as_alice, url)
        assert f"ot on host {server.host.name}" in text
        assert "HOST_ROOT" not in text


def test_an_empty_list_explains_folders_on_hosts_once(as_dana: Client, as_alice: Client) -> None:
    text = text_of(as_dana, reverse("servers:overlay_list"))
    assert text.count("HOST_ROOT/overlays/") == 1
    assert text.count("servers/overlay/add/") == 1
    assert "HOST_ROOT" not in text_of(as_alice, reverse("servers:overlay_list"))
    Overlay.objects.create(name="rules", is_host_folder=True)
    text = text_of(as_dana, reverse("servers:overlay_list"))
    assert text.count("HOST_ROOT/overlays/") == 1
    assert "Add a folder from a host" in text


def test_where_its_files_belong_is_told_to_those_who_see_hosts(
    as_dana: Client, server: Server, overlay: Overlay
) -> None:
    report(server.host, "another")
    url = reverse("servers:overlay_detail", args=[overlay.name])
    assert "HOST_ROOT/overlays/pack/" in text_of(as_dana, url)


def test_what_keeps_a_server_from_starting_and_what_is_odd_is_told_before_a_start(
    as_alice: Client, server: Server, overlay: Overlay
) -> None:
    report(
        server.host,
        "pack",
        finding("refused", "It is too deep.", "x"),
        finding("warned", "It is odd: <script>."),
        finding("noted", "It has a server.cfg."),
        campaigns=[CAMPAIGN],
    )
    for url in urls_of(server, overlay):
        text = text_of(as_alice, url)
        assert "It is too deep." in text
        assert "It is odd: &lt;script&gt;." in text
        assert "Dead Beat" in text
    assert "cannot be started with its overlay" in text_of(as_alice, server.get_absolute_url())
    page = text_of(as_alice, reverse("servers:overlay_detail", args=["pack"]))
    assert "It has a server.cfg." in page
    assert "<code><bdi>x</bdi></code>: It is too deep." in page
    assert "<code>db_one</code> &lt;b&gt;The Start&lt;/b&gt;, <code>db_two</code>" in page


def test_a_server_is_told_only_what_is_so_on_its_own_host(
    as_alice: Client, server: Server, overlay: Overlay
) -> None:
    other = Host.objects.create(name="other")
    report(server.host, "pack")
    report(other, "pack", finding("warned", "It is odd."))
    assert "It is odd." not in text_of(as_alice, server.get_absolute_url())
    assert "It is odd." in text_of(as_alice, server.blueprint.get_absolute_url())


def test_of_much_the_first_is_said_and_where_the_rest_is(
    as_alice: Client, server: Server, overlay: Overlay
) -> None:
    report(server.host, "pack", *(finding("warned", f"Fault {number}.") for number in range(9)))
    text = text_of(as_alice, server.get_absolute_url())
    assert "Fault 2." in text
    assert "Fault 3." not in text
    assert "6 more" in text


def test_folders_that_are_no_overlays_yet_are_shown_to_who_sees_hosts_alone(
    as_alice: Client, as_dana: Client, host: Host
) -> None:
    report(host, "stray")
    url = reverse("servers:overlay_list")
    assert "stray" not in text_of(as_alice, url)
    assert f"{reverse('admin:servers_overlay_add')}?name=stray" in text_of(as_dana, url)
    stray = reverse("servers:overlay_detail", args=["stray"])
    assert as_alice.get(stray).status_code == 404
    assert "It is not in the panel" in text_of(as_dana, stray)


def test_an_overlay_that_is_not_shared_is_known_by_the_blueprints_one_sees(
    as_alice: Client, as_bob: Client, server: Server, overlay: Overlay
) -> None:
    Overlay.objects.update(is_shared=False)
    url = reverse("servers:overlay_detail", args=[overlay.name])
    assert as_alice.get(url).status_code == 200
    assert as_bob.get(url).status_code == 404


def test_pages_cost_the_same_for_many_overlays_and_hosts(
    as_alice: Client, server: Server, overlay: Overlay
) -> None:
    report(server.host, "pack", finding("warned", "It is odd."), campaigns=[CAMPAIGN])

    def make_more() -> None:
        overlays = [
            overlay,
            *(
                Overlay.objects.create(name=f"o{number}", is_host_folder=True)
                for number in range(5)
            ),
        ]
        server.blueprint.set_overlays(overlays)
        for name in ("two", "three"):
            host = Host.objects.create(name=name)
            for one in overlays:
                report(host, one.name, finding("warned", "It is odd."), campaigns=[CAMPAIGN])

    urls = urls_of(server, overlay)[:3]
    before = [count_queries(as_alice, url) for url in urls]
    make_more()
    assert [count_queries(as_alice, url) for url in urls] == before


def test_a_long_path_is_broken_between_words() -> None:
    path = "left4dead2/cfg/zone_mod-2.1<b>.cfg"
    html = "left4dead2/<wbr>cfg/<wbr>zone_<wbr>mod-<wbr>2.<wbr>1&lt;b&gt;.<wbr>cfg"
    assert breakable(path) == html
    assert breakable("") == ""
