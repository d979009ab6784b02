"""What the host layer takes and gives: frozen dataclasses, and the rules for names, ports and arguments."""

import ipaddress
import re
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from time import monotonic, sleep
from typing import Protocol, TypedDict

from hostops.config_text import ConfigError as ConfigError
from hostops.config_text import find_map_changes as find_map_changes
from hostops.config_text import require_config as require_config
from hostops.console_commands import MOVING as MOVING
from hostops.console_commands import NO_COMMANDS as NO_COMMANDS
from hostops.console_commands import SECRETS as SECRETS
from hostops.console_commands import names_used as names_used
from hostops.console_commands import split_commands as split_commands
from hostops.console_commands import split_words as split_words
from hostops.errors import OperationCancelled
from hostops.launch_arguments import OPTIONS as OPTIONS
from hostops.launch_arguments import ArgumentsError as ArgumentsError
from hostops.launch_arguments import Fault as Fault
from hostops.launch_arguments import find_conflicts as find_conflicts
from hostops.launch_arguments import find_map as find_map
from hostops.launch_arguments import find_mode as find_mode
from hostops.launch_arguments import join_arguments as join_arguments
from hostops.launch_arguments import parse_arguments as parse_arguments
from hostops.launch_arguments import put_map as put_map
from hostops.launch_arguments import require_arguments as require_arguments
from hostops.launch_arguments import take_bind_address as take_bind_address
from hostops.manifests import SHA256 as SHA256
from hostops.manifests import ManifestError as ManifestError
from hostops.manifests import ManifestFile as ManifestFile
from hostops.manifests import read_known_files as read_known_files
from hostops.manifests import read_known_lines as read_known_lines
from hostops.manifests import read_manifest as read_manifest
from hostops.manifests import require_paths as require_paths
from hostops.manifests import write_manifest as write_manifest
from hostops.map_names import drop_folder as drop_folder
from hostops.map_names import find_nearest as find_nearest
from hostops.map_names import to_map_key as to_map_key
from hostops.names import NAME_PATTERN as NAME_PATTERN
from hostops.names import require_name as require_name
from hostops.overlay_references import OverlayReference as OverlayReference

PORT_RANGE = range(27015, 27116)
"""The ports that are given out: srcds takes the first for the game (UDP) and RCON (TCP) alike."""

MEMORY_LIMIT_RANGE = range(64 * 1024**2, 1024**4 + 1)
TASKS_LIMIT_RANGE = range(8, 32_769)
CPU_WEIGHT_RANGE = range(1, 10_001)
"""systemd's range; 100 is what everything else has."""

LIMIT_NAMES = ("memory", "tasks", "CPU weight")

DRIVERS = ("process", "systemd", "systemd-system")
"""What can run servers: processes, units of the account's own manager, or units of the system's."""

GAME_APP_ID = 222860
"""Steam's app id of the Left 4 Dead 2 dedicated server."""

Stream = str
"""`stdout` or `stderr`."""

OnLine = Callable[[Stream, str], None]
"""Takes one line of output, without its line end. Called from several threads at a time."""

OnStage = Callable[[str, int | None], None]
"""Takes the name of the stage that is running and its progress in percent, or None where there is none."""


class InstanceState(StrEnum):
    """What a server's instance on its host is doing, as found there.

    `absent` (no files) → `stopped` (files, nothing runs) → `starting` (runs, does not answer yet) →
    `running` (answers, or has been waited for in vain: see SILENT_NOTE); `crashed` is a process that ended
    without having been asked to.
    """

    ABSENT = "absent"
    STOPPED = "stopped"
    STARTING = "starting"
    RUNNING = "running"
    CRASHED = "crashed"


SILENT_NOTE = "does not answer queries"
"""The note of a server that runs, and from which nobody has had an answer since its start."""


