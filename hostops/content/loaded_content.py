"""What a running server has loaded of what its overlays bring: MetaMod, SourceMod's extensions and its plugins.

Installed files are not necessarily loaded. The server is asked for its own lists
(`hostops.query.plugin_lists`), and only what those say is reported: where they are cut off, or do not mention
a plugin, it counts as unknown.
"""

import contextlib
import os
import posixpath
import re
import stat
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from hostops.content.plugins import PLUGINS_DIR, list_plugins
from hostops.content.search_paths import ADDONS_DIR
from hostops.errors import HostError
from hostops.instances.cfg_files import show_path
from hostops.linux import untrusted
from hostops.linux.untrusted import UntrustedFileError
from hostops.query.plugin_lists import (
    ListedPlugin,
    MetaList,
    PluginInfo,
    PluginList,
    is_unknown_command,
    parse_extension_list,
    parse_meta_file,
    parse_meta_list,
    parse_plugin_info,
    parse_plugin_list,
)
from hostops.specs import LoadedCheck, LoadedKind, LoadedReport, NotLoaded

MOST_TOLD = 100
"""The most of one kind that are named as not loaded; the others are only counted."""

_SOURCEMOD_BIN = f"{ADDONS_DIR}/sourcemod/bin"
_METAMOD_VDF = f"{ADDONS_DIR}/metamod.vdf"
_METAMOD_DIR = f"{ADDONS_DIR}/metamod"
_SECONDS = 5.0
"""The longest time to search all layers for plugins."""

_MOST_VDF_BYTES = 64 * 1024
_MOST_VDFS = 50
_MOST_NAMES = 10_000
_MOST_INFOS = 20
"""The most plugins of each kind that are asked about one by one; the lists must do for all others."""

_MOST_REASON_CHARS = 300
_VDF_FILE = re.compile(r'"file"\s+"([^"\r\n]{1,255})"', re.IGNORECASE)
_ASKABLE = re.compile(r"[^\";\\\x00-\x1f\x7f]{1,200}\.smx")
"""What may be quoted in a console command."""

_LOAD_FAILURE = re.compile(
    r"\[META\] Failed to load plugin (?P<file>\S{1,255}?)[:.] {1,2}(?P<reason>.{1,400})"
)
_MOST_CONSOLE_LINE_CHARS = 1_024

_STATUSES = {
    "NOFILE": "The library that its .vdf names is not there.",
    "ERROR": "Its library cannot be loaded.",
    "FAILED": "It refuses to run in this game.",
    "PAUSED": "It is paused.",
}

Ask = Callable[[str], str]
"""Sends the server a command, and returns what it printed. Raises HostError or OSError."""


@dataclass(frozen=True)
class ExpectedPlugin:
    """A plugin that SourceMod loads by itself. `path` is below `plugins/`."""

    path: str
    title: str = ""
    version: str = ""
    author: str = ""

    @property
    def label(self) -> str:
        """How `sm plugins list` shows it while it runs."""
        text = f'"{self.title or self.path}"'
        text += f" ({self.version})" if self.version else ""
        text += f" by {self.author}" if self.author else ""
        return " ".join(text.split())


