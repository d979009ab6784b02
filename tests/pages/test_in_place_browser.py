"""Forms that are sent in place, in a real browser: what they say if the answer is not a page of the panel."""

import pytest
from django.test import RequestFactory
from playwright.sync_api import Page, Route, expect

from jobs.database import Outage
from l4d2site.gate.answers import RefusedError
from l4d2site.gate.bodies import Budget, too_large
from l4d2site.outages import refuse
from servers.models import Server
from tests.pages.browsing import OpenPage
from tests.pages.test_accessibility import violations

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

NGINX = "<html><head><title>{0}</title></head><body><center><h1>{0}</h1></center><hr>nginx</body></html>"


def of_gate(refusal: RefusedError) -> dict[str, object]:
    """Return the gate's answer to a script."""
    headers, body = refusal.answer({"method": "POST", "headers": [(b"accept", b"*/*")]})
    return {
        "status": refusal.status.value,
        "headers": {name.decode(): value.decode() for name, value in headers},
        "body": body,
    }


def of_nginx(status: str) -> dict[str, object]:
    """Return nginx's own answer."""
    return {
        "status": int(status.partition(" ")[0]),
        "content_type": "text/html",
        "body": NGINX.format(status),
    }


def of_outage() -> dict[str, object]:
    """Return the panel's answer while its database is away."""
    request = RequestFactory().post("/servers/new/", headers={"accept": "*/*"})
    answer = refuse(request, Outage.AWAY, is_uncertain=False)
    return {
        "status": answer.status_code,
        "content_type": "text/html; charset=utf-8",
        "body": answer.content,
    }


def spent(most_bytes: int) -> RefusedError:
    """Return the refusal for a budget of bytes that another address has used up."""
    budget = Budget(most_bytes)
    for address in "abcd":
        budget.take(address, most_bytes // 4)
    with pytest.raises(RefusedError) as refused:
        budget.take("e", 1)
    return refused.value


def overdrawn() -> RefusedError:
    """Return the refusal for an address that sends too much at once."""
    with pytest.raises(RefusedError) as refused:
        Budget(4).take("a", 2)
    return refused.value


def send(page: Page, answer: dict[str, object] | None) -> None:
    """Send the form of a new server, which gets this answer; None means none at all."""

    def fulfill(route: Route) -> None:
        if route.request.method != "POST":
            route.continue_()
        elif answer is None:
            route.abort()
        else:
            route.fulfill(**answer)  # type: ignore[arg-type]

    page.route("**/servers/new/", fulfill)
    page.get_by_role("button", name="Make it without starting").click()
    expect(page.locator("form.new-server")).to_have_attribute("aria-busy", "false")
    page.unroute("**/servers/new/")


def test_a_form_says_what_happened_if_no_page_answers_and_keeps_what_was_typed(
    open_page: OpenPage, server: Server
) -> None:
    page = open_page()
    page.goto("/servers/new/")
    name = page.get_by_label("Name", exact=True)
    name.fill("typed")
    said = page.locator("form.new-server > [role=alert]")
    unknown = "may or may not have been done"
    above = page.locator("main .message")
    send(page, {"status": 404, "content_type": "text/html", "body": "<main><h1>Gone</h1></main>"})
    expect(above).to_have_text("Gone")
    for answer, words in (
        (of_gate(too_large(3 * 1024**2)), ["at most 3 MiB in one request.", "Make it shorter"]),
        (
            of_nginx("413 Request Entity Too Large"),
            ["is too large for the panel.", "Make it shorter"],
        ),
        (of_gate(overdrawn()), ["is sending too much at once. Let the current uploads finish"]),
        (
            of_nginx("429 Too Many Requests"),
            ["Nothing was done. Wait a moment, and send it again."],
        ),
        (of_gate(spent(4)), ["than it can hold. Try again in 10 seconds."]),
        (of_outage(), ["Your request was not carried out.", "Try again in a few seconds."]),
        (of_nginx("502 Bad Gateway"), ["(502)", unknown, "send it again if not."]),
        (of_nginx("503 Service Temporarily Unavailable"), ["(503)", unknown]),
        (of_nginx("504 Gateway Time-out"), ["(504)", unknown]),
        (None, ["cannot be reached", unknown, "Check your connection"]),
    ):
        send(page, answer)
        expect(said).to_have_count(1)
        expect(above).to_have_count(0)
        for word in words:
            expect(said).to_contain_text(word)
        expect(said).to_be_in_viewport(ratio=1)
        expect(name).to_have_value("typed")
    assert violations(page) == []
    page.get_by_role("button", name="Make it without starting").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("typed")


def test_a_button_and_the_prompt_say_it_too(open_page: OpenPage, server: Server) -> None:
    Server.objects.update(actual_state="running")
    page = open_page(viewport={"width": 390, "height": 844})
    page.goto("/servers/alpha/")
    page.route("**/servers/alpha/jobs/", lambda route: route.fulfill(**of_nginx("502 Bad Gateway")))
    page.get_by_role("button", name="Stop alpha").click()
    said = page.locator("form > [role=alert]")
    expect(said).to_contain_text("(502)")
    assert not page.evaluate("document.documentElement.scrollWidth > innerWidth")
    large = of_gate(too_large(3 * 1024**2))
    page.route("**/servers/alpha/commands/", lambda route: route.fulfill(**large))
    prompt = page.get_by_label("Command for alpha")
    prompt.fill("status")
    prompt.press("Enter")
    expect(page.locator("[data-prompt-note]")).to_contain_text("Nothing was done. Make it shorter")
    expect(prompt).to_have_value("status")