@dataclass(frozen=True)
class Limits:
    """What one server may take of its host; None is without a limit. Only systemd can enforce them."""

    memory_bytes: int | None = None
    tasks: int | None = None
    cpu_weight: int | None = None

    def __post_init__(self) -> None:
        for what, value, range_ in (
            ("memory limit", self.memory_bytes, MEMORY_LIMIT_RANGE),
            ("task limit", self.tasks, TASKS_LIMIT_RANGE),
            ("CPU weight", self.cpu_weight, CPU_WEIGHT_RANGE),
        ):
            if value is not None and value not in range_:
                raise ValueError(
                    f"A {what} of {value} cannot be: use {range_.start:,} to {range_.stop - 1:,}."
                )

    @property
    def is_empty(self) -> bool:
        """Whether nothing is limited."""
        return self == Limits()


STEAM_ID = re.compile(r"STEAM_[01]:[01]:\d{1,10}", re.ASCII)


@dataclass(frozen=True)
class SpecBan:
    """Somebody who may not join a server; 0 minutes is for good, as the game counts them."""

    steam_id: str
    minutes: int = 0

    def __post_init__(self) -> None:
        require_steam_id(self.steam_id)
        if self.minutes < 0:
            raise ValueError(f"A ban of {self.minutes} minutes cannot be: 0 is for good.")


@dataclass(frozen=True)
class SpecAdmin:
    """Somebody who is an admin in SourceMod, with its flags, a letter each; the name is for people."""

    steam_id: str
    flags: str
    name: str = ""

    def __post_init__(self) -> None:
        require_steam_id(self.steam_id)
        if not re.fullmatch(r"[a-z]{1,26}", self.flags):
            raise ValueError(f"{self.flags!r} are no flags of SourceMod: use letters from a to z.")


@dataclass(frozen=True)
class InstanceSpec:
    """Everything needed to make a server's instance. The first overlay lies on top of the others.

    `overlays` are texts of `OverlayReference`. A change of the limits applies, as everything here, at the next
    start.
    """

    name: str
    port: int
    overlays: tuple[str, ...] = ()
    arguments: tuple[str, ...] = ()
    config: str = ""
    memory_limit_bytes: int | None = None
    tasks_limit: int | None = None
    cpu_weight: int | None = None
    bind_address: str = ""
    """The IPv4 address that the game binds to; empty: it chooses, and listens on all of them."""
    rcon_password: str = field(default="", repr=False)
    join_password: str = field(default="", repr=False)
    bans: tuple[SpecBan, ...] = ()
    """Whom the game bans as it starts; those that come first count first, where not all fit in a config."""
    admins: tuple[SpecAdmin, ...] = ()
    """Who its admins are, if it has SourceMod."""
    lifted: tuple[str, ...] = ()
    """Whose bans for good were lifted: Steam IDs that the game may still have in a file that it wrote."""

    @property
    def limits(self) -> Limits:
        """What the server may take of its host."""
        return Limits(self.memory_limit_bytes, self.tasks_limit, self.cpu_weight)

    def __post_init__(self) -> None:
        require_name(self.name)
        _ = self.limits  # refuses what cannot be
        for overlay in self.overlays:
            OverlayReference.parse(overlay)  # raises ValueError
        if not 1024 <= self.port <= 65535:
            raise ValueError(
                f"Port {self.port} of server {self.name} is not between 1024 and 65535."
            )
        for steam_id in self.lifted:
            require_steam_id(steam_id)
        if self.bind_address:
            ipaddress.IPv4Address(self.bind_address)  # raises ValueError
        for what, secret in (("RCON", self.rcon_password), ("join", self.join_password)):
            require_secret(what, secret)


@dataclass(frozen=True)
class ConfigPart:
    """One file of a server's config chain as it was last written, for people: without passwords.

    `path` is below the game's own folder (`cfg/saferoom/10-maps.cfg`), `source` says whose file it is a copy
    of, and `warnings` are sentences.
    """

    path: str
    source: str
    text: str
    warnings: tuple[str, ...]


class AdminsOutcome(StrEnum):
    """What came of writing a server's admins into SourceMod's file.

    `waiting`: the next start writes them.
    """

    WRITTEN = "written"
    UNCHANGED = "unchanged"
    WAITING = "waiting"
    NO_SOURCEMOD = "no_sourcemod"
    REFUSED = "refused"


