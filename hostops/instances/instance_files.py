"""Creates, prepares and removes the files of an instance. The caller holds the instance's lock."""

import contextlib
import fcntl
import json
import os
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from hostops.callbacks import Callbacks
from hostops.console_commands import names_used, split_commands
from hostops.engine_command import PLAN_VERSION, make_command
from hostops.errors import HostError
from hostops.instances import (
    admin_files,
    ban_files,
    config_chain,
    console_files,
    full_copies,
    layers,
    own_files,
    records,
    releases,
    runs,
)
from hostops.instances.cfg_files import CFG_DIR, MAX_FILE_BYTES, UnreadableFileError, read_regular
from hostops.instances.config_chain import (
    COPIES_DIR,
    SERVER_CONFIG_PATH,
    SPEC_CONFIG_PATH,
    Passwords,
)
from hostops.launch_arguments import drop_faulty
from hostops.launching import LOCK_SECONDS
from hostops.layout import HostLayout, InstanceLayout
from hostops.linux import untrusted
from hostops.linux.files import (
    make_dir,
    remove_leftovers,
    remove_tree,
    sync_dir,
    tolerate_no_space,
    write_atomically,
)
from hostops.linux.untrusted import UntrustedFileError
from hostops.specs import (
    NAME_PATTERN,
    InstanceSpec,
    Limits,
    OverlayReference,
    SpecAdmin,
    require_arguments,
    require_config,
    require_steam_id,
)

_EVERY_ADDRESS = "0.0.0.0"  # noqa: S104 - only for comparison
_MAX_WORD = 64 * 1024  # of the launch arguments: far above what any check accepts
_MAX_LAYERS = 1000


@dataclass(frozen=True)
class InstanceRecord:
    """The contents of `instance.json`: what the instance's next start will use."""

    name: str
    port: int
    overlays: tuple[str, ...]
    arguments: tuple[str, ...]
    layer: str
    limits: Limits = field(default_factory=Limits)
    bind_address: str = ""
    admins: tuple[SpecAdmin, ...] = ()
    lifted: tuple[str, ...] = ()

    @property
    def only_address(self) -> str:
        """The one address that the game listens on; empty if it listens on all."""
        return "" if self.bind_address == _EVERY_ADDRESS else self.bind_address


@dataclass(frozen=True)
class Composition:
    """What a spec results in on this host, before any of it is written."""

    record: InstanceRecord
    chain: config_chain.ConfigChain
    release: str


def compose(layout: HostLayout, spec: InstanceSpec) -> Composition:
    """Work out the instance that results from a spec, without writing anything.

    Reads the configs of the release and the overlays as they are now. Raises ValueError for arguments or a
    config that the game must not be given. Raises HostError for anything missing on this host, for configs that
    execute each other in a circle, and for anything that has replaced one of the instance's own folders.
    """
    arguments = require_arguments(spec.arguments)
    require_config(spec.config)
    release = releases.require_current(layout)
    for overlay in spec.overlays:
        layers.require_overlay(layout, overlay, spec.name)
    chain = config_chain.make_chain(layout, spec, release)
    instance = layout.instance(spec.name)
    for folder in _folders(instance):
        with (
            contextlib.suppress(FileNotFoundError),
            untrusted.open_folder(folder, instance.trusted_dir),
        ):
            pass
    record = InstanceRecord(
        name=spec.name,
        port=spec.port,
        overlays=spec.overlays,
        arguments=arguments,
        layer=layers.name_layer(chain.files),
        limits=spec.limits,
        bind_address=spec.bind_address,
        admins=spec.admins,
        lifted=spec.lifted,
    )
    return Composition(record, chain, release)


def initialize(layout: HostLayout, spec: InstanceSpec, callbacks: Callbacks) -> Composition:
    """Write the files that make the instance what `spec` says, from its next start on; return the result.

    Raises what `compose` raises, before anything is written. The files of a running server stay as they are,
    and so do the files with which systemd would restart it after a crash.
    """
    composed = compose(layout, spec)
    record, chain, release = composed.record, composed.chain, composed.release
    instance = layout.instance(spec.name)
    make_dir(instance.dir)
    for folder in _folders(instance):
        untrusted.require_folder(folder, instance.trusted_dir)
    layers.generate_layer(instance.layers_dir, chain.files)
    config_chain.store_parts(instance, chain.parts)
    write_atomically(instance.record_path, json.dumps(asdict(record)))
    for part in chain.parts:
        for warning in part.warnings:
            callbacks.warn(warning)
    labels = "; ".join(OverlayReference.parse(one).label for one in spec.overlays)
    overlays = f" with {labels} over it" if labels else ""
    callbacks.say(f"{spec.name} is made of build {release}{overlays}, on port {spec.port}.")
    if runs.is_alive(instance):
        callbacks.say(f"{spec.name} is running: this applies at its next start.")
    else:
        # A server that has just crashed is not running, but systemd will restart it with its last plan.
        layers.prune_layers(instance.layers_dir, {record.layer, _read_launched_layer(instance)})
    return composed


