"""Changes that break the code, each with the test that has to fail for it: `script/mutate [WORD...]`.

They are in the claim, the fence, the masks, the locks and the launcher. Each either passed all tests once or
is an easy mistake. Words select those whose purpose or file contains one of them. Tests run in a copy of the
project.
"""

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

PROJECT_DIR = Path(__file__).resolve().parent.parent


class Mutation(NamedTuple):
    """A text that occurs once in a file, and what replaces it to break the code."""

    what: str
    path: str
    text: str
    instead: str
    test: str


MUTATIONS = (
    Mutation(
        "claim: an exclusive job waits for what runs",
        "jobs/queue/rules.py",
        "self._here[0] if self._here else self._oldest_waiting",
        "self._oldest_waiting",
        "tests/jobs/queue/test_rules.py",
    ),
    Mutation(
        "claim: what is picked counts as running",
        "jobs/queue/rules.py",
        "        self._here.append(job)\n",
        "",
        "tests/jobs/queue/test_rules.py",
    ),
    Mutation(
        "claim: there are more pages than one",
        "jobs/queue/scheduler.py",
        "may_have_more = len(page) == PAGE and len(picked) < limit",
        "may_have_more = False",
        "tests/jobs/queue/test_transitions.py",
    ),
    Mutation(
        "claim: a cancelled job is not set to running",
        "jobs/queue/claim_statements.py",
        "WHERE id = ANY(%s) AND state = 'queued' RETURNING",
        "WHERE id = ANY(%s) RETURNING",
        "tests/jobs/queue/test_transitions.py",
    ),
    Mutation(
        "claim: what is wanted of a server is stored",
        "jobs/queue/transitions.py",
        "            store_desired_states(jobs, now)\n",
        "",
        "tests/jobs/queue/test_transitions.py",
    ),
    Mutation(
        "claim: a cancel is announced",
        "jobs/queue/transitions.py",
        "            running.update(cancel_requested_at=now, updated_at=now)\n"
        "        announce(Channel.QUEUE, Channel.PAGES)\n",
        "            running.update(cancel_requested_at=now, updated_at=now)\n",
        "tests/jobs/queue/test_transitions.py",
    ),
    Mutation(
        "fence: a worker that comes back just then is judged again",
        "jobs/queue/transitions.py",
        "any(is_gone(one.worker, has_lapsed) for one in this)",
        "bool(this)",
        "tests/jobs/queue/test_transitions.py",
    ),
    Mutation(
        "fence: a worker that is late itself judges nobody",
        "jobs/worker/chores.py",
        "self._leases.has_lapsed(worker) and self._heartbeat.is_steady",
        "self._leases.has_lapsed(worker)",
        "tests/jobs/worker/test_worker_process.py",
    ),
    Mutation(
        "threads: one that falls idle looks once more",
        "jobs/worker/job_threads.py",
        "while not self._waiting and has_more:",
        "while has_more:",
        "tests/jobs/worker/test_job_threads.py",
    ),
    Mutation(
        "threads: a job behind a long one gets another thread",
        "jobs/worker/job_threads.py",
        "sum(now - began_at < AHEAD_SECONDS for began_at in self._began_at)",
        "self._count - self._began_at.count(IDLE)",
        "tests/jobs/worker/test_job_threads.py",
    ),
    Mutation(
        "fence: the watch leaves a server to its running job",
        "jobs/watch/host_watch.py",
        "            Q(actual_state_at=None) | Q(actual_state_at__in=told_at),\n"
        "            ~Exists(running_jobs()),\n",
        "            Q(actual_state_at=None) | Q(actual_state_at__in=told_at),\n",
        "tests/jobs/watch/test_host_watch.py",
    ),
    Mutation(
        "masks: the longest secret first",
        "jobs/logs/safe_lines.py",
        "sorted(secrets, key=len, reverse=True)",
        "sorted(secrets, key=len)",
        "tests/jobs/logs/test_secret_masks.py",
    ),
    Mutation(
        "masks: a stage has no password",
        "jobs/worker/execution.py",
        "writer.stage(job, mask_known(name, secrets), progress)",
        "writer.stage(job, name, progress)",
        "tests/jobs/logs/test_secret_masks.py",
    ),
    Mutation(
        "masks: an error has no password",
        "jobs/worker/execution.py",
        "make_line_safe(mask_known(str(error) or type(error).__name__, secrets))",
        "make_line_safe(str(error) or type(error).__name__)",
        "tests/jobs/logs/test_secret_masks.py",
    ),
    Mutation(
        "locks: an orphan is looked at once more before it is ended",
        "hostops/linux/locks.py",
        "(now := process_identity.read_stat(heir.pid)) and now == heir",
        "process_identity.read_stat(heir.pid)",
        "tests/hostops/linux/test_locks.py",
    ),
    Mutation(
        "launcher: an instance that was made again is another one",
        "hostops/launching.py",
        "    if (mine.st_dev, mine.st_ino) != (there.st_dev, there.st_ino):\n",
        "    if False:\n",
        "tests/hostops/test_launcher.py",
    ),
)


def main() -> int:
    """Try all mutations, or the named ones; return how many no test noticed."""
    words = [word.lower() for word in sys.argv[1:]]
    chosen = [
        one
        for one in MUTATIONS
        if not words or any(word in f"{one.what} {one.path}".lower() for word in words)
    ]
    if not chosen:
        print(f"No mutation has any of these words: {' '.join(words)}.", file=sys.stderr)
        return 2
    unnoticed = 0
    with tempfile.TemporaryDirectory(prefix="saferoom-mutations-") as folder:
        copy = Path(folder) / "saferoom"
        copy_project(copy)
        for mutation in chosen:
            is_noticed = try_mutation(copy, mutation)
            unnoticed += not is_noticed
            print(f"{'noticed    ' if is_noticed else 'NOT NOTICED'} {mutation.what}", flush=True)
    print(f"{len(chosen) - unnoticed} of {len(chosen)} were noticed.")
    return min(unnoticed, 100)


def copy_project(copy: Path) -> None:
    """Copy everything that git tracks or would add, with this environment."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=PROJECT_DIR,
        check=True,
        capture_output=True,
        text=True,
    )
    for name in filter(None, listed.stdout.split("\0")):
        if (PROJECT_DIR / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(PROJECT_DIR / name, copy / name)
    (copy / ".venv").symlink_to(Path(sys.prefix))


def try_mutation(copy: Path, mutation: Mutation) -> bool:
    """Return whether a test fails for it. Raises SystemExit if it cannot be made, or the tests cannot run."""
    with mutated(copy / mutation.path, mutation):
        command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider"]
        done = subprocess.run(
            [*command, mutation.test], cwd=copy, check=False, capture_output=True, text=True
        )
    if done.returncode not in (0, 1):  # pytest's own: 0 all passed, 1 some failed
        sys.exit(f"{mutation.what}: the tests did not run.\n{done.stdout}{done.stderr}")
    return done.returncode == 1


@contextmanager
def mutated(path: Path, mutation: Mutation) -> Iterator[None]:
    """Keep a file mutated for the block."""
    before = path.read_text()
    if before.count(mutation.text) != 1:
        sys.exit(
            f"{mutation.what}: {mutation.path} has its text {before.count(mutation.text)} times."
        )
    path.write_text(before.replace(mutation.text, mutation.instead))
    try:
        yield
    finally:
        path.write_text(before)


if __name__ == "__main__":
    sys.exit(main())
