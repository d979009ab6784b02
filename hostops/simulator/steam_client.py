"""What the stand-in for SteamCMD does, which `steamcmd` starts: it installs the simulated game.

It prints what SteamCMD prints, ends with the exit codes SteamCMD ends with, and can be killed at any point and
taken up again. Nothing here needs `dataclasses`, whose import would take a fifth of the time of a start.
"""

import errno
import os
import re
import resource
import shlex
import shutil
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from hostops.simulator import bootstrap
from hostops.simulator.app_info import app_info_lines
from hostops.simulator.control import ControlError, Section, open_section
from hostops.simulator.game_files import GameFile, game_files, platform_files

APP_ID = "222860"
DEFAULT_BUILD_ID = "19684021"
INSTALL_DIR_NAME = "Left 4 Dead 2 Dedicated Server"

REFUSALS = {
    "missing-configuration": "Missing configuration",
    "invalid-platform": "Invalid platform",
    "no-subscription": "No subscription",
    "unknown-reason": "Content is being moved",
}
"""What is printed instead of an update, by the name of the failure."""

STATES = {
    "disk-full-0x202": "0x202",
    "network-0x402": "0x402",
    "disk-write-0x606": "0x606",
    "missing-files-0x626": "0x626",
    "corrupt-0x6A6": "0x6A6",
}
"""The state in which an update ends half-way, by the name of the failure."""

BREAKS = {
    "disk-write-failure": "Disk write failure",
    "not-enough-disk-space": "Not enough disk space",
}
"""The reason that an update gives when it ends half-way without a state, by the name of the failure."""

KILLS = {"killed": ("Killed", signal.SIGKILL), "segfault": ("Segmentation fault", signal.SIGSEGV)}
"""How an update ends half-way when Valve's script is told of a signal, by the name of the failure."""

OTHER_FAILURES = frozenset(
    {
        "login-failed",
        "rate-limit",
        "app-info-timeout",
        "app-info-missing",
        "app-info-garbled",
        "exit-0-without-success",
        "success-without-manifest",
        "stall",
        "crash",
    }
)
HALF_WAY = (
    BREAKS.keys() | KILLS.keys() | STATES.keys() | {"stall", "crash", "exit-0-without-success"}
)
FAILURES = OTHER_FAILURES | REFUSALS.keys() | HALF_WAY | bootstrap.FAILURES

EXIT_APP_INFO_TIMEOUT = 1
EXIT_BAD_CONTROL = 2
EXIT_LOGIN_FAILED = 5
EXIT_INSTALL_FAILED = 8

DOWNLOAD_LINES = 30
"""Progress lines of a whole download; a smaller one has at most one line for each file."""
LINES_OF_A_RUN = 48
"""What `seconds` is divided by, to get the time from one line to the next."""


GUARDS = ("email", "app", "confirmation")
"""How an account can be protected: a code by mail, one of an app, or a confirmation in that app."""

MAIL_PROMPT = """\
This computer has not been authenticated for your account using Steam Guard.
Please check your email for the message from Steam, and enter the Steam Guard
 code from that message.
You can also enter this code at any time using 'set_steam_guard_code'
 at the console."""
APP_PROMPT = """\
This account is protected by a Steam Guard mobile authenticator.
Enter the current code from your Steam Guard Mobile Authenticator app"""
CONFIRMATION_PROMPT = """\
This account is protected by a Steam Guard mobile authenticator.
Please confirm the login in the Steam Mobile app on your phone."""


class Ended(Exception):  # noqa: N818 - carries an exit code, which need not be an error
    """The program ends here, with `exit_code`."""

    def __init__(self, exit_code: int) -> None:
        super().__init__(exit_code)
        self.exit_code = exit_code


class Settings:
    """What the control file says about SteamCMD."""

    def __init__(self, section: Section) -> None:
        self.build_id = section.text("build_id", DEFAULT_BUILD_ID)
        if not re.fullmatch(r"[1-9][0-9]{0,18}", self.build_id):
            raise ControlError(
                f"{section.path}: steamcmd.build_id is {self.build_id!r}, but must be a number in quotes."
            )
        self.files = section.integer("files", 0)
        self.lines = section.integer("lines", 0)
        self.seconds = section.number("seconds", 4.0)
        self.is_buffered = section.boolean("buffered")
        self.guard = section.text("guard", "")
        if self.guard not in ("", *GUARDS):
            raise ControlError(
                f"{section.path}: steamcmd.guard is {self.guard!r}, but must be one of {', '.join(GUARDS)}."
            )
        self.guard_code = section.text("guard_code", "ABC12")
        fail_times = section.optional_integer("fail_times")
        failures = section.failure_names(FAILURES)
        section.refuse_the_rest()
        self.failure: str | None = None
        if failures:
            run = section.count_run("steamcmd")
            if isinstance(failures, str):
                self.failure = failures if fail_times is None or run < fail_times else None
            elif run < len(failures):
                self.failure = failures[run]


