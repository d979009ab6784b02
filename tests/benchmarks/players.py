"""`script/bench players`: what it costs a worker to know who plays on many servers.

The servers are doubles that live in this process and speak A2S and RCON on the loopback. They answer with the
simulator's own code, and their records on the host say that they run here. Like a real server, a double
prints to its console that RCON asked it something, so what that costs the worker is counted too.
"""

import argparse
import asyncio
import json
import os
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hostops.callbacks import Callbacks
from hostops.host import Host
from hostops.instances import instance_files, layers, runs
from hostops.layout import HostLayout, InstanceLayout
from hostops.linux.proc_stat import read_boot_id
from hostops.linux.process_identity import read_own_stat
from hostops.simulator.commands import Commands
from hostops.simulator.game import Game
from hostops.simulator.queries import Queries
from hostops.simulator.rcon_connection import RconConnection
from hostops.specs import InstanceSpec
from tests.benchmarks.host import Row, add_rows, cpu_share, idle_worker, print_table
from tests.hostops.hosts import write_control

PASSWORD = "a-password-that-only-the-benchmark-has"
ADDRESS = "127.0.0.1"
RUN = 1


def main() -> None:
    """Measure, and print tables."""
    parser = argparse.ArgumentParser(prog="script/bench players", description=__doc__)
    parser.add_argument("--servers", type=int, default=200)
    parser.add_argument("--people", type=int, default=4, help="on each server")
    parser.add_argument("--seconds", type=float, default=60.0, help="how long to watch the worker")
    parser.add_argument("--parts", action="store_true", help="only what the worker's looks cost")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="saferoom-bench-") as folder:
        environment = set_up_django(Path(folder))
        root = Path(folder) / "host"
        root.mkdir()
        write_control(root)
        host = Host(root, game_source="simulator", query_address=ADDRESS)
        host.install_runtime()
        shares = {}
        if not options.parts:
            with idle_worker(environment) as worker:
                shares["no server"] = cpu_share(worker, options.seconds)
        names = [f"server-{number:03}" for number in range(options.servers)]
        add_rows(names)
        doubles = Doubles([make_double(host, HostLayout(root), name) for name in names])
        doubles.start()
        if not options.parts:
            shares |= measure_worker(environment, doubles, options.people, options.seconds)
            print_table(
                f"The worker's CPU, as a share of one core over {options.seconds:g} s",
                [{"a worker": what, "share": f"{share:.2%}"} for what, share in shares.items()],
            )
        else:
            doubles.let_join(options.people)
        print_table(
            f"The looks at {len(names)} servers with {options.people} people each",
            measure_parts(),
        )


def measure_worker(
    environment: dict[str, str], doubles: "Doubles", people: int, watched_seconds: float
) -> dict[str, float]:
    """Return the share of a core that a worker takes: with nobody on, and with people on all servers."""
    shares = {}
    count = len(doubles.servers)
    with idle_worker(environment) as worker:
        shares[f"{count} servers, nobody on"] = cpu_share(worker, watched_seconds)
    doubles.let_join(people)
    with idle_worker(environment) as worker:
        wait_for_players(count * people)
        asked_before = doubles.asked
        share = cpu_share(worker, watched_seconds)
        asked = doubles.asked - asked_before
        shares[f"{count} servers, {people} people on each, {asked} × `status`"] = share
    return shares


def set_up_django(folder: Path) -> dict[str, str]:
    """Make the database, and return the environment of a worker that uses it."""
    environment = {
        **os.environ,
        "SECRET_KEY": "a-key-that-only-the-benchmark-has",
        "DATABASE_URL": f"sqlite:///{folder / 'saferoom.sqlite3'}",
        "HOST_ROOT": str(folder / "host"),
        "HOST_ADDRESS": ADDRESS,
        "GAME_SOURCE": "simulator",
    }
    os.environ.update(environment)
    os.environ["DJANGO_SETTINGS_MODULE"] = "l4d2site.settings"
    import django
    from django.core.management import call_command

    django.setup()
    call_command("migrate", verbosity=0)
    return environment


def wait_for_players(count: int) -> None:
    """Wait until the worker has stored the sessions of this many people."""
    from servers.models import PlayerSession

    until = time.monotonic() + 120
    while (stored := PlayerSession.objects.open().count()) < count:
        assert time.monotonic() < until, f"of {count} people {stored} are known after 120 s"
        time.sleep(0.5)


def measure_parts() -> list[Row]:
    """Return what each of the worker's regular checks costs, and which share of a core that is."""
    from jobs.talk import AdminKeeper, BanKeeper, MapChecker, NameReader, PlayerReader
    from jobs.watch import EmptyWatch, HostWatch, PlayerWatch
    from jobs.worker.chores import READ_NAMES_SECONDS, READ_PLAYERS_SECONDS
    from servers.models import Host as HostRow

    known = (HostRow.local(), dict[str, int]())
    counter = PlayerWatch(HostRow.local())
    watch = HostWatch(HostRow.local(), lambda: True)
    reader = PlayerReader(*known)

    def count_players() -> None:
        """Ask each server one question, and store the answers."""
        before = counter.sweeps
        while counter.sweeps == before:
            counter.store_players()
            time.sleep(0.05)

    def ask_everybody() -> None:
        """Ask each for `status`."""
        fresh = PlayerReader(*known)
        for _ in range(3):  # One turn ends after some seconds.
            fresh.look()

    parts = {
        "states": (watch.store_states, 2.0),
        "consoles": (watch.consoles.copy, 0.15),
        "counts of players, by A2S": (count_players, 10.0),
        "`status` of all": (ask_everybody, 60.0),
        "whom to ask for `status`": (reader.look, READ_PLAYERS_SECONDS),
        "bans": (BanKeeper(*known).look, READ_PLAYERS_SECONDS),
        "admins": (AdminKeeper(*known).look, READ_PLAYERS_SECONDS),
        "changes of map": (MapChecker(*known).look, READ_PLAYERS_SECONDS),
        "names for completion": (NameReader(*known).look, READ_NAMES_SECONDS),
        "who waits until nobody is on": (EmptyWatch(HostRow.local(), counter).look, 0.25),
    }
    return [measure_part(what, *how) for what, how in parts.items()]


