"""Waits for a started server until it answers queries, or certainly will not.

`unanswered` finds out what prevents an answer.
"""

import contextlib
import os
import select
import time
from collections.abc import Callable, Sequence

from hostops.callbacks import Callbacks
from hostops.drivers.startup_console import FailedMap, StartupConsole, find_ending, to_map_name
from hostops.errors import HostError
from hostops.instances import console_files, runs
from hostops.layout import InstanceLayout
from hostops.query.a2s import Inquiry

LAST_WORDS = 50
"""How many lines of the console to quote when a start failed."""

_FIRST_PAUSE_SECONDS = 0.001
_LONGEST_PAUSE_SECONDS = 0.05
_PAUSE_SHARE = 1 / 30
"""The pause between two checks as a share of the time waited so far, which bounds the delay of an answer."""

_FIRST_REPEAT_SECONDS = 0.02
_LONGEST_REPEAT_SECONDS = 2.0
"""The interval doubles each time: srcds counts queries (sv_max_queries_sec), and above that answers nobody.
Queries sent while it loads may be lost."""

_LOOK_SECONDS = 0.25
"""How often to read the run's record while its process is alive."""

_STAGE_SECONDS = 2
_MAP_GRACE_SECONDS = 0.5
"""How long a server may still take to answer after it has refused its start map."""


class UnansweredError(HostError):
    """A server runs but has not answered in time. That is no reason to end it."""


def wait_for_answer(
    instance: InstanceLayout,
    address: str,
    wanted_maps: Sequence[str],
    timeout_seconds: float,
    callbacks: Callbacks,
    on_loaded: Callable[[], object],
    find_nearest_map: Callable[[str], str],
) -> None:
    """Wait until the instance's run answers a query, and record that it did.

    `address` is where to query it, unless it listens on only one address. `on_loaded` is called once, when it
    has loaded its map or answers; if that raises, the wait ends. `find_nearest_map` returns, as a sentence or
    nothing, which map was probably meant by one that cannot be loaded. The game's output stays in its console.
    However much that is, a cancel and the deadline take effect within a fraction of a second.

    Raises HostError as soon as the run has ended or its map cannot be loaded, UnansweredError when time has run
    out, and OperationCancelled on a cancel. It does not end the game.
    """
    began_at = time.monotonic()
    said = ""
    with contextlib.ExitStack() as stack:
        wait: _RunWait | None = None
        while True:
            waited = time.monotonic() - began_at
            if wait is None or wait.is_look_due():
                is_alive = runs.is_alive(instance)
                run = runs.read_run(instance)
                if not is_alive:
                    raise HostError(describe_early_end(instance, run))
                if run is not None and (wait is None or wait.run.run != run.run):
                    wait = _RunWait(instance, run, address)
                    stack.callback(wait.close)
            if wait is not None:
                has_answer = wait.has_answer()
                _follow_console(wait, wanted_maps, callbacks, find_nearest_map, is_up=has_answer)
                if has_answer or wait.console.has_loaded:
                    wait.note_loaded(on_loaded)
                if has_answer:
                    runs.mark_ready(instance, wait.run)
                    return
            if waited > timeout_seconds:
                raise UnansweredError(
                    f"{instance.name} did not answer within {timeout_seconds:g} s of its start."
                )
            stage = _name_stage(wait, waited)
            if stage != said:
                callbacks.stage(stage)
                said = stage
            callbacks.cancel.raise_if_cancelled()
            pause = min(max(waited * _PAUSE_SHARE, _FIRST_PAUSE_SECONDS), _LONGEST_PAUSE_SECONDS)
            if wait is None:
                time.sleep(pause)
            else:
                wait.pause(pause)


def _follow_console(
    wait: "_RunWait",
    wanted_maps: Sequence[str],
    callbacks: Callbacks,
    find_nearest_map: Callable[[str], str],
    *,
    is_up: bool,
) -> None:
    """Read what the run has printed since: HostError if it cannot load its start map, warnings about others."""
    wait.read_console()
    for other in wait.take_other_failures(wanted_maps):
        callbacks.warn(_describe_other_map(wait.instance, other, find_nearest_map))
    if not is_up and (failed := wait.find_failure(wanted_maps)):
        raise HostError(_describe_failed_map(wait.instance, failed, find_nearest_map))


