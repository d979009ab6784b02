"""Who may not join the simulated server: Steam ids and addresses, as the engine keeps them."""

import time
from pathlib import Path


class Bans:
    """Bans in the order in which they were made. Those with an end are never written to a file."""

    def __init__(self, title: str, command: str) -> None:
        self._title = title
        self._command = command
        self._bans: dict[str, tuple[float, float | None]] = {}

    def add(self, name: str, minutes: float) -> None:
        """Ban `name`, for good if `minutes` is 0."""
        end = time.monotonic() + minutes * 60 if minutes else None
        self._bans[name] = (minutes, end)

    def remove(self, name: str) -> bool:
        """Lift the ban of `name`; return whether there was one."""
        if name not in self:
            return False
        del self._bans[name]
        return True

    def names(self) -> list[str]:
        """Return whose bans have not ended."""
        now = time.monotonic()
        self._bans = {
            name: ban for name, ban in self._bans.items() if ban[1] is None or ban[1] > now
        }
        return list(self._bans)

    def __contains__(self, name: str) -> bool:
        return name in self.names()

    def lines(self) -> list[str]:
        """Return what `listid` or `listip` prints: for how long each was banned, not what is left of it."""
        names = self.names()
        count = {0: "empty", 1: "1 entry"}.get(len(names), f"{len(names)} entries")
        rows = [f"{self._title}: {count}"]
        for number, name in enumerate(names, start=1):
            minutes, end = self._bans[name]
            shown = self.shown(name)
            rows.append(
                f"{number} {shown} : {'permanent' if end is None else f'{minutes:.3f} min'}"
            )
        return rows

    def shown(self, name: str) -> str:
        """Return `name` as the lists show it."""
        return name

    def write(self, path: Path) -> None:
        """Write the bans without an end to `path`, as commands that `exec` reads."""
        lines = [
            f"{self._command} 0 {name}\r\n" for name, (_, end) in self._bans.items() if end is None
        ]
        path.write_text("".join(lines), encoding="utf-8", newline="")


class AddressBans(Bans):
    """Banned IPv4 addresses. A 0 in one stands for any number in its place."""

    def shown(self, name: str) -> str:
        """Return an address in columns, as the engine does."""
        return ".".join(f"{part:>3}" for part in name.split("."))

    def hold(self, address: str) -> bool:
        """Whether nothing of this address is answered."""
        parts = address.split(".")
        return any(
            all(wanted in ("0", part) for wanted, part in zip(name.split("."), parts, strict=True))
            for name in self.names()
        )


def parse_address(text: str) -> str | None:
    """Return the address that a text begins with, or None; missing numbers are 0, as in the engine."""
    parts: list[str] = []
    for part in text.split(".")[:4]:
        digits = part[: len(part) - len(part.lstrip("0123456789"))]
        if not digits:
            if not parts:
                return None
            break
        parts.append(str(int(digits) % 256))
        if digits != part:
            break
    return ".".join([*parts, "0", "0", "0"][:4])
