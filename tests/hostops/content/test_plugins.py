"""What compiled plugins say about themselves is read, whatever strangers have put into them."""

import random
import struct
import time
import zlib
from pathlib import Path

import pytest

from hostops.content import plugins
from hostops.content.overlay_reports import report_overlay
from hostops.content.plugins import PLUGINS_DIR, list_plugins, read_plugin
from hostops.linux import untrusted
from hostops.specs import PluginExtension, PluginFacts, PluginLibrary, PluginNeeds
from tests.smx_files import make_plugin, pack

SDKTOOLS = ("SDKTools", "sdktools.ext", True)
TOPMENUS = ("TopMenus", "topmenus.ext", False)
HOOKS = ("left4dhooks", "left4dhooks.smx", True)
OWN = ("readyup", "readyup.smx", True)


def lay_out(overlay: Path, **files: bytes) -> Path:
    for name, content in files.items():
        path = overlay / PLUGINS_DIR / name.replace("__", "/").replace("_smx", ".smx")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return overlay


@pytest.mark.parametrize("compression", [0, 1])
def test_a_plugin_says_what_it_is_and_needs(compression: int) -> None:
    data = make_plugin(
        extensions=[SDKTOOLS, TOPMENUS], libraries=[HOOKS, OWN], compression=compression
    )
    facts = PluginFacts(
        title="Title",
        author="An author",
        version="1.2",
        description="What it does",
        url="https://example.org",
        extensions=(PluginExtension(*SDKTOOLS), PluginExtension(*TOPMENUS)),
        libraries=(PluginLibrary(*HOOKS),),
        provides=("readyup",),
    )
    assert read_plugin(data, "ReadyUp.smx") == facts
    unnamed = read_plugin(data)
    assert (unnamed.libraries[1], unnamed.provides) == (PluginLibrary(*OWN), ())


def test_a_plugin_that_says_nothing_of_itself_has_no_name() -> None:
    assert read_plugin(make_plugin(())) == PluginFacts("")


def test_what_it_says_can_stand_on_a_page() -> None:
    facts = read_plugin(make_plugin(("a\x1b[2J\n\u202eb", "x" * 10_000, "", "", "")))
    assert facts.title.isprintable()
    assert len(facts.description) == 256


