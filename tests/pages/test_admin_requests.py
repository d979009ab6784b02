"""What the admin site accepts from a request: the same rules for every model that has pages there."""

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
from django.contrib import admin
from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.auth.models import Group, User
from django.core.exceptions import SuspiciousOperation
from django.http import HttpRequest
from django.test import Client, RequestFactory
from django.urls import reverse

from jobs.models import Job, Worker
from l4d2site.admin_requests import SEARCH_CHARS
from servers.models import Blueprint, Overlay, Server
from tests.pages.accounts.test_admin_rights import make_staff
from tests.pages.conftest import sign_in

MANY_DIGITS = "9" * 30
TOO_MANY_DIGITS = "9" * 4301
"""More digits than Python reads as a number."""

ODD_VALUES = ("x", MANY_DIGITS, TOO_MANY_DIGITS, "[1]")


def address_of(model: type[Any], page: str, *args: object) -> str:
    return reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_{page}", args=args)


def each_model() -> Iterator[tuple[type[Any], Any]]:
    """Yield every model of the admin site with its pages, including those of packages."""
    yield from admin.site._registry.items()


@pytest.fixture
def rows(failed_job: Job, worker: Worker) -> None:
    """Make something for most lists to show."""
    Overlay.objects.create(name="maps")
    Group.objects.create(name="Night shift")


# --- Lookups ----------------------------------------------------------------------------------


@pytest.fixture
def request_of_dana(rf: RequestFactory, dana: User) -> HttpRequest:
    """Return a request by a superuser, who may see every list."""
    request = rf.get("/")
    request.user = dana
    return request


def test_no_list_answers_about_what_it_does_not_show(request_of_dana: HttpRequest) -> None:
    for model, pages in each_model():
        shown = {
            *(str(one) for one in (*pages.list_display, *pages.list_filter)),
            *(one.lstrip("=^@") for one in pages.search_fields),
            *(getattr(one, "parameter_name", "") for one in pages.list_filter),
        }
        hidden = {field.name for field in model._meta.get_fields()} - shown
        assert hidden, model
        for name in (*hidden, "description_start", "", "__"):
            for comparison in ("", "__exact", "__startswith", "__isnull", "__in", "__id"):
                lookup = f"{name}{comparison}"
                if lookup in shown:
                    continue
                assert not pages.lookup_allowed(lookup, "1", request_of_dana), (model, lookup)


def test_no_list_compares_with_patterns(request_of_dana: HttpRequest) -> None:
    for model, pages in each_model():
        for name in ("pk", *(field.name for field in model._meta.get_fields())):
            for lookup in (f"{name}__regex", f"{name}__iregex"):
                assert not pages.lookup_allowed(lookup, "(x|x)*y", request_of_dana), (model, lookup)


def test_a_config_is_not_read_through_the_list(server: Server) -> None:
    Server.objects.update(config='tv_password "TopSecret77"')
    client = sign_in(make_staff("view_any_server"))
    for lookup in ("config__contains", "arguments", "rcon_password_token__startswith"):
        url = address_of(Server, "changelist")
        assert client.get(url, {"name": "alpha", lookup: "TopSecret"}).status_code == 400


def test_what_a_list_shows_can_be_asked_for(as_dana: Client, server: Server) -> None:
    for lookup in (
        {"name": "alpha", "owner__id__exact": str(server.owner_id)},
        {"name__startswith": "al", "host__id__exact": str(server.host_id), "port__gte": "1024"},
        {"owner": str(server.owner_id), "actual_state__exact": "unknown", "q": "alpha"},
    ):
        page = as_dana.get(address_of(Server, "changelist"), lookup)
        assert page.status_code == 200
        assert "1 server" in page.content.decode()


# --- Values that are none ---------------------------------------------------------------------


