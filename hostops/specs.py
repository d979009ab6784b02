"""The host layer's inputs and results as frozen dataclasses, and the rules for names, ports and arguments."""

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
from hostops.config_text import find_character_faults as find_character_faults
from hostops.config_text import find_ends as find_ends
from hostops.config_text import find_map_changes as find_map_changes
from hostops.config_text import require_config as require_config
from hostops.console_commands import MOVING as MOVING
from hostops.console_commands import NO_COMMANDS as NO_COMMANDS
from hostops.console_commands import SECRETS as SECRETS
from hostops.console_commands import find_last_said as find_last_said
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
from hostops.manifests import folders_of as folders_of
from hostops.manifests import is_seed_path as is_seed_path
from hostops.manifests import is_visible as is_visible
from hostops.manifests import read_known_files as read_known_files
from hostops.manifests import read_known_lines as read_known_lines
from hostops.manifests import read_manifest as read_manifest
from hostops.manifests import require_files as require_files
from hostops.manifests import require_paths as require_paths
from hostops.manifests import require_readable_paths as require_readable_paths
from hostops.manifests import write_manifest as write_manifest
from hostops.map_names import drop_folder as drop_folder
from hostops.map_names import find_nearest as find_nearest
from hostops.map_names import find_similar as find_similar
from hostops.map_names import to_map_key as to_map_key
from hostops.names import NAME_PATTERN as NAME_PATTERN
from hostops.names import require_name as require_name
from hostops.overlay_references import OverlayReference as OverlayReference
from hostops.unpack_limits import UnpackLimits as UnpackLimits

PORT_RANGE = range(27015, 27116)
"""The ports handed out to servers. srcds uses the same number for the game (UDP) and RCON (TCP)."""

MEMORY_LIMIT_RANGE = range(64 * 1024**2, 1024**4 + 1)
TASKS_LIMIT_RANGE = range(8, 32_769)
CPU_WEIGHT_RANGE = range(1, 10_001)
"""systemd's range; everything else on the host has 100."""

LIMIT_NAMES = ("memory", "tasks", "CPU weight")

DRIVERS = ("process", "systemd", "systemd-system")
"""What can run servers: plain processes, units of the account's own manager, or system units."""

GAME_APP_ID = 222860
"""Steam's app id of the Left 4 Dead 2 dedicated server."""

Stream = str
"""`stdout` or `stderr`."""

OnLine = Callable[[Stream, str], None]
"""Takes one line of output, without its line end. May be called from several threads at once."""

OnStage = Callable[[str, int | None], None]
"""Takes the name of the current stage and its progress in percent, or None if it has no percentage."""


class InstanceState(StrEnum):
    """What a server's instance on its host is doing, as found there.

    `absent` (no files) → `stopped` (files, nothing runs) → `starting` (runs, does not answer yet) →
    `running` (answers, or did not answer in time: see SILENT_NOTE). `crashed`: the process ended without
    being asked to.
    """

    ABSENT = "absent"
    STOPPED = "stopped"
    STARTING = "starting"
    RUNNING = "running"
    CRASHED = "crashed"


SILENT_NOTE = "does not answer queries"
"""The note of a server that runs but has not answered a query since it started."""


@dataclass(frozen=True)
class Limits:
    """How much of its host one server may use; None means no limit. Only systemd can enforce limits."""

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
        """Whether there is no limit at all."""
        return self == Limits()


STEAM_ID = re.compile(r"STEAM_[01]:[01]:\d{1,10}", re.ASCII)


@dataclass(frozen=True)
class SpecBan:
    """Somebody who may not join a server. As in the game, 0 minutes means permanently."""

    steam_id: str
    minutes: int = 0

    def __post_init__(self) -> None:
        require_steam_id(self.steam_id)
        if self.minutes < 0:
            raise ValueError(f"A ban of {self.minutes} minutes cannot be: 0 is for good.")


