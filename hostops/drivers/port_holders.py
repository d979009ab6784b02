"""Finds out who holds this host's ports: the game it was given to, another game, or another program.

Everything said about a port was observed: in the kernel's tables, in the processes' open files, or by a bind.
"""

import contextlib
import errno
import pwd
import socket
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import NamedTuple

from hostops.callbacks import Callbacks
from hostops.errors import HostError
from hostops.instances import instance_files, runs
from hostops.layout import HostLayout, InstanceLayout
from hostops.linux import process_identity, sockets, untrusted
from hostops.linux.locks import has_open
from hostops.linux.sockets import WILDCARD, BoundSocket, Protocol
from hostops.linux.untrusted import UntrustedFileError
from hostops.specs import PORT_RANGE

_LOOK_SECONDS = 2.0
"""The game opens RCON's socket after its own, and may answer queries before that is done."""
_POLL_SECONDS = 0.1

Running = Mapping[str, runs.Run]
"""By name, the last run of each instance that has a living process."""


def find_conflicts(port: int, address: str) -> Iterator[Protocol]:
    """Yield the protocols for which a game could not get a port at an address.

    Tries to bind to it, UDP and TCP, as the game will. Raises HostError if this host lacks the address.
    """
    for protocol, kind in ((Protocol.UDP, socket.SOCK_DGRAM), (Protocol.TCP, socket.SOCK_STREAM)):
        with socket.socket(socket.AF_INET, kind) as probe:
            if protocol is Protocol.TCP:
                # Recently closed connections do not keep a server from listening.
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((address, port))
            except OSError as error:
                if error.errno == errno.EADDRINUSE:
                    yield protocol
                    continue
                if error.errno == errno.EADDRNOTAVAIL:
                    raise HostError(
                        f"{address} is no address of this host: an admin sets the bind address of the server "
                        "or of its host in the admin pages."
                    ) from error
                raise


def find_free_port(layout: HostLayout) -> int | None:
    """Return the lowest port of the range that belongs to no instance here and that nothing holds, if any."""
    taken = {one.port for one in sockets.read_bound() if one.is_in_the_way_of(WILDCARD)}
    for name in layout.instance_names():
        with contextlib.suppress(HostError):  # The instance is being deleted.
            taken.add(instance_files.read_record(layout.instance(name)).port)
    taken |= {run.port for run in _find_running(layout).values()}
    for port in PORT_RANGE:
        # The tables are quicker, but do not show a TCP socket that is not listening yet.
        if port not in taken and not any(find_conflicts(port, WILDCARD)):
            return port
    return None


def find_taken_ports(layout: HostLayout) -> tuple[int, ...]:
    """Return the ports of the range held by something other than the game server they were given to.

    That is another program, or a game server with an additional port, as for SourceTV. If there is such a
    socket, it takes a pass over /proc, otherwise only a check of each running game server.
    """
    running = _find_running(layout)
    given = {run.port: name for name, run in running.items()}
    strange: list[BoundSocket] = []
    for one in sockets.read_bound():
        if one.port in PORT_RANGE and one.is_in_the_way_of(WILDCARD):
            owner = given.get(one.port)
            if owner is None or one.inode not in _look_into(running[owner].pid):
                strange.append(one)
    holders = sockets.find_processes({one.inode for one in strange})
    taken = set()
    for one in strange:
        owner = given.get(one.port)
        pids = holders.get(one.inode, ())
        if pids:
            is_owners = any(_find_server(layout, pid, running) == owner for pid in pids)
        else:
            is_owners = owner is not None and not _may_look_into(running[owner].pid)
        if owner is None or not is_owners:
            taken.add(one.port)
    return tuple(sorted(taken))


def describe_holder(
    layout: HostLayout, instance: InstanceLayout, held: Sequence[BoundSocket]
) -> str:
    """Say who holds sockets that keep an instance from its port: a server, a program, or an account."""
    running = _find_running(layout)
    holders = sockets.find_processes({one.inode for one in held})
    for pid in sorted(pid for pids in holders.values() for pid in pids):
        server = _find_server(layout, pid, running)
        if server and server != instance.name:
            return f"the server {server}"
        if name := sockets.read_name(pid):
            return f"{name} (process {pid})"
    # No holder that this account may inspect. A server may run under another account.
    for one in held:
        for name, run in running.items():
            if run.port == one.port and name != instance.name and not _may_look_into(run.pid):
                return f"the server {name}"
        return f"another program (of account {_account_name(one.uid)})"
    return "another program"


