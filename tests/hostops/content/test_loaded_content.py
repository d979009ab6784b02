"""What overlays bring is compared with what a server says it has loaded; only its own words are reported."""

import os
import stat
from pathlib import Path

from hostops.content.loaded_content import (
    Ask,
    Expected,
    ExpectedPlugin,
    describe,
    find_expected,
    look_at_loaded,
)
from hostops.content.plugins import PLUGINS_DIR
from hostops.errors import HostError
from hostops.specs import LoadedCheck, LoadedKind, LoadedReport, NotLoaded
from tests.smx_files import make_plugin

READY = ExpectedPlugin("readyup.smx", "Ready-up", "9.2", "CanadaRox")
SKILL = ExpectedPlugin("stats/skill.smx", "Skill Detect", "1.0", "Tabun")
BROKEN = ExpectedPlugin("broken.smx")
EXPECTED = Expected(
    True, True, {"sourcemod.vdf": "addons/sourcemod/bin/sourcemod_mm"}, (READY, SKILL, BROKEN)
)
METAS = "Listing 1 plugin:\n  [01] SourceMod (1.12) by AlliedModders LLC\n"
EXTENSIONS = (
    "[SM] Displaying 3 extensions:\n[01] BinTools (1.12): x\n"
    '[02] <FAILED> file "dhooks.ext.so": wrong ELF class: ELFCLASS64\n'
    '[03] <OPTIONAL> file "updater.ext.so": cannot open\n'
)
FAILED = (
    '  03 <Failed> "Skill Detect" (1.0) by Tabun\n  02 <Bad Load> broken.smx\nErrors:\n'
    'stats/skill.smx (Skill Detect): Native "L4D2_Get" was not found\n'
    "broken.smx: Unable to load plugin (bad header)\n"
)
PLUGINS = f'[SM] Listing 3 plugins:\n  01 "Ready-up" (9.2) by CanadaRox\n{FAILED}'


def answering(**answers: str) -> Ask:
    """Return a function that answers as a server does; a command without a prepared answer is an error."""
    known = {
        "meta list": METAS,
        "sm exts list": EXTENSIONS,
        "sm plugins list": PLUGINS,
    } | {command.replace("_", " "): answer for command, answer in answers.items()}
    return lambda command: known[command]


def check_of(report: LoadedReport, kind: LoadedKind) -> LoadedCheck:
    (check,) = [one for one in report.checks if one.kind is kind]
    return check


def test_what_failed_is_told_with_what_the_server_says_of_it() -> None:
    report = look_at_loaded(EXPECTED, answering(), [])
    assert report == LoadedReport(
        (
            LoadedCheck(LoadedKind.METAMOD, 1),
            LoadedCheck(
                *(LoadedKind.EXTENSION, 2),
                (NotLoaded("dhooks.ext.so", "", "wrong ELF class: ELFCLASS64"),),
            ),
            LoadedCheck(
                *(LoadedKind.PLUGIN, 3),
                (
                    NotLoaded(SKILL.path, SKILL.title, 'Native "L4D2_Get" was not found'),
                    NotLoaded(BROKEN.path, "", "Unable to load plugin (bad header)"),
                ),
            ),
        )
    )
    assert list(describe(report)) == [
        ("stdout", "The plugin of MetaMod is loaded."),
        ("stderr", "1 of 2 extensions of SourceMod is not loaded."),
        ("stderr", "Not loaded: dhooks.ext.so: wrong ELF class: ELFCLASS64"),
        ("stderr", "2 of 3 plugins of SourceMod are not loaded."),
        ("stderr", 'Not loaded: stats/skill.smx (Skill Detect): Native "L4D2_Get" was not found'),
        ("stderr", "Not loaded: broken.smx: Unable to load plugin (bad header)"),
    ]


def test_a_plugin_that_no_list_names_is_asked_about() -> None:
    two = Expected(True, True, {}, (READY, SKILL, BROKEN))
    plugins = (
        '[SM] Listing 2 plugins:\n  1 "Ready-up" (9.2) by CanadaRox\n  2 Disabled: broken.smx\n'
    )

    def look(info: str) -> LoadedCheck:
        infos = {'sm plugins info "stats/skill.smx"': info, 'sm plugins info "broken.smx"': info}
        report = look_at_loaded(two, answering(sm_plugins_list=plugins, **infos), [])
        return check_of(report, LoadedKind.PLUGIN)

    gone = "SourceMod does not list it."
    assert (
        NotLoaded(SKILL.path, SKILL.title, gone)
        in look("[SM] Plugin x is not loaded.\n").not_loaded
    )
    assert look("  Filename: x\n  Status: running\n").not_loaded == ()
    puzzled = look("SourceMod Plugins Menu:\n")
    assert puzzled.not_loaded == ()
    assert puzzled.unknown == "Whether 2 of them are loaded is not known."


