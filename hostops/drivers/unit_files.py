"""The text of the systemd template unit that game servers are instances of, and of their drop-ins."""

import re
import sys
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
"""Starts within the window after which systemd gives up by itself.

The launcher enforces the budget, and first. This is for a unit whose launcher does not come so far, such as one
whose Python is gone.
"""

_BACK_OFF_VERSION = 254  # of systemd, which brought RestartSteps=
_PLAIN_PATH = re.compile(r"/[A-Za-z0-9._/+@-]*")

_WRITE_END = "echo $$SERVICE_RESULT $$EXIT_CODE $$EXIT_STATUS"

# Hidden by ProtectHome= and PrivateTmp=: what the launcher needs from below has to be shown again.
_HIDDEN_DIRS = tuple(map(Path, ("/home", "/root", "/run/user", "/tmp", "/var/tmp")))  # noqa: S108


def unit_name(name: str) -> str:
    """Return the unit of a server."""
    return TEMPLATE_NAME.replace("@", f"@{name}")


def limit_properties(limits: Limits) -> list[str]:
    """Return the limits as systemd's properties; what is None is what the template says."""
    properties = []
    if limits.memory_bytes is not None:
        properties += [f"MemoryMax={limits.memory_bytes}", "MemorySwapMax=0"]
    if limits.tasks is not None:
        properties.append(f"TasksMax={limits.tasks}")
    if limits.cpu_weight is not None:
        properties.append(f"CPUWeight={limits.cpu_weight}")
    return properties


def all_limit_properties(limits: Limits) -> list[str]:
    """Return every property that a limit is made of; an empty value is systemd's default."""
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
    """Where Saferoom is installed: its Python, its code, and what Python itself consists of."""

    python_path: Path
    code_dir: Path
    python_dirs: tuple[Path, ...]

    @classmethod
    def this(cls) -> "Installation":
        """Return the one that runs."""
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
    """Return the template unit for the servers of a host. `user` is whom the system's manager runs them as.

    Raises HostError for a path that a unit file cannot carry plainly.
    """
    installation = installation or Installation.this()
    package_dir = installation.code_dir / "hostops"
    root = _plain(layout.root)
    # Beside the root may lie the panel's database and its secrets.
    neighbours = layout.root if layout.root.parent == Path("/") else layout.root.parent
    hidden_dirs = (*_HIDDEN_DIRS, neighbours)
    needed = (*installation.python_dirs, package_dir)
    # A folder can be hidden by where it is, or by where links lead to.
    places = dict.fromkeys((*needed, *(path.resolve() for path in needed)))
    shown = [
        f"BindReadOnlyPaths={_plain(path)}"
        for path in places
        if any(path.is_relative_to(hidden) for hidden in hidden_dirs)
    ]
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
        # The launcher names the init of the game's PID namespace as the main process.
        "Type=notify",
        "NotifyAccess=main",
        # Of the init, when it hands on the SIGINT by which systemd asks the game to end.
        "SuccessExitStatus=130",
        f"ExecStart={program} {_plain(package_dir)}/launcher.py --foreground {root} %i",
        f"ExecStop=-{program} {_plain(package_dir)}/quit.py {root} %i",
        # How it ended, for who looks only after systemd has restarted it.
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
        # A launch that failed fails again: what is wrong has to be put right first. So the launcher also ends
        # where the budget of restarts is spent.
        f"RestartPreventExitStatus={' '.join(map(str, LAUNCH_FAILURES))}",
        "OOMPolicy=stop",
        # Beside the worker, all games together count as one for the CPU; deploy/ has a limit of their memory.
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
        # By its socket the launcher says that the game runs.
        *(
            ["TemporaryFileSystem=%t:ro", "BindPaths=-%t/systemd/notify"]
            if manager is Manager.USER
            else []
        ),
        f"InaccessiblePaths=-/etc/saferoom -{_plain(installation.code_dir)}/.env",
        "",
        "# What it may do: what a 32-bit srcds with SourceMod's just-in-time compiler needs.",
        "NoNewPrivileges=yes",
        # Of the accounts it sees root and its own. (An IPC object of a game's is in the box, and ends with it.)
        "PrivateUsers=yes",
        *(["RemoveIPC=no"] if manager is Manager.SYSTEM else []),
        "CapabilityBoundingSet=",
        "AmbientCapabilities=",
        # What listens on loopback trusts whoever reaches it. In the account's own manager systemd ignores this.
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
        # The launcher's own: it mounts the server's files, and gives up that power.
        "RestrictNamespaces=user mnt pid ipc",
        "SystemCallArchitectures=native x86",
        "SystemCallFilter=@system-service @mount",
        # The box's own wall; of the set @sandbox, which systemd has since 255.
        "SystemCallFilter=landlock_create_ruleset landlock_add_rule landlock_restrict_self",
        "SystemCallFilter=~@clock @cpu-emulation @debug @module @obsolete @raw-io @reboot @swap",
        "SystemCallErrorNumber=EPERM",
        "KeyringMode=private",
        "",
    ]
    return "\n".join(lines)


def _allow_resolvers() -> list[str]:
    """Return what lets a game look up names where the resolver listens on loopback, as systemd's does.

    The filter knows addresses and no ports (systemd.resource-control(5)).
    """
    try:
        lines = Path("/etc/resolv.conf").read_text(errors="replace").splitlines()
    except OSError:
        return []
    servers = [line.split()[1] for line in lines if re.match(r"nameserver\s+(127\.|::1)", line)]
    return [f"IPAddressAllow={server}" for server in servers if re.fullmatch(r"[0-9.:]+", server)]


def _plain(path: Path) -> str:
    """Return a path that means itself in a unit file, where spaces, colons, quotes and percent signs do not."""
    if not _PLAIN_PATH.fullmatch(str(path)):
        raise HostError(
            f"{path} cannot stand in a unit file: for the systemd driver, use a path of letters, digits and "
            "the characters . _ - + @ alone."
        )
    return str(path)
