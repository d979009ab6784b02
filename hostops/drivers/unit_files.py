"""The text of the systemd template unit for game servers, and of their drop-ins."""

import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hostops.crash_budget import (
    LONGEST_PAUSE_SECONDS,
    PAUSE_SECONDS,
    PAUSE_STEPS,
    RESTART_BUDGET,
    RESTART_WINDOW_SECONDS,
)
from hostops.drivers.systemctl import Manager
from hostops.errors import HostError
from hostops.instances.runs import LAUNCH_FAILURES
from hostops.layout import HostLayout, find_code_dir
from hostops.specs import Limits

TEMPLATE_NAME = "saferoom-game@.service"
SLICE_NAME = "saferoom-games.slice"
_START_LIMIT = 4 * RESTART_BUDGET
"""How many starts within the window make systemd itself give up.

The launcher enforces the budget before that. This is for a unit whose launcher does not get that far, such as
one whose Python is missing.
"""

_BACK_OFF_VERSION = 254  # the systemd version that introduced RestartSteps=
_PLAIN_PATH = re.compile(r"/[A-Za-z0-9._/+@-]*")

_WRITE_END = "echo $$SERVICE_RESULT $$EXIT_CODE $$EXIT_STATUS"

# Hidden by ProtectHome= and PrivateTmp=: the launcher's files below these must be bound explicitly.
_HIDDEN_DIRS = tuple(map(Path, ("/home", "/root", "/run/user", "/tmp", "/var/tmp")))  # noqa: S108


def unit_name(name: str) -> str:
    """Return the name of a server's unit."""
    return TEMPLATE_NAME.replace("@", f"@{name}")


def limit_properties(limits: Limits) -> list[str]:
    """Return the limits as systemd properties; for None the template's value stays."""
    properties = []
    if limits.memory_bytes is not None:
        properties += [f"MemoryMax={limits.memory_bytes}", "MemorySwapMax=0"]
    if limits.tasks is not None:
        properties.append(f"TasksMax={limits.tasks}")
    if limits.cpu_weight is not None:
        properties.append(f"CPUWeight={limits.cpu_weight}")
    return properties


def all_limit_properties(limits: Limits) -> list[str]:
    """Return every property that can limit; an empty value resets it to systemd's default."""
    limited = limit_properties(limits)
    names = {text.partition("=")[0] for text in limited}
    everything = ("MemoryMax", "MemorySwapMax", "TasksMax", "CPUWeight")
    return [*limited, *(f"{name}=" for name in everything if name not in names)]


def limits_drop_in(limits: Limits) -> str:
    """Return the drop-in that limits one server."""
    return "\n".join(
        ["# Written by Saferoom at each start.", "[Service]", *limit_properties(limits), ""]
    )


@dataclass(frozen=True)
class Installation:
    """Where Saferoom is installed: its Python, its code, and the folders of Python itself."""

    python_path: Path
    code_dir: Path
    python_dirs: tuple[Path, ...]

    @classmethod
    def this(cls) -> "Installation":
        """Return the running installation."""
        return cls(
            Path(sys.executable),
            find_code_dir(),
            tuple(dict.fromkeys((Path(sys.base_prefix), Path(sys.prefix)))),
        )


