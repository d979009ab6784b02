"""What a stranger can make the process log, and how often."""

import asyncio
import gc
import logging
import runpy
from types import SimpleNamespace
from unittest.mock import Mock
from urllib.parse import quote

import pytest
from django.conf import LazySettings, settings
from django.contrib.auth.models import User
from django.core.exceptions import SuspiciousMultipartForm
from django.core.handlers.exception import response_for_exception
from django.test import AsyncClient, Client, RequestFactory
from django.urls import reverse

from jobs.live import fan_out
from l4d2site import log_filters
from l4d2site.accounts.models import Invitation
from l4d2site.accounts.pages import SignIn

BAD = "evil.example"


def lines_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return what was logged, as handlers get it: a traceback would be part of it."""
    formatter = logging.Formatter("%(levelname)s %(name)s %(message)s")
    return [formatter.format(record) for record in caplog.records]


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Return the filter's clock, in a list of one element."""
    clock = [1e9]
    # Anything that configures logging again in this process adds another one.
    refusals = logging.getLogger("django.security.DisallowedHost")
    monkeypatch.setattr(refusals, "filters", refusals.filters[-1:])
    monkeypatch.setattr(log_filters, "monotonic", lambda: clock[0])
    return clock


def test_a_flood_of_bad_hosts_is_a_line_a_minute_with_their_count(
    client: Client, db: None, caplog: pytest.LogCaptureFixture, now: list[float]
) -> None:
    for _ in range(20):
        assert client.get("/accounts/login/", headers={"host": BAD}).status_code == 400
    (line,) = lines_of(caplog)
    assert line == (
        "WARNING django.security.DisallowedHost "
        "refused a request for the host 'evil.example', which is none of ALLOWED_HOSTS"
    )
    now[0] += 61
    caplog.clear()
    client.get("/accounts/login/", headers={"host": BAD})
    (line,) = lines_of(caplog)
    assert line.endswith("none of ALLOWED_HOSTS, and 19 more since this was last said")


def test_a_host_of_any_length_and_kind_is_a_short_line(
    client: Client, db: None, caplog: pytest.LogCaptureFixture, now: list[float]
) -> None:
    now[0] += 1000
    client.get("/accounts/login/", headers={"host": "\x1b[31m" + "ü" * 8000})
    (line,) = lines_of(caplog)
    assert len(line) < 600
    assert line.isascii()
    assert line.isprintable()


def read_the_line(caplog: pytest.LogCaptureFixture) -> str:
    """Return the one line that a refusal logs, and forget it."""
    (line,) = lines_of(caplog)
    caplog.clear()
    assert line.startswith("WARNING django.security.")
    assert line.isascii()
    assert line.isprintable()
    assert len(line) < 700
    return line


def test_a_refused_lookup_of_the_admin_site_is_a_short_line(
    client: Client, dana: User, caplog: pytest.LogCaptureFixture
) -> None:
    client.force_login(dana)
    caplog.clear()
    url = reverse("admin:servers_server_changelist")
    assert client.get(url, {"config__contains": "a"}).status_code == 400
    assert read_the_line(caplog) == (
        "WARNING django.security.DisallowedModelAdminLookup refused a request for "
        f"'{url}': 'Filtering by config__contains not allowed'"
    )
    assert client.get(url, {"config\nERROR all is lost": "é" * 9000}).status_code == 400
    assert "not allowed" in read_the_line(caplog)
    assert client.get(url, {"_to_field": "config", "_popup": "1"}).status_code == 400
    assert "DisallowedModelAdminToField" in read_the_line(caplog)


def test_a_form_that_is_too_large_is_a_short_line(
    client: Client, db: None, caplog: pytest.LogCaptureFixture
) -> None:
    fields = {f"field{number}": "x" for number in range(1001)}
    assert client.post("/accounts/login/", fields).status_code == 400
    assert "TooManyFieldsSent" in read_the_line(caplog)


