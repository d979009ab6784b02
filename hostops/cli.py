"""The host's command line: `python -m hostops VERB`. Safe beside a running panel, since it takes its locks."""

import argparse
import getpass
import ipaddress
import json
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from hostops.blob_sources import FolderSource
from hostops.command_ends import EXIT_FAILED, EXIT_USAGE, has_lost_output, tell
from hostops.drivers import unit_files
from hostops.drivers.systemctl import Manager, Systemctl
from hostops.errors import HostError, OperationCancelled
from hostops.host import GAME_SOURCES, Host
from hostops.layout import HostLayout
from hostops.linux.sockets import find_own_address
from hostops.specs import (
    DRIVERS,
    CancelToken,
    ConsolePosition,
    InstanceSpec,
    InstanceState,
    InstanceStatus,
    Severity,
    SteamAccount,
)

EXIT_TO_LOOK_AT = 3
"""`doctor`: servers run, but something needs to be done or is not as it should be."""
_FOLLOW_SECONDS = 0.2


class _Printer:
    """Prints an operation's reports: its lines as they are, each stage once on stderr.

    The operation goes on if nobody reads them.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._stage = ""

    def line(self, stream: str, text: str) -> None:
        """Print a line to the stream it came from."""
        with self._lock:
            tell(_plain(text), sys.stderr if stream == "stderr" else sys.stdout)

    def stage(self, name: str, _progress: int | None) -> None:
        """Print the name of a new stage once, however long it takes; the lines show the progress."""
        name = re.sub(r" \(\d+ s\)$", "", name)
        with self._lock:
            if name != self._stage:
                tell(f"== {name}", sys.stderr)
            self._stage = name


def _plain(text: str) -> str:
    """Return text that is safe for a terminal: a game's lines and file names may contain control codes."""
    if text.isprintable():
        return text
    return "".join(
        character
        if character.isprintable() or character in "\t\n"
        else character.encode("unicode_escape").decode()
        for character in text
    )


def _ask_code_here() -> str | None:
    """Ask for a Steam Guard code on the terminal, without showing it: the terminal may be recorded."""
    return _ask_hidden("Steam Guard code: ") or None


def _ask_hidden(prompt: str) -> str:
    """Read a line from the terminal without showing it; empty at end of file. Raises OperationCancelled."""

    def interrupt(_number: int, _frame: object) -> None:
        raise OperationCancelled("Cancelled by SIGINT.")

    # A handler that only sets a flag would leave the prompt waiting after Ctrl-C.
    previous = signal.signal(signal.SIGINT, interrupt)
    try:
        return getpass.getpass(prompt)
    except EOFError:
        return ""
    finally:
        signal.signal(signal.SIGINT, previous)


