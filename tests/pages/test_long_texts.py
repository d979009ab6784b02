"""Texts that people write: their limits, how much of them others load, and how many faults a page lists."""

import re
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse

from servers.config import ready_blueprints
from servers.config.ready_blueprints import READY_BLUEPRINTS, find_rows
from servers.models import Blueprint, Overlay, Server
from servers.models.launches import find_spec_faults
from servers.models.text_cache import LONG_KEPT, cache_of_texts
from servers.models.validation import CONFIG_CHARS, DESCRIPTION_CHARS
from tests.pages.queries import queries_of
from tests.pages.test_blueprints import form_of as blueprint_form
from tests.pages.test_servers import form_of as server_form

pytestmark = pytest.mark.django_db

NEW_BLUEPRINT = reverse("servers:blueprint_create")
NEW_SERVER = reverse("servers:create")
NEW_OVERLAY = reverse("servers:overlay_create")
TOO_LONG = "a" * (CONFIG_CHARS + 1)
SAYS_IT = "Use at most 65,536 characters. This has 65,537."

# As a list would select the whole column, not only its beginning.
WHOLE_DESCRIPTION = re.compile(r'(?<!\()"servers_overlay"\."description"')
WHOLE_CONFIG = re.compile(r'(?<!\()"servers_(?:blueprint|server)"\."config"')


def edit_of(row: Blueprint | Server | Overlay) -> str:
    """Return the address of a row's form."""
    return f"{row.get_absolute_url()}edit/"


def post(client: Client, url: str, data: dict[str, str]) -> str:
    """Return the form as it is shown again, which it must be."""
    response = client.post(url, data)
    assert response.status_code == 200
    return response.content.decode()


# --- How long ---------------------------------------------------------------------------------


