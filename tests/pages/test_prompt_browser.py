"""The prompt in a real browser, with a real worker loop: what one person types, another one sees."""

import re
import threading

import pytest
from axe_playwright_python.sync_playwright import Axe
from django.contrib.auth.models import User
from django.db import connection
from django.utils import timezone
from playwright.sync_api import Locator, Page, expect

from hostops.specs import InstanceState
from jobs.database import Channel, announce
from jobs.models import Job
from jobs.worker.worker_process import WorkerLoop
from servers.console.completion import find_key
from servers.models import ConsoleLine, ConsoleNames, ConsoleRun, Host, Server
from tests.fakes import FakeHost
from tests.pages.browsing import OpenPage
from tests.pages.test_accessibility import violations
from tests.ports import find_free_port
from tests.states import make_run, record_state

SWAP_STALE = """async () => {
  const { swapRegions } = await import(document.querySelector('link[rel=modulepreload][href*="/swap."]').href);
  const html = '<div data-live="commands" data-version="1">what was fetched before</div>';
  swapRegions(new DOMParser().parseFromString(html, "text/html"));
}"""

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


def list_names(server: Server) -> None:
    """Make known what can be typed into the server's console; one plugin's author is malicious."""
    run = make_run(server)
    # It is not known which build the fake host's servers run.
    assert run.build_id == server.running_build_id == ""
    texts = {
        "sm_kick": "<img src=x onerror=alert(1)>",
        "kick": "Send off.",
        "kickid": "",
        "say": "",
    }
    rows = [{"name": name, "help": text, "is_command": True} for name, text in texts.items()]
    ConsoleNames.objects.create(key=find_key(server, run), names=rows)


def complete(page: Page, prompt: Locator) -> None:
    """Type with completion: with the arrows, Tab and Escape, and without getting in the way of the history."""
    options = page.get_by_role("listbox", name="Commands and cvars").get_by_role("option")
    prompt.fill("say hi; kIc")
    expect(options).to_have_text(
        ["kick Send off.", "kickid command", "sm_kick <img src=x onerror=alert(1)>"]
    )
    expect(prompt).to_have_attribute("aria-expanded", "true")
    for key, selected in (("ArrowDown", 0), ("ArrowDown", 1), ("ArrowUp", 0), ("ArrowDown", 1)):
        prompt.press(key)
        expect(options.nth(selected)).to_have_attribute("aria-selected", "true")
    expect(prompt).to_have_attribute("aria-activedescendant", "prompt-command-names-1")
    found = Axe().run(page, options={"runOnly": ["cat.aria", "cat.name-role-value"]})
    assert found.response["violations"] == []
    prompt.press("Enter")
    expect(prompt).to_have_value("say hi; kickid ")
    expect(prompt).to_be_focused()
    expect(options).to_have_count(0)
    prompt.fill("ki")
    expect(options).to_have_count(3)
    prompt.press("Escape")
    expect(options).to_have_count(0)
    expect(prompt).to_have_value("ki")
    prompt.fill("kick")
    prompt.press("Tab")
    expect(prompt).to_have_value("kick ")
    # After the name there is nothing to complete, and in an empty line there is the history.
    prompt.fill("kick say")
    expect(options).to_have_count(0)
    prompt.fill("sa")
    expect(options).to_have_count(1)
    prompt.press("ArrowUp")
    expect(prompt).to_have_value("say <b>hi</b>")
    expect(options).to_have_count(0)


FULL_LINES = """log => {
  const { lineHeight, fontSize } = getComputedStyle(log.querySelector(".log-line") ?? log);
  const head = log.querySelector("summary");
  return (log.clientHeight - head.offsetHeight - parseFloat(fontSize)) / parseFloat(lineHeight);
}"""
"""How many whole lines a log shows at a time, below the head of its run."""


LINES_IN_VIEW = "one => one.clientHeight / parseFloat(getComputedStyle(one).lineHeight)"
"""How many lines a text shows at a time, with the part of the last one."""


@pytest.mark.parametrize("has_news", [False, True], ids=["quiet", "with news"])
def test_the_prompt_and_the_newest_answer_are_in_view_without_scrolling(
    open_page: OpenPage, server: Server, has_news: bool
) -> None:
    record_state(server, "running")
    if has_news:
        add_news(server)
    ConsoleLine.objects.bulk_create(
        ConsoleLine(server=server, seq=seq, line=f"line {seq}", created_at=timezone.now())
        for seq in range(1, 200)
    )
    answer = "a line of it\n" * 60
    ConsoleRun.objects.create(server=server, number=1, first_seq=1, started_at=timezone.now())
    for text in ("cvarlist", "status"):
        server.console_commands.create(
            text=text, state="answered", answer=answer, answer_bytes=len(answer)
        )
    page = open_page(viewport={"width": 1440, "height": 900})
    page.goto("/servers/alpha/")
    expect(page.get_by_text("Live", exact=True)).to_be_visible()
    assert page.evaluate("scrollY") == 0
    expect(page.get_by_text("Restart to apply")).to_have_count(int(has_news))
    for one in (page.get_by_label("Command for alpha"), page.locator(".command").first):
        expect(one).to_be_in_viewport(ratio=1)
    assert page.get_by_role("log").evaluate(FULL_LINES) >= 12
    # Half a line at the end tells that an answer goes on below it.
    shown = [one.evaluate(LINES_IN_VIEW) % 1 for one in page.locator(".command-answer").all()]
    assert shown == pytest.approx([0.5, 0.5], abs=0.1)