def find_in_the_way(port: int, address: str, protocol: Protocol) -> list[BoundSocket]:
    """Return the sockets that keep a game from having a port at an address."""
    return [
        one
        for one in sockets.read_bound()
        if one.port == port and one.protocol is protocol and one.is_in_the_way_of(address)
    ]


def are_own(instance: InstanceLayout, port: int, held: Sequence[BoundSocket]) -> bool:
    """Whether the sockets on a port belong to the instance's own run, whose end would free them.

    Costs a pass over /proc. If this account may not inspect the run, sockets on the run's port that no other
    process is seen to hold count as its own.
    """
    run = runs.read_run(instance)
    if run is None:
        return False
    inodes, unseen = _own_sockets(instance, run)
    others = {one.inode for one in held} - inodes
    if not others:
        return True
    return bool(unseen) and run.port == port and not sockets.find_processes(others)


def require_own_port(
    layout: HostLayout,
    instance: InstanceLayout,
    run: runs.Run,
    address: str,
    callbacks: Callbacks,
) -> bool:
    """Check that the run's own processes hold its port, for the game (UDP) and for RCON (TCP).

    Waits up to 2 s for that, or for a cancel. Raises HostError if they hold another port, or another program
    holds theirs. Only warns about a game without RCON, or one that this account may not inspect. Returns False
    in the latter case, where nothing is known.
    """
    look = _wait_for_port(instance, run, address, callbacks)
    name, port = instance.name, run.port
    if look.has(Protocol.UDP):
        if not look.has(Protocol.TCP):
            _tell_of_rcon(layout, instance, look, callbacks)
        return True
    in_the_way = [one for one in look.others if one.protocol is Protocol.UDP]
    if look.game_ports:
        holder = (
            f"{describe_holder(layout, instance, in_the_way)} has {port}. " if in_the_way else ""
        )
        raise HostError(
            f"{name} was to have port {port} and took {', '.join(map(str, look.game_ports))}: {holder}"
            f"look for hostport or port in its arguments, its config and its overlays’ configs, "
            "and restart it."
        )
    if look.unseen:
        callbacks.warn(
            f"Whether {name} holds port {port} was not looked at: this account may not see what process "
            f"{look.unseen[0]} has open."
        )
        return False
    if in_the_way:
        raise HostError(
            f"{name} was to have port {port} (UDP), which {describe_holder(layout, instance, in_the_way)} has. "
            f"Stop that and restart {name}, or give {name} another port."
        )
    raise HostError(
        f"{name} was to have port {port} (UDP), and holds no port. Read its console, and restart it."
    )


def _wait_for_port(
    instance: InstanceLayout, run: runs.Run, address: str, callbacks: Callbacks
) -> "PortLook":
    """Look until the run holds all it should, for `_LOOK_SECONDS` at most, and return the last look."""
    deadline = time.monotonic() + _LOOK_SECONDS
    while (
        not (look := look_at_port(instance, run, address)).is_complete
        and time.monotonic() < deadline
    ):
        callbacks.cancel.raise_if_cancelled()
        callbacks.cancel.wait(_POLL_SECONDS)
    return look


class PortLook(NamedTuple):
    """Who holds the port of a run: the run's own sockets on any port, and the sockets of others in its way.

    `unseen` are the run's processes that this account may not inspect.
    """

    port: int
    own: Sequence[BoundSocket]
    others: Sequence[BoundSocket]
    unseen: Sequence[int] = ()

    def has(self, protocol: Protocol) -> bool:
        """Whether the run holds its port."""
        return any(one.port == self.port and one.protocol is protocol for one in self.own)

    @property
    def is_complete(self) -> bool:
        """Whether the run holds both sockets it should."""
        return self.has(Protocol.UDP) and self.has(Protocol.TCP)

    @property
    def game_ports(self) -> list[int]:
        """The ports the game may be on: UDP ports with RCON on the same number, or else all its UDP ports."""
        udp, tcp = self.ports(Protocol.UDP), self.ports(Protocol.TCP)
        return sorted(udp & tcp or udp)

    def ports(self, protocol: Protocol) -> set[int]:
        """Return the ports of one protocol that the run holds."""
        return {one.port for one in self.own if one.protocol is protocol}