def test_a_plugin_that_disables_itself_is_no_failure_of_the_server() -> None:
    one = Expected(True, True, {}, (SKILL,))
    plugins = '[SM] Listing 1 plugin:\n  1 Disabled: "Skill Detect" (1.0) by Tabun\n'
    check = check_of(look_at_loaded(one, answering(sm_plugins_list=plugins), []), LoadedKind.PLUGIN)
    (missing,) = check.not_loaded
    assert "disabled itself" in missing.reason


def test_two_plugins_of_one_title_need_two_rows() -> None:
    twice = Expected(
        True, True, {}, (READY, ExpectedPlugin("copy.smx", "Ready-up", "9.2", "CanadaRox"))
    )
    plugins = '[SM] Listing 1 plugin:\n  1 "Ready-up" (9.2) by CanadaRox\n'
    info = {'sm plugins info "copy.smx"': "[SM] Plugin copy.smx is not loaded.\n"}
    report = look_at_loaded(twice, answering(sm_plugins_list=plugins, **info), [])
    assert [one.file for one in check_of(report, LoadedKind.PLUGIN).not_loaded] == ["copy.smx"]


def test_a_row_that_was_cut_is_still_the_one_of_its_plugin() -> None:
    long = ExpectedPlugin("long.smx", "x" * 200, "1.0", "é" * 100)
    row = f"  1 {long.label}".encode()[:255].decode("utf-8", "replace")
    report = look_at_loaded(
        Expected(True, True, {}, (long,)),
        answering(sm_plugins_list=f"[SM] Listing 1 plugin:\n{row}\n"),
        [],
    )
    check = check_of(report, LoadedKind.PLUGIN)
    assert (check.not_loaded, check.unknown) == ((), "")


def test_of_a_list_that_was_cut_only_what_it_says_is_told() -> None:
    cut = PLUGINS[: PLUGINS.find("broken.smx:")]

    def refuse(command: str) -> str:
        if command.startswith("sm plugins info"):
            raise HostError("It has taken too long.")
        return answering(sm_plugins_list=cut)(command)

    puzzled = answering(sm_plugins_list=cut, **{'sm plugins info "broken.smx"': "?"})
    for ask in (refuse, puzzled):
        check = check_of(look_at_loaded(EXPECTED, ask, []), LoadedKind.PLUGIN)
        assert [one.file for one in check.not_loaded] == ["stats/skill.smx"]
        unknown = "Whether 1 of them is loaded is not known. Not all of it could be looked at."
        assert check.unknown == unknown


def test_what_is_known_stays_if_a_later_question_fails() -> None:
    def refuse(command: str) -> str:
        if command == "sm plugins list":
            raise HostError("It has taken too long.")
        return answering()(command)

    report = look_at_loaded(EXPECTED, refuse, [])
    assert [one.kind for one in report.checks] == [LoadedKind.METAMOD, LoadedKind.EXTENSION]
    assert report.unasked == "It has taken too long."
    last = list(describe(report))[-1]
    assert last == ("stdout", "What is loaded is not fully known. It has taken too long.")


def test_without_metamod_nothing_is() -> None:
    unknown = answering(meta_list='Unknown command "meta"\n')
    report = look_at_loaded(EXPECTED, unknown, [])
    assert [one.missing_count for one in report.checks] == [1, 3]
    assert "its console does not know the command meta" in report.checks[0].none_because
    bare = look_at_loaded(Expected(False, True, {}, (READY,)), unknown, [])
    assert "None of the server’s overlays brings addons/metamod.vdf" in bare.checks[0].none_because
    assert list(describe(bare))[1] == (
        *("stderr",),
        "SourceMod needs MetaMod, which is not loaded. The plugin of SourceMod is not loaded either.",
    )


