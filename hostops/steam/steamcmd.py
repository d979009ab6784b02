"""Runs SteamCMD to install or update the game in a folder, and explains in plain words what goes
wrong.

Finding and fetching SteamCMD is here as well; what becomes of the folder is not.
"""

import contextlib
import re
import shutil
import stat
import sys
import tarfile
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hostops.callbacks import Callbacks
from hostops.errors import CommandError, HostError
from hostops.instances.releases import REQUIRED_FILES
from hostops.layout import HostLayout
from hostops.linux.files import make_dir, remove_tree, sync_dir
from hostops.linux.namespaces import EXIT_FAILED
from hostops.linux.process import run
from hostops.specs import GAME_APP_ID, SteamAccount
from hostops.steam.staging import STEAM_DIR_NAME, InstallFolder

DOWNLOAD_URL = "https://steamcdn-a.akamaihd.net/client/installer/steamcmd_linux.tar.gz"
SIMULATOR_PATH = Path(__file__).resolve().parents[1] / "simulator" / "steamcmd.py"

MAX_TRIES = 3
"""How often one step is tried when Steam answers with something that is known to pass."""

PROGRESS_LINE_SECONDS = 2.0
"""Progress lines are logged at most this often; the progress itself is always reported."""

_RETRY_SECONDS = 2.0
_TIMEOUT_SECONDS = 30
_FULLY_INSTALLED = 4  # the one bit that StateFlags has when nothing is left to do
EXIT_UPDATED_ITSELF = 42
_SCRIPT_PREFIX = ".steamcmd-login-"

# ` Update state (0x61) downloading, progress: 12.34 (1234 / 10000)`
_UPDATE_PROGRESS = re.compile(
    r"Update state \(0x[0-9a-fA-F]+\) (?P<state>[a-z ]+), progress: (?P<percent>[0-9.]+) \("
)
# `[ 12%] Downloading update (1,234 of 10,000 KB)...`, of SteamCMD itself; `[----] …` has no progress
_SELF_UPDATE_PROGRESS = re.compile(r"\[ *(?P<percent>[0-9]+)%\] ")
_SUCCESS = re.compile(rf"Success! App '{GAME_APP_ID}' (fully installed|already up to date)")


@dataclass(frozen=True)
class Explanation:
    """What a line of SteamCMD's output, or its exit code, means for people."""

    pattern: str
    text: str
    exit_code: int | None = None
    is_transient: bool = False
    needs_windows_first: bool = False


# States and texts as SteamCMD's users report them: Valve documents none. The first that fits counts.
EXPLANATIONS = (
    Explanation(
        rf"Failed to install app '{GAME_APP_ID}' \(Missing configuration\)",
        "Steam did not hand out the game's configuration, which mostly passes: try again in some minutes.",
        is_transient=True,
        needs_windows_first=True,
    ),
    Explanation(
        rf"Failed to install app '{GAME_APP_ID}' \(Invalid platform\)",
        "Steam refuses the Linux server to anonymous users until the Windows files have been installed "
        "once. That was tried and did not help: remove the folder `staging` and install again.",
        needs_windows_first=True,
    ),
    Explanation(
        rf"Failed to install app '{GAME_APP_ID}' \(No subscription\)",
        "Steam refuses the game to the anonymous user: try again later, as Valve has changed this before.",
    ),
    Explanation(
        r"state is 0x2[01]2 after update job",
        "The disk is full: free some space (the game needs about 12 GB), then install again. "
        "What has been downloaded is kept.",
    ),
    Explanation(
        r"state is 0x[46]02 after update job",
        "The connection to Steam's download servers failed: check the network, then install again. "
        "What has been downloaded is kept.",
    ),
    Explanation(
        r"state is 0x606 after update job",
        "SteamCMD could not write to the disk: check its space, its health and the folder's owner, "
        "then install again.",
    ),
    Explanation(
        r"state is 0x626 after update job",
        "Files are missing on Steam's side or on the disk: install again.",
    ),
    Explanation(
        r"state is 0x6[aA]6 after update job",
        "Files are damaged: check the disk, then install again. SteamCMD will repair them.",
    ),
    Explanation(
        r"state is 0x[0-9a-fA-F]+ after update job",
        "SteamCMD gave up half-way: install again. What has been downloaded is kept.",
    ),
    Explanation(
        r"Timed out waiting for AppInfo update|Failed to request AppInfo update",
        "Steam did not answer a request for the game's data: try again in some minutes.",
        exit_code=1,
    ),
    Explanation(
        r"Rate Limit Exceeded",
        "Steam refuses more logins from this address for now: wait half an hour, then install again.",
    ),
    Explanation(
        r"Invalid Password|password check for AppInfo|Cached credentials not found",
        "Steam does not know this account with this password: check STEAM_ACCOUNT and its password.",
    ),
    Explanation(
        r"(?i)steam guard|two-factor|account logon denied|invalid login auth code",
        "Steam asks for a Steam Guard code, which nobody is there to type: log in once by hand as the "
        "worker's user and with its HOME, or use an account without Steam Guard.",
    ),
    Explanation(
        r"\bFAILED \(|\bFAILED login|Login Failure",
        "The login to Steam failed: check that this host reaches the internet, then install again.",
        exit_code=5,
    ),
    Explanation(
        r"linux32/steamcmd: (No such file or directory|cannot execute)",
        "SteamCMD is a 32-bit program and this host cannot run those. On Debian or Ubuntu: "
        "dpkg --add-architecture i386 && apt-get update && "
        "apt-get install libc6:i386 lib32gcc-s1 lib32stdc++6.",
        exit_code=127,
    ),
    Explanation(r"(?!)", "SteamCMD could not install the game: install again.", exit_code=8),
    Explanation(
        r"(?!)",
        "The installed release could not be mounted for the update: the line above says why, and doctor "
        "what to do.",
        exit_code=EXIT_FAILED,
    ),
)


