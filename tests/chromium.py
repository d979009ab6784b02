"""Headless Chromium as tests start it."""

from typing import Any

from playwright.sync_api import Error, Page, Response

CHROMIUM_ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]


def outlast_network_changes(page: Page) -> None:
    """Let `page.goto` try once more where Chromium drops a request as this machine's network changed.

    Another test that runs at the same time may plug in a cable (tests/fire/networks.py).
    """
    go = page.goto

    def goto(url: str, **options: Any) -> Response | None:
        try:
            return go(url, **options)
        except Error as error:
            if "ERR_NETWORK_CHANGED" not in error.message:
                raise
            return go(url, **options)

    page.goto = goto  # type: ignore[method-assign]
