"""The simulated game server as its users meet it: console, files, queries, RCON, and its ways to end."""

import os
import random
import re
import signal
import socket
import struct
import subprocess
from pathlib import Path

import a2s as others_a2s
import pytest

from hostops.query import a2s, rcon
from hostops.simulator.command_buffer import OVERFLOW, TOO_MANY_WORDS
from hostops.simulator.srcds import FAILURES
from tests.hostops.hosts import ignored_signals
from tests.hostops.simulator.fixtures import READY_LINE, TIMEOUT, GameServers
from tests.ports import find_free_port
from tests.sourcemod_files import lay_out_sourcemod, own_plugin
from tests.waiting import wait_until

LOG_LINE = re.compile(r"^L \d\d/\d\d/\d{4} - \d\d:\d\d:\d\d: (.*)$")
HOST = "127.0.0.1"


def log_texts(lines: list[str]) -> list[str]:
    """Return the texts of the log lines among `lines`, without their time."""
    return [found[1] for line in lines if (found := LOG_LINE.match(line))]


def answers(port: int, timeout_seconds: float = 0.5) -> bool:
    """Whether the server on `port` answers a query; if that is expected, it gets the time of a busy machine."""
    try:
        a2s.query_info(HOST, port, timeout_seconds)
    except a2s.QueryError:
        return False
    return True


# Start


def test_it_starts_with_the_lines_of_srcds_and_is_ready(servers: GameServers, port: int) -> None:
    servers.config('hostname "Alpha"\n')
    server = servers.start(port, "+map", "c2m1_highway")
    server.wait_for("VAC secure mode is activated.")
    untimed = [LOG_LINE.sub(r"L: \1", line) for line in server.lines]
    assert untimed == [
        "[simulator] This is Saferoom's stand-in for Left 4 Dead 2: nobody can play here.",
        "Using shader api: bin/shaderapiempty_srv.so",
        "",
        "Console initialized.",
        'Game.dll loaded for "Left 4 Dead 2"',
        "ConVarRef test_progression_loop doesn't point to an existing ConVar",
        "Game supporting (2) split screen players",
        "maxplayers set to 4",
        f"Network: IP 0.0.0.0, mode MP, dedicated Yes, ports {port} SV / 27005 CL",
        'L: Loading map "c2m1_highway"',
        "Executing dedicated server config file",
        "execing server.cfg",
        'L: Started map "c2m1_highway" (CRC "2213148027")',
        "Server is hibernating",
        "Initializing Steam libraries for secure Internet server",
        "Connection to Steam servers successful.",
        "   VAC secure mode is activated.",
    ]


def test_it_is_not_ready_before_its_time(servers: GameServers, port: int) -> None:
    servers.control(start_seconds=60)
    server = servers.spawn(port)
    server.wait_for("Network: IP")
    with pytest.raises(a2s.QueryError, match="did not answer"):
        a2s.query_info(HOST, port, 0.2)
    assert not any(READY_LINE in line for line in server.lines)


def test_the_map_defaults_to_the_first_and_the_mode_can_be_given(
    servers: GameServers, port: int
) -> None:
    servers.start(port, "+map", "c5m2_park versus")
    info = a2s.query_info(HOST, port, TIMEOUT)
    assert (info.map, info.max_players, info.keywords) == ("c5m2_park", 8, "versus,secure")
    other_port = find_free_port()
    servers.start(other_port)
    assert a2s.query_info(HOST, other_port, TIMEOUT).map == "c1m1_hotel"


def test_a_lan_server_never_speaks_of_steam_but_answers(servers: GameServers, port: int) -> None:
    server = servers.spawn(port, "+sv_lan", "1", "-insecure")
    server.wait_for("Initializing Steam libraries for LAN server")
    assert not any(READY_LINE in line for line in server.lines)
    assert not a2s.query_info(HOST, port, TIMEOUT).is_vac_secured
    server.send("sim_join Nick; sim_join Ellis BOT; users")
    server.wait_for("LAN servers are restricted to local clients (class C).")
    server.wait_for("1 users")


def test_a_map_that_is_not_there_keeps_it_from_being_ready(servers: GameServers, port: int) -> None:
    server = servers.spawn(port, "+map", "c99m1_nowhere")
    server.wait_for("map load failed: c99m1_nowhere not found or invalid")
    assert "CModelLoader::Map_IsValid:  No such map 'maps/c99m1_nowhere.bsp'" in server.lines
    server.ask("changelevel c1m1_hotel", "Can't changelevel, not running server")
    assert not answers(port)
    server.send("map c1m1_hotel")
    server.wait_for(READY_LINE)


def test_while_a_map_loads_it_neither_reads_nor_answers(servers: GameServers, port: int) -> None:
    servers.control(load_seconds=60)
    servers.spawn(port).wait_for('Loading map "c1m1_hotel"')
    with pytest.raises(a2s.QueryError, match="did not answer"):
        a2s.query_info(HOST, port, 0.3)
    servers.control(load_seconds=1.5)
    port = find_free_port()
    server = servers.spawn(port)
    server.wait_for('Loading map "c1m1_hotel"')
    server.send("echo typed meanwhile")
    server.wait_for("typed meanwhile")
    assert server.lines.index("typed meanwhile") > server.lines.index("Server is hibernating")
    server.wait_for(READY_LINE)
    assert answers(port, TIMEOUT)


def test_it_does_not_start_without_the_path_of_its_libraries(
    servers: GameServers, port: int
) -> None:
    for path in (None, "", ".", "/usr/lib:/lib"):
        servers.environment.pop("LD_LIBRARY_PATH", None)
        if path is not None:
            servers.environment["LD_LIBRARY_PATH"] = path
        server = servers.spawn(port)
        assert server.wait() == 255
        assert len(server.lines) == 1
        assert server.lines[0].startswith(
            "Failed to open dedicated.so (dedicated.so: cannot open shared object file: "
        )


# Its command line


def test_an_argument_with_blanks_reaches_it_as_several(servers: GameServers, port: int) -> None:
    other = find_free_port()
    server = servers.start(port, "+hostname", f"Night crew -port {other} -ip 127.0.0.2 -insecure")
    info = a2s.query_info("127.0.0.2", other, TIMEOUT)
    assert (info.name, info.is_vac_secured) == ("Night crew", False)
    assert server.wait_for(f"Network: IP 127.0.0.2, mode MP, dedicated Yes, ports {other} SV")


@pytest.mark.parametrize("word", ["-port", "-PORT", "+port", "+hostport"])
def test_the_last_port_wins_wherever_it_stands(servers: GameServers, port: int, word: str) -> None:
    other = find_free_port()
    servers.start(port, "-port", str(port + 1), "+map", "c5m2_park", word, str(other), "-insecure")
    assert a2s.query_info(HOST, other, TIMEOUT).port == other


def test_quotes_keep_words_together_and_end_inside_an_argument(
    servers: GameServers, port: int
) -> None:
    server = servers.start(port, '+echo "one -insecure two', 'three" +echo fo"ur', '-maxplayers" 7')
    assert {"one -insecure two three", "four -maxplayers 7"} <= set(server.lines)
    assert a2s.query_info(HOST, port, TIMEOUT).is_vac_secured