GOOD = make_plugin(extensions=[SDKTOOLS])


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "cut short"),
        (GOOD[:20], "cut short"),
        (GOOD[:60], "cut short"),
        (GOOD[:-1], "not have as many bytes as it claims"),
        (GOOD + bytes(plugins.MAX_FILE_BYTES), "more than 8,388,608 bytes"),
        (b"MZ" + GOOD, "begins with other bytes"),
        (GOOD[:6] + b"\x07" + GOOD[7:], "an unknown way"),
        (GOOD[:11] + b"\xff\xff\xff\x7f" + GOOD[15:], "claims to have 2,147,483,647"),
        (GOOD[:11] + b"\x01\x00\x00\x00" + GOOD[15:], "smaller than its own header"),
        (GOOD[:20] + b"\xff\xff\xff\xff" + GOOD[24:], "ends before its data begin"),
        (GOOD[:28] + b"\xff\xff\xff\xff" + GOOD[32:], "past its end"),
        (pack({b".names": b""}), "has no data"),
        (GOOD[:-20] + bytes(20), "is damaged"),
    ],
)
def test_what_is_wrong_with_a_plugin_is_told(data: bytes, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        read_plugin(data)


def test_a_plugin_that_unpacks_to_more_than_it_says_is_not_unpacked() -> None:
    bomb = zlib.compress(bytes(100 * 1024**2), 9)
    head = struct.pack("<IHBIIBII", 0x53504646, 0x0102, 1, 24 + len(bomb), 24 + 1000, 0, 24, 24)
    began = time.process_time()
    with pytest.raises(ValueError, match="not have as many bytes"):
        read_plugin(head + bomb)
    assert (
        time.process_time() - began < 0.05
    )  # All of it would take a tenth of a second, and 100 MiB.


def test_no_bytes_raise_anything_but_value_error() -> None:
    dice = random.Random(11)
    whole = make_plugin(extensions=[SDKTOOLS] * 3, libraries=[HOOKS] * 3, compression=0)
    broken = 0
    for _ in range(500):
        data = bytearray(whole)
        for _ in range(dice.randrange(1, 6)):
            data[dice.randrange(len(data))] = dice.choice([0, 1, 127, 255, dice.randrange(256)])
        try:
            read_plugin(bytes(data))
        except ValueError:
            broken += 1
    assert broken


def test_plugins_of_an_overlay_are_listed_within_bounds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lay_out(tmp_path, a_smx=GOOD, disabled__b_smx=GOOD, c_smx=b"", readme=b"")
    (tmp_path / PLUGINS_DIR / "link.smx").symlink_to("/etc/passwd")
    with untrusted.open_folder(tmp_path, tmp_path) as folder:
        found, are_all = list_plugins(folder)
        monkeypatch.setattr(plugins, "MAX_PLUGINS", 2)
        some, are_some_all = list_plugins(folder)
    assert are_all
    told = {one.path: (one.is_loaded, bool(one.facts), one.fault) for one in found}
    assert told["a.smx"] == (True, True, "")
    assert told["disabled/b.smx"] == (False, True, "")
    assert told["c.smx"] == (True, False, "is cut short: it ends within its header.")
    assert "symbolic link" in told["link.smx"][2]
    assert len(told) == 4
    assert (len(some), are_some_all) == (2, False)


def test_what_the_plugins_of_an_overlay_need_of_others_is_noted(tmp_path: Path) -> None:
    needy = make_plugin(extensions=[SDKTOOLS, TOPMENUS], libraries=[HOOKS, OWN])
    overlay = lay_out(tmp_path / "one", a_smx=needy, b_smx=needy, readyup_smx=needy, c_smx=b"")
    lay_out(overlay, disabled__x_smx=make_plugin(libraries=[("other", "other.smx", True)]))

    def find() -> list[tuple[str, str]]:
        report = report_overlay(overlay, "one", tmp_path / "cache")
        return [(one.code, one.text) for one in report.findings if one.code.startswith("plugin")]

    what = (
        "a.smx and 2 more need the {}, which is not in this overlay: another one has to bring it."
    )
    hooks = ("plugin_needs", what.format("plugin left4dhooks.smx"))
    tools = ("plugin_needs", what.format("extension SDKTools"))
    broken, *noted = find()
    assert broken[0] == "plugin_broken"
    assert noted == [tools, hooks]
    extensions = overlay / "left4dead2/addons/sourcemod/extensions"
    for path in ("sdktools.ext.2.l4d2.so", "auto.sdktools.ext/2.l4d2.so", "sdktools.ext.so"):
        (extensions / path).parent.mkdir(parents=True, exist_ok=True)
        (extensions / path).write_bytes(b"")
        assert find()[1:] == [hooks]
        (extensions / path).unlink()
    lay_out(overlay, left4dhooks_smx=make_plugin())
    assert find()[1:] == [tools]


def test_a_report_says_what_loaded_plugins_need_and_provide(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    overlay = lay_out(
        tmp_path / "one",
        readyup_smx=make_plugin(extensions=[SDKTOOLS, TOPMENUS], libraries=[HOOKS, OWN]),
        disabled__x_smx=make_plugin(libraries=[HOOKS]),
        alone_smx=make_plugin(),
        broken_smx=b"",
    )
    report = report_overlay(overlay, "one", tmp_path / "cache")
    says = ("Title", "An author", "1.2")
    assert report.plugins == (
        PluginNeeds("alone.smx", (), (), (), *says),
        PluginNeeds(
            "readyup.smx",
            ("sdktools.ext",),
            (("left4dhooks", "left4dhooks.smx"),),
            (OWN[0],),
            *says,
        ),
    )
    monkeypatch.setattr(plugins, "MAX_PLUGINS", 1)
    assert report_overlay(overlay, "one", tmp_path / "cache").plugins is None