def measure_part(what: str, do: Callable[[], object], every_seconds: float) -> Row:
    """Return the least time that something takes once it has been done before."""
    do()
    took = min(thread_seconds(do) for _ in range(1 if every_seconds > 5 else 5))
    return {
        "part": what,
        "CPU": f"{took * 1000:,.1f} ms",
        "every": f"{every_seconds:g} s",
        "share": f"{took / every_seconds:.2%}",
    }


def thread_seconds(do: Callable[[], object]) -> float:
    """Return the CPU time that something takes in this thread: the doubles answer in another one."""
    before = time.thread_time()
    do()
    return time.thread_time() - before


# --- Doubles ----------------------------------------------------------------------------------


@dataclass
class Double:
    """A game server that lives in this process."""

    game: Game
    commands: Commands
    console_path: Path
    port: int
    asked: int = 0

    def answer_rcon(self, sender: str, text: str) -> str:
        """Carry out a command, and print on the console that it came."""
        self.asked += 1
        with self.console_path.open("a") as console:
            console.write(
                f'{time.strftime("L %m/%d/%Y - %H:%M:%S")}: rcon from "{sender}": {text}\n'
            )
        return self.game.capture(lambda: self.commands.run(text))


def make_double(host: Host, layout: HostLayout, name: str) -> Double:
    """Make an instance, and record this process as its game."""
    from servers.models import Server

    server = Server.objects.get(name=name)
    host.initialize(InstanceSpec(name, server.port, rcon_password=PASSWORD))
    instance = layout.instance(name)
    # What a start does before it launches anything.
    layering = layers.Layering("overlay", "", "")
    instance_files.write_launch_plan(layout, instance, layering, {}, Callbacks(), is_boxed=False)
    mark_running(instance, server.port)
    game = Game(layout.current_link / "left4dead2", lambda _: None, max_players=8)
    game.address = (ADDRESS, server.port)
    game.map = "c1m1_hotel"
    game.set_cvar("rcon_password", PASSWORD)
    commands = Commands(game, lambda: None, frozenset())
    return Double(game, commands, instance.console_log_path(RUN), server.port)


def mark_running(instance: InstanceLayout, port: int) -> None:
    """Record what a launcher would, and that the game answers."""
    process = read_own_stat()
    record = {
        "run": RUN,
        "pid": process.pid,
        "start_ticks": process.start_ticks,
        "boot_id": read_boot_id(),
        "started_at": time.time(),
        "release": "1",
        "port": port,
        "address": ADDRESS,
    }
    instance.run_path.write_text(json.dumps(record))
    instance.console_log_path(RUN).touch()
    os.link(instance.run_path, instance.console_run_path(RUN))
    run = runs.read_run(instance)
    assert run is not None
    runs.mark_ready(instance, run)


@dataclass
class Doubles:
    """All of them, served by one thread."""

    servers: list[Double]
    _are_open: threading.Event = field(default_factory=threading.Event)

    @property
    def asked(self) -> int:
        """How many commands have come by RCON."""
        return sum(one.asked for one in self.servers)

    def start(self) -> None:
        """Open the ports."""
        threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True).start()
        assert self._are_open.wait(60), "the ports of the doubles are not open"

    def let_join(self, people: int) -> None:
        """Let people join each server."""
        for number, server in enumerate(self.servers):
            for person in range(people):
                account = number * people + person + 1
                server.commands.run(f'sim_join "Player {account}" STEAM_1:0:{account}')

    async def _serve(self) -> None:
        loop = asyncio.get_running_loop()
        for server in self.servers:
            queries = Queries(server.game)
            address = (ADDRESS, server.port)
            await loop.create_datagram_endpoint(lambda q=queries: Udp(q), local_addr=address)  # type: ignore[misc]
            await loop.create_server(lambda s=server: Tcp(s), *address)  # type: ignore[misc]
        self._are_open.set()
        await asyncio.Event().wait()


class Udp(asyncio.DatagramProtocol):
    """Answers A2S."""

    def __init__(self, queries: Queries) -> None:
        self._queries = queries

    def connection_made(self, transport: Any) -> None:
        """Keep the transport for the answers."""
        self._transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        """Answer a question."""
        for answer in self._queries.answer(data, addr):
            self._transport.sendto(answer, addr)


class Tcp(asyncio.Protocol):
    """Answers RCON."""

    def __init__(self, server: Double) -> None:
        self._server = server

    def connection_made(self, transport: Any) -> None:
        """Begin a conversation."""
        host, port = transport.get_extra_info("peername")
        self._transport = transport
        self._rcon = RconConnection(
            password=lambda: PASSWORD,
            execute=lambda text: self._server.answer_rcon(f"{host}:{port}", text),
            on_refusal=lambda: False,
        )

    def data_received(self, data: bytes) -> None:
        """Answer what has come."""
        self._transport.write(self._rcon.receive(data))


if __name__ == "__main__":
    main()
