"""Runs SteamCMD to install or update the game in a folder, repeatedly where that helps.

Also finds and fetches SteamCMD. `run_output` and `explanations` interpret its output; other modules handle the
resulting folder.
"""

import contextlib
import re
import shutil
import stat
import sys
import tarfile
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hostops.callbacks import Callbacks
from hostops.errors import CommandError, HostError
from hostops.instances.releases import REQUIRED_FILES
from hostops.layout import HostLayout, find_code_dir
from hostops.linux.files import make_dir, remove_tree, sync_dir
from hostops.linux.process import run
from hostops.specs import GAME_APP_ID, SteamAccount
from hostops.steam import bootstrap_log
from hostops.steam.explanations import EXIT_UPDATED_ITSELF, Explanation
from hostops.steam.key_values import find_value
from hostops.steam.run_output import Output
from hostops.steam.silence import PATIENCE, Patience, Silence, SilentError
from hostops.steam.staging import STEAM_DIR_NAME, InstallFolder
from hostops.steam.steam_guard import AskCode, SteamGuard

DOWNLOAD_URL = "https://steamcdn-a.akamaihd.net/client/installer/steamcmd_linux.tar.gz"
SIMULATOR_PATH = find_code_dir() / "hostops" / "simulator" / "steamcmd.py"

MAX_TRIES = 3
"""How often one step is tried when Steam's answer is known to be temporary."""

_RETRY_SECONDS = 2.0
_TIMEOUT_SECONDS = 30
_NUMBER = re.compile(r"[0-9]{1,19}")
_FULLY_INSTALLED = 4  # the only bit in StateFlags when nothing is left to do
_SCRIPT_PREFIX = ".steamcmd-login-"


@dataclass(frozen=True)
class Manifest:
    """The facts in an install folder's Steam manifest: the build, and whether it is complete."""

    build_id: str
    is_fully_installed: bool


@dataclass(frozen=True)
class Run:
    """How one run of SteamCMD ended; `silence` if it was ended because it stopped printing."""

    argv: Sequence[str]
    exit_code: int
    output: Output
    silence: SilentError | None = None

    @property
    def explanation(self) -> Explanation | None:
        """Why it failed, if that is known."""
        return None if self.silence else self.output.explain(self.exit_code)

    @property
    def why_again(self) -> str:
        """Why another run may succeed; empty if it would fail too."""
        if self.silence:
            return str(self.silence)
        if self.exit_code == EXIT_UPDATED_ITSELF:
            return "SteamCMD has updated itself and is run again."
        if self.explanation and self.explanation.is_transient:
            return self.explanation.text
        return ""

    def failure(self, tries: int = 1) -> HostError:
        """Return the error to raise after this many failed runs."""
        if self.silence:
            return HostError(f"{self.silence} It was tried {tries} times.")
        if self.explanation:
            text = self.explanation.text
        elif self.output.last_error:
            text = "SteamCMD failed, and its own words are all that is known of why: look at its output above."
        elif self.exit_code < 0:
            text = f"SteamCMD was ended by signal {-self.exit_code}: install again, it goes on where it was."
        else:
            text = "SteamCMD ended without reporting success: look at its output above, then install again."
        parts = [text, self.output.quoted, f"It was tried {tries} times." if tries > 1 else ""]
        if self.exit_code == 0:
            return HostError(" ".join(filter(None, parts)))
        parts.append(f"(SteamCMD's exit code: {self.exit_code}.)")
        return CommandError(" ".join(filter(None, parts)), self.argv, self.exit_code)


