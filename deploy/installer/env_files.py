"""Reads settings files as systemd's EnvironmentFile= does, and writes them with every setting explained."""

import re
from collections.abc import Mapping
from itertools import zip_longest
from pathlib import Path

_ASSIGNMENT = re.compile(r"\s*([A-Za-z_][A-Za-z_0-9]*)=(.*)")
_MENTIONED = re.compile(r"^#?\s?([A-Z][A-Z_0-9]*)=", re.MULTILINE)
_ROW = re.compile(r"^\| (`[A-Z][^|]*`) \| ([^|]*) \| (.*) \|$", re.MULTILINE)
_WORD = re.compile(r"`([^`]*)`")
_LINK = re.compile(r"\[([^]]*)\]\([^)]*\)")


def parse(text: str) -> dict[str, str]:
    """Return what a file sets, without the quotation marks around values."""
    settings = {}
    for line in text.splitlines():
        if match := _ASSIGNMENT.fullmatch(line):
            name, value = match[1], match[2].strip()
            if len(value) > 1 and value[0] == value[-1] and value[0] in "'\"":
                value = value[1:-1]
            settings[name] = value
    return settings


def read(path: Path) -> dict[str, str]:
    """Return what the file at `path` sets; nothing if it does not exist."""
    try:
        return parse(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}


def describe(page: str) -> dict[str, tuple[str, str]]:
    """Return the default and the meaning of each setting, by name, from the tables of docs/settings.md."""
    described = {}
    for names, defaults, meaning in _ROW.findall(page):
        plain = _LINK.sub(r"\1", meaning).replace("`", "").strip()
        for name, default in zip_longest(_words(names), _words(defaults), fillvalue=""):
            described[name] = (default, plain)
    return described


def render(
    settings: Mapping[str, str], described: Mapping[str, tuple[str, str]], heading: str
) -> str:
    """Return a file with these settings, and every other setting as a comment with its default."""
    lines = [
        f"# {heading}",
        "# Commented lines show the defaults. Restart what reads them after a change.",
        "",
    ]
    for name, value in settings.items():
        lines += [*_comment(described.get(name, ("", ""))[1]), f"{name}={value}", ""]
    lines += _commented({name: entry for name, entry in described.items() if name not in settings})
    return "\n".join(lines)


def add_missing(
    text: str, settings: Mapping[str, str], described: Mapping[str, tuple[str, str]]
) -> str:
    """Return `text` with the settings that it does not mention yet; its own lines stay unchanged."""
    mentioned = set(_MENTIONED.findall(text))
    added: list[str] = []
    for name, value in settings.items():
        if name not in parse(text):
            added += [*_comment(described.get(name, ("", ""))[1]), f"{name}={value}", ""]
    added += _commented(
        {
            name: entry
            for name, entry in described.items()
            if name not in mentioned and name not in settings
        }
    )
    return text if not added else "\n".join([text.rstrip("\n"), "", *added])


def _commented(described: Mapping[str, tuple[str, str]]) -> list[str]:
    lines: list[str] = []
    for name, (default, meaning) in described.items():
        lines += [*_comment(meaning), f"#{name}={default}", ""]
    return lines


def _comment(meaning: str) -> list[str]:
    return [f"# {meaning}"] if meaning else []


def _words(cell: str) -> list[str]:
    """Return the values in a table cell; nothing if the cell describes a default in a sentence."""
    return _WORD.findall(cell) if re.fullmatch(r"(`[^`]*`(, )?)+", cell) else []
