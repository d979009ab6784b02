"""The admin site in a real browser: its list of jobs follows the jobs."""

import pytest
from django.contrib.auth.models import User
from playwright.sync_api import expect

from jobs.models import Job, JobState
from tests.pages.browsing import OpenPage

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


def test_the_list_of_jobs_is_true_while_it_is_open(
    open_page: OpenPage, alice: User, running_job: Job
) -> None:
    alice.is_staff = alice.is_superuser = True
    alice.save()
    page = open_page()
    page.goto("/admin/jobs/job/")
    row = page.get_by_role("row").filter(has_text=f"#{running_job.pk}")
    expect(row).to_contain_text("Downloading 10 %")
    running_job.state = JobState.SUCCEEDED
    running_job.save()
    expect(row).to_contain_text("succeeded")
