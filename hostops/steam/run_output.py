"""Follows the output of one run of SteamCMD: passes it on, reports progress, and remembers explained errors."""

import re
import time
from collections.abc import Iterable
from pathlib import Path

from hostops.callbacks import Callbacks
from hostops.errors import HostError
from hostops.specs import GAME_APP_ID
from hostops.steam.explanations import (
    EXIT_UPDATED_ITSELF,
    Explanation,
    explain_exit,
    explain_line,
    is_error,
)

PROGRESS_LINE_SECONDS = 2.0
"""The shortest interval between logged progress lines; the progress itself is always reported."""

MAX_SELF_UPDATES = 5
"""`steamcmd.sh` restarts SteamCMD after each of its updates, forever if need be. One or two are usual."""

# ` Update state (0x61) downloading, progress: 12.34 (1234 / 10000)`
_UPDATE_PROGRESS = re.compile(
    r" *Update state \(0x[0-9a-fA-F]+\) (?P<state>[A-Za-z ]+), "
    r"progress: (?P<percent>[0-9]+(?:\.[0-9]+)?) \([0-9]+ / [0-9]+\) *"
)
# `[ 12%] Downloading update (1,234 of 10,000 KB)...`, of SteamCMD itself. Its errors begin the same way, so the
# text after the percentage has to be one from Debian's binary, or from a later one.
_SELF_UPDATE_PROGRESS = re.compile(
    r"\[ *(?P<percent>[0-9]+)%\] (?:Checking for (?:available )?updates?(?: on startup)?|Preparing to update"
    r"|Downloading [Uu]pdate(?: \([0-9.,]+ of [0-9.,]+ [KM]B\))?|Download [Cc]omplete|Extracting package"
    r"|Applying update|Installing update|Cleaning up|Verifying (?:installation|update)|Verification complete"
    r"|Update complete, launching(?: Steam(?:cmd)?)?|Nothing to do)\.* *"
)
_UPDATED_ITSELF = re.compile(r"\[(?: *[0-9]+%|----)\] Update complete, launching")
_SUCCESS = re.compile(rf"Success! App '{GAME_APP_ID}' (fully installed|already up to date)")
_LOG_DIR = re.compile(r"Redirecting stderr to '(?P<dir>/[^']*)/stderr\.txt'")
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
_MAX_QUOTED_CHARS = 300


class Output:
    """Follows the output of one run."""

    def __init__(self, callbacks: Callbacks, secret: str = "") -> None:
        self._secrets = [secret] if secret else []
        self.is_success = False
        self.log_dir: Path | None = None
        """The folder that SteamCMD says it keeps its own logs in."""
        self.last_error = ""
        """The last line that reports an error."""
        self.cause: Explanation | None = None
        """The last explained error in the output that was more than a consequence of an earlier one."""
        self._cause_line = ""
        self._self_updates = 0
        self._callbacks = callbacks
        self._progress: tuple[str, int | None] | None = None
        self._progress_line_at = 0.0

    def take_line(self, stream: str, line: str) -> None:
        """Handle one line. Called from two threads, but only stdout carries progress.

        Raises HostError, which ends the run, if SteamCMD does nothing but update itself.
        """
        line = self.clean(line)
        if progress := _parse_progress(line):
            self._take_progress(stream, line, progress)
        else:
            self._callbacks.on_line(stream, line)
            self._learn_from(line)
        if _UPDATED_ITSELF.match(line):
            self._self_updates += 1
            if self._self_updates > MAX_SELF_UPDATES and (
                known := explain_exit(EXIT_UPDATED_ITSELF)
            ):
                raise HostError(f"{known.text} It did so {self._self_updates} times.")

    def hide(self, secret: str) -> None:
        """Mask another secret from now on."""
        self._secrets.append(secret)

    def clean(self, line: str) -> str:
        """Return a line without colour codes and secrets."""
        line = _COLOURS.sub("", line)
        for secret in self._secrets:
            line = line.replace(secret, "[masked]")
        return line

    def take_notes(self, lines: Iterable[str]) -> None:
        """Add the errors from SteamCMD's own log, which has more details than its output."""
        for line in lines:
            self._callbacks.warn(f"SteamCMD's log: {line}")
            self._explain(line)

    def explain(self, exit_code: int) -> Explanation | None:
        """Return why the run failed; the exit code counts only if no line reported an error."""
        if self.cause or self.last_error or not exit_code:
            return self.cause
        return explain_exit(exit_code)

    @property
    def quoted(self) -> str:
        """A sentence with the last error, and with the line that named the cause, if that is another line."""
        if not self.last_error:
            return ""
        last = f"SteamCMD's last error: “{_cut(self.last_error)}”"
        if self._cause_line and self._cause_line != self.last_error:
            return f"It said “{_cut(self._cause_line)}”. {last}"
        return last

    def _take_progress(self, stream: str, line: str, progress: tuple[str, int | None]) -> None:
        is_new_state = self._progress is None or progress[0] != self._progress[0]
        if progress != self._progress:
            self._callbacks.stage(*progress)
        self._progress = progress
        now = time.monotonic()
        if is_new_state or now - self._progress_line_at >= PROGRESS_LINE_SECONDS:
            self._callbacks.on_line(stream, line)
            self._progress_line_at = now

    def _learn_from(self, line: str) -> None:
        self.is_success = self.is_success or _SUCCESS.search(line) is not None
        if match := _LOG_DIR.search(line):
            self.log_dir = Path(match["dir"])
        if is_error(line):
            self.last_error = " ".join(line.split())
        self._explain(line)

    def _explain(self, line: str) -> None:
        found = explain_line(line)
        if found and not (self.cause and found.is_consequence):
            self.cause, self._cause_line = found, " ".join(line.split())


def _parse_progress(line: str) -> tuple[str, int | None] | None:
    """Return the stage and the progress; None for 0 %, since all that is known is that it has begun."""
    if match := _UPDATE_PROGRESS.fullmatch(line):
        return match["state"].capitalize(), min(100, int(float(match["percent"]))) or None
    if match := _SELF_UPDATE_PROGRESS.fullmatch(line):
        return "Updating SteamCMD", min(100, int(match["percent"])) or None
    return None


def _cut(text: str) -> str:
    return text if len(text) <= _MAX_QUOTED_CHARS else f"{text[:_MAX_QUOTED_CHARS]}…"
