"""Reads mission files, as forgivingly as their authors write them: campaigns, their modes and chapters.

A mission file is Valve's KeyValues text: `"mission" { "Name" … "modes" { "coop" { "1" { "Map" … } } } }`. A
quarter of those in use break its rules, with a missing or an extra brace or quotation mark. A valid file is
read by its nesting. A broken one is read line by line, and each pair is assigned to the section name that was
opened last.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from hostops.specs import Campaign, CampaignMode, Chapter

MAX_MISSION_BYTES = 1024**2
MAX_DEPTH = 32

_MAX_MODES = 32
_MAX_CHAPTERS = 32
_MAX_TEXT_CHARS = 128

_KNOWN_MODE = re.compile(
    r"coop|realism|versus|survival|scavenge|teamversus|teamscavenge|dash|holdout|shootzones"
    r"|mutation\d{1,4}|community\d{1,4}"
)
_NUMBER = re.compile(r"\d{1,3}")
_FIRST_WORD = re.compile(r"[!-~]{1,128}(?=\s|$)")
_LINE_END = re.compile(r"\r\n|\r|\n")
_TOKEN = re.compile(r'//[^\r\n]*|"([^"\r\n]*)("?)|([{}])|([^\s{}"]+)')
_CONSOLES_ONLY = re.compile(r"\[\$(?:X360|PS3|GAMECONSOLE)\]", re.IGNORECASE)
_CONDITION = re.compile(r"\[!?\$\w+\]")
_TITLE_KEY = re.compile(r"#L4D360UI_CampaignName_C(\d{1,2})", re.IGNORECASE)
_COMMENT_IN_LINE = re.compile(r"\s//")
_QUOTED_OR_COMMENT = re.compile(r'"[^"]*(?:"|$)|//')
_BRACE = re.compile(r"([{}])")
_OTHER_FILES = frozenset({"#base", "#include"})
_HIGH_RUN = re.compile(rb"[\x80-\xff]+")

_OFFICIAL_TITLES = (
    "Dead Center",
    "Dark Carnival",
    "Swamp Fever",
    "Hard Rain",
    "The Parish",
    "The Passing",
    "The Sacrifice",
    "No Mercy",
    "Crash Course",
    "Death Toll",
    "Dead Air",
    "Blood Harvest",
    "Cold Stream",
    "The Last Stand",
)
"""Titles by the numbers of Valve's campaigns, whose files contain only keys of a string table elsewhere."""


def read_mission(data: bytes, path: str) -> Campaign | None:
    """Return the campaign that a mission file describes; None if it describes none.

    Whatever the bytes are, this raises nothing, and takes time proportional to their number.
    """
    text = decode(data[:MAX_MISSION_BYTES])
    events = _parse_by_nesting(text)
    mission = _Mission()
    mission.take(list(_LineReader().read(text)) if events is None else events)
    modes = tuple(mode for mode in mission.list_modes() if mode.chapters)
    if not modes:
        return None
    problem = ""
    if len(data) > MAX_MISSION_BYTES:
        problem = (
            f"It has more than {MAX_MISSION_BYTES // 1024**2} MiB, and was not read to its end."
        )
    elif events is None:
        problem = "A brace or a quotation mark is missing in it, or is one too many."
    elif not _OTHER_FILES.isdisjoint(mission.texts):
        problem = "It takes in another file, which was not read."
    name = to_shown(mission.texts.get("name", ""))
    title = _to_title(mission.texts.get("displaytitle", "")) or name
    return Campaign(name, title, path, modes, problem)


def to_campaign(document: Mapping[str, Any]) -> Campaign:
    """Return a campaign from its JSON form, in which tuples are lists."""
    modes = tuple(
        CampaignMode(mode["name"], tuple(Chapter(**chapter) for chapter in mode["chapters"]))
        for mode in document["modes"]
    )
    return Campaign(**{**document, "modes": modes})


