"""The lists of MetaMod and SourceMod are parsed, whatever strangers' plugins print instead."""

import time

import pytest

from hostops.query.plugin_lists import (
    MOST_ROWS,
    ListedExtension,
    ListedPlugin,
    MetaPlugin,
    PluginError,
    PluginInfo,
    is_unknown_command,
    parse_extension_list,
    parse_meta_file,
    parse_meta_list,
    parse_plugin_info,
    parse_plugin_list,
)

META = """Listing 5 plugins:
  [01] SourceMod (1.12.0.7210) by AlliedModders LLC
  [02] <FAILED>
  [03] <ERROR> Stripper (1.2.2) by BAILOPAN
  [04] <NOFILE>
  [05] L4DToolZ (2.4.0) by "lakwsh" <x@example.org>
"""
EXTENSIONS = """[SM] Displaying 4 extensions:
[01] Automatic Updater (1.12.0.7210): Updates SourceMod gamedata files
[02] BinTools (1.12.0.7210): Low-level C/C++ Calling API
[03] <FAILED> file "imatchext.ext.2.l4d2.so": /lib/i386-linux-gnu/libc.so.6: version `GLIBC_2.33' not found
[04] <OPTIONAL> file "updater.ext.so": cannot open shared object file: No such file or directory
"""
PLUGINS = """[SM] Listing 7 plugins:
  01 "Ready-up" (9.2) by CanadaRox, Target
  02 <Failed> "Skill Detect" (1.0) by Tabun
  03 <Bad Load> broken.smx
  04 Disabled: "Rank" (2.0)
  05 "He said "hi" (2)" (1.0) by "Bob" (and) others
  06 <Error> "Left 4 DHooks" (1.1)
  07 plain.smx
Errors:
stats/skill_detect.smx (Skill Detect): Native "L4D2_IsTankInPlay" was not found
broken.smx: Unable to load plugin (bad header)
left4dhooks.smx (Left 4 DHooks): Required extension "dhooks" file("dhooks.ext") not running
"""


def test_the_lists_are_read_with_their_failures() -> None:
    metas = parse_meta_list(META)
    assert metas
    assert metas.is_whole
    assert metas.plugins[:4] == (
        MetaPlugin(1, "", "SourceMod (1.12.0.7210) by AlliedModders LLC"),
        MetaPlugin(2, "FAILED"),
        MetaPlugin(3, "ERROR", "Stripper (1.2.2) by BAILOPAN"),
        MetaPlugin(4, "NOFILE"),
    )
    extensions = parse_extension_list(EXTENSIONS)
    assert extensions
    assert extensions.is_whole
    assert [one.status for one in extensions.extensions] == ["", "", "FAILED", "OPTIONAL"]
    reason = "/lib/i386-linux-gnu/libc.so.6: version `GLIBC_2.33' not found"
    failed = ListedExtension("FAILED", "imatchext.ext.2.l4d2.so", reason)
    assert extensions.extensions[2] == failed
    plugins = parse_plugin_list(PLUGINS)
    assert plugins
    assert plugins.is_whole
    assert [(one.status, one.label) for one in plugins.plugins] == [
        ("", '"Ready-up" (9.2) by CanadaRox, Target'),
        ("Failed", '"Skill Detect" (1.0) by Tabun'),
        ("Bad Load", "broken.smx"),
        ("", '"Rank" (2.0)'),
        ("", '"He said "hi" (2)" (1.0) by "Bob" (and) others'),
        ("Error", '"Left 4 DHooks" (1.1)'),
        ("", "plain.smx"),
    ]
    assert [one.has_disabled_itself for one in plugins.plugins].index(True) == 3
    native = 'Native "L4D2_IsTankInPlay" was not found'
    assert plugins.errors == (
        PluginError("stats/skill_detect.smx", "Skill Detect", native),
        PluginError("broken.smx", "", "Unable to load plugin (bad header)"),
        PluginError(
            *("left4dhooks.smx", "Left 4 DHooks"),
            'Required extension "dhooks" file("dhooks.ext") not running',
        ),
    )


def test_that_nothing_is_loaded_is_a_list_too() -> None:
    metas = parse_meta_list("No plugins loaded.\n")
    extensions = parse_extension_list("[SM] No extensions are loaded.\r\n")
    plugins = parse_plugin_list("[SM] No plugins loaded\n")
    assert metas
    assert extensions
    assert plugins
    assert (metas.plugins, metas.is_whole) == ((), True)
    assert (extensions.extensions, extensions.is_whole) == ((), True)
    assert (plugins.plugins, plugins.is_whole) == ((), True)


