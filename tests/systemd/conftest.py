"""Machines with a real systemd, and the host layer's command line on them."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hostops.specs import InstanceState
from tests.hostops.forked_cli import ForkServer
from tests.hostops.hosts import write_control
from tests.systemd.sandbox import STATE_DIR, UID, Sandbox
from tests.waiting import wait_until

ROOT = STATE_DIR / "host"


def make_state_dir(path: Path) -> Path:
    """Make what a sandbox has below /srv/saferoom: a home folder, and a host without a game."""
    for folder in (path, path / "home", path / "host"):
        folder.mkdir(exist_ok=True, parents=True)
        os.chown(folder, UID, UID)
    write_control(path / "host")
    os.chown(path / "host/simulator.json", UID, UID)
    return path


class Machine:
    """The host layer's command line on a sandbox."""

    def __init__(self, sandbox: Sandbox, state_dir: Path, driver: str = "systemd") -> None:
        self.sandbox = sandbox
        self.root = state_dir / "host"
        self.driver = driver
        self.environment = {
            "HOST_ROOT": str(ROOT),
            "HOST_DRIVER": driver,
            "GAME_SOURCE": "simulator",
        }
        variables = {**self.environment, "PYTHONUNBUFFERED": "1"}
        self._forks = ForkServer(sandbox.command(sys.executable, env=variables), seconds=60)

    def cli(self, *arguments: str) -> str:
        """Run a verb that must succeed and return its output."""
        done = self.try_cli(*arguments)
        assert done.returncode == 0, f"{done}"
        return done.stdout

    def try_cli(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a verb and return how it ended, and its output."""
        return self._forks.run(arguments, self.environment, None)

    def close(self) -> None:
        """End the process that runs the verbs."""
        self._forks.close()

    def status(self, name: str = "alpha") -> dict[str, object]:
        """Return what `status --json` says of one server."""
        document: dict[str, dict[str, object]] = json.loads(self.cli("status", name, "--json"))
        return document[name]

    def wait_for(self, state: InstanceState, name: str = "alpha") -> dict[str, object]:
        """Return a server's status once it is in this state."""
        return wait_until(
            lambda: (now := self.status(name))["state"] == state and now,  # type: ignore[arg-type, return-value]
            30,
            f"{name} is {state}",
        )

    def send(self, command: str, name: str = "alpha") -> None:
        """Type a line into a server's console."""
        self.sandbox.succeed(
            "sh", "-c", 'echo "$1" > "$2"', "sh", command, f"{ROOT}/instances/{name}/console.in"
        )

    def systemctl(self, *arguments: str) -> str:
        """Run systemctl on the servers' manager."""
        is_users = self.driver == "systemd"
        return self.sandbox.succeed(
            "systemctl",
            *(["--user"] if is_users else []),
            *arguments,
            user="saferoom" if is_users else "root",
        )

    def show(self, name: str, prop: str) -> str:
        """Return one property of a server's unit."""
        return self.systemctl("show", "--value", f"--property={prop}", unit_of(name)).strip()

    def in_the_box(self, program: str, name: str = "alpha") -> str:
        """Run a shell program as the game would, in its box, and return its output.

        It replaces the game in a release of its own, so this is for a server that does not run.
        """
        output = self.root / "instances" / name / "upper" / "seen"
        game = next((self.root / "releases").iterdir()) / "srcds_linux"
        before = game.read_text()
        game.write_text(f"#!/bin/sh\n( {program} ) >seen.new 2>&1\nmv seen.new seen\n")
        try:
            done = self.try_cli("start", name)
            assert done.returncode == 1, f"{done}"  # It does not run any more.
            return output.read_text()
        finally:
            game.write_text(before)
            output.unlink(missing_ok=True)

    def clean_up(self) -> None:
        """Remove every server, including those that a test left in disorder."""
        write_control(self.root)
        for folder in sorted((self.root / "instances").glob("[a-z]*")):
            self.cli("delete", folder.name)


def unit_of(name: str) -> str:
    """Return the unit of a server."""
    return f"saferoom-game@{name}.service"


@pytest.fixture(scope="session")
def state_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return what persists of the session's sandbox."""
    return make_state_dir(tmp_path_factory.mktemp("sandbox"))


@pytest.fixture(scope="session")
def sandbox(state_dir: Path) -> Iterator[Sandbox]:
    """Return a booted machine."""
    with Sandbox(state_dir) as sandbox:
        yield sandbox


@pytest.fixture(scope="session")
def installed(sandbox: Sandbox, state_dir: Path) -> Iterator[Machine]:
    """Return the machine with the simulated game installed, whose servers are units of the account."""
    machine = Machine(sandbox, state_dir)
    machine.cli("install")
    yield machine
    machine.close()


@pytest.fixture
def machine(installed: Machine) -> Iterator[Machine]:
    """Return the machine, whose servers are units of the account's own manager. There are none yet."""
    yield installed
    installed.clean_up()


@pytest.fixture
def alpha(machine: Machine) -> Machine:
    """Return the machine with an initialized server called alpha."""
    machine.cli("initialize", "alpha", "--port", "27015")
    return machine
