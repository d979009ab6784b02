"""The prompt in a real browser, with a real worker loop: what one types, another one sees."""

import threading

import pytest
from django.contrib.auth.models import User
from django.db import connection
from playwright.sync_api import expect

from hostops.specs import InstanceState
from jobs.worker.worker_process import WorkerLoop
from servers.models import Host, Server
from tests.fakes import FakeHost
from tests.pages.browsing import OpenPage
from tests.states import record_state

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


def test_an_answer_comes_to_all_who_watch_and_history_and_questions_work(
    open_page: OpenPage, server: Server, host: Host, alice: User, fake_host: FakeHost
) -> None:
    fake_host.states["alpha"] = InstanceState.RUNNING
    fake_host.answers = lambda _, command: f"answer to {command}"
    record_state(server, "running")
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
            # Until the stream is open, only the one who sends asks again.
            expect(one.get_by_text("Live", exact=True)).to_be_visible()
        prompt = page.get_by_label("Command for alpha")
        for command in ("status", "say <b>hi</b>"):
            prompt.fill(command)
            prompt.press("Enter")
            for one in (page, other):
                expect(one.locator(".command-answer").first).to_have_text(f"answer to {command}")
        expect(prompt).to_be_focused()
        expect(prompt).to_have_value("")
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
        assert [text for _, text in fake_host.commands] == [
            "status",
            "say <b>hi</b>",
            "map c1m1_hotel",
        ]
    finally:
        loop.stop()
        worker.join()