@dataclass(frozen=True)
class AdminsReport:
    """What came of it, and in sentences what people should know of the file; mostly nothing."""

    outcome: AdminsOutcome
    remark: str = ""


@dataclass(frozen=True)
class CrashedRun:
    """A run of a server that ended without having been asked to.

    How it ended only systemd can tell: by a signal such as SIGSEGV or with an exit code, and whether that was
    because it took more memory than it may. None where nobody knows.
    """

    run: int
    exit_signal: str | None = None
    exit_code: int | None = None
    is_out_of_memory: bool = False

    @property
    def how(self) -> str:
        """How it ended, in a word or three; empty where nobody knows."""
        if self.is_out_of_memory:
            return "out of memory"
        if self.exit_signal is not None:
            return self.exit_signal
        return "" if self.exit_code is None else f"exit code {self.exit_code}"


@dataclass(frozen=True)
class DueRestart:
    """A restart after a crash that no manager makes: whoever watches the host starts the server.

    `number` counts the restarts of the window from 1, out of `budget`. Times are seconds since the epoch:
    when the run ended, as far as that is known, and when it is to be started.
    """

    number: int
    budget: int
    crashed_at: float
    due_at: float


@dataclass(frozen=True)
class InstanceStatus:
    """What one instance is doing. `started_at` is seconds since the epoch; `detail` is for people.

    `run` is the number of its last start, which only grows while the instance is there, and `crashed_runs`
    are those that ended on their own, the latest at the end: so nobody who looks only now and then misses
    one. `restarts` are those after crashes since somebody started it. Only systemd knows what it uses. None
    where nothing is known.
    """

    name: str
    state: InstanceState
    pid: int | None = None
    started_at: float | None = None
    release: str | None = None
    detail: str = ""
    ended_by_reboot: bool = False
    """It ran, nobody stopped it, and the host has restarted since."""
    is_stopping: bool = False
    """It runs, and has been asked to end: it will, also if whoever asked does not wait for it."""
    exit_code: int | None = None
    exit_signal: str | None = None
    restarts: int | None = None
    run: int | None = None
    crashed_runs: tuple[CrashedRun, ...] = ()
    note: str = ""
    """The state in other words, where more is known: `restarting (2 of 5)`, `gave up`, SILENT_NOTE."""
    due_restart: DueRestart | None = None
    """What whoever watches is to do about its crash; None if systemd does it, or nobody is to."""
    # Measured anew each time: no difference between two states.
    memory_bytes: int | None = field(default=None, compare=False)
    cpu_seconds: float | None = field(default=None, compare=False)


@dataclass(frozen=True)
class SteamAccount:
    """A Steam account that owns the game. Without any password, SteamCMD's own saved login is used.

    The password file is read when it is needed, and wins over the password.
    """

    name: str
    password: str = field(default="", repr=False)
    password_file: Path | None = None

    def __post_init__(self) -> None:
        for text in (self.name, self.password):
            if any(character == '"' or ord(character) < 32 for character in text):
                raise ValueError(
                    "SteamCMD cannot be given a Steam account whose name or password contains a quotation "
                    "mark or a control character."
                )


STEAM_GUARD_STAGE = "Waiting for a Steam Guard code"
"""The stage of an install that asks for one: by it pages know that they are to ask people."""

STEAM_GUARD_CODE = re.compile(r"[A-Z0-9]{5,8}")
"""What can be a code: five letters and digits today; a few more are let through."""


@dataclass(frozen=True)
class ConsolePosition:
    """A place in a server's console: the byte `offset` in the output of its `run`-th start.

    `run_started_at`, where it is known, tells that run from one of the same number after the instance was
    deleted and made again.
    """

    run: int = 0
    offset: int = 0
    run_started_at: float = 0.0


