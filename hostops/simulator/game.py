"""The state of one simulated game server: its console variables, its map, and the players on it."""

import time
import zlib
from collections.abc import Callable
from pathlib import Path

from hostops.simulator.bans import AddressBans, Bans
from hostops.simulator.cvars import DEFAULTS, HIDDEN, RULES, SECRET
from hostops.simulator.game_log import GameLog
from hostops.simulator.map_files import map_names
from hostops.simulator.players import Player, player_address

VERSUS_MODES = frozenset({"versus", "scavenge", "teamversus", "teamscavenge"})


MAX_PLAYERS = 31


def is_file(path: Path) -> bool:
    """Whether there is a file. A path that cannot be one, such as a name of 300 letters, counts as none."""
    try:
        return path.is_file()
    except OSError:
        return False


class Game:
    """What the commands of the console act on, and what queries ask about."""

    def __init__(
        self,
        game_dir: Path,
        print_line: Callable[[str], None],
        *,
        max_players: int | None = None,
        is_vac_secured: bool = True,
        wait_for_map: Callable[[], None] = lambda: None,
    ) -> None:
        self.game_dir = game_dir
        self._wait_for_map = wait_for_map
        self.is_vac_secured = is_vac_secured
        self.address = ("0.0.0.0", 0)  # noqa: S104 - what srcds shows until its port is open
        self.map = ""
        self.map_changes = 0
        self.is_quitting = False
        self.players: list[Player] = []
        self.bans = Bans("ID filter list", "banid")
        self.address_bans = AddressBans("IP filter list", "addip")
        self.log = GameLog(game_dir, print_line)
        self.started_at = time.monotonic()
        self.patch_version, self.server_version = self._read_version()
        self._max_players = max_players
        self._last_user_id = 1
        self._print_to_console = print_line
        self._print = print_line
        self._defaults = {**DEFAULTS, **RULES, **HIDDEN}
        self._cvars = dict(self._defaults)
        self._cvar_names = {name.lower(): name for name in self._cvars}

    def print(self, line: str) -> None:
        """Print a line to the console, or to the sender of the command that is being carried out."""
        self._print(line)

    def capture(self, act: Callable[[], None]) -> str:
        """Return what `act()` prints, instead of showing it on the console."""
        lines: list[str] = []
        self._print = lines.append
        try:
            act()
        finally:
            self._print = self._print_to_console
        return "".join(f"{line}\n" for line in lines)

    # Console variables

    def find_cvar(self, name: str, *, with_hidden: bool = False) -> str | None:
        """Return the proper spelling of a cvar's name, or None if there is no such cvar."""
        found = self._cvar_names.get(name.lower())
        return None if found in HIDDEN and not with_hidden else found

    def cvar(self, name: str) -> str:
        """Return a cvar's value."""
        return self._cvars[name]

    def set_cvar(self, name: str, value: str) -> None:
        """Set a cvar, logging the change if players are told of it."""
        if self._cvars[name] == value:
            return
        self._cvars[name] = value
        if name == "sv_logecho":
            self.log.is_echoed = value != "0"
        if name in RULES:
            shown = "***PROTECTED***" if name in SECRET else value
            self.log.write(f'Server cvar "{name}" = "{shown}"')

    def describe_cvar(self, name: str) -> list[str]:
        """Return what the console prints for a cvar's name alone."""
        value, default = self._cvars[name], self._defaults[name]
        changed = "" if value == default else f' ( def. "{default}" )'
        return [f'"{name}" = "{value}"{changed}', *([" notify"] if name in RULES else [])]

    def cvars(self) -> dict[str, str]:
        """Return the cvars that are not hidden, with their values."""
        return {name: value for name, value in self._cvars.items() if name not in HIDDEN}

    def rules(self) -> list[tuple[str, str]]:
        """Return the cvars that players are told of; of a password only whether there is one."""
        return [
            (name, str(int(bool(self._cvars[name]))) if name in SECRET else self._cvars[name])
            for name in RULES
        ]

    @property
    def max_players(self) -> int:
        """How many players fit: as given at the start, or what the game mode has by itself."""
        if self._max_players is not None:
            return min(max(self._max_players, 1), MAX_PLAYERS)
        return 8 if self._cvars["mp_gamemode"] in VERSUS_MODES else 4

    @property
    def is_lan(self) -> bool:
        """Whether the server keeps away from Steam."""
        return self._cvars["sv_lan"] != "0"

    # Maps

    def has_map(self, name: str) -> bool:
        """Whether a map of this name is installed, as a file or inside a VPK."""
        # Most are files; only for the others all packs are read.
        is_loose = "/" not in name and is_file(self.game_dir / "maps" / f"{name}.bsp")
        return is_loose or name.lower() in map_names(self.game_dir)

    def map_names(self) -> list[str]:
        """Return the names of all maps that are installed."""
        return sorted(map_names(self.game_dir))

    def unload_map(self) -> None:
        """Send everybody away and be without a map, as at first."""
        for player in list(self.players):
            self.leave(player, "Server shutting down")
        self.map = ""

    def load_map(self, name: str, execute_config: Callable[[], None]) -> None:
        """Change to the map `name`, which must be there; `execute_config()` reads server.cfg in between."""
        if self.log.is_on:
            self.open_log()
        self.map = name
        self.map_changes += 1
        self.log.write(f'Loading map "{name}"')
        self._wait_for_map()
        execute_config()
        checksum = zlib.crc32(name.encode())
        self.log.write(f'Started map "{name}" (CRC "{checksum}")')
        if not self.has_humans:
            self._print_to_console("Server is hibernating")

    # The log

    def open_log(self) -> None:
        """Begin to log, with a new file for each map if the cvars want files."""
        self.log.is_on = True
        if self._cvars["sv_logfile"] != "0":
            self.log.open_file(self._cvars["sv_logsdir"], self.server_version)

    # Players

    @property
    def has_humans(self) -> bool:
        """Whether anybody but bots is on the server; it hibernates otherwise."""
        return any(not player.is_bot for player in self.players)

    def find_player(self, text: str) -> Player | None:
        """Return the player with this name, user id (with or without #) or Steam id."""
        for player in self.players:
            if text in (player.name, player.steam_id, f"#{player.user_id}", str(player.user_id)):
                return player
        return None

    def join(self, name: str, steam_id: str | None) -> str:
        """Let somebody join; return why not, or nothing."""
        if self.is_lan and steam_id != "BOT":
            return "LAN servers are restricted to local clients (class C)"
        user_id = self._last_user_id + 1
        steam_id = steam_id or f"STEAM_1:{user_id % 2}:{100000 + user_id}"
        if steam_id in self.bans:
            return f"{name} is banned"
        if steam_id != "BOT" and self.address_bans.hold(player_address(user_id)):
            return f"{name} is banned by address"
        if len(self.players) >= self.max_players:
            return f"the server is full ({self.max_players} players)"
        self._last_user_id = user_id
        taken = {player.slot for player in self.players}
        slot = next(number for number in range(1, 256) if number not in taken)
        player = Player(user_id, slot, name, steam_id)
        self.players.append(player)
        if not player.is_bot:
            self._print_to_console(f'Client "{name}" connected ({player.address}).')
        self.log.write(f'{player.log_name("")} connected, address "{player.address}"')
        if not player.is_bot:
            self.log.write(f"{player.log_name('')} STEAM USERID validated")
        self.log.write(f"{player.log_name('')} entered the game")
        self.log.write(f'{player.log_name("Unassigned")} joined team "Survivor"')
        return ""

    def leave(self, player: Player, reason: str) -> None:
        """Take a player off the server."""
        self.players.remove(player)
        self._print_to_console(f"Dropped {player.name} from server ({reason})")
        self.log.write(f'{player.log_name()} disconnected (reason "{reason}")')
        if not self.has_humans:
            self._print_to_console("Server is hibernating")

    def status_lines(self) -> list[str]:
        """Return what `status` prints."""
        humans = sum(not player.is_bot for player in self.players)
        secure = "secure" if self.is_vac_secured else "insecure"
        hibernating = "not hibernating" if self.has_humans else "hibernating"
        host, port = self.address
        players = (
            f"players : {humans} humans, {len(self.players) - humans} bots ({self.max_players} max) "
            f"({hibernating}) (unreserved)"
        )
        return [
            f"hostname: {self.cvar('hostname')}",
            f"version : {self.patch_version} {self.server_version} {secure}  (unknown)",
            f"udp/ip  : {host}:{port} [ public n/a ]",
            "os      : Linux Dedicated",
            f"map     : {self.map}",
            players,
            "",
            "# userid name uniqueid connected ping loss state rate adr",
            *(player.status_row() for player in self.players),
            "#end",
        ]

    def _read_version(self) -> tuple[str, str]:
        try:
            text = (self.game_dir / "steam.inf").read_text(encoding="ascii", errors="replace")
        except OSError:
            return "0.0.0.0", "0"  # noqa: S104 - a version; srcds starts without steam.inf too
        values = dict(line.strip().partition("=")[::2] for line in text.splitlines() if "=" in line)
        return values.get("PatchVersion", "0.0.0.0"), values.get("ServerVersion", "0")  # noqa: S104
