"""How a run ended, as systemd tells it."""

import pytest

from hostops.instances.runs import parse_end
from hostops.specs import CrashedRun


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
        # The launcher ended, and not the game, so this says nothing of the run before.
        ("exit-code exited 75\n", CrashedRun(3), ""),
        ("", CrashedRun(3), ""),
        ("signal killed\n", CrashedRun(3), ""),
        ("nonsense", CrashedRun(3), ""),
        ("a b c d e", CrashedRun(3), ""),
    ],
)
def test_the_end_of_a_run_is_read(text: str, crash: CrashedRun, how: str) -> None:
    assert parse_end(3, text) == crash
    assert crash.how == how
