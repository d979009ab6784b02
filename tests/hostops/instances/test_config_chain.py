"""Every config of a server becomes a file of one chain; what the game cannot take is reported, or refused."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hostops.errors import HostError
from hostops.instances import config_chain
from hostops.instances.cfg_files import Budget, UnreadableFileError, read_cfg_files, read_regular
from hostops.instances.config_chain import ConfigChain, make_chain, read_parts, store_parts
from hostops.instances.config_copies import copy_config
from hostops.layout import HostLayout
from hostops.specs import InstanceSpec, SpecBan

CFG = "left4dead2/cfg"
BANS_PATH = f"{CFG}/saferoom/95-bans.cfg"
SPEC = InstanceSpec("alpha", 27015)

Write = Callable[[str, str, str | bytes], Path]


@pytest.fixture
def layout(tmp_path: Path) -> HostLayout:
    """Return a host with release 100 and nothing in it."""
    (tmp_path / "releases" / "100" / CFG).mkdir(parents=True)
    return HostLayout(tmp_path)


@pytest.fixture
def write(layout: HostLayout) -> Write:
    """Return a function that writes a cfg file of an overlay, or of the release."""

    def write(layer: str, path: str, content: str | bytes) -> Path:
        top = layout.releases_dir if layer == "100" else layout.overlays_dir
        file = top / layer / CFG / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content.encode() if isinstance(content, str) else content)
        return file

    return write


def chain_of(layout: HostLayout, *overlays: str, **changes: Any) -> ConfigChain:
    """Return the chain of a server with these overlays, topmost first."""
    return make_chain(layout, replace(SPEC, overlays=overlays, **changes), "100")


def lines_of(chain: ConfigChain, path: str = "server.cfg") -> list[str]:
    return chain.files[f"{CFG}/{path}"].decode("latin-1").splitlines()


def warnings_of(chain: ConfigChain) -> str:
    return "\n".join(warning for part in chain.parts for warning in part.warnings)


def copied(original: str | bytes, *own: str) -> str:
    content = original.encode() if isinstance(original, str) else original
    return copy_config(content, "the config", own).content.decode("latin-1")


class TestOrder:
    def test_it_executes_release_overlays_and_config_the_lowest_first(
        self, layout: HostLayout, write: Write
    ) -> None:
        for layer in ("100", "top", "bottom"):
            write(layer, "server.cfg", f"hostname {layer}\n")
        chain = chain_of(layout, "top", "bottom", config="hostname ours\n")
        assert lines_of(chain)[1:] == [
            "exec saferoom/00-release.cfg",
            "exec saferoom/10-bottom.cfg",
            "exec saferoom/11-top.cfg",
            "exec saferoom/90-config.cfg",
        ]
        assert lines_of(chain, "saferoom/11-top.cfg") == ["hostname top"]
        assert [part.source for part in chain.parts] == [
            "Saferoom",
            "Build 100",
            "Overlay bottom",
            "Overlay top",
            "Config of the blueprint and the server",
        ]
        assert warnings_of(chain) == ""

    def test_without_any_config_there_is_a_server_cfg_that_sets_nothing(
        self, layout: HostLayout
    ) -> None:
        chain = chain_of(layout)
        assert list(chain.files) == [f"{CFG}/server.cfg"]
        assert [line for line in lines_of(chain) if not line.startswith("//")] == []

    def test_a_hundred_overlays_have_a_file_each(self, layout: HostLayout, write: Write) -> None:
        names = [f"o{number}" for number in range(99)] + ["config"]
        for name in names:
            write(name, "server.cfg", "sv_lan 0\n")
        chain = chain_of(layout, *names, config="sv_lan 0\n")
        assert len(chain.files) == 102
        assert lines_of(chain)[-1] == "exec saferoom/90-config.cfg"


class TestBans:
    BANS = (SpecBan("STEAM_1:0:1"), SpecBan("STEAM_1:1:2", 60))

    def write_own(self, layout: HostLayout, content: bytes, name: str = "banned_user.cfg") -> None:
        folder = layout.instance("alpha").upper_dir / CFG
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)

    def test_they_come_after_all_configs_and_after_those_that_the_game_has_written(
        self, layout: HostLayout, write: Write
    ) -> None:
        write("maps", "server.cfg", "sv_lan 0\n")
        for name, content in (
            ("banned_ip.cfg", b"addip 0 192.0.2.1\r\n"),
            ("banned_user.cfg", b"banid 0 STEAM_1:0:9\r\n"),
        ):
            self.write_own(layout, content, name)
        chain = chain_of(layout, "maps", bans=self.BANS, rcon_password="secret")
        assert lines_of(chain)[2:-1] == [
            "exec saferoom/10-maps.cfg",
            "exec banned_user.cfg",
            "exec banned_ip.cfg",
            "exec saferoom/95-bans.cfg",
        ]
        assert lines_of(chain, "saferoom/95-bans.cfg") == [
            "banid 0 STEAM_1:0:1",
            "banid 60 STEAM_1:1:2",
        ]
        assert warnings_of(chain) == ""

    def test_what_does_not_fit_is_left_out_from_the_end_and_told(
        self, layout: HostLayout, write: Write
    ) -> None:
        bans = tuple(SpecBan(f"STEAM_1:0:{number}") for number in range(1000, 1400))
        chain = chain_of(layout, bans=bans)
        lines = lines_of(chain, "saferoom/95-bans.cfg")
        assert 4096 - 24 < len(chain.files[BANS_PATH]) <= 4096
        assert lines == [f"banid 0 {ban.steam_id}" for ban in bans[: len(lines)]]
        assert f"{400 - len(lines)} of 400 bans are not in it" in warnings_of(chain)
        write("maps", "server.cfg", "".join(f"sv_tags {number:0500}\n" for number in range(13)))
        chain = chain_of(layout, "maps", bans=bans)
        copies = len(chain.files[f"{CFG}/saferoom/10-maps.cfg"])
        assert 7168 - 24 < copies + len(chain.files[BANS_PATH]) <= 7168

    @pytest.mark.parametrize(
        ("content", "words"),
        [
            (b"banid 0 STEAM_1:0:9\nexec server.cfg\n", "line 2 is no ban"),
            (b"banid 0 STEAM_1:0:9; quit\n", "line 1 is no ban"),
            (b"banid 0 STEAM_1:0:9\n" * 300, "6,000 bytes"),
        ],
    )
    def test_what_the_game_wrote_is_not_executed_if_it_is_more_than_bans(
        self, layout: HostLayout, content: bytes, words: str
    ) -> None:
        self.write_own(layout, content)
        chain = chain_of(layout, bans=self.BANS)
        assert lines_of(chain)[1:] == ["exec saferoom/95-bans.cfg"]
        assert words in warnings_of(chain)

    def test_a_link_in_its_place_is_not_followed(self, layout: HostLayout, tmp_path: Path) -> None:
        self.write_own(layout, b"")
        own = layout.instance("alpha").upper_dir / CFG / "banned_user.cfg"
        own.unlink()
        (tmp_path / "other").write_bytes(b"banid 0 STEAM_1:0:9\n")
        own.symlink_to(tmp_path / "other")
        chain = chain_of(layout)
        assert lines_of(chain)[1:] == []
        assert "symbolic link" in warnings_of(chain)

    def test_a_file_that_a_config_executes_is_left_to_that_config(
        self, layout: HostLayout, write: Write
    ) -> None:
        write("maps", "server.cfg", "exec BANNED_USER\nwriteid\n")
        self.write_own(layout, b"quit\n")
        chain = chain_of(layout, "maps")
        assert lines_of(chain)[1:] == ["exec saferoom/10-maps.cfg"]
        assert warnings_of(chain) == ""

    def test_that_of_an_overlay_counts_until_the_game_writes_its_own(
        self, layout: HostLayout, write: Write
    ) -> None:
        write("maps", "banned_user.cfg", "banid 0 STEAM_1:0:9\n")
        assert lines_of(chain_of(layout, "maps"))[1:] == ["exec banned_user.cfg"]
        self.write_own(layout, b"")
        assert lines_of(chain_of(layout, "maps"))[1:] == []


class TestPasswords:
    def test_they_stand_first_and_last_in_quotes(self, layout: HostLayout, write: Write) -> None:
        write("maps", "server.cfg", "sv_lan 0\n")
        chain = chain_of(layout, "maps", rcon_password="a//b{c}", join_password="it's")
        given = ['rcon_password "a//b{c}"', 'sv_password "it\'s"']
        assert lines_of(chain)[1:] == [*given, "exec saferoom/10-maps.cfg", *given]
        passwords = config_chain.read_passwords(chain.files[f"{CFG}/server.cfg"])
        assert (passwords.rcon, passwords.join) == ("a//b{c}", "it's")

    def test_none_is_read_from_a_server_cfg_that_is_not_ours(self) -> None:
        passwords = config_chain.read_passwords(b'hostname x\nrcon_password "secret"\n')
        assert passwords == config_chain.Passwords()

    def test_a_line_that_sets_what_saferoom_sets_is_left_out_and_named_without_its_value(
        self, layout: HostLayout, write: Write
    ) -> None:
        write(
            "maps", "server.cfg", 'sv_lan 0\n"rcon_password" "old1"; sv_tags x\nsv_password old2\n'
        )
        chain = chain_of(layout, "maps", rcon_password="hunter2", config="RCON_PASSWORD{old3\n")
        assert lines_of(chain, "saferoom/10-maps.cfg") == [
            "sv_lan 0",
            "sv_tags x",
            "sv_password old2",
        ]
        assert lines_of(chain, "saferoom/90-config.cfg") == []
        fault = "sets rcon_password, which Saferoom sets itself. It is left out."
        assert warnings_of(chain).splitlines() == [
            f"Line 2 of cfg/server.cfg of overlay maps {fault}",
            f"Line 1 of the config {fault}",
        ]

    def test_people_are_shown_no_password_of_any_part(
        self, layout: HostLayout, write: Write
    ) -> None:
        write(
            "maps",
            "server.cfg",
            'sv_password "sesame"\nalias open "tv_password opensaysme"\nsay sesame hunter2\n'
            "sv_setsteamaccount ABCDEF\nsm_cvar tv_relaypassword relayed\n",
        )
        chain = chain_of(layout, "maps", rcon_password="hunter2", config="echo opensaysme\n")
        shown = "\n".join(part.text for part in chain.parts)
        for secret in ("sesame", "opensaysme", "hunter2", "ABCDEF", "relayed"):
            assert secret not in shown
        assert "sv_password ********" in shown
        assert "say ******** ********" in shown
        # The game gets all of them.
        assert b"sesame" in chain.files[f"{CFG}/saferoom/10-maps.cfg"]
        assert "hunter2" not in repr(chain)


class TestCopies:
    def test_comments_and_blank_lines_are_stripped_outside_of_quotes(self) -> None:
        text = '// top\r\n\r\n\thostname "a // b; c"  // name\r\nsv_lan\t0;;sv_tags x //\n  \n'
        assert copied(text) == 'hostname "a // b; c"\nsv_lan 0\nsv_tags x\n'

    def test_each_command_has_a_line_that_no_branch_of_the_engine_cuts(self) -> None:
        """After the cut in a longer one, some branches execute what was quoted."""
        line = "; ".join(["echo aaaaaaaaaaaa"] * 50) + '; echo "'
        line += f'{"x" * (1023 - len(line))}hostport 27099"'
        assert max(map(len, copied(line).splitlines())) < 510

    @pytest.mark.parametrize("end", [b"\xe9", "é".encode(), b"\x01", b"\r", b"\x0b", b"\0"])
    def test_a_command_behind_a_byte_at_which_the_engine_may_end_a_line_counts(
        self, end: bytes
    ) -> None:
        for text in (
            b"hostport%s 27099",
            b'hostname "a%s hostport 1"',
            b'hostname "a%sb; rcon_password x"',
            b'say "a%s alias x hostport%s 1"',
            b'say "a\x01alias \xe9 x hostport%s 1"',
            b'say "%salias x\x7f y hostport 1"',
            b"map%s c1m1_hotel",
        ):
            assert copied(text.replace(b"%s", end), "rcon_password") == ""
        assert copied(b'hostname "a%sport of call"'.replace(b"%s", end)) == ""
        kept = b'hostname "Port%s 5%s call"'.replace(b"%s", end)
        assert copied(kept) == f"{kept.decode('latin-1')}\n"

    def test_bytes_stay_as_they_are_and_a_byte_order_mark_goes(self) -> None:
        original = b"\xef\xbb\xbf// \xc3\xa9\nhostname \xc3\xa0\xa0\xff\x85\n"
        assert copied(original) == "hostname \xc3\xa0\xa0\xff\x85\n"

    def test_characters_outside_of_comments_are_said_with_file_and_line(self) -> None:
        copy = copy_config("// café\nhostname café\n".encode(), "cfg/server.cfg of overlay x", ())
        (warning,) = copy.warnings
        assert warning == (
            "Line 2 of cfg/server.cfg of overlay x contains “é” (latin small letter e with acute): "
            "the game reads plain ASCII only."
        )
        assert copy.text == "hostname café\n"

    @pytest.mark.parametrize(
        "line", ["hostport 27016", 'sv_lan 0; "Hostport" 1', "sm_cvar ip 1", "hostport'1'"]
    )
    def test_a_line_that_moves_the_server_is_left_out_and_said(self, line: str) -> None:
        copy = copy_config(f"{line}\nsv_tags x\n".encode(), "the config", ())
        assert b"port" not in copy.content.lower()
        assert b" ip " not in copy.content
        assert copy.content.endswith(b"sv_tags x\n")
        (warning,) = copy.warnings
        assert warning.startswith("Line 1 of the config sets ")
        assert warning.endswith("It is left out.")

    @pytest.mark.parametrize("line", ["map c5m1_waterfront", 'sv_lan 0; "ChangeLevel" c1m1_hotel'])
    def test_a_command_that_changes_the_map_is_left_out_and_said(self, line: str) -> None:
        copy = copy_config(f"{line}\nsv_tags map\n".encode(), "the config", ())
        (warning,) = copy.warnings
        assert warning.startswith("Line 1 of the config changes the map.")
        assert warning.endswith("choose the first map with +map in the launch arguments.")
        rest = "sv_lan 0\n" if "sv_lan" in line else ""
        assert copy.content.decode() == f"{rest}sv_tags map\n"

    @pytest.mark.parametrize(
        "line", ['alias x "map c1m1_hotel; hostport 27016"', "sm_cvar map hostport"]
    )
    def test_a_map_beside_it_keeps_no_line_that_moves_the_server(self, line: str) -> None:
        assert copy_config(f"{line}\n".encode(), "the config", ()).content == b""

    def test_one_in_a_file_that_configs_execute_is_said_with_its_place(
        self, layout: HostLayout, write: Write
    ) -> None:
        write("pack", "server.cfg", "exec more\n")
        write(
            "pack",
            "more.cfg",
            "// map a\nsay map b\nsv_lan 0; Map c5m1_waterfont versus\r\nreload\n",
        )
        chain = chain_of(layout, "pack")
        where = "of cfg/more.cfg of overlay pack"
        assert chain.map_changes == (
            ("c5m1_waterfont", f"Line 3 {where}"),
            ("", f"Line 4 {where}"),
        )
        assert f"Line 3 {where} changes the map to c5m1_waterfont. The game" in warnings_of(chain)
        assert chain_of(layout, "pack", config="map c1m1_hotel\n").map_changes == chain.map_changes

    def test_an_alias_that_names_a_map_changes_none_by_itself(self) -> None:
        copy = copy_config(b'alias first "map c1m1_hotel"\n', "the config", ())
        assert copy.warnings == ()

    def test_a_command_that_the_engine_discards_takes_nothing_else_along(self) -> None:
        fits, does_not = "echo " + "x" * 505, "echo " + "y" * 506
        copy = copy_config(f"{fits}\n{does_not}\nsv_tags x\n".encode(), "the config", ())
        assert copy.content.decode() == f"{fits}\nsv_tags x\n"
        assert "Line 2 of the config is a command of 511 bytes" in copy.warnings[0]

    def test_many_warnings_are_cut_short(self) -> None:
        copy = copy_config(b"hostport 1\n" * 50, "the config", ())
        assert len(copy.warnings) == 21
        assert copy.warnings[-1] == "30 more warnings of this file are alike."

    def test_what_people_see_has_no_character_that_a_database_refuses(self) -> None:
        copy = copy_config(b"echo \0\x1b[31m\xed\xa0\x80\x07\n", "the config", ())
        assert copy.text.removesuffix("\n").isprintable()
        assert b"\0" in copy.content


class TestCircles:
    @pytest.mark.parametrize(
        "line",
        [
            "exec server.cfg",
            "exec server",
            'sv_lan 0; EXEC "./Server.cfg"',
            "sm_execcfg \\server.cfg",
            "exec saferoom/90-config",
            "exec x/../server.cfg",
        ],
    )
    def test_a_config_that_executes_itself_is_refused(self, layout: HostLayout, line: str) -> None:
        with pytest.raises(HostError, match="in a circle, which crashes the game"):
            chain_of(layout, config=f"{line}\n")

    def test_one_through_further_files_is_named_in_order(
        self, layout: HostLayout, write: Write
    ) -> None:
        write("maps", "server.cfg", "exec rules/one\n")
        write("maps", "rules/one.cfg", "// exec nothing\nexec rules/two.cfg\n")
        write("100", "rules/two.cfg", 'sv_lan 0; exec "server.cfg"\n')
        with pytest.raises(HostError) as error:
            chain_of(layout, "maps")
        assert (
            "cfg/server.cfg → cfg/server.cfg of overlay maps → cfg/rules/one.cfg of overlay maps → "
            "cfg/rules/two.cfg of build 100 → cfg/server.cfg. Take one of these exec lines out."
        ) in str(error.value)

    def test_what_is_no_circle_is_not_refused(self, layout: HostLayout, write: Write) -> None:
        write("maps", "server.cfg", "exec more\nexec more.cfg\nexec other\n")
        write("maps", "more.cfg", "exec other\n")
        write("maps", "other.cfg", 'say "exec server.cfg"\n')
        write("maps", "unused.cfg", "exec unused\n")
        chain = chain_of(layout, "maps", config="exec missing.cfg\nexec ../../server.cfg\n")
        assert warnings_of(chain) == ""

    def test_a_long_way_is_followed_to_its_end(self, layout: HostLayout, write: Write) -> None:
        write("maps", "server.cfg", "exec f0\n")
        for number in range(1500):
            write("maps", f"f{number}.cfg", f"exec f{number + 1}\n")
        write("maps", "f1500.cfg", "exec f7\n")
        with pytest.raises(HostError, match=r"cfg/f7\.cfg .* cfg/f1500\.cfg"):
            chain_of(layout, "maps")


class TestWarnings:
    def test_a_further_file_that_another_overlay_hides_is_told(
        self, layout: HostLayout, write: Write
    ) -> None:
        for name in ("top", "bottom"):
            write(name, "server.cfg", "exec more.cfg\n")
            write(name, "more.cfg", f"hostname {name}\n")
        assert warnings_of(chain_of(layout, "top", "bottom")) == (
            "cfg/more.cfg is in overlay bottom, which executes it, and in overlay top, which lies over it: "
            "both get that of overlay top. Give one of the two files another name."
        )
        write("top", "more.cfg", "hostname bottom\n")
        assert warnings_of(chain_of(layout, "top", "bottom")) == ""

    def test_a_chain_that_may_overflow_the_buffer_is_told(
        self, layout: HostLayout, write: Write
    ) -> None:
        chain = chain_of(layout, config="sv_tags 45678901234567\n" * 260)
        assert warnings_of(chain) == ""
        write("maps", "server.cfg", "exec more\n")
        write("maps", "more.cfg", "// comment\n" * 30)
        chain = chain_of(layout, "maps", config="sv_tags 45678901234567\n" * 260)
        assert "The game's command buffer has 8,192, and loses what does not fit" in warnings_of(
            chain
        )

    def test_characters_in_any_cfg_file_of_an_overlay_are_told(
        self, layout: HostLayout, write: Write
    ) -> None:
        write("maps", "sourcemod/votes.cfg", b"sm_x 1\r\n// caf\xe9\r\n")
        write("maps", "fine.cfg", "\tsm_x 1\r\n")
        write("maps", "hostport.cfg", "hostport 27016\n")
        write("100", "release.cfg", "é")
        assert warnings_of(chain_of(layout, "maps")) == (
            "Line 2 of cfg/sourcemod/votes.cfg of overlay maps contains “é” "
            "(latin small letter e with acute): the game reads plain ASCII only."
        )

    def test_it_says_when_it_did_not_look_at_all_files(
        self, layout: HostLayout, write: Write, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name in ("a", "b"):
            write("maps", f"{name}.cfg", "é")
            write(name, "server.cfg", "sv_lan 0\n")
        monkeypatch.setattr(config_chain, "Budget", lambda: Budget(files=1))
        warnings = warnings_of(chain_of(layout, "b", "maps", "a"))
        assert "Line 1 of cfg/a.cfg of overlay maps" in warnings
        assert "cfg/b.cfg" not in warnings
        assert "nothing looked into the rest" in warnings

    @pytest.mark.parametrize("how", ["link", "pipe", "folder", "long", "linked folder"])
    def test_a_server_cfg_that_is_not_a_plain_file_is_left_out_and_said(
        self, layout: HostLayout, write: Write, how: str
    ) -> None:
        path = write("maps", "server.cfg", "sv_lan 0\n")
        secret = layout.root / "secret"
        secret.mkdir()
        (secret / "server.cfg").write_text("SECRET")
        path.unlink()
        match how:
            case "link":
                path.symlink_to(secret / "server.cfg")
            case "pipe":
                os.mkfifo(path)
            case "folder":
                path.mkdir()
            case "long":
                path.write_bytes(b"x" * (256 * 1024 + 1))
            case _:
                path.parent.rmdir()
                path.parent.symlink_to(secret)
        chain = chain_of(layout, "maps")
        assert list(chain.files) == [f"{CFG}/server.cfg"]
        assert "cfg/server.cfg of overlay maps is left out, as it " in warnings_of(chain)
        assert "SECRET" not in repr(chain)


class TestReading:
    def test_it_reads_no_more_than_it_may(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_bytes(b"x" * 11)
        assert read_regular(tmp_path, "file", 11) == b"x" * 11
        with pytest.raises(UnreadableFileError, match="has more than"):
            read_regular(tmp_path, "file", 10)

    def test_the_budget_counts_files_and_bytes(self, write: Write, layout: HostLayout) -> None:
        for name in ("a", "b", "c"):
            write("maps", f"{name}.cfg", "x" * 10)
        write("maps", "server.cfg", "x" * 10)
        for budget in (Budget(files=2), Budget(bytes=25)):
            found = read_cfg_files(layout.overlays_dir / "maps", budget)
            assert sorted(found.contents) == ["a.cfg", "b.cfg", "server.cfg"]
            assert budget.is_spent

    def test_names_that_are_no_text_do_no_harm(self, write: Write, layout: HostLayout) -> None:
        folder = write("maps", "a.cfg", "").parent
        (folder / os.fsdecode(b"caf\xe9\n.cfg")).write_text("é")
        warning = warnings_of(chain_of(layout, "maps"))
        assert "cfg/caf\N{REPLACEMENT CHARACTER}\N{REPLACEMENT CHARACTER}.cfg" in warning


class TestKeeping:
    def test_what_is_kept_is_read_again(self, layout: HostLayout, write: Write) -> None:
        instance = layout.instance("alpha")
        assert read_parts(instance) == ()
        instance.dir.mkdir(parents=True)
        write("maps", "server.cfg", "hostname é\nhostport 1\n")
        chain = chain_of(layout, "maps", rcon_password="hunter2")
        store_parts(instance, chain.parts)
        assert read_parts(instance) == chain.parts
        assert "hunter2" not in instance.config_chain_path.read_text()

    @pytest.mark.parametrize(
        "content", ["", "[]", "{}", '{"parts": [{}]}', '{"parts": [1]}', "[" * 100_000]
    )
    def test_what_is_not_ours_is_refused(self, layout: HostLayout, content: str) -> None:
        instance = layout.instance("alpha")
        instance.dir.mkdir(parents=True)
        instance.config_chain_path.write_text(content)
        with pytest.raises(HostError, match="Initialize the server again"):
            read_parts(instance)

    def test_a_link_in_its_place_is_not_followed(self, layout: HostLayout) -> None:
        instance = layout.instance("alpha")
        instance.dir.mkdir(parents=True)
        instance.config_chain_path.symlink_to("/etc/passwd")
        with pytest.raises(HostError, match="it is a link"):
            read_parts(instance)
