"""What `cvarlist` prints: cvars and commands, each with what it is for, in the columns of the Source SDK."""

from collections.abc import Iterable

from hostops.simulator.cvars import CHEATS, RULES, SECRET, number_in
from hostops.simulator.game import Game

MAX_HELP_CHARS = 127

HELP = {
    "banid": "Keep somebody out, for some minutes or for ever.",
    "changelevel": "Go on with the game on another map.",
    "cvarlist": "List what can be set and what can be done.",
    "director_no_specials": "Have the director send no special infected.",
    "echo": "Print some text.",
    "exec": "Carry out a script file.",
    "fps_max": "Frames a second, at the most.",
    "hostname": "What the server is called.",
    "kick": "Send somebody off, by name.",
    "kickid": "Send somebody off, by user id or unique id.",
    "map": "Begin a new game on a map; a mode may follow it.",
    "rcon_password": "Who sends this may use the console from afar.",
    "say": "Say something to everybody.",
    "sm_psay": "sm_psay <name or #userid> <message> - sends private message",
    "status": "Show the map and who is on.",
    "sv_alltalk": "Let teams hear each other: 0 for no, 1 for yes.",
    "sv_cheats": "Allow cheats.",
    "sv_consistency": "Whether the files of players are checked.",
    "sv_gravity": "How heavy everything is.",
    "sv_password": "What one has to know to join.",
    "sv_tags": "Words that the server is found by, with commas between them.",
    "z_difficulty": "How hard it is:\teasy, normal, hard\nor impossible.",
}
"""What some are for, in our own words. Most of the game's have a text too, and some none."""


def list_cvars(game: Game, commands: Iterable[str], prefix: str) -> list[str]:
    """Return the lines for the names that begin with `prefix`, in their order (`CvarList`)."""
    cvars = game.cvars()
    rows = {name: _row(name, _shown_value(value), _flags(name)) for name, value in cvars.items()}
    rows |= {name: _row(name, "cmd", "") for name in commands}
    names = sorted(rows, key=str.lower)
    shown = [rows[name] for name in names if name.lower().startswith(prefix.lower())]
    what = f"convars/concommands for [{prefix}]" if prefix else "total convars/concommands"
    rule = "--------------"
    return ["cvar list", rule, *shown, rule, f"{len(shown):3} {what}"]


def _row(name: str, value: str, flags: str) -> str:
    text = HELP.get(name, "").replace("\t", " ").replace("\n", " ")[:MAX_HELP_CHARS]
    return f"{name:<40} : {value:<8} : {flags:<16} : {text}"


def _shown_value(value: str) -> str:
    """Return a value as a number, as which each is printed: `hostname` is 0."""
    number = number_in(value)
    return f"{int(number)}" if number == int(number) else f"{number:.3f}"


def _flags(name: str) -> str:
    flags = (("cheat", name in CHEATS), ("nf", name in RULES), ("prot", name in SECRET))
    return "".join(f', "{flag}"' for flag, is_set in flags if is_set)
