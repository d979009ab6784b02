"""The process of a simulated game server: its start, its port, its console, and its end.

One thread that sleeps in poll() until somebody wants something of it: idle, it costs no CPU time.
"""

import contextlib
import errno
import os
import selectors
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path

from hostops.simulator.arguments import DEFAULT_MAP, Arguments
from hostops.simulator.commands import Commands, crash
from hostops.simulator.cvars import number_in
from hostops.simulator.game import Game
from hostops.simulator.game_log import write_line
from hostops.simulator.map_files import PackError, addons, read_pack
from hostops.simulator.queries import Queries
from hostops.simulator.rcon_connection import ProtocolError, RconConnection, WrongPasswords

STDIN = 0
STDOUT = 1
READ = selectors.EVENT_READ
WRITE = selectors.EVENT_WRITE

EXIT_ENGINE_ERROR = 100
"""Of the engine's `Sys_Error`, by which it ends when it cannot go on."""
PORTS_TO_TRY = 32
MAX_COMMAND = 4096
LOOPBACK = "127."

FLOODS = {
    "flood": b"SCRIPT PERF WARNING --- the simulated game prints this as fast as it can\n",
    "flood-lines": b"x\n",
}
FLOOD_CHUNK_BYTES = 64 * 1024


class PortTakenError(Exception):
    """No port could be opened; the text is the system's."""


class RconClient:
    """A connected RCON client: its socket, and what is still to be sent to it."""

    def __init__(
        self, connection: socket.socket, address: tuple[str, int], protocol: RconConnection
    ) -> None:
        self.socket = connection
        self.address = address
        self.protocol = protocol
        self.unsent = b""


