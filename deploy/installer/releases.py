"""The code: releases side by side, of which one is current, and the Python packages that they need."""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from deploy.installer import places
from deploy.installer.errors import CommandError, InstallError
from deploy.installer.machine import Machine

PARTS = (
    *("CHANGELOG.md", "LICENSE", "README.md", "manage.py", "requirements.txt"),
    *("deploy", "docs", "hostops", "jobs", "l4d2site", "servers", "templates"),
)
"""The parts of a clone that are the product: no tests, no history, no settings that may be beside it."""

KEPT = 3
"""How many releases are kept: the current one, the one to go back to, and one more."""

_WHOLE = ".whole"


@dataclass(frozen=True)
class Release:
    """A release, which may not exist yet. Its name identifies its contents."""

    name: str

    @property
    def dir(self) -> Path:
        """Its folder."""
        return places.RELEASES_DIR / self.name

    @property
    def python(self) -> Path:
        """Its Python, which has its packages."""
        return self.dir / ".venv/bin/python"

    @property
    def is_whole(self) -> bool:
        """Whether it was completed, and its Python still exists."""
        return (self.dir / _WHOLE).exists() and self.python.exists()


def current() -> Release | None:
    """Return the release that the link leads to; None if nothing is installed."""
    return _linked(places.CURRENT)


def previous() -> Release | None:
    """Return the release that was current before; None if there was none, or it was removed."""
    found = _linked(places.PREVIOUS)
    return found if found and found.is_whole else None


def _linked(link: Path) -> Release | None:
    return Release(link.readlink().name) if link.is_symlink() else None


@contextmanager
def opened(machine: Machine, source: str) -> Iterator[Path]:
    """Provide a folder with the code of `source` for the block: that folder, or a clone of that git URL."""
    if Path(source).is_dir():
        yield Path(source)
        return
    if "://" not in source and "@" not in source:
        raise InstallError(f"--from is {source!r}, which is neither a folder nor a git address.")
    with tempfile.TemporaryDirectory(prefix="saferoom-") as folder:
        # In a dry run too, because only this shows what would be installed. It is removed afterwards.
        try:
            machine.ask("git", "clone", "--quiet", "--depth", "1", "--", source, f"{folder}/code")
        except CommandError as error:
            raise InstallError(
                f"The code could not be fetched from {source}: {error.output.strip()}",
                "Look at the address, and whether git is there (apt install git); or give a folder.",
            ) from error
        yield Path(folder, "code")


def find(source: Path) -> Release:
    """Return the release that the code in a folder makes."""
    missing = [part for part in PARTS if not (source / part).exists()]
    if missing:
        raise InstallError(f"{source} is not Saferoom's code: it has no {', '.join(missing)}.")
    digest = hashlib.sha256()
    for path in _files(source):
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        digest.update(
            f"{path.relative_to(source)}\0{path.stat().st_mode & 0o111:o}\0{content}\n".encode()
        )
    return Release(f"{_version(source)}-{digest.hexdigest()[:10]}")


def make(machine: Machine, source: Path, release: Release, python: str, wheels: str) -> None:
    """Make a release from the code in a folder, unless it exists; an incomplete one is made again."""
    if release.is_whole:
        return
    for folder in (places.CODE_DIR, places.RELEASES_DIR, places.ENVIRONMENTS_DIR):
        machine.make_folder(folder)
    machine.remove(release.dir)
    if machine.is_dry_run:
        machine.run("copy", source, release.dir)
    else:
        _copy(source, release.dir)
    environment = make_environment(machine, source / "requirements.txt", python, wheels)
    machine.link(release.dir / ".venv", f"../../{environment.relative_to(places.CODE_DIR)}")
    _compile(machine, release.python, release.dir)
    if not machine.is_dry_run:
        _mark_whole(release.dir)


