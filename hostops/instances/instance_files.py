"""Makes, prepares and removes the files of an instance. The caller holds the instance's lock."""

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

from hostops.callbacks import Callbacks
from hostops.console_commands import names_used, split_commands
from hostops.engine_command import PLAN_VERSION, make_command
from hostops.errors import HostError
from hostops.instances import config_chain, console_files, full_copies, layers, releases, runs
from hostops.instances.cfg_files import CFG_DIR, MAX_FILE_BYTES, UnreadableFileError, read_regular
from hostops.instances.config_chain import (
    COPIES_DIR,
    SERVER_CONFIG_PATH,
    SPEC_CONFIG_PATH,
    Passwords,
)
from hostops.launch_arguments import drop_faulty
from hostops.launcher import LOCK_SECONDS
from hostops.layout import HostLayout, InstanceLayout
from hostops.linux.files import make_dir, remove_leftovers, remove_tree, sync_dir, write_atomically
from hostops.specs import InstanceSpec, Limits, require_arguments, require_config

_EVERY_ADDRESS = "0.0.0.0"  # noqa: S104 - it is compared with


@dataclass(frozen=True)
class InstanceRecord:
    """What `instance.json` says: what the next start of the instance is made of."""

    name: str
    port: int
    overlays: tuple[str, ...]
    arguments: tuple[str, ...]
    layer: str
    limits: Limits = field(default_factory=Limits)
    bind_address: str = ""

    @property
    def only_address(self) -> str:
        """The one address that the game listens on; empty if it listens on all."""
        return "" if self.bind_address == _EVERY_ADDRESS else self.bind_address


def initialize(layout: HostLayout, spec: InstanceSpec, callbacks: Callbacks) -> None:
    """Write the files that make the instance what `spec` says, from its next start on.

    Reads the configs of the release and the overlays as they are now. Raises HostError, before anything is
    written, if they execute each other in a circle.
    """
    arguments = require_arguments(spec.arguments)
    require_config(spec.config)
    release = releases.require_current(layout)
    for overlay in spec.overlays:
        layers.require_overlay(layout, overlay, spec.name)
    chain = config_chain.make_chain(layout, spec, release)
    instance = layout.instance(spec.name)
    for folder in (
        instance.upper_dir,
        instance.work_dir,
        instance.merged_dir,
        instance.layers_dir,
        instance.console_dir,
    ):
        make_dir(folder)
    layer = layers.generate_layer(instance.layers_dir, chain.files)
    config_chain.store_parts(instance, chain.parts)
    record = InstanceRecord(
        spec.name, spec.port, spec.overlays, arguments, layer, spec.limits, spec.bind_address
    )
    write_atomically(instance.record_path, json.dumps(asdict(record)))
    for part in chain.parts:
        for warning in part.warnings:
            callbacks.warn(warning)
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
        # Earlier versions wrote none of these.
        limits=Limits(**document.get("limits", {})),
        bind_address=document.get("bind_address", ""),
    )


def read_settings(instance: InstanceLayout) -> tuple[str, ...]:
    """Return the arguments and configs that the instance has, and those that it runs with, as texts."""
    texts = []
    for path in (instance.record_path, instance.launch_path):
        with contextlib.suppress(FileNotFoundError, NotADirectoryError, ValueError):
            document = json.loads(path.read_text())
            texts.append(" ".join(document.get("arguments") or document.get("argv") or ()))
    # The layer of a running server stays beside the one of its next start. What a file of the chain sets has to
    # be known as well as what server.cfg does.
    for pattern in (SERVER_CONFIG_PATH, f"{CFG_DIR}/{COPIES_DIR}/*.cfg"):
        for path in sorted(instance.layers_dir.glob(f"*/{pattern}")):
            with contextlib.suppress(FileNotFoundError):
                texts.append(path.read_text(errors="replace"))
    return tuple(texts)


def has_password_in_config(instance: InstanceLayout) -> bool:
    """Return whether the config of people, as it was last written, sets a password."""
    try:
        layer = f"layers/{read_record(instance).layer}"
        config = read_regular(instance.dir, f"{layer}/{SPEC_CONFIG_PATH}", MAX_FILE_BYTES)
    except (FileNotFoundError, NotADirectoryError, UnreadableFileError, HostError):
        return False  # It has none, or is being deleted.
    return any(
        name in ("rcon_password", "sv_password")
        for line in config.decode("latin-1").split("\n")
        for command in split_commands(line)
        for name in names_used(command)
    )


def read_launched_passwords(layout: HostLayout, instance: InstanceLayout) -> Passwords:
    """Return the passwords that Saferoom gave the last launch; none if an earlier version wrote its config."""
    try:
        plan = json.loads(instance.launch_path.read_text())
        path = f"{plan['lower'][0]}/{SERVER_CONFIG_PATH}"
        return config_chain.read_passwords(read_regular(layout.root, path, MAX_FILE_BYTES))
    except (FileNotFoundError, UnreadableFileError, ValueError, LookupError):
        return (
            Passwords()
        )  # Of an earlier version, or not there any more: it is the game that is to run.


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
            "version": PLAN_VERSION,
            "layering": layering.kind,
            # Relative: short, and free of what the root's path may contain.
            "lower": [str(path.relative_to(layout.root)) for path in stack],
            "release": release,
            "port": record.port,
            "address": record.only_address,
            "argv": _command(record, callbacks),
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


def _command(record: InstanceRecord, callbacks: Callbacks) -> list[str]:
    """Return the engine's argv. A record of an earlier version may have arguments that are none any more."""
    arguments, faults = drop_faulty(record.arguments)
    for fault in faults:
        callbacks.warn(f"A launch argument from before the upgrade is left out. {fault}")
    return make_command(record.port, record.bind_address, arguments)