class Manifest(NamedTuple):
    """`steamapps/appmanifest_222860.acf`: what is installed, and whether that is whole (state flags 4)."""

    state_flags: str
    build_id: str
    platform: str
    target_build_id: str = "0"
    size: int = 0

    @staticmethod
    def path(install_dir: Path) -> Path:
        """Return where the manifest of the game installed in `install_dir` is."""
        return install_dir / "steamapps" / f"appmanifest_{APP_ID}.acf"

    @classmethod
    def read(cls, install_dir: Path) -> "Manifest | None":
        """Read the manifest in `install_dir`; None if there is none."""
        try:
            text = cls.path(install_dir).read_text(encoding="utf-8")
        except FileNotFoundError:
            return None
        values = dict(re.findall(r'^\s*"(\w+)"\s+"([^"]*)"$', text, re.MULTILINE))
        return cls(
            state_flags=values.get("StateFlags", "0"),
            build_id=values.get("buildid", "0"),
            platform=values.get("platform_override_source", ""),
            target_build_id=values.get("TargetBuildID", "0"),
        )

    def write(self, install_dir: Path) -> None:
        """Put this manifest in place by one rename."""
        values = {
            "appid": APP_ID,
            "universe": "1",
            "name": INSTALL_DIR_NAME,
            "StateFlags": self.state_flags,
            "installdir": INSTALL_DIR_NAME,
            "LastUpdated": str(int(time.time())),
            "SizeOnDisk": str(self.size),
            "StagingSize": "0",
            "buildid": self.build_id,
            "LastOwner": "0",
            "UpdateResult": "0",
            "BytesToDownload": "0",
            "BytesDownloaded": "0",
            "AutoUpdateBehavior": "0",
            "TargetBuildID": self.target_build_id,
        }
        lines = [f'\t"{name}"\t\t"{value}"\n' for name, value in values.items()]
        lines.append(
            f'\t"UserConfig"\n\t{{\n\t\t"platform_override_source"\t\t"{self.platform}"\n\t}}\n'
        )
        path = self.path(install_dir)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(path.name + ".tmp")
        temporary.write_text('"AppState"\n{\n' + "".join(lines) + "}\n", encoding="utf-8")
        temporary.replace(path)


