"""The content security policy: what it says, where it is sent, and that nothing of ours breaks it."""

import asyncio

import pytest
from django.contrib.auth.models import User
from django.http import HttpResponse
from django.test import AsyncClient, Client, RequestFactory, override_settings
from playwright.sync_api import expect

from l4d2site.security import CONTENT_SECURITY_POLICY, content_security_policy
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
