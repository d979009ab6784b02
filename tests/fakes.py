"""A stand-in for the host layer at its boundary, `hostops.host.Host`, for tests of what drives it."""

import threading
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic, time
from typing import Unpack

from hostops.callbacks import Callbacks, do_nothing
from hostops.instances.console_watch import ConsoleWatch
from hostops.specs import (
    LIMIT_NAMES,
    STEAM_GUARD_STAGE,
    AdminsOutcome,
    AdminsReport,
    Arrangement,
    CallbackArguments,
    CancelToken,
    CommandAnswer,
    CommandWay,
    ConfigPart,
    ConsoleChunk,
    ConsolePosition,
    Finding,
    HostFacts,
    InstalledRelease,
    InstanceSpec,
    InstanceState,
    InstanceStatus,
    LatestBuild,
    LoadedReport,
    OnLine,
    OnStage,
    OverlayReport,
    PrunedContent,
    ReleaseReport,
    RunFacts,
    SpecAdmin,
    UnpackedFile,
    UnpackLimits,
)


@dataclass(frozen=True)
class Call:
    """One call of a verb, and when it ran. `subject` is a server's name, or "" for an install."""

    verb: str
    subject: str
    began_at: float
    ended_at: float

    def overlaps(self, other: "Call") -> bool:
        """Return whether the two ran at the same time."""
        return self.began_at < other.ended_at and other.began_at < self.ended_at


class EagerConsoleWatch(ConsoleWatch):
    """Reports every console each time."""

    def __init__(self) -> None:
        """Watch nothing: there is no folder."""

    def find_written(self, names: Collection[str]) -> set[str]:
        """Return all of them."""
        return set(names)

    def close(self) -> None:
        """Do nothing: nothing is open."""


