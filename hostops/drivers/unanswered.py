"""Finds out why a running server does not answer queries: what was checked, and what to do next.

Every sentence reports something just checked: the server's sockets, its config and arguments, the address.
"""

import contextlib
import ipaddress
import time
from collections.abc import Collection, Iterator, Sequence
from itertools import pairwise

from hostops.console_commands import file_executed, split_commands, split_words
from hostops.drivers import port_holders
from hostops.drivers.host_settings import HostSettings
from hostops.drivers.port_holders import PortLook
from hostops.drivers.startup_console import StartupConsole
from hostops.errors import HostError
from hostops.instances import config_chain, instance_files, runs
from hostops.instances.config_chain import ExecutedFiles
from hostops.layout import HostLayout, InstanceLayout
from hostops.linux import sockets
from hostops.linux.sockets import Protocol
from hostops.specs import ConfigPart

_LIMITS = ("sv_max_queries_sec", "sv_max_queries_sec_global", "sv_max_queries_window")
_ARGUMENTS = "its arguments"
_SETTING_ANOTHER = ("sm_cvar",)
"""Commands that set the cvar in their first argument to their second one."""

_CONSOLE_SECONDS = 1.0
"""How long to search a console: enough for a few hundred MiB."""

_NEXT = (
    "It is not ended: people may be able to play. Read its console, correct what is named here, and restart "
    "it. This note goes away by itself when it answers."
)


def give_up_on(settings: HostSettings, instance: InstanceLayout, run: runs.Run) -> str:
    """Record that a run is up but silent; return why, in sentences.

    A run that is seen to hold no port is not given up on: then nothing is recorded, and the text is empty.
    """
    look = port_holders.look_at_port(instance, run, run.address or sockets.WILDCARD)
    if not (look.has(Protocol.UDP) or look.unseen):
        return ""
    why = explain_silence(
        settings.layout,
        instance,
        run,
        look,
        run.address or settings.query_address,
        argv=instance_files.read_launched_argv(instance),
        is_simulated=settings.is_simulated,
    )
    runs.mark_silent(instance, run, why)
    return why


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
    """Return, for people, what was checked about a run that does not answer, and what to do next."""
    return " ".join(
        (
            *_examine_address(address, is_simulated=is_simulated),
            *_examine_port(layout, instance, look, address),
            *_examine_settings(layout, instance, argv),
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


def _examine_settings(
    layout: HostLayout, instance: InstanceLayout, argv: Sequence[str]
) -> Iterator[str]:
    try:
        parts = config_chain.read_parts(instance)
    except HostError as error:
        yield f"Its config was not looked at: {error}"
        return
    executed = ExecutedFiles(instance_files.read_launched_layers(layout, instance))
    found = find_settings(parts, argv, ("sv_lan", *_LIMITS), executed)
    value, where = found.get("sv_lan", ("0", ""))
    if value not in ("0", ""):
        yield (
            f"sv_lan {value} is set in {where}: such a server keeps away from Steam, and may answer only its "
            "own network. Take it out if players come from elsewhere."
        )
    else:
        far = "" if executed.are_all_read else "As far as its configs could be read: "
        yield f"{far}{'n' if far else 'N'}either its configs nor its arguments set sv_lan 1."
    for name in _LIMITS:
        if name in found:
            value, where = found[name]
            # Hidden cvars: the game accepts them from a config only through SourceMod's sm_cvar, if at all.
            doubt = "" if where == _ARGUMENTS else ", if the game takes it from there"
            yield f"{name} {value} is set in {where}: it limits how many queries are answered{doubt}."


def _examine_console(instance: InstanceLayout, run: runs.Run) -> Iterator[str]:
    console = StartupConsole(instance, run)
    until = time.monotonic() + _CONSOLE_SECONDS
    with contextlib.closing(console):
        while not (is_whole := console.read()) and not console.has_loaded:
            if not console.is_open:
                yield "Its console was not looked at, as it cannot be opened."
                return
            if time.monotonic() > until:
                break
    for failed in console.failed_maps[:1]:
        yield f"It printed: {' / '.join(failed.lines)}."
    if console.has_loaded:
        return
    if is_whole and not console.has_gaps:
        yield "It has not printed that its map is loaded: it may be at that still."
    elif is_whole:
        yield (
            "What is kept of its console does not say that its map is loaded; it printed so much that some of "
            "it was left out."
        )
    else:
        yield (
            f"It prints so much that only the first {console.bytes_read // 1024**2:,} MiB of its console were "
            "looked at: they do not say that its map is loaded."
        )


def find_settings(
    parts: Sequence[ConfigPart],
    argv: Sequence[str],
    names: Sequence[str],
    executed: ExecutedFiles | None = None,
) -> dict[str, tuple[str, str]]:
    """Return what configs and arguments set cvars to, and where; the last one wins.

    Configs are executed on every map, after the arguments. Files that parts of the chain execute are searched
    at that place, each file once, if they are among `executed`.
    """
    found: dict[str, tuple[str, str]] = {}
    seen = {part.path.lower().removeprefix("cfg/") for part in parts}
    words = " ".join(argv).replace('"', " ").split()
    for word, value in pairwise(words):
        name = word.lower().removeprefix("+")
        if word.startswith("+") and name in names:
            found[name] = (value, _ARGUMENTS)
        elif word.lower() == "+exec":
            found |= _find_in(f"exec {value}", _ARGUMENTS, names, executed, seen)
    for part in parts:
        found |= _find_in(part.text, f"{part.path} ({part.source})", names, executed, seen)
    return found


def _find_in(
    text: str,
    where: str,
    names: Collection[str],
    executed: ExecutedFiles | None,
    seen: set[str],
) -> dict[str, tuple[str, str]]:
    """Return what one config sets, including files it executes; `seen` are the files already searched."""
    found: dict[str, tuple[str, str]] = {}
    # A stack of the files in progress, each with its remaining commands. `seen` breaks circles.
    going = [(where, _commands(text))]
    while going:
        where, commands = going[-1]
        command = next(commands, None)
        if command is None:
            going.pop()
            continue
        name, *values = split_words(command) or [""]
        if name.lower() in _SETTING_ANOTHER and values:
            name, *values = values
        if name.lower() in names and values:
            found[name.lower()] = (values[0], where)
        elif executed and (file := executed.find(file_executed(command))):
            path, content = file
            if path not in seen:
                seen.add(path)
                going.append((f"cfg/{path}", _commands(content.decode("latin-1"))))
    return found


def _commands(text: str) -> Iterator[str]:
    for line in text.splitlines():
        yield from split_commands(line)
