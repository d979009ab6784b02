"""The facade: one machine that runs game servers, with a verb for each thing it can do.

Every verb means "make it so": it may be called twice, and again after a crash at any point. It
waits for other operations on the same files, verifies the outcome, and raises HostError with one
sentence for people, CommandError for a command that failed, or OperationCancelled. Any number of
Host objects, in any number of processes, can use one root at the same time.
"""

import contextlib
import os
import shutil
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Unpack

from hostops import doctor
from hostops.box.probe import has_box, walls_here
from hostops.box.wall import Wall
from hostops.callbacks import Callbacks, do_nothing, ignore_line
from hostops.content import (
    arranging,
    fingerprints,
    launch_maps,
    loaded_content,
    overlay_reports,
    shapes,
    unpacking,
    version_folders,
)
from hostops.content.maps import read_maps
from hostops.drivers import port_holders, process_driver, unanswered
from hostops.drivers.driver import Driver, make_driver
from hostops.drivers.readiness import find_answering, require_free_port
from hostops.drivers.start_wait import LAST_WORDS, UnansweredError, wait_for_answer
from hostops.drivers.startup_console import find_wanted_maps, to_map_name
from hostops.errors import HostError, OperationCancelled, RconUnusableError
from hostops.instances import (
    admin_files,
    config_chain,
    console_files,
    disk_usage,
    instance_files,
    layers,
    releases,
    runs,
)
from hostops.instances.console_watch import ConsoleWatch
from hostops.instances.status_memory import StatusMemory
from hostops.launch_arguments import drop_faulty
from hostops.layout import HostLayout, InstanceLayout
from hostops.linux import untrusted
from hostops.linux.files import make_dir
from hostops.linux.locks import hold
from hostops.linux.memory import read_memory
from hostops.linux.process import minimal_environment
from hostops.linux.sockets import LOOPBACK, WILDCARD, Protocol, find_own_address
from hostops.linux.untrusted import UntrustedFileError
from hostops.query import passwords, rcon
from hostops.specs import (
    SILENT_NOTE,
    AdminsOutcome,
    AdminsReport,
    Arrangement,
    BlobSource,
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
    OverlayReference,
    OverlayReport,
    PrunedContent,
    ReleaseReport,
    RunEnding,
    RunFacts,
    SpecAdmin,
    SteamAccount,
    UnpackedFile,
    UnpackLimits,
    WallFacts,
    require_name,
)
from hostops.steam import app_info, install, preflight, sign_in, steamcmd
from hostops.steam.steam_guard import AskCode

GAME_SOURCES = ("steam", "simulator")
LAYERINGS = ("overlay", "copy")

_ABORT_SECONDS = 1.0
"""How long a server that has not answered may take to end before it is killed."""

START_TIMEOUT_SECONDS = 60.0
"""How long a start waits for an answer. A server still running after that is left running."""

_RUNNING_PATIENCE_SECONDS = 10.0
"""How long a server that was already running may take to answer: it is silent during a map change."""

_UNATTENDED_SECONDS = 5.0
"""A waiting start notices the answer at once. After this many seconds, status readers check for it too."""

_LOADED_SECONDS = 10.0
_LOADED_ANSWER_SECONDS = 3.0
"""How long a server is asked at most what it has loaded, and how long it may take for one answer."""

_LOADED_CONSOLE_BYTES = 256 * 1024
"""How much of a run's console is searched for why something was not loaded."""

_ASK_EVERY_SECONDS = 2.0
_ASK_SECONDS = 0.2
"""How often, and for how long, a status reader queries the servers that have not answered, all at once."""


