"""Installs that fail: each job's error is SteamCMD's own cause in plain words, and no line of it is lost."""

import re
from pathlib import Path
from typing import Any

import pytest

from hostops.steam import steamcmd
from hostops.steam.silence import Silence
from jobs.models import Job, JobState
from jobs.queue.requests import enqueue
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
"""The cause that the job's error names, and SteamCMD's last error as the log has it, by failure."""


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


class SilentMinutes:
    """A clock that stands still except for one silence, in which it jumps."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._until = 0.0

    def begin(self) -> None:
        """Let the silence begin, unless there was one."""
        self._until = self._until or self.seconds + 910

    def __call__(self) -> float:
        """Return the time."""
        self.seconds += 70 if self.seconds < self._until else 0
        return self.seconds


@pytest.mark.django_db(transaction=True)
def test_a_silence_is_told_in_the_jobs_log_and_tried_again(
    root: Path, host: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Case 17: two lines, and then nothing."""
    monkeypatch.setattr(steamcmd, "_RETRY_SECONDS", 0)
    clock, hear = SilentMinutes(), Silence.hear

    def hear_and_wait(self: Silence, line: str) -> None:
        hear(self, line)
        if line.startswith("[----] Verifying installation"):
            clock.begin()

    monkeypatch.setattr("hostops.steam.silence.monotonic", clock)
    monkeypatch.setattr(Silence, "hear", hear_and_wait)
    write_control(root, steamcmd={"fail": ["silent"]})
    enqueue("install", server=None, requested_by=None)
    worker_loop(until_empty=True)
    job = Job.objects.get()
    assert job.state == JobState.SUCCEEDED, job.error
    log = "\n".join(row.line for row in job.logs.all())
    assert "SteamCMD has printed nothing for 2 minutes, since " in log
    assert "Its last line was “[----] Verifying installation...”" in log
    assert re.search(r"printed nothing for 15 minutes, since .*Trying again, 2 more times", log)
