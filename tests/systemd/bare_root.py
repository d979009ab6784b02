"""A bare machine: Debian with systemd, and nothing of Saferoom. What is written to it survives its boots."""

import base64
import csv
import hashlib
import io
import subprocess
import sys
import zipfile
from importlib.metadata import Distribution, distributions
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.systemd.sandbox import REPOSITORY, Sandbox

_HIDDEN = ("/root", "/home", "/tmp")


class Disk:
    """What persists of a bare machine; a context manager. In memory: not all file systems take overlays."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __enter__(self) -> Self:
        self.folder.mkdir()
        subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "mode=0755,size=3g", "bare-root", self.folder],
            check=True,
        )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        subprocess.run(["umount", self.folder], check=True)


class BareRoot(Sandbox):
    """One boot of a bare machine. The paths in `reachable` exist there too, besides this machine's own.

    A process with its own /proc, as in system units, does not see the boot ID of this boot.
    """

    def __init__(self, disk: Disk, *reachable: Path, has_own_boot_id: bool = True) -> None:
        super().__init__(disk.folder, has_own_boot_id=has_own_boot_id)
        self._reachable = [str(REPOSITORY), *map(str, reachable)]

    def install(self, *arguments: str, timeout: float = 300) -> str:
        """Run deploy/install, which must succeed, and return its output."""
        return self.root_succeed(f"{REPOSITORY}/deploy/install", *arguments, timeout=timeout)

    def root_succeed(self, *argv: str, timeout: float = 180) -> str:
        """Run a command as root that must succeed, and return its output."""
        done = self.run(*argv, user="root", timeout=timeout)
        assert done.returncode == 0, f"{argv}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def _boot_arguments(self) -> list[str]:
        return ["--disk", str(self._state_dir)]

    def _is_up(self) -> bool:
        state = self.run("systemctl", "is-system-running", user="root").stdout
        return state.strip() in ("running", "degraded")


def find_python() -> str:
    """Return a Python that everybody may use, of the version of the tests', whose packages it gets."""
    name = f"python{sys.version_info.major}.{sys.version_info.minor}"
    for path in (f"/usr/bin/{name}", f"/usr/local/bin/{name}", f"{sys.base_prefix}/bin/{name}"):
        is_hidden = any(Path(path).resolve().is_relative_to(hidden) for hidden in _HIDDEN)
        can = [path, "-I", "-c", "import venv, ensurepip"]
        if Path(path).exists() and not is_hidden and subprocess.run(can).returncode == 0:
            return path
    raise AssertionError(
        f"There is no {name} with venv outside of {_HIDDEN}: apt install python3-venv"
    )


def make_wheels(folder: Path) -> Path:
    """Pack the packages that Saferoom runs on, as they are installed here: no network is needed."""
    folder.mkdir()
    names = {
        line.partition("==")[0].partition("[")[0].lower().replace("_", "-")
        for line in (REPOSITORY / "requirements.txt").read_text().splitlines()
        if "==" in line
    }
    for distribution in distributions(
        path=[str(Path(sys.prefix, "lib", _version_dir(), "site-packages"))]
    ):
        if distribution.metadata["Name"].lower().replace("_", "-") in names:
            _pack(distribution, folder)
    return folder


def _version_dir() -> str:
    return f"python{sys.version_info.major}.{sys.version_info.minor}"


def _pack(distribution: Distribution, folder: Path) -> None:
    name = distribution.metadata["Name"].replace("-", "_")
    tags = [
        line.partition(": ")[2]
        for line in (distribution.read_text("WHEEL") or "").splitlines()
        if line.startswith("Tag: ")
    ]
    record = io.StringIO()
    rows = csv.writer(record, lineterminator="\n")
    path = folder / f"{name}-{distribution.version}-{tags[0]}.whl"
    record_name = ""
    with zipfile.ZipFile(path, "w") as wheel:
        for file in distribution.files or ():
            text = str(file)
            if text.startswith("..") or text.endswith((".pyc", "/INSTALLER", "/REQUESTED")):
                continue
            if text.endswith(".dist-info/RECORD"):
                record_name = text
                continue
            content = Path(str(file.locate())).read_bytes()
            digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=")
            rows.writerow([text, f"sha256={digest.decode()}", len(content)])
            wheel.writestr(text, content)
        rows.writerow([record_name, "", ""])
        wheel.writestr(record_name, record.getvalue())