class Host:
    """The host whose files lie below `root`.

    `query_address` is where servers are queried; a real one does not answer on 127.0.0.1. By default it is the
    address of the default route, or loopback for the simulated game. `layering` forces `overlay` or `copy`; by
    default the host is probed. `allow_unboxed` lets a real game run where no box is possible (`hostops.box`).
    `content` is where the files of overlay versions come from. Creating a Host touches nothing.
    """

    def __init__(
        self,
        root: Path,
        *,
        driver: str = "process",
        game_source: str = "steam",
        query_address: str = "",
        start_timeout_seconds: float = START_TIMEOUT_SECONDS,
        stop_timeout_seconds: float = 20,
        layering: str | None = None,
        steam_account: SteamAccount | None = None,
        allow_unboxed: bool = False,
        min_free_bytes: int = disk_usage.MIN_FREE_BYTES,
        content: BlobSource | None = None,
    ) -> None:
        if game_source not in GAME_SOURCES:
            raise ValueError(f"{game_source!r} is no game source: use {' or '.join(GAME_SOURCES)}.")
        if layering not in (None, *LAYERINGS):
            raise ValueError(f"{layering!r} is no layering: use {' or '.join(LAYERINGS)}.")
        self._layout = HostLayout(Path(root).absolute())
        self._driver_name = driver
        self._driver: Driver = make_driver(
            driver, self._layout, is_simulated=game_source == "simulator"
        )
        self._game_source = game_source
        self._start_timeout_seconds = start_timeout_seconds
        self._stop_timeout_seconds = stop_timeout_seconds
        self._forced_layering = layers.Layering(layering) if layering else None
        self._layering: layers.Layering | None = None
        self._given_address = query_address
        self._asked_at: dict[str, float] = {}
        self._status_memory = StatusMemory()
        self._steam_account = steam_account
        self._allow_unboxed = allow_unboxed
        self._walls: tuple[Wall, ...] | None = None
        self._min_free_bytes = min_free_bytes
        self._content = content

    @property
    def query_address(self) -> str:
        """The address for querying servers that listen on every address."""
        if self._given_address:
            return self._given_address
        # Looked up each time: the machine may get its address after this program started, and later another.
        return LOOPBACK if self._game_source == "simulator" else find_own_address()

    # Verbs

    def install_runtime(
        self,
        *,
        ask_code: AskCode | None = None,
        **given: Unpack[CallbackArguments],
    ) -> str:
        """Install the game or update it; return the build id that is now current.

        Holds the host exclusively. Running servers keep the release they were started from. `ask_code` gets a
        Steam Guard code from people if the account's login needs one.
        """
        callbacks = Callbacks(**given)
        with (
            self._whole_host("install", callbacks) as lock,
            hold(self._layout.steam_lock_path, "install", callbacks),
        ):
            callbacks.stage("Preparing")
            instance_files.finish_deletions(self._layout)
            can_overlay = self._find_layering().is_overlay
            if self._game_source == "steam":
                needed_bytes = install.needed_bytes(self._layout, can_overlay=can_overlay)
                preflight.require_ready(self._layout, needed_bytes)
            build_id = install.install_runtime(
                self._layout,
                replace(self._find_steamcmd(callbacks), ask_code=ask_code),
                lock,
                callbacks,
                can_overlay=can_overlay,
            )
            app_info.remember(self._layout, build_id)
            if self._game_source == "steam" and not steamcmd.link_steam_client(self._layout):
                callbacks.warn(
                    "Steam's client library steamclient.so was not found beside SteamCMD: "
                    f"if servers miss it, copy it to {self._layout.home_dir / '.steam/sdk32'}."
                )
            return build_id

    def steam_login(
        self,
        *,
        ask_code: AskCode,
        **given: Unpack[CallbackArguments],
    ) -> None:
        """Sign SteamCMD in to the account once, so that it saves the login. Installs nothing."""
        callbacks = Callbacks(**given)
        self._make_root()
        with (
            hold(self._layout.host_lock_path, "steam-login", callbacks, shared=True),
            hold(self._layout.steam_lock_path, "steam-login", callbacks) as lock,
        ):
            if self._game_source == "steam":
                preflight.require_ready(self._layout, preflight.STEAMCMD_BYTES)
            sign_in.sign_in(self._find_steamcmd(callbacks), lock, ask_code, callbacks)

    def check_update(
        self,
        **given: Unpack[CallbackArguments],
    ) -> LatestBuild:
        """Ask Steam for the latest build of the game; return it, and remember it for `facts`.

        Runs alongside operations on servers, but waits for an install: SteamCMD cannot run twice in one home.
        """
        callbacks = Callbacks(**given)
        self._make_root()
        with (
            hold(self._layout.host_lock_path, "check-update", callbacks, shared=True),
            hold(self._layout.steam_lock_path, "check-update", callbacks) as lock,
        ):
            if self._game_source == "steam":
                preflight.require_ready(self._layout, preflight.STEAMCMD_BYTES)
            build_id = app_info.ask_latest_build(self._find_steamcmd(callbacks), lock, callbacks)
            latest = app_info.remember(self._layout, build_id)
        current = releases.read_current(self._layout)
        if current is None:
            callbacks.say(f"Build {build_id} is the latest. The game is not installed here.")
        elif current == build_id:
            callbacks.say(f"Build {build_id} is the latest, and current here.")
        else:
            callbacks.say(f"Build {build_id} is available. Build {current} is current here.")
        return latest

    def rollback(
        self,
        build_id: str | None = None,
        **given: Unpack[CallbackArguments],
    ) -> str:
        """Make another installed release current, by default the latest other one; return its build id.

        Holds the host exclusively. Servers use the release from their next start on.
        """
        callbacks = Callbacks(**given)
        with self._whole_host("rollback", callbacks):
            callbacks.stage("Switching")
            chosen = releases.choose_rollback(self._layout, build_id)
            releases.switch(self._layout, chosen)
            callbacks.say(f"Build {chosen} is current now. Servers take it at their next start.")
            return chosen

    def initialize(
        self,
        spec: InstanceSpec,
        **given: Unpack[CallbackArguments],
    ) -> None:
        """Write the files that make an instance what `spec` says, from its next start on.

        Does not touch a running server. Overlay versions that are not on this host are fetched first. Raises
        ValueError for arguments or a config that srcds would not accept.
        """
        callbacks = Callbacks(**given)
        with (
            self._versions(spec, callbacks),
            self._instance("initialize", spec.name, callbacks) as instance,
        ):
            callbacks.stage("Writing files")
            made = instance_files.initialize(self._layout, spec, callbacks)
            if made.chain.map_changes:
                places = self._find_places(instance, self._find_layers(instance, made.record))
                launch_maps.warn_of_config_maps(
                    spec.name, made.chain.map_changes, places, callbacks
                )

    def check(
        self,
        spec: InstanceSpec,
        **given: Unpack[CallbackArguments],
    ) -> None:
        """Check that a server could be changed to `spec` and started; raise what would prevent it.

        Raises what `initialize` and `start` would, as far as that can be known before a start. It stops nothing
        and does not change the server. A running server keeps running, and its own port does not count as
        taken. Overlay versions that are not on this host are fetched, so that a start need not wait for them.
        """
        callbacks = Callbacks(**given)
        with (
            self._versions(spec, callbacks),
            self._instance("check", spec.name, callbacks) as instance,
        ):
            callbacks.stage("Checking")
            composition = instance_files.compose(self._layout, spec)
            self._check(instance, composition.record, callbacks)

    def start(
        self,
        name: str,
        *,
        is_automatic: bool = False,
        **given: Unpack[CallbackArguments],
    ) -> None:
        """Start a server and return when it answers. A server that is already running is left alone.

        If the start fails or is cancelled, the server is ended again. An automatic start is one that nobody
        asked for: after a crash it counts against the restart budget, and is refused once that is spent.
        """
        callbacks = Callbacks(**given)
        with self._instance("start", name, callbacks) as instance:
            self._start(instance, callbacks, is_automatic=is_automatic)

    def stop(
        self,
        name: str,
        **given: Unpack[CallbackArguments],
    ) -> None:
        """Stop a server; return once none of its processes is left."""
        callbacks = Callbacks(**given)
        with self._instance("stop", name, callbacks) as instance:
            self._stop(instance, callbacks)

    def restart(
        self,
        name: str,
        **given: Unpack[CallbackArguments],
    ) -> None:
        """Stop a server if it runs, and start it. If it could not be started again, it is left alone."""
        callbacks = Callbacks(**given)
        with self._instance("restart", name, callbacks) as instance:
            callbacks.stage("Checking")
            record = instance_files.read_record(instance)
            instance_files.require_layer(instance, record)
            self._check(instance, record, callbacks)
            self._stop(instance, callbacks)
            self._start(instance, callbacks)

    def delete(
        self,
        name: str,
        *,
        before_removal: Callable[[], object] = do_nothing,
        **given: Unpack[CallbackArguments],
    ) -> None:
        """Stop a server if it runs, and remove all its files, including those it wrote itself.

        `before_removal` is called in between, as the last chance to read the server's output. If it raises, the
        files are not removed.
        """
        callbacks = Callbacks(**given)
        with self._instance("delete", name, callbacks) as instance:
            if instance.dir.is_dir():
                self._stop(instance, callbacks)
                before_removal()
            else:
                callbacks.say(f"{name} has no files on this host.")
            self._driver.forget(instance)
            instance_files.delete(self._layout, instance, callbacks)

    def reset(
        self,
        name: str,
        **given: Unpack[CallbackArguments],
    ) -> None:
        """Stop a server if it runs, and remove what it wrote. Its settings and its console log stay."""
        callbacks = Callbacks(**given)
        with self._instance("reset", name, callbacks) as instance:
            instance_files.read_record(instance)  # Raises if there is no such instance.
            self._stop(instance, callbacks)
            instance_files.reset(self._layout, instance, callbacks)

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
        """Unpack an archive, or take a single file, into numbered files in a folder that belongs to the caller.

        `name` is the file name its owner gave it. `encoding` applies to names in the archive that do not state
        theirs. Takes no locks. If it raises, nothing is left in the folder.
        """
        limits = replace(limits or UnpackLimits(), min_free_bytes=self._min_free_bytes)
        return unpacking.unpack(archive, name, into, limits, Callbacks(**given), encoding=encoding)

    def send_command(self, name: str, command: str) -> None:
        """Write one line to a server's console.

        Raises HostError if the server does not run, ValueError if `command` is not one line of text.
        """
        instance = self._layout.instance(name)
        if not runs.is_alive(instance):
            raise HostError(f"{name} does not run: start it first.")
        console_files.send_line(instance, command)

    def tell(
        self,
        name: str,
        command: str,
        *,
        timeout_seconds: float = 5.0,
        may_type: bool = True,
        refusing_run: int = 0,
    ) -> CommandAnswer:
        """Have a running server execute a console command, and return what it printed.

        Uses RCON, with the password the server was started with. If RCON cannot be used and sent nothing, the
        command is typed into the server's console, provided that `may_type` is true. RCON is not tried with
        `refusing_run`, a run that has refused the password: the engine permanently bans an address after a few
        wrong ones. Raises AnswerLostError if the command may have been executed, HostError if it was not sent,
        and ValueError if it is not one line of text.
        """
        instance = self._layout.instance(name)
        run = runs.read_run(instance)
        if run is None or not runs.is_alive(instance):
            raise HostError(f"{name} does not run: start it first.")
        password = instance_files.read_launched_passwords(self._layout, instance).rcon
        is_refused = run.run == refusing_run
        obstacle = "It has refused the password that Saferoom gave it." if is_refused else ""
        if not password:
            obstacle = "Saferoom gave it no RCON password."
        if not obstacle:
            address = run.address or self.query_address
            try:
                text = rcon.execute(address, run.port, password, command, timeout_seconds)
                return CommandAnswer(CommandWay.RCON, text, run.run)
            except (rcon.PasswordRefusedError, rcon.UnreachableError) as error:
                obstacle, is_refused = str(error), isinstance(error, rcon.PasswordRefusedError)
        if not may_type:
            text = f"{name} takes no commands by RCON. {obstacle}"
            raise RconUnusableError(text, run.run if is_refused else 0)
        console_files.send_line(instance, command)
        return CommandAnswer(CommandWay.TYPED, "", run.run, obstacle, is_refused)

    def loaded_report(self, name: str, **given: Unpack[CallbackArguments]) -> LoadedReport | None:
        """Ask a running server by RCON what it has loaded of what its overlays bring; say what it has not.

        None if they bring nothing that could be asked for. Takes `_LOADED_SECONDS` at most: what is not known
        by then, or as RCON cannot be used, is told as not known. Raises HostError if the server does not run.
        """
        callbacks = Callbacks(**given)
        instance = self._layout.instance(name)
        run = runs.read_run(instance)
        if run is None or not runs.is_alive(instance):
            raise HostError(f"{name} does not run: nothing is loaded.")
        stack = admin_files.read_launched_stack(self._layout, instance)
        own_dir = admin_files.find_own_dir(instance)
        expected = loaded_content.find_expected(
            stack, own_dir, instance.trusted_dir, is_copy=own_dir == instance.tree_dir
        )
        if expected.is_empty:
            return None
        callbacks.stage("Asking what is loaded")
        until = time.monotonic() + _LOADED_SECONDS

        def ask(command: str) -> str:
            callbacks.cancel.raise_if_cancelled()
            seconds = min(_LOADED_ANSWER_SECONDS, until - time.monotonic())
            if seconds <= 0:
                raise HostError(f"The server has taken more than {_LOADED_SECONDS:g} s to answer.")
            return self.tell(name, command, timeout_seconds=seconds, may_type=False).text

        position = ConsolePosition(run.run, run_started_at=run.started_at)
        chunk = self.read_console(name, position, max_bytes=_LOADED_CONSOLE_BYTES)
        console = [line for number, line in chunk.lines if number == run.run]
        report = loaded_content.look_at_loaded(expected, ask, console)
        for stream, line in loaded_content.describe(report):
            callbacks.on_line(stream, line)
        return report

    def write_admins(self, name: str, admins: Sequence[SpecAdmin]) -> AdminsReport:
        """Put a server's admins into SourceMod's file while it runs, and return the outcome.

        SourceMod reads the file only on command. If the server does not run, nothing is written: its next start
        does that. Takes no locks. A start in progress writes the admins of its spec; the caller that maintains
        admins has to check again after each run begins.
        """
        instance = self._layout.instance(name)
        if runs.is_alive(instance):
            return admin_files.write_while_running(self._layout, instance, admins)
        if not untrusted.exists(instance.record_path, instance.trusted_dir):
            return AdminsReport(AdminsOutcome.WAITING)
        record = instance_files.read_record(instance)
        return admin_files.foresee(instance, self._find_layers(instance, record))

    def prune_content(self) -> PrunedContent | None:
        """Remove overlay versions and fetched files that no server has needed for a day.

        Returns what was removed. None if nothing was, because a version is being laid out at the moment or the
        needs of some server are unknown. Does not wait; an operation that needs a version waits for it.
        """
        self._require_readable_root()
        return version_folders.prune(self._layout)

    # Reading: takes no lock that anybody waits for.

    def status(self, name: str) -> InstanceStatus:
        """Return what one instance is doing."""
        self._require_readable_root()
        return self._driver.complete(self._read_statuses([name]))[name]

    def statuses(self, *, with_usage: bool = True) -> dict[str, InstanceStatus]:
        """Return what every instance is doing, by name. Costs a few file reads for each.

        Memory and CPU usage cost an extra query to systemd. Frequent callers may leave it out.
        """
        self._require_readable_root()
        statuses = self._read_statuses(self._layout.instance_names())
        return self._driver.complete(statuses, with_usage=with_usage)

    def facts(self) -> HostFacts:
        """Return the facts about this host. The first call tries a mount."""
        self._require_readable_root()
        layering = self._find_layering()
        disk = shutil.disk_usage(self._layout.root)
        memory = read_memory()
        return HostFacts(
            driver=self._driver_name,
            game_source=self._game_source,
            layering=layering.kind,
            layering_detail=f"{layering.detail} {layering.cure}".strip(),
            build_id=releases.read_current(self._layout) or "",
            disk_free_bytes=disk.free,
            disk_total_bytes=disk.total,
            memory_total_bytes=memory.total if memory else None,
            memory_available_bytes=memory.available if memory else None,
            limits_without_effect=self._driver.limits_without_effect(),
            latest=app_info.read_latest(self._layout),
            walls=tuple(
                WallFacts(wall.name, wall.stands, "" if wall.stands else wall.sentence)
                for wall in self._find_walls()
            ),
            taken_ports=port_holders.find_taken_ports(self._layout),
        )

    def read_console(
        self, name: str, position: ConsolePosition, *, max_bytes: int = 262_144
    ) -> ConsoleChunk:
        """Return whole lines of a server's console after `position`, and the position after them.

        Continues from one run to the next. The last line of a run counts as whole once the run has
        ended. A line longer than 64 KiB comes in pieces. ConsolePosition() is the oldest line still
        kept. If nothing is new, the call costs a few microseconds.
        """
        instance = self._layout.instance(name)
        if console_files.is_at_end(instance, position):
            return ConsoleChunk((), position)
        self._require_readable_root()
        is_alive = runs.is_alive(instance)
        return console_files.read_console(
            instance, position, is_alive=is_alive, max_bytes=max_bytes
        )

    def watch_consoles(self) -> ConsoleWatch:
        """Return a new watch over the consoles, for a caller that reads many of them many times a second."""
        return ConsoleWatch(self._layout)

    def release_console(self, name: str, position: ConsolePosition) -> None:
        """Free the disk space of the output well before `position`, which the caller has stored elsewhere.

        The last few MiB of each run stay. If the file system does not support this, nothing is freed, and the
        log says so.
        """
        console_files.release(self._layout.instance(name), position)

    def trim_consoles(self, most_bytes: int) -> dict[str, int]:
        """Trim every console (see `trim_console`); return the size of each one's latest run, by name."""
        self._require_readable_root()
        return {name: self.trim_console(name, most_bytes) for name in self._layout.instance_names()}

    def trim_console(self, name: str, most_bytes: int) -> int:
        """Free the disk space of all but the end of a run's output if it exceeds `most_bytes`.

        This does not depend on whether the output is stored elsewhere. Readers get a line saying how much is
        missing. Returns the size of the output including what was freed; 0 if it cannot be determined.
        """
        try:
            return console_files.trim(self._layout.instance(name), most_bytes)
        except (HostError, OSError):  # Readers of the console get the same error.
            return 0

    def instance_settings(self, name: str) -> tuple[str, ...]:
        """Return, as texts, the arguments and configs that a server has and those it is running with.

        They contain its passwords, and are for code that masks those in its own output.
        """
        return instance_files.read_settings(self._layout.instance(name))

    def config_chain(self, name: str) -> tuple[ConfigPart, ...]:
        """Return the parts of a server's config as they were last written; empty if none was.

        Raises HostError if something else has taken the place of what was written.
        """
        return config_chain.read_parts(self._layout.instance(name))

    def own_bytes(self, name: str) -> int:
        """Return how many bytes a server's own files use on disk; if it has very many, only the first count."""
        self._require_readable_root()
        return disk_usage.own_bytes(self._layout.instance(name))

    def run_facts(self, name: str, run: int) -> RunFacts | None:
        """Return what is known about one run of a server; None if it is no longer kept."""
        instance = self._layout.instance(name)
        self._require_readable_root()
        facts = runs.read_facts(instance, run)
        if facts is None or facts.ending is not RunEnding.CRASHED:
            return facts
        crashed = (one for one in self.status(name).crashed_runs if one.run == run)
        signal = next((one.exit_signal for one in crashed), None)
        return replace(facts, exit_signal=signal or "")

    def releases(self) -> list[InstalledRelease]:
        """Return the installed builds, the latest first."""
        self._require_readable_root()
        return releases.list_releases(self._layout)

    def overlay_fingerprints(self, names: Collection[str] | None = None) -> dict[str, str]:
        """Return a fingerprint of each overlay on this host, or of those of `names` that are here.

        A fingerprint changes when a file of the overlay changes; it is empty for an overlay that cannot be
        read. Costs 0.05 s for 3,400 files: see `hostops.content.fingerprints`. `names` may include references
        to versions, which never change: these need not be on this host.
        """
        self._require_readable_root()
        versions = [OverlayReference.parse(name) for name in names or ()]
        found = {
            str(version): version.digest[: fingerprints.CHARS]
            for version in versions
            if version.digest is not None
        }
        for name in self._layout.overlay_names():
            if names is not None and name not in names:
                continue
            with contextlib.suppress(FileNotFoundError):  # removed in the meantime
                found[name] = self._fingerprint(name)
        return found

    def laid_out_versions(self) -> frozenset[tuple[str, str]]:
        """Return the overlay versions that are ready here, each as its overlay's name and its digest."""
        self._require_readable_root()
        return version_folders.find_laid_out(self._layout)

    def overlay_report(
        self, name: str, *, cancel: CancelToken | None = None
    ) -> OverlayReport | None:
        """Return the shape, campaigns and maps of an overlay or a version. None if it is not on this host.

        A child process reads the packs that have changed, which takes 0.1 s or more.
        """
        folder = self._layout.overlay_folder(name)
        try:
            return overlay_reports.report_overlay(
                folder, name, self._layout.content_dir, cancel or CancelToken()
            )
        except FileNotFoundError:
            return None

    def folder_report(
        self, folder: Path, name: str, *, cancel: CancelToken | None = None
    ) -> OverlayReport:
        """Return the shape, campaigns and maps that a folder outside this host would have as an overlay.

        A child process reads its packs, which takes 0.1 s or more. Raises FileNotFoundError if the folder does
        not exist, and HostError.
        """
        return overlay_reports.report_overlay(
            folder, require_name(name), None, cancel or CancelToken()
        )

    def arrange_files(self, paths: Collection[str]) -> Arrangement:
        """Return where files from outside belong in an overlay, judging by their paths."""
        return arranging.arrange(tuple(paths))

    def release_report(self, *, cancel: CancelToken | None = None) -> ReleaseReport | None:
        """Return the campaigns and maps of the current release; None if there is none.

        A child process reads its packs, once for each build: 0.5 s.
        """
        self._require_readable_root()
        build_id = releases.read_current(self._layout)
        if build_id is None:
            return None
        return overlay_reports.report_release(
            self._layout.releases_dir / build_id, self._layout.content_dir, cancel or CancelToken()
        )

    def doctor(self) -> list[Finding]:
        """Check whether this host can do its work, and say what to do where it cannot."""
        if self._forced_layering is None:
            self._layering = None  # An earlier problem may have been fixed.
        try:
            layering = self._find_layering()
        except (HostError, OSError) as error:
            return [
                Finding(
                    "Folder",
                    False,
                    f"{self._layout.root} cannot be used: {error}.",
                    "Make the folder, and give it to the worker's user.",
                )
            ]
        return [
            *doctor.examine(self._layout, layering, self._game_source),
            *doctor.examine_walls(
                self._find_walls(),
                needs_box=self._game_source == "steam" and not self._allow_unboxed,
            ),
            *self._driver.examine(),
        ]

    # How

    @contextlib.contextmanager
    def _whole_host(self, purpose: str, callbacks: Callbacks) -> Iterator[int]:
        """Keep every other operation out; yields the lock's descriptor for commands to inherit."""
        self._make_root()
        with hold(self._layout.host_lock_path, purpose, callbacks) as lock:
            yield lock

    @contextlib.contextmanager
    def _instance(self, verb: str, name: str, callbacks: Callbacks) -> Iterator[InstanceLayout]:
        """Keep out installs and other operations on this instance."""
        instance = self._layout.instance(name)
        purpose = f"{verb} {name}"
        self._make_root()
        with (
            hold(self._layout.host_lock_path, purpose, callbacks, shared=True),
            hold(self._layout.instance_lock_path(name), purpose, callbacks),
        ):
            yield instance

    @contextlib.contextmanager
    def _versions(self, spec: InstanceSpec, callbacks: Callbacks) -> Iterator[None]:
        """Have the overlay versions of `spec` ready, and keep them for the duration of the block."""
        self._make_root()
        needs = version_folders.Needs(spec.name, self._content, self._min_free_bytes)
        with version_folders.hold_ready(self._layout, spec.overlays, needs, callbacks):
            yield

    def _fingerprint(self, name: str) -> str:
        try:
            return fingerprints.fingerprint(self._layout.overlay_folder(name))
        except UntrustedFileError:
            return ""  # Its report says why.

    def _require_readable_root(self) -> None:
        """Raise HostError if the root exists but cannot be read. A missing root only means an empty host.

        Without this check, each reader would report each unreadable file, and some would take it for missing.
        Costs a few microseconds.
        """
        root = self._layout.root
        try:
            os.stat(f"{root}/.")  # noqa: PTH116 - a Path drops the dot, which tests the right to enter
            with os.scandir(root):
                pass
        except FileNotFoundError:
            return
        except OSError as error:
            raise HostError(
                f"The folder {root} cannot be read: {error.strerror}. Nothing is known of its servers until "
                "it is given to the account that runs this, or HOST_ROOT is set to another."
            ) from error

    def _make_root(self) -> None:
        try:
            for folder in (
                self._layout.root,
                self._layout.overlays_dir,
                self._layout.instances_dir,
                self._layout.home_dir,
            ):
                make_dir(folder)
        except OSError as error:
            raise HostError(
                f"The folder {self._layout.root} cannot be used: {error.strerror}. "
                "Make it, and give it to the user that runs this, or set HOST_ROOT to another."
            ) from error

    def _environment(self) -> dict[str, str]:
        extra = (
            {"SAFEROOM_SIMULATOR": str(self._layout.simulator_path)}
            if self._game_source == "simulator"
            else {}
        )
        return minimal_environment(self._layout.home_dir, extra)

    def _find_steamcmd(self, callbacks: Callbacks) -> steamcmd.SteamCmd:
        return steamcmd.SteamCmd(
            self._steamcmd_command(callbacks), self._environment(), self._steam_account
        )

    def _steamcmd_command(self, callbacks: Callbacks) -> tuple[str, ...]:
        if self._game_source == "simulator":
            return steamcmd.find_simulator()
        return steamcmd.find(self._layout) or steamcmd.fetch(self._layout, callbacks)

    def _find_layering(self) -> layers.Layering:
        """Return how layers are done here. A method that was found to work is not tried again."""
        if self._forced_layering is not None:
            return self._forced_layering
        if self._layering is None:
            self._make_root()
            self._layering = layers.probe(self._layout.root)
        return self._layering

    def _read_statuses(self, names: Sequence[str]) -> dict[str, InstanceStatus]:
        """Read what instances are doing, and query those that nobody has had an answer from yet."""
        statuses = {
            name: self._status_memory.read_status(self._layout.instance(name)) for name in names
        }
        asked = {
            name: (run.address or self.query_address, run.port)
            for name, status in statuses.items()
            if self._is_to_be_asked(status)
            and (run := runs.read_run(self._layout.instance(name))) is not None
        }
        answering = find_answering(asked, _ASK_SECONDS) if asked else ()
        for name in asked:
            self._note_answer(statuses[name], does_answer=name in answering)
            statuses[name] = runs.read_status(self._layout.instance(name))
        return statuses

    def _is_to_be_asked(self, status: InstanceStatus) -> bool:
        """Whether this run never answered, no start is waiting for it, and it was not queried just now."""
        is_silent = status.state is InstanceState.RUNNING and status.note == SILENT_NOTE
        if not is_silent and (
            status.state is not InstanceState.STARTING
            or status.started_at is None
            or time.time() - status.started_at < _UNATTENDED_SECONDS
        ):
            return False
        now = time.monotonic()
        if now - self._asked_at.get(status.name, float("-inf")) < _ASK_EVERY_SECONDS:
            return False
        self._asked_at[status.name] = now
        return True

    def _note_answer(self, status: InstanceStatus, *, does_answer: bool) -> None:
        """Record what a run was seen to do, if that differs from what was known."""
        instance = self._layout.instance(status.name)
        run = runs.read_run(instance)
        if run is None or run.run != status.run:
            return
        if does_answer:
            runs.mark_ready(instance, run)
        elif (
            status.state is InstanceState.STARTING
            and time.time() - run.started_at > self._start_timeout_seconds
        ):
            self._give_up_on(instance, run)

    def _start(
        self, instance: InstanceLayout, callbacks: Callbacks, *, is_automatic: bool = False
    ) -> None:
        callbacks.stage("Preparing")
        record = instance_files.read_record(instance)
        restarts_run: int | None = None
        if not runs.is_alive(instance):
            last_run = runs.read_run(instance)
            if is_automatic and last_run is not None and runs.has_crashed(instance, last_run):
                restarts_run = last_run.run
            try:
                self._launch(instance, record, callbacks, restarts_run)
            except HostError:
                # A start whose caller was killed may have just reached its launch: continue with that run.
                if not runs.is_alive(instance):
                    raise
        elif runs.read_status(instance).state is InstanceState.RUNNING:
            callbacks.say(f"{instance.name} runs already.")
            # A problem with the port is reported, but does not end a game in progress.
            self._look_at_port(instance, record, callbacks)
            seconds = min(self._start_timeout_seconds, _RUNNING_PATIENCE_SECONDS)
            try:
                self._wait_for_answer(instance, seconds, callbacks, lambda: None)
            except UnansweredError as error:
                raise self._leave_unanswered(instance, seconds) or error from None
            return
        else:
            callbacks.say(f"{instance.name} is starting already.")
        port: int | None = None

        def look_at_port() -> None:
            nonlocal port
            port = self._look_at_port(instance, record, callbacks)

        try:
            self._wait_for_answer(instance, self._start_timeout_seconds, callbacks, look_at_port)
        except BaseException as error:
            if not isinstance(error, OperationCancelled):
                self._tell_last_words(instance, callbacks)
            if isinstance(error, UnansweredError) and (
                unanswered_error := self._leave_unanswered(instance, self._start_timeout_seconds)
            ):
                raise unanswered_error from None
            # A partial start is no start. Ending it must not be cancelled in its turn.
            if runs.is_alive(instance):
                self._abort(instance, callbacks)
            elif restarts_run is None or isinstance(error, OperationCancelled):
                # The person who asked for the start decides what is next. A restart after a crash may repeat.
                self._driver.settle(instance)
            if isinstance(error, OperationCancelled):
                callbacks.warn(f"{instance.name} was ended, as its start was cancelled.")
            if isinstance(error, UnansweredError):
                raise HostError(f"{error} It holds no port, and is ended.") from None
            raise
        callbacks.say(
            f"{instance.name} answers on port {port}." if port else f"{instance.name} is up."
        )
        self._check_passwords(instance, record, callbacks)

    def _wait_for_answer(
        self,
        instance: InstanceLayout,
        seconds: float,
        callbacks: Callbacks,
        on_loaded: Callable[[], object],
    ) -> None:
        wait_for_answer(
            instance,
            self.query_address,
            find_wanted_maps(instance_files.read_launched_argv(instance)),
            seconds,
            callbacks,
            on_loaded,
            lambda name: self._name_nearest_map(instance, name, callbacks),
        )

    def _leave_unanswered(self, instance: InstanceLayout, seconds: float) -> UnansweredError | None:
        """Leave a silent run alone, and return the error to raise; None if the run has no port."""
        run = runs.read_run(instance)
        if run is None or not (why := self._give_up_on(instance, run)):
            return None
        where = f"{run.address or self.query_address}:{run.port}"
        return UnansweredError(
            f"{instance.name} runs, but does not answer queries: it was asked on {where} for {seconds:g} s. "
            f"{why}"
        )

    def _give_up_on(self, instance: InstanceLayout, run: runs.Run) -> str:
        """Record that a run is up but silent; return why, in sentences; empty if it has no port."""
        look = port_holders.look_at_port(instance, run, run.address or WILDCARD)
        if not (look.has(Protocol.UDP) or look.unseen):
            return ""
        why = unanswered.explain_silence(
            self._layout,
            instance,
            run,
            look,
            run.address or self.query_address,
            argv=instance_files.read_launched_argv(instance),
            is_simulated=self._game_source == "simulator",
        )
        runs.mark_silent(instance, run, why)
        return why

    def _check_passwords(
        self, instance: InstanceLayout, record: instance_files.InstanceRecord, callbacks: Callbacks
    ) -> None:
        """Warn if a server that just started uses other passwords than it was given. It runs either way."""
        given = instance_files.read_launched_passwords(self._layout, instance)
        address = record.only_address or self.query_address
        if given.rcon and (
            fault := passwords.find_fault(
                address, record.port, given.rcon, given.join, callbacks.cancel
            )
        ):
            callbacks.warn(fault)

    def _look_at_port(
        self, instance: InstanceLayout, record: instance_files.InstanceRecord, callbacks: Callbacks
    ) -> int | None:
        """Return the port that the server was seen to hold; None if this account is not allowed to see."""
        run = runs.read_run(instance)
        if run is None:
            raise HostError(f"{instance.name} left no record of its start: restart it.")
        address = record.bind_address or WILDCARD
        has_port = port_holders.require_own_port(self._layout, instance, run, address, callbacks)
        # The port it was started with: the record may have another for the next start.
        return run.port if has_port else None

    def _name_nearest_map(self, instance: InstanceLayout, name: str, callbacks: Callbacks) -> str:
        """Name the map of the instance's layers that was probably meant; empty if none is similar."""
        try:
            overlays = instance_files.read_record(instance).overlays
            maps = read_maps(
                [
                    *(self._layout.overlay_folder(overlay) for overlay in overlays),
                    self._layout.current_link.resolve(),
                ],
                cache_dir=self._layout.content_dir,
                written_by_games=[instance.upper_dir],
                cancel=callbacks.cancel,
            )
        except (HostError, OSError) as error:
            return f"Which maps there are could not be read: {error}."
        nearest = maps.nearest(to_map_name(name))
        return f"The nearest map that there is: {nearest}." if nearest else ""

    def _abort(self, instance: InstanceLayout, callbacks: Callbacks) -> None:
        """End a failed start quickly: nobody plays on a server that has not answered yet."""

        def tell_warnings(stream: str, line: str) -> None:
            # What the game prints stays in its console.
            if stream == "stderr":
                callbacks.on_line(stream, line)

        seconds = min(self._stop_timeout_seconds, _ABORT_SECONDS)
        self._driver.end(instance, seconds, Callbacks(tell_warnings))

    def _tell_last_words(self, instance: InstanceLayout, callbacks: Callbacks) -> None:
        """Add the end of the console to the messages of a failed start."""
        last_run = runs.read_run(instance)
        if last_run is None:
            return
        lines = console_files.last_lines(instance, last_run.run, LAST_WORDS)
        if lines:
            callbacks.warn(f"The last {len(lines)} lines of the console of {instance.name}:")
        for line in lines:
            callbacks.warn(line)

    def _check(
        self, instance: InstanceLayout, record: instance_files.InstanceRecord, callbacks: Callbacks
    ) -> None:
        """Raise whatever prevents a start of the instance as recorded, whether or not it is running."""
        # The start itself will repeat its warnings.
        quiet = replace(callbacks, on_line=ignore_line)
        self._require_startable(instance, record, quiet)
        if self._find_layering().is_overlay:
            stack = self._find_layers(instance, record)
            layers.try_layers(self._layout, instance, stack, record.overlays)
        self._driver.require_ready(instance)
        callbacks.say(f"Nothing was found that would keep {instance.name} from starting.")

    def _require_startable(
        self, instance: InstanceLayout, record: instance_files.InstanceRecord, callbacks: Callbacks
    ) -> bool:
        """Raise HostError if the instance cannot start as recorded; otherwise return whether it is boxed.

        Called before a server is stopped for a restart, and again right before each launch.
        """
        stack = self._find_layers(instance, record)
        for overlay in record.overlays:
            label = OverlayReference.parse(overlay).label
            shapes.require_usable(self._layout.overlay_folder(overlay), label, instance.name)
        arguments, _ = drop_faulty(record.arguments)  # As the launch will.
        places = self._find_places(instance, stack)
        launch_maps.require_map(instance.name, arguments, places, callbacks)
        disk_usage.require_room(self._layout, instance.name, self._min_free_bytes)
        require_free_port(self._layout, instance, record.port, record.bind_address or WILDCARD)
        if self._layering is not None and not self._layering.is_overlay:
            self._layering = None  # The host may have been fixed since it was probed.
        return self._find_box(instance, callbacks)

    def _find_places(self, instance: InstanceLayout, stack: Sequence[Path]) -> launch_maps.Places:
        """Return where the instance's maps may be, according to its layers."""
        own_dirs = (instance.upper_dir, instance.tree_dir)
        return launch_maps.Places(stack, own_dirs, self._layout.content_dir)

    def _find_layers(
        self, instance: InstanceLayout, record: instance_files.InstanceRecord
    ) -> list[Path]:
        """Return the layers below an instance's own files, top one first; HostError if one is missing.

        The first layer is generated and need not be written yet.
        """
        release = releases.require_current(self._layout)
        return layers.lower_layers(self._layout, instance, record.layer, record.overlays, release)

    def _launch(
        self,
        instance: InstanceLayout,
        record: instance_files.InstanceRecord,
        callbacks: Callbacks,
        restarts_run: int | None,
    ) -> None:
        releases.require_current(self._layout)
        self._driver.settle(instance)
        process_driver.end_survivors(instance, callbacks)  # They may have its port.
        is_boxed = self._require_startable(instance, record, callbacks)
        instance_files.prepare(
            self._layout,
            instance,
            self._find_layering(),
            self._environment(),
            callbacks,
            is_boxed=is_boxed,
            restarts_run=restarts_run,
        )
        callbacks.stage("Starting")
        self._driver.launch(instance, record.limits, self._environment(), callbacks)
        if run := runs.read_run(instance):
            runs.tell_walls(run, callbacks)

    def _find_box(self, instance: InstanceLayout, callbacks: Callbacks) -> bool:
        """Return whether a game gets a box here; HostError if a real one must not run without it."""
        if self._walls is None and self._find_layering().is_overlay and not self._allow_unboxed:
            # Whatever can mount an overlay can make a box too; if it cannot, the launcher says what failed.
            # Checking all walls takes longer than the whole launch.
            return True
        walls = self._find_walls()
        if has_box(walls):
            return True
        reason = walls[0].sentence
        is_simulated = self._game_source == "simulator"
        if not (self._driver.boxes_by_itself or is_simulated or self._allow_unboxed):
            raise HostError(
                f"{instance.name} is not started: this host has no box that would keep the game's code from "
                f"the panel's files and from other servers. {reason} Or use HOST_DRIVER=systemd-system, or "
                "set HOST_UNBOXED=true if the game's code and its plugins may read and change all of that."
            )
        callbacks.warn(f"{instance.name} runs without a box of its own. {reason}")
        return False

    def _find_walls(self) -> tuple[Wall, ...]:
        """Return the walls of the box here. Walls that were found to stand are not tried again."""
        if self._walls is None or not has_box(self._walls):
            self._walls = walls_here()
        return self._walls

    def _stop(self, instance: InstanceLayout, callbacks: Callbacks) -> None:
        if not runs.is_alive(instance):
            self._driver.settle(instance)
        if not runs.is_alive(instance):
            process_driver.end_survivors(instance, callbacks)
            if (last_run := runs.read_run(instance)) is not None:
                runs.mark_known(instance, last_run)
            callbacks.say(f"{instance.name} does not run.")
            return
        callbacks.stage("Stopping")
        self._driver.end(instance, self._stop_timeout_seconds, callbacks)
        callbacks.say(f"{instance.name} has stopped.")