def make_environment(machine: Machine, requirements: Path, python: str, wheels: str) -> Path:
    """Make a virtual environment with the packages that releases need, unless there is one; return it."""
    version = require_python(machine, python)
    wanted = f"{python}\0{version}\0{requirements.read_text(encoding='utf-8')}"
    folder = places.ENVIRONMENTS_DIR / hashlib.sha256(wanted.encode()).hexdigest()[:10]
    if (folder / _WHOLE).exists() and (folder / "bin/python").exists():
        return folder
    machine.remove(folder)
    machine.run(python, "-I", "-m", "venv", folder)
    offline = ("--no-index", "--find-links", wheels) if wheels else ()
    pip = (
        folder / "bin/python",
        "-m",
        "pip",
        "--quiet",
        "--disable-pip-version-check",
        "--no-input",
    )
    machine.run(
        *(*pip, "install", "--no-compile", *offline, "--requirement", requirements), env=_proxies()
    )
    _compile(machine, folder / "bin/python", folder)
    if not machine.is_dry_run:
        _mark_whole(folder)
    return folder


def _mark_whole(folder: Path) -> None:
    """Record that a folder is complete. A power cut must not leave the mark beside empty files."""
    os.sync()
    (folder / _WHOLE).touch()


def _compile(machine: Machine, python: Path, folder: Path) -> None:
    """Compile all modules, on all cores: no account can write there later, so every start would compile."""
    machine.run(python, "-m", "compileall", "-q", "-j", "0", folder)


def require_python(machine: Machine, python: str) -> str:
    """Return a Python's version. Raises `InstallError` if it is too old, or lacks virtual environments."""
    if machine.is_dry_run and not Path(python).exists():
        return ""
    wanted = "import sys, venv, ensurepip; print(sys.version); sys.exit(sys.version_info < (3, 11))"
    try:
        return machine.ask(python, "-I", "-c", wanted)
    except CommandError as error:
        raise InstallError(
            f"{python} is not a Python 3.11 or newer that can make virtual environments.",
            "Install it (apt install python3-venv), or name another one: --python /usr/local/bin/python3.12",
        ) from error


def switch(machine: Machine, release: Release) -> None:
    """Make a release the current one by one rename, and remember the previous one."""
    before = current()
    if before and before != release:
        machine.link(places.PREVIOUS, f"releases/{before.name}")
    machine.link(places.CURRENT, f"releases/{release.name}")


def remove_old(machine: Machine) -> None:
    """Remove the oldest releases beyond those that are kept."""
    needed = {found.name for found in (current(), previous()) if found}
    try:
        others = [path for path in places.RELEASES_DIR.iterdir() if path.name not in needed]
    except FileNotFoundError:  # a dry run
        return
    others.sort(key=lambda path: path.stat().st_mtime, reverse=True)
    for path in others[max(0, KEPT - len(needed)) :]:
        machine.remove(path)
    used = {path.resolve() for path in places.RELEASES_DIR.glob("*/.venv")}
    for folder in places.ENVIRONMENTS_DIR.iterdir():
        if folder.resolve() not in used:
            machine.remove(folder)


def _version(source: Path) -> str:
    for line in (source / "hostops/__init__.py").read_text(encoding="utf-8").splitlines():
        if line.startswith("__version__"):
            return line.split('"')[1]
    raise InstallError(f"{source}/hostops/__init__.py names no version.")


def _files(source: Path) -> Iterator[Path]:
    """Yield the files of the product in a stable order."""
    for part in PARTS:
        top = source / part
        if top.is_file():
            yield top
            continue
        for folder, names, files in os.walk(top):
            names[:] = sorted(name for name in names if name != "__pycache__")
            yield from (Path(folder, name) for name in sorted(files))


def _copy(source: Path, target: Path) -> None:
    """Copy the files of the product, readable for everybody whatever the modes in the clone."""
    for path in _files(source):
        copy = target / path.relative_to(source)
        for folder in reversed([copy.parent, *copy.parent.parents]):
            if folder.is_relative_to(target) and not folder.exists():
                folder.mkdir(mode=0o755)
        shutil.copyfile(path, copy)
        copy.chmod(0o755 if path.stat().st_mode & 0o100 else 0o644)


def _proxies() -> dict[str, str]:
    names = (
        "http_proxy",
        "https_proxy",
        "no_proxy",
        "HTTPS_PROXY",
        "HTTP_PROXY",
        "NO_PROXY",
        "PIP_INDEX_URL",
    )
    return {name: os.environ[name] for name in names if name in os.environ}