@dataclass
class FakeHost:
    """Records what it was asked to do. `act` is called by each verb, and may print, fail or wait."""

    act: Callable[[str, str, OnLine, OnStage, CancelToken], object] = lambda *_: None
    states: dict[str, InstanceState] = field(default_factory=dict)
    calls: list[Call] = field(default_factory=list)
    specs: list[InstanceSpec] = field(default_factory=list)
    build_id: str = "100"
    console: list[tuple[int, str]] = field(default_factory=list)
    settings: dict[str, tuple[str, ...]] = field(default_factory=dict)
    chains: dict[str, tuple[ConfigPart, ...]] = field(default_factory=dict)
    runs: dict[int, RunFacts] = field(default_factory=dict)
    released: list[tuple[str, ConsolePosition]] = field(default_factory=list)
    needs_code: bool = False
    codes: list[str | None] = field(default_factory=list)
    """The answers to an install's question for a Steam Guard code."""
    automatic: list[str] = field(default_factory=list)
    """The servers whose start nobody requested."""
    commands: list[tuple[str, str]] = field(default_factory=list)
    answers: Callable[[str, str], str | CommandAnswer] = lambda *_: ""
    """What a server answers to a command: by RCON, if it is a text."""
    loaded: Callable[[str], LoadedReport | None] = lambda _: None
    """What a server says it has loaded."""
    admins: list[tuple[str, tuple[SpecAdmin, ...]]] = field(default_factory=list)
    admins_outcome: AdminsOutcome = AdminsOutcome.WRITTEN
    refusing_runs: list[int] = field(default_factory=list)
    told: dict[str, InstanceStatus] = field(default_factory=dict)
    """What `status` reports about a server, if more than its state."""
    installed: list[InstalledRelease] = field(default_factory=list)
    own_sizes: dict[str, int] = field(default_factory=dict)
    started_at: dict[str, float] = field(default_factory=dict)
    """When each running server was started, in seconds since the epoch."""
    latest: LatestBuild | None = None
    taken_ports: tuple[int, ...] = ()
    query_address: str = "127.0.0.1"
    overlays: dict[str, OverlayReport] = field(default_factory=dict)
    looked_at: list[str] = field(default_factory=list)
    """The overlays for which a report was requested, and the builds of releases."""
    release: ReleaseReport | None = None
    unpacked: list[UnpackedFile] = field(default_factory=list)
    """The content of each archive."""
    laid_out: set[tuple[str, str]] = field(default_factory=set)
    """The versions of overlays that are laid out there, each as its overlay's name and its digest."""
    prunings: int = 0
    """How often it was asked to remove unneeded versions of overlays."""
    findings: list[Finding] = field(default_factory=list)
    """What `doctor` finds."""
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def verbs(self) -> list[str]:
        """Return the names of the verbs, in the order in which they ended."""
        return [call.verb for call in self.calls]

    def install_runtime(
        self,
        *,
        ask_code: Callable[[], str | None] | None = None,
        **given: Unpack[CallbackArguments],
    ) -> str:
        """Install the game; a test that asks for a code gets it."""
        callbacks = Callbacks(**given)
        if self.needs_code and ask_code:
            callbacks.on_stage(STEAM_GUARD_STAGE, None)
            self.codes.append(ask_code())
        self._do("install_runtime", "", callbacks)
        return self.build_id

    def steam_login(
        self,
        *,
        ask_code: Callable[[], str | None],
        **given: Unpack[CallbackArguments],
    ) -> None:
        """Sign in to Steam."""
        self._do("steam_login", "", Callbacks(**given))

    def check_update(
        self,
        **given: Unpack[CallbackArguments],
    ) -> LatestBuild:
        """Return the latest build."""
        self._do("check_update", "", Callbacks(**given))
        self.latest = LatestBuild(self.build_id, 1_800_000_000.0)
        return self.latest

    def rollback(
        self,
        build_id: str | None = None,
        **given: Unpack[CallbackArguments],
    ) -> str:
        """Go back to an older release."""
        self._do("rollback", "", Callbacks(**given))
        return build_id or self.build_id

    def initialize(
        self,
        spec: InstanceSpec,
        **given: Unpack[CallbackArguments],
    ) -> None:
        """Make an instance."""
        self.specs.append(spec)
        self._do("initialize", spec.name, Callbacks(**given))
        self.states.setdefault(spec.name, InstanceState.STOPPED)

    def check(
        self,
        spec: InstanceSpec,
        **given: Unpack[CallbackArguments],
    ) -> None:
        """Check whether an instance could be started."""
        self._do("check", spec.name, Callbacks(**given))

    def start(
        self,
        name: str,
        *,
        is_automatic: bool = False,
        **given: Unpack[CallbackArguments],
    ) -> None:
        """Start an instance."""
        if is_automatic:
            self.automatic.append(name)
        self._do("start", name, Callbacks(**given))
        if self.states.get(name) is not InstanceState.RUNNING:
            self.started_at[name] = time()
        self.states[name] = InstanceState.RUNNING

    def stop(
        self,
        name: str,
        **given: Unpack[CallbackArguments],
    ) -> None:
        """Stop an instance."""
        self._do("stop", name, Callbacks(**given))
        self.states[name] = InstanceState.STOPPED

    def restart(
        self,
        name: str,
        **given: Unpack[CallbackArguments],
    ) -> None:
        """Stop and start an instance."""
        self._do("restart", name, Callbacks(**given))
        self.started_at[name] = time()
        self.states[name] = InstanceState.RUNNING

    def delete(
        self,
        name: str,
        *,
        before_removal: Callable[[], object] = do_nothing,
        **given: Unpack[CallbackArguments],
    ) -> None:
        """Delete an instance."""
        before_removal()
        self._do("delete", name, Callbacks(**given))
        self.states.pop(name, None)

    def reset(
        self,
        name: str,
        **given: Unpack[CallbackArguments],
    ) -> None:
        """Remove what an instance wrote."""
        self._do("reset", name, Callbacks(**given))
        self.states[name] = InstanceState.STOPPED

    def send_command(self, name: str, command: str) -> None:
        """Type a line into a console."""
        self.commands.append((name, command))

    def tell(
        self,
        name: str,
        command: str,
        *,
        timeout_seconds: float = 5.0,
        may_type: bool = True,
        refusing_run: int = 0,
    ) -> CommandAnswer:
        """Answer as the test says."""
        self.commands.append((name, command))
        self.refusing_runs.append(refusing_run)
        answer = self.answers(name, command)
        return CommandAnswer(CommandWay.RCON, answer, 1) if isinstance(answer, str) else answer

    def loaded_report(self, name: str, **given: Unpack[CallbackArguments]) -> LoadedReport | None:
        """Return what the test says is loaded."""
        return self.loaded(name)

    def write_admins(self, name: str, admins: Sequence[SpecAdmin]) -> AdminsReport:
        """Record the admins, and answer as the test says."""
        self.admins.append((name, tuple(admins)))
        return AdminsReport(self.admins_outcome)

    def status(self, name: str) -> InstanceStatus:
        """Return what an instance is doing."""
        if name in self.told:
            return self.told[name]
        state = self.states.get(name, InstanceState.ABSENT)
        if state is not InstanceState.RUNNING or name not in self.started_at:
            return InstanceStatus(name, state)
        return InstanceStatus(name, state, started_at=self.started_at[name], release=self.build_id)

    def statuses(self, *, with_usage: bool = True) -> dict[str, InstanceStatus]:
        """Return what every instance is doing."""
        return {name: self.status(name) for name in {*self.states, *self.told}}

    def facts(self) -> HostFacts:
        """Return what the host is like."""
        return HostFacts(
            *("process", "simulator", "overlay"),
            build_id=self.build_id,
            limits_without_effect=LIMIT_NAMES,
            latest=self.latest,
            taken_ports=self.taken_ports,
        )

    def own_bytes(self, name: str) -> int:
        """Return how much a server has written."""
        return self.own_sizes.get(name, 0)

    def trim_consoles(self, most_bytes: int) -> dict[str, int]:
        """Trim nothing: the output is stored nowhere."""
        # A copy, made in one step: a job may add a server meanwhile.
        return {name: self.trim_console(name, most_bytes) for name in [*self.states]}

    def trim_console(self, name: str, most_bytes: int) -> int:
        """Trim nothing."""
        return 0

    def read_console(
        self, name: str, position: ConsolePosition, *, max_bytes: int = 262_144
    ) -> ConsoleChunk:
        """Return the console's lines from the position on; its offset counts lines here."""
        lines = tuple(self.console[position.offset :])
        run = lines[-1][0] if lines else position.run
        return ConsoleChunk(lines, ConsolePosition(run, position.offset + len(lines)))

    def watch_consoles(self) -> ConsoleWatch:
        """Return a watch that always sees everything."""
        return EagerConsoleWatch()

    def release_console(self, name: str, position: ConsolePosition) -> None:
        """Record what is no longer needed."""
        self.released.append((name, position))

    def instance_settings(self, name: str) -> tuple[str, ...]:
        """Return the settings that the test gives an instance."""
        return self.settings.get(name, ())

    def config_chain(self, name: str) -> tuple[ConfigPart, ...]:
        """Return the parts that the test gives a config."""
        return self.chains.get(name, ())

    def run_facts(self, name: str, run: int) -> RunFacts | None:
        """Return the facts that the test gives a run."""
        return self.runs.get(run)

    def releases(self) -> list[InstalledRelease]:
        """Return the installed releases."""
        return list(self.installed)

    def prune_content(self) -> PrunedContent | None:
        """Count the call."""
        self.prunings += 1
        return PrunedContent()

    def overlay_fingerprints(self, names: Collection[str] | None = None) -> dict[str, str]:
        """Return the fingerprints of the overlays that the test puts there."""
        return {
            name: report.fingerprint
            for name, report in self.overlays.items()
            if names is None or name in names
        }

    def laid_out_versions(self) -> frozenset[tuple[str, str]]:
        """Return the versions that the test says are laid out."""
        return frozenset(self.laid_out)

    def overlay_report(
        self, name: str, *, cancel: CancelToken | None = None
    ) -> OverlayReport | None:
        """Return what the test says about an overlay."""
        self.looked_at.append(name)
        return self.overlays.get(name)

    def unpack(
        self,
        archive: Path,
        name: str,
        into: Path,
        *,
        limits: UnpackLimits | None = None,
        encoding: str = "",
        **given: Unpack[CallbackArguments],
    ) -> list[UnpackedFile]:
        """Return the content that the test gives it; nothing is written."""
        self._do("unpack", name, Callbacks(**given))
        return self.unpacked

    def folder_report(
        self, folder: Path, name: str, *, cancel: CancelToken | None = None
    ) -> OverlayReport:
        """Return how many files a folder has, and nothing about their contents."""
        self.looked_at.append(name)
        files = [path for path in folder.rglob("*") if path.is_file()]
        return OverlayReport(name, "", len(files), sum(path.stat().st_size for path in files))

    def arrange_files(self, paths: Collection[str]) -> Arrangement:
        """Leave every file where it came."""
        return Arrangement({path: path for path in paths})

    def release_report(self, *, cancel: CancelToken | None = None) -> ReleaseReport | None:
        """Return what the test says about the release."""
        if self.release:
            self.looked_at.append(self.release.build_id)
        return self.release

    def doctor(self) -> list[Finding]:
        """Return the findings that the test gives it."""
        return list(self.findings)

    def _do(self, verb: str, subject: str, callbacks: Callbacks) -> None:
        began_at = monotonic()
        try:
            self.act(verb, subject, callbacks.on_line, callbacks.on_stage, callbacks.cancel)
        finally:
            with self._lock:
                self.calls.append(Call(verb, subject, began_at, monotonic()))
