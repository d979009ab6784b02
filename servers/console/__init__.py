"""A server's console: reading it, checking what is typed into it, and completing it."""

from servers.console.completion import find_key, may_say_to_one, read_names
from servers.console.input import judge
from servers.console.prompt import read_latest, read_prompt
from servers.console.reader import Console, to_lines

__all__ = [
    "Console",
    "find_key",
    "judge",
    "may_say_to_one",
    "read_latest",
    "read_names",
    "read_prompt",
    "to_lines",
]
