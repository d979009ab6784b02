"""A verb can be cancelled wherever it checks for that; what is there is complete, and the next try finishes.

Each case calls a verb again and again, with a token that cancels it at the first check at which no earlier
try was cancelled, until there is none left.
"""

import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

import pytest

from hostops import specs
from hostops.errors import OperationCancelled
from hostops.host import Host
from hostops.instances.releases import is_whole
from hostops.specs import CancelToken, InstanceSpec, InstanceState
from tests.hostops.hosts import (
    BUILD_ID,
    LATER_BUILD_ID,
    REPOSITORY,
    STRIDE,
    end_everything,
    game_processes,
    installers,
    write_control,
)
from tests.waiting import wait_until

Look = tuple[tuple[str, int], ...]
Verb = Callable[[CancelToken], object]

HOSTOPS = str(REPOSITORY / "hostops")


def own_lines() -> Look:
    """Return the lines of the host layer that lead to the caller, innermost first."""
    lines = []
    frame: FrameType | None = sys._getframe(2)
    while frame:
        if frame.f_code.co_filename.startswith(HOSTOPS):
            lines.append((Path(frame.f_code.co_filename).name, frame.f_lineno))
        frame = frame.f_back
    return tuple(lines)


class CancelAtNewLook(CancelToken):
    """Cancels at the first check made by lines that are not in `known`, and adds them.

    With a stride of N, at the very first check and then at every N-th new one.
    """

    def __init__(self, known: dict[Look, None]) -> None:
        self._known = known
        self._passes = STRIDE - 1 if known else 0
        self._is_cancelled = False
        super().__init__()

    @property
    def is_cancelled(self) -> bool:
        """Whether it is cancelled: from the first new check on."""
        look = own_lines()
        if not self._is_cancelled and look not in self._known:
            self._known[look] = None
            self._is_cancelled = self._passes == 0
            self._passes -= 1
        return self._is_cancelled

    @is_cancelled.setter
    def is_cancelled(self, value: bool) -> None:
        self._is_cancelled = value


def cancelled_at_each_look(verb: Verb) -> Iterator[Look]:
    """Call a verb until nothing cancels it; yields after each cancelled call, with the place of the check."""
    looks: dict[Look, None] = {}  # in the order in which they were met
    while True:
        before = dict(looks)
        try:
            verb(CancelAtNewLook(looks))
        except OperationCancelled:
            yield next(reversed(looks))
        else:
            # A check may come too late to change anything: the verb was done.
            if looks == before:
                return


def assert_current_is_whole(root: Path) -> None:
    assert is_whole((root / "current").resolve())


def test_the_first_reason_stands() -> None:
    token = CancelToken()
    for reason in ("Cancelled by SIGTERM.", "Cancelled by SIGINT."):
        token.cancel(reason)
    with pytest.raises(OperationCancelled, match="SIGTERM"):
        token.raise_if_cancelled()


def test_a_signal_ends_the_waiting_of_the_thread_that_it_interrupts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    token = CancelToken()
    naps: list[float] = []

    def nap(seconds: float) -> None:
        naps.append(seconds)
        signal.raise_signal(signal.SIGUSR1)

    monkeypatch.setattr(specs, "sleep", nap)
    before = signal.signal(signal.SIGUSR1, lambda *_: token.cancel())
    try:
        assert token.wait(60)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert len(naps) == 1


def test_install(tmp_path: Path) -> None:
    roots = iter(tmp_path / str(number) for number in range(1000))
    root = next(roots)

    def install(cancel: CancelToken) -> str:
        nonlocal root
        root = next(roots)
        root.mkdir()
        write_control(root)
        return Host(root, game_source="simulator").install_runtime(cancel=cancel)

    looks = []
    for look in cancelled_at_each_look(install):
        looks.append(look)
        assert not installers(root)
        assert not (root / "current").exists()
        host = Host(root, game_source="simulator")
        assert host.install_runtime() == BUILD_ID
        assert_current_is_whole(root)
        assert not (root / "staging").exists()
    assert len(looks) > 3
    assert_current_is_whole(root)
    end_everything(root)


def test_update(host: Host, root: Path, alpha: Path) -> None:
    host.start("alpha")
    status = host.status("alpha")
    build_id = int(BUILD_ID)

    def update(cancel: CancelToken) -> str:
        nonlocal build_id
        build_id += 1
        write_control(root, steamcmd={"build_id": str(build_id)})
        return host.install_runtime(cancel=cancel)

    looks = []
    for look in cancelled_at_each_look(update):
        looks.append(look)
        assert not installers(root)
        assert_current_is_whole(root)
        assert host.facts().build_id == str(build_id - 1)
        assert host.install_runtime() == str(build_id)
        assert host.status("alpha") == status
    assert len(looks) > 4
    assert host.facts().build_id == str(build_id)


def test_rollback(host: Host, root: Path) -> None:
    write_control(root, steamcmd={"build_id": LATER_BUILD_ID})
    host.install_runtime()
    for _ in cancelled_at_each_look(lambda cancel: host.rollback(BUILD_ID, cancel=cancel)):
        assert host.facts().build_id == LATER_BUILD_ID
    assert host.facts().build_id == BUILD_ID


def test_check_update(host: Host, root: Path) -> None:
    looks = []
    for look in cancelled_at_each_look(lambda cancel: host.check_update(cancel=cancel)):
        looks.append(look)
        assert not installers(root)
        assert host.check_update().build_id == BUILD_ID
    assert looks


def test_initialize(host: Host, spec: InstanceSpec) -> None:
    looks = []
    for look in cancelled_at_each_look(lambda cancel: host.initialize(spec, cancel=cancel)):
        looks.append(look)
        assert host.status("alpha").state is InstanceState.ABSENT
        host.initialize(spec)
        host.start("alpha")
        host.delete("alpha")
    assert looks
    assert host.status("alpha").state is InstanceState.STOPPED


@pytest.mark.parametrize(
    ("verb", "before", "after"),
    [
        ("start", InstanceState.STOPPED, InstanceState.RUNNING),
        ("stop", InstanceState.RUNNING, InstanceState.STOPPED),
        ("restart", InstanceState.RUNNING, InstanceState.RUNNING),
        ("reset", InstanceState.STOPPED, InstanceState.STOPPED),
        ("reset", InstanceState.RUNNING, InstanceState.STOPPED),
        ("delete", InstanceState.STOPPED, InstanceState.ABSENT),
        ("delete", InstanceState.RUNNING, InstanceState.ABSENT),
    ],
)
def test_verbs_of_a_server(
    host: Host,
    root: Path,
    spec: InstanceSpec,
    verb: str,
    before: InstanceState,
    after: InstanceState,
) -> None:
    def state() -> InstanceState:
        return host.status("alpha").state

    def act(cancel: CancelToken) -> None:
        host.initialize(spec)
        if before is InstanceState.RUNNING:
            host.start("alpha")
        else:
            host.stop("alpha")
        getattr(host, verb)("alpha", cancel=cancel)

    looks = []
    for look in cancelled_at_each_look(act):
        looks.append(look)
        status = host.status("alpha")
        if status.is_stopping:
            # It was told to quit before the cancel, and does so.
            wait_until(lambda: state() is InstanceState.STOPPED, 10, "it does not quit")
        assert state() in (InstanceState.RUNNING, InstanceState.STOPPED)
        assert len(game_processes(root)) == (state() is InstanceState.RUNNING)
        getattr(host, verb)("alpha")
        assert state() is after
    assert looks
    assert state() is after
    assert len(game_processes(root)) == (after is InstanceState.RUNNING)
