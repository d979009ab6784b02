"""Asks Steam for the latest build of the game, and saves the answer with its time.

Nothing is downloaded or installed, and the game is not touched.
"""

import json
import re
import time
from dataclasses import asdict, replace

from hostops.callbacks import Callbacks
from hostops.errors import HostError
from hostops.layout import HostLayout
from hostops.linux.files import write_atomically
from hostops.specs import GAME_APP_ID, LatestBuild
from hostops.steam.key_values import find_value
from hostops.steam.run_output import Output
from hostops.steam.steamcmd import MAX_TRIES, SteamCmd, wait_to_try_again

_APP = str(GAME_APP_ID)
_BUILD_PATH = (_APP, "depots", "branches", "public", "buildid")
_COMMANDS = (
    ("login", "anonymous"),
    ("app_info_update", "1"),
    ("app_info_print", _APP),
    ("quit",),
)
_RETRY_SECONDS = 2.0
_KEPT_LINES = 20_000
"""The real answer has a few hundred."""


def ask_latest_build(tool: SteamCmd, lock: int, callbacks: Callbacks) -> str:
    """Return the current build id of Steam's public branch. Asks without any account.

    `lock` is the descriptor of the lock on SteamCMD's home, which it inherits. Raises CommandError or
    HostError, with an explanation, if Steam gives no readable answer: nothing is guessed.
    """
    tool = replace(tool, account=None)
    for tries in range(1, MAX_TRIES + 1):
        callbacks.stage("Asking Steam for its latest build")
        answer = _Answer(callbacks)
        run = tool.run_commands(_COMMANDS, lock, answer, callbacks)
        build_id = find_build_id(answer.text)
        if build_id is not None:
            return build_id
        if wait_to_try_again(run, tries, callbacks):
            continue
        if run.exit_code or run.silence or run.explanation or answer.last_error:
            raise run.failure(tries)
        # Right after a login it sometimes has no data of any app yet, but has it on the next run.
        if tries < MAX_TRIES:
            callbacks.warn(
                f"Steam's answer names no build. Trying again, {MAX_TRIES - tries} more times."
            )
            callbacks.cancel.wait(_RETRY_SECONDS)
    answer.hand_on()
    raise HostError(
        "Steam answered, but did not say which build of the game is the latest: its answer is above. "
        "Try again in some minutes."
    )


def find_build_id(text: str) -> str | None:
    """Return the public branch's build id from the output of `app_info_print`.

    None if it is missing, cut off by the end of the text, or not a valid build id.
    """
    build_id = find_value(text, *_BUILD_PATH)
    return build_id if build_id and re.fullmatch(r"[1-9][0-9]{0,18}", build_id) else None


def remember(layout: HostLayout, build_id: str) -> LatestBuild:
    """Save Steam's answer, replacing the previous one."""
    latest = LatestBuild(build_id, time.time())
    write_atomically(layout.latest_build_path, json.dumps(asdict(latest)))
    return latest


def read_latest(layout: HostLayout) -> LatestBuild | None:
    """Return Steam's last answer and its time; None if it was never asked, or a power cut emptied the file."""
    try:
        document = json.loads(layout.latest_build_path.read_text(encoding="utf-8"))
        return LatestBuild(str(document["build_id"]), float(document["checked_at"]))
    except (FileNotFoundError, ValueError, TypeError, KeyError):
        return None


class _Answer(Output):
    """Passes on SteamCMD's output, but keeps back the app's data, which is long and not for people."""

    def __init__(self, callbacks: Callbacks) -> None:
        super().__init__(callbacks)
        self._on_line = callbacks.on_line
        self._kept: list[str] = []

    @property
    def text(self) -> str:
        """The app's data."""
        return "\n".join(self._kept)

    def take_line(self, stream: str, line: str) -> None:
        """Keep a line of the data, pass on any other."""
        stripped = line.strip()
        begins = not self._kept and stripped == f'"{_APP}"'
        goes_on = bool(self._kept) and stripped[:1] in ('"', "{", "}", "")
        if stream == "stdout" and (begins or goes_on):
            if len(self._kept) < _KEPT_LINES:
                self._kept.append(line)
            return
        super().take_line(stream, line)

    def hand_on(self) -> None:
        """Pass on the data, to show why it contained no answer."""
        for line in self._kept[:200]:
            self._on_line("stdout", line)
