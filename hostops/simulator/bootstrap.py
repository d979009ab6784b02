"""What the simulated SteamCMD prints before its first command: its update of itself, and what fails there.

The texts, their order, exit codes and the log beside them are those of Debian's package 0~20180105-5 without a
connection, with a refused one, with others that answer in Steam's place, on a full disk and on one mounted
noexec, except where a line says that users reported it.
"""

import os
import signal
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

EXIT_SELF_UPDATED = 42
EXIT_OFFLINE = 254

CHECKING = "[  0%] Checking for available updates..."
VERIFYING = "[----] Verifying installation..."
NEEDS_TO_BE_ONLINE = (
    "[----] !!! Fatal Error: Steamcmd needs to be online to update.\t "
    "Please confirm your network connection and try again."
)
HOSTS = ("client-download.steampowered.com", "media.steampowered.com")

HTTP_ERRORS = {"offline": 0, "refused": 0, "answered-by-another": 200, "answered-with-403": 403}
"""The HTTP status in SteamCMD's log, by the name of the failure: what it prints is nearly the same for all."""

FAILURES = frozenset(
    {"offline-old", "threads", "silent", "no-exec", "self-update-42", "self-update-endless"}
    | {"no-space-for-itself"}
    | HTTP_ERRORS.keys()
)

# With the path, and the number of the line, of Valve's script.
SHELL_LINE = "{script}: line 38: {text}"
LAST_WORDS = "threadtools.cpp (3294) : Assertion Failed: Illegal termination of worker thread 'Thread(0x0x5817'"


def start(failure: str | None, say: Callable[[str], None]) -> int | None:
    """Print what comes before the first command; return an exit code if it ends there."""
    print("[simulator] This is Saferoom's stand-in for SteamCMD: nothing is downloaded.")
    if failure == "no-exec":
        say_as_shell(f"{script_path().parent}/linux32/steamcmd: Permission denied")
        return 126
    log_dir = Path.home() / "Steam" / "logs"
    log_dir.mkdir(parents=True, exist_ok=True)
    (log_dir / "stderr.txt").touch()
    say(f"Redirecting stderr to '{log_dir / 'stderr.txt'}'")
    say('ILocalize::AddFile() failed to load file "public/steambootstrapper_english.txt".')
    say(f"Logging directory: '{log_dir}'")
    if failure == "no-space-for-itself":
        say(VERIFYING)
        say("[  0%] Downloading Update...")
        say("[  0%] !!! Fatal Error: Steamcmd needs at least 250MB of free disk space to update.")
        say(LAST_WORDS)
        return EXIT_OFFLINE
    say(CHECKING)
    if failure in HTTP_ERRORS:
        return be_offline(failure, log_dir, say)
    if failure in ("self-update-42", "self-update-endless"):
        return update_itself(say, for_ever=failure == "self-update-endless")
    say(VERIFYING)
    log(log_dir, ["Verification complete"])
    if failure == "offline-old":  # as its users report it
        say(
            "[  0%] !!! Fatal Error: Steam needs to be online to update.  "
            "Please confirm your network connection and try again."
        )
        return 7
    if failure == "threads":  # as its users report it
        say(
            "src/tier0/threadtools.cpp (4071) : Probably deadlock or failure waiting for thread to initialize."
        )
        say("Thread failed to initialize")
        say("CWorkThreadPool::StartWorkThread: Thread creation failed.")
        say("Exiting on SPEW_ABORT")
        return 1
    if failure == "silent":
        sys.stdout.flush()
        while True:
            signal.pause()
    return None


def be_offline(failure: str, log_dir: Path, say: Callable[[str], None]) -> int:
    """Print, and log, what SteamCMD does where it gets nothing, or nothing of Steam's, for its update."""
    status = HTTP_ERRORS[failure]
    for step in (VERIFYING, "[  0%] Downloading Update...", CHECKING, NEEDS_TO_BE_ONLINE):
        if status == 200 and step in (VERIFYING, NEEDS_TO_BE_ONLINE):
            say(
                "KeyValues Error: LoadFromBuffer: missing {   (current key: '<html>Please') in file manifest "
                "[offset: 17]"
            )
            say("")
            say(
                "../tier1/KeyValues.cpp (2925) : Assertion Failed: Error while parsing text KeyValues for "
                "resource manifest"
            )
        say(step)
    answers = [
        f"Download failed: http error {status} ({host}/client/steam_cmd_linux)" for host in HOSTS
    ]
    log(
        log_dir,
        [
            *(answers if status != 200 else []),
            "failed to load manifest from buffer.",
            "Failed to load manifest",
            f"Error: Download failed: http error {status}",
            NEEDS_TO_BE_ONLINE.replace("[----] !!! Fatal ", ""),
            "Shutdown",
        ],
    )
    say(LAST_WORDS)
    return EXIT_OFFLINE


def update_itself(say: Callable[[str], None], *, for_ever: bool) -> int:
    """Print an update, after which Valve's script, which is not simulated here, runs SteamCMD again."""
    while True:
        say("[ 33%] Downloading update (12,345 of 37,035 KB)...")
        say("[100%] Update complete, launching Steam...")
        if not for_ever:
            return EXIT_SELF_UPDATED
        time.sleep(0.01)
        say(CHECKING)


def log(log_dir: Path, lines: Iterable[str]) -> None:
    """Append a run to SteamCMD's log of its own update."""
    stamp = time.strftime("[%Y-%m-%d %H:%M:%S] ", time.gmtime())
    begins = ("Startup - updater built Dec 13 2017 05:27:43", "Checking for update on startup")
    with (log_dir / "bootstrap_log.txt").open("a", encoding="utf-8") as file:
        file.write("\n\n")
        file.writelines(f"{stamp}{line}\n" for line in (*begins, *lines))


def script_path() -> Path:
    """Return where Valve's script would be."""
    return Path.home() / ".local/share/Steam/steamcmd/steamcmd.sh"


def say_as_shell(text: str) -> None:
    """Print an error as the shell does that runs Valve's script."""
    print(SHELL_LINE.format(script=script_path(), text=text), file=sys.stderr, flush=True)


def end_as_killed(signal_name: str, number: int) -> int:
    """Print what the shell does when SteamCMD was ended by a signal; return the script's exit code."""
    say_as_shell(f'{os.getpid():5} {signal_name:<23} $DEBUGGER "$STEAMEXE" "$@"')
    return 128 + number
