"""What browsers follow while a page is open: Server-Sent Events, with one reader for all watchers."""

from jobs.live.fan_out import server_stop
from jobs.live.streams import change_events, console_events, job_events

__all__ = [
    "change_events",
    "console_events",
    "job_events",
    "server_stop",
]