@dataclass(frozen=True)
class SpecAdmin:
    """A SourceMod admin. Each letter of `flags` is one permission; `name` is only for people to read."""

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

    Each of `overlays` is the text of an `OverlayReference`. Changes, including those to the limits, apply at
    the next start.
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
    """The IPv4 address that the game binds to. If it is empty, the game listens on all addresses."""
    rcon_password: str = field(default="", repr=False)
    join_password: str = field(default="", repr=False)
    bans: tuple[SpecBan, ...] = ()
    """The bans that the game applies as it starts. If a config cannot take them all, the first ones win."""
    admins: tuple[SpecAdmin, ...] = ()
    """The server's admins, if it has SourceMod."""
    lifted: tuple[str, ...] = ()
    """Steam IDs whose permanent bans were lifted; the game may still have them in a file it wrote."""

    @property
    def limits(self) -> Limits:
        """How much of its host the server may use."""
        return Limits(self.memory_limit_bytes, self.tasks_limit, self.cpu_weight)

    def __post_init__(self) -> None:
        require_name(self.name)
        _ = self.limits  # raises ValueError
        for overlay in self.overlays:
            OverlayReference.parse(overlay)  # raises ValueError
        if not 1024 <= self.port <= 65535:
            raise ValueError(
                f"Port {self.port} of server {self.name} is not between 1024 and 65535."
            )
        for steam_id in self.lifted:
            require_steam_id(steam_id)
        if self.bind_address:
            try:
                ipaddress.IPv4Address(self.bind_address)
            except ValueError:
                raise ValueError(
                    f"The bind address of server {self.name} is {self.bind_address!r}, but must be an IPv4 "
                    "address such as 0.0.0.0."
                ) from None
        for what, secret in (("RCON", self.rcon_password), ("join", self.join_password)):
            require_secret(what, secret)


@dataclass(frozen=True)
class ConfigPart:
    """One file of a server's config chain as it was last written, without passwords, to show to people.

    `path` is relative to the game's own folder (`cfg/saferoom/10-maps.cfg`), `source` says whose file was
    copied, and `warnings` are sentences.
    """

    path: str
    source: str
    text: str
    warnings: tuple[str, ...]


class AdminsOutcome(StrEnum):
    """The outcome of writing a server's admins into SourceMod's file.

    `waiting`: the next start writes them.
    """

    WRITTEN = "written"
    UNCHANGED = "unchanged"
    WAITING = "waiting"
    NO_SOURCEMOD = "no_sourcemod"
    REFUSED = "refused"


@dataclass(frozen=True)
class AdminsReport:
    """The outcome, and in sentences what people should know about the file (usually nothing)."""

    outcome: AdminsOutcome
    remark: str = ""


@dataclass(frozen=True)
class CrashedRun:
    """A run of a server that ended without being asked to.

    Only systemd knows how it ended: the signal (such as SIGSEGV) or the exit code, and whether it was killed
    for using more memory than its limit. None where that is unknown.
    """

    run: int
    exit_signal: str | None = None
    exit_code: int | None = None
    is_out_of_memory: bool = False

    @property
    def how(self) -> str:
        """How it ended, in one to three words; empty if unknown."""
        if self.is_out_of_memory:
            return "out of memory"
        if self.exit_signal is not None:
            return self.exit_signal
        return "" if self.exit_code is None else f"exit code {self.exit_code}"


@dataclass(frozen=True)
class DueRestart:
    """A restart after a crash that no service manager makes: the process that watches the host must make it.

    `number` counts the restarts within the window from 1, out of `budget`. Times are seconds since the epoch:
    when the run ended, as far as that is known, and when the server should start.
    """

    number: int
    budget: int
    crashed_at: float
    due_at: float


@dataclass(frozen=True)
class InstanceStatus:
    """What one instance is doing. `started_at` is seconds since the epoch; `detail` is for people.

    `run` is the number of its last start; it only grows while the instance exists. `crashed_runs` are the runs
    that ended on their own, latest last, so that an observer who checks only now and then misses none.
    `restarts` counts restarts after crashes since somebody last started it. Only systemd knows how much memory
    and CPU it uses. None means unknown.
    """

    name: str
    state: InstanceState
    pid: int | None = None
    started_at: float | None = None
    release: str | None = None
    detail: str = ""
    ended_by_reboot: bool = False
    """It was running, nobody stopped it, and the host has restarted since."""
    is_stopping: bool = False
    """It is running but was asked to stop. It will, even if the caller does not wait for it."""
    exit_code: int | None = None
    exit_signal: str | None = None
    restarts: int | None = None
    run: int | None = None
    crashed_runs: tuple[CrashedRun, ...] = ()
    note: str = ""
    """More about the state, if anything is known: `restarting (2 of 5)`, `gave up`, SILENT_NOTE."""
    port: int | None = None
    """The port of the run that is alive. Another one may be wanted from the next start on."""
    address: str = ""
    """The only address that this run listens on; empty if it listens on all."""
    due_restart: DueRestart | None = None
    """The restart that the watching process must make; None if systemd makes it, or nobody should."""
    # Measured at each reading, so a difference here does not make two states different.
    memory_bytes: int | None = field(default=None, compare=False)
    cpu_seconds: float | None = field(default=None, compare=False)


