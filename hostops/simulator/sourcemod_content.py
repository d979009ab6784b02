"""What the simulated SourceMod loads, extensions and plugins, and its command `sm`, which lists them.

It goes through them as SourceMod does (its ExtensionSys.cpp and PluginSys.cpp): extensions that are to load by
themselves, then each plugin with the extensions that it names, and in a second pass what plugins require.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from hostops.simulator.game import Game
from hostops.simulator.library_files import find_load_error
from hostops.simulator.metamod import ENGINE, cut_row
from hostops.simulator.plugin_files import PluginFile, PluginFileError, read_plugin_file

VERSION = "1.12.0.7210"
API = 7
"""SOURCEMOD_PLUGINAPI_VERSION: a plugin that was compiled for a higher one is refused."""

MAX_ROW_BYTES = 255
NOT_LOADED_FROM = ("disabled", "optional")

EXTENSION_NAMES = {
    "bintools": ("BinTools", "Low-level C/C++ Calling API"),
    "clientprefs": ("Client Preferences", "Saves client preference settings"),
    "dhooks": ("DHooks", "Dynamic Hooks"),
    "geoip": ("GeoIP", "Geographical IP information"),
    "sdkhooks": ("SDK Hooks", "Source SDK Hooks"),
    "sdktools": ("SDK Tools", "Source SDK Tools"),
    "topmenus": ("Top Menus", "Creates sorted nested menus"),
}
"""What the usual ones call themselves; of others only their code knows it."""


@dataclass
class Extension:
    """An extension as it is listed: `name` is that of its library, `error` empty of one that runs."""

    file: str
    path: Path
    is_required: bool
    error: str = ""

    @property
    def names(self) -> tuple[str, str]:
        """What it calls itself, and what it is for."""
        stem = self.file.partition(".ext")[0]
        return EXTENSION_NAMES.get(stem, (stem, "simulated"))


@dataclass
class Plugin:
    """A plugin as it is listed. `status` is empty of one that runs."""

    path: str
    facts: PluginFile | None
    status: str = ""
    error: str = ""
    libraries: set[str] = field(default_factory=set)

    def fail(self, status: str, error: str) -> None:
        """Take it out, for good."""
        self.status, self.error = status, error
        self.libraries.clear()

    @property
    def label(self) -> str:
        """Title, version and author as lists have them; the file of one that could not be read."""
        if self.facts is None:
            return self.path
        label = f'"{self.facts.title or self.path}"'
        label += f" ({self.facts.version})" if self.facts.version else ""
        return label + (f" by {self.facts.author}" if self.facts.author else "")


class SourceModContent:
    """The extensions and plugins of one game. A plugin that uses one of `missing_natives` does not load."""

    def __init__(self, game: Game, missing_natives: frozenset[str]) -> None:
        self._game = game
        self._dir = game.game_dir / "addons/sourcemod"
        self._missing_natives = missing_natives
        self._extensions: list[Extension] = []
        self._plugins: list[Plugin] = []

    def has_plugin(self, name: str) -> bool:
        """Whether a plugin runs, by its file without `.smx`."""
        return any(one.path == f"{name}.smx" and not one.status for one in self._plugins)

    def load(self) -> None:
        """Load everything, as it is done before the first map."""
        for path in sorted((self._dir / "extensions").glob("?*.autoload")):
            self._load_extension(f"{path.name.removesuffix('.autoload')}.ext", is_required=True)
        for path in _walk(self._dir / "plugins"):
            plugin = self._read(path)
            self._plugins.append(plugin)
            if plugin.status:
                self._log(f'[SM] Failed to load plugin "{plugin.path}": {plugin.error}.')
            elif plugin.facts:
                for one in plugin.facts.extensions:
                    if one.is_autoloaded:
                        self._load_extension(one.file, is_required=one.is_required)
        for plugin in self._plugins:
            lack = self._find_lack(plugin.facts, plugin) if plugin.facts else ""
            if lack and not plugin.status:
                plugin.fail("Failed", lack)
                self._log(f'[SM] Unable to load plugin "{plugin.path}": {lack}')

    def _read(self, path: Path) -> Plugin:
        name = path.relative_to(self._dir / "plugins").as_posix()
        try:
            facts = read_plugin_file(path)
        except PluginFileError as error:
            return Plugin(name, None, "Bad Load", f"Unable to load plugin ({error})")
        except OSError:
            return Plugin(name, None, "Bad Load", "Unable to open file")
        if facts.api > API:
            needed = f"Newer SourceMod required ({facts.made_with} or higher)"
            return Plugin(name, facts, "Failed", needed)
        # What it registers it says by its code; mostly it names what it is for itself, too.
        own = {one.name for one in facts.libraries if one.file == path.name}
        return Plugin(name, facts, libraries=own)

    def _find_lack(self, facts: PluginFile, plugin: Plugin) -> str:
        """Return why a plugin cannot go on after the first pass, in SourceMod's words; mostly nothing."""
        for one in facts.extensions:
            if one.is_required and not self._has_extension(one.file):
                return f'Required extension "{one.name}" file("{one.file}") not running'
        file = plugin.path.rpartition("/")[2]
        loaded = {name for other in self._plugins for name in other.libraries}
        for library in facts.libraries:
            if library.file != file and library.is_required and library.name not in loaded:
                return f'Could not find required plugin "{library.name}"'
        missing = next((one for one in facts.natives if one in self._missing_natives), None)
        return f'Native "{missing}" was not found' if missing else ""

    def _has_extension(self, file: str) -> bool:
        return any(one.file == file and not one.error for one in self._extensions)

    def _load_extension(self, file: str, *, is_required: bool) -> None:
        file = file.removesuffix(".so")
        if any(one.file == file for one in self._extensions):
            return
        folder = self._dir / "extensions"
        places = (folder / f"{file}.{ENGINE}.so", folder / f"auto.{file}/{ENGINE}.so")
        path = next((one for one in places if one.is_file()), folder / f"{file}.so")
        extension = Extension(file, path, is_required, find_load_error(path))
        self._extensions.append(extension)
        if extension.error and (is_required or path.is_file()):
            self._log(f'[SM] Unable to load extension "{file}": {extension.error}')

    def _log(self, text: str) -> None:
        """Print what SourceMod writes into its log of errors, as it echoes that to the console."""
        self._game.print(time.strftime("L %m/%d/%Y - %H:%M:%S: ") + text)

    # --- The command sm

    def run(self, arguments: list[str], _: str) -> None:
        """Carry out `sm`."""
        match arguments:
            case ["exts", "list", *_]:
                self._list_extensions()
            case ["plugins", "list", *_]:
                self._list_plugins()
            case ["plugins", "info", which, *_]:
                self._tell_plugin(which)
            case ["version", *_]:
                self._print(
                    " SourceMod Version Information:",
                    f"    SourceMod Version: {VERSION}",
                    "    SourcePawn Engine: 1.12.0.7210, jit-x86 (build 1.12.0.7210)",
                    "    SourcePawn API: v1 = 5, v2 = 16",
                    "    Compiled on: (simulated)",
                    "    http://www.sourcemod.net/",
                )
            case _:
                self._print(
                    "SourceMod Menu:",
                    "Usage: sm <command> [arguments]",
                    "    exts             - Manage extensions",
                    "    plugins          - Manage Plugins",
                    "    version          - Display version information",
                )

    def _list_extensions(self) -> None:
        count = len(self._extensions)
        if not count:
            self._print("[SM] No extensions are loaded.")
            return
        self._print(f"[SM] Displaying {count} extension{'' if count == 1 else 's'}:")
        for number, one in enumerate(self._extensions, 1):
            name, purpose = one.names
            if not one.error:
                self._print(f"[{number:02}] {name} ({VERSION}): {purpose}")
                continue
            status = "FAILED" if one.is_required or one.path.is_file() else "OPTIONAL"
            self._print(f'[{number:02}] <{status}> file "{one.path.name}": {one.error}')

    def _list_plugins(self) -> None:
        count = len(self._plugins)
        if not count:
            self._print("[SM] No plugins loaded")
            return
        self._print(f"[SM] Listing {count} plugin{'s' if count > 1 else ''}:")
        width = max(len(str(count)), 2)
        for number, one in enumerate(self._plugins, 1):
            status = f" <{one.status}>" if one.status else ""
            self._print(cut_row(f"  {number:0{width}}{status} {one.label}", MAX_ROW_BYTES))
        failed = [one for one in self._plugins if one.status]
        if failed:
            self._print("Errors:")
        for one in failed:
            title = f" ({one.facts.title})" if one.facts and one.facts.title else ""
            self._print(f"{one.path}{title}: {one.error}")

    def _tell_plugin(self, which: str) -> None:
        if which.isdigit():
            number = int(which)
            plugin = self._plugins[number - 1] if 0 < number <= len(self._plugins) else None
            unknown = f"[SM] Plugin index {number} not found."
        else:
            file = which if "." in which else f"{which}.smx"
            plugin = next((one for one in self._plugins if one.path == file), None)
            unknown = f"[SM] Plugin {file} is not loaded."
        if plugin is None:
            self._print(unknown)
            return
        self._print(f"  Filename: {plugin.path}")
        if plugin.facts is None:
            self._print(f"  Load error: {plugin.error}")
            return
        facts = plugin.facts
        for name, value in (
            ("Title", facts.title),
            ("Author", facts.author),
            ("Version", facts.version),
            ("URL", facts.url),
        ):
            if value:
                self._print(f"  {name}: {value}")
        self._print(f"  Error: {plugin.error}" if plugin.error else "  Status: running")

    def _print(self, *lines: str) -> None:
        for line in lines:
            self._game.print(line)


def _walk(folder: Path) -> Iterator[Path]:
    """Yield the plugins of a folder and those below it, in an order that stays the same."""
    try:
        entries = sorted(folder.iterdir())
    except OSError:
        return
    for path in entries:
        if path.is_dir():
            if path.name not in NOT_LOADED_FROM:
                yield from _walk(path)
        elif path.name.endswith(".smx"):
            yield path
