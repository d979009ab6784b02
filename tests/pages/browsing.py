"""What tests in a real browser share besides the fixtures: opening a page, and reading a log."""

from collections.abc import Callable

from playwright.sync_api import Locator, Page

from jobs.models import Job, JobLog

OpenPage = Callable[..., Page]


def add_lines(job: Job, first: int, last: int, stream: str = "stdout") -> None:
    """Add lines to the log of `job`."""
    JobLog.objects.bulk_create(
        (
            JobLog(job=job, seq=seq, stream=stream, line=f"line {seq} <b>as it is</b>")
            for seq in range(first, last + 1)
        ),
        batch_size=5_000,
    )


def line(page: Page, seq: int) -> Locator:
    """Return the row of a line."""
    return page.locator(f'.log-line[data-seq="{seq}"]')


def shown_seqs(page: Page) -> list[int]:
    """Return the numbers of the lines on the page."""
    seqs: list[int] = page.locator(".log-line").evaluate_all(
        "rows => rows.map(row => Number(row.dataset.seq))"
    )
    return seqs


def distance_to_end(log: Locator) -> int:
    """Return how far the log is scrolled up from its newest line, in pixels."""
    distance: float = log.evaluate("log => log.scrollHeight - log.scrollTop - log.clientHeight")
    return round(distance)


def is_in_view(row: Locator) -> bool:
    """Return whether a row is visible in its log."""
    result: bool = row.evaluate(
        """row => {
            const log = row.closest('[data-log]').getBoundingClientRect();
            const own = row.getBoundingClientRect();
            return own.top >= log.top && own.bottom <= log.bottom;
        }"""
    )
    return result
