"""What SteamCMD's errors mean in plain words, and what to do about each.

Valve documents none of them. Texts and states are from reports of SteamCMD's users; those of its own update and
of its shell wrapper were measured with Debian's package 0~20180105-5.
"""

import re
from dataclasses import dataclass, replace

from hostops.linux.namespaces import EXIT_FAILED
from hostops.specs import GAME_APP_ID

EXIT_UPDATED_ITSELF = 42

_NOT_INSTALLED = rf"Failed to install app '{GAME_APP_ID}' "
_LOGIN_FAILED = r"(?:FAILED|ERROR) \("
_NO_NETWORK = "No Connection|Timeout|Service Unavailable|Try Another CM|Connect Failed|Busy"
_INSTALL_LIBRARIES = (
    "dpkg --add-architecture i386 && apt-get update && "
    "apt-get install libc6:i386 lib32gcc-s1 lib32stdc++6."
)


@dataclass(frozen=True)
class Explanation:
    """The meaning, for people, of a line of SteamCMD's output, or of its exit code if no line explains it.

    A text may have a place for `reason`, a group of the pattern. A transient error usually disappears on the
    next run. A consequence is a message that SteamCMD prints after many errors: an earlier message says more,
    or one in its bootstrap log does.
    """

    pattern: str
    text: str
    exit_codes: tuple[int, ...] = ()
    is_transient: bool = False
    is_consequence: bool = False
    is_in_bootstrap_log: bool = False
    needs_windows_first: bool = False


# The first match for a line counts, so general patterns come last.
EXPLANATIONS = (
    Explanation(
        _NOT_INSTALLED + r"\(Missing configuration\)",
        "Steam did not hand out the game's configuration, which mostly passes: try again in some minutes.",
        is_transient=True,
        needs_windows_first=True,
    ),
    Explanation(
        _NOT_INSTALLED + r"\(Invalid platform\)",
        "Steam refuses the Linux server to anonymous users until the Windows files have been installed "
        "once. That was tried and did not help: remove the folder `staging` and install again.",
        needs_windows_first=True,
    ),
    Explanation(
        _NOT_INSTALLED + r"\(No subscription\)",
        "Steam refuses the game to the anonymous user: try again later, as Valve has changed this before.",
    ),
    Explanation(
        r"(?i)state is 0x2[01]2 after update job|\(Not enough disk space\)|No space left on device"
        r"|needs at least [0-9]+ ?[KMG]B of free disk space",
        "The disk is full: free some space (the game needs about 12 GB), then install again. "
        "What has been downloaded is kept.",
    ),
    Explanation(
        r"(?i)state is 0x606 after update job|\(Disk (?:write|read) (?:failure|error)\)"
        r"|can't write to its install dir|Couldn't create cache directory|Read-only file system",
        "SteamCMD could not write to the disk: check its space, its health and the folder's owner, "
        "then install again.",
        exit_codes=(151,),
    ),
    Explanation(
        r"(?i)state is 0x[46]02 after update job"
        rf"|{_NOT_INSTALLED}\((?:No connection|Timeout|Connection timeout|Content servers unreachable)\)",
        "The connection to Steam's download servers failed: check the network, then install again. "
        "What has been downloaded is kept.",
        is_transient=True,
    ),
    Explanation(
        r"state is 0x626 after update job|\(Missing (?:game )?files\)",
        "Files are missing on Steam's side or on the disk: install again.",
    ),
    Explanation(
        r"state is 0x6[aA]6 after update job|\(Corrupt [a-z ]+\)",
        "Files are damaged: check the disk, then install again. SteamCMD will repair them.",
    ),
    Explanation(
        r"state is 0x[0-9a-fA-F]+ after update job",
        "SteamCMD gave up half-way: install again. What has been downloaded is kept.",
        is_consequence=True,
    ),
    Explanation(
        r"Failed to install app '[0-9]+' \((?P<reason>[^)]+)\)",
        "Steam did not let the game be installed, and gave “{reason}” as its reason: if that does not say "
        "what to do, install again in some minutes.",
    ),
    Explanation(
        r"not online or not logged in to Steam",
        "SteamCMD is not logged in to Steam: check that this host reaches the internet, then install again.",
        is_consequence=True,
    ),
    Explanation(
        r"Timed out waiting for AppInfo update|Failed to request AppInfo update",
        "Steam did not answer a request for the game's data: try again in some minutes.",
        exit_codes=(1,),
        is_transient=True,
    ),
    Explanation(
        r"(?i)Rate ?Limit ?Exceeded",
        "Steam refuses more logins from this address for now: wait half an hour, then install again. "
        "Every try before that makes the wait longer.",
    ),
    Explanation(
        r"Invalid Password|password check for AppInfo|Cached credentials not found",
        "Steam does not know this account with this password: check STEAM_ACCOUNT and its password.",
    ),
    Explanation(
        r"(?i)invalid login auth code|two-?factor ?code ?mismatch",
        "Steam refused the Steam Guard code: install again and enter the newest one, which is good for half a "
        "minute if it is an app's.",
    ),
    Explanation(
        r"(?i)steam guard|two-factor|account logon denied",
        "Steam asks for a Steam Guard code: install again from the panel and enter it on the job's page, or "
        "run `l4d2ctl steam-login` on the host once.",
    ),
    Explanation(
        rf"(?i){_LOGIN_FAILED}(?:{_NO_NETWORK})\)",
        "The login to Steam failed, as its servers did not answer: check that this host reaches the internet "
        "and that no firewall holds back what it sends, then install again.",
        is_transient=True,
    ),
    Explanation(
        rf"{_LOGIN_FAILED}(?P<reason>[^)]+)\)",
        "The login to Steam failed, and “{reason}” is the reason that Steam gave: if that does not say what to "
        "do, try again in some minutes.",
    ),
    Explanation(
        r"\bFAILED login|Login Failure",
        "The login to Steam failed: check that this host reaches the internet, then install again.",
        exit_codes=(5,),
    ),
    Explanation(
        r"http error (?P<reason>5[0-9][0-9])\b",
        "Steam's server, or a proxy in its place, answered with the HTTP error {reason}: try again in some "
        "minutes, and look at the proxy if there is one.",
        is_transient=True,
    ),
    Explanation(
        r"http error (?P<reason>[1-9][0-9][0-9])\b|KeyValues Error: LoadFromBuffer",
        "Something answers in Steam's place, and it is not Steam: a network's sign-in page, a proxy or a "
        "filter. Sign in to the network, or have *.steampowered.com and *.steamcontent.com let through, then "
        "install again.",
    ),
    Explanation(
        r"http error 0\b",
        "There is no connection to Steam: none of the servers that SteamCMD is updated from answers. Check the "
        "host's network, its DNS and its firewall, then install again.",
        is_transient=True,
    ),
    Explanation(
        r"needs? to be online to update",
        "There is no connection to Steam: SteamCMD could not look for an update of itself. Check the host's "
        "network, its DNS and its firewall, and whether a proxy stands in between, then install again.",
        exit_codes=(7, 254),
        is_transient=True,
        is_consequence=True,
        is_in_bootstrap_log=True,
    ),
    Explanation(
        r"Thread creation failed|Thread failed to initialize|failure waiting for thread to initialize"
        r"|fork: .*Resource temporarily unavailable|pthread_create",
        "SteamCMD cannot start threads: the limit on processes and threads of this account, service or "
        "container is reached. Raise it (TasksMax= of the worker's unit, ulimit -u, --pids-limit of a "
        "container) or end what takes them, then install again.",
    ),
    Explanation(
        r"(?i)\bOut of memory\b|\bCannot allocate memory\b|\bbad_alloc\b",
        "SteamCMD got no more memory: free some, or add swap (it needs some hundred megabytes), then install "
        "again. What has been downloaded is kept.",
    ),
    Explanation(
        r"(?:^|\s)Killed\b",
        "SteamCMD was killed from outside. Mostly the kernel does that when the memory is used up, and says so "
        "in `journalctl -k`: free some memory or add swap, then install again. What has been downloaded is "
        "kept.",
        exit_codes=(137, -9),
    ),
    Explanation(
        r"\bSegmentation fault\b",
        "SteamCMD crashed (segmentation fault): install again. If it goes on crashing, its own files may be "
        "damaged: remove SteamCMD's folder, so that it is fetched again.",
        exit_codes=(139, -11),
        is_transient=True,
    ),
    Explanation(
        r"steamcmd(?:\.sh)?: Permission denied",
        "SteamCMD may not be executed where it lies: its disk is mounted with `noexec`, or the file lost its "
        "permission to be executed. Mount it without `noexec`, or set HOST_ROOT to another disk.",
        exit_codes=(126,),
    ),
    Explanation(
        r"linux32/steamcmd: (?:No such file or directory|cannot execute)"
        r"|error while loading shared libraries",
        "SteamCMD is a 32-bit program and this host cannot run those. On Debian or Ubuntu: "
        + _INSTALL_LIBRARIES,
        exit_codes=(127,),
    ),
    Explanation(
        r"(?!)",
        "SteamCMD updates itself again and again, and never comes to the game: its own files may be damaged, "
        "or may not be written to. Remove SteamCMD's folder, so that it is fetched again, then install again.",
        exit_codes=(EXIT_UPDATED_ITSELF,),
    ),
    Explanation(r"(?!)", "SteamCMD could not install the game: install again.", exit_codes=(8,)),
    Explanation(
        r"(?!)",
        "The installed release could not be mounted for the update: the line above says why, and doctor "
        "what to do.",
        exit_codes=(EXIT_FAILED,),
    ),
)

