"""The simulated players of a server, and who is banned from it."""

import time
from pathlib import Path


# Plain classes: dataclasses and typing would add a sixth to the memory of every simulated server.
class Player:
    """Somebody on the server. `user_id` is never given out twice; a `slot` is free again after leaving."""

    def __init__(self, user_id: int, slot: int, name: str, steam_id: str) -> None:
        self.user_id = user_id
        self.slot = slot
        self.name = name
        self.steam_id = steam_id
        self.is_bot = steam_id == "BOT"
        # 192.0.2.0/24 is set aside for examples (RFC 5737).
        self.address = "none" if self.is_bot else f"192.0.2.{user_id % 254 + 1}:27005"
        self.joined_at = time.monotonic()
        self.score = 0
        self.ping = 20 + user_id * 7 % 80

    @property
    def connected_seconds(self) -> float:
        """How long the player has been on the server."""
        return time.monotonic() - self.joined_at

    def log_name(self, team: str = "Survivor") -> str:
        """Return the player as log lines name players: name, user id, Steam id and team."""
        return f'"{self.name}<{self.user_id}><{self.steam_id}><{team}>"'

    def status_row(self) -> str:
        """Return the player's row of `status`. Bots have a shorter one."""
        if self.is_bot:
            return f'#{self.user_id} "{self.name}" BOT active'
        return (
            f'# {self.user_id} {self.slot} "{self.name}" {self.steam_id} '
            f"{connected_text(self.connected_seconds)} {self.ping} 0 active 30000 {self.address}"
        )


def connected_text(seconds: float) -> str:
    """Return a duration as `status` has it: MM:SS, and H:MM:SS from one hour on."""
    minutes, second = divmod(int(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute:02}:{second:02}"


class BanList:
    """Who may not join. Timed bans are never written to a file, as in the real server."""

    def __init__(self) -> None:
        self._ends: dict[str, float | None] = {}

    def add(self, steam_id: str, minutes: float) -> None:
        """Ban `steam_id`, for good if `minutes` is 0."""
        self._ends[steam_id] = time.monotonic() + minutes * 60 if minutes else None

    def remove(self, steam_id: str) -> bool:
        """Lift the ban of `steam_id`; return whether there was one."""
        if steam_id not in self:
            return False
        del self._ends[steam_id]
        return True

    def __contains__(self, steam_id: str) -> bool:
        self._forget_ended()
        return steam_id in self._ends

    def lines(self) -> list[str]:
        """Return what `listid` prints."""
        self._forget_ended()
        rows = []
        for number, (steam_id, end) in enumerate(self._ends.items(), start=1):
            left = "permanent" if end is None else f"{(end - time.monotonic()) / 60:.3f} min"
            rows.append(f"{number} {steam_id} : {left}")
        return ["ID filter list: " + (f"{len(rows)} entries" if rows else "empty"), *rows]

    def write(self, path: Path) -> None:
        """Write the bans without an end to `path`, as commands that `exec` reads."""
        lines = [f"banid 0 {steam_id}\r\n" for steam_id, end in self._ends.items() if end is None]
        path.write_text("".join(lines), encoding="utf-8", newline="")

    def _forget_ended(self) -> None:
        now = time.monotonic()
        self._ends = {
            steam_id: end for steam_id, end in self._ends.items() if end is None or end > now
        }