def _folders(instance: InstanceLayout) -> tuple[Path, ...]:
    """Return the folders that every instance has."""
    return (
        instance.upper_dir,
        instance.work_dir,
        instance.merged_dir,
        instance.layers_dir,
        instance.console_dir,
    )


def _read_launched_layer(instance: InstanceLayout) -> str:
    """Return the generated layer of the last launch; empty if there was none."""
    plan = records.read_document(instance.launch_path, instance.trusted_dir) or {}
    try:
        return Path(plan["lower"][0]).name
    except (LookupError, TypeError):
        return ""


def find_needed_folders(layout: HostLayout) -> frozenset[Path] | None:
    """Return the folders that the instances' records and last launches name as layers.

    A running game has the layers of its last launch mounted. None if one of the files cannot be read: then it
    is unknown what is needed.
    """
    needed: set[Path] = set()
    for folder in layout.instances_dir.glob("*"):
        if not re.fullmatch(NAME_PATTERN, folder.name):
            continue
        instance = layout.instance(folder.name)
        try:
            if untrusted.exists(instance.record_path, instance.trusted_dir):
                overlays = read_record(instance).overlays
                needed.update(layout.overlay_folder(overlay) for overlay in overlays)
            if untrusted.exists(instance.launch_path, instance.trusted_dir):
                plan = records.read_document(instance.launch_path, instance.trusted_dir)
                needed.update(layout.root / path for path in (plan or {})["lower"])
        except (HostError, *records.MALFORMED):
            return None
    return frozenset(needed)


def read_record(instance: InstanceLayout) -> InstanceRecord:
    """Return the instance's record; HostError if there is none, or it cannot be read."""
    path = instance.record_path
    if not untrusted.exists(path, instance.trusted_dir):
        raise HostError(f"{instance.name} has no files on this host: initialize it first.")
    document = records.read_document(path, instance.trusted_dir)
    try:
        return _parse_record(instance, document or {})
    except records.MALFORMED as error:
        raise HostError(
            f"{path} does not say what {instance.name} is made of ({error}): initialize it again."
        ) from None


def _parse_record(instance: InstanceLayout, document: Mapping[str, Any]) -> InstanceRecord:
    limits = document.get("limits", {})  # missing in records of an earlier version
    record = InstanceRecord(
        name=instance.name,
        port=records.whole_number(document["port"], 1, 65535),
        overlays=tuple(str(OverlayReference.parse(one)) for one in document["overlays"]),
        arguments=tuple(records.short_text(word, _MAX_WORD) for word in document["arguments"]),
        layer=records.short_text(document["layer"], 64),
        limits=Limits(
            **{
                name: records.whole_number(value, high=2**63)
                for name, value in limits.items()
                if value is not None
            }
        ),
        bind_address=records.short_text(document.get("bind_address", ""), 64),
        admins=tuple(
            SpecAdmin(
                records.short_text(one["steam_id"], 64),
                records.short_text(one["flags"], 64),
                str(one["name"]),
            )
            for one in document.get("admins", ())
        ),
        lifted=tuple(require_steam_id(one) for one in document.get("lifted", ())),
    )
    if not re.fullmatch(r"[0-9a-f]+", record.layer):
        raise ValueError(f"{record.layer!r} is no layer")
    return record


def find_layers(layout: HostLayout, instance: InstanceLayout, record: InstanceRecord) -> list[Path]:
    """Return the layers below an instance's own files, top one first; HostError if one is missing.

    The first layer is generated and need not be written yet.
    """
    release = releases.require_current(layout)
    return layers.lower_layers(layout, instance, record.layer, record.overlays, release)


def read_settings(instance: InstanceLayout) -> tuple[str, ...]:
    """Return, as texts, the arguments and configs that the instance has, and those it is running with."""
    texts = []
    for path in (instance.record_path, instance.launch_path):
        document = records.read_document(path, instance.trusted_dir) or {}
        words = document.get("arguments") or document.get("argv")
        if isinstance(words, list):
            texts.append(" ".join(word for word in words if isinstance(word, str)))
    # The layer of a running server stays beside that of its next start. The files of the chain matter as much
    # as server.cfg does.
    names: list[str] = []
    with (
        contextlib.suppress(FileNotFoundError, UntrustedFileError),
        untrusted.open_folder(instance.layers_dir, instance.trusted_dir) as folder,
    ):
        names = untrusted.list_names(folder, _MAX_LAYERS)
    for name in sorted(names):
        texts += _read_configs(instance, instance.layers_dir / name)
    return tuple(texts)


