"""Headers: the content security policy and what it breaks (nothing), caches, static files, HSTS."""

import asyncio
from http import HTTPStatus
from pathlib import Path

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.http import HttpResponse, HttpResponseBase
from django.test import AsyncClient, Client, RequestFactory, override_settings
from playwright.sync_api import expect
from servestatic import ServeStaticASGI

from l4d2site.gate.answers import RefusedError
from l4d2site.security import (
    CONTENT_SECURITY_POLICY,
    add_static_headers,
    content_security_policy,
    keep_out_of_caches,
)
from servers.models import Server
from tests.pages.browsing import OpenPage

HEADER = "Content-Security-Policy"


def test_the_policy_lets_nothing_inline_or_foreign_in() -> None:
    assert "default-src 'self'" in CONTENT_SECURITY_POLICY
    assert "unsafe" not in CONTENT_SECURITY_POLICY
    assert "http" not in CONTENT_SECURITY_POLICY


@pytest.mark.parametrize("path", ["/servers/", "/admin/", "/nowhere/", "/jobs/", "/healthz"])
def test_every_answer_carries_the_policy(as_dana: Client, server: Server, path: str) -> None:
    assert as_dana.get(path).headers[HEADER] == CONTENT_SECURITY_POLICY


@pytest.mark.django_db(transaction=True)
def test_a_stream_carries_the_policy(alice: User) -> None:
    async def ask() -> str:
        client = AsyncClient()
        await client.aforce_login(alice)
        response = await client.get("/events")
        response.close()
        return str(response.headers[HEADER])

    assert asyncio.run(ask()) == CONTENT_SECURITY_POLICY


@override_settings(DEBUG=True)
def test_in_debug_an_error_may_explain_itself() -> None:
    request = RequestFactory().get("/")
    error = content_security_policy(lambda _: HttpResponse(status=500))(request)
    assert HEADER not in error.headers
    assert HEADER in content_security_policy(lambda _: HttpResponse())(request).headers


@pytest.mark.browser
@pytest.mark.django_db(transaction=True)
def test_the_admin_pages_work_under_the_policy(
    open_page: OpenPage, alice: User, server: Server
) -> None:
    alice.is_staff = alice.is_superuser = True
    alice.save()
    page = open_page()
    for path in (
        "/admin/",
        "/admin/jobs/job/",
        "/admin/servers/server/",
        f"/admin/servers/server/{server.pk}/change/",
        "/admin/auth/user/add/",
    ):
        page.goto(path)
        expect(page.locator("#content")).to_be_visible()
    page.goto("/admin/servers/server/")
    page.locator("#action-toggle").check()
    expect(page.locator("tr.selected")).to_have_count(1)


# --- Caches -----------------------------------------------------------------------------------

PRIVATE = [
    "/servers/",
    "/servers/new/",
    "/servers/alpha/",
    "/servers/alpha/edit/",
    "/servers/alpha/config/",
    "/servers/alpha/console/",
    "/jobs/",
    "/hosts/",
    "/health/",
    "/accounts/people/",
    "/accounts/sessions/",
    "/accounts/password/",
    "/admin/",
    "/admin/auth/user/",
    "/nowhere/",
]


@pytest.mark.parametrize("path", PRIVATE)
def test_nobody_keeps_what_shows_people_or_secrets(
    as_dana: Client, server: Server, path: str
) -> None:
    assert "no-store" in as_dana.get(path).headers["Cache-Control"]


def test_a_form_for_strangers_is_not_kept_either(client: Client, db: None) -> None:
    assert "no-store" in client.get("/accounts/login/").headers["Cache-Control"]


def test_what_is_the_same_for_all_is_left_alone() -> None:
    answer = keep_out_of_caches(lambda _: HttpResponse())(RequestFactory().get("/"))
    assert "Cache-Control" not in answer.headers


# --- Static files and TLS ---------------------------------------------------------------------


def test_static_files_have_the_headers_of_pages(tmp_path: Path) -> None:
    (tmp_path / "mark.svg").write_text("<svg/>")
    application = ServeStaticASGI(
        None, root=tmp_path, prefix="static/", add_headers_function=add_static_headers
    )
    headers = dict(application.files["/static/mark.svg"].get_response("HEAD", {}).headers)
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Content-Security-Policy"] == CONTENT_SECURITY_POLICY


@pytest.mark.parametrize(
    ("address", "policy"),
    [
        ("/accounts/invitation/t0ken/", "strict-origin"),
        ("/accounts/reset/MQ/t0ken/", "strict-origin"),
        ("/accounts/login/?next=/accounts/invitation/t0ken/", "strict-origin"),
        ("/accounts/login/?next=%2Faccounts%252finvitation%252Ft0ken", "strict-origin"),
        ("/nowhere/?next=/accounts/reset/MQ/t0ken/", "strict-origin"),
        ("/accounts/reset/", "same-origin"),
        ("/accounts/login/", "same-origin"),
    ],
)
def test_a_browser_tells_no_other_address_of_a_link(db: None, address: str, policy: str) -> None:
    assert Client().get(address).headers["Referrer-Policy"] == policy


def test_nor_does_it_from_a_page_of_the_gate() -> None:
    headers, _body = RefusedError(HTTPStatus.TOO_MANY_REQUESTS, "Wait.").answer()
    assert (b"referrer-policy", b"no-referrer") in headers


def test_nginx_sends_the_same_policy_with_static_files() -> None:
    site = (settings.BASE_DIR / "deploy/nginx.conf").read_text()
    assert f'set $static_policy "{CONTENT_SECURITY_POLICY}";' in site


def test_hsts_is_sent_only_where_it_was_turned_on_and_over_tls() -> None:
    def ask(seconds: int, **environ: str) -> HttpResponseBase:
        with override_settings(
            SECURE_HSTS_SECONDS=seconds,
            SECURE_PROXY_SSL_HEADER=("HTTP_X_FORWARDED_PROTO", "https"),
        ):
            return Client().get("/livez", **environ)  # type: ignore[arg-type]

    header = "Strict-Transport-Security"
    over_tls = {"HTTP_X_FORWARDED_PROTO": "https"}
    assert ask(31_536_000, **over_tls).headers[header] == "max-age=31536000"
    assert header not in ask(31_536_000).headers
    assert header not in ask(0, **over_tls).headers