def test_a_value_never_begins_with_a_dash_or_a_plus(servers: GameServers, port: int) -> None:
    servers.start(port, "+sv_region", "-1", "-maxplayers", "+hostname", "Beta")
    info = a2s.query_info(HOST, port, TIMEOUT)
    assert (info.name, info.max_players) == ("Beta", 8)
    servers.start(find_free_port(), "+sv_region", "1").ask(
        "sv_region", '"sv_region" = "1" ( def. "-1" )'
    )


def test_an_option_takes_the_next_word_and_what_follows_is_a_command(
    servers: GameServers, port: int
) -> None:
    server = servers.start(port, "-insecure", "1", "frobnicate", "version")
    assert 'Unknown command "frobnicate"' in server.lines
    assert not any("Unknown command" in line and "1" in line for line in server.lines)
    assert any(line.startswith("Exe build: simulated") for line in server.lines)


def test_a_semicolon_on_the_command_line_begins_another_command(
    servers: GameServers, port: int
) -> None:
    servers.start(port, "+hostname", "Night;sv_password", "hunter2")
    info = a2s.query_info(HOST, port, TIMEOUT)
    assert (info.name, info.has_password) == ("Night", True)


def test_further_arguments_are_read_from_a_file(servers: GameServers, port: int) -> None:
    (servers.game_dir / "more.txt").write_text('+hostname "From a file"\n-insecure\n@other.txt\n')
    server = servers.start(port, "@more.txt", "@missing.txt", "-maxplayers", "6")
    info = a2s.query_info(HOST, port, TIMEOUT)
    assert (info.name, info.is_vac_secured, info.max_players) == ("From a file", False, 6)
    assert "Parameter file 'missing.txt' not found, skipping..." in server.lines


def test_its_command_line_is_cut(servers: GameServers, port: int) -> None:
    fixed = f"./srcds_linux -game left4dead2 -console -port {port} -strictportbind +echo  -insecure"
    servers.start(port, "+echo", "x" * (2047 - len(fixed)), "-insecure")
    assert not a2s.query_info(HOST, port, TIMEOUT).is_vac_secured
    other = find_free_port()
    servers.start(other, "+echo", "x" * (2047 - len(fixed) + 1), "-insecure")
    assert a2s.query_info(HOST, other, TIMEOUT).is_vac_secured


# Valve's script, which nothing of ours executes


def test_srcds_run_refuses_a_game_that_is_not_there(servers: GameServers) -> None:
    server = servers.run(["./srcds_run", "-game", "cstrike"])
    assert server.wait() == 1
    assert "ERROR: Invalid game type 'cstrike' sepecified." in server.lines


def test_srcds_run_sets_the_path_of_the_libraries_and_a_map(
    servers: GameServers, port: int
) -> None:
    del servers.environment["LD_LIBRARY_PATH"]
    servers.run(["./srcds_run", "-port", str(port), "-norestart"]).wait_for(READY_LINE)
    assert a2s.query_info(HOST, port, TIMEOUT).map == "c1m1_hotel"


def test_srcds_run_is_as_careless_as_valves(servers: GameServers, port: int) -> None:
    def said(*arguments: str) -> list[str]:
        server = servers.run(["./srcds_run", "-port", str(port), "-norestart", *arguments])
        server.wait()
        return server.lines

    evil = "night -autoupdate -steam_dir . -steamcmd_script y;id>ran;:"
    assert said("+hostname", f"{evil} -binary /bin/echo")[-1].startswith(f"-port {port} ")
    assert (servers.game_dir / "ran").read_text().startswith("uid=")
    assert "bin left4dead2 " in said("-binary", "/bin/echo", "+sv_search_key", "*")[-1]


def test_without_norestart_srcds_run_starts_it_again(servers: GameServers, port: int) -> None:
    argv = ["./srcds_run", "-port", str(port), "-timeout", "0"]
    supervised = servers.run(argv)
    supervised.wait_for("Server will auto-restart if there is a crash.")
    supervised.wait_for(READY_LINE)
    supervised.send("sim_crash")
    supervised.wait_for('Add "-debug" to the ./srcds_run command line')
    supervised.wait_for(": Server restart in 0 seconds")
    supervised.wait_for(READY_LINE, count=2)
    supervised.send("quit")
    assert supervised.wait() == 0
    assert supervised.lines[-1].endswith(": Server Quit")


# Its port


def test_a_taken_port_ends_it_when_the_port_is_strict(servers: GameServers, port: int) -> None:
    servers.start(port)
    second = servers.spawn(port, "-strictportbind")
    assert second.wait() == 100
    assert second.lines[-1] == "Couldn't allocate any server IP port"
    assert "Address already in use" in second.lines[-2]
    assert a2s.query_info(HOST, port, TIMEOUT).port == port


@pytest.mark.parametrize("kind", [socket.SOCK_DGRAM, socket.SOCK_STREAM], ids=["udp", "tcp"])
def test_it_needs_its_port_for_udp_and_for_tcp(
    servers: GameServers, port: int, kind: socket.SocketKind
) -> None:
    with socket.socket(socket.AF_INET, kind) as taken:
        taken.bind((HOST, port))
        if kind == socket.SOCK_STREAM:
            taken.listen()
        assert servers.spawn(port, "-strictportbind").wait() == 100


def test_it_takes_the_next_port_when_it_may(servers: GameServers, port: int) -> None:
    servers.start(port)
    second = servers.spawn(port)
    line = second.wait_for(f"WARNING: Port {port} was unavailable - bound to port ")
    second.wait_for(READY_LINE)
    bound = int(line.split()[-2])
    assert bound > port
    assert a2s.query_info(HOST, bound, TIMEOUT).port == bound


def test_it_listens_on_one_address_if_told_to(servers: GameServers, port: int) -> None:
    servers.start(port, "-ip", "127.0.0.2")
    assert a2s.query_info("127.0.0.2", port, TIMEOUT).port == port
    with pytest.raises(a2s.QueryError, match="no server has this UDP port open"):
        a2s.query_info(HOST, port, 1)


def test_a_port_can_be_used_again_at_once(servers: GameServers, port: int) -> None:
    servers.config("rcon_password x\n")
    for _ in range(2):
        server = servers.start(port)
        assert "hostname" in rcon.execute(HOST, port, "x", "status", TIMEOUT)
        server.send("quit")
        assert server.wait() == 0


# Config


def test_server_cfg_is_applied_and_read_again_at_each_map(servers: GameServers, port: int) -> None:
    servers.config(
        'hostname "Saferoom // Two"   // a comment; not a command\n'
        "rcon_password secret; sv_gravity 700\n"
        "no_such_thing 1\n"
        "exec more.cfg\n"
        "exec missing.cfg\n"
    )
    servers.config("sv_downloadurl http://example.org/\n", "more.cfg")
    server = servers.start(port, "+sv_gravity", "650")
    assert 'Unknown command "no_such_thing"' in server.lines
    assert "execing more.cfg" in server.lines
    assert "exec: couldn't exec missing.cfg" in server.lines
    assert log_texts(server.lines)[:3] == [
        'Server cvar "sv_gravity" = "650"',
        'Loading map "c1m1_hotel"',
        'Server cvar "sv_gravity" = "700"',
    ]
    assert server.ask("hostname", '"hostname" = "Saferoom // Two" ( def. "Left 4 Dead 2" )')
    # Outside quotes, // begins a comment: a classic.
    assert server.ask("sv_downloadurl", '"sv_downloadurl" = "http:" ( def. "" )')
    server.send("sv_gravity 600; changelevel c1m2_streets; sv_gravity")
    server.wait_for('"sv_gravity" = "700" ( def. "800" )')