def _read_configs(instance: InstanceLayout, layer_dir: Path) -> Iterator[str]:
    """Yield the texts of a generated layer's config files."""
    copies_dir = layer_dir / CFG_DIR / COPIES_DIR
    paths = [layer_dir / SERVER_CONFIG_PATH]
    with (
        contextlib.suppress(FileNotFoundError, UntrustedFileError),
        untrusted.open_folder(copies_dir, instance.trusted_dir) as folder,
    ):
        paths += [copies_dir / name for name in sorted(untrusted.list_names(folder, _MAX_LAYERS))]
    for path in paths:
        with contextlib.suppress(FileNotFoundError, UntrustedFileError):
            yield untrusted.read_file(path, instance.trusted_dir).decode(errors="replace")


def has_password_in_config(instance: InstanceLayout) -> bool:
    """Return whether the config written by people, as last generated, sets a password."""
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
    plan = records.read_document(instance.launch_path, instance.trusted_dir) or {}
    try:
        path = f"{plan['lower'][0]}/{SERVER_CONFIG_PATH}"
        return config_chain.read_passwords(read_regular(layout.root, path, MAX_FILE_BYTES))
    except (FileNotFoundError, UnreadableFileError, ValueError, LookupError):
        return (
            Passwords()
        )  # From an earlier version, or missing. That must not keep the game from running.


def read_launched_argv(instance: InstanceLayout) -> list[str]:
    """Return the engine's command line from the last launch; empty if unknown."""
    argv = (records.read_document(instance.launch_path, instance.trusted_dir) or {}).get("argv")
    return [word for word in argv if isinstance(word, str)] if isinstance(argv, list) else []


def read_launched_layers(layout: HostLayout, instance: InstanceLayout) -> list[Path]:
    """Return the server's own files and layers as of its last launch, topmost first."""
    plan = records.read_document(instance.launch_path, instance.trusted_dir) or {}
    lower = plan.get("lower")
    paths = [Path(one) for one in lower if isinstance(one, str)] if isinstance(lower, list) else []
    known = {
        folder.name
        for folder in (
            *(layout.instances_dir, layout.releases_dir),
            *(layout.overlays_dir, layout.versions_dir),
        )
    }
    layers = [
        layout.root / path
        for path in paths
        if path.parts[:1] and path.parts[0] in known and ".." not in path.parts
    ]
    with contextlib.suppress(FileNotFoundError, UntrustedFileError):
        untrusted.require_folder(instance.upper_dir, instance.trusted_dir)
        layers.insert(0, instance.upper_dir)
    return layers


def write_launch_plan(
    layout: HostLayout,
    instance: InstanceLayout,
    layering: layers.Layering,
    environment: dict[str, str],
    callbacks: Callbacks,
    *,
    is_boxed: bool,
    restarts_run: int | None = None,
) -> None:
    """Write `launch.json`, after what the launch needs of the instance's files.

    Raises HostError if the instance is running.

    `restarts_run` is the run whose crash caused this launch: the launcher then counts a restart.
    """
    record = read_record(instance)
    # An interrupted reset may have left none.
    untrusted.require_folder(instance.upper_dir, instance.trusted_dir)
    untrusted.require_folder(instance.console_dir, instance.trusted_dir)
    untrusted.require_folder(instance.layers_dir, instance.trusted_dir)
    release = releases.require_current(layout)
    stack = layers.lower_layers(layout, instance, record.layer, record.overlays, release)
    require_layer(instance, record)
    configured = layers.list_generated(stack[0])
    overlays = own_files.OverlayFiles(layout, record.overlays, ours={*configured, admin_files.PATH})
    with claim(instance):
        remove_leftovers(instance.dir)
        console_files.prune_runs(instance)
        layers.prune_layers(instance.layers_dir, {record.layer})
        if layering.is_overlay:
            full_copies.fold_tree(instance, callbacks)
            layers.uncover(instance.upper_dir, configured, callbacks)
            kept = overlays.uncover(instance.upper_dir, callbacks)
        else:
            callbacks.warn(
                f"This host cannot mount overlays, so {instance.name} gets a full copy of the game. "
                f"{layering.detail} {layering.cure}"
            )
            kept = full_copies.refresh_tree(instance, stack, configured, overlays, callbacks)
        own_files.tell_of_kept(kept, callbacks)
        ban_files.take_out(instance, record.lifted, callbacks)
        admin_files.write_at_start(instance, stack, record.admins, callbacks)
        plan = {
            "version": PLAN_VERSION,
            "layering": layering.kind,
            "is_boxed": is_boxed,
            "restarts_run": restarts_run,
            # Relative paths are short, and free of what the root's path may contain.
            "lower": [str(path.relative_to(layout.root)) for path in stack],
            "release": release,
            "port": record.port,
            "address": record.only_address,
            "argv": _command(record, callbacks),
            "environment": environment,
        }
        write_atomically(instance.launch_path, json.dumps(plan))


