"""A full copy: how an instance gets its files where overlays cannot be mounted.

A manifest beside the copy lists which of its files are ours (`tree_manifests`). At every start, our files are
updated from the release, the overlays and the config; files that the server wrote or changed are kept.
"""

import contextlib
import os
import stat
from collections.abc import Sequence
from pathlib import Path

from hostops.callbacks import Callbacks
from hostops.instances.own_files import OverlayFiles, Whose
from hostops.instances.tree_manifests import OwnFiles, Version, read_manifest, write_manifest
from hostops.layout import InstanceLayout
from hostops.linux import untrusted
from hostops.linux.files import copy_at, remove_tree, walk_files
from hostops.linux.untrusted import UntrustedFileError

_MOST_WARNINGS = 10


def refresh_tree(
    instance: InstanceLayout,
    layers: Sequence[Path],
    configured: Sequence[str],
    overlays: OverlayFiles,
    callbacks: Callbacks,
) -> list[str]:
    """Update the instance's copy from its layers, top one first. The instance must not be running.

    `configured` are the paths where the server's own version never wins. Returns the paths of `overlays` where
    it did. If this is interrupted at any point, the next call completes it.
    """
    wanted = _merge(layers, callbacks)
    known = read_manifest(instance, lambda text: _warn_of_damage(text, callbacks))
    if not untrusted.exists(instance.tree_dir, instance.trusted_dir):
        known = {}
        _take_over_upper(instance, callbacks)
    # Until everything is copied, a file may be in its old or its new version: both are ours.
    both = {path: [*known.get(path, []), version] for path, (_, version) in wanted.items()}
    write_manifest(instance, {**known, **both})
    kept = []
    with contextlib.ExitStack() as closing:
        tree = closing.enter_context(untrusted.open_folder(instance.tree_dir, instance.trusted_dir))
        sources = {layer: _open_layer(layer, closing) for layer in layers}
        for path in known.keys() - wanted.keys():
            _remove_ours(tree, path, known[path])
        for done, (path, (layer, version)) in enumerate(wanted.items()):
            callbacks.stage("Copying the game", 100 * done // len(wanted))
            source = (sources[layer], path)
            whose = Whose.CONFIGURED if path in configured else overlays.find_whose(path)
            if not _bring(tree, source, version, known.get(path, []), whose, callbacks):
                kept += [path] if whose is Whose.SEED else []
    write_manifest(instance, {path: [version] for path, (_, version) in wanted.items()})
    return kept


def fold_tree(instance: InstanceLayout, callbacks: Callbacks) -> None:
    """Move what the server wrote from a full copy to the upper layer, and remove the copy, if there is one.

    For a host that once copied and can now mount overlays. The instance must not be running. If this is
    interrupted at any point, the next call completes it.
    """
    doomed = instance.dir / "tree.old"
    remove_tree(doomed)
    if not untrusted.exists(instance.tree_dir, instance.trusted_dir):
        return
    callbacks.say(
        "This host can mount overlays now: taking over what the server wrote in its copy."
    )
    own_files = OwnFiles(instance, lambda text: _warn_of_damage(text, callbacks))
    with (
        untrusted.open_folder(instance.tree_dir, instance.trusted_dir) as tree,
        untrusted.open_folder(instance.upper_dir, instance.trusted_dir) as upper,
    ):
        for path, status in untrusted.walk(tree, opens_up=True):
            callbacks.cancel.raise_if_cancelled()
            if own_files.is_own(path, status):
                _move(tree, upper, path)
    # By one rename: while folders are removed, they have other names, under which no file is listed as ours.
    instance.tree_dir.rename(doomed)
    instance.tree_manifest_path.unlink(missing_ok=True)
    remove_tree(doomed)


def _bring(
    tree: int,
    source: tuple[int, str],
    version: Version,
    known: Sequence[Version],
    whose: Whose,
    callbacks: Callbacks,
) -> bool:
    """Copy one of our files to the tree, unless the server's own version of it wins; whether it did not."""
    path = source[1]
    parent, _, name = path.rpartition("/")

    def move_aside(folder: int, obstacle: str) -> None:
        mark = str(untrusted.stat_at(folder, obstacle).st_mtime_ns)
        saved = untrusted.save_aside(folder, obstacle, mark)
        callbacks.warn(f"The server had {obstacle} in the way of {path}; it is kept as {saved}.")

    folder = untrusted.make_folders(tree, parent, move_aside)
    try:
        there = _version(folder, name)
        if there == version:
            return True
        if there is not None and there not in known:
            if whose in (Whose.SEED, Whose.OWN):
                return False
            if whose is Whose.MANAGED:
                saved = untrusted.keep_last(folder, name)
            else:
                saved = untrusted.save_aside(folder, name, str(there[1]))
            callbacks.warn(f"The server had its own {path}; it is kept as {saved}.")
        copy_at(*source, folder, name, callbacks.cancel)
        return True
    finally:
        os.close(folder)


def _remove_ours(tree: int, path: str, versions: Sequence[Version]) -> None:
    """Remove a file of the tree that is in no layer any longer, unless the server has changed it."""
    parent, _, name = path.rpartition("/")
    # If anything but a folder is in the place of one of its folders, it is the server's own.
    with contextlib.suppress(FileNotFoundError, UntrustedFileError):
        folder = untrusted.open_folder_at(tree, parent) if parent else os.dup(tree)
        try:
            if _version(folder, name) in versions:
                os.unlink(name, dir_fd=folder)
        finally:
            os.close(folder)


def _move(tree: int, upper: int, path: str) -> None:
    """Move a file from the tree to the upper layer, replacing whatever is in the way there."""
    parent, _, name = path.rpartition("/")
    source = untrusted.open_folder_at(tree, parent, opens_up=True) if parent else os.dup(tree)
    try:
        # Files and whiteouts may be in the way.
        target = untrusted.make_folders(upper, parent, untrusted.remove_at)
        try:
            untrusted.remove_at(target, name)
            os.rename(name, name, src_dir_fd=source, dst_dir_fd=target)
        finally:
            os.close(target)
    finally:
        os.close(source)


def _take_over_upper(instance: InstanceLayout, callbacks: Callbacks) -> None:
    """Begin a copy from what the server wrote while overlays could be mounted."""
    beginning = instance.dir / "tree.new"
    remove_tree(beginning)
    untrusted.require_folder(beginning, instance.trusted_dir)
    with (
        untrusted.open_folder(instance.upper_dir, instance.trusted_dir) as upper,
        untrusted.open_folder(beginning, instance.trusted_dir) as target,
    ):
        for path, status in untrusted.walk(upper, opens_up=True):
            callbacks.cancel.raise_if_cancelled()
            if _can_be_copied(status):
                parent, _, name = path.rpartition("/")
                folder = untrusted.make_folders(target, parent, untrusted.remove_at)
                try:
                    copy_at(upper, path, folder, name, callbacks.cancel)
                finally:
                    os.close(folder)
    beginning.rename(instance.tree_dir)


def _merge(layers: Sequence[Path], callbacks: Callbacks) -> dict[str, tuple[Path, Version]]:
    """Return the merged content of the layers: each path with its layer and its version there.

    Links are copied as links. Anything else that is no file, such as a FIFO or a device in an overlay, is left
    out with a warning.
    """
    merged: dict[str, tuple[Path, Version]] = {}
    skipped: list[str] = []
    for layer in layers:
        for path, status in walk_files(layer):
            if _can_be_copied(status):
                merged.setdefault(path, (layer, (status.st_size, status.st_mtime_ns)))
            else:
                skipped.append(f"{layer.name}/{path}")
    for text in skipped[:_MOST_WARNINGS]:
        callbacks.warn(f"{text} is neither a file nor a link: it is left out.")
    if len(skipped) > _MOST_WARNINGS:
        callbacks.warn(f"So are {len(skipped) - _MOST_WARNINGS:,} more.")
    return merged


def _can_be_copied(status: os.stat_result) -> bool:
    return stat.S_ISREG(status.st_mode) or stat.S_ISLNK(status.st_mode)


def _open_layer(layer: Path, closing: contextlib.ExitStack) -> int:
    """Open a layer until `closing` ends. If somebody made an overlay's folder a link, it is followed."""
    descriptor = os.open(layer, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    closing.callback(os.close, descriptor)
    return descriptor


def _version(folder: int, name: str) -> Version | None:
    try:
        status = untrusted.stat_at(folder, name)
    except FileNotFoundError:
        return None
    return status.st_size, status.st_mtime_ns


def _warn_of_damage(text: str, callbacks: Callbacks) -> None:
    callbacks.warn(
        f"{text}: those that differ are kept as its own. Reset the server to have all of them copied again."
    )