def test_a_byte_that_is_not_ascii_breaks_the_rest_of_a_cfg_file(
    servers: GameServers, port: int
) -> None:
    servers.config("sv_gravity 700\n// caf\xe9\nsv_gravity 1\nhostname lost\n".encode("latin-1"))
    server = servers.start(port)
    server.ask("sv_gravity", '"sv_gravity" = "700" ( def. "800" )')
    server.ask("hostname", '"hostname" = "Left 4 Dead 2"')


def test_hidden_cvars_are_set_from_the_command_line_only(servers: GameServers, port: int) -> None:
    servers.config("mp_gamemode coop\n")
    server = servers.start(port, "+mp_gamemode", "scavenge")
    assert 'Unknown command "mp_gamemode"' in server.lines
    assert a2s.query_info(HOST, port, TIMEOUT).keywords == "scavenge,secure"


@pytest.mark.parametrize("command", ["exec server.cfg", "exec more", "map c2m1_highway"])
def test_a_cfg_file_that_leads_back_to_itself_crashes_the_game(
    servers: GameServers, port: int, command: str
) -> None:
    servers.config(f"{command}\n")
    servers.config("exec server.cfg\n", "more.cfg")
    assert servers.spawn(port).wait() == -signal.SIGSEGV


def test_what_does_not_fit_into_the_command_buffer_is_lost(servers: GameServers, port: int) -> None:
    filler = "// comments take room as well\nsv_gravity 700\n" * 170
    servers.config(f"rcon_password first\nexec big.cfg\nhostname last // {'x' * 400}\n")
    servers.config(filler, "big.cfg")
    server = servers.start(port)
    assert server.ask("hostname", '"hostname" = "last" ( def. "Left 4 Dead 2" )')
    assert OVERFLOW not in server.lines
    servers.config(filler + "// a bit more\n" * 10, "big.cfg")
    server.send("hostname first; changelevel c1m2_streets")
    server.wait_for('Started map "c1m2_streets"')
    assert server.lines.count(OVERFLOW) == 1
    assert server.ask("hostname", '"hostname" = "first" ( def. "Left 4 Dead 2" )')
    assert "hostname" in rcon.execute(HOST, port, "first", "status", TIMEOUT)


def test_a_command_that_is_too_long_takes_the_rest_of_its_text_along(
    servers: GameServers, port: int
) -> None:
    servers.config("exec long.cfg\nsv_gravity 700\n")
    servers.config(f"echo {'x' * 505}\necho {'y' * 506}\nhostname lost\n", "long.cfg")
    server = servers.start(port)
    assert "x" * 505 in server.lines
    assert "WARNING: Command too long... ignoring!" in server.lines
    assert server.ask("hostname", '"hostname" = "Left 4 Dead 2"')
    assert server.ask("sv_gravity", '"sv_gravity" = "700" ( def. "800" )')


def test_a_command_has_at_most_64_words(servers: GameServers, port: int) -> None:
    server = servers.start(port)
    server.ask("maps" + " c1" * 63 + "; echo done", "done")
    assert TOO_MANY_WORDS not in server.lines
    assert server.ask("maps" + " c1" * 64, TOO_MANY_WORDS)


def test_outside_of_quotes_brackets_and_colons_are_words_of_their_own(
    servers: GameServers, port: int
) -> None:
    server = servers.start(port)
    assert server.ask("{hostname x", 'Unknown command "{"')
    server.send("sv_tags'a'; hostname \"it's {1}\"")
    assert server.ask("sv_tags", '"sv_tags" = "\'a\'" ( def. "" )')
    assert server.ask("hostname", '"hostname" = "it\'s {1}" ( def. "Left 4 Dead 2" )')


def test_outside_of_quotes_each_byte_that_is_not_ascii_begins_a_word(
    servers: GameServers, port: int
) -> None:
    server = servers.start(port)
    server.send('sv_tagsé; hostname "é"')
    assert server.ask("sv_tags", '"sv_tags" = "é" ( def. "" )')
    assert server.ask("hostname", '"hostname" = "é" ( def. "Left 4 Dead 2" )')
    server.ask("maps" + "é" * 32 + "; echo done", TOO_MANY_WORDS)
    server.send("quité")
    assert server.wait() == 0


def test_a_line_of_a_cfg_file_ends_after_1023_bytes_and_at_a_control_character(
    servers: GameServers, port: int
) -> None:
    line = f'sv_tags x; echo "{"y" * 490}; // "; echo "'
    line += "z" * (1023 - len(line))
    servers.config(f'{line}sv_gravity 700;"\necho "a\vhostname b;"\n')
    server = servers.start(port)
    server.ask("sv_gravity", '"sv_gravity" = "700" ( def. "800" )')
    server.ask("hostname", '"hostname" = "b" ( def. "Left 4 Dead 2" )')


def test_exec_finds_files_in_folders_below_cfg(servers: GameServers, port: int) -> None:
    (servers.game_dir / "left4dead2" / "cfg" / "saferoom").mkdir()
    servers.config("hostname deep\n", "saferoom/10-maps.cfg")
    servers.config("exec saferoom/10-maps\nexec saferoom/missing.cfg\n")
    server = servers.start(port)
    assert "exec: couldn't exec saferoom/missing.cfg" in server.lines
    assert server.ask("hostname", '"hostname" = "deep" ( def. "Left 4 Dead 2" )')


def test_exec_stays_inside_the_cfg_folder(servers: GameServers, port: int) -> None:
    (servers.game_dir / "outside.cfg").write_text("hostname outside\n")
    server = servers.start(port)
    for name in ("../../outside.cfg", servers.game_dir / "outside.cfg"):
        assert server.ask(f"exec {name}", f"exec: couldn't exec {name}")


def test_passwords_are_not_written_to_the_log(servers: GameServers, port: int) -> None:
    servers.config("sv_password hunter2\nrcon_password hunter3\nlog on\n")
    server = servers.start(port)
    assert 'Server cvar "sv_password" = "***PROTECTED***"' in log_texts(server.lines)
    assert not any("hunter" in line for line in server.lines)
    assert a2s.query_info(HOST, port, TIMEOUT).has_password
    assert others_a2s.rules((HOST, port), TIMEOUT)["sv_password"] == "1"


# Console and players


def test_status_has_the_form_of_left_4_dead_2(servers: GameServers, port: int) -> None:
    servers.config("hostname Alpha\n")
    server = servers.start(port)
    server.send('sim_join "The \'Doc" STEAM_1:0:257588')
    server.send("sim_join Ellis BOT")
    lines = server.ask("status", "#end")
    status = lines[lines.index("hostname: Alpha") :]
    assert status[:9] == [
        "hostname: Alpha",
        "version : 2.2.2.1 9021 secure  (unknown)",
        f"udp/ip  : 0.0.0.0:{port} [ public n/a ]",
        "os      : Linux Dedicated",
        "map     : c1m1_hotel",
        "players : 1 humans, 1 bots (4 max) (not hibernating) (unreserved)",
        "",
        "# userid name uniqueid connected ping loss state rate adr",
        status[8],
    ]
    row = r"""#  2 1 "The 'Doc" STEAM_1:0:257588 00:\d\d \d+ 0 active 30000 192\.0\.2\.\d+:27005"""
    assert re.fullmatch(row, status[8])
    # If a bot's user id has a single digit, it is in the same place, where a player's has a blank as well.
    assert status[9:] == ['# 3 "Ellis" BOT active', "#end"]


