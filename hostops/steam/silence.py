"""Notices when SteamCMD stops printing: reports since when, and eventually gives up on the run."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from time import monotonic

from hostops.callbacks import Callbacks
from hostops.errors import HostError


@dataclass(frozen=True)
class Patience:
    """How much silence to report, and how much ends the run."""

    told_after_seconds: float = 120.0
    ended_after_seconds: float = 900.0


PATIENCE = Patience()


class SilentError(HostError):
    """A command was ended because it printed nothing for too long."""


class Silence:
    """The silence of one run. `hear` may be called from any thread, `look` only from one."""

    def __init__(self, patience: Patience, callbacks: Callbacks) -> None:
        self._patience = patience
        self._callbacks = callbacks
        self._heard_at = monotonic()
        self._last_line = ""
        self._told_of: float | None = None
        self._tell_after = patience.told_after_seconds

    def hear(self, line: str) -> None:
        """Note that a line has just arrived."""
        self._heard_at = monotonic()
        if line.strip():
            self._last_line = " ".join(line.split())[:200]

    def look(self) -> None:
        """Report a long silence, and again each time it has doubled.

        Raises SilentError when it is too long.
        """
        heard_at = self._heard_at
        seconds = monotonic() - heard_at
        if self._told_of is not None and heard_at != self._told_of:
            self._callbacks.say("SteamCMD prints again.")
            self._told_of, self._tell_after = None, self._patience.told_after_seconds
        if seconds >= self._patience.ended_after_seconds:
            raise SilentError(
                f"SteamCMD printed nothing for {_duration(seconds)}, since {_time_of(seconds)}, and was ended. "
                f"{self._last_words} A connection that is stuck does that, or a disk that does not answer: "
                "check both, then install again. What has been downloaded is kept."
            )
        if seconds >= self._tell_after:
            self._callbacks.warn(
                f"SteamCMD has printed nothing for {_duration(seconds)}, since {_time_of(seconds)}. "
                f"{self._last_words} After {_duration(self._patience.ended_after_seconds)} it is ended and run "
                "again; to end it now, cancel this."
            )
            self._told_of, self._tell_after = heard_at, seconds * 2

    @property
    def _last_words(self) -> str:
        if not self._last_line:
            return "It has not printed anything yet."
        return f"Its last line was “{self._last_line}”."


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.0f} seconds"
    minutes = round(seconds / 60)
    return f"{minutes} minute{'' if minutes == 1 else 's'}"


def _time_of(seconds_ago: float) -> str:
    moment = datetime.now(UTC) - timedelta(seconds=seconds_ago)
    return f"{moment:%H:%M:%S} UTC"