@dataclass(frozen=True)
class SteamCmd:
    """SteamCMD as it runs on this host."""

    command: tuple[str, ...]
    environment: Mapping[str, str]
    account: SteamAccount | None = None
    patience: Patience = PATIENCE
    ask_code: AskCode | None = None
    """Asks people for a Steam Guard code; without it, a login that needs a code fails."""

    def install(self, folder: InstallFolder, lock: int, callbacks: Callbacks) -> str:
        """Install or update the game in a folder and return its build id.

        `lock` is the descriptor of the host's lock, which SteamCMD inherits. If it is interrupted at any
        point, the next call resumes from what is in the folder. Raises CommandError or HostError, with an
        explanation, if the folder does not contain the complete Linux server afterwards.
        """
        manifest = read_manifest(folder)
        # Steam refuses an anonymous first install of only the Linux files, but not an owner's.
        needs_windows_first = self.account is None and (
            manifest is None or not manifest.is_fully_installed
        )
        if not needs_windows_first:
            output = self._update(folder, "linux", lock, callbacks, is_last_word=False)
            needs_windows_first = not output.is_success
        if needs_windows_first:
            self._update(folder, "windows", lock, callbacks)
            _require_manifest(folder)
            self._update(folder, "linux", lock, callbacks)
        return require_installed(folder)

    def _update(
        self,
        folder: InstallFolder,
        platform: str,
        lock: int,
        callbacks: Callbacks,
        *,
        is_last_word: bool = True,
    ) -> Output:
        """Run one update, repeatedly where that helps.

        Raises if it fails. Unless `is_last_word`, it does not raise for what the Windows step may cure.
        """
        password = read_password(self.account) if self.account else ""
        commands = (
            ("@sSteamCmdForcePlatformType", platform),
            ("force_install_dir", str(folder.install_dir)),
            ("login", self.account.name if self.account else "anonymous"),
            ("app_update", str(GAME_APP_ID), "validate"),
            ("quit",),
        )
        guard = (
            SteamGuard(self.account.name, self.ask_code, callbacks)
            if self.account and self.ask_code
            else None
        )
        for tries in range(1, MAX_TRIES + 1):
            callbacks.stage(f"Asking Steam for the {platform.capitalize()} files")
            output = Output(callbacks, password)
            ended = self.run_commands(
                commands, lock, output, callbacks, folder=folder, password=password, guard=guard
            )
            if output.is_success:
                if ended.exit_code:
                    callbacks.warn(
                        f"SteamCMD reported success and then ended with exit code {ended.exit_code}."
                    )
                return output
            if wait_to_try_again(ended, tries, callbacks):
                continue
            if guard and guard.asks_again and tries < MAX_TRIES:
                continue
            if ended.explanation and ended.explanation.needs_windows_first and not is_last_word:
                callbacks.warn(
                    "Steam refuses the Linux files alone: asking for the Windows files first."
                )
                return output
            raise ended.failure(tries)
        raise AssertionError("the last try returns or raises")

    def run_commands(
        self,
        commands: Sequence[Sequence[str]],
        lock: int,
        output: Output,
        callbacks: Callbacks,
        *,
        folder: InstallFolder | None = None,
        password: str = "",
        guard: SteamGuard | None = None,
    ) -> Run:
        """Have SteamCMD execute `commands`, where it sees `folder`; return how that ended.

        `guard` answers its prompts; without one it is told not to ask.

        Raises HostError if it cannot be started, or does nothing but update itself, and OperationCancelled.
        """
        with self._arguments(commands, password, may_ask=guard is not None) as arguments:
            argv = [*self.command, *arguments]
            if folder is not None:
                argv = folder.command(argv)
            ended = self._run(argv, lock, output, callbacks, guard)
        if output.log_dir and output.cause and output.cause.is_in_bootstrap_log:
            home_dir = Path(self.environment["HOME"])
            output.take_notes(bootstrap_log.read_errors(output.log_dir, home_dir))
        return ended

    @contextlib.contextmanager
    def _arguments(
        self, commands: Sequence[Sequence[str]], password: str, *, may_ask: bool
    ) -> Iterator[list[str]]:
        """Yield the arguments that make SteamCMD execute `commands`.

        Every user of the host can read arguments. So a password goes, with the commands, into a file that
        only we can read, and that is removed afterwards.
        """
        remove_scripts(Path(self.environment["HOME"]))
        if self.account is None:
            yield [text for name, *values in commands for text in (f"+{name}", *values)]
            return
        descriptor, path = tempfile.mkstemp(
            prefix=_SCRIPT_PREFIX, suffix=".txt", dir=self.environment["HOME"]
        )
        try:
            with open(descriptor, "w", encoding="utf-8") as file:  # noqa: PTH123 - a descriptor
                file.write(_script(commands, password, may_ask=may_ask))
            yield ["+runscript", path]
        finally:
            Path(path).unlink(missing_ok=True)

    def _run(
        self,
        argv: Sequence[str],
        lock: int,
        output: Output,
        callbacks: Callbacks,
        guard: SteamGuard | None,
    ) -> Run:
        silence = Silence(self.patience, callbacks)

        def take_line(stream: str, line: str) -> None:
            silence.hear(output.clean(line))
            output.take_line(stream, line)
            if guard:
                guard.hear(line)

        def take_prompt(prompt: str) -> str | None:
            answer = guard.answer(prompt, output) if guard else None
            silence.hear("")  # While people are asked for a code, SteamCMD is not the silent one.
            return answer

        try:
            run(
                argv,
                environment=self.environment,
                on_line=take_line,
                on_wait=silence.look,
                on_prompt=take_prompt if guard else None,
                cancel=callbacks.cancel,
                # Through a pipe, SteamCMD prints nothing until it ends.
                use_pty=True,
                pass_fds=(lock,),
            )
        except CommandError as error:
            return Run(argv, error.returncode, output)
        except SilentError as error:
            return Run(argv, 0, output, error)
        return Run(argv, 0, output)