def test_what_players_do_is_logged(servers: GameServers, port: int) -> None:
    server = servers.start(port)
    server.send("sim_join Zoey STEAM_1:0:7")
    server.send("sim_say Zoey let's go; say hello")
    server.send("sim_leave Zoey timed out")
    server.wait_for("Server is hibernating", count=2)
    zoey = '"Zoey<2><STEAM_1:0:7><{}>"'
    assert log_texts(server.lines)[2:] == [
        f'{zoey.format("")} connected, address "192.0.2.3:27005"',
        f"{zoey.format('')} STEAM USERID validated",
        f"{zoey.format('')} entered the game",
        f'{zoey.format("Unassigned")} joined team "Survivor"',
        f'{zoey.format("Survivor")} say "let\'s go"',
        '"Console<0><Console><Console>" say "hello"',
        f'{zoey.format("Survivor")} disconnected (reason "timed out")',
    ]
    assert 'Client "Zoey" connected (192.0.2.3:27005).' in server.lines
    assert "Dropped Zoey from server (timed out)" in server.lines


def test_user_ids_are_new_and_slots_are_reused(servers: GameServers, port: int) -> None:
    server = servers.start(port)
    server.send("sim_join A; sim_join B; sim_leave A; sim_join C; users")
    server.wait_for("2 users")
    assert server.lines[-4:] == ['<slot:userid:"name">', '2:3:"B"', '1:4:"C"', "2 users"]


def test_a_full_server_takes_nobody(servers: GameServers, port: int) -> None:
    server = servers.start(port, "-maxplayers", "1")
    server.send("sim_join A; sim_join B")
    server.wait_for("[simulator] B cannot join: the server is full (1 players).")


def test_a_ban_keeps_out_and_is_written(servers: GameServers, port: int) -> None:
    server = servers.start(port)
    server.send("sim_join A STEAM_1:0:1; sim_join B STEAM_1:1:2; sim_join C STEAM_1:0:3")
    server.send("banid 0 2 kick; banid 30 STEAM_1:1:2; kickid 3 bye; kick C; writeid; writeip")
    server.send("listid; sim_join A STEAM_1:0:1")
    server.wait_for("[simulator] A cannot join: A is banned.")
    assert "ID filter list: 2 entries" in server.lines
    assert "1 STEAM_1:0:1 : permanent" in server.lines
    assert "2 STEAM_1:1:2 : 30.000 min" in server.lines
    assert "Writing cfg/banned_user.cfg." in server.lines
    assert "Dropped A from server (Added to banned list)" in server.lines
    assert "Dropped B from server (bye)" in server.lines
    assert "Dropped C from server (Kicked by Console)" in server.lines
    # A ban with an end is not stored, as in the real server.
    cfg = servers.game_dir / "left4dead2" / "cfg"
    assert (cfg / "banned_user.cfg").read_text() == "banid 0 STEAM_1:0:1\n"
    assert (cfg / "banned_ip.cfg").read_text() == ""
    server.ask("removeid STEAM_1:0:1", "removeid:  filter removed for STEAM_1:0:1")
    server.ask("removeid STEAM_1:0:1", "removeid:  couldn't find STEAM_1:0:1")
    server.ask("removeid 1", "removeid:  filter removed for 1, ID STEAM_1:1:2")

    servers.config("exec banned_user.cfg\n")
    other = servers.start(find_free_port())
    other.ask("listid", "ID filter list: 1 entry")


def test_an_address_that_is_banned_is_not_answered_at_all(servers: GameServers, port: int) -> None:
    servers.config("rcon_password secret\n")
    server = servers.start(port)
    server.send("sim_join A; sim_join Ellis BOT; banip 0 192.0.2.0; sim_join B; listip; writeip")
    server.ask("echo written", "written")
    assert "Writing cfg/banned_ip.cfg." in server.lines
    assert 'Note: should use "addip" instead of "banip".' in server.lines
    assert "Dropped A from server (Added to banned list)" in server.lines
    assert "[simulator] B cannot join: B is banned by address." in server.lines
    assert "1 192.  0.  2.  0 : permanent" in server.lines
    cfg = servers.game_dir / "left4dead2" / "cfg"
    assert (cfg / "banned_ip.cfg").read_text() == "addip 0 192.0.2.0\n"
    assert answers(port, TIMEOUT)
    server.ask("addip 5 127.0.0.1; echo banned", "banned")
    assert not answers(port)
    with pytest.raises(rcon.RconError):
        rcon.execute(HOST, port, "secret", "status", TIMEOUT)
    server.ask("removeip 127.0.0.1", "removeip:  filter removed for 127.0.0.1")
    assert "hostname" in rcon.execute(HOST, port, "secret", "status", TIMEOUT)


def test_who_sends_wrong_passwords_is_banned(servers: GameServers, port: int) -> None:
    servers.config("rcon_password secret\nsv_rcon_minfailures 2\n")
    server = servers.start(port)
    for _ in range(2):
        with pytest.raises(rcon.RconError, match="refused the password"):
            rcon.execute(HOST, port, "wrong", "status", TIMEOUT)
    with pytest.raises(rcon.RconError, match="closed the connection"):
        rcon.execute(HOST, port, "wrong", "status", TIMEOUT)
    server.wait_for("Banning 127.0.0.1 for rcon hacking attempts")
    # The right one no longer helps either, and queries are not answered.
    with pytest.raises(rcon.RconError):
        rcon.execute(HOST, port, "secret", "status", TIMEOUT)
    assert not answers(port)
    server.ask("listip", "1 127.  0.  0.  1 : permanent")


def test_a_name_is_cut_at_31_bytes_and_keeps_its_quotes(servers: GameServers, port: int) -> None:
    server = servers.start(port)
    long_name = "x" * 30 + "\N{SNOWMAN}"
    server.send("sim_join_hex " + long_name.encode().hex() + "; sim_join_hex 4122422043; status")
    server.wait_for_line("#end", 0)
    assert any('"' + "x" * 30 + '\ufffd" STEAM_1' in line for line in server.lines)
    assert any('"A"B C" STEAM_1' in line for line in server.lines)
    assert {len(one.name) for one in others_a2s.players((HOST, port), TIMEOUT)} == {5, 31}
    server.ask('kick A"B C', 'Dropped A"B C from server (Kicked by Console)')


