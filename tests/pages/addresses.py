"""Every address of the project, from the URL patterns, and which of them lead to no page of ours."""

from collections.abc import Iterator

from django.urls import URLPattern, URLResolver, get_resolver, resolve

NOT_PAGES = {
    **dict.fromkeys(("servers:home", "jobs:upload", "mfa_login_webauthn"), "a redirect"),
    **dict.fromkeys(("jobs:events", "jobs:console_events", "jobs:change_events"), "a stream"),
    **dict.fromkeys(("jobs:log", "jobs:ban_export", "jobs:command_answer"), "a file"),
    **dict.fromkeys(("servers:console_text", "servers:overlay_file_download"), "a file"),
    **dict.fromkeys(("servers:blob", "mfa_download_recovery_codes"), "a file"),
    **dict.fromkeys(("jobs:command_names", "healthz", "livez"), "for programs"),
    "jobs:command_latest": "a part of a page",
}
"""Addresses that answer a GET with no page, and what they answer instead."""


def walk(resolver: URLResolver, namespace: str = "", route: str = "/") -> Iterator[tuple[str, str]]:
    """Yield the name and the route of every address below `resolver`."""
    for entry in resolver.url_patterns:
        below = route + str(entry.pattern)
        if isinstance(entry, URLPattern):
            yield f"{namespace}{entry.name}", below
        else:
            inner = f"{namespace}{entry.namespace}:" if entry.namespace else namespace
            yield from walk(entry, inner, below)


def routes() -> dict[str, str]:
    """Return the route of every address that has a name, by that name."""
    return {name: route for name, route in walk(get_resolver()) if name != "admin:None"}


def name_of(url: str) -> str:
    """Return the name of the address for a URL without a host."""
    return resolve(url.partition("?")[0].partition("#")[0]).view_name
