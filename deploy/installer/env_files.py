"""Reads settings files as systemd's EnvironmentFile= does, and writes them with every setting explained.

systemd.exec(5) describes the format. systemd and this have to agree about every file: units get their settings
from systemd, and the commands `saferoom` and `l4d2ctl` from here.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

from deploy.installer.errors import InstallError

_LINE = re.compile(
    r"[ \t\n\r]*(?:(?P<comment>[#;][^\n\r]*)|(?P<name>(?:[^\n\r][^=\n\r]*)?)(?P<equals>=?))"
)
# A value begins with any number of pieces in quotation marks, which may have line breaks in them; one that is
# not closed reaches to the end of the file. In what follows, quotation marks mean nothing.
_QUOTED = re.compile(
    r"""[ \t]*(?:'(?P<single>[^']*)'?|"(?P<double>(?:\\.|[^"\\])*)\\?"?)""", re.DOTALL
)
_PLAIN = re.compile(r"[ \t]*(?P<plain>(?:\\(?:.|\Z)|[^\\\n\r])*?)[ \t]*(?=[\n\r]|\Z)", re.DOTALL)
_NAME = re.compile(r"[A-Za-z_][A-Za-z_0-9]*")
_MENTIONED = re.compile(r"^#?\s?([A-Z][A-Z_0-9]*)=", re.MULTILINE)
_ROW = re.compile(r"^\| (`[A-Z][^|]*`) \| ([^|]*) \| (.*) \|$", re.MULTILINE)
_WORD = re.compile(r"`([^`]*)`")
_LINK = re.compile(r"\[([^]]*)\]\([^)]*\)")


@dataclass(frozen=True)
class _Assignment:
    """What a file sets, and where it does: from the name to the end of the value."""

    name: str
    value: str
    start: int
    end: int


def parse(text: str) -> dict[str, str]:
    """Return what a file sets. Raises `InstallError` for what versions of systemd read differently."""
    return {found.name: found.value for found in _assignments(text)}


def read(path: Path) -> dict[str, str]:
    """Return what a file sets; nothing if it does not exist. Raises `InstallError` and `OSError`."""
    try:
        return parse(read_text(path))
    except FileNotFoundError:
        return {}
    except InstallError as error:
        raise InstallError(f"{path}: {error}", error.cure) from error


def read_text(path: Path) -> str:
    """Return the text of a file. Raises `InstallError` if it is not UTF-8 or has a NUL, and `OSError`."""
    data = path.read_bytes()
    if (at := data.find(b"\0")) >= 0:
        # systemd does not read such a file, and no variable can have one.
        line = data.count(b"\n", 0, at) + 1
        raise InstallError(f"Line {line} of {path} has a NUL character.", "Write the line again.")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise InstallError(
            f"Line {line} of {path} is not UTF-8.", "Save the file in that encoding."
        ) from error


def change(text: str, changed: Mapping[str, str]) -> str:
    """Return `text` with these values for those of the settings that it sets."""
    parts, at = [], 0
    for found in _assignments(text):
        if found.name in changed:
            parts += [text[at : found.start], as_line(found.name, changed[found.name])]
            at = found.end
    return "".join([*parts, text[at:]])


def as_line(name: str, value: str) -> str:
    """Return the line that sets a setting, without its end. Raises `InstallError` if no line can."""
    if not value.isprintable():
        raise InstallError(
            f"{name} has a character in its value that cannot be printed, such as a line break."
        )
    if re.search(r"""["'\\]|^ | $""", value):
        value = '"' + re.sub(r'["\\`$]', r"\\\g<0>", value) + '"'
    return f"{name}={value}"


def _assignments(text: str) -> Iterator[_Assignment]:
    """Yield what sets a variable, in order. Raises `InstallError`."""
    at = 0
    while at < len(text):
        line = _match(_LINE, text, at)
        at = line.end()
        if (line["comment"] or "").endswith("\\"):
            number = text.count("\n", 0, at) + 1
            raise InstallError(
                f"The comment in line {number} ends with a backslash. To systemd before version 254 the "
                "next line is a comment too.",
                "Remove the backslash.",
            )
        if not line["equals"]:
            continue
        value = ""
        while quoted := _QUOTED.match(text, at):
            at = quoted.end()
            if quoted["single"] is not None:
                value += quoted["single"]
            else:
                # Other backslashes stay; one before a line break goes, and the line break too.
                value += re.sub(r'\\(?:(["\\`$])|\n)', r"\1", quoted["double"])
        plain = _match(_PLAIN, text, at)
        at = plain.end()
        value += re.sub(r"\\(?:[\n\r]|\Z|(.))", r"\1", plain["plain"])
        name = line["name"].rstrip(" \t")
        if _NAME.fullmatch(name):
            yield _Assignment(name, value, line.start("name"), at)


def _match(pattern: re.Pattern[str], text: str, at: int) -> re.Match[str]:
    match = pattern.match(text, at)
    assert match  # noqa: S101 - these patterns match anything, also nothing
    return match


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
        lines += [*_comment(described.get(name, ("", ""))[1]), as_line(name, value), ""]
    lines += _commented({name: entry for name, entry in described.items() if name not in settings})
    return "\n".join(lines)


def add_missing(
    text: str, settings: Mapping[str, str], described: Mapping[str, tuple[str, str]]
) -> str:
    """Return `text` with the settings that it does not mention yet; its own lines stay unchanged.

    Raises `InstallError` if it ends in a value that would go on in what is added.
    """
    mentioned = set(_MENTIONED.findall(text))
    before = parse(text)
    added: list[str] = []
    for name, value in settings.items():
        if name not in before:
            added += [*_comment(described.get(name, ("", ""))[1]), as_line(name, value), ""]
    added += _commented(
        {
            name: entry
            for name, entry in described.items()
            if name not in mentioned and name not in settings
        }
    )
    if not added:
        return text
    longer = "\n".join([text.rstrip("\n"), "", *added])
    if parse(longer) != {**settings, **before}:
        raise InstallError(
            "Its last value does not end: a quotation mark is not closed.", "Mend that line."
        )
    return longer


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
