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
from hostops.callbacks import Callbacks, do_nothing
from hostops.content import (
    arranging,
    fingerprints,
    launch_maps,
    loaded_content,
    overlay_reports,
    unpacking,
    version_folders,
)
from hostops.drivers import port_holders, process_driver
from hostops.drivers.driver import Driver, make_driver
from hostops.drivers.host_settings import HostSettings
from hostops.drivers.machine_probe import MachineProbe
from hostops.drivers.starting import Starter
from hostops.drivers.status_reader import StatusReader
from hostops.errors import HostError, RconUnusableError
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
from hostops.instances.host_root import make_root, require_readable_root
from hostops.layout import HostLayout, InstanceLayout
from hostops.linux import untrusted
from hostops.linux.locks import hold
from hostops.linux.memory import read_memory
from hostops.linux.untrusted import UntrustedFileError
from hostops.query import rcon
from hostops.specs import (
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

START_TIMEOUT_SECONDS = 60.0
"""How long a start waits for an answer. A server still running after that is left running."""

_LOADED_SECONDS = 10.0
_LOADED_ANSWER_SECONDS = 3.0
"""How long a server is asked at most what it has loaded, and how long it may take for one answer."""

_LOADED_CONSOLE_BYTES = 256 * 1024
"""How much of a run's console is searched for why something was not loaded."""


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
        self._game_source = game_source
        is_simulated = game_source == "simulator"
        self._settings = HostSettings(
            layout=self._layout,
            is_simulated=is_simulated,
            given_address=query_address,
            start_timeout_seconds=start_timeout_seconds,
            stop_timeout_seconds=stop_timeout_seconds,
            allow_unboxed=allow_unboxed,
            min_free_bytes=min_free_bytes,
        )
        self._driver: Driver = make_driver(driver, self._layout, is_simulated=is_simulated)
        self._machine = MachineProbe(self._layout, layers.Layering(layering) if layering else None)
        self._starter = Starter(self._settings, self._driver, self._machine)
        self._status_reader = StatusReader(self._settings)
        self._steam_account = steam_account
        self._content = content

    @property
    def query_address(self) -> str:
        """The address for querying servers that listen on every address."""
        return self._settings.query_address

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
            can_overlay = self._machine.find_layering().is_overlay
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
        make_root(self._layout)
        with (
            disk_usage.explain_full_disk(self._layout),
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
        make_root(self._layout)
        with (
            disk_usage.explain_full_disk(self._layout),
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
                stack = instance_files.find_layers(self._layout, instance, made.record)
                places = launch_maps.find_places(self._layout, instance, stack)
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
            self._starter.check(instance, composition.record, callbacks)

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
            self._starter.start(instance, callbacks, is_automatic=is_automatic)

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
            self._starter.check(instance, record, callbacks)
            self._stop(instance, callbacks)
            self._starter.start(instance, callbacks)

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
        limits = replace(limits or UnpackLimits(), min_free_bytes=self._settings.min_free_bytes)
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
        stack = instance_files.find_layers(self._layout, instance, record)
        return admin_files.foresee(instance, stack)

    def prune_content(self) -> PrunedContent | None:
        """Remove overlay versions and fetched files that no server has needed for a day.

        Returns what was removed. None if nothing was, because a version is being laid out at the moment or the
        needs of some server are unknown. Does not wait; an operation that needs a version waits for it.
        """
        require_readable_root(self._layout)
        return version_folders.prune(self._layout)

    # Reading: takes no lock that anybody waits for. What is seen of a run, such as its first answer or its end,
    # is noted in its record.

    def status(self, name: str) -> InstanceStatus:
        """Return what one instance is doing."""
        require_readable_root(self._layout)
        return self._driver.complete(self._status_reader.read_statuses([name]))[name]

    def statuses(self, *, with_usage: bool = True) -> dict[str, InstanceStatus]:
        """Return what every instance is doing, by name. Costs a few file reads for each.

        Memory and CPU usage cost an extra query to systemd. Frequent callers may leave it out.
        """
        require_readable_root(self._layout)
        statuses = self._status_reader.read_statuses(self._layout.instance_names())
        return self._driver.complete(statuses, with_usage=with_usage)

    def facts(self) -> HostFacts:
        """Return the facts about this host. The first call tries a mount."""
        require_readable_root(self._layout)
        layering = self._machine.find_layering()
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
                for wall in self._machine.find_walls()
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
        require_readable_root(self._layout)
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
        require_readable_root(self._layout)
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
        require_readable_root(self._layout)
        return disk_usage.own_bytes(self._layout.instance(name))

    def run_facts(self, name: str, run: int) -> RunFacts | None:
        """Return what is known about one run of a server; None if it is no longer kept."""
        instance = self._layout.instance(name)
        require_readable_root(self._layout)
        facts = runs.read_facts(instance, run)
        if facts is None or facts.ending is not RunEnding.CRASHED:
            return facts
        crashed = (one for one in self.status(name).crashed_runs if one.run == run)
        signal = next((one.exit_signal for one in crashed), None)
        return replace(facts, exit_signal=signal or "")

    def releases(self) -> list[InstalledRelease]:
        """Return the installed builds, the latest first."""
        require_readable_root(self._layout)
        return releases.list_releases(self._layout)

    def overlay_fingerprints(self, names: Collection[str] | None = None) -> dict[str, str]:
        """Return a fingerprint of each overlay on this host, or of those of `names` that are here.

        A fingerprint changes when a file of the overlay changes; it is empty for an overlay that cannot be
        read. Costs 0.05 s for 3,400 files: see `hostops.content.fingerprints`. `names` may include references
        to versions, which never change: these need not be on this host.
        """
        require_readable_root(self._layout)
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
        require_readable_root(self._layout)
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
        require_readable_root(self._layout)
        build_id = releases.read_current(self._layout)
        if build_id is None:
            return None
        return overlay_reports.report_release(
            self._layout.releases_dir / build_id, self._layout.content_dir, cancel or CancelToken()
        )

    def doctor(self) -> list[Finding]:
        """Check whether this host can do its work, and say what to do where it cannot."""
        self._machine.forget_layering()  # An earlier problem may have been fixed.
        is_new = not os.path.lexists(self._layout.root)
        try:
            layering = self._machine.find_layering()
        except (HostError, OSError) as error:
            text = f"{self._layout.root} cannot be used: {error}."
            if isinstance(error, HostError):
                text = str(error)
            cure = "Make the folder, and give it to the worker's user."
            return [Finding("Folder", False, text, cure)]
        return [
            *doctor.examine_new_root(self._layout, is_new=is_new),
            *doctor.examine(self._layout, layering, self._game_source),
            *doctor.examine_walls(
                self._machine.find_walls(),
                needs_box=self._game_source == "steam" and not self._settings.allow_unboxed,
            ),
            *self._driver.examine(),
        ]

    # How

    @contextlib.contextmanager
    def _whole_host(self, purpose: str, callbacks: Callbacks) -> Iterator[int]:
        """Keep every other operation out; yields the lock's descriptor for commands to inherit."""
        make_root(self._layout)
        with (
            disk_usage.explain_full_disk(self._layout),
            hold(self._layout.host_lock_path, purpose, callbacks) as lock,
        ):
            yield lock

    @contextlib.contextmanager
    def _instance(self, verb: str, name: str, callbacks: Callbacks) -> Iterator[InstanceLayout]:
        """Keep out installs and other operations on this instance."""
        instance = self._layout.instance(name)
        purpose = f"{verb} {name}"
        make_root(self._layout)
        lock_path = self._layout.instance_lock_path(name)
        with (
            disk_usage.explain_full_disk(self._layout),
            hold(self._layout.host_lock_path, purpose, callbacks, shared=True),
            # Servers have to be stopped, reset and deleted on a full disk too.
            hold(lock_path, purpose, callbacks, may_be_nameless=True),
        ):
            yield instance

    @contextlib.contextmanager
    def _versions(self, spec: InstanceSpec, callbacks: Callbacks) -> Iterator[None]:
        """Have the overlay versions of `spec` ready, and keep them for the duration of the block."""
        make_root(self._layout)
        needs = version_folders.Needs(spec.name, self._content, self._settings.min_free_bytes)
        with (
            disk_usage.explain_full_disk(self._layout),
            version_folders.hold_ready(self._layout, spec.overlays, needs, callbacks),
        ):
            yield

    def _fingerprint(self, name: str) -> str:
        try:
            return fingerprints.fingerprint(self._layout.overlay_folder(name))
        except UntrustedFileError:
            return ""  # Its report says why.

    def _find_steamcmd(self, callbacks: Callbacks) -> steamcmd.SteamCmd:
        return steamcmd.SteamCmd(
            self._steamcmd_command(callbacks), self._settings.environment, self._steam_account
        )

    def _steamcmd_command(self, callbacks: Callbacks) -> tuple[str, ...]:
        if self._game_source == "simulator":
            return steamcmd.find_simulator()
        return steamcmd.find(self._layout) or steamcmd.fetch(self._layout, callbacks)

    def _stop(self, instance: InstanceLayout, callbacks: Callbacks) -> None:
        if not runs.is_alive(instance):
            self._driver.settle(instance)
        if not runs.is_alive(instance):
            process_driver.end_survivors(instance, callbacks)
            if (last_run := runs.read_run(instance)) is not None:
                runs.mark_known(instance, last_run)
                if not runs.was_asked_to_stop(instance, last_run):
                    callbacks.warn(
                        f"The disk is full, so it is not noted that {instance.name} is to stay stopped. "
                        "Make room, and stop it once more."
                    )
            callbacks.say(f"{instance.name} does not run.")
            return
        callbacks.stage("Stopping")
        self._driver.end(instance, self._settings.stop_timeout_seconds, callbacks)
        callbacks.say(f"{instance.name} has stopped.")
