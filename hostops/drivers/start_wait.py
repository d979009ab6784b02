"""Waits for a started server, and looks meanwhile: until it answers queries, or it is known that it will not.

What is in the way of an answer is found out in `unanswered`.
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
"""So many lines of its console tell why a start failed."""

_FIRST_PAUSE_SECONDS = 0.001
_LONGEST_PAUSE_SECONDS = 0.05
_PAUSE_SHARE = 1 / 30
"""Of the time that was waited already: so a look comes at most so much later than it might."""

_FIRST_REPEAT_SECONDS = 0.02
_LONGEST_REPEAT_SECONDS = 2.0
"""Twice as long from one time to the next: srcds counts what it is asked (sv_max_queries_sec), and then answers
nobody. What it was asked while it loads may be lost."""

_LOOK_SECONDS = 0.25
"""How often the run's record is read, of a run whose process goes on."""

_STAGE_SECONDS = 2
_MAP_GRACE_SECONDS = 0.5
"""How long a server may still answer after it has refused the map that it was started with."""


class UnansweredError(HostError):
    """A server runs, and has not answered in time. It is not to be ended for that."""


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

    `address` is where it is asked unless it listens on one address only. `on_loaded` is called once, when it
    has loaded its map or answers: what that raises ends the wait. `find_nearest_map` says, as a sentence or
    nothing, which map was probably meant by one that it cannot load. What the game prints meanwhile is its
    console's. However much that is, a cancel and the deadline act within a fraction of a second.

    Raises HostError as soon as the run has ended or its map cannot be loaded, UnansweredError when time has run
    out, OperationCancelled on a cancel; the game is not ended here.
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
                wait.read_console()
                for other in wait.take_other_failures(wanted_maps):
                    callbacks.warn(_describe_other_map(instance, other, find_nearest_map))
                if has_answer:
                    wait.note_loaded(on_loaded)
                    runs.mark_ready(instance, wait.run)
                    return
                if failed := wait.find_failure(wanted_maps):
                    raise HostError(_describe_failed_map(instance, failed, find_nearest_map))
                if wait.console.has_loaded:
                    wait.note_loaded(on_loaded)
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


class _RunWait:
    """What is known of the run that is waited for."""

    def __init__(self, instance: InstanceLayout, run: runs.Run, address: str) -> None:
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
        # It becomes readable when the process has ended.
        self._pidfd = -1
        if run.is_main_process_alive:
            with contextlib.suppress(ProcessLookupError):
                self._pidfd = os.pidfd_open(run.pid)

    def close(self) -> None:
        self._inquiry.close()
        self.console.close()
        self._forget_process()

    def is_look_due(self) -> bool:
        """Whether its record is to be looked at: its process may have ended, or systemd begun another run."""
        if time.monotonic() < self._look_at:
            return False
        self._look_at = time.monotonic() + _LOOK_SECONDS
        return True

    def has_answer(self) -> bool:
        """Ask, if it is time or the port was closed, and look whether an answer has come."""
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
        """Read what it has printed; that its map is loaded is a reason to ask at once."""
        had_loaded = self.console.has_loaded
        self.console.read()
        if self.console.has_loaded and not had_loaded:
            self._ask_at = 0.0

    def find_failure(self, wanted_maps: Sequence[str]) -> FailedMap | None:
        """Return the map without which it stays, once it has had the time to answer all the same."""
        failed = self.console.find_failed_map(wanted_maps)
        if failed is None or self.console.has_loaded:
            return None
        now = time.monotonic()
        self._failed_at = self._failed_at or now
        return failed if now - self._failed_at > _MAP_GRACE_SECONDS else None

    def take_other_failures(self, wanted_maps: Sequence[str]) -> list[FailedMap]:
        """Return the maps that could not be loaded and that it was not started with, each once."""
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
        """Wait so long, or until something has come from the game, or it has ended."""
        poll = select.poll()
        if self._inquiry.is_pending:
            poll.register(self._inquiry, select.POLLIN)
        if self._pidfd >= 0:
            poll.register(self._pidfd, select.POLLIN)
        # In milliseconds, of which a fraction is lost.
        ready = poll.poll(max(1, round(seconds * 1000)))
        if any(descriptor == self._pidfd for descriptor, _ in ready):
            self._look_at = 0.0
            # A child of it may go on, and this would be readable for ever.
            self._forget_process()

    def _forget_process(self) -> None:
        if self._pidfd >= 0:
            os.close(self._pidfd)
            self._pidfd = -1


def describe_early_end(instance: InstanceLayout, run: runs.Run | None) -> str:
    """Say that a run ended during its start, and why as far as its console tells."""
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
    """Say what is waited for, with the time every other second."""
    seconds = int(waited) // _STAGE_SECONDS * _STAGE_SECONDS
    what = "the map to load"
    if wait is not None and wait.console.has_loaded:
        where = f"[{wait.address}]" if ":" in wait.address else wait.address
        what = f"an answer on {where}:{wait.run.port}"
    return f"Waiting for {what}{f' ({seconds} s)' if seconds else ''}"
