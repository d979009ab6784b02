"""`script/bench commands`: how long a console command takes, from Enter to its answer on the page.

A whole panel with its worker and a simulated game, and two people in Chromium who watch its console: one types,
and both wait for the answer. Typed and seen are times of the browser's own clock.
"""

import argparse
import statistics
import tempfile
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from tests.benchmarks.streams import Row, print_table
from tests.chromium import CHROMIUM_ARGUMENTS
from tests.endtoend.panel import PASSWORD, Panel
from tests.floors import find_chromium

# Types as a person does, and resolves with the ms until the answer is on this page.
TYPE = """(text) => new Promise((resolve) => {
  const input = document.getElementById("prompt-command");
  const began = performance.now();
  const answers = document.getElementById("console-prompt");
  const look = () => {
    if (![...answers.querySelectorAll(".command-answer")].some((one) => one.textContent.includes(text))) return;
    observer.disconnect();
    resolve(performance.now() - began);
  };
  const observer = new MutationObserver(look);
  observer.observe(answers, { childList: true, subtree: true, characterData: true });
  input.value = `echo ${text}`;
  input.form.requestSubmit();
})"""
# Resolves with the time since the epoch, in ms, at which the answer is on this page.
SEE = """(text) => new Promise((resolve) => {
  const answers = document.getElementById("console-prompt");
  const look = () => {
    if (![...answers.querySelectorAll(".command-answer")].some((one) => one.textContent.includes(text))) return;
    observer.disconnect();
    resolve(performance.timeOrigin + performance.now());
  };
  const observer = new MutationObserver(look);
  observer.observe(answers, { childList: true, subtree: true, characterData: true });
  look();
})"""


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(prog="script/bench commands", description=__doc__)
    parser.add_argument("--commands", type=int, default=60)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="saferoom-bench-") as folder:
        panel = Panel(Path(folder) / "var")
        panel.set_simulator(steamcmd={"seconds": 0}, srcds={"start_seconds": 0})
        panel.start()
        try:
            panel.client.sign_in()
            panel.succeed(panel.install())
            panel.make_server("alpha")
            panel.succeed(panel.operate("alpha", "start"))
            rows = measure(panel.url, options.commands)
            print("of which, by the command's row:", describe_rows(panel))
        finally:
            panel.end()
    print_table("A console command, from Enter to its answer", rows)


def measure(url: str, count: int) -> list[Row]:
    """Send commands one after the other; return a row for the person typing and one for the person watching."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=find_chromium(), args=CHROMIUM_ARGUMENTS
        )
        context = browser.new_context(base_url=url)
        mine, others = context.new_page(), context.new_page()
        mine.goto("/accounts/login/")
        mine.get_by_label("Username").fill("admin")
        mine.get_by_label("Password").fill(PASSWORD)
        mine.get_by_role("button", name="Sign in").click()
        for page in (mine, others):
            page.goto("/servers/alpha/")
            page.get_by_text("Live", exact=True).wait_for()
        times = [send(mine, others, f"number-{number}-") for number in range(count + 1)]
    # The first one finds the caches empty.
    typed, watched = zip(*times[1:], strict=True)
    return [describe("who types", typed), describe("who watches", watched)]


def send(mine: Any, others: Any, text: str) -> tuple[float, float]:
    """Send one; return after how many ms its answer was on either page."""
    began = mine.evaluate("performance.timeOrigin + performance.now()")
    own = mine.evaluate(TYPE, text)
    return own, others.evaluate(SEE, text) - began


def describe_rows(panel: Panel) -> str:
    """Describe how long commands waited for the worker, and the worker for the game."""
    times = [
        [datetime.fromisoformat(text) for text in row]
        for row in panel.query(
            "SELECT created_at, sent_at, finished_at FROM servers_consolecommand"
        )
    ]
    waited, answered = (
        statistics.median((row[last] - row[last - 1]) / timedelta(milliseconds=1) for row in times)
        for last in (1, 2)
    )
    return f"{waited:.0f} ms until it was sent, {answered:.0f} ms until its answer was stored"


def describe(who: str, times: tuple[float, ...]) -> Row:
    return {
        "answer seen by": who,
        "median ms": round(statistics.median(times)),
        "p95 ms": round(sorted(times)[int(len(times) * 0.95)]),
        "worst ms": round(max(times)),
    }


if __name__ == "__main__":
    main()
