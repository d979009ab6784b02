"""Charsets that a stranger names: their names must not stay in memory."""

import asyncio
import codecs
import encodings
from uuid import uuid4

import pytest

from l4d2site.asgi import application
from tests.site.gate.asgi import Exchange, make_scope

TOKEN = "a" * 32
FORM = "multipart/form-data; boundary=B"
PART = "--B\r\nContent-Disposition: form-data; name=a; x*={}''y\r\n\r\nb\r\n--B--\r\n"


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        (FORM, PART),
        ("application/json; charset={}", "x"),
        ("application/json; x*={}''y", "x"),
    ],
)
def test_a_charset_that_does_not_exist_is_not_remembered(content_type: str, body: str) -> None:
    name = f"x{uuid4().hex}"
    exchange = Exchange([body.replace("{}", name).encode()])
    scope = make_scope(
        path="/accounts/login/",
        host="localhost",
        cookie=f"csrftoken={TOKEN}",
        content_type=content_type.replace("{}", name),
        content_length=str(len(body.replace("{}", name))),
    )
    exchange.has_left.set()
    asyncio.run(exchange.run(application, scope))
    assert exchange.status in (400, 403)
    assert name not in vars(encodings)["_cache"]


@pytest.mark.parametrize(
    "name", ["latin-1", "ANSI_X3.4-1968", "Windows 1252", "utf-8-sig", "idna", "iso.8859.1", "hex"]
)
def test_a_charset_that_exists_is_found(name: str) -> None:
    assert codecs.lookup(name)
