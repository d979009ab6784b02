"""Installs that fail: each job's error is SteamCMD's own cause in plain words, and no line of it is lost."""

import re
from pathlib import Path
from typing import Any

import pytest

from hostops.steam import steamcmd
from jobs.models import Job, JobState
from jobs.queue.transitions import enqueue
from jobs.worker.worker_process import worker_loop
from tests.hostops.hosts import write_control

CASES = {
    "offline-old": ("no connection to Steam", "Steam needs to be online to update"),  # 11
    "offline": ("no connection to Steam", "Steamcmd needs to be online to update"),  # 12
    "answered-by-another": ("answers in Steam's place", "needs to be online"),
    "threads": ("cannot start threads", "Exiting on SPEW_ABORT"),  # 13
    "disk-write-failure": ("could not write to the disk", "(Disk write failure)"),  # 14
    "not-enough-disk-space": ("disk is full", "(Not enough disk space)"),
    "unknown-reason": ("Content is being moved", "(Content is being moved)"),
    "killed": ("killed from outside", "Killed"),  # 15
    "segfault": ("segmentation fault", "Segmentation fault"),
    "no-exec": ("noexec", "linux32/steamcmd: Permission denied"),  # 16
}
"""The cause that the job's error names, and what the log has of SteamCMD's last error, by the failure."""


@pytest.mark.django_db(transaction=True)
def test_each_failed_install_says_what_steamcmd_said(
    root: Path, host: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(steamcmd, "_RETRY_SECONDS", 0)
    for failure, (cause, last_error) in CASES.items():
        write_control(root, steamcmd={"fail": failure})
        enqueue("install", server=None, requested_by=None)
        worker_loop(until_empty=True)
        job: Any = Job.objects.order_by("-pk").first()
        assert (job.state, failure) == (JobState.FAILED, failure)
        assert cause in job.error, failure
        assert re.search(re.escape(last_error), "\n".join(row.line for row in job.logs.all()))
