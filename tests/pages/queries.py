"""Counts the queries that a page costs."""

from collections.abc import Callable

from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext


def assert_same_queries(client: Client, url: str, make_more: Callable[[], None]) -> None:
    """Fail if the page at `url` costs more queries after `make_more` than before it."""
    before = count_queries(client, url)
    make_more()
    after, texts = count_queries(client, url), queries_of(client, url)
    assert after == before, "\n".join(texts)


def count_queries(client: Client, url: str) -> int:
    """Return how many queries the page at `url` costs."""
    return len(queries_of(client, url))


def queries_of(client: Client, url: str) -> list[str]:
    """Return the queries that the page at `url` costs."""
    with CaptureQueriesContext(connection) as captured:
        assert client.get(url).status_code == 200
    return [query["sql"] for query in captured.captured_queries]
