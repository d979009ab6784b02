"""Interprets a log line as a terminal would: colours and weights become CSS classes, the rest is dropped.

`static/js/log/ansi.js` follows the same rules for live lines; a test keeps the two consistent. Each line is
read separately: a colour that is left on ends with its line.
"""

import re
from dataclasses import dataclass, replace
from functools import lru_cache

# In this order: a control sequence (ECMA-48 CSI); a command string with its end (OSC, DCS, SOS, PM, APC); any
# other escape sequence; and control characters except the tab. A string without an end is not hidden, nor one
# that contains the beginning of another. So each character is tried for only one string, in linear time.
ESCAPE = re.compile(
    r"(?:\x1b\[|\x9b)([0-?]*)([ -/]*[@-~])"
    r"|(?:\x1b[\]PX^_]|[\x90\x98\x9d-\x9f])[^\x07\x1b\x90\x98\x9c-\x9f]*(?:\x07|\x1b\\|\x9c)"
    r"|\x1b[ -/]*[0-~]"
    r"|[\x00-\x08\x0a-\x1f\x7f-\x9f]"
)
ESCAPES = ("\x1b", "\x9b")
"""How colour sequences begin. A line without these is shown as it is, except for stray control characters."""
SGR_PARAMETERS = re.compile(r"[0-9;:]*")

# The sixteen colours as xterm paints them. Every other colour becomes the nearest of these.
PALETTE = [
    (0, 0, 0),
    (205, 0, 0),
    (0, 205, 0),
    (205, 205, 0),
    (0, 0, 238),
    (205, 0, 205),
    (0, 205, 205),
    (229, 229, 229),
    (127, 127, 127),
    (255, 0, 0),
    (0, 255, 0),
    (255, 255, 0),
    (92, 92, 255),
    (255, 0, 255),
    (0, 255, 255),
    (255, 255, 255),
]
CUBE_LEVELS = (0, 95, 135, 175, 215, 255)


@dataclass(frozen=True)
class Look:
    """How text looks; the colours are numbers in the palette."""

    foreground: int | None = None
    background: int | None = None
    is_bold: bool = False
    is_dim: bool = False
    is_italic: bool = False
    is_underlined: bool = False
    is_struck: bool = False
    is_inverse: bool = False

    @property
    def classes(self) -> str:
        """The CSS classes, in a fixed order."""
        names = []
        if self.foreground is not None:
            names.append(f"ansi-fg-{self.foreground}")
        if self.background is not None:
            names.append(f"ansi-bg-{self.background}")
        for is_on, name in (
            (self.is_bold, "ansi-bold"),
            (self.is_dim, "ansi-dim"),
            (self.is_italic, "ansi-italic"),
            (self.is_underlined, "ansi-underline"),
            (self.is_struck, "ansi-strike"),
            (self.is_inverse, "ansi-inverse"),
        ):
            if is_on:
                names.append(name)
        return " ".join(names)


PLAIN = Look()
MOST_PIECES = 100
"""Of one line; what comes behind them looks as the last one. Lines full of colours made pages of 19 MB."""
# What each code of Select Graphic Rendition (ECMA-48, 8.3.117) changes, except colours.
CHANGES: dict[int, dict[str, bool | None]] = {
    1: {"is_bold": True},
    2: {"is_dim": True},
    3: {"is_italic": True},
    4: {"is_underlined": True},
    7: {"is_inverse": True},
    9: {"is_struck": True},
    21: {"is_underlined": True},
    22: {"is_bold": False, "is_dim": False},
    23: {"is_italic": False},
    24: {"is_underlined": False},
    27: {"is_inverse": False},
    29: {"is_struck": False},
    39: {"foreground": None},
    49: {"background": None},
}


@dataclass(frozen=True)
class Piece:
    """Text with the same look from its first character to its last."""

    text: str
    classes: str = ""


def to_pieces(line: str) -> list[Piece]:
    """Return the text of `line` in pieces, each with its classes. No piece is empty."""
    pieces: list[Piece] = []
    look = PLAIN
    begin = 0
    for match in ESCAPE.finditer(line):
        add_piece(pieces, line[begin : match.start()], look)
        begin = match.end()
        if match[2] == "m" and SGR_PARAMETERS.fullmatch(match[1]):
            look = select_rendition(look, match[1])
    add_piece(pieces, line[begin:], look)
    return pieces


