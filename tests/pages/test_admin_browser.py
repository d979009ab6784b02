"""The admin site in a real browser: its list of jobs follows the jobs, and is no wider than the page."""

import pytest
from django.contrib.auth.models import User
from django.utils import timezone
from playwright.sync_api import expect

from jobs.models import Job, JobState
from tests.pages.browsing import OpenPage

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


def test_the_list_of_jobs_is_true_while_it_is_open(
    open_page: OpenPage, alice: User, running_job: Job
) -> None:
    alice.is_staff = alice.is_superuser = True
    alice.save()
    page = open_page(viewport={"width": 1280, "height": 900})
    page.goto("/admin/jobs/job/")
    row = page.get_by_role("row").filter(has_text=f"#{running_job.pk}")
    expect(row).to_contain_text("Downloading 10 %")
    running_job.state = JobState.FAILED
    running_job.error = "Start failed: port 27015 is held by another program, and so on. " * 3
    running_job.finished_at = timezone.now()
    running_job.save()
    expect(row).to_contain_text("failed: Start failed: port 27015")
    table = page.locator(".results")
    assert table.evaluate("table => table.scrollWidth <= table.clientWidth"), "columns are cut off"
