"""NUL characters in requests and posted data: no query gets one."""

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.exceptions import BadRequest
from django.db import connection
from django.test import Client, RequestFactory

from l4d2site.query_texts import clean, drop_nul
from servers.models import Server
from tests.pages.conftest import sign_in


def test_names_and_values_lose_their_nul_and_nothing_else(rf: RequestFactory) -> None:
    request = rf.get("/?a%00=1%00&a=2&b=%2500+%C3%A9&c=")
    clean(request)
    assert list(request.GET.lists()) == [("a", ["1", "2"]), ("b", ["%00 é"]), ("c", [""])]
    with pytest.raises(AttributeError):
        request.GET.update({"a": "3"})


def test_an_address_without_one_is_left_as_it_is(rf: RequestFactory) -> None:
    request = rf.get("/?a=1")
    before = request.GET
    clean(request)
    assert request.GET is before


def test_a_page_is_asked_for_without_it(server: Server, alice: User) -> None:
    response = sign_in(alice).get("/servers/new/?made=alp%00ha")
    assert response.context["made"] == server


@pytest.mark.parametrize(
    "address",
    [
        "/servers/new/?made=a%00",
        "/servers/new/?blueprint=a%00",
        "/servers/?made=%00",
        "/servers/?q=%00&tag=%00&sort=%00&after=%00",
        "/blueprints/new/?overlay=%00",
        "/accounts/people/?q=%00&kind=%00&page=%00",
        "/accounts/audit/?who=%00&server=%00&before=%00",
        "/admin/servers/server/?q=%00&host__id__exact=%00",
        "/admin/jobs/job/?state__exact=a%00&operation=%00",
        "/admin/accounts/accountevent/?kind__exact=a%00",
    ],
)
def test_no_page_fails_by_one(address: str, dana: User) -> None:
    assert sign_in(dana).get(address).status_code in (200, 302)


def test_rows_that_are_made_together_are_looked_at_too(rf: RequestFactory, db: None) -> None:
    def make(_request: Any) -> None:
        with connection.cursor() as cursor:
            statement = "UPDATE servers_host SET name = %s WHERE id = %s"
            cursor.executemany(statement, [("a", -1), ("b\0", -1)])

    with pytest.raises(BadRequest):
        drop_nul(make)(rf.post("/"))


def test_a_strangers_cookie_fails_nowhere(db: None) -> None:
    def refuse(execute: Callable[..., Any], sql: str, params: Any, *rest: Any) -> Any:
        assert "\0" not in "".join(map(str, params or ()))
        return execute(sql, params, *rest)

    with connection.execute_wrapper(refuse):
        answer = Client().get("/servers/", headers={"cookie": r'sessionid="\000abcdefghij"'})
    assert answer.status_code == 302


def test_what_is_posted_with_one_fails_nowhere(server: Server, dana: User) -> None:
    client: Client = sign_in(dana)
    for address, values in (
        ("/tags/many/", {"tag": "a", "way": "add", "matching": "?q=%00&tag=%00"}),
        ("/tags/many/", {"tag": "a", "way": "add", "server": "alpha\0"}),
        ("/tags/rename/", {"tag": "a\0", "name": "b"}),
        ("/tags/remove/", {"tag": "a\0"}),
        ("/hosts/local/jobs/", {"operation": "rollback", "from": "1\0", "to": "2\0"}),
        ("/servers/alpha/map/next/", {"campaign": "\0", "choice": "\0"}),
    ):
        assert client.post(address, values).status_code < 500, address