@dataclass(frozen=True)
class Expected:
    """What the layers of a server bring that it should load.

    `meta_files` are the files that the .vdf files of MetaMod's plugins name, by the names of those .vdf
    files.
    """

    has_metamod: bool = False
    has_sourcemod: bool = False
    meta_files: dict[str, str] = field(default_factory=dict)
    plugins: tuple[ExpectedPlugin, ...] = ()
    are_all: bool = True

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to ask for."""
        return not (self.has_metamod or self.has_sourcemod or self.plugins)


# --- What is expected -----------------------------------------------------------------------------


def find_expected(
    stack: Sequence[Path], own_dir: Path, trusted_dir: Path, *, is_copy: bool = False
) -> Expected:
    """Return what a server should load from its layers, the top one first.

    `own_dir` is what the server itself wrote or, if it `is_copy`, a full copy of all layers; only
    `trusted_dir` of it is trusted. What the server has removed there is not expected.
    """
    until = time.monotonic() + _SECONDS
    has_metamod = has_sourcemod = False
    meta_files: dict[str, str] = {}
    plugins: dict[str, ExpectedPlugin] = {}
    are_all = True
    for layer in stack:
        try:
            with untrusted.open_folder(layer, layer) as folder:
                has_metamod |= untrusted.exists_at(folder, _METAMOD_VDF)
                has_sourcemod |= untrusted.exists_at(folder, _SOURCEMOD_BIN)
                for name, file in _read_vdfs(folder):
                    meta_files.setdefault(name, file)
                if time.monotonic() > until:
                    are_all = False
                    continue
                found, are_all_here = list_plugins(folder)
        except (UntrustedFileError, OSError):
            are_all = False
            continue
        are_all &= are_all_here
        for one in found:
            if one.is_loaded:
                facts = one.facts
                plugins.setdefault(
                    one.path,
                    ExpectedPlugin(one.path, facts.title, facts.version, facts.author)
                    if facts
                    else ExpectedPlugin(one.path),
                )
    removed = _find_removed(plugins, own_dir, trusted_dir, is_copy=is_copy)
    left = tuple(plugin for path, plugin in plugins.items() if path not in removed)
    return Expected(has_metamod, has_sourcemod, meta_files, left, are_all)


def _read_vdfs(layer: int) -> Iterator[tuple[str, str]]:
    try:
        folder = untrusted.open_folder_at(layer, _METAMOD_DIR)
    except FileNotFoundError:
        return
    try:
        names = untrusted.list_names(folder, _MOST_NAMES)
        for name in sorted(one for one in names if one.lower().endswith(".vdf"))[:_MOST_VDFS]:
            try:
                descriptor = untrusted.open_at(folder, name)
            except (UntrustedFileError, FileNotFoundError):
                continue
            with open(descriptor, "rb") as file:  # noqa: PTH123 - a descriptor
                text = file.read(_MOST_VDF_BYTES).decode("utf-8", "replace")
            if match := _VDF_FILE.search(text):
                yield name, match[1].replace("\\", "/")
    finally:
        os.close(folder)


def _find_removed(
    paths: Iterable[str], own_dir: Path, trusted_dir: Path, *, is_copy: bool
) -> set[str]:
    """Return the plugins that the server does not see: hidden by a whiteout, or not in its copy."""
    removed: set[str] = set()
    with (
        contextlib.suppress(FileNotFoundError, UntrustedFileError),
        untrusted.open_folder(own_dir / PLUGINS_DIR, trusted_dir) as folder,
    ):
        for path in paths:
            try:
                if stat.S_ISCHR(untrusted.stat_at(folder, path).st_mode):
                    removed.add(path)
            except FileNotFoundError:
                removed.update([path] if is_copy else ())
            except UntrustedFileError:
                continue
    return removed


# --- In words -------------------------------------------------------------------------------------

_MOST_LINES = 10
"""The most that have a line of their own, as not loaded, in the log of a start."""

_NAMES = {
    LoadedKind.METAMOD: ("plugin of MetaMod", "plugins of MetaMod"),
    LoadedKind.EXTENSION: ("extension of SourceMod", "extensions of SourceMod"),
    LoadedKind.PLUGIN: ("plugin of SourceMod", "plugins of SourceMod"),
}


def describe(report: LoadedReport) -> Iterator[tuple[str, str]]:
    """Yield a report as lines for people, each with its stream: `stderr` for what is not loaded."""
    for check in report.checks:
        one, many = _NAMES[check.kind]
        missing = check.missing_count
        if check.none_because:
            yield "stderr", f"{check.none_because}{_none_loaded(check.expected, one, many)}"
        elif missing:
            verb = "is" if missing == 1 else "are"
            yield "stderr", f"{missing:,} of {check.expected:,} {many} {verb} not loaded."
        elif not check.unknown and check.expected:
            yield "stdout", _all_loaded(check.expected, one, many)
        for lack in check.not_loaded[:_MOST_LINES]:
            title = f" ({lack.title})" if lack.title else ""
            yield (
                "stderr",
                f"Not loaded: {lack.file}{title}: {lack.reason or 'no reason was given.'}",
            )
        if len(check.not_loaded) > _MOST_LINES:
            yield "stderr", f"{missing - _MOST_LINES:,} more: the server’s page names them."
        if check.unknown:
            yield "stdout", f"About the {many}: {check.unknown}"
    if report.unasked:
        yield "stdout", f"What is loaded is not fully known. {report.unasked}"


def _none_loaded(count: int, one: str, many: str) -> str:
    if not count:
        return ""
    return (
        f" The {one} is not loaded either."
        if count == 1
        else f" None of the {count:,} {many} is loaded."
    )


def _all_loaded(count: int, one: str, many: str) -> str:
    return f"The {one} is loaded." if count == 1 else f"All {count:,} {many} are loaded."


# --- What is loaded -------------------------------------------------------------------------------


def look_at_loaded(expected: Expected, ask: Ask, console: Sequence[str]) -> LoadedReport:
    """Ask a running server what it has loaded, and return how that differs from what is expected.

    `console` is what it has printed since its start: a line of it may give a reason where the lists give
    none.
    """
    checks: list[LoadedCheck] = []
    try:
        for check in _look(expected, ask, _find_reasons(console)):
            checks.append(check)  # noqa: PERF402 - what is known stays if a later question fails
    except (HostError, OSError) as error:
        return LoadedReport(tuple(checks), str(error))
    return LoadedReport(tuple(checks))


def _look(expected: Expected, ask: Ask, reasons: dict[str, str]) -> Iterator[LoadedCheck]:
    answer = ask("meta list")
    if is_unknown_command(answer, "meta"):
        yield from _without_metamod(expected)
        return
    metas = parse_meta_list(answer)
    if metas is None:
        yield LoadedCheck(LoadedKind.METAMOD, len(expected.meta_files), unknown=_no_list(answer))
    else:
        yield _compare_metas(expected, metas, ask, reasons)
    if not (expected.has_sourcemod or expected.plugins):
        return
    answer = ask("sm exts list")
    if is_unknown_command(answer, "sm"):
        none_because = (
            "SourceMod itself is not loaded."
            if expected.has_sourcemod
            else "None of the server’s overlays brings SourceMod."
        )
        yield LoadedCheck(LoadedKind.PLUGIN, len(expected.plugins), none_because=none_because)
        return
    extensions = parse_extension_list(answer)
    if extensions is None:
        yield LoadedCheck(LoadedKind.EXTENSION, 0, unknown=_no_list(answer))
    else:
        wanted = [one for one in extensions.extensions if one.status != "OPTIONAL"]
        failed = [
            NotLoaded(show_path(one.file), reason=_shorten(one.text))
            for one in wanted
            if one.status
        ]
        yield _check(LoadedKind.EXTENSION, len(wanted), failed, is_whole=extensions.is_whole)
    answer = ask("sm plugins list")
    plugins = parse_plugin_list(answer)
    if plugins is None:
        yield LoadedCheck(LoadedKind.PLUGIN, len(expected.plugins), unknown=_no_list(answer))
    else:
        yield _compare_plugins(expected, plugins, ask)


def _without_metamod(expected: Expected) -> Iterator[LoadedCheck]:
    if expected.has_metamod:
        why = "The game has not loaded MetaMod itself: its console does not know the command meta."
    else:
        why = "None of the server’s overlays brings addons/metamod.vdf, by which the game loads MetaMod."
    yield LoadedCheck(LoadedKind.METAMOD, len(expected.meta_files), none_because=why)
    if expected.plugins:
        why = "SourceMod needs MetaMod, which is not loaded."
        yield LoadedCheck(LoadedKind.PLUGIN, len(expected.plugins), none_because=why)


def _compare_metas(
    expected: Expected, listed: MetaList, ask: Ask, reasons: dict[str, str]
) -> LoadedCheck:
    """Compare MetaMod's plugins. The list names no files; the server is asked for a few, where they matter."""
    is_short = listed.is_whole and len(listed.plugins) < len(expected.meta_files)
    files: dict[int, str] = {}
    asked = [one.number for one in listed.plugins if one.status or is_short][:_MOST_INFOS]
    # What the list says is known, even if this fails.
    with contextlib.suppress(HostError, OSError):
        for number in asked:
            files[number] = parse_meta_file(ask(f"meta info {number}"))
    names = {_stem(file): name for name, file in expected.meta_files.items()}
    missing: list[NotLoaded] = []
    for one in listed.plugins:
        if not one.status:
            continue
        file = files.get(one.number, "")
        name = names.get(_stem(file), "")
        reason = reasons.get(_stem(file)) or _STATUSES.get(one.status, one.status)
        called = f"{ADDONS_DIR}/metamod/{name}" if name else file or f"number {one.number}"
        missing.append(NotLoaded(show_path(called), one.label, _shorten(reason)))
    if is_short and len(files) == len(listed.plugins) and all(files.values()):
        listed_files = {_stem(file) for file in files.values()}
        for stem, name in names.items():
            if stem not in listed_files:
                reason = reasons.get(stem, "MetaMod does not list it.")
                called = show_path(f"{ADDONS_DIR}/metamod/{name}")
                missing.append(NotLoaded(called, reason=_shorten(reason)))
    count = max(len(listed.plugins), len(expected.meta_files))
    return _check(LoadedKind.METAMOD, count, missing, is_whole=listed.is_whole)


