"""`script/bench page`: how smooth the page of a job is in a real browser while its log is flooded.

A separate process writes the lines at full speed, as a worker does. The frames are those that Chromium
reports: headless, without a graphics card, on the same machine.
"""

import argparse
import multiprocessing
import os
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.benchmarks.streams import NO_LIMITS, Row, Watchers, note, print_table, watchers_of
from tests.waiting import wait_until

LINES_BEFORE = 1_000
STARTS = "[ 42%] Downloading update (123,456 of 9,876,543 KB) addons/maps/campaign.vpk"
LONGEST_WAIT_SECONDS = 180

# Notes how long each frame took, and each task that kept the page from answering for over 50 ms.
WATCH_FRAMES = """
window.frames_ = []; window.longTasks_ = [];
let last = performance.now();
requestAnimationFrame(function frame(now) {
  window.frames_.push(now - last);
  last = now;
  requestAnimationFrame(frame);
});
new PerformanceObserver((list) => {
  for (const entry of list.getEntries()) window.longTasks_.push(entry.duration);
}).observe({ type: "longtask" });
"""
LAST_SEQ = """() => {
  const rows = document.querySelector("[data-log-lines]").getElementsByClassName("log-line");
  return rows.length ? Number(rows[rows.length - 1].dataset.seq) : 0;
}"""


def write_lines(job_id: int, first: int, last: int) -> None:
    """Write numbered lines to a job's log as fast as its writer takes them; in a separate process."""
    import django

    django.setup()
    from jobs.claimed_jobs import ClaimedJob
    from jobs.models import Job
    from tests.jobs.logs.storing import storing

    job = ClaimedJob.of(Job.objects.get(pk=job_id))
    with storing(lambda job: sys.exit(f"job {job.pk} was taken away")) as thread:
        for number in range(first, last + 1):
            colour = f"\x1b[3{number % 8}m" if number % 5 == 0 else ""
            stream = "stderr" if number % 50 == 0 else "stdout"
            thread.writer.line(job, stream, f"{colour}{STARTS} {number}")


def make_job(lines: int) -> Any:
    """Return a running job with this many lines."""
    from django.utils import timezone

    from jobs.models import Job, JobLog, JobState, Worker
    from servers.models import Host

    now = timezone.now()
    worker = Worker.objects.create(
        host=Host.local(),
        pid=os.getpid(),
        process_started=1,
        concurrency=1,
        started_at=now,
        heartbeat_at=now,
    )
    job = Job.objects.create(
        operation="install", state=JobState.RUNNING, worker=worker, started_at=now
    )
    JobLog.objects.bulk_create(
        (
            JobLog(job=job, seq=seq, stream="stdout", line=f"{STARTS} {seq}")
            for seq in range(1, lines + 1)
        ),
        batch_size=10_000,
    )
    return job


def measure(page: Any, site: Any, *, before: int, flood: int, reader: str, crowd: int = 0) -> Row:
    """Flood the log of a new job that has `before` lines; return how its page behaved meanwhile.

    In a separate process, `crowd` others watch the same log.
    """
    job = make_job(before)
    (cookie,) = (c["value"] for c in page.context.cookies() if c["name"] == "sessionid")
    path = f"/jobs/{job.pk}/events?after={before}"
    with watchers_of(site, path, f"sessionid={cookie}", crowd) as watchers:
        return measure_flood(page, job, watchers, before=before, flood=flood, reader=reader)


