"""How a game server is started: the checks before it, its launch, the wait for its answer, and how each ends.

The caller holds the instance's lock throughout. `start_wait` is the wait itself.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

from hostops.callbacks import Callbacks, do_nothing, ignore_line
from hostops.content import launch_maps, shapes
from hostops.content.maps import read_maps
from hostops.drivers import port_holders, process_driver, unanswered
from hostops.drivers.driver import Driver
from hostops.drivers.host_settings import HostSettings
from hostops.drivers.machine_probe import MachineProbe
from hostops.drivers.readiness import require_free_port
from hostops.drivers.start_wait import LAST_WORDS, UnansweredError, wait_for_answer
from hostops.drivers.startup_console import find_wanted_maps, to_map_name
from hostops.errors import HostError, OperationCancelled
from hostops.instances import console_files, disk_usage, instance_files, layers, releases, runs
from hostops.instances.instance_files import InstanceRecord
from hostops.launch_arguments import drop_faulty
from hostops.layout import InstanceLayout
from hostops.linux.sockets import WILDCARD
from hostops.query import passwords
from hostops.specs import InstanceState, OverlayReference

_ABORT_SECONDS = 1.0
"""How long a server that has not answered may take to end before it is killed."""

_RUNNING_PATIENCE_SECONDS = 10.0
"""How long a server that was already running may take to answer: it is silent during a map change."""


@dataclass(frozen=True)
class Starter:
    """Starts the servers of one host, and checks beforehand whether that would work."""

    settings: HostSettings
    driver: Driver
    machine: MachineProbe

    def check(self, instance: InstanceLayout, record: InstanceRecord, callbacks: Callbacks) -> None:
        """Raise whatever prevents a start of the instance as recorded, whether or not it is running."""
        # The start itself will repeat its warnings.
        quiet = replace(callbacks, on_line=ignore_line)
        self._require_startable(instance, record, quiet)
        if self.machine.find_layering().is_overlay:
            stack = instance_files.find_layers(self.settings.layout, instance, record)
            layers.try_layers(self.settings.layout, instance, stack, record.overlays)
        self.driver.require_ready(instance)
        callbacks.say(f"Nothing was found that would keep {instance.name} from starting.")

    def start(
        self, instance: InstanceLayout, callbacks: Callbacks, *, is_automatic: bool = False
    ) -> None:
        """Start the instance, or continue with a start in progress; return once it answers.

        One that runs already is only asked for an answer. Raises HostError if the start has failed and its
        server is ended, UnansweredError if it is left running, and OperationCancelled.
        """
        callbacks.stage("Preparing")
        record = instance_files.read_record(instance)
        restarts_run: int | None = None
        if not runs.is_alive(instance):
            restarts_run = _find_crashed_run(instance) if is_automatic else None
            try:
                self._launch(instance, record, callbacks, restarts_run)
            except HostError:
                # A start whose caller was killed may have just reached its launch: continue with that run.
                if not runs.is_alive(instance):
                    raise
        elif runs.read_status(instance).state is InstanceState.RUNNING:
            callbacks.say(f"{instance.name} runs already.")
            self._confirm_running(instance, callbacks)
            return
        else:
            callbacks.say(f"{instance.name} is starting already.")
        port = self._wait_or_undo(instance, callbacks, restarts_run)
        callbacks.say(
            f"{instance.name} answers on port {port}." if port else f"{instance.name} is up."
        )
        self._check_passwords(instance, callbacks)

    # Before and at the launch

    def _require_startable(
        self, instance: InstanceLayout, record: InstanceRecord, callbacks: Callbacks
    ) -> bool:
        """Raise HostError if the instance cannot start as recorded; otherwise return whether it is boxed.

        Called before a server is stopped for a restart, and again right before each launch.
        """
        layout = self.settings.layout
        stack = instance_files.find_layers(layout, instance, record)
        for overlay in record.overlays:
            label = OverlayReference.parse(overlay).label
            shapes.require_usable(layout.overlay_folder(overlay), label, instance.name)
        arguments, _ = drop_faulty(record.arguments)  # As the launch will.
        places = launch_maps.find_places(layout, instance, stack)
        launch_maps.require_map(instance.name, arguments, places, callbacks)
        disk_usage.require_room(layout, instance.name, self.settings.min_free_bytes)
        require_free_port(layout, instance, record.port, record.bind_address or WILDCARD)
        self.machine.forget_failed_layering()
        return self._find_box(instance, callbacks)

    def _find_box(self, instance: InstanceLayout, callbacks: Callbacks) -> bool:
        """Return whether a game gets a box here; HostError if a real one must not run without it."""
        may_be_unboxed = self.settings.allow_unboxed
        reason = self.machine.explain_missing_box(may_assume=not may_be_unboxed)
        if not reason:
            return True
        if not (self.driver.boxes_by_itself or self.settings.is_simulated or may_be_unboxed):
            raise HostError(
                f"{instance.name} is not started: this host has no box that would keep the game's code from "
                f"the panel's files and from other servers. {reason} Or use HOST_DRIVER=systemd-system, or "
                "set HOST_UNBOXED=true if the game's code and its plugins may read and change all of that."
            )
        callbacks.warn(f"{instance.name} runs without a box of its own. {reason}")
        return False

    def _launch(
        self,
        instance: InstanceLayout,
        record: InstanceRecord,
        callbacks: Callbacks,
        restarts_run: int | None,
    ) -> None:
        releases.require_current(self.settings.layout)
        self.driver.settle(instance)
        process_driver.end_survivors(instance, callbacks)  # They may have its port.
        is_boxed = self._require_startable(instance, record, callbacks)
        instance_files.write_launch_plan(
            self.settings.layout,
            instance,
            self.machine.find_layering(),
            self.settings.environment,
            callbacks,
            is_boxed=is_boxed,
            restarts_run=restarts_run,
        )
        callbacks.stage("Starting")
        self.driver.launch(instance, record.limits, self.settings.environment, callbacks)
        try:
            if run := runs.read_run(instance):
                runs.tell_walls(run, callbacks)
        except BaseException:
            self._undo(instance, callbacks, may_repeat=restarts_run is not None)
            raise

    # After the launch

    def _wait_or_undo(
        self, instance: InstanceLayout, callbacks: Callbacks, restarts_run: int | None
    ) -> int | None:
        """Wait until the instance is up, and return its port as `_look_at_port` does.

        A partial start is no start: however else the wait ends, the run is ended too, unless it only is silent.
        That holds if a callback raises as well, even while it is told the reason.
        `restarts_run` is as for `instance_files.write_launch_plan`.
        """
        port: int | None = None

        def look_at_port() -> None:
            nonlocal port
            port = self._look_at_port(instance, callbacks)

        # The person who asked for the start decides what is next. A restart after a crash may repeat.
        may_repeat = restarts_run is not None
        seconds = self.settings.start_timeout_seconds
        try:
            self._wait_for_answer(instance, seconds, callbacks, look_at_port)
        except OperationCancelled:
            self._undo(instance, callbacks, may_repeat=False)
            callbacks.warn(f"{instance.name} was ended, as its start was cancelled.")
            raise
        except UnansweredError as error:
            try:
                _tell_last_words(instance, callbacks)
            finally:
                left = self._leave_unanswered(instance, seconds)
                if left is None:
                    self._undo(instance, callbacks, may_repeat=may_repeat)
            raise left or HostError(f"{error} It holds no port, and is ended.") from None
        except BaseException:
            try:
                _tell_last_words(instance, callbacks)
            finally:
                self._undo(instance, callbacks, may_repeat=may_repeat)
            raise
        return port

    def _confirm_running(self, instance: InstanceLayout, callbacks: Callbacks) -> None:
        """Raise HostError if a running server has a problem. That does not end a game in progress."""
        self._look_at_port(instance, callbacks)
        seconds = min(self.settings.start_timeout_seconds, _RUNNING_PATIENCE_SECONDS)
        try:
            self._wait_for_answer(instance, seconds, callbacks, do_nothing)
        except UnansweredError as error:
            raise self._leave_unanswered(instance, seconds) or error from None

    def _wait_for_answer(
        self,
        instance: InstanceLayout,
        seconds: float,
        callbacks: Callbacks,
        on_loaded: Callable[[], object],
    ) -> None:
        wait_for_answer(
            instance,
            self.settings.query_address,
            find_wanted_maps(instance_files.read_launched_argv(instance)),
            seconds,
            callbacks,
            on_loaded,
            lambda name: self._name_nearest_map(instance, name, callbacks),
        )

    def _look_at_port(self, instance: InstanceLayout, callbacks: Callbacks) -> int | None:
        """Return the port that the server was seen to hold; None if this account is not allowed to see."""
        run = runs.read_run(instance)
        if run is None:
            raise HostError(f"{instance.name} left no record of its start: restart it.")
        # The run's own port and address: the record may have others for the next start.
        address = run.address or WILDCARD
        layout = self.settings.layout
        has_port = port_holders.require_own_port(layout, instance, run, address, callbacks)
        return run.port if has_port else None

    def _name_nearest_map(self, instance: InstanceLayout, name: str, callbacks: Callbacks) -> str:
        """Name the map of the instance's layers that was probably meant; empty if none is similar."""
        layout = self.settings.layout
        try:
            overlays = instance_files.read_record(instance).overlays
            maps = read_maps(
                [
                    *(layout.overlay_folder(overlay) for overlay in overlays),
                    layout.current_link.resolve(),
                ],
                cache_dir=layout.content_dir,
                written_by_games=[instance.upper_dir],
                cancel=callbacks.cancel,
            )
        except (HostError, OSError) as error:
            return f"Which maps there are could not be read: {error}."
        nearest = maps.nearest(to_map_name(name))
        return f"The nearest map that there is: {nearest}." if nearest else ""

    def _check_passwords(self, instance: InstanceLayout, callbacks: Callbacks) -> None:
        """Warn if a server that just started uses other passwords than it was given. It runs either way."""
        run = runs.read_run(instance)
        if run is None:
            return
        given = instance_files.read_launched_passwords(self.settings.layout, instance)
        address = run.address or self.settings.query_address
        if given.rcon and (
            fault := passwords.find_fault(
                address, run.port, given.rcon, given.join, callbacks.cancel
            )
        ):
            callbacks.warn(fault)

    # A start that fails

    def _leave_unanswered(self, instance: InstanceLayout, seconds: float) -> UnansweredError | None:
        """Leave a silent run alone, and return the error to raise; None if the run has no port."""
        run = runs.read_run(instance)
        if run is None or not (why := unanswered.give_up_on(self.settings, instance, run)):
            return None
        where = f"{run.address or self.settings.query_address}:{run.port}"
        return UnansweredError(
            f"{instance.name} runs, but does not answer queries: it was asked on {where} for {seconds:g} s. "
            f"{why}"
        )

    def _undo(self, instance: InstanceLayout, callbacks: Callbacks, *, may_repeat: bool) -> None:
        """End what a failed start has left running; without `may_repeat`, nothing starts it again.

        Cannot be cancelled in its turn. It is quick: nobody plays on a server that has not answered yet.
        """
        if not runs.is_alive(instance):
            if not may_repeat:
                self.driver.settle(instance)
            return
        warnings: list[str] = []

        def keep_warnings(stream: str, line: str) -> None:
            # What the game prints stays in its console.
            if stream == "stderr":
                warnings.append(line)

        seconds = min(self.settings.stop_timeout_seconds, _ABORT_SECONDS)
        try:
            self.driver.end(instance, seconds, Callbacks(keep_warnings))
        finally:
            for line in warnings:  # Only now, as the callback may raise.
                callbacks.warn(line)


def _find_crashed_run(instance: InstanceLayout) -> int | None:
    """Return the number of the last run if it has crashed."""
    last_run = runs.read_run(instance)
    return last_run.run if last_run is not None and runs.has_crashed(instance, last_run) else None


def _tell_last_words(instance: InstanceLayout, callbacks: Callbacks) -> None:
    """Add the end of the console to the messages of a failed start."""
    last_run = runs.read_run(instance)
    if last_run is None:
        return
    lines = console_files.last_lines(instance, last_run.run, LAST_WORDS)
    if lines:
        count = f"{len(lines)} lines" if len(lines) > 1 else "line"
        callbacks.warn(f"The last {count} of the console of {instance.name}:")
    for line in lines:
        callbacks.warn(line)
