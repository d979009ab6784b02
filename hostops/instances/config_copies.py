"""Makes the copy of one config for the chain: what the game gets, and what people are told about it."""

import re
from collections.abc import Collection
from dataclasses import dataclass, field

from hostops.config_text import find_character_faults, tell_moves
from hostops.console_commands import (
    CHANGING_MAP,
    MOVING,
    SECRETS,
    file_executed,
    names_used,
    possible_commands,
    split_commands,
    split_words,
)

MAX_COMMAND_BYTES = 510
"""The engine discards a command of 511 bytes and more (Source SDK, `CCommand::MaxCommandLength`)."""

MASK = "********"

_BAD = re.compile(rb"[^\t\r\n -~]|\r(?!\n|\Z)")
_BOM = b"\xef\xbb\xbf"
_BLANKS = " \t\r"
_SHOWN_WARNINGS = 20
_MIN_SECRET_CHARS = 4
"""Shorter passwords are masked only after their name: elsewhere they would mask half of every line."""


@dataclass(frozen=True)
class ConfigCopy:
    """A copy of a config, its `text` as people may see it, the files it executes, and its passwords."""

    content: bytes
    text: str
    warnings: tuple[str, ...]
    executes: tuple[str, ...]
    secrets: frozenset[str] = field(repr=False)


def copy_config(original: bytes, where: str, own: Collection[str]) -> ConfigCopy:
    """Return the copy of a config, made command by command, as bytes; `where` names it in warnings.

    Comments, blank lines and tabs are stripped, and each command gets a line of its own: what is in one means
    the same wherever a branch of the engine cuts a line. A command that sets one of `own`, which Saferoom sets
    itself, is left out with a warning. So is a command that would move the server to another port or change its
    map, and one that is too long: the engine would discard it with the rest of the file.
    """
    lines: list[str] = []
    texts: list[str] = []
    warnings: list[str] = []
    executes: list[str] = []
    secrets: set[str] = set()
    for number, line in enumerate(original.removeprefix(_BOM).split(b"\n"), start=1):
        # Latin-1 maps every byte to a character, so everything else comes out unchanged.
        for original_command in split_commands(line.decode("latin-1")):
            command = original_command.replace("\t", " ").strip(_BLANKS)
            if not command:
                continue
            names = _names_possible(command)
            secrets |= _find_secrets(command, names)
            faults = _find_faults(command, names, own)
            warnings += (f"Line {number} of {where} {fault}" for fault, _ in faults)
            if all(is_kept for _, is_kept in faults):
                lines.append(command)
                texts.append(_mask(command, names))
                executes += filter(None, [file_executed(command)])
    return ConfigCopy(
        "".join(f"{line}\n" for line in lines).encode("latin-1"),
        to_text("".join(f"{text}\n" for text in texts).encode("latin-1")),
        shorten(warnings, "warnings of this file are alike"),
        tuple(executes),
        frozenset(secrets),
    )


def list_executed(content: bytes) -> tuple[str, ...]:
    """Return the files that a cfg file of the game executes, as it names them."""
    commands = (
        command
        for line in content.split(b"\n")
        if b"exec" in line.lower()
        for command in split_commands(line.decode("latin-1"))
    )
    return tuple(filter(None, map(file_executed, commands)))


def find_first_bad_line(content: bytes) -> tuple[int, str] | None:
    """Return the first line with characters that the game cannot read, and what is wrong with it."""
    if _BAD.search(content) is None:
        return None  # The fast path for nearly all files.
    for number, line in enumerate(content.split(b"\n"), start=1):
        for fault in find_character_faults(_readable(line.removesuffix(b"\r"))):
            return number, fault
    return None


def mask_secrets(text: str, secrets: Collection[str]) -> str:
    """Return `text` with each of these passwords masked, except very short ones."""
    # Longer ones first, because they may contain shorter ones.
    for secret in sorted(secrets, key=len, reverse=True):
        if len(secret) >= _MIN_SECRET_CHARS:
            text = text.replace(secret, MASK)
    return text


def shorten(warnings: list[str], rest: str) -> tuple[str, ...]:
    """Return the first warnings, and the number of the others."""
    shown = warnings[:_SHOWN_WARNINGS]
    if len(warnings) > len(shown):
        shown.append(f"{len(warnings) - len(shown)} more {rest}.")
    return tuple(shown)


def to_text(content: bytes) -> str:
    """Return a cfg file as safe text for a page and a database: no control or broken characters."""
    text = content.decode("utf-8", "replace")
    return "".join(
        one if one in "\n\t" or one.isprintable() else "\N{REPLACEMENT CHARACTER}" for one in text
    )


def _find_faults(
    command: str, names: Collection[str], own: Collection[str]
) -> list[tuple[str, bool]]:
    """Return what is wrong with a command, and whether it is kept anyway."""
    if ours := sorted(set(own) & set(names)):
        return [(f"sets {ours[0]}, which Saferoom sets itself. It is left out.", False)]
    if (size := len(command)) > MAX_COMMAND_BYTES:
        fault = (
            f"is a command of {size} bytes. It is left out: the game drops one of more than "
            f"{MAX_COMMAND_BYTES}, with all that follows it."
        )
        return [(fault, False)]
    is_moving = not MOVING.keys().isdisjoint(names)
    faults = (*find_character_faults(_readable(command.encode("latin-1"))), *tell_moves(names))
    found = [(f"{one} It is left out." if is_moving else one, not is_moving) for one in faults]
    if next(names_used(command), "") in CHANGING_MAP:
        fault = (
            "changes the map. The game executes its configs on every map, so it would do that over and over. "
            "It is left out: choose the first map with +map in the launch arguments."
        )
        found.append((fault, False))
    return found


def _names_possible(command: str) -> tuple[str, ...]:
    """Return, each once, the names that any branch of the engine finds in a command of a cfg file."""
    names = (name for one in possible_commands(command) for name in names_used(one))
    return tuple(dict.fromkeys(names))


def _readable(line: bytes) -> str:
    """Return a line with the characters that its author meant, as far as that is clear."""
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError:
        return line.decode("latin-1")


def _find_secrets(command: str, names: Collection[str]) -> set[str]:
    if SECRETS.keys().isdisjoint(names):
        return set()
    words = " ".join(split_words(command)[1:]).split()
    value = words[-1] if words else ""
    return {value} if len(value) >= _MIN_SECRET_CHARS and value.lower() not in SECRETS else set()


def _mask(command: str, names: Collection[str]) -> str:
    """Return a command without the password that it sets."""
    words = split_words(command)
    if len(words) < 2 or SECRETS.keys().isdisjoint(names):
        return command
    return f"{words[0]} {MASK}"
