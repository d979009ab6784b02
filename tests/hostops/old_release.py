"""What the previous release wrote on a host, as it wrote it: 3f864e4, which executed srcds_run."""

import fcntl
import json
import os
import subprocess
import time
from pathlib import Path

from hostops.layout import InstanceLayout
from hostops.linux.proc_stat import read_boot_id
from hostops.linux.process_identity import read_stat
from tests.hostops.hosts import BUILD_ID, instance_of
from tests.waiting import wait_until

ARGUMENTS = ["+map", "c5m2_park versus", "+sv_tags", "two words", "-binary", "/bin/echo"]
"""An owner's; the last two no longer reach the game."""


def write_record(instance: InstanceLayout, port: int) -> None:
    """Write `instance.json`: without an address."""
    instance.record_path.write_text(
        f'{{"name": "{instance.name}", "port": {port}, "overlays": [], '
        f'"arguments": {json.dumps(ARGUMENTS)}, "layer": "{_layer(instance)}", '
        '"limits": {"memory_bytes": null, "tasks": null, "cpu_weight": null}}'
    )


def write_plan(instance: InstanceLayout, port: int, home: Path) -> None:
    """Write `launch.json`: without a version, and for srcds_run."""
    instance.launch_path.write_text(
        f'{{"layering": "overlay", "lower": ["instances/{instance.name}/layers/{_layer(instance)}", '
        f'"releases/{BUILD_ID}"], "release": "{BUILD_ID}", "port": {port}, '
        '"argv": ["./srcds_run", "-game", "left4dead2", "-console", "-norestart", "-strictportbind", "-port", '
        f'"{port}", {json.dumps(ARGUMENTS)[1:-1]}], '
        f'"environment": {{"PATH": "{os.environ["PATH"]}", "HOME": "{home}/home", "LANG": "C.UTF-8", '
        f'"SAFEROOM_SIMULATOR": "{home}/simulator.json"}}}}'
    )


def start(root: Path, port: int) -> subprocess.Popen[bytes]:
    """Run alpha as its launcher did, except for the mount; return the game once it answers."""
    instance = instance_of(root)
    lock = os.open(instance.run_lock_path, os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX)
    os.mkfifo(instance.console_input_path, 0o600)
    fifo = os.open(instance.console_input_path, os.O_RDWR)
    arguments = [argument for argument in ARGUMENTS if argument not in ("-binary", "/bin/echo")]
    with instance.console_log_path(1).open("wb") as log:
        game = subprocess.Popen(
            ["./srcds_run", "-game", "left4dead2", "-norestart", "-port", str(port), *arguments],
            cwd=root / "current",
            env={"PATH": os.environ["PATH"], "SAFEROOM_SIMULATOR": f"{root}/simulator.json"},
            stdin=fifo,
            stdout=log,
            stderr=log,
            pass_fds=(lock,),
            start_new_session=True,
        )
    os.close(fifo)
    os.close(lock)
    process = read_stat(game.pid)
    assert process is not None
    instance.run_path.write_text(
        f'{{"run": 1, "pid": {game.pid}, "start_ticks": {process.start_ticks}, '
        f'"boot_id": "{read_boot_id()}", "started_at": {time.time()}, "release": "{BUILD_ID}", '
        f'"port": {port}, "launch": {instance.launch_path.stat().st_mtime_ns}, "restarted_at": [], '
        '"restarts": 0, "crashed": []}'
    )
    os.link(instance.run_path, instance.console_run_path(1))
    instance.ready_path.write_text(f'{{"run": 1, "at": {time.time()}, "had_crashed": false}}')
    log_path = instance.console_log_path(1)
    wait_until(lambda: "VAC secure mode" in log_path.read_text(), 20, "it does not answer")
    return game


def _layer(instance: InstanceLayout) -> str:
    (layer,) = instance.layers_dir.iterdir()
    return layer.name