def main(arguments: Sequence[str] | None = None) -> int:
    """Execute a command line.

    Returns 0, 1 if it failed (with the reason on stderr), 2 for a wrong command line, or 128 plus
    the signal's number if SIGINT or SIGTERM cancelled it.
    """
    if fault := _find_fault(os.environ):
        print(fault, file=sys.stderr)
        return EXIT_USAGE
    parser = _make_parser()
    options = parser.parse_args(arguments)
    if options.query_address and not _is_address(options.query_address):
        parser.error(f"argument --query-address: {options.query_address!r} is no IP address")
    received: list[int] = []
    cancel = CancelToken()

    def take_signal(number: int, _frame: object) -> None:
        received.append(number)
        cancel.cancel(f"Cancelled by {signal.Signals(number).name}.")

    previous = {
        number: signal.signal(number, take_signal) for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        host = Host(
            options.root,
            driver=options.driver,
            game_source=options.source,
            query_address=options.query_address
            or ("127.0.0.1" if options.source == "simulator" else find_own_address()),
            steam_account=_steam_account(options),
            allow_unboxed=_BOOLEANS[os.environ.get("HOST_UNBOXED", "false").strip().lower()],
            content=FolderSource(options.content) if options.content else None,
        )
        code: int = options.carry_out(host, options, cancel)
    except OperationCancelled as error:
        print(_plain(str(error)), file=sys.stderr)
        return 128 + received[0] if received else EXIT_FAILED
    except HostError as error:
        print(_plain(str(error)), file=sys.stderr)
        return EXIT_FAILED
    except ValueError as error:
        print(_plain(str(error)), file=sys.stderr)
        return EXIT_USAGE
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
    return 128 + received[0] if received else code


def _find_fault(environment: Mapping[str, str]) -> str:
    """Return what is wrong with the first invalid variable, naming it; empty if all are valid."""
    for name, (is_valid, expected) in _VARIABLES.items():
        value = environment.get(name, "")
        if value and not is_valid(value):
            return f"{name} is {value!r}, but must be {expected}."
    return ""


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


# The same values that the panel accepts.
_BOOLEANS = {"1": True, "true": True, "yes": True, "on": True}
_BOOLEANS |= {"": False, "0": False, "false": False, "no": False, "off": False}
_VARIABLES: dict[str, tuple[Callable[[str], bool], str]] = {
    "HOST_DRIVER": (DRIVERS.__contains__, " or ".join(DRIVERS)),
    "GAME_SOURCE": (GAME_SOURCES.__contains__, " or ".join(GAME_SOURCES)),
    "HOST_ADDRESS": (_is_address, "the IP address under which this host's servers answer"),
    "HOST_UNBOXED": (lambda text: text.strip().lower() in _BOOLEANS, "true or false"),
    "STEAM_PASSWORD_FILE": (os.path.isabs, "the absolute path of a file with mode 600"),
}


def _steam_account(options: argparse.Namespace) -> SteamAccount | None:
    """Return the Steam account from the environment. No option takes a password: others could read it.

    `steam-login` asks for the password on the terminal, which does not show it.
    """
    name = os.environ.get("STEAM_ACCOUNT")
    file = os.environ.get("STEAM_PASSWORD_FILE")
    if options.verb == "steam-login":
        name = options.account or name
        if not name:
            raise ValueError(
                "Name the account that owns the game: steam-login ACCOUNT, or STEAM_ACCOUNT."
            )
        if not sys.stdin.isatty():
            raise ValueError("The password is asked for on a terminal, and this is none.")
        if not (password := _ask_hidden(f"Password of {name} at Steam: ")):
            raise ValueError("No password was entered: nothing was sent to Steam.")
        return SteamAccount(name, password)
    if not name:
        return None
    return SteamAccount(name, os.environ.get("STEAM_PASSWORD", ""), Path(file) if file else None)


def _make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m hostops", description="Install the game on this host and run its servers."
    )
    _add_host_options(parser)
    verbs = parser.add_subparsers(metavar="VERB", required=True)

    def add(
        name: str, help_text: str, carry_out: Callable[[Host, argparse.Namespace, CancelToken], int]
    ) -> argparse.ArgumentParser:
        verb = verbs.add_parser(name, help=help_text, description=help_text)
        verb.set_defaults(carry_out=carry_out, verb=name)
        return verb

    add("install", "Install the game, or bring it up to date.", _install)
    login = add("steam-login", "Sign SteamCMD in to an account that owns the game.", _steam_login)
    login.add_argument("account", nargs="?", metavar="ACCOUNT", help="(default: STEAM_ACCOUNT)")
    check = add("check-update", "Ask Steam whether there is a newer build.", _check_update)
    check.add_argument("--json", action="store_true", help="print only the answer, as JSON")
    _add_server_options(add("initialize", "Write the files of a server.", _initialize))
    for name, help_text in (
        ("start", "Start a server and wait until it answers."),
        ("stop", "Stop a server."),
        ("restart", "Stop a server and start it, if nothing keeps it from starting."),
        ("delete", "Stop a server and remove its files."),
        ("reset", "Stop a server and remove what it wrote itself."),
    ):
        add(name, help_text, _act).add_argument("name", metavar="NAME")
    status = add("status", "Show what the servers are doing.", _status)
    status.add_argument("name", nargs="?", metavar="NAME")
    status.add_argument("--json", action="store_true", help="as one JSON object by name")
    logs = add("logs", "Print a server's console.", _logs)
    logs.add_argument("name", metavar="NAME")
    logs.add_argument("--follow", action="store_true", help="continue until interrupted")
    add("releases", "List the installed builds of the game.", _releases)
    rollback = add("rollback", "Go back to another installed build.", _rollback)
    rollback.add_argument("build_id", nargs="?", metavar="BUILD_ID")
    unit = add("unit", "Print the template unit for /etc/systemd/system.", _print_unit)
    unit.add_argument("--user", help="the account that servers run as (default: the current one)")
    add("overlays", "List the overlays, and what is wrong with them.", _overlays)
    add(
        "prune-content",
        "Remove versions of overlays that no server needs.",
        _prune_content,
    )
    doctor = add("doctor", "Check whether this host can do its work.", _doctor)
    doctor.add_argument("--json", action="store_true", help="as a list of JSON objects")
    return parser


