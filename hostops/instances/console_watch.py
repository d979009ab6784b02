"""Which of many consoles have been written, without looking at each."""

import contextlib
from collections.abc import Collection

from hostops.layout import HostLayout
from hostops.linux import inotify

_MASK = (
    inotify.IN_MODIFY
    | inotify.IN_CREATE
    | inotify.IN_MOVE_SELF
    | inotify.IN_ONLYDIR
    | inotify.IN_DONT_FOLLOW
)
_FOLDER_IS_GONE = inotify.IN_IGNORED | inotify.IN_MOVE_SELF
_MOST_READS = 4
"""Of 64 KiB each. After that many events, looking at each console is cheaper than reading on."""


class ConsoleWatch:
    """Reports written consoles of one host. For use by one thread.

    A console that cannot be watched counts as written each time. Nothing is promised about writes that the
    kernel does not report, such as those of another machine to a network file system: look at every console
    from time to time all the same.
    """

    def __init__(self, layout: HostLayout) -> None:
        self._layout = layout
        self._watches: dict[str, int] = {}
        self._names: dict[int, str] = {}
        self._inotify: inotify.Inotify | None = None
        self._start_over()

    def find_written(self, names: Collection[str]) -> set[str]:
        """Return those of `names` that may have been written since the last call with them."""
        written = self._read_events()
        for name in self._watches.keys() - set(names):
            self._forget(name)
        for name in names:
            if name not in self._watches:
                # What was written before counts too.
                written.add(name)
                self._watch(name)
        return written.intersection(names)

    def _read_events(self) -> set[str]:
        written: set[str] = set()
        for _ in range(_MOST_READS):
            events = self._inotify.read() if self._inotify else b""
            if not events:
                return written
            for watch, mask in set(inotify.parse(events)):
                if mask & inotify.IN_Q_OVERFLOW:
                    self._start_over()
                    return set()
                name = self._names.get(watch)
                if name is None:
                    continue  # a watch that has ended
                written.add(name)
                if mask & _FOLDER_IS_GONE:
                    self._forget(name)
        self._start_over()
        return set()

    def _start_over(self) -> None:
        """Drop the queue with what is left in it, and all watches."""
        self.close()
        self._watches.clear()
        self._names.clear()
        # The account may have no more queues.
        with contextlib.suppress(OSError):
            self._inotify = inotify.Inotify()

    def _watch(self, name: str) -> None:
        if self._inotify is None:
            return
        try:
            watch = self._inotify.add(self._layout.instance(name).console_dir, _MASK)
        except OSError:  # It does not exist yet, or the account has too many watches.
            return
        self._watches[name] = watch
        self._names[watch] = name

    def _forget(self, name: str) -> None:
        watch = self._watches.pop(name)
        del self._names[watch]
        if self._inotify is not None:
            self._inotify.remove(watch)

    def close(self) -> None:
        """End the watching."""
        if self._inotify is not None:
            self._inotify.close()
            self._inotify = None

    def __del__(self) -> None:
        self.close()