@dataclass(frozen=True)
class Manifest:
    """What Steam's manifest in an install folder says: the build, and whether it is whole."""

    build_id: str
    is_fully_installed: bool


@dataclass(frozen=True)
class SteamCmd:
    """SteamCMD as it is run on this host."""

    command: tuple[str, ...]
    environment: Mapping[str, str]
    account: SteamAccount | None = None

    def install(self, folder: InstallFolder, lock: int, callbacks: Callbacks) -> str:
        """Install or update the game in a folder and return its build id.

        `lock` is the descriptor of the host's lock, which SteamCMD inherits. Stopped at any point,
        the next call goes on from what is in the folder. Raises CommandError or HostError,
        explained, if the folder does not hold the whole Linux server afterwards.
        """
        manifest = read_manifest(folder)
        # An anonymous first install of the Linux files alone is refused; an owner's is not.
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
    ) -> "Output":
        """Run one update, again where that helps.

        Raises if it fails, but not for what the Windows step may cure unless this is the last word.
        """
        password = read_password(self.account) if self.account else ""
        commands = (
            ("@sSteamCmdForcePlatformType", platform),
            ("force_install_dir", str(folder.install_dir)),
            ("login", self.account.name if self.account else "anonymous"),
            ("app_update", str(GAME_APP_ID), "validate"),
            ("quit",),
        )
        for tries_left in reversed(range(MAX_TRIES)):
            callbacks.stage(f"Asking Steam for the {platform.capitalize()} files")
            output = Output(callbacks, password)
            argv, exit_code = self.run_commands(
                commands, lock, output, callbacks, folder=folder, password=password
            )
            if output.is_success:
                if exit_code:
                    callbacks.warn(
                        f"SteamCMD reported success and then ended with exit code {exit_code}."
                    )
                return output
            explanation = output.explanation or explain_exit(exit_code)
            if exit_code == EXIT_UPDATED_ITSELF and tries_left:
                callbacks.say("SteamCMD has updated itself and is run again.")
            elif explanation and explanation.is_transient and tries_left:
                callbacks.warn(f"{explanation.text} Trying again, {tries_left} more times at most.")
                callbacks.cancel.wait(_RETRY_SECONDS)
            elif explanation and explanation.needs_windows_first and not is_last_word:
                callbacks.warn(
                    "Steam refuses the Linux files alone: asking for the Windows files first."
                )
                return output
            else:
                raise failure(argv, exit_code, explanation)
        raise AssertionError("the last try returns or raises")

    def run_commands(
        self,
        commands: Sequence[Sequence[str]],
        lock: int,
        output: "Output",
        callbacks: Callbacks,
        *,
        folder: InstallFolder | None = None,
        password: str = "",
    ) -> tuple[list[str], int]:
        """Have SteamCMD carry out `commands`, where it sees `folder`; return the command and its exit code."""
        with self._arguments(commands, password) as arguments:
            argv = [*self.command, *arguments]
            if folder is not None:
                argv = folder.command(argv)
            return argv, self._run(argv, lock, output, callbacks)

    @contextlib.contextmanager
    def _arguments(self, commands: Sequence[Sequence[str]], password: str) -> Iterator[list[str]]:
        """Yield the arguments that make SteamCMD carry out `commands`.

        A password does not go into the arguments, which every user of the host can read, but with
        the commands into a file that only we can read, and that is gone afterwards.
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
                file.write(_script(commands, password))
            yield ["+runscript", path]
        finally:
            Path(path).unlink(missing_ok=True)

    def _run(self, argv: Sequence[str], lock: int, output: "Output", callbacks: Callbacks) -> int:
        try:
            run(
                argv,
                environment=self.environment,
                on_line=output.take_line,
                cancel=callbacks.cancel,
                # Through a pipe, SteamCMD says nothing until it ends.
                use_pty=True,
                pass_fds=(lock,),
            )
        except CommandError as error:
            return error.returncode
        return 0


def read_manifest(folder: InstallFolder) -> Manifest | None:
    """Read Steam's manifest of the game, in Valve's KeyValues; None if there is none or it is cut."""
    path = folder.find(f"{STEAM_DIR_NAME}/appmanifest_{GAME_APP_ID}.acf")
    if path is None:
        return None
    text = path.read_text(encoding="utf-8", errors="replace")
    build_id = re.search(r'"buildid"\s+"([0-9]+)"', text)
    flags = re.search(r'"StateFlags"\s+"([0-9]+)"', text)
    if build_id is None or flags is None:
        return None
    return Manifest(build_id.group(1), int(flags.group(1)) == _FULLY_INSTALLED)


def require_installed(folder: InstallFolder) -> str:
    """Return the build id of a folder that holds the whole Linux server; HostError if it does not."""
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
    """Remove the scripts with a password that a SteamCMD whose caller was killed has left behind."""
    for path in home_dir.glob(f"{_SCRIPT_PREFIX}*"):
        path.unlink(missing_ok=True)


def read_password(account: SteamAccount) -> str:
    """Return the password of an account, or raise HostError if its file is not for our eyes only."""
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
    # Checked as one that was given at once.
    return SteamAccount(account.name, text).password


def _script(commands: Sequence[Sequence[str]], password: str) -> str:
    lines = ["@ShutdownOnFailedCommand 1", "@NoPromptForPassword 1"]
    for name, *values in commands:
        secret = [password] if name == "login" and password else []
        lines.append(" ".join([name, *(f'"{value}"' for value in (*values, *secret))]))
    return "\n".join(lines) + "\n"


def find(layout: HostLayout) -> tuple[str, ...] | None:
    """Return the command that runs SteamCMD on this host, or None if it has to be fetched."""
    own = layout.steamcmd_dir / "steamcmd.sh"
    if own.is_file():
        return (str(own),)
    # Debian's package puts it where the PATH of services does not look.
    found = shutil.which("steamcmd") or shutil.which("/usr/games/steamcmd")
    return (found,) if found else None


def find_simulator() -> tuple[str, ...]:
    """Return the command that runs the stand-in for SteamCMD."""
    return (sys.executable, "-I", str(SIMULATOR_PATH))


def fetch(layout: HostLayout, callbacks: Callbacks, url: str = DOWNLOAD_URL) -> tuple[str, ...]:
    """Download Valve's SteamCMD to the host's own folder, which appears only when whole."""
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


class Output:
    """Follows the output of one run: hands it on, reports progress, and remembers what it means."""

    def __init__(self, callbacks: Callbacks, secret: str = "") -> None:
        self._secret = secret
        self.is_success = False
        self.explanation: Explanation | None = None
        self._callbacks = callbacks
        self._progress: tuple[str, int] | None = None
        self._progress_line_at = 0.0

    def take_line(self, stream: str, line: str) -> None:
        """Take one line; called from two threads, but only stdout carries progress."""
        if self._secret:
            line = line.replace(self._secret, "[masked]")
        progress = _parse_progress(line)
        if progress is None:
            self._callbacks.on_line(stream, line)
            self.is_success = self.is_success or _SUCCESS.search(line) is not None
            self.explanation = self.explanation or _explain_line(line)
            return
        is_new_state = self._progress is None or progress[0] != self._progress[0]
        if progress != self._progress:
            self._callbacks.stage(*progress)
        self._progress = progress
        now = time.monotonic()
        if is_new_state or now - self._progress_line_at >= PROGRESS_LINE_SECONDS:
            self._callbacks.on_line(stream, line)
            self._progress_line_at = now


def _parse_progress(line: str) -> tuple[str, int] | None:
    if match := _UPDATE_PROGRESS.search(line):
        return match["state"].capitalize(), min(100, int(float(match["percent"])))
    if match := _SELF_UPDATE_PROGRESS.match(line):
        return "Updating SteamCMD", min(100, int(match["percent"]))
    return None


def _explain_line(line: str) -> Explanation | None:
    return next((known for known in EXPLANATIONS if re.search(known.pattern, line)), None)


def explain_exit(exit_code: int) -> Explanation | None:
    """Return what an exit code means where no line of the output said it."""
    if exit_code == 0:
        return None
    return next((known for known in EXPLANATIONS if known.exit_code == exit_code), None)


def failure(argv: Sequence[str], exit_code: int, explanation: Explanation | None) -> HostError:
    """Return what is to be raised for a run that failed."""
    if explanation:
        text = explanation.text
    elif exit_code < 0:
        text = f"SteamCMD was ended by signal {-exit_code}: install again, it goes on where it was."
    else:
        text = "SteamCMD ended without reporting success: look at its output above, then install again."
    if exit_code == 0:
        return HostError(text)
    return CommandError(f"{text} (SteamCMD's exit code: {exit_code}.)", argv, exit_code)


def _unpack(archive: tarfile.TarFile, target: Path, callbacks: Callbacks) -> None:
    """Unpack folders and plain files only, and none outside `target`."""
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