def _add_host_options(parser: argparse.ArgumentParser) -> None:
    """Add what every verb has to know of the host; the environment has the defaults."""
    root = os.environ.get("HOST_ROOT")
    parser.add_argument(
        "--root",
        type=Path,
        default=Path(root) if root else None,
        required=not root,
        help="the host's folder (HOST_ROOT)",
    )
    parser.add_argument(
        "--driver",
        choices=DRIVERS,
        default=os.environ.get("HOST_DRIVER", "process"),
        help="what runs the servers (HOST_DRIVER)",
    )
    parser.add_argument(
        "--source",
        choices=GAME_SOURCES,
        default=os.environ.get("GAME_SOURCE", "steam"),
        help="where the game comes from (GAME_SOURCE)",
    )
    parser.add_argument(
        "--query-address",
        default=os.environ.get("HOST_ADDRESS", ""),
        help="the address where servers answer (HOST_ADDRESS; default: that of the default route)",
    )
    content = os.environ.get("CONTENT_ROOT")
    parser.add_argument(
        "--content",
        type=Path,
        default=Path(content) if content else None,
        help="the panel's store, which has the files of overlays' versions (CONTENT_ROOT)",
    )


def _add_server_options(initialize: argparse.ArgumentParser) -> None:
    """Add what a server is to be."""
    initialize.add_argument("name", metavar="NAME")
    initialize.add_argument("--port", type=int, required=True, metavar="N")
    initialize.add_argument(
        "--overlay", action="append", default=[], metavar="NAME", help="the first is on top"
    )
    initialize.add_argument(
        "--argument",
        action="append",
        default=[],
        metavar="TEXT",
        help="one launch argument of srcds; write --argument=-insecure for those with a dash",
    )
    initialize.add_argument(
        "--bind-address",
        default="",
        metavar="IPV4",
        help="the address that it listens on, 0.0.0.0 for all (default: the game chooses)",
    )
    initialize.add_argument("--config", type=Path, metavar="FILE", help="its server.cfg")
    initialize.add_argument(
        "--memory", type=int, metavar="MIB", help="the most memory it may take, in MiB"
    )
    initialize.add_argument(
        "--tasks", type=int, metavar="N", help="the most processes and threads it may have"
    )
    initialize.add_argument(
        "--cpu-weight", type=int, metavar="N", help="its share of a busy CPU, against 100 of others"
    )


def _install(host: Host, _options: argparse.Namespace, cancel: CancelToken) -> int:
    printer = _Printer()
    host.install_runtime(
        ask_code=_ask_code_here if sys.stdin.isatty() else None,
        on_line=printer.line,
        on_stage=printer.stage,
        cancel=cancel,
    )
    return 0


def _steam_login(host: Host, _options: argparse.Namespace, cancel: CancelToken) -> int:
    printer = _Printer()
    host.steam_login(
        ask_code=_ask_code_here, on_line=printer.line, on_stage=printer.stage, cancel=cancel
    )
    return 0


def _check_update(host: Host, options: argparse.Namespace, cancel: CancelToken) -> int:
    printer = _Printer()

    def to_stderr(_stream: str, text: str) -> None:
        printer.line("stderr", text)

    on_line = to_stderr if options.json else printer.line
    latest = host.check_update(on_line=on_line, on_stage=printer.stage, cancel=cancel)
    if options.json:
        installed = next((one.build_id for one in host.releases() if one.is_current), None)
        is_available = None if installed is None else installed != latest.build_id
        answer = {"installed": installed, "is_update_available": is_available}
        print(json.dumps({**asdict(latest), **answer}, indent=2))
    return 0


def _initialize(host: Host, options: argparse.Namespace, cancel: CancelToken) -> int:
    try:
        config = options.config.read_text(encoding="utf-8") if options.config else ""
    except OSError as error:
        raise ValueError(f"{options.config} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{options.config} is not UTF-8: save it in that encoding.") from error
    spec = InstanceSpec(
        name=options.name,
        port=options.port,
        overlays=tuple(options.overlay),
        arguments=tuple(options.argument),
        config=config,
        memory_limit_bytes=None if options.memory is None else options.memory * 1024**2,
        tasks_limit=options.tasks,
        cpu_weight=options.cpu_weight,
        bind_address=options.bind_address,
    )
    printer = _Printer()
    host.initialize(spec, on_line=printer.line, on_stage=printer.stage, cancel=cancel)
    return 0


def _act(host: Host, options: argparse.Namespace, cancel: CancelToken) -> int:
    printer = _Printer()
    verb = getattr(host, options.verb)
    verb(options.name, on_line=printer.line, on_stage=printer.stage, cancel=cancel)
    return 0