def look_at_port(instance: InstanceLayout, run: runs.Run, address: str) -> PortLook:
    """Find out who has a run's port: check its main process and descendants, then if needed all of /proc.

    If the run holds all it should, nobody searches for other holders.
    """
    if run.is_main_process_alive:
        held: set[int] = set()
        # A box's init holds no sockets; its child has all. Reading all processes takes 15 times as long.
        for pid in (run.pid, *process_identity.read_descendants(run.pid)):
            held |= _look_into(pid)
        look = _sort(sockets.read_bound(is_ipv4_alone=True), run, address, held)
        if look.is_complete:
            return look
    table = sockets.read_bound()
    inodes, unseen = _own_sockets(instance, run)
    return _sort(table, run, address, inodes)._replace(unseen=unseen)


def _own_sockets(instance: InstanceLayout, run: runs.Run) -> tuple[set[int], list[int]]:
    """Return the sockets of all processes of a run, and those of its processes that may not be inspected."""
    pids = {one.pid for one in runs.find_processes(instance, run)}
    if run.is_main_process_alive:
        pids |= process_identity.family_of(run.pid)
    inodes: set[int] = set()
    unseen = []
    for pid in sorted(pids):
        try:
            inodes |= sockets.inodes_of(pid)
        except PermissionError:
            unseen.append(pid)
    # A box's init may not be inspected and has no sockets, but the game below it may be.
    seen = pids.difference(unseen)
    return inodes, [
        pid for pid in unseen if seen.isdisjoint(process_identity.read_descendants(pid))
    ]


def _sort(
    table: Sequence[BoundSocket], run: runs.Run, address: str, inodes: Collection[int]
) -> PortLook:
    own = [one for one in table if one.inode in inodes]
    others = [
        one
        for one in table
        if one.inode not in inodes and one.port == run.port and one.is_in_the_way_of(address)
    ]
    return PortLook(run.port, own, others)


def _tell_of_rcon(
    layout: HostLayout, instance: InstanceLayout, look: PortLook, callbacks: Callbacks
) -> None:
    """Warn that the game has no RCON; HostError if another program would receive its password."""
    name, port = instance.name, look.port
    in_the_way = [one for one in look.others if one.protocol is Protocol.TCP]
    if in_the_way and not look.unseen:
        raise HostError(
            f"{name} has port {port} for the game (UDP), but "
            f"{describe_holder(layout, instance, in_the_way)} has it for RCON (TCP), and would be sent the "
            f"RCON password. Stop that and restart {name}, or give {name} another port."
        )
    where = ", ".join(str(other) for other in sorted(look.ports(Protocol.TCP)))
    callbacks.warn(
        f"RCON of {name} cannot be reached: the game does not listen on port {port} (TCP)"
        + (f", but on {where}." if where else ".")
    )


def _find_running(layout: HostLayout) -> Running:
    found = {}
    for name in layout.instance_names():
        instance = layout.instance(name)
        run = runs.read_run(instance)
        if run is not None and runs.is_alive(instance):
            found[name] = run
    return found


def _find_server(layout: HostLayout, pid: int, running: Running) -> str | None:
    """Return the name of the instance whose run a process belongs to."""
    family = set(process_identity.read_ancestry(pid))
    if (stat := process_identity.read_stat(pid)) is not None:
        family.add(stat.session)
    for name, run in running.items():
        is_of_family = run.pid in family and run.is_main_process_alive
        if is_of_family or _holds_lock(pid, layout.instance(name)):
            return name
    return None


def _holds_lock(pid: int, instance: InstanceLayout) -> bool:
    try:
        lock = untrusted.read_status(instance.run_lock_path, instance.trusted_dir)
    except (FileNotFoundError, UntrustedFileError):
        return False
    return has_open(pid, lock)


def _look_into(pid: int) -> frozenset[int]:
    """Return the sockets of a process; none if this account may not inspect it."""
    try:
        return sockets.inodes_of(pid)
    except PermissionError:
        return frozenset()


def _may_look_into(pid: int) -> bool:
    try:
        sockets.inodes_of(pid)
    except PermissionError:
        return False
    return True


def _account_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
