"""`script/bench start`: how long a start and a stop of a simulated game take, also against another checkout.

    script/bench start --against ../an-older-checkout

alternates between the two, so that other load on the machine affects both. It measures the host layer alone,
under the process driver: from the call of the verb until it returns.
"""

import argparse
import compileall
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PROJECT_DIR = Path(__file__).resolve().parent.parent.parent
VERBS = ("start", "stop")

Times = dict[str, list[float]]


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(prog="script/bench start", description=__doc__)
    parser.add_argument("--against", type=Path, help="another checkout of this project")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--starts", type=int, default=10, help="in each round")
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(options.starts)))
        return
    trees = [PROJECT_DIR, *([options.against.resolve()] if options.against else [])]
    times: dict[Path, Times] = {tree: {verb: [] for verb in VERBS} for tree in trees}
    for _ in range(options.rounds):
        for tree in trees:
            for verb, found in measure_in(tree, options.starts).items():
                times[tree][verb] += found
    print(f"{time.strftime('%Y-%m-%d')}, Linux {platform.release()}, {os.cpu_count()} cores")
    print(f"\n| | {' | '.join(tree.name for tree in trees)} |\n|{' --- |' * (len(trees) + 1)}")
    for verb in VERBS:
        medians = [statistics.median(times[tree][verb]) * 1000 for tree in trees]
        print(f"| {verb} | {' | '.join(f'{one:,.0f} ms' for one in medians)} |")


def measure_in(tree: Path, starts: int) -> Times:
    """Measure in a separate process, which imports the code of the checkout `tree`."""
    # As an installation does: in its box, a simulated game could not store its compiled modules.
    compileall.compile_dir(tree / "hostops", quiet=1)
    done = subprocess.run(
        [sys.executable, __file__, "--measure", "--starts", str(starts)],
        cwd=tree,
        env={**os.environ, "PYTHONPATH": str(tree)},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    times: Times = json.loads(done.stdout.splitlines()[-1])
    return times


def measure(starts: int) -> Times:
    """Start and stop one server again and again; return the seconds that each verb took."""
    from hostops.host import Host
    from hostops.specs import InstanceSpec
    from tests.hostops.hosts import end_everything, write_control
    from tests.ports import find_free_port

    times: Times = {verb: [] for verb in VERBS}
    with tempfile.TemporaryDirectory(prefix="saferoom-bench-") as folder:
        root = Path(folder)
        write_control(root)
        host = Host(root, game_source="simulator")
        host.install_runtime()
        host.initialize(InstanceSpec("alpha", find_free_port(), config='hostname "Alpha"\n'))
        try:
            for _ in range(starts + 1):
                for verb in VERBS:
                    began_at = time.perf_counter()
                    getattr(host, verb)("alpha")
                    times[verb].append(time.perf_counter() - began_at)
        finally:
            end_everything(root)
    # The first one finds the caches empty.
    return {verb: found[1:] for verb, found in times.items()}


if __name__ == "__main__":
    main()