def test_the_map_command_sends_everybody_away_and_changelevel_does_not(
    servers: GameServers, port: int
) -> None:
    server = servers.start(port)
    server.send("sim_join A; changelevel c1m2_streets; map c99_missing; users")
    server.wait_for("1 users")
    server.send("map c2m1_highway.bsp versus; users")
    server.wait_for("0 users")
    assert "Dropped A from server (Server shutting down)" in server.lines
    info = a2s.query_info(HOST, port, TIMEOUT)
    assert (info.map, info.keywords) == ("c2m1_highway", "versus,secure")
    server.ask("changelevel c2m1_highway coop; echo there", "there")
    assert a2s.query_info(HOST, port, TIMEOUT).keywords == "versus,secure", "it takes no mode"
    server.ask("sm_psay A hello", 'Unknown command "sm_psay"')


def test_a_change_of_map_may_lead_to_dead_center_and_a_private_word_to_one(
    servers: GameServers, port: int
) -> None:
    plugins = {"basechat.smx": own_plugin("Basic Chat")}
    lay_out_sourcemod(servers.game_dir / "left4dead2/addons", plugins)
    servers.control(fail="map-falls-back")
    server = servers.start(port, "+map", "c2m1_highway")
    assert a2s.query_info(HOST, port, TIMEOUT).map == "c2m1_highway", "it starts where it is told"
    server.ask("map c5m1_waterfront versus; echo there", "there")
    assert a2s.query_info(HOST, port, TIMEOUT).map == "c1m1_hotel"
    server.send("sim_join Ann STEAM_1:0:1; sim_join Anna STEAM_1:0:2")
    server.ask('sm_psay "#STEAM_1:0:1" be; nice', "(Private to Ann) Console: be")
    server.ask("sm_psay #STEAM_1:0:2 hi: you", "(Private to Anna) Console: hi: you")
    server.ask("sm_psay #STEAM_1:0:3 hi", "[SM] No matching client was found.")
    server.ask("sm_psay Ann hi", "[SM] More than one client matched the given pattern.")
    server.ask("sm_psay Ann", "[SM] Usage: sm_psay <name or #userid> <message>")


def make_pack(paths: list[str], version: int = 1) -> bytes:
    """Return a VPK with these files, all empty."""
    directory = b""
    for path in paths:
        folder, _, name = path.rpartition("/")
        stem, _, extension = name.rpartition(".")
        entry = struct.pack("<IHHIIH", 0, 3, 0x7FFF, 0, 0, 0xFFFF) + b"pre"
        words = [part.encode() + b"\0" for part in (extension, folder or " ", stem)]
        directory += b"".join(words) + entry + b"\0\0"
    directory += b"\0"
    header = struct.pack("<III", 0x55AA1234, version, len(directory))
    return header + bytes(16 if version == 2 else 0) + directory


def test_it_finds_maps_inside_of_packs(servers: GameServers, port: int) -> None:
    game_dir = servers.game_dir / "left4dead2"
    (game_dir / "addons").mkdir(exist_ok=True)
    campaign = make_pack(["readme.txt", "maps/city17m1.bsp", "maps/soundcache/x.bsp"])
    (game_dir / "addons" / "campaign.vpk").write_bytes(campaign)
    (game_dir / "addons" / "cut.vpk").write_bytes(campaign[:40])
    (game_dir / "addons" / "second.vpk").write_bytes(make_pack(["maps/later.bsp"], version=2))
    dlc = servers.game_dir / "left4dead2_dlc3" / "pak01_dir.vpk"
    dlc.write_bytes(make_pack(["maps/c14m9_extra.bsp"]))
    server = servers.start(port, "+map", "City17M1")
    for name in ("cut", "second"):
        malformed = game_dir / "addons" / f"{name}.vpk"
        assert f'Can\'t load malformed vpk "{malformed}"' in server.lines
    server.ask("changelevel later", "changelevel failed: later not found")
    server.ask("changelevel x", "changelevel failed: x not found")
    server.send("changelevel c14m9_extra; maps c14m9")
    server.wait_for("PENDING:   (fs) c14m9_extra.bsp")


def test_restart_ends_it_and_nothing_starts_it_again(servers: GameServers, port: int) -> None:
    server = servers.start(port)
    server.send("_restart")
    assert server.wait() == 0
    assert log_texts(server.lines)[-1] == 'server_message: "restart"'


def test_cvars_say_what_they_are(servers: GameServers, port: int) -> None:
    servers.config(
        "sv_steamgroup 123\nmotd_enabled 0\nsv_consistency 0\nsm_cvar mp_gamemode coop\n"
        "director_no_mobs 1\nsv_force_unreserved 1\nz_difficulty hard\n"
    )
    server = servers.start(port)
    unknown = [line for line in server.lines if line.startswith("Unknown command")]
    # Without SourceMod and l4dtoolz their words are unknown.
    assert unknown == ['Unknown command "sm_cvar"', 'Unknown command "sv_force_unreserved"']
    assert (
        "Can't use cheat cvar director_no_mobs in multiplayer, unless the server has sv_cheats set to 1."
        in server.lines
    )
    lines = server.ask("sv_consistency; echo end", "end")
    assert lines == ['"sv_consistency" = "0" ( def. "1" )', " notify", "end"]
    lines = server.ask("cvarlist z_diff; echo done", "done")
    assert lines[:2] == ["cvar list", "--------------"]
    # Its value is a text, which is printed as a number, and its help text loses tabs and line breaks.
    help_text = "How hard it is: easy, normal, hard or impossible."
    assert lines[2] == f"{'z_difficulty':40} : 0        : {'':16} : {help_text}"
    assert lines[-2] == "  1 convars/concommands for [z_diff]"
    lines = server.ask("cvarlist; echo all", "all")
    assert lines[-2].endswith(" total convars/concommands")
    assert not any("mp_gamemode" in line or "sim_" in line for line in lines)
    rows = [line.split(" : ") for line in lines if line.count(" : ") >= 3]
    assert {row[0].strip(): row[1].strip() for row in rows if "changelevel" in row[0]} == {
        "changelevel": "cmd"
    }
    assert [row[0].lower() for row in rows] == sorted(row[0].lower() for row in rows)


def test_commands_that_cannot_work_say_so(servers: GameServers, port: int) -> None:
    server = servers.start(port)
    for command, line in {
        "frobnicate 1 2": 'Unknown command "frobnicate"',
        "changelevel c9m9": "changelevel failed: c9m9 not found",
        "map ../../etc": "map load failed: ../../etc not found or invalid",
        "map": "No map specified",
        "kick nobody": 'Can\'t kick "nobody", name not found',
        "kickid 99": 'userid "99" not found',
        "banid x y": "Usage:  banid < minutes > < userid | uniqueid > { kick }",
        "banid 0 nobody": 'Can\'t ban user "nobody": invalid id',
        "removeid nobody": 'removeid:  invalid ban ID "nobody"',
        "removeid 7": "removeid:  invalid slot 7",
        "addip 0": "Usage:  addip < minutes > < ipaddress >",
        "addip 0 nowhere": "Bad filter address: nowhere",
        "removeip 10.0.0.1": "removeip:  couldn't find 10.0.0.1",
        "sim_leave nobody": "[simulator] sim_leave needs the name of somebody on the server.",
        "sim_flood many": "[simulator] sim_flood needs a number of lines.",
        "sim_crash LUNCH": "[simulator] there is no signal called LUNCH.",
        "help": "[simulator] sim_help lists what only the simulator has.",
        'echo "a; b" c': '"a; b" c',
    }.items():
        server.ask(command, line)