def _status(host: Host, options: argparse.Namespace, _cancel: CancelToken) -> int:
    statuses = {options.name: host.status(options.name)} if options.name else host.statuses()
    if options.json:
        print(json.dumps({name: asdict(status) for name, status in statuses.items()}, indent=2))
    elif not statuses:
        print(f"There are no servers in {options.root}: make one with initialize.")
    else:
        for status in statuses.values():
            print(_plain(_describe(status)))
    return 0


def _describe(status: InstanceStatus) -> str:
    parts = [f"{status.name:<32} {status.state:<8}"]
    if status.pid is not None:
        parts.append(f"process {status.pid}")
    if status.started_at is not None:
        parts.append(
            f"since {time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(status.started_at))}"
        )
    if status.release is not None:
        parts.append(f"build {status.release}")
    return "  ".join([*parts, status.detail]).rstrip()


def _logs(host: Host, options: argparse.Namespace, cancel: CancelToken) -> int:
    if host.status(options.name).state is InstanceState.ABSENT:
        raise HostError(f"{options.name} has no files on this host.")
    position = ConsolePosition()
    shown_run = 0
    while True:
        chunk = host.read_console(options.name, position)
        for run, line in chunk.lines:
            if run != shown_run:
                sys.stdout.flush()
                print(f"== run {run}", file=sys.stderr, flush=True)
                shown_run = run
            print(_plain(line))
        sys.stdout.flush()
        if has_lost_output():
            return 0
        is_at_end = not chunk.lines
        position = chunk.position
        if is_at_end and (not options.follow or cancel.wait(_FOLLOW_SECONDS)):
            return 0


def _releases(host: Host, _options: argparse.Namespace, _cancel: CancelToken) -> int:
    for release in host.releases():
        installed_at = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(release.installed_at))
        current = "current" if release.is_current else ""
        users = f"used by {', '.join(release.used_by)}" if release.used_by else ""
        print(f"{release.build_id:<12} {installed_at}  {current:<8} {users}".rstrip())
    return 0


def _rollback(host: Host, options: argparse.Namespace, cancel: CancelToken) -> int:
    printer = _Printer()
    host.rollback(options.build_id, on_line=printer.line, on_stage=printer.stage, cancel=cancel)
    return 0


def _print_unit(_host: Host, options: argparse.Namespace, _cancel: CancelToken) -> int:
    text = unit_files.template(
        HostLayout(options.root.absolute()),
        Manager.SYSTEM,
        version=Systemctl(Manager.SYSTEM).version(),
        user=options.user or getpass.getuser(),
        is_simulated=options.source == "simulator",
    )
    print(text, end="")
    return 0


def _overlays(host: Host, _options: argparse.Namespace, cancel: CancelToken) -> int:
    reports = [host.overlay_report(name, cancel=cancel) for name in host.overlay_fingerprints()]
    found = [report for report in reports if report is not None]
    for report in found:
        titles = ", ".join(campaign.title for campaign in report.campaigns)
        said = f"{report.name}: {report.files} files, {report.size_bytes / 1024**2:,.0f} MiB"
        print(_plain(f"{said}; campaigns: {titles}" if titles else said))
        for finding in report.findings:
            where = f"{finding.path}: " if finding.path else ""
            print(_plain(f"  {finding.severity}: {where}{finding.text}"))
    return EXIT_FAILED if any(report.refusals for report in found) else 0


def _prune_content(host: Host, _options: argparse.Namespace, _cancel: CancelToken) -> int:
    pruned = host.prune_content()
    if pruned is None:
        raise HostError(
            "Nothing was removed: a version is being laid out just now, or what a server is made of cannot be "
            "read. Try again in a while."
        )
    tell(f"{pruned.versions} versions and {pruned.freed_bytes:,} bytes of files were removed.")
    return 0


def _doctor(host: Host, options: argparse.Namespace, _cancel: CancelToken) -> int:
    findings = host.doctor()
    if options.json:
        told = [
            {
                "subject": finding.subject,
                "severity": finding.severity,
                "text": finding.text,
                "cure": finding.cure,
            }
            for finding in findings
        ]
        print(json.dumps(told, indent=2))
    else:
        for finding in findings:
            print(f"{_MARKS[finding.severity]} {finding.subject}: {finding.text}")
            if finding.cure:
                print(f"     → {finding.cure}")
    severities = {finding.severity for finding in findings}
    if Severity.FAULT in severities:
        return EXIT_FAILED
    return 0 if severities <= {Severity.OK} else EXIT_TO_LOOK_AT


_MARKS = {
    Severity.OK: "ok  ",
    Severity.TODO: "todo",
    Severity.WARNING: "warn",
    Severity.FAULT: "BAD ",
}
