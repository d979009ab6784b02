"""SteamCMD's own log is read for what SteamCMD does not print: only its latest run, and only in its home."""

from pathlib import Path

import pytest

from hostops.steam import bootstrap_log

RUN = """

[2026-11-26 03:24:26] Startup - updater built Dec 13 2017 05:27:43
[2026-11-26 03:24:26] Checking for update on startup
[2026-11-26 03:24:26] Download failed: http error 403 (client-download.steampowered.com/client/x)
[2026-11-26 03:24:26] Error: Download failed: http error 403
[2026-11-26 03:24:27] Error: Download failed: http error 403
[2026-11-26 03:24:27] Shutdown
"""


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Return the path of the log in a home."""
    (tmp_path / "home" / "logs").mkdir(parents=True)
    return tmp_path / "home" / "logs" / bootstrap_log.NAME


def read(log: Path) -> list[str]:
    return bootstrap_log.read_errors(log.parent, log.parents[1])


def test_each_error_is_returned_once_and_without_its_time(log: Path) -> None:
    log.write_text(RUN)
    assert read(log) == [
        "Download failed: http error 403 (client-download.steampowered.com/client/x)",
        "Error: Download failed: http error 403",
    ]


def test_what_an_earlier_run_failed_of_is_not_what_this_one_did(log: Path) -> None:
    log.write_text(RUN + RUN.replace("http error", "no error"))
    assert read(log) == []


def test_only_the_end_of_a_large_log_is_read(log: Path) -> None:
    log.write_bytes(b"\xff" * 1_000_000 + RUN.encode())
    assert len(read(log)) == 2


def test_a_log_outside_the_home_is_not_read(log: Path, tmp_path: Path) -> None:
    log.write_text(RUN)
    assert bootstrap_log.read_errors(log.parent, tmp_path / "another") == []
    link = log.parents[1] / "link"
    link.mkdir()
    (link / bootstrap_log.NAME).symlink_to(log)
    assert bootstrap_log.read_errors(link, log.parents[1]) == []


def test_no_log_says_nothing(log: Path) -> None:
    assert read(log) == []