def test_what_only_the_simulator_has_says_so(servers: GameServers, port: int) -> None:
    server = servers.start(port)
    server.send("sim_help; sim_join; sim_say; sim_leave; sim_flood; sim_flood 3")
    server.wait_for("[simulator] flood 3 of 3")
    after = server.lines[server.lines.index("   VAC secure mode is activated.") + 1 :]
    assert all(line.startswith("[simulator] ") for line in after)
    assert len(after) == 7 + 4 + 3


def test_a_flood_comes_through_whole(servers: GameServers, port: int) -> None:
    server = servers.start(port)
    server.ask("sim_flood 20000", "[simulator] flood 20000 of 20000")
    assert sum("flood" in line for line in server.lines) == 20000


def test_stats_counts_players_and_maps(servers: GameServers, port: int) -> None:
    server = servers.start(port)
    server.send("sim_join A; changelevel c1m2_streets; stats")
    server.wait_for("CPU   In    Out   Uptime  Users   FPS    Players")
    row = server.wait_for("   30.00  ").split()
    assert (row[3], row[4], row[6]) == ("0", "2", "1")


def test_text_that_is_not_utf8_goes_through_unharmed(servers: GameServers, port: int) -> None:
    server = servers.start(port)
    server.send("say caf\udce9 \u2764")
    server.wait_for("Console: caf\ufffd \u2764")


def test_no_text_on_its_console_ends_it(servers: GameServers, port: int) -> None:
    server = servers.start(port, "-maxplayers", "99999")
    source = random.Random(222860)
    words = [
        *(
            "map",
            "changelevel",
            "exec",
            "log on",
            "sv_logsdir",
            "banid",
            "kick",
            "say",
            "echo",
            "users",
        ),
        *(
            "sim_join",
            "sim_leave",
            "sim_say",
            "sim_flood",
            "hostname",
            "removeid",
            "maps",
            "status",
        ),
        *(
            '"',
            ";",
            "//",
            "../x",
            "/etc/passwd",
            "\u00b2",
            "\0",
            "9" * 400,
            "x" * 9000,
            "-1",
            "1e999",
        ),
    ]
    for _ in range(300):
        server.send(" ".join(source.choices(words, k=source.randrange(1, 6))))
        server.send(source.randbytes(source.randrange(40)).replace(b"\n", b"").decode("latin-1"))
    server.ask("echo alive", "alive")
    assert a2s.query_info(HOST, port, TIMEOUT).max_players == 31


def test_a_full_disk_does_not_end_it(servers: GameServers, port: int) -> None:
    with Path("/dev/full").open("w") as full:
        process = subprocess.Popen(
            ["./srcds_linux", "-port", str(port)],
            cwd=servers.game_dir,
            env=servers.environment,
            stdin=subprocess.PIPE,
            stdout=full,
        )
    with process:
        wait_until(lambda: answers(port), TIMEOUT, "it does not answer")
        process.communicate(b"quit\n", TIMEOUT)
    assert process.returncode == 0


@pytest.mark.parametrize("stdin", ["/dev/null", "file", "closed pipe"])
def test_the_end_of_its_input_does_not_end_it(
    servers: GameServers, port: int, stdin: str, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("say from a file\n")
    path = {"/dev/null": "/dev/null", "file": str(tmp_path / "file")}.get(stdin)
    if path:
        with Path(path).open() as file:
            server = servers.spawn(port, stdin=file.fileno())
    else:
        server = servers.spawn(port)
        assert server.process.stdin is not None
        server.process.stdin.close()
    server.wait_for(READY_LINE)
    if stdin == "file":
        server.wait_for("Console: from a file")
    assert a2s.query_info(HOST, port, TIMEOUT).map == "c1m1_hotel"
    ticks = Path(f"/proc/{server.process.pid}/stat")
    before = ticks.read_text().split()[13:15]
    for _ in range(3):
        a2s.query_info(HOST, port, TIMEOUT)
    after = ticks.read_text().split()[13:15]
    assert sum(map(int, after)) - sum(map(int, before)) < 10, "it spins on its closed input"


def test_it_reads_a_fifo_as_a_supervisor_gives_it(
    servers: GameServers, port: int, tmp_path: Path
) -> None:
    fifo = tmp_path / "console.in"
    os.mkfifo(fifo)
    descriptor = os.open(fifo, os.O_RDWR)
    try:
        server = servers.spawn(port, stdin=descriptor)
        server.wait_for(READY_LINE)
        for command in ("say one", "quit"):
            writer = os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)
            os.write(writer, f"{command}\n".encode())
            os.close(writer)
        assert server.wait() == 0
        assert "Console: one" in server.lines
    finally:
        os.close(descriptor)


# What it writes


def test_it_writes_what_srcds_writes_at_run_time(servers: GameServers, port: int) -> None:
    (servers.game_dir / "left4dead2/addons/sourcemod").mkdir()
    servers.config("log on\n")
    server = servers.start(port, "-condebug", "-pidfile", "server.pid")
    server.send("changelevel c1m2_streets; sim_join A; quit")
    assert server.wait() == 0

    game = servers.game_dir / "left4dead2"
    assert (servers.game_dir / "server.pid").read_text() == f"{server.process.pid}\n"
    assert (game / "console.log").read_text().splitlines() == server.lines
    assert (game / "ems").is_dir()
    assert (game / "cfg/sourcemod/sourcemod.cfg").is_file()
    assert list((game / "addons/sourcemod/logs").glob("L*.log"))
    first, second = sorted((game / "logs").glob("L*.log"))
    assert log_texts(first.read_text().splitlines())[-1] == "Log file closed"
    texts = log_texts(second.read_text().splitlines())
    assert (
        texts[0] == f'Log file started (file "logs/{second.name}") (game "{game}") (version "9021")'
    )
    assert texts[1:3] == [
        'Loading map "c1m2_streets"',
        'Started map "c1m2_streets" (CRC "1807732469")',
    ]
    assert texts[-2:] == ['server_message: "quit"', "Log file closed"]


def test_without_log_on_there_is_no_log_file(servers: GameServers, port: int) -> None:
    server = servers.start(port)
    server.ask("log", "not currently logging")
    server.ask("log on", "Server logging enabled.")
    server.ask("log", "currently logging")
    server.ask("log off", "Server logging disabled.")
    server.send("say unseen")
    server.wait_for('say "unseen"')
    (log,) = (servers.game_dir / "left4dead2" / "logs").iterdir()
    assert log_texts(log.read_text().splitlines())[1:] == ["Log file closed"]


def test_what_it_cannot_write_does_not_end_it(servers: GameServers, port: int) -> None:
    game = servers.game_dir / "left4dead2"
    (game / "logs").write_text("a file where the folder should be")
    (game / "console.log").mkdir()
    (game / "cfg" / "banned_user.cfg").mkdir()
    server = servers.start(port, "-condebug", "-pidfile", "no/such/folder/pid")
    server.send("log on; writeid")
    server.wait_for("ERROR: no console log can be written")
    server.wait_for("WARNING: the pid file cannot be written")
    server.wait_for("ERROR: no log file can be written")
    server.wait_for("Couldn't open cfg/banned_user.cfg")
    assert a2s.query_info(HOST, port, TIMEOUT).map == "c1m1_hotel"


# Queries and RCON