class _RunWait:
    """The state of waiting for one run."""

    def __init__(self, instance: InstanceLayout, run: runs.Run, address: str) -> None:
        self.instance = instance
        self.run = run
        self.address = run.address or address
        self.console = StartupConsole(instance, run)
        self._inquiry = Inquiry(self.address, run.port)
        self._ask_at = 0.0
        self._repeat_seconds = _FIRST_REPEAT_SECONDS
        self._failed_at: float | None = None
        self._has_noted = False
        self._told_maps: set[str] = set()
        self._look_at = time.monotonic() + _LOOK_SECONDS
        # Becomes readable when the process has ended.
        self._pidfd = -1
        if run.is_main_process_alive:
            with contextlib.suppress(ProcessLookupError):
                self._pidfd = os.pidfd_open(run.pid)

    def close(self) -> None:
        self._inquiry.close()
        self.console.close()
        self._forget_process()

    def is_look_due(self) -> bool:
        """Whether to read its record: its process may have ended, or systemd may have begun another run."""
        if time.monotonic() < self._look_at:
            return False
        self._look_at = time.monotonic() + _LOOK_SECONDS
        return True

    def has_answer(self) -> bool:
        """Query, if it is time or the port was closed, and check whether an answer has come."""
        now = time.monotonic()
        if self._inquiry.collect() is not None:
            return True
        if not self._inquiry.is_pending or now >= self._ask_at:
            was_pending = self._inquiry.is_pending
            self._inquiry.ask()
            if was_pending:
                self._repeat_seconds = min(self._repeat_seconds * 2, _LONGEST_REPEAT_SECONDS)
            self._ask_at = now + self._repeat_seconds
        return self._inquiry.collect() is not None

    def read_console(self) -> None:
        """Read the new output. If the map has just been loaded, the next query is sent at once."""
        had_loaded = self.console.has_loaded
        self.console.read()
        if self.console.has_loaded and not had_loaded:
            self._ask_at = 0.0

    def find_failure(self, wanted_maps: Sequence[str]) -> FailedMap | None:
        """Return the missing start map, once the server has had time to answer without it."""
        failed = self.console.find_failed_map(wanted_maps)
        if failed is None or self.console.has_loaded:
            return None
        now = time.monotonic()
        self._failed_at = self._failed_at or now
        return failed if now - self._failed_at > _MAP_GRACE_SECONDS else None

    def take_other_failures(self, wanted_maps: Sequence[str]) -> list[FailedMap]:
        """Return, each once, the maps that could not be loaded other than the start map."""
        known = {*map(to_map_name, wanted_maps), *self._told_maps}
        others = {to_map_name(one.name): one for one in self.console.failed_maps}
        new = {name: one for name, one in others.items() if name not in known}
        self._told_maps.update(new)
        return list(new.values())

    def note_loaded(self, on_loaded: Callable[[], object]) -> None:
        if not self._has_noted:
            self._has_noted = True
            on_loaded()

    def pause(self, seconds: float) -> None:
        """Wait this long, or until the game has answered or ended."""
        poll = select.poll()
        if self._inquiry.is_pending:
            poll.register(self._inquiry, select.POLLIN)
        if self._pidfd >= 0:
            poll.register(self._pidfd, select.POLLIN)
        # In milliseconds; fractions are lost.
        ready = poll.poll(max(1, round(seconds * 1000)))
        if any(descriptor == self._pidfd for descriptor, _ in ready):
            self._look_at = 0.0
            # A child of it may live on, but this descriptor would stay readable forever.
            self._forget_process()

    def _forget_process(self) -> None:
        if self._pidfd >= 0:
            os.close(self._pidfd)
            self._pidfd = -1


def describe_early_end(instance: InstanceLayout, run: runs.Run | None) -> str:
    """Say that a run ended during its start, and why, as far as its console shows."""
    lead = f"{instance.name} ended while it was starting."
    if run is None:
        return f"{lead} It left nothing behind."
    if found := find_ending(console_files.last_lines(instance, run.run, LAST_WORDS)):
        line, cure = found
        return f"{lead} It printed: {line[:300].removesuffix('.')}. {cure}"
    return f"{lead} {runs.describe_end(instance, run)}"


def _describe_failed_map(
    instance: InstanceLayout, failed: FailedMap, find_nearest_map: Callable[[str], str]
) -> str:
    sentences = (
        f"{instance.name} cannot load the map {failed.name}, and is ended.",
        f"It printed: {' / '.join(failed.lines)}.",
        find_nearest_map(failed.name),
        "Correct +map in its arguments, or add the overlay that has the map.",
    )
    return " ".join(one for one in sentences if one)


def _describe_other_map(
    instance: InstanceLayout, failed: FailedMap, find_nearest_map: Callable[[str], str]
) -> str:
    sentences = (
        f"{instance.name} was told to load the map {failed.name}, by a config or a plugin, and cannot.",
        f"It printed: {' / '.join(failed.lines)}.",
        find_nearest_map(failed.name),
    )
    return " ".join(one for one in sentences if one)


def _name_stage(wait: _RunWait | None, waited: float) -> str:
    """Say what is being waited for, with the time every other second."""
    seconds = int(waited) // _STAGE_SECONDS * _STAGE_SECONDS
    what = "the map to load"
    if wait is not None and wait.console.has_loaded:
        where = f"[{wait.address}]" if ":" in wait.address else wait.address
        what = f"an answer on {where}:{wait.run.port}"
    return f"Waiting for {what}{f' ({seconds} s)' if seconds else ''}"
