"""The simulated players of a server."""

import time

MAX_NAME_BYTES = 31
"""The engine's buffer for a name has 32 bytes, the last of them for the NUL."""


# Plain classes: dataclasses and typing would add a sixth to the memory of every simulated server.
class Player:
    """Somebody on the server. `user_id` is never given out twice; a `slot` is free again after leaving."""

    def __init__(self, user_id: int, slot: int, name: str, steam_id: str) -> None:
        self.user_id = user_id
        self.slot = slot
        # Cut wherever that falls: the last character of a name may be half of one.
        self.name = _to_text(_to_bytes(name)[:MAX_NAME_BYTES])
        self.steam_id = steam_id
        self.is_bot = steam_id == "BOT"
        self.address = "none" if self.is_bot else f"{player_address(user_id)}:27005"
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
        """Return the player's row of `status`. Bots have a shorter one, and quotes in a name stay."""
        if self.is_bot:
            return f'#{self.user_id:2} "{self.name}" BOT active'
        return (
            f'# {self.user_id:2} {self.slot} "{self.name}" {self.steam_id} '
            f"{connected_text(self.connected_seconds)} {self.ping} 0 active 30000 {self.address}"
        )


def player_address(user_id: int) -> str:
    """Return the address that the player with this user id plays from."""
    # 192.0.2.0/24 is set aside for examples (RFC 5737).
    return f"192.0.2.{user_id % 254 + 1}"


def connected_text(seconds: float) -> str:
    """Return a duration as `status` has it: MM:SS, and H:MM:SS from one hour on."""
    minutes, second = divmod(int(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute:02}:{second:02}"


def _to_bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _to_text(content: bytes) -> str:
    return content.decode("utf-8", "surrogateescape")
