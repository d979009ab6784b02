"""The entrance: each address has a limited number of places, and inside everybody has their own address."""

import asyncio
from base64 import b64encode
from hashlib import sha256
from http import HTTPStatus
from typing import Any

import pytest
from django.conf import LazySettings

from l4d2site.gate.addresses import TrustedProxies
from l4d2site.gate.answers import RefusedError
from l4d2site.gate.entrance import Entrance
from l4d2site.gate.refusal_pages import wants_page
from tests.site.gate.asgi import Exchange, make_scope, read_all


class Holding:
    """An application that answers when told to, and keeps the scopes that it received."""

    def __init__(self) -> None:
        self.release = asyncio.Event()
        self.scopes: list[dict[str, Any]] = []

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        """Serve a request."""
        self.scopes.append(scope)
        await self.release.wait()
        await read_all(scope, receive, send)


def entrance(application: Any) -> Entrance:
    return Entrance(application, requests_per_address=3, streams_per_address=2)


async def ask_at_once(scopes: list[dict[str, Any]]) -> list[int | None]:
    """Return the statuses of simultaneous requests."""
    application = Holding()
    door = entrance(application)
    exchanges = [Exchange() for _ in scopes]
    tasks = [
        asyncio.create_task(exchange.run(door, scope))
        for exchange, scope in zip(exchanges, scopes, strict=True)
    ]
    await asyncio.sleep(0)
    application.release.set()
    await asyncio.gather(*tasks)
    return [exchange.status for exchange in exchanges]


def test_an_address_has_so_many_streams_and_requests_at_one_time() -> None:
    streams = [make_scope("GET", "/jobs/7/events") for _ in range(3)]
    pages = [make_scope("GET", "/servers/") for _ in range(4)]
    elsewhere = make_scope("GET", "/events")
    elsewhere["client"] = ("203.0.113.9", 1)
    statuses = asyncio.run(ask_at_once([*streams, *pages, elsewhere]))
    assert statuses == [200, 200, 429, 200, 200, 200, 429, 200]


def test_a_64_of_ipv6_is_one_address() -> None:
    scopes = [make_scope("GET", "/events") for _ in range(4)]
    for number, scope in enumerate(scopes):
        scope["client"] = (f"2001:db8::{number}", 1)
    scopes[3]["client"] = ("2001:db8:0:1::", 1)
    assert asyncio.run(ask_at_once(scopes)) == [200, 200, 429, 200]


def test_behind_a_proxy_the_address_it_names_counts(settings: LazySettings) -> None:
    settings.TRUSTED_PROXIES = TrustedProxies.parse(["198.51.100.7"])
    scopes = [make_scope("GET", "/events", x_forwarded_for=f"203.0.113.{n}") for n in range(5)]
    assert asyncio.run(ask_at_once(scopes)) == [200] * 5
    scopes = [make_scope("GET", "/events", x_forwarded_for="203.0.113.9") for _ in range(3)]
    assert asyncio.run(ask_at_once(scopes)) == [200, 200, 429]


def test_a_place_is_free_again_also_after_a_fault() -> None:
    async def fails(*_: Any) -> None:
        raise ZeroDivisionError

    async def scenario() -> None:
        door = entrance(fails)
        for _ in range(5):
            with pytest.raises(ZeroDivisionError):
                await Exchange().run(door, make_scope("GET", "/events"))

    asyncio.run(scenario())


def test_what_is_inside_finds_the_clients_address(settings: LazySettings) -> None:
    settings.TRUSTED_PROXIES = TrustedProxies.parse(["198.51.100.7"])
    application = Holding()
    application.release.set()
    scope = make_scope("GET", "/", x_forwarded_for="203.0.113.9")
    asyncio.run(Exchange().run(entrance(application), scope))
    assert application.scopes[0]["client"] == ("203.0.113.9", 0)


async def refuse(*_: Any) -> None:
    """Refuse every request, with words that HTML would read as a tag."""
    raise RefusedError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "Too <large>.", ends_connection=True)