def template(
    layout: HostLayout,
    manager: Manager,
    *,
    version: int,
    user: str = "saferoom",
    installation: Installation | None = None,
    is_simulated: bool = False,
) -> str:
    """Return the template unit for a host's servers. `user` is the account that a system manager uses.

    Raises HostError for a path that a unit file cannot contain unescaped.
    """
    installation = installation or Installation.this()
    package_dir = installation.code_dir / "hostops"
    root = _plain(layout.root)
    # The panel's database and its secrets may be next to the root.
    neighbours = layout.root if layout.root.parent == Path("/") else layout.root.parent
    hidden_dirs = (*_HIDDEN_DIRS, neighbours)
    shown = _show_hidden((*installation.python_dirs, package_dir), hidden_dirs)
    program = f"{_plain(installation.python_path)} -I -S"
    lines = [
        f"# Written by Saferoom for the servers below {root}. Change it by drop-ins: this file is replaced.",
        "[Unit]",
        "Description=Left 4 Dead 2 server %i",
        f"StartLimitIntervalSec={RESTART_WINDOW_SECONDS}",
        f"StartLimitBurst={_START_LIMIT}",
        "",
        "[Service]",
        *([f"User={user}", f"Group={user}"] if manager is Manager.SYSTEM else []),
        # The launcher declares the init of the game's PID namespace the main process.
        "Type=notify",
        "NotifyAccess=main",
        # The init's exit code after it passed on the SIGINT by which systemd asks the game to end.
        "SuccessExitStatus=130",
        f"ExecStart={program} {_plain(package_dir)}/launcher.py --foreground {root} %i",
        f"ExecStop=-{program} {_plain(package_dir)}/quit.py {root} %i",
        # Records how it ended, for readers that check only after systemd has restarted it.
        f"ExecStopPost=-/bin/sh -c '{_WRITE_END} >{root}/instances/%i/end'",
        "KillMode=mixed",
        "KillSignal=SIGINT",
        "TimeoutStopSec=20",
        "Restart=on-failure",
        f"RestartSec={PAUSE_SECONDS}",
        *(
            [f"RestartSteps={PAUSE_STEPS}", f"RestartMaxDelaySec={LONGEST_PAUSE_SECONDS}"]
            if version >= _BACK_OFF_VERSION
            else []
        ),
        # A launch that failed would fail again until the problem is fixed. The launcher also exits this way
        # once the restart budget is spent.
        f"RestartPreventExitStatus={' '.join(map(str, LAUNCH_FAILURES))}",
        "OOMPolicy=stop",
        # For the CPU, all games together count as one unit beside the worker. deploy/ limits their memory.
        f"Slice={SLICE_NAME}",
        "MemoryAccounting=yes",
        "CPUAccounting=yes",
        "TasksAccounting=yes",
        "UMask=0077",
        "",
        "# What it may see: the system read-only, the releases and overlays, and its own files.",
        "ProtectSystem=strict",
        "ProtectHome=tmpfs",
        f"TemporaryFileSystem={_plain(neighbours)}:ro",
        *shown,
        f"BindReadOnlyPaths=-{root}/releases -{root}/overlays -{root}/versions",
        f"BindReadOnlyPaths=-{root}/simulator.json",
        f"TemporaryFileSystem={root}/home:mode=1777,size=64M",
        f"BindReadOnlyPaths=-{root}/steamcmd -{root}/home/.steam",
        f"BindPaths={root}/instances/%i",
        "PrivateTmp=yes",
        "PrivateDevices=yes",
        "PrivateMounts=yes",
        "ProtectProc=invisible",
        "# No way to a manager, which could start something outside of this box.",
        "InaccessiblePaths=-/run/dbus -/run/systemd/private",
        # The launcher reports through this socket that the game runs.
        *(
            ["TemporaryFileSystem=%t:ro", "BindPaths=-%t/systemd/notify"]
            if manager is Manager.USER
            else []
        ),
        f"InaccessiblePaths=-/etc/saferoom -{_plain(installation.code_dir)}/.env",
        "",
        "# What it may do: what a 32-bit srcds with SourceMod's just-in-time compiler needs.",
        "NoNewPrivileges=yes",
        # It sees only root and its own account. (A game's IPC objects are inside the box, and end with it.)
        "PrivateUsers=yes",
        *(["RemoveIPC=no"] if manager is Manager.SYSTEM else []),
        "CapabilityBoundingSet=",
        "AmbientCapabilities=",
        # Services on loopback trust all comers. In the account's own manager systemd ignores this.
        *(
            ["IPAddressDeny=localhost link-local", *_allow_resolvers()]
            if manager is Manager.SYSTEM and not is_simulated
            else []
        ),
        "ProtectKernelTunables=yes",
        "ProtectKernelModules=yes",
        "ProtectKernelLogs=yes",
        "ProtectControlGroups=yes",
        "ProtectClock=yes",
        "ProtectHostname=yes",
        "LockPersonality=yes",
        "RestrictRealtime=yes",
        "RestrictSUIDSGID=yes",
        "RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX AF_NETLINK",
        # For the launcher, which mounts the server's files and then drops that power.
        "RestrictNamespaces=user mnt pid ipc",
        "SystemCallArchitectures=native x86",
        "SystemCallFilter=@system-service @mount",
        # For the box's own wall; part of the set @sandbox, in systemd since 255.
        "SystemCallFilter=landlock_create_ruleset landlock_add_rule landlock_restrict_self",
        "SystemCallFilter=~@clock @cpu-emulation @debug @module @obsolete @raw-io @reboot @swap",
        "SystemCallErrorNumber=EPERM",
        "KeyringMode=private",
        "",
    ]
    return "\n".join(lines)


def _show_hidden(needed: Sequence[Path], hidden_dirs: Sequence[Path]) -> list[str]:
    """Return what makes needed folders visible that are below hidden ones."""
    # A folder may be hidden under its own path, or under the path that its links resolve to.
    places = dict.fromkeys((*needed, *(path.resolve() for path in needed)))
    return [
        f"BindReadOnlyPaths={_plain(path)}"
        for path in places
        if any(path.is_relative_to(hidden) for hidden in hidden_dirs)
    ]


def _allow_resolvers() -> list[str]:
    """Return what allows name lookups if the resolver listens on loopback, as systemd's does.

    The filter distinguishes addresses, but not ports (systemd.resource-control(5)).
    """
    try:
        lines = Path("/etc/resolv.conf").read_text(errors="replace").splitlines()
    except OSError:
        return []
    servers = [line.split()[1] for line in lines if re.match(r"nameserver\s+(127\.|::1)", line)]
    return [f"IPAddressAllow={server}" for server in servers if re.fullmatch(r"[0-9.:]+", server)]


def _plain(path: Path) -> str:
    """Return a path if it means itself in a unit file; spaces, colons, quotes and percent signs do not."""
    if not _PLAIN_PATH.fullmatch(str(path)):
        raise HostError(
            f"{path} cannot stand in a unit file: for the systemd driver, use a path of letters, digits and "
            "the characters . _ - + @ alone."
        )
    return str(path)
