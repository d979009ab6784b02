"""The commands of the simulated console that are about players: who is there, and who may not be."""

from collections.abc import Callable
from pathlib import Path

from hostops.simulator.bans import Bans, parse_address
from hostops.simulator.game import Game
from hostops.simulator.players import Player

Act = Callable[[list[str], str], None]
"""Carries a command out, given its words and the rest of its line."""

ADDED_TO_LIST = "Added to banned list"


class PlayerCommands:
    """Carries out what is about players, in the engine's words."""

    def __init__(self, game: Game) -> None:
        self.game = game
        self.by_name: dict[str, Act] = {
            "addip": self._addip,
            "banid": self._banid,
            "banip": self._banip,
            "kick": self._kick,
            "kickid": self._kickid,
            "listid": lambda *_: self._print(*game.bans.lines()),
            "listip": lambda *_: self._print(*game.address_bans.lines()),
            "removeid": self._removeid,
            "removeip": self._removeip,
            "say": self._say,
            "status": lambda *_: self._print(*game.status_lines()),
            "users": self._users,
            "writeid": lambda *_: self._write(game.bans, "cfg/banned_user.cfg"),
            "writeip": lambda *_: self._write(game.address_bans, "cfg/banned_ip.cfg"),
        }

    def _users(self, *_: object) -> None:
        self._print('<slot:userid:"name">')
        for player in self.game.players:
            self._print(f'{player.slot}:{player.user_id}:"{player.name}"')
        self._print(f"{len(self.game.players)} users")

    def _say(self, _: list[str], rest: str) -> None:
        if not rest:
            return
        self._print(f"Console: {rest}")
        self.game.log.write(f'"Console<0><Console><Console>" say "{rest}"')

    def _kick(self, arguments: list[str], rest: str) -> None:
        """Kick by name: all that follows is the name, quotes inside of it and blanks too."""
        if not arguments:
            self._print("Usage:  kick < name >")
            return
        wanted = rest.lower()
        player = next((one for one in self.game.players if one.name.lower() == wanted), None)
        if player is None:
            self._print(f'Can\'t kick "{rest}", name not found')
            return
        self.game.leave(player, "Kicked by Console")

    def _kickid(self, arguments: list[str], _: str) -> None:
        arguments = join_steam_id(arguments)
        if not arguments:
            self._print("Usage:  kickid < userid | uniqueid > { message }")
            return
        player = self._find(arguments[0])
        if player is None:
            self._print(f'userid "{arguments[0]}" not found')
            return
        self.game.leave(player, " ".join(arguments[1:]) or "Kicked by Console")

    def _banid(self, arguments: list[str], _: str) -> None:
        arguments = join_steam_id(arguments)
        minutes = parse_number(arguments[0]) if arguments else None
        if minutes is None or len(arguments) < 2:
            self._print("Usage:  banid < minutes > < userid | uniqueid > { kick }")
            self._print("Use 0 minutes for permanent")
            return
        player = self._find(arguments[1])
        steam_id = player.steam_id if player else arguments[1]
        if not steam_id.startswith("STEAM_"):
            self._print(f'Can\'t ban user "{arguments[1]}": invalid id')
            return
        self.game.bans.add(steam_id, minutes)
        self.game.log.write(
            f'Banid: "<><{steam_id}><>" was banned "{_duration(minutes)}" by "Console"'
        )
        if player and "kick" in arguments[2:]:
            self.game.leave(player, ADDED_TO_LIST)

    def _removeid(self, arguments: list[str], _: str) -> None:
        arguments = join_steam_id(arguments)
        if len(arguments) != 1:
            self._print("Usage:  removeid < slot | uniqueid >")
            return
        wanted = arguments[0]
        if wanted[0].isdigit():
            self._remove_slot("removeid", "ID", self.game.bans, wanted)
        elif not wanted.startswith("STEAM_"):
            self._print(f'removeid:  invalid ban ID "{wanted}"')
        elif self.game.bans.remove(wanted):
            self._print(f"removeid:  filter removed for {wanted}")
        else:
            self._print(f"removeid:  couldn't find {wanted}")

    def _banip(self, arguments: list[str], rest: str) -> None:
        self._print('Note: should use "addip" instead of "banip".')
        self._addip(arguments, rest)

    def _addip(self, arguments: list[str], _: str) -> None:
        minutes = parse_number(arguments[0]) if arguments else None
        if minutes is None or len(arguments) != 2:
            self._print("Usage:  addip < minutes > < ipaddress >")
            self._print("Use 0 minutes for permanent")
            return
        address = parse_address(arguments[1])
        if address is None:
            self._print(f"Bad filter address: {arguments[1]}")
            return
        self.game.address_bans.add(address, minutes)
        self.game.log.write(
            f'Addip: "<><><>" was banned by IP "{_duration(minutes)}" by "Console" (IP "{arguments[1]}")'
        )
        # The engine kicks one of them only.
        for player in self.game.players:
            if not player.is_bot and self.game.address_bans.hold(player.address.partition(":")[0]):
                self.game.leave(player, ADDED_TO_LIST)
                break

    def _removeip(self, arguments: list[str], _: str) -> None:
        if not arguments:
            self._print("Usage:  removeip < slot | ipaddress >")
        elif "." not in arguments[0]:
            self._remove_slot("removeip", "IP", self.game.address_bans, arguments[0])
        elif (address := parse_address(arguments[0])) is None:
            self._print(f"Bad filter address: {arguments[0]}")
        elif self.game.address_bans.remove(address):
            self._print(f"removeip:  filter removed for {arguments[0]}")
        else:
            self._print(f"removeip:  couldn't find {arguments[0]}")

    def _remove_slot(self, command: str, what: str, bans: Bans, text: str) -> None:
        names = bans.names()
        number = int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0
        if not 0 < number <= len(names):
            self._print(f"{command}:  invalid slot {number}")
            return
        name = names[number - 1]
        bans.remove(name)
        self._print(f"{command}:  filter removed for {text}, {what} {bans.shown(name)}")

    def _write(self, bans: Bans, name: str) -> None:
        self._print(f"Writing {name}.")
        path: Path = self.game.game_dir / name
        try:
            bans.write(path)
        except OSError:
            self._print(f"Couldn't open {name}")

    def _find(self, text: str) -> Player | None:
        """Return the player with this user id or Steam id."""
        for player in self.game.players:
            if text in (player.steam_id, f"#{player.user_id}", str(player.user_id)):
                return player
        return None

    def _print(self, *lines: str) -> None:
        for line in lines:
            self.game.print(line)


def join_steam_id(words: list[str], start_of_id: str = "STEAM_") -> list[str]:
    """Return the words with a Steam id as one of them: the console splits it at its colons."""
    for start, word in enumerate(words):
        end = start + 5
        if word.startswith(start_of_id) and words[start + 1 : end : 2] == [":", ":"]:
            return [*words[:start], "".join(words[start:end]), *words[end:]]
    return words


def parse_number(text: str) -> float | None:
    """Return a number without a sign, or None."""
    is_number = text.isascii() and text.replace(".", "", 1).isdigit()
    return float(text) if is_number and len(text) < 10 else None


def _duration(minutes: float) -> str:
    return f"for {minutes:.2f} minutes" if minutes else "permanently"