@dataclass(frozen=True)
class SteamAccount:
    """A Steam account that owns the game. Without a password, SteamCMD's own saved login is used.

    The password file is read when it is needed, and takes precedence over the password.
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
"""The stage in which an install waits for a code. Pages show the form for the code when they see it."""

STEAM_GUARD_CODE = re.compile(r"[A-Z0-9]{5,8}")
"""The shape of a code. Today a code has five letters or digits; up to eight are accepted."""


@dataclass(frozen=True)
class ConsolePosition:
    """A place in a server's console: the byte `offset` in the output of its `run`-th start.

    `run_started_at`, where known, distinguishes that run from one with the same number after the instance was
    deleted and created again.
    """

    run: int = 0
    offset: int = 0
    run_started_at: float = 0.0


class RunEnding(StrEnum):
    """How a run of a server ended: stopped on request, on its own, with the host, or unknown."""

    STOPPED = "stopped"
    CRASHED = "crashed"
    HOST_RESTARTED = "host_restarted"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class RunFacts:
    """What is known about one run of a server. Times are seconds since the epoch.

    `ending` is None while it runs. `last_output_at` is when it last printed something. The signal is known only
    for the latest runs.
    """

    run: int
    started_at: float
    release: str
    ending: RunEnding | None = None
    last_output_at: float | None = None
    exit_signal: str = ""


@dataclass(frozen=True)
class ConsoleChunk:
    """Whole lines of a console as (run, line), and the position after the last one."""

    lines: tuple[tuple[int, str], ...]
    position: ConsolePosition


@dataclass(frozen=True)
class HostFacts:
    """Facts about a host. `layering` is `overlay` or `copy`; `layering_detail` says why it is `copy`."""

    driver: str
    game_source: str
    layering: str
    layering_detail: str = ""
    build_id: str = ""
    disk_free_bytes: int | None = None
    limits_without_effect: tuple[str, ...] = ()
    """Those of LIMIT_NAMES that nothing on this host enforces."""
    latest: "LatestBuild | None" = None
    """Steam's last answer about newer builds; None if nobody has asked yet."""
    walls: tuple["WallFacts", ...] = ()
    """The walls around a game's code here. If it cannot be boxed, the one wall that does not stand."""
    taken_ports: tuple[int, ...] = ()
    """Those of PORT_RANGE held by something other than the game server they were given to."""
    disk_total_bytes: int | None = None
    memory_total_bytes: int | None = None
    memory_available_bytes: int | None = None
    """Memory that programs could still get; like the total, for the whole machine."""


@dataclass(frozen=True)
class WallFacts:
    """One wall of the box that game servers run in. `sentence` says why it does not stand, and the cure."""

    name: str
    stands: bool
    sentence: str = ""


@dataclass(frozen=True)
class LatestBuild:
    """The build that Steam offered when it was last asked; `checked_at` is seconds since the epoch."""

    build_id: str
    checked_at: float


@dataclass(frozen=True)
class InstalledRelease:
    """One build of the game on a host; `used_by` names the instances that run from it."""

    build_id: str
    is_current: bool
    installed_at: float
    used_by: tuple[str, ...] = ()


class Severity(StrEnum):
    """How serious a finding is for the people who run game servers."""

    OK = "ok"
    TODO = "todo"
    """Nothing is wrong, but something must be done before servers can run."""
    WARNING = "warning"
    """Servers run, but not everything is as it should be."""
    FAULT = "fault"
    """Servers do not run, or will soon fail."""


@dataclass(frozen=True)
class Chapter:
    """One map of a campaign: its lower-case name, and its title in the game."""

    map: str
    title: str = ""


@dataclass(frozen=True)
class CampaignMode:
    """The chapters of a campaign in one game mode, in order."""

    name: str
    chapters: tuple[Chapter, ...] = ()


@dataclass(frozen=True)
class Campaign:
    """The contents of one mission file. `path` is relative to its layer, or to its pack.

    `problem` says in a sentence what is wrong with the file, or is empty. The rest was read in spite of the
    problem; the game may ignore the file.
    """

    name: str
    title: str
    path: str
    modes: tuple[CampaignMode, ...] = ()
    problem: str = ""


