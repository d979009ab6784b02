"""The files of a version as a tree: the content of one folder, for a page."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from hostops.specs import ManifestFile


@dataclass
class SubFolder:
    """A folder inside another one, with everything below it."""

    name: str
    path: str
    files: int = 0
    size: int = 0
    is_folder: ClassVar = True


@dataclass(frozen=True)
class Folder:
    """The content of one folder: subfolders first, each group sorted by name. `path` is empty for the top."""

    path: str
    folders: Sequence[SubFolder]
    files: Sequence[ManifestFile]
    parents: Sequence[SubFolder] = field(default_factory=tuple)
    """The folders around it, outermost first; the last one is the folder itself."""


def find_folder(files: Iterable[ManifestFile], path: str) -> Folder | None:
    """Return the content of the folder at `path`; None if there is no such folder."""
    prefix = f"{path}/" if path else ""
    below: dict[str, SubFolder] = {}
    here = []
    for file in files:
        if not file.path.startswith(prefix):
            continue
        name, slash, _rest = file.path[len(prefix) :].partition("/")
        if not slash:
            here.append(file)
            continue
        folder = below.setdefault(name, SubFolder(name, prefix + name))
        folder.files += 1
        folder.size += file.size
    if path and not here and not below:
        return None
    names = path.split("/") if path else []
    parents = [SubFolder(name, "/".join(names[: place + 1])) for place, name in enumerate(names)]
    by_name = sorted(below.values(), key=lambda folder: folder.name.casefold())
    return Folder(path, by_name, sorted(here, key=lambda file: file.path.casefold()), parents)


def open_lone_folders(files: Sequence[ManifestFile]) -> Folder | None:
    """Return the top, or the first folder below it that contains more than one other folder."""
    folder = find_folder(files, "")
    while folder and not folder.files and len(folder.folders) == 1:
        folder = find_folder(files, folder.folders[0].path)
    return folder


def parent_of(path: str) -> str:
    """Return the folder that contains a file."""
    return path.rpartition("/")[0]
