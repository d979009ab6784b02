"""MetaMod and SourceMod load what they find, fail as the real ones do, and their lists can be parsed."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from hostops.query.plugin_lists import (
    MetaPlugin,
    is_unknown_command,
    parse_extension_list,
    parse_meta_file,
    parse_meta_list,
    parse_plugin_info,
    parse_plugin_list,
)
from hostops.simulator.commands import Commands
from hostops.simulator.game import Game
from hostops.simulator.library_files import own_glibc
from tests.elf_files import make_library
from tests.smx_files import make_plugin
from tests.sourcemod_files import FILES, LIBRARY, lay_out_sourcemod

DHOOKS = ("dhooks", "dhooks.ext", True)
TOPMENUS = ("TopMenus", "topmenus.ext", False)
NEWER = f"GLIBC_{own_glibc()[0]}.{own_glibc()[1] + 1}"
EXTENSIONS = "sourcemod/extensions"


class Console:
    """The console of a game that has just begun, without its process."""

    def __init__(self, game_dir: Path, missing_natives: frozenset[str] = frozenset()) -> None:
        self.printed: list[str] = []
        self._game = Game(game_dir, self.printed.append)
        self._commands = Commands(self._game, lambda: None, missing_natives=missing_natives)
        self._commands.load_plugins()

    def ask(self, command: str) -> str:
        return self._game.capture(lambda: self._commands.run(command))


def put(game_dir: Path, files: Mapping[str, bytes]) -> None:
    for path, content in files.items():
        file = game_dir / "addons" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)


def make_vdf(file: str) -> bytes:
    return f'"Metamod Plugin"\n{{\n\t"file"\t"{file}"\n}}\n'.encode()


def plugin(title: str, **needs: object) -> bytes:
    return make_plugin((title, "", "", "", ""), **needs)  # type: ignore[arg-type]


def test_plugins_load_or_fail_as_sourcemod_has_it(tmp_path: Path) -> None:
    lay_out_sourcemod(
        tmp_path / "addons",
        {
            "a-needy.smx": plugin("Needy", libraries=[("hooks", "hooks.smx", True)]),
            "disabled/off.smx": b"",
            "sub/optional/off.smx": b"",
            "notes.txt": b"",
            "hooks.smx": plugin("Hooks", libraries=[("hooks", "hooks.smx", True)]),
            "sub/cut.smx": plugin("Cut")[:-3],
            "sub/lone.smx": plugin("Lone", libraries=[("stats", "stats.smx", True)]),
            "t-bare.smx": plugin("Bare", extensions=[DHOOKS, TOPMENUS]),
            "u-empty.smx": b"",
            "v-code.smx": plugin("Code", code_version=14),
            "w-api.smx": plugin("Api", api=8),
            "x-native.smx": plugin("Native", natives=["GetMaxHumanPlayers", "L4D2_Get"]),
            "y-good.smx": make_plugin(('A "good" one', "", '"Bob" (x)', "1", "")),
        },
    )
    console = Console(tmp_path, frozenset({"L4D2_Get"}))
    listed = parse_plugin_list(console.ask("sm plugins list"))
    assert listed
    assert listed.is_whole
    assert [(one.status, one.label) for one in listed.plugins] == [
        ("", '"Needy"'),
        ("", '"Hooks"'),
        ("Bad Load", "sub/cut.smx"),
        ("Failed", '"Lone"'),
        ("Failed", '"Bare"'),
        ("Bad Load", "u-empty.smx"),
        ("Bad Load", "v-code.smx"),
        ("Failed", '"Api"'),
        ("Failed", '"Native"'),
        ("", '"A "good" one" (1) by "Bob" (x)'),
    ]
    assert {one.file: one.reason for one in listed.errors} == {
        "sub/cut.smx": "Unable to load plugin (illegal disk size)",
        "sub/lone.smx": 'Could not find required plugin "stats"',
        "t-bare.smx": 'Required extension "dhooks" file("dhooks.ext") not running',
        "u-empty.smx": "Unable to load plugin (bad header)",
        "v-code.smx": "Unable to load plugin (code version is too new, not supported)",
        "w-api.smx": "Newer SourceMod required (1.13.0 or higher)",
        "x-native.smx": 'Native "L4D2_Get" was not found',
    }
    info = parse_plugin_info(console.ask('sm plugins info "sub/lone.smx"'))
    assert info
    assert info.reason == 'Could not find required plugin "stats"'
    running = parse_plugin_info(console.ask("sm plugins info y-good"))
    assert running
    assert running.is_running
    gone = parse_plugin_info(console.ask("sm plugins info off.smx"))
    assert gone
    assert not gone.is_running
    said = "\n".join(console.printed)
    assert '[SM] Unable to load plugin "x-native.smx": Native "L4D2_Get" was not found' in said
    assert '[SM] Failed to load plugin "sub/cut.smx": Unable to load plugin (illegal disk' in said


def test_extensions_are_loaded_if_something_wants_them(tmp_path: Path) -> None:
    lay_out_sourcemod(tmp_path / "addons", {"a.smx": plugin("A", extensions=[DHOOKS, TOPMENUS])})
    put(
        tmp_path,
        {
            f"{EXTENSIONS}/dhooks.ext.2.l4d2.so": make_library(NEWER),
            f"{EXTENSIONS}/dhooks.ext.so": LIBRARY,
            f"{EXTENSIONS}/auto.sdktools.ext/2.l4d2.so": LIBRARY,
            f"{EXTENSIONS}/sdktools.autoload": b"",
            f"{EXTENSIONS}/wide.ext.so": make_library(bits=64),
            f"{EXTENSIONS}/wide.autoload": b"",
            f"{EXTENSIONS}/unwanted.ext.so": b"",
        },
    )
    listed = parse_extension_list(Console(tmp_path).ask("sm exts list"))
    assert listed
    assert listed.is_whole
    sdktools, wide, dhooks, topmenus = listed.extensions
    assert sdktools.text.startswith("SDK Tools (")
    assert (wide.status, wide.file) == ("FAILED", "wide.ext.so")
    assert wide.text.endswith("wrong ELF class: ELFCLASS64")
    assert (dhooks.status, dhooks.file) == ("FAILED", "dhooks.ext.2.l4d2.so")
    assert f"version `{NEWER}' not found (required by " in dhooks.text
    assert (topmenus.status, topmenus.file) == ("OPTIONAL", "topmenus.ext.so")


def test_plugins_of_metamod_fail_as_it_has_it(tmp_path: Path) -> None:
    put(
        tmp_path,
        {
            **FILES,
            "metamod/a.vdf": make_vdf("addons/a/a_mm"),
            "metamod/b.vdf": make_vdf("addons/b/b.2.csgo.so"),
            "b/b.2.csgo.so": LIBRARY,
            "b/b.2.l4d2.so": LIBRARY,
            "metamod/c.vdf": make_vdf("addons/c/c_mm"),
            "c/c_mm.so": b"MZ" * 100,
            "metamod/d.vdf": b"not a vdf",
            "metamod/e.vdf": make_vdf("addons/e/e_mm"),
            "e/e_mm_i486.so": LIBRARY,
            "e/e.2.tf2.so": LIBRARY,
            "metamod/metaplugins.ini": b"; none\naddons/f/f_mm\n",
            "f/f_mm_i486.so": LIBRARY,
        },
    )
    (tmp_path / "addons/sourcemod/bin/sourcemod.2.l4d2.so").unlink()
    console = Console(tmp_path)
    listed = parse_meta_list(console.ask("meta list"))
    assert listed
    assert listed.is_whole
    assert listed.plugins == (
        MetaPlugin(1, "", "f"),
        MetaPlugin(2, "NOFILE"),
        MetaPlugin(3, "FAILED"),
        MetaPlugin(4, "ERROR"),
        MetaPlugin(5, "FAILED"),
        MetaPlugin(6, "FAILED"),
    )
    file = parse_meta_file(console.ask("meta info 6"))
    assert file == str(tmp_path / "addons/sourcemod/bin/sourcemod_mm_i486.so")
    (line,) = [one for one in console.printed if "plugin addons/sourcemod" in one]
    assert line.endswith(
        "sourcemod.2.l4d2.so: cannot open shared object file: No such file or directory"
    )
    assert is_unknown_command(console.ask("sm plugins list"), "sm")


@pytest.mark.parametrize(
    "missing", ["metamod.vdf", "metamod/bin/server.so", "metamod/bin/metamod.2.l4d2.so"]
)
def test_without_metamod_its_commands_are_unknown(tmp_path: Path, missing: str) -> None:
    lay_out_sourcemod(tmp_path / "addons", {})
    loaded = Console(tmp_path)
    assert "SourceMod Version" in loaded.ask("sm version")
    assert "Metamod:Source version" in loaded.ask("meta version")
    (tmp_path / "addons" / missing).unlink()
    console = Console(tmp_path)
    assert is_unknown_command(console.ask("meta list"), "meta")
    assert is_unknown_command(console.ask("sm version"), "sm")