class ContentSeverity(StrEnum):
    """What a finding about an overlay does to a start: it refuses it, warns, or only informs."""

    REFUSED = "refused"
    WARNED = "warned"
    NOTED = "noted"


@dataclass(frozen=True)
class ContentFinding:
    """One thing to report about an overlay's files. `code` names its kind for programs.

    `path` is relative to the overlay, made safe to display, and empty if the finding is about the whole
    overlay. `text` is one or two sentences: what was found, and what to do.
    """

    code: str
    severity: ContentSeverity
    text: str
    path: str = ""


@dataclass(frozen=True)
class PluginNeeds:
    """What a plugin that SourceMod loads by itself cannot do without, and which libraries it provides.

    `path` is below the folder of plugins. Extensions are named by their files, in lower case
    (`sdktools.ext`). Libraries are other plugins: the name, and the file that it usually has. The last three
    are what the plugin says about itself, for people.
    """

    path: str
    extensions: tuple[str, ...] = ()
    libraries: tuple[tuple[str, str], ...] = ()
    provides: tuple[str, ...] = ()
    title: str = ""
    author: str = ""
    version: str = ""


@dataclass(frozen=True)
class OverlayReport:
    """The contents of an overlay on a host. `fingerprint` changes when one of its files changes.

    `maps` are lower-case names without `.bsp`. `plugins` are those that SourceMod loads by itself; None if not
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
        """The findings that keep a server with this overlay from starting."""
        return tuple(one for one in self.findings if one.severity is ContentSeverity.REFUSED)


@dataclass(frozen=True)
class PrunedContent:
    """How many overlay versions were removed from a host, and how many bytes of fetched files were freed."""

    versions: int = 0
    freed_bytes: int = 0


@dataclass(frozen=True)
class ReleaseReport:
    """The contents of the release that the next start uses. `obstacles` say what could not be read."""

    build_id: str
    campaigns: tuple[Campaign, ...] = ()
    maps: tuple[str, ...] = ()
    obstacles: tuple[str, ...] = ()


@dataclass(frozen=True)
class UnpackedFile:
    """One file from an archive. `path` is its path there, checked, with "/" between its parts.

    `sha256` is in hexadecimal digits, and `stored_at` is the numbered file that now has its bytes.
    """

    path: str
    sha256: str
    size: int
    stored_at: Path
    is_executable: bool


@dataclass(frozen=True)
class Arrangement:
    """Where files from outside belong in an overlay.

    `places` maps each file's path as delivered to its path in the overlay. A file that is not in it is left
    out, and `notes` say why. If a note is REFUSED, `places` is empty until somebody has made a choice.
    """

    places: Mapping[str, str]
    notes: tuple[ContentFinding, ...] = ()

    @property
    def refusals(self) -> tuple[ContentFinding, ...]:
        """The notes that keep the files from being taken over."""
        return tuple(one for one in self.notes if one.severity is ContentSeverity.REFUSED)


@dataclass(frozen=True)
class PluginExtension:
    """An extension that a plugin names: its name, its file, and whether the plugin needs it."""

    name: str
    file: str
    is_required: bool


@dataclass(frozen=True)
class PluginLibrary:
    """A library that a plugin names. Another plugin provides it; `file` is that plugin's file."""

    name: str
    file: str
    is_required: bool


@dataclass(frozen=True)
class PluginFacts:
    """What a compiled plugin (`.smx`) says about itself. `provides` are the libraries it offers to others."""

    title: str
    author: str = ""
    version: str = ""
    description: str = ""
    url: str = ""
    extensions: tuple[PluginExtension, ...] = ()
    libraries: tuple[PluginLibrary, ...] = ()
    provides: tuple[str, ...] = ()


class LoadedKind(StrEnum):
    """What a server is asked for: plugins of MetaMod, extensions of SourceMod, plugins of SourceMod."""

    METAMOD = "metamod"
    EXTENSION = "extension"
    PLUGIN = "plugin"


@dataclass(frozen=True)
class NotLoaded:
    """Something that a server should have loaded but has not, and why, if that is known.

    `file` is shown to people: the plugin's below `plugins/`, an extension's library, or MetaMod's `.vdf`.
    """

    file: str
    title: str = ""
    reason: str = ""


