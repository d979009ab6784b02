"""The pages of jobs and hosts, and the requests that they post."""

from jobs.pages.host_pages import host_drain, host_list
from jobs.pages.job_pages import (
    job_cancel,
    job_create,
    job_detail,
    job_list,
    job_log,
    job_retry,
    job_steam_guard_code,
)

__all__ = [
    "host_drain",
    "host_list",
    "job_cancel",
    "job_create",
    "job_detail",
    "job_list",
    "job_log",
    "job_retry",
    "job_steam_guard_code",
]