def add_news(server: Server) -> None:
    """Give a server something to say above or beside its console: a job, a waiting change, a notice."""
    make_run(server, config="hostname Night\n")
    Job.objects.create(operation="restart", server=server, state="running", stage="Preparing")
    server.host.build_id, server.host.reported_at = "", timezone.now()
    server.host.save()


def test_what_comes_and_goes_beside_the_console_moves_nothing(
    open_page: OpenPage, server: Server
) -> None:
    record_state(server, "running")
    page = open_page(viewport={"width": 1440, "height": 900})
    page.goto("/servers/alpha/")
    log, prompt = page.get_by_role("log"), page.get_by_label("Command for alpha")
    before = [log.bounding_box(), prompt.bounding_box()]
    add_news(server)
    ConsoleLine.objects.create(server=server, seq=1, line="line", created_at=timezone.now())
    announce(Channel.PAGES)
    expect(page.get_by_text("Restart to apply")).to_be_visible()
    expect(page.get_by_role("region", name="What its job does")).to_be_in_viewport(ratio=1)
    assert [log.bounding_box(), prompt.bounding_box()] == before
    assert violations(page) == []


def test_the_console_of_a_phone_shows_ten_lines_whatever_is_in_it(
    open_page: OpenPage, server: Server
) -> None:
    record_state(server, "running")
    add_news(server)
    ConsoleRun.objects.create(server=server, number=1, first_seq=1, started_at=timezone.now())
    ConsoleLine.objects.create(server=server, seq=1, line="line", created_at=timezone.now())
    page = open_page(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    page.goto("/servers/alpha/")
    assert page.get_by_role("log").evaluate(FULL_LINES) >= 10
    assert not page.evaluate("document.documentElement.scrollWidth > innerWidth")


def test_an_answer_comes_to_all_who_watch_and_history_and_questions_work(
    open_page: OpenPage, server: Server, host: Host, alice: User, fake_host: FakeHost
) -> None:
    fake_host.states["alpha"] = InstanceState.RUNNING
    fake_host.answers = lambda _, command: f"answer to {command}"
    server.port = find_free_port()  # Where no other program's game says how many people are on.
    server.save(update_fields=["port"])
    record_state(server, "running")
    list_names(server)
    loop = WorkerLoop(host=host, concurrency=1)

    def work() -> None:
        try:
            loop.run()
        finally:
            connection.close()

    worker = threading.Thread(target=work)
    worker.start()
    try:
        page = open_page()
        other = page.context.new_page()
        for one in (page, other):
            one.goto("/servers/alpha/")
            # Until the stream is open, only the sender fetches again.
            expect(one.get_by_text("Live", exact=True)).to_be_visible()
        # A watcher does not need to fetch anything.
        other.route("**/commands/latest/", lambda route: route.abort())
        prompt = page.get_by_label("Command for alpha")
        for command in ("status", "say <b>hi</b>"):
            prompt.fill(command)
            prompt.press("Enter")
            for one in (page, other):
                expect(one.locator(".command-answer").first).to_have_text(f"answer to {command}")
            # The sender sees the answer, though there is no room for it below a log of any length.
            expect(page.locator(".command").first).to_be_in_viewport(ratio=1)
        # A page that was requested before the answer came may arrive after it.
        other.evaluate(SWAP_STALE)
        expect(other.locator(".command-answer").first).to_have_text("answer to say <b>hi</b>")
        expect(prompt).to_be_focused()
        expect(prompt).to_have_value("")
        complete(page, prompt)
        prompt.fill("draft")
        for key, value in (
            ("ArrowUp", "say <b>hi</b>"),
            ("ArrowUp", "status"),
            ("ArrowUp", "status"),
            ("ArrowDown", "say <b>hi</b>"),
            ("ArrowDown", "draft"),
        ):
            prompt.press(key)
            expect(prompt).to_have_value(value)
        prompt.fill("quit")
        prompt.press("Enter")
        expect(page.get_by_text("Use Stop or Restart")).to_be_visible()
        expect(prompt).to_have_value("quit")
        prompt.fill("map c1m1_hotel")
        prompt.press("Enter")
        expect(page.get_by_role("heading", level=1)).to_have_text("Send it to alpha?")
        page.get_by_role("button", name="Send it").click()
        expect(page.locator(".command-answer").first).to_have_text("answer to map c1m1_hotel")
        # Without a stream, as while older lines are shown, the sender fetches.
        page.context.route(re.compile(r"/events\?"), lambda route: route.abort())
        page.reload()
        expect(page.get_by_text("Live", exact=True)).to_be_hidden()
        prompt.fill("users")
        prompt.press("Enter")
        expect(page.locator(".command-answer").first).to_have_text("answer to users")
        assert [text for _, text in fake_host.commands] == [
            "status",
            "say <b>hi</b>",
            "map c1m1_hotel",
            "users",
        ]
    finally:
        loop.stop()
        worker.join()
