"""The second way to give an instance its files, where overlays cannot be mounted: a full copy.

A manifest beside the copy says which of its files are ours and in what version. At every start,
ours follow the release, the overlays and the config; what the server wrote or changed is kept.
Files are told apart by size and modification time.
"""

import json
import os
import stat
from collections.abc import Sequence
from pathlib import Path

from hostops.callbacks import Callbacks
from hostops.layout import InstanceLayout
from hostops.linux.files import copy_file, make_dir, remove_tree, walk_files, write_atomically

Version = tuple[int, int]
"""Size in bytes and modification time in nanoseconds."""


def refresh_tree(
    instance: InstanceLayout,
    layers: Sequence[Path],
    configured: Sequence[str],
    callbacks: Callbacks,
) -> None:
    """Bring the instance's copy in line with its layers, the top one first. The instance must not
    run.

    `configured` are the paths for which the server's own version never stands. Interrupted at any
    point, it is taken up by the next call.
    """
    tree = instance.tree_dir
    wanted = _merge(layers)
    known = _read_manifest(instance)
    if not tree.is_dir():
        known = {}
        _take_over_upper(instance, callbacks)
    # Until all is copied a file may be in its old or its new version: both are ours.
    both = {path: [*known.get(path, []), version] for path, (_, version) in wanted.items()}
    _write_manifest(instance, {**known, **both})
    for path in known.keys() - wanted.keys():
        if _version(tree / path) in known[path]:
            (tree / path).unlink()
    done = 0
    for path, (source, version) in wanted.items():
        callbacks.stage("Copying the game", 100 * done // len(wanted))
        done += 1
        target = tree / path
        there = _version(target)
        if there == version:
            continue
        if there is not None and there not in known.get(path, []):
            if path not in configured:
                continue
            saved = target.with_name(f"{target.name}.saved-{there[1]}")
            target.rename(saved)
            callbacks.warn(f"The server had its own {path}; it is kept as {saved.name}.")
        make_dir(target.parent)
        copy_file(source, target, callbacks.cancel)
    _write_manifest(instance, {path: [version] for path, (_, version) in wanted.items()})


def fold_tree(instance: InstanceLayout, callbacks: Callbacks) -> None:
    """Move what the server wrote from a full copy to the upper layer, and remove the copy, if there
    is one.

    For a host that copied once and can mount overlays now. The instance must not run.
    """
    tree = instance.tree_dir
    if not tree.is_dir():
        return
    callbacks.say(
        "This host can mount overlays now: taking over what the server wrote in its copy."
    )
    known = _read_manifest(instance)
    for path, _ in walk_files(tree):
        callbacks.cancel.raise_if_cancelled()
        if _version(tree / path) not in known.get(path, []):
            target = instance.upper_dir / path
            _make_parents(target, instance.upper_dir)
            (tree / path).replace(target)
    remove_tree(tree)
    instance.tree_manifest_path.unlink(missing_ok=True)


def _take_over_upper(instance: InstanceLayout, callbacks: Callbacks) -> None:
    """Begin a copy with what the server wrote while overlays could be mounted."""
    beginning = instance.dir / "tree.new"
    remove_tree(beginning)
    make_dir(beginning)
    for path, status in walk_files(instance.upper_dir):
        if stat.S_ISREG(status.st_mode) or stat.S_ISLNK(status.st_mode):
            copy_file(instance.upper_dir / path, beginning / path, callbacks.cancel)
    beginning.rename(instance.tree_dir)


def _merge(layers: Sequence[Path]) -> dict[str, tuple[Path, Version]]:
    """Return what the layers show together: each path with its source and that one's version."""
    merged: dict[str, tuple[Path, Version]] = {}
    for layer in layers:
        for path, status in walk_files(layer):
            merged.setdefault(path, (layer / path, (status.st_size, status.st_mtime_ns)))
    return merged


def _version(path: Path) -> Version | None:
    try:
        status = path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return status.st_size, status.st_mtime_ns


def _make_parents(target: Path, top: Path) -> None:
    """Make the folders above `target`, in the place of files and whiteouts that are in the way."""
    for part in reversed(target.relative_to(top).parents[:-1]):
        folder = top / part
        if os.path.lexists(folder) and not folder.is_dir():
            folder.unlink()
        make_dir(folder)


def _read_manifest(instance: InstanceLayout) -> dict[str, list[Version]]:
    try:
        document = json.loads(instance.tree_manifest_path.read_text())
    except FileNotFoundError:
        return {}
    return {
        path: [(size, time_ns) for size, time_ns in versions] for path, versions in document.items()
    }


def _write_manifest(instance: InstanceLayout, manifest: dict[str, list[Version]]) -> None:
    write_atomically(instance.tree_manifest_path, json.dumps(manifest))