class Session:
    """One run of SteamCMD: carries out one command after the other and remembers the last failure."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.exit_code = 0
        self.platform = "linux"
        self.is_logged_in = False
        self.is_anonymous = True
        self.has_app_info = False
        self.may_ask = True
        self.install_dir = Path.home() / "Steam" / "steamapps" / "common" / INSTALL_DIR_NAME
        self._line_seconds = settings.seconds / (LINES_OF_A_RUN + settings.lines)

    def say(self, line: str) -> None:
        """Print a line, after the time that a line takes."""
        if self._line_seconds:
            time.sleep(self._line_seconds)
        print(line)

    def start(self) -> None:
        """Print what SteamCMD prints before the first command."""
        exit_code = bootstrap.start(self.settings.failure, self.say)
        if exit_code is not None:
            raise Ended(exit_code)
        self.say("Steam Console Client (c) Valve Corporation - version 1785186678")
        self.say("-- type 'quit' to exit --")
        self.say("Loading Steam API...OK")
        print()

    def execute(self, name: str, arguments: Sequence[str]) -> None:
        """Carry out one command; raises Ended when the program is to end."""
        if name in ("quit", "exit"):
            raise Ended(self.exit_code)
        if name == "@ssteamcmdforceplatformtype":
            self._force_platform(arguments)
        elif name == "runscript":
            for line in Path(arguments[0]).read_text(encoding="utf-8").splitlines():
                command, *values = shlex.split(line) or [""]
                if command:
                    self.execute(command.lower(), values)
        elif name == "force_install_dir":
            self._force_install_dir(arguments)
        elif name == "login":
            self._login(arguments)
        elif name == "app_info_update":
            self._app_info_update()
        elif name == "app_info_print":
            self._app_info_print(arguments)
        elif name == "@nopromptforpassword":
            self.may_ask = list(arguments) == ["0"]
        elif name.startswith("@"):
            pass
        elif name == "app_update":
            try:
                code = self._app_update(arguments)
            except OSError as error:
                # What the real one says when the disk is full or refuses to be written to.
                is_full = error.errno in (errno.ENOSPC, errno.EDQUOT)
                print(f"[simulator] {error}")
                print(
                    f"Error! App '{APP_ID}' state is {'0x202' if is_full else '0x606'} after update job."
                )
                code = EXIT_INSTALL_FAILED
            self.exit_code = code or self.exit_code
        else:
            self.say(f"Command not found: {name}")

    def _force_platform(self, arguments: Sequence[str]) -> None:
        if list(arguments) not in (["windows"], ["linux"]):
            self.say(f'Unknown platform "{" ".join(arguments)}": must be windows or linux')
            self.exit_code = EXIT_INSTALL_FAILED
            return
        self.platform = arguments[0]
        self.say(f'"@sSteamCmdForcePlatformType" = "{self.platform}"')

    def _force_install_dir(self, arguments: Sequence[str]) -> None:
        if self.is_logged_in:
            self.say("Please use force_install_dir before logon!")
        elif arguments:
            self.install_dir = Path(arguments[0]).resolve()

    def _login(self, arguments: Sequence[str]) -> None:
        user = arguments[0] if arguments else "anonymous"
        self.is_anonymous = user == "anonymous"
        attempt = (
            "Connecting anonymously to Steam Public..."
            if self.is_anonymous
            else f"Logging in user '{user}' to Steam Public..."
        )
        if self.settings.failure == "login-failed":
            reason = "No Connection" if self.is_anonymous else "Invalid Password"
            self.say(f"{attempt}FAILED ({reason})")
            raise Ended(EXIT_LOGIN_FAILED)
        if self.settings.failure == "rate-limit":
            self.say(f"{attempt}ERROR (Rate Limit Exceeded)")
            raise Ended(EXIT_LOGIN_FAILED)
        if self.settings.guard and not self.is_anonymous:
            attempt = self._pass_guard(user, arguments[1:], attempt)
        self.say(f"{attempt}OK")
        self.say("Waiting for client config...OK")
        self.say("Waiting for user info...OK")
        self.is_logged_in = True

    def _pass_guard(self, user: str, password: Sequence[str], attempt: str) -> str:
        """Ask for what protects the account, unless its login is kept; return how the login's line begins."""
        kept = Path.home() / "Steam" / "config" / "simulated-logins"
        if kept.is_file() and user in kept.read_text(encoding="utf-8").splitlines():
            return attempt
        if not password:
            if self.may_ask:
                self._ask("password: ")
            self.say(f"{attempt}FAILED (Cached credentials not found)")
            raise Ended(EXIT_LOGIN_FAILED)
        self.say(attempt)
        if self.settings.guard == "confirmation":
            self.say(CONFIRMATION_PROMPT)
            attempt = "Waiting for confirmation..."
        else:
            is_mail = self.settings.guard == "email"
            self.say(MAIL_PROMPT if is_mail else APP_PROMPT)
            code = self._ask("Steam Guard code:" if is_mail else "Two-factor code:")
            if code != self.settings.guard_code:
                reason = "Invalid Login Auth Code" if is_mail else "Two-factor code mismatch"
                self.say(f"FAILED ({reason if code else 'Account Logon Denied'})")
                raise Ended(EXIT_LOGIN_FAILED)
            attempt = f"Logging in user '{user}' to Steam Public..."
        kept.parent.mkdir(parents=True, exist_ok=True)
        with kept.open("a", encoding="utf-8") as file:
            file.write(f"{user}\n")
        return attempt

    def _ask(self, prompt: str) -> str:
        """Read a line that somebody types; empty if nobody can."""
        print(prompt, end="", flush=True)
        return sys.stdin.readline().strip()

    def _app_info_update(self) -> None:
        if self.settings.failure == "app-info-timeout":
            self.say("ERROR! Timed out waiting for AppInfo update.")
            self.exit_code = EXIT_APP_INFO_TIMEOUT
            return
        self.has_app_info = self.is_logged_in and self.settings.failure != "app-info-missing"

    def _app_info_print(self, arguments: Sequence[str]) -> None:
        app_id = arguments[0] if arguments else ""
        if app_id != APP_ID or not self.has_app_info:
            self.say(f"No app info for AppID {app_id} found, requesting...")
            return
        build_id = self.settings.build_id
        self.say(f"AppID : {APP_ID}, change number : {build_id}/0, last change : {time.ctime()}")
        is_garbled = self.settings.failure == "app-info-garbled"
        print("\n".join(app_info_lines(APP_ID, build_id, is_garbled=is_garbled)))

    def _app_update(self, arguments: Sequence[str]) -> int:
        app_id = arguments[0] if arguments else ""
        failure = self.settings.failure
        if not self.is_logged_in:
            self.say(
                "ERROR! Failed to request AppInfo update, not online or not logged in to Steam."
            )
            return EXIT_INSTALL_FAILED
        if failure == "app-info-timeout":
            self.say("ERROR! Timed out waiting for AppInfo update.")
            return EXIT_APP_INFO_TIMEOUT
        manifest = Manifest.read(self.install_dir)
        refusal = REFUSALS.get(failure or "")
        if app_id != APP_ID:
            refusal = "No subscription"
        elif manifest is None and self.platform == "linux" and self.is_anonymous:
            refusal = refusal or "Invalid platform"
        if refusal:
            self.say(f"ERROR! Failed to install app '{app_id}' ({refusal})")
            return EXIT_INSTALL_FAILED
        return Update(self, manifest, is_validating="validate" in arguments[1:]).run()