def test_info_tells_what_the_console_tells(servers: GameServers, port: int) -> None:
    servers.config('hostname "Zo\xc3\xab"\n'.encode("ascii", "ignore") + b'sv_tags "a,b"\n')
    server = servers.start(port, "+map", "c8m1_apartment")
    server.send("sim_join A; sim_join Bill BOT; echo done")
    server.wait_for("done")
    info = a2s.query_info(HOST, port, TIMEOUT)
    assert (info.name, info.map, info.folder, info.game) == (
        "Zo",
        "c8m1_apartment",
        "left4dead2",
        "Left 4 Dead 2",
    )
    assert (info.app_id, info.players, info.max_players, info.bots) == (550, 2, 4, 1)
    assert (info.version, info.port, info.keywords) == ("2.2.2.1", port, "a,b,coop,secure")
    assert (info.server_type, info.environment, info.protocol) == ("d", "l", 17)
    names = [player.name for player in others_a2s.players((HOST, port), TIMEOUT)]
    assert names == ["A", "Bill"]


def test_info_needs_a_challenge_of_ones_own(servers: GameServers, port: int) -> None:
    servers.start(port)
    request = b"\xff\xff\xff\xffTSource Engine Query\0"
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as first,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as second,
    ):
        for client in (first, second):
            client.settimeout(TIMEOUT)
            client.connect((HOST, port))
        first.send(request)
        answer = first.recv(2048)
        assert answer[:5] == b"\xff\xff\xff\xffA"
        second.send(request + answer[5:])
        assert second.recv(2048)[4:5] != b"I"
        first.send(request + answer[5:])
        assert first.recv(2048)[4:5] == b"I"


def test_rules_come_in_several_datagrams(servers: GameServers, port: int) -> None:
    long = dict.fromkeys(("sv_tags", "sv_contact", "nextlevel"), "x" * 450)
    servers.start(port, *(word for name, value in long.items() for word in (f"+{name}", value)))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(TIMEOUT)
        client.connect((HOST, port))
        client.send(b"\xff\xff\xff\xffV\xff\xff\xff\xff")
        challenge = client.recv(2048)[5:]
        client.send(b"\xff\xff\xff\xffV" + challenge)
        datagrams = [client.recv(2048)]
        count = datagrams[0][8]
        datagrams += [client.recv(2048) for _ in range(count - 1)]
    assert count > 2
    assert all(len(datagram) <= 1200 for datagram in datagrams)
    ids = {struct.unpack_from("<i", datagram, 4)[0] for datagram in datagrams}
    assert len(ids) == 1
    assert 1 <= ids.pop() <= 32767
    rules = others_a2s.rules((HOST, port), TIMEOUT)
    assert {name: rules[name] for name in long} == long
    assert rules["sv_gravity"] == "800"


def test_rubbish_on_its_port_does_no_harm(servers: GameServers, port: int) -> None:
    server = servers.start(port)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        for datagram in (b"", b"x", b"\xff" * 2000, b"\xff\xff\xff\xffU", b"\xff\xff\xff\xffZ1234"):
            client.sendto(datagram, (HOST, port))
    for data in (b"GET / HTTP/1.0\r\n\r\n", struct.pack("<i", -5), b""):
        with socket.create_connection((HOST, port), TIMEOUT) as client:
            client.sendall(data)
    server.wait_for("RCON connection of 127.0.0.1 dropped: a packet of 542393671 bytes")
    assert a2s.query_info(HOST, port, TIMEOUT).map == "c1m1_hotel"


def test_rcon_answers_the_one_who_asked(servers: GameServers, port: int) -> None:
    servers.config("rcon_password secret\n")
    server = servers.start(port)
    answer = rcon.execute(HOST, port, "secret", "sim_join Zoey; users", TIMEOUT)
    assert answer == '<slot:userid:"name">\n1:2:"Zoey"\n1 users\n'
    server.wait_for("entered the game")
    assert "1 users" not in server.lines
    assert any(': command "sim_join Zoey; users"' in text for text in log_texts(server.lines))


def test_rcon_sends_a_long_answer_whole(servers: GameServers, port: int) -> None:
    servers.config("rcon_password secret\n")
    servers.start(port)
    answer = rcon.execute(HOST, port, "secret", "sim_flood 30000", TIMEOUT)
    assert answer.count("\n") == 30000


@pytest.mark.parametrize("config", ["rcon_password secret\n", 'rcon_password ""\n', ""])
def test_rcon_refuses_a_wrong_password_and_any_when_there_is_none(
    servers: GameServers, port: int, config: str
) -> None:
    servers.config(config)
    server = servers.start(port)
    for password in ("", "wrong"):
        with pytest.raises(rcon.RconError, match="refused the password"):
            rcon.execute(HOST, port, password, "status", TIMEOUT)
    server.wait_for(": Bad Password", count=2)


def test_rcon_without_a_password_first_is_refused(servers: GameServers, port: int) -> None:
    servers.config("rcon_password secret\n")
    servers.start(port)
    with socket.create_connection((HOST, port), TIMEOUT) as client:
        client.sendall(rcon.Packet(5, 2, b"quit").encode())
        parsed = rcon.parse_packet(client.recv(4096))
    assert parsed == (rcon.Packet(-1, 2), len(rcon.Packet(-1, 2).encode()))
    assert a2s.query_info(HOST, port, TIMEOUT).port == port


def test_one_rcon_client_that_does_not_read_does_not_stop_the_others(
    servers: GameServers, port: int
) -> None:
    servers.config("rcon_password secret\n")
    servers.start(port)
    with socket.create_connection((HOST, port), TIMEOUT) as lazy:
        lazy.sendall(rcon.Packet(1, 3, b"secret").encode())
        for _ in range(20):
            lazy.sendall(rcon.Packet(2, 2, b"sim_flood 20000").encode())
        assert "hostname" in rcon.execute(HOST, port, "secret", "status", TIMEOUT)


# Its ends


def test_quit_and_exit_end_it_with_0(servers: GameServers, port: int) -> None:
    for command in ("quit", "exit"):
        server = servers.start(port)
        server.send(command)
        assert server.wait() == 0


def test_rcon_quit_ends_it_with_0(servers: GameServers, port: int) -> None:
    servers.config("rcon_password secret\n")
    server = servers.start(port)
    with pytest.raises(rcon.RconError, match="closed the connection"):
        rcon.execute(HOST, port, "secret", "quit", TIMEOUT)
    assert server.wait() == 0


def test_sigint_ends_it_cleanly_and_sigterm_does_not(servers: GameServers, port: int) -> None:
    server = servers.start(port)
    server.signal(signal.SIGINT)
    assert server.wait() == 0
    assert log_texts(server.lines)[-1] == 'server_message: "quit"'
    server = servers.start(port)
    server.signal(signal.SIGTERM)
    assert server.wait() == -signal.SIGTERM


def test_sigint_ends_it_while_it_starts(servers: GameServers, port: int) -> None:
    servers.control(start_seconds=60)
    server = servers.spawn(port)
    server.wait_for("Network: IP")
    server.signal(signal.SIGINT)
    assert server.wait() == 0