def measure_flood(
    page: Any, job: Any, watchers: Watchers | None, *, before: int, flood: int, reader: str
) -> Row:
    """Flood the log of `job`; return how its page behaved, and when all others had seen everything."""
    from jobs.models import JobState

    page.goto(job.get_absolute_url())
    page.locator("[data-log-status][data-state='live']").wait_for()
    if reader == "reads above":
        page.evaluate("document.querySelector('[data-log]').scrollTop = 200")
        page.locator("[data-log-jump]:visible").wait_for()
    page.evaluate("frames_.length = longTasks_.length = 0")
    last = before + flood
    writer = multiprocessing.get_context("spawn").Process(
        target=write_lines, args=(job.pk, before + 1, last)
    )
    began = page.evaluate("performance.now()")
    writer.start()
    seen_after = ""
    if reader == "follows":
        wait_until(
            lambda: page.evaluate(LAST_SEQ) == last, LONGEST_WAIT_SECONDS, "not all has come"
        )
    writer.join()
    if watchers:
        wait_until(
            lambda: watchers.report()["fewest"] >= flood, LONGEST_WAIT_SECONDS, "not all saw"
        )
        seen_after = str(round((page.evaluate("performance.now()") - began) / 1_000, 1))
    page.wait_for_timeout(500)
    ended = page.evaluate("performance.now()")
    frames = sorted(page.evaluate("frames_"))
    tasks = page.evaluate("longTasks_")
    job.state = JobState.SUCCEEDED
    job.save(update_fields=["state", "updated_at"])
    return {
        "reader": reader,
        "all others after s": seen_after,
        "lines before": before,
        "flood": flood,
        "seconds": round((ended - began) / 1_000, 1),
        "frames": len(frames),
        "median ms": round(frames[len(frames) // 2]),
        "p95 ms": round(frames[int(len(frames) * 0.95)]),
        "p99 ms": round(frames[int(len(frames) * 0.99)]),
        "worst ms": round(frames[-1]),
        "tasks > 50 ms": len(tasks),
        "of them ms": round(sum(tasks)),
        "rows": page.locator(".log-line").count(),
        "heap MiB": round(page.evaluate("performance.memory.usedJSHeapSize") / 2**20),
    }


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--flood", type=int, default=50_000, help="lines written in one go")
    parser.add_argument("--long", type=int, default=100_000, help="lines of the long log")
    parser.add_argument("--crowd", type=int, default=2_000, help="others who watch, in the end")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))  # So that nothing is left behind.
    with tempfile.TemporaryDirectory(prefix="saferoom-bench-") as folder:
        os.environ.update(NO_LIMITS, DJANGO_SETTINGS_MODULE="tests.settings")
        os.environ.setdefault("DATABASE_URL", f"sqlite:///{Path(folder) / 'bench.sqlite3'}")
        import django

        django.setup()
        rows = measure_all(options.flood, options.long, options.crowd)
    print_table("A flooded page", rows)


def measure_all(flood: int, long: int, crowd: int) -> list[Row]:
    """Measure with a reader at the end, with one further up, in a long log, and in a crowd."""
    from django.contrib.auth.models import User
    from django.core.management import call_command
    from playwright.sync_api import sync_playwright

    from tests.chromium import CHROMIUM_ARGUMENTS
    from tests.floors import find_chromium
    from tests.pages.webserver import WebServer

    os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "true"
    call_command("migrate", verbosity=0)
    User.objects.create_superuser("bench", password="bench")
    site = WebServer()
    site.start()
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(
                executable_path=find_chromium(), args=CHROMIUM_ARGUMENTS
            )
            page = browser.new_page(base_url=site.url)
            page.add_init_script(WATCH_FRAMES)
            page.goto("/accounts/login/")
            page.get_by_label("Username").fill("bench")
            page.get_by_label("Password").fill("bench")
            page.get_by_role("button", name="Sign in").click()
            page.get_by_role("heading", level=1).wait_for()
            rows = [
                note(measure(page, site, before=before, flood=flood, reader=reader, crowd=others))
                for before, reader, others in (
                    (LINES_BEFORE, "follows", 0),
                    (LINES_BEFORE, "reads above", 0),
                    (long, "follows", 0),
                    (LINES_BEFORE, "follows", crowd),
                )
            ]
            browser.close()
    finally:
        site.stop()
    return rows


if __name__ == "__main__":
    main()