@dataclass(frozen=True)
class LoadedCheck:
    """What is loaded of one kind, out of `expected`.

    `none_because` says in sentences why none of it is loaded, and `unknown` what could not be determined;
    both are usually empty. `more_count` is how many are not loaded besides those listed in `not_loaded`.
    """

    kind: LoadedKind
    expected: int
    not_loaded: tuple[NotLoaded, ...] = ()
    more_count: int = 0
    none_because: str = ""
    unknown: str = ""

    @property
    def missing_count(self) -> int:
        """How many are not loaded."""
        return self.expected if self.none_because else len(self.not_loaded) + self.more_count


@dataclass(frozen=True)
class LoadedReport:
    """What a running server says it has loaded of what its overlays bring.

    `unasked` says in a sentence why some checks could not be made; usually it is empty.
    """

    checks: tuple[LoadedCheck, ...] = ()
    unasked: str = ""


@dataclass(frozen=True)
class Finding:
    """One result of `doctor`: what was checked and whether it is fine; if not, how bad it is and the cure."""

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
    """How a command reaches a running server: by RCON, or typed into its console, which returns no answer."""

    RCON = "rcon"
    TYPED = "typed"


@dataclass(frozen=True)
class CommandAnswer:
    """A server's output after a command; unknown if the command was typed.

    `run` is the number of the run that got it. `why_typed` says why RCON was not used, and
    `is_password_refused` whether the password was the reason: the engine bans a client that keeps trying.
    """

    way: CommandWay
    text: str
    run: int
    why_typed: str = ""
    is_password_refused: bool = False


CANCEL_LOOK_SECONDS = 0.05
"""How often a waiting thread checks for cancellation."""


class CancelToken:
    """Asks a running operation to end.

    `cancel` may be called from any thread, more than once, and from a signal handler. It therefore takes no
    lock: the thread that the signal interrupts might hold it.
    """

    def __init__(self) -> None:
        self.reason = "Cancelled on request."
        self.is_cancelled = False
        """Whether `cancel` was called."""

    def cancel(self, reason: str = "Cancelled on request.") -> None:
        """Ask for the end; the first reason given is kept."""
        if not self.is_cancelled:
            self.reason = reason
        self.is_cancelled = True

    def wait(self, seconds: float) -> bool:
        """Wait for at most `seconds`, or until shortly after `cancel`; return whether it was called."""
        until = monotonic() + seconds
        while not self.is_cancelled and (left := until - monotonic()) > 0:
            sleep(min(left, CANCEL_LOOK_SECONDS))
        return self.is_cancelled

    def raise_if_cancelled(self) -> None:
        """Raise `OperationCancelled` if `cancel` was called."""
        if self.is_cancelled:
            raise OperationCancelled(self.reason)


def require_steam_id(steam_id: str) -> str:
    """Return a Steam ID in the game's notation, or raise ValueError."""
    if not STEAM_ID.fullmatch(steam_id):
        raise ValueError(f"{steam_id!r} is no Steam ID as the game has it: STEAM_1:0:12345.")
    return steam_id


SECRET_PATTERN = re.compile(r"[!-~]{0,64}")
"""A password: printable ASCII without blanks, because the engine's console splits at them."""


def require_secret(what: str, secret: str) -> str:
    """Return a password. Raise ValueError, without showing it, if a cfg file cannot contain it."""
    if not SECRET_PATTERN.fullmatch(secret) or any(one in secret for one in '"\\;'):
        raise ValueError(
            f"The {what} password must have at most 64 letters, digits and signs, and no blank, "
            "quotation mark, backslash or semicolon."
        )
    return secret


class Readable(Protocol):
    """A source of bytes; an empty result means the end."""

    def read(self, size: int, /) -> bytes:
        """Return at most `size` of the next bytes."""


class BlobReader(Protocol):
    """An open connection to a blob source, for several threads at once."""

    def open(self, sha256: str, offset: int = 0) -> AbstractContextManager[Readable]:
        """Open a blob for reading from `offset` on. The caller must still verify what it reads.

        Raises `BlobSourceError`; reading raises it too. A truncated blob is no error here.
        """

    def close(self) -> None:
        """Interrupt the reads of other threads, and open nothing from now on."""


class BlobSource(Protocol):
    """Where a host gets the files of overlay versions. `parallel` reads at a time are worthwhile."""

    @property
    def parallel(self) -> int:
        """How many blobs to read at once."""

    def connect(self) -> BlobReader:
        """Return a reader for it. A source that cannot be reached shows only later. The caller closes it."""


class CallbackArguments(TypedDict, total=False):
    """Keyword arguments of every host verb: where lines and stages go, and what cancels it."""

    on_line: OnLine
    on_stage: OnStage
    cancel: CancelToken