class RunEnding(StrEnum):
    """How one start of a server ended: asked to stop, on its own, with the host, or nobody knows."""

    STOPPED = "stopped"
    CRASHED = "crashed"
    HOST_RESTARTED = "host_restarted"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class RunFacts:
    """What is known of one start of a server. Times are seconds since the epoch.

    `ending` is None while it goes on. `last_output_at` is when it last printed something; a signal is known of
    the latest runs alone.
    """

    run: int
    started_at: float
    release: str
    ending: RunEnding | None = None
    last_output_at: float | None = None
    exit_signal: str = ""


@dataclass(frozen=True)
class ConsoleChunk:
    """Whole lines of a console as (run, line), and the position after them."""

    lines: tuple[tuple[int, str], ...]
    position: ConsolePosition


@dataclass(frozen=True)
class HostFacts:
    """What a host is like: `layering` is `overlay` or `copy`, and `layering_detail` says why it is a copy."""

    driver: str
    game_source: str
    layering: str
    layering_detail: str = ""
    build_id: str = ""
    disk_free_bytes: int | None = None
    limits_without_effect: tuple[str, ...] = ()
    """Those of LIMIT_NAMES that nothing holds servers to here."""
    latest: "LatestBuild | None" = None
    """What Steam said last of newer builds; None as long as nobody has asked."""
    walls: tuple["WallFacts", ...] = ()
    """What keeps a game's code in here; where it cannot be boxed, one wall that does not stand."""
    taken_ports: tuple[int, ...] = ()
    """Those of PORT_RANGE that are held by anything but the game server that was given one."""
    disk_total_bytes: int | None = None
    memory_total_bytes: int | None = None
    memory_available_bytes: int | None = None
    """What programs could still have; of the whole machine, as its total."""


@dataclass(frozen=True)
class WallFacts:
    """One wall of the box that game servers run in; `sentence` says why it does not stand, and the cure."""

    name: str
    stands: bool
    sentence: str = ""


@dataclass(frozen=True)
class LatestBuild:
    """The build that Steam handed out when it was last asked; `checked_at` is seconds since the epoch."""

    build_id: str
    checked_at: float


@dataclass(frozen=True)
class InstalledRelease:
    """One build of the game on a host; `used_by` are the instances that run from it."""

    build_id: str
    is_current: bool
    installed_at: float
    used_by: tuple[str, ...] = ()


class Severity(StrEnum):
    """What a finding means for who runs game servers."""

    OK = "ok"
    TODO = "todo"
    """Nothing is wrong, but something has to be done before servers run."""
    WARNING = "warning"
    """Servers run, but not all is as it should be."""
    FAULT = "fault"
    """Servers do not run, or not for long."""


@dataclass(frozen=True)
class Chapter:
    """One map of a campaign, by its lower-case name, and what the game calls it."""

    map: str
    title: str = ""


@dataclass(frozen=True)
class CampaignMode:
    """The chapters of a campaign in one game mode, in their order."""

    name: str
    chapters: tuple[Chapter, ...] = ()


@dataclass(frozen=True)
class Campaign:
    """What one mission file says. `path` is that file's, below its layer or in its pack.

    `problem` says in a sentence what is wrong with the file, or is empty: what is here was made out all the
    same, and the game may drop it.
    """

    name: str
    title: str
    path: str
    modes: tuple[CampaignMode, ...] = ()
    problem: str = ""


class ContentSeverity(StrEnum):
    """What a finding about an overlay means for a start: it is refused, people are warned, or only told."""

    REFUSED = "refused"
    WARNED = "warned"
    NOTED = "noted"


@dataclass(frozen=True)
class ContentFinding:
    """One thing that is to be said of an overlay's files. `code` names its kind for programs.

    `path` is below the overlay, made safe to be shown, and empty where it is about the whole. `text` is one or
    two sentences: what was found, and what to do.
    """

    code: str
    severity: ContentSeverity
    text: str
    path: str = ""


