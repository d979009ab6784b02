"""The files of a version as folders: what lies in one, for a page."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from hostops.specs import ManifestFile


@dataclass
class SubFolder:
    """A folder in another one, with all that lies below it."""

    name: str
    path: str
    files: int = 0
    size: int = 0


@dataclass(frozen=True)
class Folder:
    """What lies in one folder: other folders first, each sorted by name. `path` is empty for the top."""

    path: str
    folders: Sequence[SubFolder]
    files: Sequence[ManifestFile]
    parents: Sequence[SubFolder] = field(default_factory=tuple)
    """The folders that it lies in, the outermost first; itself is the last one."""


def find_folder(files: Iterable[ManifestFile], path: str) -> Folder | None:
    """Return what lies in the folder at `path`; None if there is no such folder."""
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
    """Return the top, or the first folder below it that has more in it than one other folder."""
    folder = find_folder(files, "")
    while folder and not folder.files and len(folder.folders) == 1:
        folder = find_folder(files, folder.folders[0].path)
    return folder


def parent_of(path: str) -> str:
    """Return the folder that a file lies in."""
    return path.rpartition("/")[0]
