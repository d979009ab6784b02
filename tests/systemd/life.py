"""The life of two servers under the deployed worker, inside of the machine: `-m tests.systemd.life PHASE`.

It requests everything as the panel does, through jobs, and kills the worker in the middle of each.
`test_life.py` boots the machine, runs a phase for each boot, and checks from outside. Anything that is not as
it should be raises an error.
"""

import os
import signal
import subprocess
import sys
from pathlib import Path

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "l4d2site.settings")
django.setup()

from django.contrib.auth.models import User  # noqa: E402
from django.db.models import Max  # noqa: E402

from hostops.specs import InstanceStatus  # noqa: E402
from jobs import operations  # noqa: E402
from jobs.models import Job, JobState  # noqa: E402
from jobs.queue import requests, transitions  # noqa: E402
from servers.models import Blueprint, Crash, DesiredState, Host, Server  # noqa: E402
from tests.hostops.hosts import BUILD_ID, LATER_BUILD_ID, write_control  # noqa: E402
from tests.waiting import wait_until  # noqa: E402

ROOT = Path("/srv/saferoom/host")
WORKER = "saferoom-worker.service"
SECONDS = 40.0

interrupted: list[str] = []


def systemctl(*arguments: str) -> str:
    done = subprocess.run(
        ["systemctl", "--user", *arguments], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def worker_pid() -> int:
    return int(systemctl("show", "--value", "--property=MainPID", WORKER))


def row(name: str) -> Server:
    return Server.objects.select_related("host").get(name=name)


def told(name: str) -> InstanceStatus:
    return operations.get_host("local").status(name)


def ask_for(operation: str, name: str | None = None, build_id: str = "") -> Job:
    server = row(name) if name else None
    owner = User.objects.get()
    return requests.enqueue(operation, server=server, requested_by=owner, build_id=build_id)


def reread(job: Job) -> Job:
    job.refresh_from_db()
    return job


def wait_for_end(job: Job) -> Job:
    wait_until(lambda: reread(job).is_final, SECONDS, f"{job} does not end")
    return job


def do(operation: str, name: str | None = None) -> None:
    """Have an operation carried out."""
    job = wait_for_end(ask_for(operation, name))
    assert job.state == JobState.SUCCEEDED, (operation, name, job.error)


def do_in_spite_of_a_kill(operation: str, name: str | None = None, build_id: str = "") -> None:
    """Kill the worker in the middle of an operation: what is reported is true, and a retry completes it."""
    job = ask_for(operation, name, build_id)
    wait_until(lambda: reread(job).state != JobState.QUEUED, SECONDS, f"{job} waits")
    before = worker_pid()
    os.kill(before, signal.SIGKILL)
    wait_until(lambda: worker_pid() not in (0, before), SECONDS, "no worker comes back")
    wait_for_end(job)
    if job.state == JobState.SUCCEEDED:  # It was faster.
        return
    assert (job.state, job.error) == (JobState.FAILED, transitions.WORKER_STOPPED), (
        job.state,
        job.error,
    )
    interrupted.append(operation)
    if name:
        wait_until(
            lambda: row(name).actual_state == told(name).state, 10, f"{name}: its row is not true"
        )
    again = wait_for_end(requests.retry(job, requested_by=User.objects.get()).job)
    assert again.state == JobState.SUCCEEDED, (operation, name, again.error)


def wait_for_build(name: str, build_id: str) -> None:
    wait_until(lambda: row(name).running_build_id == build_id, 10, f"{name} runs another build")


def live() -> None:
    """Everything up to a reboot."""
    host = Host.local()
    owner = User.objects.create_user("kim")
    blueprint = Blueprint.objects.create(name="plain", owner=owner, memory_limit_mib=1024)
    for port, name in enumerate(("alpha", "bravo"), start=27015):
        Server.objects.create(name=name, owner=owner, host=host, blueprint=blueprint, port=port)

    write_control(ROOT, steamcmd={"seconds": 1}, srcds={"start_seconds": 1})
    do_in_spite_of_a_kill("install")
    do_in_spite_of_a_kill("start", "alpha")
    write_control(ROOT)
    do("start", "bravo")
    do("stop", "bravo")
    pid = told("alpha").pid
    unit = "saferoom-game@alpha.service"
    assert systemctl("show", "--value", "--property=MemoryMax", unit) == str(1024**3)

    write_control(ROOT, steamcmd={"build_id": LATER_BUILD_ID, "seconds": 1})
    do_in_spite_of_a_kill("install")
    host.refresh_from_db()
    assert host.build_id == LATER_BUILD_ID
    assert told("alpha").pid == pid
    wait_for_build("alpha", BUILD_ID)
    assert row("alpha").runs_other_build

    write_control(ROOT, srcds={"start_seconds": 1})
    do_in_spite_of_a_kill("restart", "alpha")
    wait_for_build("alpha", LATER_BUILD_ID)
    pid = told("alpha").pid

    do_in_spite_of_a_kill("rollback", build_id=BUILD_ID)
    host.refresh_from_db()
    assert host.build_id == BUILD_ID
    assert told("alpha").pid == pid
    wait_for_build("alpha", LATER_BUILD_ID)

    drain()
    wait_for_build("alpha", BUILD_ID)
    assert not row("alpha").runs_other_build
    assert {"install", "start", "restart"} <= set(interrupted), interrupted
    crash()


def drain() -> None:
    """Stop the worker in the middle of a job, which it lets finish first."""
    job = ask_for("restart", "alpha")
    wait_until(lambda: reread(job).state == JobState.RUNNING, SECONDS, f"{job} waits")
    systemctl("stop", WORKER)
    assert systemctl("show", "--value", "--property=Result", WORKER) == "success"
    job.refresh_from_db()
    assert job.state == JobState.SUCCEEDED
    systemctl("start", WORKER)


def crash() -> None:
    """Crash once, which systemd repairs; and then at every start, until it gives up."""
    write_control(ROOT)
    pid = told("alpha").pid
    send("sim_crash")
    wait_until(lambda: told("alpha").pid not in (pid, None), 10, "it is not restarted")
    wait_until(Crash.objects.exists, 10, "the crash is not recorded")
    # It was restarted at once, so nobody saw it down: what is known comes from what systemd left behind.
    assert Crash.objects.get().exit_signal == "SIGSEGV"
    wait_until(lambda: row("alpha").restarts == 1, 10, "the restart is not counted")

    write_control(ROOT, srcds={"fail": "crash-at-start"})
    send("sim_crash")
    wait_until(lambda: row("alpha").state_label == "crashed, gave up", 20, "it does not give up")
    assert "gave up after 5 restarts within 10 minutes" in row("alpha").state_remark
    assert list(Crash.objects.values_list("exit_signal", flat=True)) == ["SIGSEGV"] * 6
    write_control(ROOT)
    do("start", "alpha")
    assert row("alpha").state_label == "running"


def send(command: str) -> None:
    operations.get_host("local").send_command("alpha", command)


def come_back() -> None:
    """After a boot: the worker's watcher starts what should run, and nothing else."""
    assert row("alpha").desired_state == DesiredState.RUNNING
    last_before = Job.objects.aggregate(last=Max("pk"))["last"]
    systemctl("start", WORKER)
    since = Job.objects.filter(pk__gt=last_before)
    wait_until(since.all, SECONDS, "nobody starts alpha")
    job = wait_for_end(since.get())
    assert (job.operation, job.server_name, job.requested_by) == ("start", "alpha", None)
    assert job.state == JobState.SUCCEEDED, job.error
    assert row("alpha").state_label == "running"
    assert told("alpha").state == "running"
    assert told("bravo").state == "stopped"
    assert not since.exclude(pk=job.pk).exists()


def end() -> None:
    """After another boot: come back, and be removed for good."""
    come_back()
    do_in_spite_of_a_kill("stop", "alpha")
    do("start", "alpha")
    do_in_spite_of_a_kill("delete", "alpha")
    do("delete", "bravo")
    assert operations.get_host("local").statuses() == {}
    wait_until(lambda: row("alpha").actual_state == "absent", 10, "its row is not true")
    systemctl("stop", WORKER)


if __name__ == "__main__":
    {"live": live, "come-back": come_back, "end": end}[sys.argv[1]]()
    print("interrupted:", *interrupted)
