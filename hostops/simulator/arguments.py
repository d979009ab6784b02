"""Reads the command line of srcds."""

from collections.abc import Sequence

DEFAULT_PORT = 27015
DEFAULT_MAP = "c1m1_hotel"

# With a value after them; everything else that starts with a dash stands alone.
VALUED = frozenset({"-game", "-ip", "-port", "-maxplayers", "-pidfile", "-timeout", "-tickrate"})
ADDRESS_COMMANDS = frozenset({"ip", "port", "hostport"})


class Arguments:
    """What a srcds was started with; `commands` are those given with a plus, in their order."""

    def __init__(self, options: dict[str, str], commands: list[list[str]]) -> None:
        self.game = options.get("-game", "left4dead2")
        self.ip = options.get("-ip", "0.0.0.0")  # noqa: S104 - srcds listens everywhere
        self.port = _number(options.get("-port", ""), DEFAULT_PORT)
        self.max_players = _number(options["-maxplayers"], 8) if "-maxplayers" in options else None
        self.pid_file = options.get("-pidfile")
        self.is_port_strict = "-strictportbind" in options
        self.is_insecure = "-insecure" in options
        self.has_console_log = "-condebug" in options
        self.commands = [command for command in commands if command[0] not in ADDRESS_COMMANDS]
        for name, *values in commands:
            if name == "ip" and values:
                self.ip = values[0]
            elif name in ADDRESS_COMMANDS and values:
                self.port = _number(values[0], self.port)


def parse_arguments(argv: Sequence[str]) -> Arguments:
    """Read `-option [value]` and `+command value…`; a value may be a negative number."""
    options: dict[str, str] = {}
    commands: list[list[str]] = []
    words = iter(argv)
    takes_values = False
    for word in words:
        if word.startswith("+"):
            commands.append([word[1:]])
            takes_values = True
        elif word.startswith("-") and not word[1:2].isdigit():
            options[word] = next(words, "") if word in VALUED else ""
            takes_values = False
        elif takes_values:
            commands[-1].append(word)
    return Arguments(options, commands)


def _number(text: str, otherwise: int) -> int:
    is_number = text.isascii() and text.isdigit()
    return int(text) if is_number and len(text) < 10 else otherwise
