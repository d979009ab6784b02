"""Headless Chromium as tests start it."""

from typing import Any

from playwright.sync_api import Error, Page, Request, Response

CHROMIUM_ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]

NETWORK_CHANGED = "ERR_NETWORK_CHANGED"


def outlast_network_changes(page: Page) -> None:
    """Let `page.goto` try again if Chromium drops a request because this machine's network changed.

    A test running at the same time may plug in a cable (tests/fire/networks.py). The request for a script may
    be dropped too: then the page does nothing.
    """
    go = page.goto
    dropped: list[str] = []

    def note(request: Request) -> None:
        if NETWORK_CHANGED in (request.failure or ""):
            dropped.append(request.url)

    def goto(url: str, **options: Any) -> Response | None:
        dropped.clear()
        try:
            response = go(url, **options)
        except Error as error:
            if NETWORK_CHANGED not in error.message:
                raise
            return go(url, **options)
        return go(url, **options) if dropped else response

    page.on("requestfailed", note)
    page.goto = goto  # type: ignore[method-assign]