class GameServer:
    """Runs one game server, once."""

    def __init__(
        self,
        root: Path,
        arguments: Arguments,
        failures: frozenset[str],
        load_seconds: float = 0.0,
        early_exit_code: int | None = None,
        missing_natives: frozenset[str] = frozenset(),
    ) -> None:
        self._root = root
        self._arguments = arguments
        self._failures = failures
        self._load_seconds = load_seconds
        self._early_exit_code = early_exit_code
        self._closing = contextlib.ExitStack()
        self._console_log: int | None = None
        self._udp: socket.socket | None = None
        self._timers: list[tuple[float, Callable[[], None]]] = []
        self._console_input = b""
        # poll() and not epoll: stdin may be a file or /dev/null.
        self._selector = selectors.PollSelector()
        self._closing.callback(self._selector.close)
        self._game = Game(
            root / arguments.game,
            self._print,
            max_players=arguments.max_players,
            is_vac_secured=not arguments.is_insecure,
            wait_for_map=self._wait_for_map,
        )
        self._commands = Commands(self._game, self._hang, failures, missing_natives)
        self._queries = Queries(self._game)
        self._wrong_passwords = WrongPasswords(self._game.cvar)

    def run(self, start_seconds: float, crash_after_seconds: float | None) -> int:
        """Start up over `start_seconds`, serve until asked to end, and return the exit code."""
        with self._closing:
            return self._run(start_seconds, crash_after_seconds)

    def _run(self, start_seconds: float, crash_after_seconds: float | None) -> int:
        self._watch_signals()
        if self._arguments.has_console_log:
            self._open_console_log()
        self._print_banner()
        for name in self._arguments.missing_files:
            self._print(f"Parameter file '{name}' not found, skipping...")
        if flood := self._failures & FLOODS.keys():
            self._flood(FLOODS[min(flood)])
        if not self._game.game_dir.is_dir():
            self._print(
                f"Setup file 'gameinfo.txt' doesn't exist in subdirectory '{self._arguments.game}'.\n"
                "Check your -game parameter or VCONFIG setting."
            )
            return EXIT_ENGINE_ERROR
        if self._early_exit_code is not None:
            self._print("Error: the engine gives up (the control file of the simulator says so)")
            return self._early_exit_code
        try:
            self._open_port()
        except PortTakenError as error:
            self._print(f"WARNING: UDP_OpenSocket: unable to bind socket: {error}")
            self._print("Couldn't allocate any server IP port")
            return EXIT_ENGINE_ERROR
        self._write_pid_file()
        self._print_malformed_addons()
        self._call_later(start_seconds / 2, self._start_map)
        self._call_later(start_seconds, self._become_ready)
        if crash_after_seconds is not None:
            self._call_later(start_seconds + crash_after_seconds, crash)
        self._selector.register(STDIN, READ, self._read_console)
        self._serve()
        return 0

    # Start

    def _print_malformed_addons(self) -> None:
        for path in addons(self._game.game_dir):
            try:
                read_pack(path)
            except (PackError, OSError):
                self._print(f'Can\'t load malformed vpk "{path}"')

    def _print_banner(self) -> None:
        self._print(
            "[simulator] This is Saferoom's stand-in for Left 4 Dead 2: nobody can play here."
        )
        self._print("Using shader api: bin/shaderapiempty_srv.so")
        self._print("")
        self._print("Console initialized.")
        self._print('Game.dll loaded for "Left 4 Dead 2"')
        self._print("ConVarRef test_progression_loop doesn't point to an existing ConVar")
        self._print("Game supporting (2) split screen players")
        self._print(f"maxplayers set to {self._game.max_players}")

    def _open_port(self) -> None:
        """Bind the game's UDP port and RCON's TCP port, which have the same number."""
        first = self._arguments.port
        tries = 1 if self._arguments.is_port_strict else PORTS_TO_TRY
        if "port-taken" in self._failures:
            raise PortTakenError("Address already in use")
        for port in range(first, first + tries):
            try:
                self._udp, tcp = _bind(self._arguments.ip, port)
                break
            except (OSError, OverflowError) as error:
                reason = str(error)
        else:
            raise PortTakenError(reason)
        self._closing.enter_context(self._udp)
        self._closing.enter_context(tcp)
        self._selector.register(tcp, READ, lambda: self._accept_rcon(tcp))
        if port != first:
            self._print(f"WARNING: Port {first} was unavailable - bound to port {port} instead")
        self._game.address = (self._arguments.ip, port)
        self._print(
            f"Network: IP {self._arguments.ip}, mode MP, dedicated Yes, ports {port} SV / 27005 CL"
        )

    def _start_map(self) -> None:
        if "crash-at-start" in self._failures:
            crash()
        self._commands.load_plugins()
        map_command = f"map {DEFAULT_MAP}"
        for line in self._arguments.commands:
            if line.lower().split()[:1] == ["map"]:
                map_command = line
            else:
                # Without the quotes that it may have had: a semicolon begins another command, and `//`
                # ends the line.
                self._commands.run(line, is_command_line=True)
        self._create_run_time_files()
        self._commands.run(map_command)

    def _become_ready(self) -> None:
        if "never-ready" in self._failures:
            return
        if not self._game.map:
            # A server without a map has not begun: it waits for a `map` command that works.
            self._call_later(0.2, self._become_ready)
            return
        self._read_queries()
        self._print(f"Initializing Steam libraries for {self._server_kind()}")
        if self._game.is_lan:
            return
        self._print("Connection to Steam servers successful.")
        secure = "activated" if self._game.is_vac_secured else "disabled"
        self._print(f"   VAC secure mode is {secure}.")

    def _read_queries(self) -> None:
        """Begin to read queries. Those that came before have waited in the socket, and count as well."""
        if self._udp is not None:
            self._selector.register(self._udp, READ, self._answer_query)

    def _server_kind(self) -> str:
        if self._game.is_lan:
            return "LAN server"
        if self._game.is_vac_secured:
            return "secure Internet server"
        return "INSECURE Internet server.  Authentication and VAC not requested."

    def _wait_for_map(self) -> None:
        """Load: the only thread is busy, so whatever comes is answered afterwards, SIGINT too."""
        time.sleep(self._load_seconds)

    # What it writes

    def _open_console_log(self) -> None:
        path = self._game.game_dir / "console.log"
        try:
            self._console_log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        except OSError as error:
            self._print(f"ERROR: no console log can be written: {error}.")
            return
        self._closing.callback(os.close, self._console_log)

    def _write_pid_file(self) -> None:
        if self._arguments.pid_file:
            try:
                (self._root / self._arguments.pid_file).write_text(f"{os.getpid()}\n")
            except OSError as error:
                self._print(f"WARNING: the pid file cannot be written: {error}.")

    def _create_run_time_files(self) -> None:
        """Create the folders and files that the game, and SourceMod if it is there, make for themselves."""
        game_dir = self._game.game_dir
        texts = {"ems/readme.txt": "Scripts of the game keep their files here.\n"}
        if (game_dir / "addons" / "sourcemod").is_dir():
            day = time.strftime("%Y%m%d")
            texts |= {
                "cfg/sourcemod/sourcemod.cfg": "// Made by the simulated SourceMod.\n",
                f"addons/sourcemod/logs/L{day}.log": time.strftime(
                    "L %m/%d/%Y - %H:%M:%S: SourceMod log file session started\n"
                ),
            }
        for name, text in texts.items():
            path = game_dir / name
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                if not path.exists():
                    path.write_text(text)
            except OSError as error:
                self._print(f"ERROR: {error}")

    def _print(self, line: str) -> None:
        write_line(STDOUT, line)
        if self._console_log is not None:
            write_line(self._console_log, line)

    # Events

    def _call_later(self, seconds: float, act: Callable[[], None]) -> None:
        self._timers.append((time.monotonic() + seconds, act))
        self._timers.sort(key=lambda timer: timer[0])

    def _serve(self) -> None:
        while not self._game.is_quitting:
            timeout = max(0.0, self._timers[0][0] - time.monotonic()) if self._timers else None
            due = [key.data for key, _ in self._selector.select(timeout)]
            while self._timers and self._timers[0][0] <= time.monotonic():
                due.append(self._timers.pop(0)[1])
            for act in due:
                if not self._game.is_quitting:
                    act()
        self._game.log.close_file()

    def _watch_signals(self) -> None:
        """End cleanly on SIGINT, as on `quit`. SIGTERM ends the process by itself, as it does the real one."""
        if "ignore-sigint" in self._failures:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            return
        reader, writer = socket.socketpair()
        for end in (reader, writer):
            end.setblocking(False)
            self._closing.enter_context(end)
        signal.set_wakeup_fd(writer.fileno())
        self._closing.callback(signal.set_wakeup_fd, -1)
        signal.signal(signal.SIGINT, lambda *_: None)
        self._selector.register(reader, READ, lambda: self._commands.run("quit"))

    def _hang(self) -> None:
        """Do nothing for ever. Only signals help, and SIGINT no longer ends it cleanly."""
        if "ignore-sigint" not in self._failures:
            signal.signal(signal.SIGINT, signal.SIG_DFL)
        while True:
            signal.pause()

    def _flood(self, line: bytes) -> None:
        """Print as fast as the kernel takes it; SIGINT ends it as it ends one that hangs."""
        if "ignore-sigint" not in self._failures:
            signal.signal(signal.SIGINT, signal.SIG_DFL)
        data = line * (FLOOD_CHUNK_BYTES // len(line))
        while True:
            try:
                os.write(STDOUT, data)
            except OSError as error:
                # A full disk, or a file as large as it may be (EFBIG): it goes on trying, as a game does.
                if error.errno not in (errno.ENOSPC, errno.EFBIG):
                    raise
                time.sleep(0.01)

    # Console

    def _read_console(self) -> None:
        try:
            data = os.read(STDIN, 65536)
        except OSError:
            data = b""  # a terminal that was closed
        if not data:
            # The end of its input does not end a game server.
            self._selector.unregister(STDIN)
        *lines, self._console_input = (self._console_input + data).split(b"\n")
        self._console_input = self._console_input[:MAX_COMMAND]
        for line in lines:
            command = line[:MAX_COMMAND].replace(b"\0", b"")
            self._commands.run(command.decode("utf-8", "surrogateescape"))
            if self._game.is_quitting:
                return

    # Queries

    def _answer_query(self) -> None:
        if self._udp is None:
            return
        try:
            datagram, address = self._udp.recvfrom(2048)
        except OSError:
            return  # its checksum was wrong: the kernel has thrown it away
        answers: list[bytes] = []
        if not self._is_silent_towards(address[0]):
            answers = self._queries.answer(datagram, address)
        for answer in answers:
            # Nobody is told of an answer that got lost: it is UDP, and they ask again.
            with contextlib.suppress(OSError):
                self._udp.sendto(answer, address)
        self._commands.count_traffic(len(datagram), sum(map(len, answers)))

    def _is_silent_towards(self, sender: str) -> bool:
        """Whether no query of this address is answered. What comes from loopback was sent to loopback."""
        if "no-query-answer" in self._failures:
            return True
        return (
            "silent-on-loopback" in self._failures
            and sender.startswith(LOOPBACK)
            and not self._arguments.ip.startswith(LOOPBACK)
        )

    # RCON

    def _accept_rcon(self, listener: socket.socket) -> None:
        try:
            connection, address = listener.accept()
        except OSError:
            return  # gone again before it was accepted
        if self._game.address_bans.hold(address[0]):
            connection.close()
            return
        connection.setblocking(False)
        sender = f'rcon from "{address[0]}:{address[1]}"'
        protocol = RconConnection(
            password=lambda: self._game.cvar("rcon_password"),
            execute=lambda text: self._execute_rcon(sender, text),
            on_refusal=lambda: self._refuse_rcon(sender, address[0]),
        )
        client = RconClient(connection, address, protocol)
        self._selector.register(connection, READ, lambda: self._serve_rcon(client))

    def _serve_rcon(self, client: RconClient) -> None:
        try:
            if not client.unsent:
                data = client.socket.recv(65536)
                client.unsent = client.protocol.receive(data)
                if not data or self._game.is_quitting:
                    self._drop_rcon(client)
                    return
            if client.unsent:
                sent = client.socket.send(client.unsent, socket.MSG_NOSIGNAL)
                client.unsent = client.unsent[sent:]
        except BlockingIOError:
            pass
        except (OSError, ProtocolError) as error:
            self._print(f"RCON connection of {client.address[0]} dropped: {error}")
            self._drop_rcon(client)
            return
        key = self._selector.get_key(client.socket)
        # An answer that is not read stops further commands, not the server.
        self._selector.modify(client.socket, WRITE if client.unsent else READ, key.data)

    def _refuse_rcon(self, sender: str, address: str) -> bool:
        """Log a wrong password; ban who sends too many. With a penalty of 0, the default, that is for good."""
        self._game.log.write(f"{sender}: Bad Password")
        if not self._wrong_passwords.count(address):
            return False
        self._print(f"Banning {address} for rcon hacking attempts")
        minutes = int(number_in(self._game.cvar("sv_rcon_banpenalty")))
        self._commands.run(f"addip {minutes} {address}")
        return True

    def _drop_rcon(self, client: RconClient) -> None:
        self._selector.unregister(client.socket)
        client.socket.close()

    def _execute_rcon(self, sender: str, text: str) -> str:
        self._game.log.write(f'{sender}: command "{text}"')
        return self._game.capture(lambda: self._commands.run(text))


def _bind(ip: str, port: int) -> tuple[socket.socket, socket.socket]:
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    tcp = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        udp.bind((ip, port))
        udp.setblocking(False)
        # Connections of an earlier run that are still dying do not count as somebody using the port.
        tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        tcp.bind((ip, port))
        tcp.listen(16)
        tcp.setblocking(False)
    except (OSError, OverflowError):
        udp.close()
        tcp.close()
        raise
    return udp, tcp