def decode(data: bytes) -> str:
    """Return the text of a file of unknown encoding."""
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return data.decode("utf-16", "replace")
    sample = data[:4096]
    if sample.count(0) > len(sample) // 4:
        # In UTF-16, ASCII letters have a NUL after them, or before them.
        is_little = sample[1::2].count(0) >= sample[::2].count(0)
        return data.decode("utf-16-le" if is_little else "utf-16-be", "replace")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        runs = [len(run[0]) for run in _HIGH_RUN.finditer(data)]
        # Chinese characters have two such bytes each and come in runs; accented letters stand alone.
        is_chinese = 2 * sum(length for length in runs if length > 1) > sum(runs)
        return data.decode("gb18030" if is_chinese else "cp1252", "replace")


def to_shown(text: str) -> str:
    """Return a stranger's text in a form that a page can show: one short line without invisible characters."""
    shown = "".join(
        one if one.isprintable() else "\N{REPLACEMENT CHARACTER}" for one in text.strip()
    )
    return shown[:_MAX_TEXT_CHARS]


def _to_title(text: str) -> str:
    """Return a title; empty for a key of a string table, which is not read."""
    match = _TITLE_KEY.fullmatch(text.strip())
    if match and 1 <= int(match[1]) <= len(_OFFICIAL_TITLES):
        return _OFFICIAL_TITLES[int(match[1]) - 1]
    return "" if text.startswith("#") else to_shown(text)


# --- From text to events ------------------------------------------------------------------------


class _Event(NamedTuple):
    """The start of a section (`name`), a pair (`name` and `value`), or the end of a section (neither)."""

    name: str | None = None
    value: str | None = None


_CLOSE = _Event()


class _Token(NamedTuple):
    text: str
    is_quoted: bool = False
    is_whole: bool = True
    """Whether a quoted text was closed on its own line."""

    @property
    def is_condition(self) -> bool:
        """Whether it limits the preceding pair, or the following section, to certain machines."""
        return not self.is_quoted and _CONDITION.fullmatch(self.text) is not None


def _tokenize(text: str) -> Iterator[_Token]:
    for match in _TOKEN.finditer(text):
        quoted, end, brace, word = match.groups()
        if quoted is not None:
            yield _Token(quoted, is_quoted=True, is_whole=bool(end))
        elif brace or word:
            yield _Token(brace or word)


def _parse_by_nesting(text: str) -> list[_Event] | None:
    """Return the events of a valid text; None if it breaks the rules."""
    events: list[_Event] = []
    name: str | None = None
    depth = 0
    left_out: int | None = None  # The depth of a section that applies only to consoles.
    is_left_out = False
    for token in _tokenize(text):
        if not token.is_whole:
            return None
        if token.is_condition:
            if _CONSOLES_ONLY.fullmatch(token.text):
                if name is not None:
                    is_left_out = True
                elif left_out is None and events and events[-1].value is not None:
                    events.pop()
        elif token == _Token("{"):
            if name is None or depth >= MAX_DEPTH:
                return None
            depth += 1
            if is_left_out and left_out is None:
                left_out = depth
            if left_out is None:
                events.append(_Event(name))
            name, is_left_out = None, False
        elif token == _Token("}"):
            if name is not None or depth == 0:
                return None
            if left_out is None:
                events.append(_CLOSE)
            elif left_out == depth:
                left_out = None
            depth -= 1
        elif name is None:
            name = token.text
        else:
            if left_out is None:
                events.append(_Event(name, token.text))
            name, is_left_out = None, False
    return events if depth == 0 and name is None else None


