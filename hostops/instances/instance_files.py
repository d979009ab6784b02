"""Makes, prepares and removes the files of an instance. The caller holds the instance's lock."""

import contextlib
import fcntl
import json
import os
import shlex
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

from hostops.callbacks import Callbacks
from hostops.errors import HostError
from hostops.instances import console_files, full_copies, layers, releases, runs
from hostops.launcher import LOCK_SECONDS
from hostops.layout import HostLayout, InstanceLayout
from hostops.linux.files import make_dir, remove_leftovers, remove_tree, sync_dir, write_atomically
from hostops.specs import InstanceSpec, Limits, parse_arguments, require_config

SERVER_CONFIG_PATH = "left4dead2/cfg/server.cfg"
"""The one config that Left 4 Dead 2 reads by itself: it does not know `+servercfgfile`."""

_DEFAULT_MAP = "c1m1_hotel"


@dataclass(frozen=True)
class InstanceRecord:
    """What `instance.json` says: what the next start of the instance is made of."""

    name: str
    port: int
    overlays: tuple[str, ...]
    arguments: tuple[str, ...]
    layer: str
    limits: Limits = field(default_factory=Limits)


def initialize(layout: HostLayout, spec: InstanceSpec, callbacks: Callbacks) -> None:
    """Write the files that make the instance what `spec` says, from its next start on."""
    parse_arguments(shlex.join(spec.arguments))
    require_config(spec.config)
    release = releases.require_current(layout)
    for overlay in spec.overlays:
        layers.require_overlay(layout, overlay, spec.name)
    instance = layout.instance(spec.name)
    for folder in (
        instance.upper_dir,
        instance.work_dir,
        instance.merged_dir,
        instance.layers_dir,
        instance.console_dir,
    ):
        make_dir(folder)
    layer = layers.generate_layer(instance.layers_dir, _generate_files(spec))
    record = InstanceRecord(spec.name, spec.port, spec.overlays, spec.arguments, layer, spec.limits)
    write_atomically(instance.record_path, json.dumps(asdict(record)))
    overlays = f" with {', '.join(spec.overlays)} over it" if spec.overlays else ""
    callbacks.say(f"{spec.name} is made of build {release}{overlays}, on port {spec.port}.")
    if runs.is_alive(instance):
        callbacks.say(f"{spec.name} is running: this applies at its next start.")
    else:
        layers.prune_layers(instance.layers_dir, layer)


def read_record(instance: InstanceLayout) -> InstanceRecord:
    """Return what the instance is made of; HostError if it has not been initialized."""
    try:
        document = json.loads(instance.record_path.read_text())
    except FileNotFoundError:
        raise HostError(
            f"{instance.name} has no files on this host: initialize it first."
        ) from None
    return InstanceRecord(
        name=document["name"],
        port=document["port"],
        overlays=tuple(document["overlays"]),
        arguments=tuple(document["arguments"]),
        layer=document["layer"],
        limits=Limits(**document.get("limits", {})),  # an earlier version wrote none
    )


def read_settings(instance: InstanceLayout) -> tuple[str, ...]:
    """Return the arguments and configs that the instance has, and those that it runs with, as texts."""
    texts = []
    for path in (instance.record_path, instance.launch_path):
        with contextlib.suppress(FileNotFoundError, NotADirectoryError, ValueError):
            document = json.loads(path.read_text())
            texts.append(" ".join(document.get("arguments") or document.get("argv") or ()))
    # The layer of a running server stays beside the one of its next start.
    for path in instance.layers_dir.glob(f"*/{SERVER_CONFIG_PATH}"):
        with contextlib.suppress(FileNotFoundError):
            texts.append(path.read_text(errors="replace"))
    return tuple(texts)