def wait_to_try_again(ended: Run, tries: int, callbacks: Callbacks) -> bool:
    """Return whether another run should follow this one, the `tries`-th; if so, say why, and wait first."""
    tries_left = MAX_TRIES - tries
    why = ended.why_again
    if not why or tries_left <= 0:
        return False
    if ended.exit_code == EXIT_UPDATED_ITSELF:
        callbacks.say(why)
        return True
    callbacks.warn(f"{why} Trying again, {tries_left} more times at most.")
    callbacks.cancel.wait(_RETRY_SECONDS * 3 ** (tries - 1))
    return True


def read_manifest(folder: InstallFolder) -> Manifest | None:
    """Parse Steam's manifest of the game, in Valve's KeyValues; None if there is none or it is truncated."""
    path = folder.find(f"{STEAM_DIR_NAME}/appmanifest_{GAME_APP_ID}.acf")
    if path is None:
        return None
    text = path.read_text(encoding="utf-8", errors="replace")
    build_id = find_value(text, "AppState", "buildid") or ""
    flags = find_value(text, "AppState", "StateFlags") or ""
    if not (_NUMBER.fullmatch(build_id) and _NUMBER.fullmatch(flags)):
        return None
    return Manifest(build_id, int(flags) == _FULLY_INSTALLED)


def require_installed(folder: InstallFolder) -> str:
    """Return the build id of a folder with the complete Linux server; HostError if it is not one."""
    manifest = _require_manifest(folder)
    if any(folder.find(name) is None for name in REQUIRED_FILES):
        raise HostError(
            f"SteamCMD reported success, but {' or '.join(REQUIRED_FILES)} is missing: install again."
        )
    return manifest.build_id


def _require_manifest(folder: InstallFolder) -> Manifest:
    manifest = read_manifest(folder)
    if manifest is None or not manifest.is_fully_installed:
        raise HostError(
            "SteamCMD reported success, but its manifest does not say that the game is fully installed: "
            "install again."
        )
    return manifest


def remove_scripts(home_dir: Path) -> None:
    """Remove the scripts with a password that interrupted runs of SteamCMD have left behind."""
    for path in home_dir.glob(f"{_SCRIPT_PREFIX}*"):
        path.unlink(missing_ok=True)


def read_password(account: SteamAccount) -> str:
    """Return the password of an account, or raise HostError if others can read its file."""
    if account.password_file is None:
        return account.password
    try:
        mode = account.password_file.stat().st_mode
        text = account.password_file.read_text(encoding="utf-8").rstrip("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise HostError(
            f"The password of the Steam account cannot be read: {error}. "
            "Check STEAM_PASSWORD_FILE and whom that file belongs to."
        ) from error
    if stat.S_IMODE(mode) & 0o077:
        raise HostError(
            f"{account.password_file} holds a password and can be read by others: "
            f"chmod 600 {account.password_file}"
        )
    # Validated like a password that was given directly.
    return SteamAccount(account.name, text).password