def _compare_plugins(expected: Expected, listed: PluginList, ask: Ask) -> LoadedCheck:
    """Compare SourceMod's plugins: those that do not run by their file, those that do by their title."""
    errors = {one.file: one for one in listed.errors}
    missing = [
        NotLoaded(show_path(one.file), one.title, _shorten(one.reason)) for one in listed.errors
    ]
    running = [one for one in listed.plugins if not one.status and not one.has_disabled_itself]
    disabled = [one for one in listed.plugins if one.has_disabled_itself]
    unseen = [one for one in expected.plugins if one.path not in errors]
    unseen = _without_listed(unseen, running)
    left = _without_listed(unseen, disabled)
    off = [one for one in unseen if one not in left]
    why = "It has disabled itself: it says that it is not for this server."
    missing += [NotLoaded(show_path(one.path), one.title, why) for one in off]
    infos: dict[str, PluginInfo | None] = {}
    with contextlib.suppress(HostError, OSError):
        for one in left[:_MOST_INFOS]:
            if _ASKABLE.fullmatch(one.path):
                infos[one.path] = parse_plugin_info(ask(f'sm plugins info "{one.path}"'))
    doubtful = 0
    for one in left:
        info = infos.get(one.path)
        if info is None:
            doubtful += 1
        elif not info.is_running:
            reason = info.reason or "SourceMod does not list it."
            missing.append(NotLoaded(show_path(one.path), one.title, _shorten(reason)))
    count = len({one.path for one in expected.plugins} | errors.keys())
    check = _check(LoadedKind.PLUGIN, count, missing, is_whole=listed.is_whole and expected.are_all)
    if not doubtful:
        return check
    verb = "is" if doubtful == 1 else "are"
    unknown = f"Whether {doubtful:,} of them {verb} loaded is not known. {check.unknown}".strip()
    return LoadedCheck(check.kind, count, check.not_loaded, check.more_count, "", unknown)