def product_formatter() -> log_filters.SafeLines:
    """Return what makes the lines of the product's log."""
    formatters = {handler.formatter for handler in logging.getLogger().handlers}
    (formatter,) = (one for one in formatters if isinstance(one, log_filters.SafeLines))
    return formatter


FORGED = "2026-11-28 00:20:00,000 WARNING saferoom.accounts: sign_in_failed address=203.0.113.9"
BREAKS = ["\n", "\r\n", "\x1b[2K\r", "\u2028", "\x85", "\x0b", "\x00", "\u202e", "\udc80"]


@pytest.mark.parametrize("character", BREAKS)
def test_a_record_is_one_line_whatever_is_in_it(character: str) -> None:
    text = f"/x{character}{FORGED}"
    record = logging.makeLogRecord({"name": "a", "msg": "GET %s", "args": (text,)})
    line = product_formatter().format(record)
    assert line.isprintable()
    assert line.endswith(FORGED)
    assert ascii(character)[1:-1] in line


@pytest.mark.parametrize("character", BREAKS)
def test_a_traceback_cannot_look_like_another_record(character: str) -> None:
    info = (ValueError, ValueError(f"/x{character}{FORGED}"), None)
    record = logging.makeLogRecord({"name": "a", "msg": "it failed", "exc_info": info})
    first, *trace = product_formatter().format(record).split("\n")
    assert first.endswith("a: it failed")
    assert trace[0].startswith("| ValueError: /x")
    assert FORGED in trace[-1]
    assert all(line.isprintable() and line.startswith("| ") for line in trace)


def test_what_gunicorn_logs_is_made_safe_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fan_out.server_stop, "_ask", lambda: False)
    monkeypatch.setattr(gc, "set_threshold", lambda _: None)
    handler = logging.StreamHandler()
    configuration = runpy.run_path(str(settings.BASE_DIR / "deploy/gunicorn.conf.py"))
    log = SimpleNamespace(handlers=[handler])
    served = SimpleNamespace(error_log=log, error_fmt="%(message)s", datefmt=None)
    configuration["post_worker_init"](SimpleNamespace(alive=True, log=served))
    record = logging.makeLogRecord({"msg": "it failed\nx"})
    assert handler.format(record) == r"it failed\nx"


def test_an_address_of_any_length_is_a_short_line(
    db: None, caplog: pytest.LogCaptureFixture
) -> None:
    stranger = make_stranger()
    assert stranger.get(f"/{'ü' * 4000}/").status_code == 404
    elsewhere = {"Origin": f"https://{'x' * 9000}"}
    assert stranger.post(reverse("account_login"), headers=elsewhere).status_code == 403
    assert [len(line) < 900 for line in lines_of(caplog)] == [True, True]


def test_no_link_is_logged(dana: User, caplog: pytest.LogCaptureFixture) -> None:
    """Not even one that is refused: the person who made it may be reactivated."""
    formatter = product_formatter()
    invitation = Invitation.objects.create(made_by=dana)
    reset = reverse("reset", args=["MQ", "t0ken-abc"])
    strict = Client(enforce_csrf_checks=True)
    User.objects.update(is_active=False)
    for link in (invitation.get_absolute_url(), invitation.mailed_url, reset):
        caplog.clear()
        strict.get(link)
        strict.post(link)
        within = quote(quote(link, safe=""), safe="")
        logging.getLogger("django.request").error("Oops: /login/?next=%s", quote(link, safe=""))
        logging.getLogger("django.request").error("Oops: /login/?next=%s", quote(within, safe=""))
        logged = "\n".join(map(formatter.format, caplog.records))
        assert logged.count("...") >= 2, logged
        token = link.strip("/").rpartition("/")[2]
        assert token not in logged
        assert quote(token) not in logged


def test_a_form_that_is_made_to_hold_up_its_parser_is_a_short_line(
    rf: RequestFactory, db: None, caplog: pytest.LogCaptureFixture
) -> None:
    response_for_exception(rf.post("/"), SuspiciousMultipartForm("It got stuck."))
    assert "It got stuck." in read_the_line(caplog)