def test_a_browser_is_refused_with_a_page_that_needs_nothing_else() -> None:
    exchange = Exchange()
    scope = make_scope("POST", "/servers/", accept="text/html,application/xhtml+xml;q=0.9")
    asyncio.run(exchange.run(entrance(refuse), scope))
    page = exchange.sent[1]["body"].decode()
    assert exchange.status == 413
    assert exchange.headers[b"content-type"] == b"text/html; charset=utf-8"
    assert exchange.headers[b"content-length"] == b"%d" % len(exchange.sent[1]["body"])
    assert exchange.headers[b"connection"] == b"close"
    assert "<h1>Too &lt;large&gt;.</h1>" in page
    assert "Back button" in page
    assert '<header><a href="/">Saferoom</a></header>' in page
    assert '<p><a href="/">' in page
    style = page.split("<style>")[1].split("</style>")[0]
    digest = b64encode(sha256(style.encode()).digest()).decode()
    assert f"style-src 'sha256-{digest}'" in exchange.headers[b"content-security-policy"].decode()


def test_other_clients_are_refused_with_a_line_of_text() -> None:
    others = ("*/*", "text/event-stream", "text/htmlx", "text/html;q=0", "text/html ; Q=0.000, */*")
    for headers in ({}, *({"accept": kind} for kind in others)):
        exchange = Exchange()
        asyncio.run(exchange.run(entrance(refuse), make_scope("POST", "/", **headers)))
        assert exchange.headers[b"content-type"] == b"text/plain; charset=utf-8"
        assert exchange.sent[1]["body"] == b"Too <large>.\n"


@pytest.mark.parametrize(
    "accept", ["text/html", "Text/HTML;q=0.1", "application/json, text/html;level=1;q=0.01,*/*;q=0"]
)
def test_html_is_asked_for_with_any_weight_but_0(accept: str) -> None:
    assert wants_page(make_scope(accept=accept))


def test_an_answer_to_head_has_the_headers_of_get_and_no_body() -> None:
    answers = []
    for method in ("GET", "HEAD"):
        exchange = Exchange()
        asyncio.run(exchange.run(entrance(refuse), make_scope(method, "/")))
        answers.append((exchange.headers, exchange.sent[1]["body"]))
    assert answers[0][0] == answers[1][0]
    assert [body for _headers, body in answers] == [b"Too <large>.\n", b""]


def test_a_web_socket_is_closed_without_a_fault() -> None:
    exchange = Exchange()
    asyncio.run(exchange.run(entrance(read_all), {"type": "websocket", "path": "/", "headers": []}))
    assert exchange.sent == [{"type": "websocket.close"}]


@pytest.mark.parametrize(
    ("content_type", "status"),
    [
        ("application/json", 200),
        ("application/x-www-form-urlencoded; charset=UTF-8", 200),
        ('multipart/form-data; boundary=x; charset="utf-8"', 200),
        ("application/x-www-form-urlencoded; charset=latin-1", 415),
        ("application/x-www-form-urlencoded; charset=", 200),
        ("text/plain; charset=utf8", 200),
        ("text/html; charset=ISO-8859-1", 200),
        ("APPLICATION/x-www-form-urlencoded; charset=utf8", 415),
        ("multipart/form-data; boundary=x; charset=base64", 415),
        ("text/plain; charset*=nosuch'en'x", 400),
        ("text/plain; charset*=idna'en'%ff", 400),
        ("text/plain; charset*=utf-8''%00", 400),
        ("text/plain; charset*=unicode_escape''%5Cud800", 400),
        ("application/json; charset=Shift_JIS", 200),
        ("text/plain; charset=no-such-charset", 200),
        ("text/plain; x*=b; x*0=c", 400),
        (f"text/plain; x*{'9' * 5000}=b", 400),
    ],
)
def test_only_utf8_comes_in(content_type: str, status: int) -> None:
    for path in ("/nosuch/", "/static/x.css", "/accounts/login/", "/jobs/7/events"):
        exchange = Exchange([b"a=1"])
        scope = make_scope(path=path, content_type=content_type, content_length="3")
        exchange.has_left.set()
        asyncio.run(exchange.run(entrance(read_all), scope))
        assert exchange.status == status, path


def test_an_address_that_is_not_utf8_is_refused() -> None:
    exchange = Exchange()
    scope = {**make_scope("GET"), "query_string": b"a=\xff"}
    asyncio.run(exchange.run(entrance(read_all), scope))
    assert exchange.status == 400