class _LineReader:
    """Reads as much as possible of a text that breaks the rules."""

    def __init__(self) -> None:
        self._name: str | None = None  # A section's name whose brace has not come yet.
        self._is_cut_off = False  # Whether another section has closed since that name.

    def read(self, text: str) -> Iterator[_Event]:
        """Yield the events in the lines of a text."""
        for line in _LINE_END.split(text):
            words: list[str] = []
            for token in (*_tokens_of_line(line), _Token("\n")):
                if token.is_quoted or token.text not in ("{", "}", "\n"):
                    words.append(token.text)
                else:
                    yield from self._take(words, token.text)
                    words = []

    def _take(self, words: list[str], end: str) -> Iterator[_Event]:
        """Yield the events in the words before a brace or a line end."""
        if words and self._is_cut_off:
            self._name, self._is_cut_off = None, False  # It was a key without a value.
        # The last word before a brace names a section. Other words pair up; a single one names a section too.
        opened = words.pop() if words and end == "{" else None
        if words:
            yield from self._open()
        if len(words) % 2:
            self._name = words.pop(0)
        if words:
            yield from self._open()
        for key, value in zip(words[::2], words[1::2], strict=True):
            yield _Event(key, value)
        if opened is not None:
            yield from self._open()
            self._name = opened
        if end == "{":
            yield from self._open()
        elif end == "}":
            self._is_cut_off = self._name is not None
            yield _CLOSE

    def _open(self) -> Iterator[_Event]:
        if self._name is not None:
            yield _Event(self._name)
            self._name = None


def _tokens_of_line(line: str) -> list[_Token]:
    """Return the tokens of one line, guessing the intention if its quotation marks do not pair up."""
    code = _without_comment(line)
    if code.count('"') % 2 == 0:
        return [token for token in _tokenize(code) if not token.is_condition]
    code = _COMMENT_IN_LINE.split(line)[0].replace('"', " ")
    tokens: list[_Token] = []
    for part in _BRACE.split(code):
        if _BRACE.fullmatch(part):
            tokens.append(_Token(part))
        else:
            # The first word is the key, and the rest its value.
            tokens += [_Token(word.strip(), is_quoted=True) for word in part.split(None, 1)]
    return tokens


def _without_comment(line: str) -> str:
    """Remove a comment: two slashes outside quotation marks."""
    comment = next((one for one in _QUOTED_OR_COMMENT.finditer(line) if one[0] == "//"), None)
    return line[: comment.start()] if comment else line


# --- From events to a campaign ------------------------------------------------------------------


@dataclass
class _Mission:
    """The content of the events so far. Of duplicates the first one counts."""

    texts: dict[str, str] = field(default_factory=dict)
    modes: dict[str, dict[int, dict[str, str]]] = field(default_factory=dict)

    def take(self, events: Sequence[_Event]) -> None:
        """Collect all events of a file."""
        mode: dict[int, dict[str, str]] | None = None
        keys: dict[str, str] = self.texts
        outer: dict[str, str] = keys  # Where pairs belong after a section that is skipped.
        for position, event in enumerate(events):
            if event is _CLOSE:
                keys = outer
            elif event.name is None:
                continue
            elif event.value is not None:
                key = event.name.lower()
                # This key belongs to the campaign wherever it appears.
                (self.texts if key == "displaytitle" else keys).setdefault(key, event.value)
            elif (name := event.name.lower()) in ("mission", "modes"):
                keys = outer = self.texts
            elif _NUMBER.fullmatch(name):
                if mode is not None:
                    keys = outer = mode.setdefault(int(name), {})
            elif _KNOWN_MODE.fullmatch(name) or _opens_a_number(events, position + 1):
                mode = self.modes.setdefault(name, {})
                keys = outer = {}
            else:
                keys = {}

    def list_modes(self) -> Iterator[CampaignMode]:
        """Yield the modes with their chapters, safe to display."""
        for name, numbered in list(self.modes.items())[:_MAX_MODES]:
            chapters = [
                Chapter(found[0].lower(), _to_title(keys.get("displayname", "")))
                for _, keys in sorted(numbered.items())[:_MAX_CHAPTERS]
                if (found := _FIRST_WORD.match(keys.get("map", "").strip()))
            ]
            yield CampaignMode(to_shown(name), tuple(chapters))


def _opens_a_number(events: Sequence[_Event], position: int) -> bool:
    """Whether the event at this position, if any, opens a section whose name is a number."""
    if position >= len(events):
        return False
    event = events[position]
    return event.value is None and event.name is not None and bool(_NUMBER.fullmatch(event.name))