def test_a_plugin_of_metamod_is_named_with_what_the_console_said() -> None:
    metas = "Listing 2 plugins:\n  [01] <FAILED>\n  [02] <NOFILE>\n"
    infos = {
        "meta info 1": "Plugin 1 is not loaded.\nFile: /g/addons/sourcemod/bin/sourcemod_mm_i486.so\n",
        "meta info 2": "Plugin 2 is not loaded.\nFile: /g/addons/x/x.so\n",
    }
    line = (
        "L 11/26/2026 - 21:00:00: [META] Failed to load plugin addons/sourcemod/bin/sourcemod_mm: "
        "/g/sourcemod.2.l4d2.so: cannot open shared object file: No such file or directory"
    )
    report = look_at_loaded(
        EXPECTED,
        answering(meta_list=metas, sm_exts_list='Unknown command "sm"\n', **infos),
        [line],
    )
    sourcemod, other = check_of(report, LoadedKind.METAMOD).not_loaded
    assert sourcemod.file == "left4dead2/addons/metamod/sourcemod.vdf"
    assert sourcemod.reason.endswith("cannot open shared object file: No such file or directory")
    assert other == NotLoaded(
        "/g/addons/x/x.so", "", "The library that its .vdf names is not there."
    )
    assert check_of(report, LoadedKind.PLUGIN).none_because == "SourceMod itself is not loaded."


def test_a_plugin_of_metamod_that_it_does_not_list_is_told() -> None:
    expected = Expected(True, False, {"a.vdf": "addons/a/a_mm", "b.vdf": "addons/b/b_mm"})
    infos = {"meta info 1": "Plugin 1 is running.\nFile: /g/addons/b/b_mm_i486.so\n"}
    metas = "Listing 1 plugin:\n  [01] B (1)\n"
    (check,) = look_at_loaded(expected, answering(meta_list=metas, **infos), []).checks
    assert [(one.file, one.reason) for one in check.not_loaded] == [
        ("left4dead2/addons/metamod/a.vdf", "MetaMod does not list it.")
    ]


def test_what_a_server_answers_in_the_place_of_a_list_is_quoted_and_cut() -> None:
    report = look_at_loaded(EXPECTED, answering(sm_plugins_list="\x1b[2Jno " + "x" * 9_000), [])
    unknown = check_of(report, LoadedKind.PLUGIN).unknown
    assert unknown.startswith("The server answered with no list, but “[2Jno xxx")
    assert len(unknown) < 400


def test_what_is_loaded_by_itself_is_expected_unless_the_server_has_removed_it(
    tmp_path: Path,
) -> None:
    def put(layer: str, path: str, content: bytes = b"") -> None:
        file = tmp_path / layer / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)

    plugin = make_plugin(("Ready-up", "", "CanadaRox", "9.2", ""))
    put("pack", f"{PLUGINS_DIR}/readyup.smx", plugin)
    put("pack", f"{PLUGINS_DIR}/disabled/off.smx", plugin)
    put("pack", f"{PLUGINS_DIR}/sub/optional/off.smx", plugin)
    put("pack", f"{PLUGINS_DIR}/sub/broken.smx")
    put("sm", f"{PLUGINS_DIR}/readyup.smx", make_plugin(("Older", "", "", "", "")))
    put("sm", "left4dead2/addons/sourcemod/bin/sourcemod_mm_i486.so")
    put("sm", "left4dead2/addons/metamod.vdf")
    vdf = b'"Metamod Plugin"\n{\n\t"alias"\t"sourcemod"\n\t"file"\t"addons/sourcemod/bin/sourcemod_mm"\n}\n'
    put("sm", "left4dead2/addons/metamod/sourcemod.vdf", vdf)
    put("pack", f"{PLUGINS_DIR}/removed.smx", plugin)
    whiteout = tmp_path / "upper" / PLUGINS_DIR / "removed.smx"
    whiteout.parent.mkdir(parents=True)
    os.mknod(whiteout, stat.S_IFCHR | 0o600, 0)
    stack = [tmp_path / "pack", tmp_path / "sm", tmp_path / "gone"]
    expected = find_expected(stack[:2], tmp_path / "upper", tmp_path)
    assert expected == Expected(
        *(True, True, {"sourcemod.vdf": "addons/sourcemod/bin/sourcemod_mm"}),
        (READY, ExpectedPlugin("sub/broken.smx")),
    )
    put("tree", f"{PLUGINS_DIR}/readyup.smx", plugin)
    copied = find_expected(stack[:2], tmp_path / "tree", tmp_path, is_copy=True)
    assert copied.plugins == (READY,)
    assert not find_expected(stack, tmp_path / "upper", tmp_path).are_all
    assert find_expected([], tmp_path / "upper", tmp_path).is_empty