def _script(commands: Sequence[Sequence[str]], password: str, *, may_ask: bool) -> str:
    lines = ["@ShutdownOnFailedCommand 1", f"@NoPromptForPassword {0 if may_ask else 1}"]
    for name, *values in commands:
        secret = [password] if name == "login" and password else []
        lines.append(" ".join([name, *(f'"{value}"' for value in (*values, *secret))]))
    return "\n".join(lines) + "\n"


def find(layout: HostLayout) -> tuple[str, ...] | None:
    """Return the command that runs SteamCMD on this host, or None if it must be fetched."""
    own = layout.steamcmd_dir / "steamcmd.sh"
    if own.is_file():
        return (str(own),)
    # Debian's package installs it where a service's PATH does not look.
    found = shutil.which("steamcmd") or shutil.which("/usr/games/steamcmd")
    return (found,) if found else None


def find_simulator() -> tuple[str, ...]:
    """Return the command that runs the simulated SteamCMD."""
    return (sys.executable, "-I", str(SIMULATOR_PATH))


def fetch(layout: HostLayout, callbacks: Callbacks, url: str = DOWNLOAD_URL) -> tuple[str, ...]:
    """Download Valve's SteamCMD to the host's own folder, which appears only once it is complete."""
    callbacks.stage("Fetching SteamCMD")
    callbacks.say(f"SteamCMD is not on this host: fetching it from {url}.")
    unpacked = make_dir(layout.root) / ".steamcmd.new"
    remove_tree(unpacked)
    make_dir(unpacked)
    try:
        with (
            urllib.request.urlopen(url, timeout=_TIMEOUT_SECONDS) as response,  # noqa: S310 - our own URL
            tarfile.open(fileobj=response, mode="r|gz") as archive,
        ):
            _unpack(archive, unpacked, callbacks)
    except (urllib.error.URLError, OSError, EOFError, tarfile.TarError) as error:
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        raise HostError(
            f"SteamCMD could not be fetched from {url}: {reason}. "
            "Check the network, or install SteamCMD yourself: "
            f"unpack steamcmd_linux.tar.gz to {layout.steamcmd_dir}, or install Debian's package steamcmd."
        ) from error
    if not (unpacked / "steamcmd.sh").is_file():
        raise HostError(f"What came from {url} is not SteamCMD: it holds no steamcmd.sh.")
    remove_tree(layout.steamcmd_dir)
    unpacked.rename(layout.steamcmd_dir)
    sync_dir(layout.root)
    return (str(layout.steamcmd_dir / "steamcmd.sh"),)


def link_steam_client(layout: HostLayout) -> bool:
    """Put Steam's client library where the game looks for it; return whether it is there."""
    link = layout.home_dir / ".steam" / "sdk32" / "steamclient.so"
    if link.exists():
        return True
    for folder in (
        layout.steamcmd_dir,
        layout.home_dir / ".local/share/Steam/steamcmd",
        layout.home_dir / ".steam/steamcmd",
        layout.home_dir / "Steam",
    ):
        library = folder / "linux32" / "steamclient.so"
        if library.is_file():
            make_dir(link.parent)
            link.unlink(missing_ok=True)
            link.symlink_to(library)
            return True
    return False


def _unpack(archive: tarfile.TarFile, target: Path, callbacks: Callbacks) -> None:
    """Unpack only folders and plain files, and none outside `target`."""
    for member in archive:
        callbacks.cancel.raise_if_cancelled()
        path = Path(member.name)
        if path.is_absolute() or ".." in path.parts or not (member.isreg() or member.isdir()):
            raise tarfile.TarError(f"it contains {member.name!r}, which is not a plain file")
        if member.isdir():
            make_dir(target / path)
            continue
        make_dir((target / path).parent)
        content = archive.extractfile(member)
        if content is None:
            raise tarfile.TarError(f"{member.name!r} cannot be read from it")
        with content, (target / path).open("wb") as file:
            shutil.copyfileobj(content, file)
        (target / path).chmod(member.mode & 0o755)
