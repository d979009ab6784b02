"""`script/bench units`: what a worker costs that watches many servers run as systemd units.

It needs what the floor `systemd` needs, and boots a machine of its own (tests/systemd/sandbox.py). A worker
is counted with the commands that it runs, and separately the account's manager, which answers them.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.systemd.deployment import WORKER, make_deployed_state_dir, run_with_settings, set_up
from tests.systemd.sandbox import STATE_DIR, Sandbox

TICKS = os.sysconf("SC_CLK_TCK")


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(prog="script/bench units", description=__doc__)
    parser.add_argument("--servers", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=20.0, help="how long to watch the worker")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.inside:
        measure(options.servers, options.seconds)
        return
    with tempfile.TemporaryDirectory() as folder:
        state_dir = make_deployed_state_dir(Path(folder, "state"))
        with Sandbox(state_dir) as sandbox:
            machine = set_up(sandbox, state_dir)
            machine.cli("install")
            arguments = (f"--servers={options.servers}", f"--seconds={options.seconds}")
            program = ("-m", "tests.benchmarks.units", "--inside", *arguments)
            sys.stdout.write(run_with_settings(machine, *program, timeout=600))


def measure(count: int, watched_seconds: float) -> None:
    """Inside the machine: watch an idle worker, without servers and with all of them running."""
    import django

    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "l4d2site.settings")
    django.setup()
    from hostops.host import Host
    from tests.benchmarks.host import add_rows, measure_calls, print_table, start

    manager = find_manager()
    rows = [watch("with no server", manager, watched_seconds)]
    names = [f"server-{number:02}" for number in range(count)]
    add_rows(names)
    host = Host(STATE_DIR / "host", driver="systemd", game_source="simulator")
    with ThreadPoolExecutor(4) as executor:
        list(executor.map(lambda name: start(host, name), names))
    rows.append(watch(f"with {count} running servers", manager, watched_seconds))
    print_table(f"CPU as a share of one core over {watched_seconds:g} s", rows)
    print_table(f"One round of the watch over {count} servers, CPU time", [measure_calls(host)])


def watch(what: str, manager: int, watched_seconds: float) -> dict[str, str]:
    """Return the share of a core that an idle worker and the manager take."""
    run_systemctl("start", WORKER)
    worker = int(run_systemctl("show", "--value", "--property=MainPID", WORKER))
    time.sleep(5)  # Its first look at everything says nothing about the cost of the following ones.
    before, began_at = [cpu_seconds(pid) for pid in (worker, manager)], time.monotonic()
    time.sleep(watched_seconds)
    after, took = [cpu_seconds(pid) for pid in (worker, manager)], time.monotonic() - began_at
    run_systemctl("stop", WORKER)
    shares = [(now - then) / took for then, now in zip(before, after, strict=True)]
    return {
        "an idle worker": what,
        "worker and its commands": f"{shares[0]:.2%}",
        "the account's manager": f"{shares[1]:.2%}",
    }


def run_systemctl(*arguments: str) -> str:
    """Run systemctl on the account's manager and return its output."""
    argv = ["systemctl", "--user", *arguments]
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout.strip()


def find_manager() -> int:
    """Return the process of the account's manager: the one of ours called systemd."""
    for folder in Path("/proc").glob("[0-9]*"):
        is_mine = folder.stat().st_uid == os.getuid()
        if is_mine and (folder / "comm").read_text().strip() == "systemd":
            return int(folder.name)
    raise RuntimeError("There is no manager of this account.")


def cpu_seconds(pid: int) -> float:
    """Return the CPU time of a process, including kernel time and the children that it has waited for."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / TICKS


if __name__ == "__main__":
    main()
