"""The machine to install on: all commands and changes go through here, and a dry run makes none."""

import contextlib
import grp
import os
import pwd
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from deploy.installer.errors import CommandError, InstallError

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_LAST_LINES = 15


class Machine:
    """This machine. With `is_dry_run` it only says what would be changed; reading is done anyway."""

    def __init__(self, *, is_dry_run: bool, say: Callable[[str], None]) -> None:
        self.is_dry_run = is_dry_run
        self._say = say

    # --- Commands ---------------------------------------------------------------------------------

    def run(
        self,
        *argv: str | Path,
        given: str = "",
        env: Mapping[str, str] | None = None,
    ) -> str:
        """Run a command that changes something, and return its output. Raises `CommandError`.

        `given` is the command's input, and is never shown.
        """
        if self.is_dry_run:
            self._say(f"would run: {' '.join(map(str, argv))}")
            return ""
        return self._run(argv, given=given, env=env)

    def ask(self, *argv: str | Path, codes: Sequence[int] = (0,)) -> str:
        """Run a command that only reads, and return its output. Raises `CommandError` for other exit codes."""
        return self._run(argv, codes=codes)

    def succeeds(self, *argv: str | Path) -> bool:
        """Return whether a command that only reads succeeds."""
        try:
            self.ask(*argv)
        except CommandError:
            return False
        return True

    def _run(
        self,
        argv: Sequence[str | Path],
        *,
        given: str = "",
        env: Mapping[str, str] | None = None,
        codes: Sequence[int] = (0,),
    ) -> str:
        words = [str(word) for word in argv]
        # Not this process's environment: commands have to behave the same for every caller.
        environment = {"PATH": _PATH, "LANG": "C.UTF-8", "HOME": "/root", **(env or {})}
        try:
            process = subprocess.Popen(
                words,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                env=environment,
                cwd="/",
            )
        except OSError as error:
            raise CommandError(words, 127, f"{words[0]}: {error.strerror}") from error
        with process:
            try:
                output, _ = process.communicate(given)
            except BaseException:
                # It may end in order, as apt-get with a package half installed; subprocess.run would kill it.
                process.terminate()
                process.communicate()
                raise
        if process.returncode not in codes:
            lines = output.splitlines(keepends=True)
            raise CommandError(words, process.returncode, "".join(lines[-_LAST_LINES:]))
        return output

    # --- Files ------------------------------------------------------------------------------------

    def write(
        self, path: Path, text: str, *, mode: int = 0o644, owner: str = "root", group: str = "root"
    ) -> bool:
        """Give the file at `path` this text, mode and owner, atomically; return whether its text changed."""
        try:
            is_same = path.read_bytes() == text.encode()
        except (FileNotFoundError, NotADirectoryError):
            is_same = False
        if self.is_dry_run:
            if not is_same:
                self._say(f"would write: {path}")
            return not is_same
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.new")
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(descriptor, "w", encoding="utf-8") as file:  # noqa: PTH123 - a descriptor
            file.write(text)
            os.fchown(file.fileno(), pwd.getpwnam(owner).pw_uid, grp.getgrnam(group).gr_gid)
            os.fchmod(file.fileno(), mode)
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(path)
        return not is_same

    def make_folder(self, path: Path, mode: int = 0o755) -> None:
        """Make a folder that root owns."""
        if self.is_dry_run:
            if not path.is_dir():
                self._say(f"would make: {path}")
            return
        path.mkdir(parents=True, exist_ok=True)
        path.chmod(mode)

    def link(self, path: Path, target: str) -> None:
        """Make `path` a link to `target` by one rename: at any time it leads to the old or the new target."""
        if path.is_symlink() and str(path.readlink()) == target:
            return
        if self.is_dry_run:
            self._say(f"would link: {path} → {target}")
            return
        if path.exists() and not path.is_symlink():
            raise InstallError(
                f"{path} is there already, and is no link.", f"Move it away: mv {path} {path}.old"
            )
        temporary = path.with_name(f".{path.name}.new")
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()
        temporary.symlink_to(target)
        temporary.rename(path)

    def remove(self, path: Path) -> None:
        """Remove a file, a link, or a folder with everything in it; it may be missing."""
        if not path.is_symlink() and not path.exists():
            return
        if self.is_dry_run:
            self._say(f"would remove: {path}")
        elif path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