@dataclass(frozen=True)
class PluginNeeds:
    """What a plugin that SourceMod loads by itself cannot do without, and which libraries it is for others.

    `path` is below the folder of plugins. Extensions are named by their files, in lower case (`sdktools.ext`).
    Libraries are other plugins: the name, and the file that usually is it.
    """

    path: str
    extensions: tuple[str, ...] = ()
    libraries: tuple[tuple[str, str], ...] = ()
    provides: tuple[str, ...] = ()


@dataclass(frozen=True)
class OverlayReport:
    """What an overlay on a host is. `fingerprint` is another one once a file of it has changed.

    `maps` are lower-case names without `.bsp`. `plugins` are those that need or provide anything; None if not
    all could be read.
    """

    name: str
    fingerprint: str
    files: int
    size_bytes: int
    findings: tuple[ContentFinding, ...] = ()
    campaigns: tuple[Campaign, ...] = ()
    maps: tuple[str, ...] = ()
    plugins: tuple[PluginNeeds, ...] | None = None

    @property
    def refusals(self) -> tuple[ContentFinding, ...]:
        """The findings for which a server with this overlay is not started."""
        return tuple(one for one in self.findings if one.severity is ContentSeverity.REFUSED)


@dataclass(frozen=True)
class PrunedContent:
    """How many versions of overlays were removed from a host, and how many bytes of fetched files."""

    versions: int = 0
    freed_bytes: int = 0


@dataclass(frozen=True)
class ReleaseReport:
    """What the release that the next start takes has. `obstacles` say in sentences what could not be read."""

    build_id: str
    campaigns: tuple[Campaign, ...] = ()
    maps: tuple[str, ...] = ()
    obstacles: tuple[str, ...] = ()


@dataclass(frozen=True)
class UnpackLimits:
    """What unpacking one archive may take. Bytes are those of all its files together.

    `ratio` is by how much they may outweigh the archive, once they are more than `ratio_after_bytes`. `entries`
    counts files and folders; `path_bytes` and `depth` are of one path.
    """

    seconds: float = 900.0
    total_bytes: int = 16 * 1024**3
    entries: int = 50_000
    ratio: int = 200
    ratio_after_bytes: int = 64 * 1024**2
    path_bytes: int = 1024
    depth: int = 32
    memory_bytes: int = 512 * 1024**2


@dataclass(frozen=True)
class UnpackedFile:
    """One file that was in an archive. `path` is the one it has there, checked, with "/" between its parts.

    `sha256` is in hexadecimal digits, and `stored_at` the numbered file that has its bytes now.
    """

    path: str
    sha256: str
    size: int
    stored_at: Path
    is_executable: bool


@dataclass(frozen=True)
class Arrangement:
    """Where files that came from outside belong in an overlay.

    `places` has the path in the overlay by the path with which a file came. What is not in it is not taken
    over, and `notes` say why. With a note that is REFUSED people have to choose first, and `places` is empty.
    """

    places: Mapping[str, str]
    notes: tuple[ContentFinding, ...] = ()

    @property
    def refusals(self) -> tuple[ContentFinding, ...]:
        """The notes for which nothing is taken over."""
        return tuple(one for one in self.notes if one.severity is ContentSeverity.REFUSED)


@dataclass(frozen=True)
class PluginExtension:
    """An extension that a plugin names: what it is called, its file, and whether it does without."""

    name: str
    file: str
    is_required: bool


@dataclass(frozen=True)
class PluginLibrary:
    """A library, which is another plugin, that a plugin names; `file` is that plugin's."""

    name: str
    file: str
    is_required: bool


@dataclass(frozen=True)
class PluginFacts:
    """What a compiled plugin (`.smx`) says of itself. `provides` are the libraries that it is for others."""

    title: str
    author: str = ""
    version: str = ""
    description: str = ""
    url: str = ""
    extensions: tuple[PluginExtension, ...] = ()
    libraries: tuple[PluginLibrary, ...] = ()
    provides: tuple[str, ...] = ()