class Update:
    """One `app_update`: downloads what is missing beside the game, then commits it into the game."""

    def __init__(self, session: Session, manifest: Manifest | None, *, is_validating: bool) -> None:
        self.session = session
        self.settings = session.settings
        self.root = session.install_dir
        self.downloading = self.root / "steamapps" / "downloading" / APP_ID
        self.manifest = manifest
        self.is_validating = is_validating
        build_id = self.settings.build_id
        # By the name that `steamcmd` was started by: it may be a link that leads to another release later.
        srcds_path = str(Path(__file__).absolute().with_name("srcds.py"))
        other = "linux" if session.platform == "windows" else "windows"
        self.surplus = platform_files(other, build_id)
        self.files = [
            *game_files(build_id, self.settings.files),
            *platform_files(session.platform, build_id, sys.executable, srcds_path),
        ]
        self.total = sum(file.length for file in self.files)

    def run(self) -> int:
        """Bring the game to the wanted build and platform; return the exit code."""
        known = self.manifest
        is_current = (
            known is not None
            and known.state_flags == "4"
            and known.build_id == self.settings.build_id
            and known.platform == self.session.platform
        )
        failure = self.settings.failure
        if is_current and not self.is_validating and failure is None:
            self.session.say(f"Success! App '{APP_ID}' already up to date.")
            return 0
        self._write_manifest("1026", known.build_id if known else "0")
        self._say_state("0x3", "reconfiguring", 0, 0)
        if known and self.is_validating:
            for done in (self.total // 3, self.total):
                self._say_state("0x5", "validating", done, self.total)
        outdated = [file for file in self.files if not file.is_whole(self.root)]
        if not self._download(outdated):
            return self._fail_half_way()
        self._commit(outdated)
        if failure == "success-without-manifest":
            Manifest.path(self.root).unlink()
        else:
            self._write_manifest("4", self.settings.build_id)
        self.session.say(f"Success! App '{APP_ID}' fully installed.")
        return 0

    def _write_manifest(self, state_flags: str, build_id: str) -> None:
        is_whole = state_flags == "4"
        Manifest(
            state_flags=state_flags,
            build_id=build_id,
            platform=self.session.platform,
            target_build_id="0" if is_whole else self.settings.build_id,
            size=self.total if is_whole else 0,
        ).write(self.root)

    def _download(self, outdated: list[GameFile]) -> bool:
        """Write the outdated files beside the game; return False if the run is to fail half-way."""
        total = sum(file.length for file in outdated)
        missing = [file for file in outdated if not file.is_whole(self.downloading)]
        done = total - sum(file.length for file in missing)
        failure = self.settings.failure
        is_failing = failure in HALF_WAY
        if is_failing:
            missing = missing[: len(missing) // 2]
        if outdated:
            self._say_state("0x11", "preallocating", total, total)
        for part in _parts(missing, DOWNLOAD_LINES):
            for file in part:
                file.write(self.downloading)
            done += sum(file.length for file in part)
            self._say_state("0x61", "downloading", done, total)
        for _ in range(self.settings.lines):
            self._say_state("0x61", "downloading", done, total)
        if failure == "stall":
            self._stall(done, total)
        return not is_failing

    def _commit(self, outdated: list[GameFile]) -> None:
        """Move what was downloaded into the game, rewriting patched files in place, as SteamCMD does."""
        total = sum(file.length for file in outdated)
        if outdated:
            self._say_state("0x81", "verifying update", total // 2, total)
            self._say_state("0x81", "verifying update", total, total)
        done = 0
        for part in _parts(outdated, 5):
            for file in part:
                source, target = self.downloading / file.path, self.root / file.path
                if file.is_patched and target.exists():
                    file.write(self.root)
                    source.unlink(missing_ok=True)
                else:
                    target.parent.mkdir(parents=True, exist_ok=True)
                    source.replace(target)
                done += file.length
            self._say_state("0x101", "committing", done, total)
        for file in self.surplus:
            (self.root / file.path).unlink(missing_ok=True)
        # Not just empty directories: a run that was killed may have left a file it had already used.
        if self.downloading.exists():
            shutil.rmtree(self.downloading)

    def _fail_half_way(self) -> int:
        failure = self.settings.failure or ""
        if failure == "exit-0-without-success":
            return 0
        if failure == "crash":
            sys.stdout.flush()
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            os.kill(os.getpid(), signal.SIGSEGV)
        if failure in KILLS:
            sys.stdout.flush()
            return bootstrap.end_as_killed(*KILLS[failure])
        if failure in BREAKS:
            self.session.say(f"ERROR! Failed to install app '{APP_ID}' ({BREAKS[failure]})")
            return EXIT_INSTALL_FAILED
        self.session.say(f"Error! App '{APP_ID}' state is {STATES[failure]} after update job.")
        return EXIT_INSTALL_FAILED

    def _stall(self, done: int, total: int) -> None:
        """Repeat one line until somebody ends the process."""
        while True:
            time.sleep(0.1)
            self._say_state("0x61", "downloading", done, total)

    def _say_state(self, code: str, name: str, done: int, total: int) -> None:
        percent = 100 * done / total if total else 0
        self.session.say(
            f" Update state ({code}) {name}, progress: {percent:.2f} ({done} / {total})"
        )


def _parts(files: list[GameFile], count: int) -> Iterator[list[GameFile]]:
    """Divide `files` into at most `count` parts of about the same length."""
    size = max(1, -(-len(files) // count))
    return (files[start : start + size] for start in range(0, len(files), size))


def parse_commands(argv: Sequence[str]) -> list[tuple[str, list[str]]]:
    """Split a command line at each argument that starts with `+`: the command, and its own arguments."""
    commands: list[tuple[str, list[str]]] = []
    for argument in argv:
        if argument.startswith("+"):
            commands.append((argument[1:].lower(), []))
        elif commands:
            commands[-1][1].append(argument)
    return commands


def main(argv: Sequence[str]) -> int:
    """Run SteamCMD with the arguments `argv`; return its exit code."""
    for number in (signal.SIGINT, signal.SIGPIPE):
        signal.signal(number, signal.SIG_DFL)
    try:
        settings = Settings(open_section("steamcmd"))
    except ControlError as error:
        print(error, file=sys.stderr)
        return EXIT_BAD_CONTROL
    if not settings.is_buffered:
        sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    session = Session(settings)
    try:
        session.start()
        for name, arguments in parse_commands(argv):
            session.execute(name, arguments)
        # Without +quit SteamCMD goes on asking.
        while True:
            print("\nSteam>", end="", flush=True)
            line = sys.stdin.readline() or "quit"
            if line.strip():
                name, *arguments = line.split()
                session.execute(name.lower(), arguments)
    except Ended as end:
        return end.exit_code
    except OSError as error:
        print(f"The simulator of SteamCMD cannot go on: {error}.", file=sys.stderr)
        return EXIT_APP_INFO_TIMEOUT
