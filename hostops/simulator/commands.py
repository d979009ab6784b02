"""The console of the simulated server: reads commands and cfg files, and carries them out on a Game."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

from hostops.simulator.arguments import DEFAULT_MAP
from hostops.simulator.command_buffer import (
    BREAKS,
    MAX_WORDS,
    NO_BREAKS,
    TOO_MANY_WORDS,
    CommandBuffer,
    Entry,
    next_word,
    readable_text,
    split_words,
)
from hostops.simulator.cvars import CHEATS
from hostops.simulator.game import Game, is_file
from hostops.simulator.player_commands import PlayerCommands, parse_number
from hostops.simulator.sourcemod import SourceMod

SIMULATOR_HELP = (
    "sim_join NAME [STEAM_ID|BOT]   let a simulated player join",
    "sim_join_hex HEX [STEAM_ID]    the same, of any bytes as a name: 4e22 is N and a quote",
    "sim_leave NAME [REASON]        let one leave",
    "sim_say NAME TEXT              let one say something",
    "sim_crash [SIGNAL]             die by this signal (default SEGV)",
    "sim_flood N                    print N lines",
    "sim_hang                       stop answering, as a server in an endless loop does",
)
FATAL_EXEC_DEPTH = 30
"""How many cfg files that execute each other overflow the stack. The engine's own limit is unknown."""

OWN_PREFIX = "sim_"
"""Prefix of the commands that only the simulator has: they split their words at blanks alone."""