def prepare(
    layout: HostLayout,
    instance: InstanceLayout,
    layering: layers.Layering,
    environment: dict[str, str],
    callbacks: Callbacks,
) -> None:
    """Make everything ready for a launch, and write `launch.json`. Raises HostError if the instance runs."""
    record = read_record(instance)
    make_dir(instance.upper_dir)  # A reset that was killed may have left none.
    release = releases.require_current(layout)
    stack = layers.lower_layers(layout, instance, record.layer, record.overlays, release)
    configured = layers.list_generated(stack[0])
    with claim(instance):
        remove_leftovers(instance.dir)
        console_files.prune_runs(instance)
        layers.prune_layers(instance.layers_dir, record.layer)
        if layering.is_overlay:
            full_copies.fold_tree(instance, callbacks)
            layers.uncover(instance.upper_dir, configured, callbacks)
        else:
            callbacks.warn(
                f"This host cannot mount overlays, so {instance.name} gets a full copy of the game. "
                f"{layering.detail} {layering.cure}"
            )
            full_copies.refresh_tree(instance, stack, configured, callbacks)
        plan = {
            "layering": layering.kind,
            # Relative: short, and free of what the root's path may contain.
            "lower": [str(path.relative_to(layout.root)) for path in stack],
            "release": release,
            "port": record.port,
            "argv": _command(record),
            "environment": environment,
        }
        write_atomically(instance.launch_path, json.dumps(plan))


@contextlib.contextmanager
def claim(instance: InstanceLayout) -> Iterator[None]:
    """Keep every launch away for the block; HostError if something runs.

    Shares run.lock, which a launch needs alone: so whoever looks meanwhile does not see a server run.
    """
    descriptor = os.open(instance.run_lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        deadline = time.monotonic() + LOCK_SECONDS
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise HostError(
                        f"{instance.name} was started by somebody else just now: look at its status."
                    ) from None
                time.sleep(0.01)
        yield
    finally:
        os.close(descriptor)


def delete(layout: HostLayout, instance: InstanceLayout, callbacks: Callbacks) -> None:
    """Remove the files of an instance that does not run, and what an interrupted removal left of it."""
    callbacks.stage("Removing files")
    if instance.dir.is_dir():
        with claim(instance):
            _doom(layout, instance, instance.dir)
    finish_deletions(layout, instance.name)


def reset(layout: HostLayout, instance: InstanceLayout, callbacks: Callbacks) -> None:
    """Remove what an instance that does not run has written; also what an interrupted reset left of it."""
    callbacks.stage("Removing what the server wrote")
    with claim(instance):
        for folder in (instance.upper_dir, instance.tree_dir):
            if folder.is_dir():
                _doom(layout, instance, folder)
        make_dir(instance.upper_dir)
    finish_deletions(layout, instance.name)
    callbacks.say(f"What {instance.name} wrote is removed: its next start is as its first one.")


def finish_deletions(layout: HostLayout, name: str = "*") -> None:
    """Remove what an interrupted removal left of one instance, or of all of them."""
    for doomed in layout.instances_dir.glob(f".deleting.{name}.*"):
        remove_tree(doomed)


def _doom(layout: HostLayout, instance: InstanceLayout, folder: Path) -> None:
    """Take a folder of an instance out by one rename: what a crash leaves belongs to nothing any more."""
    number = 1
    while (doomed := _doomed_dir(layout, instance.name, number)).exists():
        number += 1
    folder.rename(doomed)
    sync_dir(folder.parent)


def _doomed_dir(layout: HostLayout, name: str, number: int) -> Path:
    # Dots, which no name has: so the leftovers of `a` are not taken for those of `a-b`.
    return layout.instances_dir / f".deleting.{name}.{number}"


def _generate_files(spec: InstanceSpec) -> dict[str, str]:
    """Return the generated layer's files. Without a config, the overlays' or the game's own stands."""
    if not spec.config.strip():
        return {}
    return {SERVER_CONFIG_PATH: spec.config.rstrip("\n") + "\n"}


def _command(record: InstanceRecord) -> list[str]:
    map_argument = () if "+map" in record.arguments else ("+map", _DEFAULT_MAP)
    return [
        "./srcds_run",
        "-game",
        "left4dead2",
        "-console",
        "-norestart",
        "-strictportbind",
        "-port",
        str(record.port),
        *map_argument,
        *record.arguments,
    ]
