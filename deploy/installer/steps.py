"""Named steps, carried out one after the other. If one fails: which, why, and what to do."""

import signal
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

from deploy.installer.errors import InstallError


@dataclass(frozen=True)
class Step:
    """One part of an installation. Each step finds out for itself what is already done.

    `advise` returns what to do if it failed, unless that is to give the same command again.
    """

    name: str
    carry_out: Callable[[], None]
    advise: Callable[[], str] = lambda: ""


def carry_out(steps: Iterable[Step], say: Callable[[str], None], command: str) -> bool:
    """Carry out the steps; return whether all succeeded. `command` continues after a failure.

    A step that is interrupted, by Ctrl-C or because the connection breaks off, still does what has to be done
    whatever fails.
    """
    with signals_interrupt():
        return _carry_out(steps, say, command)


def _carry_out(steps: Iterable[Step], say: Callable[[str], None], command: str) -> bool:
    for step in steps:
        say(f"== {step.name}")
        began_at = time.monotonic()
        try:
            step.carry_out()
        except InstallError as error:
            cure = error.cure
            text = str(error)
            if isinstance(error.__context__, InstallError) and not error.__suppress_context__:
                # The attempt to repair it failed too.
                text = f"{error.__context__}\nAnd after that: {text}"
        except KeyboardInterrupt:
            cure = ""
            text = "It was interrupted."
        except OSError as error:
            cure = ""
            text = f"{error.strerror}: {error.filename}" if error.filename else str(error)
        else:
            seconds = time.monotonic() - began_at
            if seconds >= 1:
                say(f"   {seconds:.0f} s")
            continue
        say(f"\nThe step “{step.name}” failed.\n{text}")
        if cure:
            say(f"→ {cure}")
        advice = step.advise() or f"Then go on with: {command}"
        say(f"What was done before it stays. {advice}")
        return False
    return True


@contextmanager
def signals_interrupt() -> Iterator[None]:
    """Make SIGHUP and SIGTERM raise KeyboardInterrupt, as SIGINT does; unless they are ignored, as by nohup."""

    def interrupt(number: int, _frame: FrameType | None) -> None:
        # A terminal that goes away may send more than one, which would end what the first one began.
        signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt

    numbers = (signal.SIGHUP, signal.SIGTERM)
    previous = {number: signal.getsignal(number) for number in numbers}
    try:
        for number, handler in previous.items():
            if handler is not signal.SIG_IGN:
                signal.signal(number, interrupt)
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