class Commands:
    """Carries out console commands. `hang()` must not return."""

    def __init__(
        self,
        game: Game,
        hang: Callable[[], None],
        failures: frozenset[str] = frozenset(),
        missing_natives: frozenset[str] = frozenset(),
    ) -> None:
        self.game = game
        self._hang = hang
        self._hangs_on_quit = "hang-on-quit" in failures
        self._falls_back = "map-falls-back" in failures
        self._buffer = CommandBuffer(game.print)
        self._exec_depth = 0
        self._bytes_in = self._bytes_out = 0
        self._stats_at = time.monotonic()
        self._sourcemod = SourceMod(game, missing_natives)
        self._commands: dict[str, Callable[[list[str], str], None]] = {
            **PlayerCommands(game).by_name,
            "_restart": self._restart,
            "changelevel": self._changelevel,
            "cvarlist": self._cvarlist,
            "echo": lambda _, rest: self.game.print(rest),
            "exec": self._exec,
            "exit": self._quit,
            "heartbeat": lambda *_: None,
            "help": self._help,
            "killserver": lambda *_: self.game.unload_map(),
            "log": self._log,
            "map": self._map,
            "maps": self._maps,
            "quit": self._quit,
            "stats": self._stats,
            "version": self._version,
            "sim_crash": self._sim_crash,
            "sim_flood": self._sim_flood,
            "sim_hang": lambda *_: self._sim_hang(),
            "sim_help": lambda *_: self._print_all(
                [f"[simulator] {row}" for row in SIMULATOR_HELP]
            ),
            "sim_join": self._sim_join,
            "sim_join_hex": self._sim_join_hex,
            "sim_leave": self._sim_leave,
            "sim_say": self._sim_say,
        }

    def run(self, text: str, *, is_command_line: bool = False) -> None:
        """Carry out the commands in `text`. Hidden cvars can be set from the command line only."""
        self._buffer.add(text, is_command_line=is_command_line)
        for entry in self._buffer.take_until():
            self._carry_out(entry)

    def _carry_out(self, entry: Entry) -> None:
        name, rest = next_word(entry.command)
        if not name:
            return
        arguments = split_words(rest, NO_BREAKS if name.startswith(OWN_PREFIX) else BREAKS)
        if len(arguments) >= MAX_WORDS:
            self.game.print(TOO_MANY_WORDS)
            arguments = arguments[: MAX_WORDS - 1]
        rest = _without_quotes(rest)
        act = self._commands.get(name.lower()) or self._sourcemod.commands.get(name.lower())
        if act:
            act(arguments, rest)
        else:
            self._cvar(name, arguments, rest, is_command_line=entry.is_command_line)

    def load_plugins(self) -> None:
        """Let MetaMod and SourceMod begin, if they are there."""
        self._sourcemod.load()

    def load_map(self, name: str) -> None:
        """Load the map `name`, which must be there, and read server.cfg as every map change does."""
        self.game.load_map(name, self._execute_server_config)

    def _has_map(self, name: str) -> bool:
        if self.game.has_map(name):
            return True
        # Two blanks, as in the engine.
        self.game.print(f"CModelLoader::Map_IsValid:  No such map 'maps/{name}.bsp'")
        return False

    def count_traffic(self, bytes_in: int, bytes_out: int) -> None:
        """Add to what `stats` shows."""
        self._bytes_in += bytes_in
        self._bytes_out += bytes_out

    # cvars and cfg files

    def _cvar(self, word: str, arguments: list[str], rest: str, *, is_command_line: bool) -> None:
        name = self.game.find_cvar(word, with_hidden=is_command_line)
        if name is None:
            self.game.print(f'Unknown command "{word}"')
        elif arguments:
            if name in CHEATS and self.game.cvar("sv_cheats") == "0":
                self.game.print(
                    f"Can't use cheat cvar {name} in multiplayer, unless the server has sv_cheats set to 1."
                )
                return
            # Without quotes the rest of the line is the value: `hostname My server` works.
            self.game.set_cvar(name, arguments[0] if len(arguments) == 1 else rest)
        else:
            self._print_all(self.game.describe_cvar(name))

    def _cvarlist(self, arguments: list[str], _: str) -> None:
        from hostops.simulator.cvar_list import list_cvars  # its texts cost memory

        known = [*self._commands, *self._sourcemod.commands]
        names = [name for name in known if not name.startswith(OWN_PREFIX)]
        self._print_all(list_cvars(self.game, names, arguments[0] if arguments else ""))

    def _execute_server_config(self) -> None:
        self.game.print("Executing dedicated server config file")
        self._exec(["server.cfg"], "")

    def _exec(self, arguments: list[str], _: str) -> None:
        if not arguments:
            self.game.print("exec <filename>: execute a script file")
            return
        name = arguments[0] if Path(arguments[0]).suffix else f"{arguments[0]}.cfg"
        config_dir = self.game.game_dir / "cfg"
        path = config_dir / name
        is_inside = path.is_relative_to(config_dir) and ".." not in path.parts
        if not is_inside or not is_file(path):
            self.game.print(f"exec: couldn't exec {name}")
            return
        try:
            text = readable_text(path.read_bytes())
        except OSError as error:
            self.game.print(f"exec: couldn't exec {name}: {error.strerror}")
            return
        if self._exec_depth >= FATAL_EXEC_DEPTH:
            crash()
        self.game.print(f"execing {name}")
        self._exec_depth += 1
        end = self._buffer.insert(text)
        for entry in self._buffer.take_until(end):
            self._carry_out(entry)
        self._exec_depth -= 1

    def _log(self, arguments: list[str], _: str) -> None:
        if arguments == ["on"]:
            # Most server.cfg files have this, and are read again at each map.
            if not self.game.log.is_on:
                self.game.open_log()
            self.game.print("Server logging enabled.")
        elif arguments == ["off"]:
            self.game.log.close_file()
            self.game.log.is_on = False
            self.game.print("Server logging disabled.")
        else:
            state = "currently logging" if self.game.log.is_on else "not currently logging"
            self.game.print(f"Usage: log < on | off >\n{state}")

    # Maps

    def _map(self, arguments: list[str], _: str) -> None:
        if not arguments:
            self.game.print("No map specified")
            return
        if not self._has_map(_map_name(arguments[0])):
            self.game.print(f"map load failed: {_map_name(arguments[0])} not found or invalid")
            return
        # The engine ends the game that runs: players have to come back by themselves.
        if self.game.map:
            self.game.unload_map()
        if len(arguments) > 1:
            self.game.set_cvar("mp_gamemode", arguments[1])
        self.load_map(self._map_reached(arguments[0]))

    def _changelevel(self, arguments: list[str], _: str) -> None:
        if not arguments:
            self.game.print("changelevel <levelname> : continue game on a new level")
        elif not self.game.map:
            self.game.print("Can't changelevel, not running server")
        elif not self._has_map(_map_name(arguments[0])):
            self.game.print(f"changelevel failed: {arguments[0]} not found")
        else:
            # What follows the map is no mode to it, but where the players are put.
            self.load_map(self._map_reached(arguments[0]))

    def _map_reached(self, wanted: str) -> str:
        """Return the map that a change leads to: the first of the game if the new one does not come up."""
        return DEFAULT_MAP if self._falls_back and self.game.map_changes else _map_name(wanted)

    def _maps(self, arguments: list[str], _: str) -> None:
        wanted = arguments[0] if arguments else "*"
        self.game.print("-------------")
        for name in self.game.map_names():
            if wanted == "*" or wanted in name:
                self.game.print(f"PENDING:   (fs) {name}.bsp")

    # The server itself

    def _stats(self, *_: object) -> None:
        now = time.monotonic()
        seconds = max(now - self._stats_at, 0.001)
        cpu = 100 * time.process_time() / max(now - self.game.started_at, 0.001)
        uptime = int((now - self.game.started_at) / 60)
        self.game.print("CPU   In    Out   Uptime  Users   FPS    Players")
        self.game.print(
            f"{cpu:5.2f} {self._bytes_in / seconds:5.2f} {self._bytes_out / seconds:5.2f} "
            f"{uptime:7} {self.game.map_changes:5} {30.0:7.2f} {len(self.game.players):7}"
        )
        self._stats_at, self._bytes_in, self._bytes_out = now, 0, 0

    def _version(self, *_: object) -> None:
        self.game.print(
            f"Protocol version 2100 [2100/2100]\nExe version {self.game.patch_version} (left4dead2)"
        )
        self.game.print(f"Exe build: simulated ({self.game.server_version}) (550)")

    def _help(self, *_: object) -> None:
        names = [name for name in self._commands if not name.startswith("sim_")]
        self.game.print("Commands: " + " ".join(names))
        self.game.print("[simulator] sim_help lists what only the simulator has.")

    def _quit(self, *_: object) -> None:
        self.game.log.write('server_message: "quit"')
        if self._hangs_on_quit:
            self._hang()
        self.game.is_quitting = True

    def _restart(self, *_: object) -> None:
        """End, and rely on a supervisor for the restart; nothing in the engine does that."""
        self.game.log.write('server_message: "restart"')
        self.game.is_quitting = True

    # What only the simulator has

    def _sim_join(self, arguments: list[str], _: str) -> None:
        if not arguments:
            self._print_all([f"[simulator] {SIMULATOR_HELP[0]}"])
            return
        self._join(arguments[0], arguments)

    def _sim_join_hex(self, arguments: list[str], _: str) -> None:
        try:
            name = bytes.fromhex(arguments[0]).replace(b"\0", b"") if arguments else b""
        except ValueError:
            name = b""
        if not name:
            self._print_all([f"[simulator] {SIMULATOR_HELP[1]}"])
            return
        self._join(name.decode("utf-8", "surrogateescape"), arguments)

    def _join(self, name: str, arguments: list[str]) -> None:
        refusal = self.game.join(name, arguments[1] if len(arguments) > 1 else None)
        if refusal:
            self.game.print(f"[simulator] {name} cannot join: {refusal}.")

    def _sim_leave(self, arguments: list[str], _: str) -> None:
        player = self.game.find_player(arguments[0]) if arguments else None
        if player is None:
            self.game.print("[simulator] sim_leave needs the name of somebody on the server.")
            return
        self.game.leave(player, " ".join(arguments[1:]) or "Disconnect by user.")

    def _sim_say(self, arguments: list[str], _: str) -> None:
        player = self.game.find_player(arguments[0]) if arguments else None
        if player is None or len(arguments) < 2:
            self.game.print(
                "[simulator] sim_say needs the name of somebody on the server, and a text."
            )
            return
        text = " ".join(arguments[1:])
        self.game.print(f"{player.name}: {text}")
        self.game.log.write(f'{player.log_name()} say "{text}"')

    def _sim_flood(self, arguments: list[str], _: str) -> None:
        count = parse_number(arguments[0]) if arguments else None
        if count is None:
            self.game.print("[simulator] sim_flood needs a number of lines.")
            return
        for number in range(1, int(count) + 1):
            self.game.print(f"[simulator] flood {number} of {int(count)}")

    def _sim_hang(self) -> None:
        self.game.print("[simulator] hanging from now on")
        self._hang()

    def _sim_crash(self, arguments: list[str], _: str) -> None:
        name = (arguments[0] if arguments else "SEGV").upper().removeprefix("SIG")
        try:
            number = signal.Signals(int(name)) if name.isdigit() else signal.Signals[f"SIG{name}"]
        except (KeyError, ValueError):
            self.game.print(f"[simulator] there is no signal called {arguments[0]}.")
            return
        self.game.print(f"[simulator] crashing by {number.name}")
        crash(number)

    def _print_all(self, lines: list[str]) -> None:
        for line in lines:
            self.game.print(line)


def crash(number: signal.Signals = signal.SIGSEGV) -> None:
    """End this process by a signal, as a bug in the game would, but without a core file."""
    import resource  # only a server that crashes pays for it

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if number not in (signal.SIGKILL, signal.SIGSTOP):
        signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


def _without_quotes(text: str) -> str:
    is_one_word = len(text) > 1 and text[0] == text[-1] == '"' and text.count('"') == 2
    return text[1:-1] if is_one_word else text


def _map_name(text: str) -> str:
    """Return the name of a map; the engine takes an extension from it."""
    return text.removesuffix(".bsp")