def test_a_config_that_is_too_long_is_refused_before_anything_reads_it(
    as_alice: Client, blueprint: Blueprint, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("servers.models.validation.require_config", pytest.fail)
    new_server = server_form(blueprint, config=TOO_LONG)
    for url, data in (
        (NEW_BLUEPRINT, blueprint_form(config=TOO_LONG)),
        (edit_of(blueprint), blueprint_form(name=blueprint.name, config=TOO_LONG)),
        (NEW_SERVER, new_server),
        (edit_of(server), new_server),
    ):
        page = post(as_alice, url, data)
        assert SAYS_IT in page, url
        assert TOO_LONG[1:] in page, url
        assert TOO_LONG not in page, url
        assert "Only the first 65,536 characters are shown here" in page, url
    assert Blueprint.objects.count() == Server.objects.count() == 1


def test_no_form_repeats_more_than_the_beginning_of_what_was_sent(
    as_alice: Client, as_dana: Client, alice: User, blueprint: Blueprint, server: Server
) -> None:
    """In any field, including hidden ones. Each one says where its text is cut."""
    overlay = Overlay.objects.create(name="mine", owner=alice)
    of_overlay, of_server = ({"name": row.name} for row in (overlay, server))
    long = "/" + "a" * 300_000
    for client, url, names, texts in (
        (as_alice, NEW_SERVER, "name arguments config tags port version", 4),
        (as_alice, edit_of(server), "arguments config version", 2),
        (as_alice, edit_of(blueprint), "name arguments config cpu_weight version", 4),
        (as_alice, edit_of(overlay), "description version", 1),
        (as_alice, reverse("servers:overlay_file_new", kwargs=of_overlay), "path text note", 3),
        (as_alice, reverse("jobs:bans", kwargs=of_server), "steam_id reason where", 2),
        (as_alice, reverse("jobs:ban_import", kwargs=of_server), "text", 1),
        (as_alice, reverse("jobs:map_now", kwargs=of_server), "campaign choice", 0),
        (as_alice, reverse("jobs:create", kwargs=of_server), "operation next", 0),
        (as_alice, reverse("account_reauthenticate"), "next", 0),
        (as_dana, admin_address(server), "config arguments version", 2),
    ):
        response = client.post(url, dict.fromkeys(names.split(), long))
        page = response.content.decode()
        assert "a" * 263_000 not in page, url
        assert sum(map(len, response.headers.values())) < 3_000, url
        assert page.count("the rest of what you sent was not kept") >= texts, url


def admin_address(row: Blueprint | Server | Overlay) -> str:
    """Return the address of a row's form in the admin site."""
    return reverse(f"admin:servers_{row._meta.model_name}_change", args=[row.pk])


def test_a_fault_quotes_little_of_what_was_sent(as_dana: Client) -> None:
    page = post(as_dana, reverse("admin:auth_group_add"), {"permissions": "b" * 5_000})
    assert "b" * 900 in page
    assert "b" * 1_000 not in page


def test_a_stored_text_from_before_the_limit_comes_back_whole(
    as_alice: Client, blueprint: Blueprint
) -> None:
    stored = "a\n" * CONFIG_CHARS
    Blueprint.objects.update(config=stored)
    sent = blueprint_form(name="Not a name", config=stored.replace("\n", "\r\n"))
    page = post(as_alice, edit_of(blueprint), sent)
    assert page.count("a\r\n") + page.count("a\n") >= CONFIG_CHARS
    assert "the rest of what you sent" not in page


def test_the_longest_config_is_taken(as_alice: Client) -> None:
    sent = blueprint_form(config="\r\n".join(["a"] * (CONFIG_CHARS // 2)))
    assert as_alice.post(NEW_BLUEPRINT, sent).status_code == 302
    assert len(Blueprint.objects.get().config) == CONFIG_CHARS - 1


def test_the_admin_pages_refuse_it_too(
    as_dana: Client, blueprint: Blueprint, server: Server
) -> None:
    for row in (blueprint, server):
        url = reverse(f"admin:servers_{row._meta.model_name}_change", args=[row.pk])
        page = post(as_dana, url, {"config": TOO_LONG, **inline()})
        assert SAYS_IT in page


def inline() -> dict[str, str]:
    """Return the part of the admin's blueprint form about overlays, with none."""
    counts = {"TOTAL_FORMS": "0", "INITIAL_FORMS": "0"}
    return {f"blueprint_overlays-{name}": value for name, value in counts.items()}


def test_a_config_from_before_the_limit_can_be_saved_as_it_is(
    as_alice: Client, blueprint: Blueprint
) -> None:
    stored = "a\n" * CONFIG_CHARS
    Blueprint.objects.filter(pk=blueprint.pk).update(config=stored)
    sent = {"name": "renamed", "arguments": "", "config": stored.replace("\n", "\r\n")}
    assert as_alice.post(edit_of(blueprint), sent).status_code == 302
    blueprint.refresh_from_db()
    assert (blueprint.name, blueprint.config) == ("renamed", stored)
    page = post(as_alice, edit_of(blueprint), {**sent, "config": stored + "b"})
    assert "Use at most 65,536 characters. This has 131,073." in page


def test_a_description_has_a_limit(as_alice: Client, as_dana: Client, alice: User) -> None:
    long = "b" * (DESCRIPTION_CHARS + 1)
    says_it = "Use at most 1,000 characters. This has 1,001."
    page = post(as_alice, NEW_OVERLAY, {"name": "mine", "description": long})
    assert says_it in page
    assert long in page
    overlay = Overlay.objects.create(name="mine", owner=alice)
    assert says_it in post(as_alice, edit_of(overlay), {"description": long})
    url = reverse("admin:servers_overlay_change", args=[overlay.pk])
    assert says_it in post(as_dana, url, {"name": "mine", "description": long})
    Overlay.objects.update(description=long)
    assert as_alice.post(edit_of(overlay), {"description": long}).status_code == 302
    assert as_dana.post(url, {"name": "mine", "description": long}).status_code == 302
    assert Overlay.objects.get().description == long


# --- What others load -------------------------------------------------------------------------


@pytest.fixture
def long_overlay(blueprint: Blueprint) -> Overlay:
    """Return an overlay from before descriptions had a limit, in an equally old blueprint."""
    overlay = Overlay.objects.create(name="wordy", description="c" * 5_000)
    blueprint.set_overlays([overlay])
    Blueprint.objects.update(config="// d\n" * CONFIG_CHARS)
    return overlay


def test_lists_load_and_show_the_beginning_of_a_description(
    as_alice: Client, as_dana: Client, long_overlay: Overlay, server: Server
) -> None:
    blueprint = server.blueprint
    shown = f"{'c' * 299}…"
    admin = reverse("admin:servers_overlay_changelist")
    config = reverse("servers:config", args=[server.name])
    for client, url, is_shown in (
        (as_alice, reverse("servers:overlay_list"), True),
        (as_alice, NEW_BLUEPRINT, True),
        (as_alice, edit_of(blueprint), True),
        (as_alice, blueprint.get_absolute_url(), True),
        (as_alice, config, True),
        (as_alice, reverse("servers:blueprint_list"), False),
        (as_alice, server.get_absolute_url(), False),
        (as_dana, admin, True),
    ):
        assert not [sql for sql in queries_of(client, url) if WHOLE_DESCRIPTION.search(sql)], url
        page = client.get(url).content.decode()
        assert (shown in page) is is_shown, url
        assert shown[:-1] + "c" not in page, url
    assert (
        long_overlay.description in as_alice.get(long_overlay.get_absolute_url()).content.decode()
    )


def test_lists_of_what_has_configs_load_none(
    as_alice: Client, as_dana: Client, long_overlay: Overlay, server: Server
) -> None:
    for client, url in (
        (as_alice, reverse("servers:blueprint_list")),
        (as_alice, NEW_SERVER),
        (as_alice, long_overlay.get_absolute_url()),
        (as_dana, reverse("admin:servers_blueprint_changelist")),
        (as_dana, reverse("admin:servers_server_changelist")),
    ):
        # Only short ones are compared with those of ready blueprints: see below.
        queries = [sql for sql in queries_of(client, url) if "LENGTH(" not in sql]
        assert not [sql for sql in queries if WHOLE_CONFIG.search(sql)], url


def test_only_short_configs_are_compared_with_those_of_ready_blueprints(
    alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    ready = READY_BLUEPRINTS[0]
    for name, config in (("short", ready.config), ("long", f"{ready.config}{' ' * 1_000}")):
        Blueprint.objects.create(name=name, owner=alice, arguments=ready.arguments, config=config)
    compared: list[str] = []

    def compare(config: str) -> str:
        compared.append(config)
        return config

    monkeypatch.setattr(ready_blueprints, "to_plain_lines", compare)
    assert find_rows(alice)[ready.key].name == "short"
    assert compared == [ready.config]


def test_few_results_of_long_texts_are_kept() -> None:
    calls: list[Any] = []

    @cache_of_texts(maxsize=1_000)
    def look_at(number: int, texts: tuple[str, ...]) -> int:
        calls.append(number)
        return number

    for texts, is_kept in ((("short", ""), True), (("", "e" * 10_000), False)):
        for number in range(LONG_KEPT + 1):
            look_at(number, texts)
        calls.clear()
        assert look_at(0, texts) == 0
        assert (not calls) is is_kept


# --- How many ---------------------------------------------------------------------------------


@pytest.fixture
def one_blueprint(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let everybody have one blueprint."""
    monkeypatch.setattr("servers.quotas.BLUEPRINTS_PER_OWNER", 1)


@pytest.mark.usefixtures("one_blueprint")
def test_an_owner_has_so_many_blueprints(
    as_alice: Client, as_dana: Client, alice: User, dana: User, blueprint: Blueprint
) -> None:
    says_it = "You have 1 blueprints, the most anybody may have. Remove one you no longer need."
    assert blueprint.owner == alice
    assert says_it in post(as_alice, NEW_BLUEPRINT, blueprint_form(name="second"))
    ready = {**server_form(blueprint), "blueprint": "ready:campaign"}
    assert says_it in post(as_alice, NEW_SERVER, ready)
    assert Blueprint.objects.count() == 1
    assert not Server.objects.exists()
    same = blueprint_form(name="renamed")
    assert as_alice.post(edit_of(blueprint), same).status_code == 302
    for name in ("one", "two"):
        assert as_dana.post(NEW_BLUEPRINT, blueprint_form(name=name)).status_code == 302


# --- How many faults --------------------------------------------------------------------------


def test_a_page_tells_the_first_of_many_faults(
    as_alice: Client, as_dana: Client, blueprint: Blueprint, server: Server
) -> None:
    page = post(as_alice, NEW_BLUEPRINT, blueprint_form(config="é\n" * 3_000))
    assert "Line 20 of the config" in page
    assert "Line 21 of the config" not in page
    assert "2,980 more faults are alike." in page
    config, arguments = "ip 1\n" * 10_000, "+ip 1 " * 100
    Blueprint.objects.update(config=config, arguments=arguments)
    Server.objects.update(config=config, arguments=arguments)
    for url in (server.get_absolute_url(), blueprint.get_absolute_url()):
        page = as_alice.get(url).content.decode()
        assert "9,980 more faults are alike." in page, url
        assert "And 80 more." in page, url
    faults = find_spec_faults((arguments, arguments), (config, config))
    assert len(faults) == 4 * 21
    assert "9,980" not in as_dana.get(reverse("admin:index")).content.decode()


def test_a_page_tells_the_first_of_many_passwords(
    as_alice: Client, blueprint: Blueprint, server: Server
) -> None:
    many = "say x;rcon_password x\n" * 2_000
    page = post(as_alice, NEW_BLUEPRINT, blueprint_form(config=many))
    assert page.count("a password that every server of this blueprint would share") == 20
    assert "And 1,980 more." in page
    Blueprint.objects.update(config=many)
    Server.objects.update(config=many)
    for url in (server.get_absolute_url(), blueprint.get_absolute_url()):
        page = as_alice.get(url).content.decode()
        assert page.count("so Saferoom cannot move it") == 20, url
        assert "And 1,980 more." in page, url