@pytest.mark.parametrize(
    ("command", "number"),
    [("sim_crash", signal.SIGSEGV), ("sim_crash abrt", signal.SIGABRT), ("sim_crash 9", 9)],
)
def test_it_crashes_on_demand(servers: GameServers, port: int, command: str, number: int) -> None:
    server = servers.start(port)
    server.send(command)
    assert server.wait() == -number
    assert not list(servers.game_dir.glob("core*"))


def test_a_hanging_server_answers_nothing(servers: GameServers, port: int) -> None:
    server = servers.start(port)
    server.ask("sim_hang", "[simulator] hanging from now on")
    server.send("say anybody")
    with pytest.raises(a2s.QueryError, match="did not answer"):
        a2s.query_info(HOST, port, 0.2)
    assert "Console: anybody" not in server.lines
    server.signal(signal.SIGINT)
    assert server.wait() == -signal.SIGINT


# Failures told by the control file


def test_port_taken(servers: GameServers, port: int) -> None:
    servers.control(fail="port-taken")
    server = servers.spawn(port)
    assert server.wait() == 100
    assert server.lines[-1] == "Couldn't allocate any server IP port"


def test_crash_at_start(servers: GameServers, port: int) -> None:
    servers.control(fail="crash-at-start")
    server = servers.spawn(port)
    assert server.wait() == -signal.SIGSEGV
    assert not any(READY_LINE in line for line in server.lines)


def test_crash_after_some_seconds(servers: GameServers, port: int) -> None:
    servers.control(fail="crash-after:0.2")
    server = servers.start(port)
    assert server.wait() == -signal.SIGSEGV


def test_never_ready(servers: GameServers, port: int) -> None:
    servers.control(fail="never-ready")
    server = servers.spawn(port)
    server.wait_for("Server is hibernating")
    server.ask("echo after", "after")
    assert not any(READY_LINE in line for line in server.lines)
    with pytest.raises(a2s.QueryError, match="did not answer"):
        a2s.query_info(HOST, port, 0.2)


@pytest.mark.parametrize("failure", ["flood", "flood-lines"])
def test_a_flood_does_not_end_by_itself(servers: GameServers, port: int, failure: str) -> None:
    servers.control(fail=failure)
    server = servers.spawn(port)
    wait_until(lambda: len(server.lines) > 10_000, TIMEOUT, "it does not flood")
    assert not any(READY_LINE in line for line in server.lines)
    server.process.kill()


def test_no_query_answer(servers: GameServers, port: int) -> None:
    servers.control(fail="no-query-answer")
    servers.start(port)
    with pytest.raises(a2s.QueryError, match="did not answer"):
        a2s.query_info(HOST, port, 0.2)


def test_silent_on_loopback(servers: GameServers, port: int) -> None:
    servers.control(fail="silent-on-loopback")
    servers.start(port)
    assert not answers(port)
    # Bound there, it answers there.
    other = find_free_port()
    servers.start(other, "-ip", HOST)
    assert answers(other, TIMEOUT)


def test_missing_library(servers: GameServers, port: int) -> None:
    servers.control(fail="missing-library")
    server = servers.spawn(port)
    assert server.wait() == 127
    [line] = server.lines
    assert line == (
        "./srcds_linux: error while loading shared libraries: libstdc++.so.6: "
        "cannot open shared object file: No such file or directory"
    )


def test_exit_early(servers: GameServers, port: int) -> None:
    servers.control(fail="exit-early:7")
    server = servers.spawn(port)
    assert server.wait() == 7
    assert not any("Network: IP" in line for line in server.lines)


def test_it_answers_no_more_than_its_query_limits_allow(servers: GameServers, port: int) -> None:
    # A query is two datagrams: one for the challenge.
    limits = ("+sv_max_queries_sec", "0.3", "+sv_max_queries_window", "20")
    server = servers.start(port, *limits)
    assert all(answers(port, TIMEOUT) for _ in range(3))
    assert not answers(port)
    # The cvars are hidden.
    server.ask("sv_max_queries_sec 100", 'Unknown command "sv_max_queries_sec"')
    other = find_free_port()
    servers.start(other, "+sv_max_queries_sec_global", "0.1")
    assert answers(other, TIMEOUT)
    assert not answers(other)
    third = find_free_port()
    servers.start(third, "+sv_max_queries_sec", "2", "+sv_max_queries_window", "1")
    wait_until(lambda: not answers(third), TIMEOUT, "it answers without a limit")
    wait_until(lambda: answers(third), TIMEOUT, "it does not answer again")


def test_queries_that_came_while_it_loaded_count_too(servers: GameServers, port: int) -> None:
    servers.control(load_seconds=1)
    server = servers.spawn(port, "+sv_max_queries_sec", "0.1", "+sv_max_queries_window", "20")
    server.wait_for('Loading map "c1m1_hotel"')
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        for _ in range(3):
            client.sendto(b"\xff\xff\xff\xffTSource Engine Query\0", (HOST, port))
        server.wait_for(READY_LINE)
        assert not answers(port)
        # Two of the three were answered, late.
        client.settimeout(0.5)
        assert [client.recv(100)[4:5] for _ in range(2)] == [b"A", b"A"]


def test_hang_on_quit(servers: GameServers, port: int) -> None:
    servers.control(fail="hang-on-quit")
    server = servers.start(port)
    server.send("quit")
    server.wait_for('server_message: "quit"')
    with pytest.raises(a2s.QueryError, match="did not answer"):
        a2s.query_info(HOST, port, 0.2)
    server.signal(signal.SIGINT)
    assert server.wait() == -signal.SIGINT


def test_ignore_sigint(servers: GameServers, port: int) -> None:
    servers.control(fail=["ignore-sigint", "hang-on-quit"])
    server = servers.start(port)
    server.signal(signal.SIGINT)
    server.ask("echo still here", "still here")
    server.send("quit")
    server.wait_for('server_message: "quit"')
    server.signal(signal.SIGINT)
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    assert signal.SIGINT in ignored_signals(status)
    server.signal(signal.SIGKILL)
    assert server.wait() == -signal.SIGKILL


def test_failures_can_be_limited_to_ports_and_to_some_starts(
    servers: GameServers, port: int
) -> None:
    other_port = find_free_port()
    servers.control(fail="port-taken", ports=[port], fail_times=1)
    assert servers.spawn(port).wait() == 100
    servers.start(port)
    servers.start(other_port)


def test_every_failure_has_a_test_and_stands_in_the_table() -> None:
    import hostops.simulator

    source = Path(__file__).read_text()
    for name in FAILURES:
        assert f"| {name}" in (hostops.simulator.__doc__ or "")
        assert f'"{name}' in source


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"fail": "fire"}, "srcds.fail is 'fire', but must be one of crash-after:, crash-at-start"),
        ({"fail": "crash-after:soon"}, "needs seconds after the colon"),
        ({"fail": "exit-early:"}, "needs an exit code after the colon"),
        ({"ports": 27015}, "srcds.ports is 27015, but must be a list of whole numbers"),
        ({"pace": 1}, "srcds has no setting called 'pace'"),
    ],
)
def test_a_mistake_in_the_control_file_ends_it_with_2(
    servers: GameServers, port: int, settings: dict[str, object], reason: str
) -> None:
    servers.control(**settings)
    server = servers.spawn(port)
    assert server.wait() == 2
    assert reason in server.lines[-1]
