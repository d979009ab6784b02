"""A silence is reported with its start, and finally given up on, by a clock that nobody sets."""

import pytest

from hostops.callbacks import Callbacks
from hostops.steam.silence import PATIENCE, Silence, SilentError
from tests.clocks import Clock
from tests.hostops.hosts import Output


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("hostops.steam.silence.monotonic", clock)
    return clock


@pytest.fixture
def output() -> Output:
    return Output()


@pytest.fixture
def silence(clock: Clock, output: Output) -> Silence:
    """Return the silence of a run that begins now, with the patience of production."""
    return Silence(PATIENCE, Callbacks(output.on_line))


def test_nothing_is_said_before_two_minutes(silence: Silence, clock: Clock, output: Output) -> None:
    clock.seconds += 119
    silence.look()
    assert output.lines == []


def test_it_is_said_when_it_becomes_twice_as_long(
    silence: Silence, clock: Clock, output: Output
) -> None:
    silence.hear("[----] Verifying installation...")
    for _ in range(899):
        clock.seconds += 1
        silence.look()
    said = [line.split(", since")[0] for line in output.errors().splitlines()]
    assert said == [f"SteamCMD has printed nothing for {n} minutes" for n in (2, 4, 8)]
    assert "UTC. Its last line was “[----] Verifying installation...”." in output.errors()
    assert "After 15 minutes it is ended and run again; to end it now, cancel" in output.errors()


def test_it_is_given_up_after_fifteen_minutes(silence: Silence, clock: Clock) -> None:
    clock.seconds += 900
    with pytest.raises(SilentError, match=r"printed nothing for 15 minutes, since .* UTC"):
        silence.look()


def test_a_line_ends_it(silence: Silence, clock: Clock, output: Output) -> None:
    clock.seconds += 130
    silence.look()
    clock.seconds += 780
    silence.hear("Waiting for user info...OK")
    clock.seconds += 119
    silence.look()
    assert output.lines[-1] == ("stdout", "SteamCMD prints again.")
    clock.seconds += 1
    silence.look()
    assert "nothing for 2 minutes" in output.lines[-1][1]
    assert "“Waiting for user info...OK”" in output.lines[-1][1]


def test_without_any_line_that_is_what_it_says(
    silence: Silence, clock: Clock, output: Output
) -> None:
    clock.seconds += 120
    silence.look()
    assert "It has not printed anything yet." in output.errors()
