"""Reads `.env` and `VAR_DIR/local.env` into the environment, and reports each line that looks like a mistake.

The format is that of django-environ, which ignores what it does not understand: a setting that somebody wrote
down would then silently be unset. No message shows a value, because it may be a secret.
"""

import re
from collections.abc import Iterator, MutableMapping
from dataclasses import dataclass
from pathlib import Path

from django.core.exceptions import ImproperlyConfigured

_ASSIGNMENT = re.compile(r"\s*(?:export\s+)?([A-Za-z_][A-Za-z_0-9]*)=(.*)", re.DOTALL)
_ALMOST = re.compile(r"\s*(?:export\s+)?([A-Z][A-Z_0-9]*)(?:\s+=|\s*:\s)")
_KEPT_ESCAPES = "rnt"


class EnvFileError(ImproperlyConfigured):
    """A line in a settings file is wrong; the text says which one, and what to do."""


@dataclass(frozen=True)
class Setting:
    """A variable as set by a line of a file."""

    name: str
    value: str
    line: int


class EnvFiles:
    """The files that were read, and which line set what. Variables that are already set stay as they are."""

    def __init__(self, environment: MutableMapping[str, str]) -> None:
        self._environment = environment
        self._places: dict[str, str] = {}
        self._unread: list[str] = []

    def read(self, path: Path) -> None:
        """Add the settings in the file at `path`. Raises `EnvFileError`.

        A file that is missing, or that another account keeps private, sets nothing: under systemd, settings
        come from elsewhere.
        """
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return
        except OSError as error:
            self._unread.append(f"{path} cannot be read: {error.strerror}.")
            return
        for setting in parse(path, data, self._environment).values():
            # Also recorded if it is already equal: Django retries settings that failed to load.
            if self._environment.setdefault(setting.name, setting.value) == setting.value:
                self._places[setting.name] = f" (line {setting.line} of {path})"

    def place_of(self, name: str) -> str:
        """Return where the variable `name` was set, in brackets after a blank; empty if no file set it."""
        return self._places.get(name, "")

    @property
    def unread(self) -> str:
        """The existing files that could not be read, as sentences after a blank; empty if there are none."""
        return "".join(f" {sentence}" for sentence in self._unread)


def parse(path: Path, data: bytes, environment: MutableMapping[str, str]) -> dict[str, Setting]:
    """Return a file's settings by name. Raises `EnvFileError` for the first wrong line."""
    settings: dict[str, Setting] = {}
    for number, line in _lines(path, data):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        setting = Setting(*_read_line(path, number, line), number)
        earlier = settings.setdefault(setting.name, setting)
        if earlier.value != setting.value:
            raise EnvFileError(
                f"{path}: lines {earlier.line} and {number} set {setting.name} to different values. "
                "Remove one of them."
            )
    for setting in settings.values():
        named = setting.value.lstrip("$")
        if named != setting.value and named not in settings and named not in environment:
            raise _wrong(
                path,
                setting.line,
                f"the value of {setting.name} begins with a dollar sign, which stands for another variable, "
                "but there is none of that name. Choose a value that begins otherwise.",
            )
    return settings


def _lines(path: Path, data: bytes) -> Iterator[tuple[int, str]]:
    for number, raw in enumerate(data.removeprefix(b"\xef\xbb\xbf").split(b"\n"), start=1):
        try:
            line = raw.removesuffix(b"\r").decode()
        except UnicodeDecodeError:
            raise _wrong(path, number, "it is not UTF-8. Save the file in that encoding.") from None
        if "\0" in line:
            raise _wrong(path, number, "it has a NUL character. Write the line again.")
        yield number, line


def _read_line(path: Path, number: int, line: str) -> tuple[str, str]:
    """Return the name and the value."""
    if match := _ASSIGNMENT.fullmatch(line):
        name, text = match.groups()
        return name, _unquote(path, number, name, text)
    if match := _ALMOST.match(line):
        raise _wrong(
            path, number, f"write {match[1]}=VALUE, with an equals sign and no blanks around it."
        )
    raise _wrong(
        path,
        number,
        "it is neither NAME=VALUE nor a comment, which begins with #. Mend or remove it.",
    )


def _unquote(path: Path, number: int, name: str, text: str) -> str:
    """Return the value without its quotation marks; inside double ones also without backslashes."""
    stripped = text.strip()
    for mark in "'\"":
        begins, ends = stripped.startswith(mark), stripped.endswith(mark)
        if begins and ends and len(stripped) > 1:
            text = stripped[1:-1]
            return text if mark == "'" else re.sub(r"\\(.)", _unescape, text)
        if begins:
            raise _wrong(
                path,
                number,
                f"the value of {name} begins with a quotation mark ({mark}) and does not end with it. "
                "Close it, on the same line, and put a comment on a line of its own.",
            )
        if ends:
            raise _wrong(
                path,
                number,
                f"the value of {name} ends with a quotation mark ({mark}) and does not begin with it. "
                "Put one before the value, or the other kind around all of it.",
            )
    return text


def _unescape(match: re.Match[str]) -> str:
    return match[0] if match[1] in _KEPT_ESCAPES else match[1]


def _wrong(path: Path, number: int, what: str) -> EnvFileError:
    return EnvFileError(f"Line {number} of {path} is wrong: {what}")
