"""What is on one line, and level, on a screen of 1440 × 900."""

import pytest
from django.contrib.auth.models import User
from django.utils import timezone
from playwright.sync_api import Locator

from jobs.models import Job
from servers.models import Blueprint, Server
from tests.pages.browsing import OpenPage
from tests.states import record_state

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

SCREEN = {"width": 1440, "height": 900}


def boxes(found: Locator) -> list[tuple[float, float]]:
    """Return the top and the height of each element."""
    pairs: list[list[float]] = found.evaluate_all(
        "all => all.map(one => one.getBoundingClientRect()).map(({ top, height }) => [top, height])"
    )
    return [(top, height) for top, height in pairs]


LINES = """all => all.map(one => {
  const range = document.createRange();
  range.selectNodeContents(one);
  return new Set([...range.getClientRects()].map(({ bottom }) => Math.round(bottom / 8))).size;
})"""
"""The number of lines of each element's text; a line has the same bottom, give or take a few pixels."""


def test_the_fields_of_the_audit_are_level(open_page: OpenPage, alice: User) -> None:
    User.objects.filter(pk=alice.pk).update(is_staff=True, is_superuser=True)
    page = open_page(viewport=SCREEN)
    page.goto("/accounts/audit/")
    fields = boxes(page.locator(".search-form :is(input:not([type=hidden]), .button)"))
    assert len(fields) == 5
    assert len(set(fields)) == 1


def test_times_and_buttons_and_arguments_are_in_one_line(
    open_page: OpenPage, server: Server, blueprint: Blueprint
) -> None:
    now = timezone.now()
    job = Job.objects.create(
        operation="start", server=server, state="succeeded", started_at=now, finished_at=now
    )
    Server.objects.update(arguments="-maxplayers 8 +map c1m1_hotel +sv_tags hidden -tickrate 100")
    record_state(server, "running")
    page = open_page(viewport=SCREEN)
    page.goto(job.get_absolute_url())
    assert set(page.locator(".facts time").evaluate_all(LINES)) == {1}
    page.goto(f"{server.get_absolute_url()}map/")
    facts = page.locator(".facts dd")
    assert facts.last.inner_text().startswith("c1m1_hotel")
    assert page.locator(".facts dd > .quiet").evaluate_all(LINES) == [1]
    page.goto(server.get_absolute_url())
    assert set(page.locator(".facts .unbroken").evaluate_all(LINES)) == {1}
    # Nothing has been heard from its host for long: that is the longest state there is.
    Server.objects.update(actual_state_at=now.replace(year=2020))
    page.goto("/servers/")
    buttons = boxes(page.locator(".board .table-actions .button"))
    assert len(buttons) == 2
    assert len({top for top, _ in buttons}) == 1