def shows(line: str, text: str) -> bool:
    """Return whether `line` visibly contains `text`, ignoring case. Colour sequences are not visible."""
    if not line.isprintable():
        line = ESCAPE.sub("", line)
    return text.lower() in line.lower()


def find_shown(shown: str, text: str, limit: int) -> list[tuple[int, int]]:
    """Return the first `limit` places of `text` in the visible form of a line, ignoring case."""
    shown, text = fold(shown), fold(text)
    spans: list[tuple[int, int]] = []
    at = shown.find(text)
    while at >= 0 and len(spans) < limit:
        spans.append((at, at + len(text)))
        at = shown.find(text, at + len(text))
    return spans


def fold(text: str) -> str:
    """Return `text` in lower case, with its length unchanged."""
    lowered = text.lower()
    if len(lowered) == len(text):
        return lowered
    # For example İ, which Unicode lowers to two characters.
    return "".join(low if len(low := one.lower()) == 1 else one for one in text)


def add_piece(pieces: list[Piece], text: str, look: Look) -> None:
    """Add `text`, to the last piece if that looks the same."""
    if not text:
        return
    classes = look.classes
    if pieces and (pieces[-1].classes == classes or len(pieces) >= MOST_PIECES):
        last = pieces.pop()
        text, classes = last.text + text, last.classes
    pieces.append(Piece(text, classes))


@lru_cache(maxsize=4096)
def select_rendition(look: Look, parameters: str) -> Look:
    """Return `look` as changed by the parameters of an SGR sequence. Unknown codes change nothing."""
    codes = [[to_number(part) for part in group.split(":")] for group in parameters.split(";")]
    while codes:
        code, *details = codes.pop(0)
        if code in (38, 48, 58):
            details = details or take_colour(codes)
            colour = find_colour(details)
            if colour is not None and code == 38:
                look = replace(look, foreground=colour)
            elif colour is not None and code == 48:
                look = replace(look, background=colour)
        elif code == 0:
            look = PLAIN
        elif code == 4 and details == [0]:
            look = replace(look, is_underlined=False)
        elif code in CHANGES:
            look = replace(look, **CHANGES[code])  # type: ignore[arg-type]
        elif 30 <= code <= 37 or 90 <= code <= 97:
            look = replace(look, foreground=code - 30 if code < 90 else code - 82)
        elif 40 <= code <= 47 or 100 <= code <= 107:
            look = replace(look, background=code - 40 if code < 100 else code - 92)
    return look


def to_number(text: str) -> int:
    """Return a parameter's value: empty means 0, and more than five digits mean nothing."""
    if len(text) > 5:
        return 99_999
    return int(text) if text else 0


def take_colour(codes: list[list[int]]) -> list[int]:
    """Take the codes of a colour from those that follow it, as in `38;5;208`."""
    kind = codes[0][0] if codes else 0
    length = {5: 2, 2: 4}.get(kind, 0)
    taken = [code[0] for code in codes[:length]]
    del codes[:length]
    return taken


def find_colour(details: list[int]) -> int | None:
    """Return the palette colour nearest to `5, n` or `2, (space,) r, g, b`."""
    match details:
        case [5, number]:
            return from_256(number)
        case [2, red, green, blue] | [2, _, red, green, blue]:
            if max(red, green, blue) <= 255:
                return nearest(red, green, blue)
    return None


def from_256(number: int) -> int | None:
    """Return the nearest of the sixteen to one of xterm's 256 colours."""
    if number < 16:
        return number
    if number > 255:
        return None
    if number >= 232:
        grey = 8 + 10 * (number - 232)
        return nearest(grey, grey, grey)
    index = number - 16
    levels = (CUBE_LEVELS[index // 36], CUBE_LEVELS[index // 6 % 6], CUBE_LEVELS[index % 6])
    return nearest(*levels)


def nearest(red: int, green: int, blue: int) -> int:
    """Return the first palette colour with the smallest distance to this one."""

    def distance(number: int) -> int:
        other = PALETTE[number]
        return (other[0] - red) ** 2 + (other[1] - green) ** 2 + (other[2] - blue) ** 2

    return min(range(len(PALETTE)), key=distance)