def test_no_value_in_an_address_breaks_a_list(rf: RequestFactory, dana: User, rows: None) -> None:
    for model, pages in each_model():
        names = [*pages.list_display, *map(str, pages.list_filter), *pages.search_fields]
        columns = {field.name for field in model._meta.get_fields()}.intersection(names)
        lookups = [f"{name}{end}" for name in columns for end in ("", "__gte")]
        for name in (*lookups, "operation", "q", "o", "p"):
            for value in ODD_VALUES:
                request = rf.get("/", {name: value})
                request.user = dana
                # These are answered with the unfiltered list, and with 400.
                with suppress(IncorrectLookupParameters, SuspiciousOperation):
                    list(pages.get_changelist_instance(request).result_list)


def test_no_value_breaks_a_form_or_an_action(as_dana: Client, rows: None) -> None:
    for model, pages in each_model():
        for value in ODD_VALUES:
            action = {"action": "delete_selected", "_selected_action": value}
            answer = as_dana.post(address_of(model, "changelist"), action)
            assert answer.status_code in (400, 403, 200), (model, value)
            if given := dict.fromkeys(pages.get_autocomplete_fields(None), value):
                add = address_of(model, "add")
                assert as_dana.get(add, given).status_code == 200, (model, value)
                assert as_dana.post(add, given).status_code == 200, (model, value)


def test_no_value_breaks_a_choice_of_several_rows(as_dana: Client, alice: User, rows: None) -> None:
    places = [
        (address_of(User, "change", alice.pk), "groups"),
        (address_of(User, "change", alice.pk), "user_permissions"),
        (address_of(Group, "add"), "permissions"),
        (address_of(Group, "change", Group.objects.get(name="Night shift").pk), "permissions"),
    ]
    for place, name in places:
        for value in (*ODD_VALUES, str(2**63), "\0"):
            answer = as_dana.post(place, {name: ["1", value]})
            assert answer.status_code == 200, (place, name, value)
            (fault,) = answer.context["adminform"].form.errors[name]
            assert fault.startswith(("Select a valid choice.", "Null characters")), fault
            assert "9" * 1_001 not in answer.content.decode(), "all of it is quoted"


def test_a_filter_of_many_digits_gives_a_list(as_dana: Client, server: Server) -> None:
    url = address_of(Server, "changelist")
    page = as_dana.get(url, {"host": MANY_DIGITS}, follow=True)
    assert page.status_code == 200
    # PostgreSQL compares numbers of any length. SQLite does not: it gets the list without the filter.
    found = "0 servers" if page.redirect_chain == [] else "1 server"
    assert found in page.content.decode()


def test_a_row_is_found_by_its_key_if_no_other_column_is_named(
    as_dana: Client, server: Server
) -> None:
    answer = as_dana.get(address_of(Server, "change", server.pk), {"_to_field": ""})
    assert answer.status_code == 200


def test_a_search_is_cut_before_it_is_too_much_for_the_database(
    as_dana: Client, server: Server
) -> None:
    words = "a " * (SEARCH_CHARS // 2)
    url = address_of(Server, "changelist")
    page = as_dana.get(url, {"q": words + "b " * 1500}).content.decode()
    assert "1 server" in page


# --- Rows below others ------------------------------------------------------------------------


@pytest.mark.parametrize("prefix", ["blueprint_overlays", "own_quotas"])
def test_a_form_has_no_more_rows_than_can_be_sent(
    as_dana: Client, alice: User, blueprint: Blueprint, prefix: str
) -> None:
    row = blueprint if prefix == "blueprint_overlays" else alice
    values = {
        "name": "coop",
        f"{prefix}-TOTAL_FORMS": "999999999",
        f"{prefix}-INITIAL_FORMS": "0",
        f"{prefix}-0-overlay": "x",
    }
    page = as_dana.post(address_of(type(row), "change", row.pk), values)
    most = 200 if prefix == "blueprint_overlays" else 1
    assert page.status_code == 200
    assert f'name="{prefix}-{most - 1}-' in page.content.decode()
    assert f'name="{prefix}-{most}-' not in page.content.decode()