_ERROR = re.compile(
    r"(?i)\b(?:errors?|fatal|failed|failure|failing|cannot|can't|could ?n[o']t|unable|denied|refused|not enough"
    r"|no such file|no space left|corrupt|killed|core dumped|bus error|aborted|timed out|invalid|giving up"
    r"|deadlock|out of memory)\b|segmentation fault|spew_abort|: line [0-9]+: "
)
# Printed on successful runs too, or after the error that ended the run (measured, and in its users' logs).
_NOISE = re.compile(
    r"ILocalize::AddFile\(\)|Illegal termination of worker thread|SDL priority manager|set thread priority"
    r"|setlocale\(|: ulimit: |cannot be preloaded|^Redirecting stderr to |^Logging directory: |^\[simulator\]"
)
_ASSERTION = re.compile(r"(?<!Fatal) Assertion Failed: ")


def is_error(line: str) -> bool:
    """Return whether a line reports an error, judging by its words."""
    return (
        _ERROR.search(line) is not None
        and _NOISE.search(line) is None
        and _ASSERTION.search(line) is None
    )


def explain_line(line: str) -> Explanation | None:
    """Return the explanation of a line, with its reason in the text."""
    for known in EXPLANATIONS:
        if match := re.search(known.pattern, line):
            reason = match.groupdict().get("reason") or ""
            return replace(known, text=known.text.replace("{reason}", reason))
    return None


def explain_exit(exit_code: int) -> Explanation | None:
    """Return the explanation of an exit code, for runs in which no line reported an error."""
    return next((known for known in EXPLANATIONS if exit_code in known.exit_codes), None)
