"""Parses the lists of what MetaMod and SourceMod have loaded: `meta list`, `sm exts list`, `sm plugins list`.

The formats are those of MetaMod:Source (metamod_console.cpp) and SourceMod (ExtensionSys.cpp, PluginSys.cpp):

    Listing 2 plugins:
      [01] SourceMod (1.12.0.7210) by AlliedModders LLC
      [02] <FAILED>

    [SM] Displaying 2 extensions:
    [01] SDK Tools (1.12.0.7210): Source SDK Tools
    [02] <FAILED> file "dhooks.ext.2.l4d2.so": libc.so.6: version `GLIBC_2.38' not found

    [SM] Listing 3 plugins:
      01 "Ready-up" (9.2) by CanadaRox
      02 <Failed> "Skill Detect" (1.0) by Tabun
      03 Disabled: "Rank" (2.0)
    Errors:
    l4d2_skill_detect.smx (Skill Detect): Native "L4D2_IsTankInPlay" was not found

A server may run strangers' code, which may print anything. However much that is, this takes no longer and
keeps no more than for a list of the usual size: what is too long is left out, and the list then counts as
incomplete.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

MOST_CHARS = 256 * 1024
"""The most of an answer that is read; 250 plugins take 25,000."""

MOST_ROWS = 2_000
_MOST_LINES = 2 * MOST_ROWS + 100
"""Each plugin may have a row and an error, and engines sometimes print other things in between."""

_MOST_LINE_CHARS = 1_024
"""SourceMod cuts a row at 255 bytes, and the sentence about an error 255 bytes after the file names."""

_UNKNOWN = re.compile(r'Unknown command:? "?(?P<name>[^\s"]{1,64})"?')
_META_HEAD = re.compile(r"Listing (?P<count>\d{1,6}) plugins?:")
_META_NONE = "No plugins loaded."
_META_ROW = re.compile(
    r"\[(?P<number>\d{1,6})\](?: <(?P<status>[A-Z-]{1,20})>)?(?: (?P<label>.*))?"
)
_META_FILE = re.compile(r"File: (?P<file>\S.*)")

_EXTENSIONS_HEAD = re.compile(r"\[SM\] Displaying (?P<count>\d{1,6}) extensions?:")
_EXTENSIONS_NONE = "[SM] No extensions are loaded."
_EXTENSION_ROW = re.compile(
    r'\[(?P<number>\d{1,6})\] (?:<(?P<status>[A-Z]{1,20})> file "(?P<file>.{1,300}?)": ?)?(?P<text>.*)'
)

_PLUGINS_HEAD = re.compile(r"\[SM\] Listing (?P<count>\d{1,6}) plugins?:")
_PLUGINS_NONE = "[SM] No plugins loaded"
_PLUGIN_ROW = re.compile(
    r"(?P<number>\d{1,6})(?: <(?P<status>[A-Za-z -]{1,20})>)?(?P<disabled> Disabled:)? (?P<label>.*)"
)
_ERRORS = "Errors:"
_ERROR = re.compile(r"(?P<file>.{1,300}?\.smx)(?: \((?P<title>.{1,256}?)\))?: ?(?P<reason>.*)")
_NOT_LOADED = re.compile(r"\[SM\] Plugin .{1,300} is not loaded\.")
_INFO = re.compile(r"(?P<name>Status|Error|Load error|Filename): (?P<value>.*)")
_RUNNING = "running"


@dataclass(frozen=True)
class MetaPlugin:
    """A row of `meta list`. `status` is empty if the plugin runs; `label` is its own name, if it gave one."""

    number: int
    status: str = ""
    label: str = ""


@dataclass(frozen=True)
class ListedExtension:
    """A row of `sm exts list`. If the extension does not run, `file` is its library and `text` says why."""

    status: str
    file: str
    text: str


@dataclass(frozen=True)
class ListedPlugin:
    """A row of `sm plugins list`. `label` is what follows number and status, perhaps cut off."""

    status: str
    label: str
    has_disabled_itself: bool = False
    is_cut: bool = False
    """Whether the row is so long that SourceMod may have cut it."""


@dataclass(frozen=True)
class PluginError:
    """What SourceMod says about a plugin that does not run: its file below `plugins/`, its title, and why."""

    file: str
    title: str
    reason: str


@dataclass(frozen=True)
class MetaList:
    """The content of `meta list`. `is_whole` says whether all announced rows arrived."""

    plugins: tuple[MetaPlugin, ...]
    is_whole: bool


@dataclass(frozen=True)
class ExtensionList:
    """The content of `sm exts list`."""

    extensions: tuple[ListedExtension, ...]
    is_whole: bool


@dataclass(frozen=True)
class PluginList:
    """The content of `sm plugins list`, with an error for each plugin that is neither running nor disabled."""

    plugins: tuple[ListedPlugin, ...]
    errors: tuple[PluginError, ...]
    is_whole: bool


def is_unknown_command(answer: str, command: str) -> bool:
    """Return whether the engine says that it has no such command."""
    match = _UNKNOWN.search(answer[:_MOST_LINE_CHARS])
    return match is not None and match["name"].lower() == command.lower()


def parse_meta_list(answer: str) -> MetaList | None:
    """Return the content of an answer to `meta list`; None if it is not one."""
    lines = _lines(answer)
    count = _find_count(lines, _META_HEAD, _META_NONE)
    if count is None:
        return None
    rows = [match for line in lines if (match := _META_ROW.fullmatch(line.text))]
    plugins = tuple(
        MetaPlugin(int(row["number"]), row["status"] or "", _plain(row["label"] or ""))
        for row in rows[:MOST_ROWS]
    )
    return MetaList(plugins, len(plugins) == count)


def parse_meta_file(answer: str) -> str:
    """Return the file that an answer to `meta info NUMBER` names; empty if it names none."""
    for line in _lines(answer):
        if match := _META_FILE.fullmatch(line.text):
            return _plain(match["file"])
    return ""


def parse_extension_list(answer: str) -> ExtensionList | None:
    """Return the content of an answer to `sm exts list`; None if it is not one."""
    lines = _lines(answer)
    count = _find_count(lines, _EXTENSIONS_HEAD, _EXTENSIONS_NONE)
    if count is None:
        return None
    rows = [match for line in lines if (match := _EXTENSION_ROW.fullmatch(line.text))]
    extensions = tuple(
        ListedExtension(row["status"] or "", _plain(row["file"] or ""), _plain(row["text"]))
        for row in rows[:MOST_ROWS]
    )
    return ExtensionList(extensions, len(extensions) == count)


def parse_plugin_list(answer: str) -> PluginList | None:
    """Return the content of an answer to `sm plugins list`; None if it is not one."""
    lines = _lines(answer)
    count = _find_count(lines, _PLUGINS_HEAD, _PLUGINS_NONE)
    if count is None:
        return None
    plugins: list[ListedPlugin] = []
    errors: dict[str, PluginError] = {}
    failed = 0
    is_in_errors = False
    for line in lines:
        if line.text == _ERRORS:
            is_in_errors = True
        elif is_in_errors:
            if (match := _ERROR.fullmatch(line.text)) and len(errors) < MOST_ROWS:
                error = PluginError(
                    _plain(match["file"]), _plain(match["title"] or ""), _plain(match["reason"])
                )
                errors.setdefault(error.file, error)
        elif (match := _PLUGIN_ROW.fullmatch(line.text)) and len(plugins) < MOST_ROWS:
            is_disabled = match["disabled"] is not None
            failed += bool(match["status"]) and not is_disabled
            plugins.append(
                ListedPlugin(
                    match["status"] or "", _plain(match["label"]), is_disabled, line.is_cut
                )
            )
    is_whole = len(plugins) == count and len(errors) >= failed
    return PluginList(tuple(plugins), tuple(errors.values()), is_whole)


@dataclass(frozen=True)
class PluginInfo:
    """The content of `sm plugins info FILE`; `reason` is why the plugin does not run, if it says so."""

    is_running: bool
    reason: str = ""


def parse_plugin_info(answer: str) -> PluginInfo | None:
    """Return the content of an answer to `sm plugins info FILE`; None if it does not say."""
    for line in _lines(answer):
        if _NOT_LOADED.fullmatch(line.text):
            return PluginInfo(is_running=False)
        match = _INFO.fullmatch(line.text)
        if match and match["name"] == "Status":
            return PluginInfo(is_running=match["value"].strip() == _RUNNING)
        if match and match["name"] != "Filename":
            return PluginInfo(is_running=False, reason=_plain(match["value"]))
    return None


# --- Lines ----------------------------------------------------------------------------------------

_CUT_BYTES = 250
"""From this many bytes on a row may have been cut: SourceMod has room for 255, a letter has up to 4."""


@dataclass(frozen=True)
class _Line:
    text: str
    is_cut: bool


def _lines(answer: str) -> Iterator[_Line]:
    """Yield the lines of an answer, stripped of blanks; those that are too long are left out."""
    for line in answer[:MOST_CHARS].split("\n", _MOST_LINES)[:_MOST_LINES]:
        if len(line) <= _MOST_LINE_CHARS:
            yield _Line(line.strip(), len(line.rstrip("\r").encode()) >= _CUT_BYTES)


def _find_count(lines: Iterator[_Line], head: re.Pattern[str], none: str) -> int | None:
    """Advance to the line that begins a list, and return how many rows it announces; None without one."""
    for line in lines:
        if line.text == none:
            return 0
        if match := head.fullmatch(line.text):
            return int(match["count"])
    return None


def _plain(text: str) -> str:
    """Return a text with a single blank for each run of separators and of unprintable characters."""
    return " ".join("".join(one if one.isprintable() else " " for one in text).split())
