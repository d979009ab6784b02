"""The page of a server's config, for people who may see the server."""

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from servers.models import Server

PART = {
    "path": "cfg/saferoom/10-maps.cfg",
    "source": "Overlay maps",
    "text": "hostname <b>Maps</b>\nrcon_password ********\n",
    "warnings": ["Line 2 of cfg/server.cfg of overlay maps sets hostport & more. It is left out."],
}


@pytest.fixture
def url(server: Server) -> str:
    """Return the address of the page of Alice's server."""
    return reverse("servers:config", args=[server.name])


def test_it_shows_each_part_with_its_source_its_text_and_its_warnings(
    as_alice: Client, as_dana: Client, server: Server, url: str
) -> None:
    server.config_chain = [{**PART, "path": "cfg/server.cfg", "text": "", "warnings": []}, PART]
    server.config_chain_at = timezone.now()
    server.save()
    for client in (as_alice, as_dana):
        page = client.get(url).content.decode().replace("<wbr>", "")
        assert page.index("cfg/server.cfg") < page.index("cfg/saferoom/10-maps.cfg")
        for text in (
            "Overlay maps",
            "hostname &lt;b&gt;Maps&lt;/b&gt;",
            "sets hostport &amp; more. It is left out.",
            f'datetime="{server.config_chain_at:%Y-%m-%d}',
            "It sets nothing.",
        ):
            assert text in page


def test_without_a_config_it_says_what_to_do(as_alice: Client, url: str) -> None:
    assert "Start it, or rebuild its files, and" in as_alice.get(url).content.decode()


def test_nobody_else_may_know_of_it(as_bob: Client, url: str) -> None:
    assert as_bob.get(url).status_code == 404
    assert Client().get(url).headers["Location"] == f"{reverse('account_login')}?next={url}"


def test_the_servers_page_leads_to_it_without_reading_the_config(
    as_alice: Client, server: Server, url: str
) -> None:
    page = as_alice.get(server.get_absolute_url())
    assert f'href="{url}"' in page.content.decode()
    assert "config_chain" in page.context["server"].get_deferred_fields()


def test_what_its_owner_edits_does_not_write_an_old_config_back(
    as_alice: Client, alice: User, server: Server, url: str
) -> None:
    seen = Server.objects.visible_to(alice).get()
    Server.objects.update(config_chain=[PART])
    seen.config = "sv_lan 1\n"
    seen.save()
    assert Server.objects.get().config_chain == [PART]