@pytest.mark.parametrize(
    "answer",
    [
        "",
        'Unknown command "sm"\n',
        "You must change the map to activate Metamod:Source.\n",
        "SourceMod Menu:\nUsage: sm <command> [arguments]\n",
        "  01 x\nErrors:\n",
    ],
)
def test_what_is_no_list_is_none(answer: str) -> None:
    assert parse_meta_list(answer) is None
    assert parse_extension_list(answer) is None
    assert parse_plugin_list(answer) is None


def test_a_list_that_was_cut_is_not_whole() -> None:
    for cut in (PLUGINS.find("  07"), PLUGINS.find("Errors"), PLUGINS.rfind("left4dhooks")):
        plugins = parse_plugin_list(PLUGINS[:cut])
        assert plugins
        assert not plugins.is_whole
    metas = parse_meta_list(META[:-60])
    extensions = parse_extension_list(EXTENSIONS[:150])
    assert metas
    assert extensions
    assert not metas.is_whole
    assert not extensions.is_whole


def test_a_row_that_sourcemod_may_have_cut_says_so() -> None:
    row = '  1 "' + "é" * 150
    plugins = parse_plugin_list(f"[SM] Listing 2 plugins:\n{row[:130]}\n  2 plain.smx\n")
    assert plugins
    assert [one.is_cut for one in plugins.plugins] == [True, False]


def test_what_a_plugin_is_called_reaches_no_page_as_it_is() -> None:
    plugins = parse_plugin_list('[SM] Listing 1 plugin:\n  01 "a\x1b[2J\u202e  b\t"\n')
    assert plugins
    assert plugins.plugins == (ListedPlugin("", '"a [2J b "'),)


@pytest.mark.parametrize(
    "flood",
    [
        "x" * 60_000,
        "[SM] Listing 999999 plugins:\n" + "  1 a\n" * 60_000,
        "[SM] Listing 2 plugins:\nErrors:\n" + "x.smx (" * 60_000,
        "[SM] Listing 2 plugins:\nErrors:\n" + ("x.smx (" * 140 + "\n") * 400,
        "[SM] Displaying 2 extensions:\n" + ('[1] <FAILED> file "' + '": ' * 330 + "\n") * 400,
        "Listing 2 plugins:\n" + ("[01] <FAILED> " + " " * 1_000 + "\n") * 400,
    ],
)
def test_a_flood_takes_no_longer_than_a_long_list(flood: str) -> None:
    began = time.process_time()
    plugins = parse_plugin_list(flood)
    parse_extension_list(flood)
    parse_meta_list(flood)
    assert time.process_time() - began < 1.0
    if plugins:
        assert len(plugins.plugins) <= MOST_ROWS
        assert not plugins.is_whole


def test_one_plugin_and_one_file_are_read() -> None:
    info = "  Filename: x.smx\n  Title: X\n  Author: me\n  Status: running\n"
    assert parse_plugin_info(info) == PluginInfo(is_running=True)
    error = '  Filename: x.smx\n  Title: X\n  Error: Native "Y" was not found\n'
    assert parse_plugin_info(error) == PluginInfo(False, 'Native "Y" was not found')
    load = "  Filename: x.smx\n  Load error: Unable to load plugin (bad header)\n"
    assert parse_plugin_info(load) == PluginInfo(False, "Unable to load plugin (bad header)")
    gone = PluginInfo(is_running=False)
    assert parse_plugin_info("[SM] Plugin a/x.smx is not loaded.\n") == gone
    assert parse_plugin_info("SourceMod Plugins Menu:\n") is None
    assert (
        parse_meta_file("Plugin 2 is not loaded.\nFile: /srv/a/b_i486.so\n\n") == "/srv/a/b_i486.so"
    )
    assert parse_meta_file("Plugin 2 not found.\n") == ""


def test_only_the_command_that_was_asked_for_is_unknown() -> None:
    assert is_unknown_command('Unknown command "sm"\n', "sm")
    assert is_unknown_command("Unknown command: meta\n", "meta")
    assert not is_unknown_command('Unknown command "sm_psay"\n', "sm")
    assert not is_unknown_command(PLUGINS, "sm")
