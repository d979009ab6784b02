"""Job logs: lines are made safe, numbered and stored, in order and without a gap.

The end of a job is stored here too, in the transaction that stores its last lines.
"""

from jobs.logs.finishing import Ending, one_line, release_upload, store_endings
from jobs.logs.job_output import append_job_log_line
from jobs.logs.log_writer import LogWriter
from jobs.logs.process_log import faults
from jobs.logs.safe_lines import (
    find_secrets,
    make_line_safe,
    mask_known,
    secrets_of,
    secrets_of_server,
)

__all__ = [
    "Ending",
    "LogWriter",
    "append_job_log_line",
    "faults",
    "find_secrets",
    "make_line_safe",
    "mask_known",
    "one_line",
    "release_upload",
    "secrets_of",
    "secrets_of_server",
    "store_endings",
]
