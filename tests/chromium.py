"""Headless Chromium as tests start it."""

from playwright.sync_api import ConsoleMessage, Page

CHROMIUM_ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]

NOT_ALLOWED = (
    "Content Security Policy",
    # Chromium drops what is under way when an address comes or goes (tests/fire/networks.py), even a script.
    "ERR_NETWORK_CHANGED",
)
"""Texts that no message in a page's console may contain."""


def note_errors(page: Page, errors: list[str]) -> None:
    """Add to `errors` each script of the page that fails, and each message in its console that may not be."""

    def note(message: ConsoleMessage) -> None:
        if any(text in message.text for text in NOT_ALLOWED):
            errors.append(message.text)

    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", note)
