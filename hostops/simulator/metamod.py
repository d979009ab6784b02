"""The simulated server's MetaMod:Source: which of its plugins are loaded, and its command `meta`.

The engine loads it if `addons/metamod.vdf` names it. It has a part for each engine; the one for this game is
`metamod.2.l4d2.so`. Its plugins are those of `addons/metamod/*.vdf` and of metaplugins.ini. MetaMod loads
them with the dynamic loader: whatever that would refuse is refused here too. None of their code is run.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from hostops.simulator.game import Game
from hostops.simulator.library_files import find_load_error

VERSION = "1.12.0-dev+1219"
MAX_ROW_BYTES = 255
"""MetaMod's buffer for a row of `meta list`."""

MAX_VDF_BYTES = 64 * 1024
ENGINE = "2.l4d2"
"""The suffix of libraries made for this game's engine: x.2.l4d2.so."""

SOURCEMOD = "sourcemod"
NAMES = {SOURCEMOD: "SourceMod (1.12.0.7210) by AlliedModders LLC"}

_FILE = re.compile(r'"file"\s+"([^"]*)"', re.IGNORECASE)
_OTHER_ENGINE = re.compile(r"\.2\.(?!l4d2\b)\w+$")

HELP = (
    "Metamod:Source Menu",
    "usage: meta <command> [arguments]",
    "  credits      - About Metamod:Source",
    "  info         - Information about a plugin",
    "  list         - List plugins",
    "  version      - Version information",
)


@dataclass(frozen=True)
class MetaPlugin:
    """A plugin as MetaMod lists it: `status` is empty if it runs."""

    file: Path
    status: str = ""

    @property
    def stem(self) -> str:
        """Its name without the usual parts of a library's name: `sourcemod` for sourcemod_mm_i486.so."""
        return self.file.name.partition(".")[0].removesuffix("_i486").removesuffix("_mm").lower()

    @property
    def name(self) -> str:
        """What it calls itself, which only its code knows."""
        return NAMES.get(self.stem, self.stem)


class MetaMod:
    """MetaMod in one game."""

    def __init__(self, game: Game) -> None:
        self._game = game
        self._plugins: list[MetaPlugin] = []
        self.is_loaded = False

    @property
    def has_sourcemod(self) -> bool:
        """Whether SourceMod runs, which is one of its plugins."""
        return any(one.stem == SOURCEMOD and not one.status for one in self._plugins)

    def load(self) -> None:
        """Start, if a .vdf tells the game to, and load the plugins."""
        game_dir = self._game.game_dir
        file = _read_file(game_dir / "addons/metamod.vdf")
        if not file:
            return
        library = _find_library(game_dir, file)
        if find_load_error(library):
            self._game.print(f'Unable to load plugin "{file}"')
            return
        # MetaMod's own loader: its part for each engine is beside it.
        if error := find_load_error(library.parent / f"metamod.{ENGINE}.so"):
            self._game.print(f"MMS: Fatal error: Detected engine 7 but could not load: {error}")
            return
        self.is_loaded = True
        for name, path in self._find_plugins():
            plugin, error = _load(path)
            self._plugins.append(plugin)
            if error:
                self._game.log.write(f"[META] Failed to load plugin {name}: {error}")
        count = sum(not one.status for one in self._plugins)
        self._game.log.write(f"[META] Loaded {count} plugin{'' if count == 1 else 's'}.")

    def _find_plugins(self) -> Iterator[tuple[str, Path]]:
        game_dir = self._game.game_dir
        folder = game_dir / "addons/metamod"
        try:
            text = (folder / "metaplugins.ini").read_text(encoding="utf-8", errors="replace")
        except OSError:
            text = ""
        for line in text.splitlines():
            if (words := line.split()) and not line.strip().startswith((";", "//")):
                yield words[-1].strip('"'), _find_library(game_dir, words[-1].strip('"'))
        # readdir(3) gives them in no order.
        for path in sorted(folder.glob("*.vdf")):
            if file := _read_file(path):
                yield file, _find_library(game_dir, file)

    def run(self, arguments: list[str], _: str) -> None:
        """Carry out `meta`."""
        match arguments:
            case ["list", *_]:
                self._list()
            case ["version", *_]:
                for line in (
                    " Metamod:Source Version Information",
                    f"    Metamod:Source version {VERSION}",
                    "    Plugin interface version: 17:14",
                    "    SourceHook version: 5:5",
                    "    Loaded As: Valve Server Plugin",
                    "    Compiled on: (simulated)",
                    "    http://www.metamodsource.net/",
                ):
                    self._game.print(line)
            case ["info", number, *_]:
                self._tell(number)
            case ["info"]:
                self._game.print("Usage: meta info <id>")
            case _:
                for line in HELP:
                    self._game.print(line)

    def _list(self) -> None:
        count = len(self._plugins)
        if not count:
            self._game.print("No plugins loaded.")
            return
        self._game.print(f"Listing {count} plugin{'s' if count > 1 else ''}:")
        for number, one in enumerate(self._plugins, 1):
            # A plugin that is not loaded has no name.
            row = f"  [{number:02}] <{one.status}>" if one.status else f"  [{number:02}] {one.name}"
            self._game.print(cut_row(row, MAX_ROW_BYTES))

    def _tell(self, text: str) -> None:
        number = int(text) if text.isdigit() else 0
        if not 0 < number <= len(self._plugins):
            self._game.print(f"Plugin {number} not found.")
            return
        plugin = self._plugins[number - 1]
        if plugin.status:
            self._game.print(f"Plugin {number} is not loaded.")
        else:
            self._game.print(f"Plugin {number} is running.")
            self._game.print(f'  Name: "{plugin.name}"')
        self._game.print(f"File: {plugin.file}")
        self._game.print("")


def cut_row(row: str, max_bytes: int) -> str:
    """Return a row as a buffer of that size has it, cut wherever that falls."""
    return row.encode("utf-8", "surrogateescape")[:max_bytes].decode("utf-8", "surrogateescape")


def _load(path: Path) -> tuple[MetaPlugin, str]:
    """Return the outcome of loading a plugin, and its error."""
    if path.suffix != ".so":
        return MetaPlugin(path, "NOFILE"), "File type not supported"
    if not path.is_file():
        return MetaPlugin(path, "NOFILE"), f"File not found: {path}"
    if error := find_load_error(path):
        return MetaPlugin(path, "ERROR"), error
    if _OTHER_ENGINE.search(path.stem):
        # It asks the engine for something of which this one has another version (SDK, GET_V_IFACE_CURRENT).
        return MetaPlugin(path, "FAILED"), "Could not find interface: VEngineServer023"
    plugin = MetaPlugin(path)
    is_loader = any(path.parent.glob(f"{plugin.stem}.2.*.so")) or plugin.stem == SOURCEMOD
    if is_loader and (error := find_load_error(path.parent / f"{plugin.stem}.{ENGINE}.so")):
        return MetaPlugin(path, "FAILED"), error
    return plugin, ""


def _find_library(game_dir: Path, file: str) -> Path:
    """Return the library that a .vdf means: it omits the suffix that Linux adds."""
    path = game_dir / file.replace("\\", "/")
    if path.suffix:
        return path
    usual = path.with_name(f"{path.name}_i486.so")
    return usual if usual.is_file() else path.with_name(f"{path.name}.so")


def _read_file(vdf: Path) -> str:
    try:
        with vdf.open("rb") as file:
            text = file.read(MAX_VDF_BYTES).decode("utf-8", "replace")
    except OSError:
        return ""
    match = _FILE.search(text)
    return match[1] if match else ""