def test_a_stranger_gets_no_traceback_into_the_log(
    client: Client, db: None, caplog: pytest.LogCaptureFixture
) -> None:
    assert client.get(reverse("jobs:change_events")).status_code == 403
    # Without a boundary, the form cannot be parsed.
    login = reverse("account_login")
    assert client.post(login, "a=1", content_type="multipart/form-data").status_code == 400
    assert lines_of(caplog) == [
        "WARNING django.request Forbidden (Permission denied): /events",
        f"WARNING django.request Bad Request: {login}",
    ]


def test_a_fault_of_ours_keeps_its_traceback(
    client: Client, db: None, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SignIn, "get", Mock(side_effect=ZeroDivisionError))
    client.raise_request_exception = False
    assert client.get(reverse("account_login")).status_code == 500
    (line,) = lines_of(caplog)
    assert line.startswith("ERROR django.request Internal Server Error")
    assert line.endswith("ZeroDivisionError")


TOKEN = "a" * 32
FORM = "application/x-www-form-urlencoded"
MULTIPART = "multipart/form-data; boundary=x"
PART = """--x\r
Content-Disposition: form-data; name="csrfmiddlewaretoken"\r
Content-Type: text/plain\r
\r
a\r
--x--\r
"""
UNREADABLE = [
    *((f"{FORM}; charset={charset}", "a=1") for charset in ("latin-1", "utf8", "utf-16")),
    *((f"{MULTIPART}; charset={charset}", PART) for charset in ("base64", "idna", "undefined")),
    (MULTIPART, PART.replace("text/plain", "text/plain; x*=b; x*0=c")),
    ("multipart/form-data", PART),
]


def make_stranger() -> Client:
    """Return a browser whose forms are parsed although they are refused. It need not have seen any page."""
    stranger = Client(enforce_csrf_checks=True, raise_request_exception=False)
    stranger.cookies["csrftoken"] = TOKEN
    return stranger


@pytest.mark.parametrize(("content_type", "body"), UNREADABLE)
@pytest.mark.parametrize("path", ["/nosuch/", "/healthz", "/accounts/login/", "/accounts/reset/"])
def test_a_form_that_cannot_be_parsed_is_a_line_everywhere(
    db: None, caplog: pytest.LogCaptureFixture, path: str, content_type: str, body: str
) -> None:
    answer = make_stranger().generic("POST", path, body, content_type)
    assert (answer.status_code, len(answer.content.splitlines())) == (400, 1)
    assert lines_of(caplog) == [f"WARNING django.request Bad Request: {path}"]


@pytest.mark.parametrize("path", ["/nosuch/", "/healthz", "/accounts/login/", "/servers/"])
def test_an_address_or_form_with_too_much_is_a_line_everywhere(
    db: None, caplog: pytest.LogCaptureFixture, settings: LazySettings, path: str
) -> None:
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 5000
    stranger = make_stranger()
    for address, body in (
        (f"{path}?{'a&' * 1001}", ""),
        (f"{path}?{'%00&' * 1001}", ""),
        (path, "a&" * 1001),
        (path, "a" * 5001),
    ):
        assert stranger.post(address, body, content_type=FORM).status_code == 400
        assert "The panel could not read" not in read_the_line(caplog)
    assert stranger.get(f"{path}?{'a&' * 1001}").status_code == 400
    read_the_line(caplog)


@pytest.mark.django_db(transaction=True)
def test_a_stream_is_asked_for_with_a_form_in_a_line(caplog: pytest.LogCaptureFixture) -> None:
    async def send() -> int:
        client = AsyncClient(raise_request_exception=False)
        kind = f"{MULTIPART}; charset=base64"
        return int((await client.generic("POST", "/events", PART, kind)).status_code)

    assert asyncio.run(send()) == 400
    assert lines_of(caplog) == ["WARNING django.request Bad Request: /events"]
