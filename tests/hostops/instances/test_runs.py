"""Which processes belong to a run, and how it ended according to systemd."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from hostops.host import Host
from hostops.instances import runs
from hostops.instances.runs import parse_end
from hostops.linux.process_identity import read_mount_namespace
from hostops.specs import CrashedRun, InstanceSpec
from tests.hostops.hosts import end_everything, game_pid, instance_of, latest_run
from tests.ports import find_free_port


@pytest.mark.parametrize(
    ("text", "crash", "how"),
    [
        ("signal killed SEGV\n", CrashedRun(3, exit_signal="SIGSEGV"), "SIGSEGV"),
        ("core-dump dumped ABRT\n", CrashedRun(3, exit_signal="SIGABRT"), "SIGABRT"),
        ("exit-code exited 7\n", CrashedRun(3, exit_code=7), "exit code 7"),
        (
            "oom-kill killed KILL\n",
            CrashedRun(3, exit_signal="SIGKILL", is_out_of_memory=True),
            "out of memory",
        ),
        # The launcher ended, not the game, so this says nothing about the previous run.
        ("exit-code exited 75\n", CrashedRun(3), ""),
        ("", CrashedRun(3), ""),
        ("signal killed\n", CrashedRun(3), ""),
        ("nonsense", CrashedRun(3), ""),
        ("a b c d e", CrashedRun(3), ""),
        ("signal killed RTMIN+3", CrashedRun(3, exit_signal="SIGRTMIN+3"), "SIGRTMIN+3"),
        # A game without a box can have written it; the database takes 16 characters.
        ("signal killed " + "A" * 60, CrashedRun(3), ""),
        ("exit-code exited " + "9" * 60, CrashedRun(3), ""),
    ],
)
def test_the_end_of_a_run_is_read(text: str, crash: CrashedRun, how: str) -> None:
    assert parse_end(3, text) == crash
    assert crash.how == how


def test_a_server_of_another_host_that_is_called_the_same_is_not_taken_for_its_own(
    installed_root: Path, tmp_path: Path
) -> None:
    """Once a mount namespace is gone, the kernel gives its number to another one."""
    here, there = tmp_path / "here", tmp_path / "there"
    for root in (here, there):
        shutil.copytree(installed_root, root, symlinks=True)
        host = Host(root, game_source="simulator", start_timeout_seconds=20)
        host.initialize(InstanceSpec("alpha", find_free_port()))
    try:
        host.start("alpha")
        run, pid = latest_run(there), game_pid(there)
        assert read_mount_namespace(pid) == run.mount_namespace
        assert pid in {one.pid for one in runs.find_processes(instance_of(there), run)}
        earlier = replace(run, nonce="0" * 32, pid=1, start_ticks=run.start_ticks - 100)
        assert runs.find_processes(instance_of(here), earlier) == []
    finally:
        end_everything(there)