def _without_listed(
    plugins: Sequence[ExpectedPlugin], listed: Sequence[ListedPlugin]
) -> list[ExpectedPlugin]:
    """Return the plugins that no row of a list accounts for. A row accounts for one plugin."""
    rows = Counter(one.label for one in listed)
    left: list[ExpectedPlugin] = []
    for plugin in plugins:
        label = plugin.label
        if rows[label]:
            rows[label] -= 1
        else:
            left.append(plugin)
    cut = [one.label for one in listed if one.is_cut and rows[one.label]]
    for plugin in left[:]:
        label = plugin.label
        row = next(
            (one for one in cut if label.startswith(one.rstrip("\N{REPLACEMENT CHARACTER}"))), None
        )
        if row is not None:
            cut.remove(row)
            left.remove(plugin)
    return left


def _check(
    kind: LoadedKind, expected: int, missing: Sequence[NotLoaded], *, is_whole: bool
) -> LoadedCheck:
    return LoadedCheck(
        kind,
        expected,
        tuple(missing[:MOST_TOLD]),
        more_count=max(len(missing) - MOST_TOLD, 0),
        unknown="" if is_whole else "Not all of it could be looked at.",
    )


def _find_reasons(console: Sequence[str]) -> dict[str, str]:
    """Return the reasons that MetaMod printed for not loading plugins, by the stems of their files."""
    found: dict[str, str] = {}
    for line in console:
        match = _LOAD_FAILURE.search(line[:_MOST_CONSOLE_LINE_CHARS])
        if match and len(found) < _MOST_VDFS:
            found.setdefault(_stem(match["file"]), match["reason"])
    return found


def _stem(file: str) -> str:
    """Return what all names of the same library have in common: `x/bin/y_i486.so` is `y`."""
    return posixpath.basename(file).removesuffix(".so").removesuffix("_i486").lower()


def _no_list(answer: str) -> str:
    said = _shorten(" ".join(answer[:1_000].split()))
    return (
        f"The server answered with no list, but “{said}”." if said else "The server gave no list."
    )


def _shorten(text: str) -> str:
    plain = "".join(one if one.isprintable() else " " for one in text[:1_000])
    plain = " ".join(plain.split())
    return plain if len(plain) <= _MOST_REASON_CHARS else f"{plain[: _MOST_REASON_CHARS - 1]}…"