def require_layer(instance: InstanceLayout, record: InstanceRecord) -> None:
    """Raise HostError if a record's generated layer is missing, or a link to somebody else's folder.

    The game will get its contents.
    """
    try:
        with untrusted.open_folder(instance.layers_dir / record.layer, instance.trusted_dir):
            pass
    except FileNotFoundError:
        raise HostError(
            f"The files that were written for {instance.name} are not there any more: initialize it again."
        ) from None


@contextlib.contextmanager
def claim(instance: InstanceLayout) -> Iterator[None]:
    """Prevent every launch during the block; HostError if something is running.

    Shares run.lock, which a launch needs exclusively, so that observers do not take this for a running server.
    """
    descriptor = _open_run_lock(instance)
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


def _open_run_lock(instance: InstanceLayout) -> int:
    """Return a descriptor of the run's lock. If the game has replaced the file, that is removed."""
    try:
        return untrusted.create_file(instance.run_lock_path, instance.trusted_dir)
    except UntrustedFileError:
        untrusted.remove_file(instance.run_lock_path, instance.trusted_dir)
        return untrusted.create_file(instance.run_lock_path, instance.trusted_dir)


def delete(layout: HostLayout, instance: InstanceLayout, callbacks: Callbacks) -> None:
    """Remove the files of a stopped instance, including what an interrupted removal left."""
    callbacks.stage("Removing files")
    if instance.dir.is_dir():
        with claim(instance):
            _doom(layout, instance, instance.dir)
    finish_deletions(layout, instance.name)


def reset(layout: HostLayout, instance: InstanceLayout, callbacks: Callbacks) -> None:
    """Remove what a stopped instance has written, including what an interrupted reset left."""
    callbacks.stage("Removing what the server wrote")
    with claim(instance):
        for folder in (instance.upper_dir, instance.tree_dir, instance.home_dir):
            # Whatever it is: a link that the game has put there is removed too.
            if untrusted.exists(folder, instance.trusted_dir):
                _doom(layout, instance, folder)
        for folder in _folders(instance):
            # A game without a box can have replaced it, and nothing else would remove that.
            if os.path.lexists(folder) and (folder.is_symlink() or not folder.is_dir()):
                _doom(layout, instance, folder)
        admin_files.forget(instance)
        # First: on a full disk there is no room for the new folder until then.
        finish_deletions(layout, instance.name)
        # Without it, the next start makes it.
        with tolerate_no_space():
            untrusted.require_folder(instance.upper_dir, instance.trusted_dir)
    callbacks.say(f"What {instance.name} wrote is removed: its next start is as its first one.")


def finish_deletions(layout: HostLayout, name: str = "*") -> None:
    """Remove what an interrupted removal left of one instance, or of all of them.

    This cannot be cancelled: what is already removed cannot be brought back.
    """
    for doomed in layout.instances_dir.glob(f".deleting.{name}.*"):
        remove_tree(doomed)


def _doom(layout: HostLayout, instance: InstanceLayout, folder: Path) -> None:
    """Take a folder out of an instance by one rename: leftovers of a crash then belong to nothing."""
    number = 1
    while os.path.lexists(doomed := _doomed_dir(layout, instance.name, number)):
        number += 1
    folder.rename(doomed)
    sync_dir(folder.parent)


def _doomed_dir(layout: HostLayout, name: str, number: int) -> Path:
    # With dots, which no name contains, so that leftovers of `a` are not taken for those of `a-b`.
    return layout.instances_dir / f".deleting.{name}.{number}"


def _command(record: InstanceRecord, callbacks: Callbacks) -> list[str]:
    """Return the engine's argv. An earlier version's record may have arguments that are no longer valid."""
    arguments, faults = drop_faulty(record.arguments)
    for fault in faults:
        callbacks.warn(f"A launch argument from before the upgrade is left out. {fault}")
    return make_command(record.port, record.bind_address, arguments)
