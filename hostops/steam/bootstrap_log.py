"""Reads SteamCMD's log of its own update.

Whatever goes wrong there, SteamCMD prints that it "needs to be online". Only this log has the HTTP status: 0
if nothing answered, another number if something did (measured with Debian's package 0~20180105-5).
"""

import os
import re
from pathlib import Path

from hostops.linux import untrusted

NAME = "bootstrap_log.txt"

_MAX_BYTES = 64 * 1024
_BEGINS = re.compile(r"\] Startup - updater built ")
_TIME = re.compile(r"^\[[0-9: -]+\] ")
_ERROR = re.compile(r"http error [0-9]+")


def read_errors(log_dir: Path, beneath: Path) -> list[str]:
    """Return the failed downloads in the log's latest run, each once and without its time.

    Empty if there is no such log below the folder `beneath`, SteamCMD's home.
    """
    path = log_dir / NAME
    if not path.is_relative_to(beneath):
        return []
    try:
        descriptor = untrusted.open_file(path, beneath)
    except (FileNotFoundError, untrusted.UntrustedFileError):
        return []
    with open(descriptor, "rb") as file:  # noqa: PTH123 - a descriptor
        file.seek(max(0, os.fstat(descriptor).st_size - _MAX_BYTES))
        text = file.read(_MAX_BYTES).decode(errors="replace")
    lines: dict[str, None] = {}
    for line in text.splitlines():
        if _BEGINS.search(line):
            lines.clear()
        elif _ERROR.search(line):
            lines[_TIME.sub("", line)] = None
    return list(lines)