@dataclass(frozen=True)
class Finding:
    """One result of `doctor`: what was looked at, whether it is fine; if not, how bad it is and the cure."""

    subject: str
    is_ok: bool
    text: str
    cure: str = ""
    if_not: Severity = Severity.FAULT

    @property
    def severity(self) -> Severity:
        """How bad it is."""
        return Severity.OK if self.is_ok else self.if_not


class CommandWay(StrEnum):
    """How a command reaches a running server: by RCON, or typed into its console, which gives no answer."""

    RCON = "rcon"
    TYPED = "typed"


@dataclass(frozen=True)
class CommandAnswer:
    """What a server printed when it was given a command; nothing is known of that if it was typed.

    `run` is the number of the run that was told. `why_typed` says why RCON was not used, and
    `is_password_refused` whether it was for the password: who goes on trying is banned by the engine.
    """

    way: CommandWay
    text: str
    run: int
    why_typed: str = ""
    is_password_refused: bool = False


CANCEL_LOOK_SECONDS = 0.05
"""How often who waits looks whether the end was asked for."""


class CancelToken:
    """Asks a running operation to end.

    `cancel` may be called from any thread, more than once, and from a signal handler: it takes no lock, which
    the thread that the signal interrupts might hold.
    """

    def __init__(self) -> None:
        self.reason = "Cancelled on request."
        self.is_cancelled = False
        """Whether the end was asked for."""

    def cancel(self, reason: str = "Cancelled on request.") -> None:
        """Ask for the end; the first reason that is given stands."""
        if not self.is_cancelled:
            self.reason = reason
        self.is_cancelled = True

    def wait(self, seconds: float) -> bool:
        """Wait for at most `seconds`; return, soon after it was, whether the end was asked for."""
        until = monotonic() + seconds
        while not self.is_cancelled and (left := until - monotonic()) > 0:
            sleep(min(left, CANCEL_LOOK_SECONDS))
        return self.is_cancelled

    def raise_if_cancelled(self) -> None:
        """Raise `OperationCancelled` if the end was asked for."""
        if self.is_cancelled:
            raise OperationCancelled(self.reason)


def require_steam_id(steam_id: str) -> str:
    """Return a Steam ID as the game writes it, or raise ValueError."""
    if not STEAM_ID.fullmatch(steam_id):
        raise ValueError(f"{steam_id!r} is no Steam ID as the game has it: STEAM_1:0:12345.")
    return steam_id


SECRET_PATTERN = re.compile(r"[!-~]{0,64}")
"""What a password may be: printable ASCII without blanks, as the engine's console splits at them."""


def require_secret(what: str, secret: str) -> str:
    """Return a password, or raise ValueError, without showing it, if a cfg file cannot carry it."""
    if not SECRET_PATTERN.fullmatch(secret) or any(one in secret for one in '"\\;'):
        raise ValueError(
            f"The {what} password must have at most 64 letters, digits and signs, and no blank, "
            "quotation mark, backslash or semicolon."
        )
    return secret


class Readable(Protocol):
    """What bytes are read from; no bytes are its end."""

    def read(self, size: int, /) -> bytes:
        """Return at most so many of the next bytes."""


class BlobReader(Protocol):
    """A way to blobs that is open, for several threads at a time."""

    def open(self, sha256: str, offset: int = 0) -> AbstractContextManager[Readable]:
        """Open a blob, to be read from `offset` on. What is read has still to be looked at.

        Raises `BlobSourceError`; reading raises that too. A blob that is cut short is no error here.
        """

    def close(self) -> None:
        """End what another thread waits for, and open nothing any more."""


class BlobSource(Protocol):
    """Where a host gets the files of overlays' versions from. `parallel` readings at a time are worth it."""

    @property
    def parallel(self) -> int:
        """How many blobs to read at a time."""

    def connect(self) -> BlobReader:
        """Return a way to it; that it can be reached is found out later. The caller closes it."""


class CallbackArguments(TypedDict, total=False):
    """What each verb of a host takes by name: where its lines and stages go, and what ends it early."""

    on_line: OnLine
    on_stage: OnStage
    cancel: CancelToken
