"""Finds out why a server that runs does not answer queries: what was looked at, and what to do next.

Every sentence is of what was looked at just then: its sockets, its config and arguments, the address.
"""

import ipaddress
from collections.abc import Iterator, Sequence
from itertools import pairwise

from hostops.console_commands import split_commands, split_words
from hostops.drivers import port_holders
from hostops.drivers.port_holders import PortLook
from hostops.drivers.startup_console import StartupConsole
from hostops.errors import HostError
from hostops.instances import config_chain, runs
from hostops.layout import HostLayout, InstanceLayout
from hostops.linux import sockets
from hostops.linux.sockets import Protocol
from hostops.specs import ConfigPart

_LIMITS = ("sv_max_queries_sec", "sv_max_queries_sec_global", "sv_max_queries_window")
_NEXT = (
    "It is not ended: people may be able to play. Read its console, correct what is named here, and restart "
    "it. This note goes away by itself when it answers."
)


def explain_silence(
    layout: HostLayout,
    instance: InstanceLayout,
    run: runs.Run,
    look: PortLook,
    address: str,
    *,
    argv: Sequence[str],
    is_simulated: bool,
) -> str:
    """Return, for people, what was looked at of a run that does not answer, and what to do next."""
    return " ".join(
        (
            *_examine_address(address, is_simulated=is_simulated),
            *_examine_port(layout, instance, look, address),
            *_examine_settings(instance, argv),
            *_examine_console(instance, run),
            _NEXT,
        )
    )


def _examine_address(address: str, *, is_simulated: bool) -> Iterator[str]:
    if not sockets.is_own_address(address):
        yield (
            f"{address} is no address of this machine: set HOST_ADDRESS to one that it has, or leave it empty, "
            "and it is found."
        )
    elif ipaddress.ip_address(address).is_loopback and not is_simulated:
        yield (
            f"A real game does not answer on loopback ({address}): set HOST_ADDRESS to this machine's address "
            "in its network, or leave it empty, and it is found."
        )


def _examine_port(
    layout: HostLayout, instance: InstanceLayout, look: PortLook, address: str
) -> Iterator[str]:
    own = {one.address for one in look.own if (one.port, one.protocol) == (look.port, Protocol.UDP)}
    if own:
        reached = own & {address, sockets.WILDCARD, "::"}
        where = ", ".join(sorted(own))
        yield f"It has bound port {look.port} (UDP) on {where}." + (
            "" if reached else f" So it cannot answer on {address}: correct its bind address."
        )
    elif look.unseen:
        yield (
            f"Whether it has bound port {look.port} was not looked at: this account may not see what it has "
            "open."
        )
    others = [one for one in look.others if one.protocol is Protocol.UDP]
    if others:
        holder = port_holders.describe_holder(layout, instance, others)
        yield f"{holder[:1].upper()}{holder[1:]} has port {look.port} (UDP) as well."


def _examine_settings(instance: InstanceLayout, argv: Sequence[str]) -> Iterator[str]:
    try:
        parts = config_chain.read_parts(instance)
    except HostError as error:
        yield f"Its config was not looked at: {error}"
        return
    found = find_settings(parts, argv, ("sv_lan", *_LIMITS))
    value, where = found.get("sv_lan", ("0", ""))
    if value not in ("0", ""):
        yield (
            f"sv_lan {value} is set in {where}: such a server keeps away from Steam, and may answer only its "
            "own network. Take it out if players come from elsewhere."
        )
    else:
        yield "Neither its configs nor its arguments set sv_lan 1."
    for name in _LIMITS:
        if name in found:
            value, where = found[name]
            yield f"{name} {value} is set in {where}: it limits how many queries are answered."


def _examine_console(instance: InstanceLayout, run: runs.Run) -> Iterator[str]:
    console = StartupConsole(instance, run)
    console.read()
    console.close()
    for failed in console.failed_maps[:1]:
        yield f"It printed: {' / '.join(failed.lines)}."
    if not console.has_loaded:
        yield "It has not printed that its map is loaded: it may be at that still."


def find_settings(
    parts: Sequence[ConfigPart], argv: Sequence[str], names: Sequence[str]
) -> dict[str, tuple[str, str]]:
    """Return what configs and arguments set cvars to, and where that stands; the last one wins.

    A config is read at every map, after the arguments.
    """
    found: dict[str, tuple[str, str]] = {}
    words = " ".join(argv).replace('"', " ").split()
    for word, value in pairwise(words):
        name = word.lower().removeprefix("+")
        if word.startswith("+") and name in names:
            found[name] = (value, "its arguments")
    for part in parts:
        for line in part.text.splitlines():
            for command in split_commands(line):
                name, *values = split_words(command) or [""]
                if name.lower() in names and values:
                    found[name.lower()] = (values[0], f"{part.path} ({part.source})")
    return found
