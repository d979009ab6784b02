"""`script/bench visit`: a cold visit to a page from far away: when it is seen, and when it is live.

Chromium starts with an empty cache and goes through nginx as deploy/nginx.conf sets it up; each of its
requests takes `--latency` ms longer, as if across an ocean. It compares HTTP/1.1 with HTTP/2, and pages that
name all of their modules at once (`module_preloads`) with pages that leave it to the browser to find them one
by one. Seen is the first contentful paint; live is when its stream has begun.
"""

import argparse
import os
import re
import statistics
import tempfile
from pathlib import Path
from typing import Any

from tests.benchmarks.streams import NO_LIMITS, Row, note, print_table

PRELOAD = re.compile(r'<link rel="modulepreload"[^>]*>')
PAGES = ("/servers/alpha/console/", "/servers/")


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(prog="script/bench visit", description=__doc__)
    parser.add_argument(
        "--latency", type=int, default=100, help="ms that each request takes longer"
    )
    parser.add_argument(
        "--visits", type=int, default=7, help="of each kind, of which the median counts"
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="saferoom-bench-") as name:
        folder = Path(name)
        os.environ.update(
            NO_LIMITS,
            DJANGO_SETTINGS_MODULE="tests.settings",
            DJANGO_ALLOW_ASYNC_UNSAFE="true",
            STATIC_ROOT=str(folder / "static"),
            CSRF_TRUSTED_ORIGINS="",
        )
        os.environ.setdefault("DATABASE_URL", f"sqlite:///{folder / 'bench.sqlite3'}")
        import django

        django.setup()
        rows = measure_all(folder, options.latency, options.visits)
    print_table(f"A cold visit, {options.latency} ms away", rows)


def measure_all(folder: Path, latency: int, visits: int) -> list[Row]:
    """Measure each page in each of the ways."""
    from django.core.management import call_command
    from playwright.sync_api import sync_playwright

    from tests.chromium import CHROMIUM_ARGUMENTS
    from tests.floors import find_chromium
    from tests.jobs.live.stream_server import Nginx, Panel

    call_command("migrate", verbosity=0)
    call_command("collectstatic", interactive=False, verbosity=0)
    cookie = prepare()
    rows: list[Row] = []
    panel = Panel(folder, folder / "web.sock")
    panel.start(DEBUG="false", TRUSTED_PROXIES="unix", STATIC_ROOT=str(folder / "static"))
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(
                executable_path=find_chromium(), args=CHROMIUM_ARGUMENTS
            )
            for is_http2 in (False, True):
                nginx = Nginx(folder, panel)
                nginx.start(is_http2=is_http2)
                try:
                    for path in PAGES:
                        for names_modules in (False, True):
                            seen = [
                                visit(
                                    browser,
                                    f"https://localhost:{nginx.port}",
                                    path,
                                    cookie,
                                    latency,
                                    names_modules,
                                )
                                for _ in range(visits)
                            ]
                            rows.append(
                                note(
                                    {
                                        "page": path,
                                        "protocol": "HTTP/2" if is_http2 else "HTTP/1.1",
                                        "modules": "named at once"
                                        if names_modules
                                        else "found one by one",
                                        "seen ms": round(statistics.median(one[0] for one in seen)),
                                        "live ms": round(statistics.median(one[1] for one in seen)),
                                    }
                                )
                            )
                finally:
                    nginx.stop()
    finally:
        panel.stop()
    return rows


def prepare() -> str:
    """Make a server with a console; return the session of a person who may see it."""
    from django.contrib.auth.models import User
    from django.test import Client

    from servers.models import Blueprint, Host, Server

    kim = User.objects.create_superuser("kim")
    blueprint = Blueprint.objects.create(name="plain", owner=kim)
    Server.objects.create(
        name="alpha", owner=kim, host=Host.local(), blueprint=blueprint, port=27015
    )
    client = Client()
    client.force_login(kim)
    return client.cookies["sessionid"].value


def visit(
    browser: Any, url: str, path: str, cookie: str, latency: int, names_modules: bool
) -> tuple[float, float]:
    """Open a page with an empty cache; return when it was seen and live, in ms from the start."""
    context = browser.new_context(base_url=url, ignore_https_errors=True)
    try:
        context.add_cookies([{"name": "sessionid", "value": cookie, "url": url}])
        page = context.new_page()
        link = context.new_cdp_session(page)
        link.send("Network.enable")
        link.send(
            "Network.emulateNetworkConditions",
            {
                "offline": False,
                "latency": latency,
                "downloadThroughput": -1,
                "uploadThroughput": -1,
            },
        )

        def answer(route: Any) -> None:
            response = route.fetch()
            body = response.text()
            route.fulfill(response=response, body=body if names_modules else PRELOAD.sub("", body))

        # Also where nothing is taken out: the page itself arrives the same way each time.
        page.route(url + path, answer)
        with page.expect_response(lambda response: "/events" in response.url):
            page.goto(path, wait_until="commit")
        live = page.evaluate("performance.now()")
        paints = page.evaluate(
            "performance.getEntriesByName('first-contentful-paint').map((one) => one.startTime)"
        )
        return paints[0], live
    finally:
        context.close()


if __name__ == "__main__":
    main()
