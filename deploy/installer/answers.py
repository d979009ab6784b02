"""The answers of an installation: from flags, from the last run, and from the machine itself."""

import argparse
import ipaddress
import json
import re
import shutil
import socket
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

from deploy.installer import places
from deploy.installer.errors import InstallError

_NAME = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")
_NEVER_EMPTY = {
    "source": "--from",
    "name": "--name",
    "python": "--python",
    "players_address": "--players-address",
}
"""What would be found out silently if its flag were empty, such as for a variable that is not set."""
_USER = re.compile(r"[\w.@+-]{1,150}")


@dataclass(frozen=True)
class Answers:
    """All that an installation depends on. They are saved, without secrets, for later runs."""

    source: str = ""
    wheels: str = ""
    python: str = ""
    name: str = ""
    database: str = "sqlite"
    game: str = "steam"
    driver: str = "systemd"
    players_address: str = ""
    certificate: str = "self-signed"
    certificate_file: str = ""
    key_file: str = ""
    mail: str = ""
    admin: str = "admin"
    has_nginx: bool = True
    has_nftables: bool = False
    has_packages: bool = True

    @property
    def is_postgres(self) -> bool:
        """Whether the database is PostgreSQL."""
        return self.database != "sqlite"

    @property
    def is_users(self) -> bool:
        """Whether worker and games are units of the account's own manager."""
        return self.driver == "systemd"


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of `deploy/install`. A flag that is not given is None."""
    parser = argparse.ArgumentParser(
        prog="deploy/install",
        description="Install Saferoom on this machine, or bring an installation up to date. "
        "It can be run again at any time: what is already right stays.",
        epilog="Without a flag, the last run's answer counts, or it is found out. docs/deploy.md says more.",
    )
    what = parser.add_argument_group(
        "what to do (default: install, or continue where the last run failed)"
    )
    verb = what.add_mutually_exclusive_group()
    verb.add_argument(
        "--upgrade",
        action="store_true",
        help="switch to the code of --from; game servers keep running",
    )
    verb.add_argument(
        "--back",
        action="store_true",
        help="switch back to the previous release; the database stays",
    )
    verb.add_argument(
        "--restore", type=Path, metavar="ARCHIVE", help="install with the data of a backup"
    )
    what.add_argument("--passphrase-file", type=Path, metavar="FILE", help="what opens that backup")
    what.add_argument(
        "--dry-run", action="store_true", help="say what would be done, and do nothing"
    )
    code = parser.add_argument_group("the code")
    code.add_argument(
        "--from",
        dest="source",
        metavar="DIR|GIT",
        help="a folder or a git address (default: this folder)",
    )
    code.add_argument(
        "--wheels",
        metavar="DIR",
        help="take Python packages from this folder, and none from the network",
    )
    code.add_argument(
        "--python", metavar="PATH", help="a Python 3.11 or newer (default: the system's)"
    )
    code.add_argument(
        "--no-packages",
        dest="has_packages",
        action="store_false",
        default=None,
        help="install no system packages",
    )
    panel = parser.add_argument_group("the panel")
    panel.add_argument(
        "--name", metavar="NAME", help="name or address that browsers use (default: this machine's)"
    )
    panel.add_argument("--admin", metavar="NAME", help="the first admin (default: admin)")
    panel.add_argument(
        "--database",
        metavar="sqlite|create|URL",
        help="a file, a PostgreSQL made here, or postgres://… (default: sqlite)",
    )
    panel.add_argument(
        "--certificate", choices=("self-signed", "files", "certbot"), help="(default: self-signed)"
    )
    panel.add_argument(
        "--certificate-file", metavar="FILE", help="with its chain, for --certificate files"
    )
    panel.add_argument("--key-file", metavar="FILE", help="its key")
    panel.add_argument(
        "--mail",
        metavar="ADDRESS",
        help="where Let's Encrypt may write to, for --certificate certbot",
    )
    panel.add_argument(
        "--no-nginx",
        dest="has_nginx",
        action="store_false",
        default=None,
        help="leave the proxy to you",
    )
    games = parser.add_argument_group("the game servers")
    games.add_argument(
        "--game",
        choices=("steam", "simulator"),
        help="the real game or a simulated one (default: steam)",
    )
    games.add_argument(
        "--driver",
        choices=("systemd", "systemd-system"),
        help="units of the account saferoom, or of the system (default: systemd)",
    )
    games.add_argument(
        "--players-address",
        metavar="IP",
        help="where players reach them (default: that of the default route)",
    )
    games.add_argument(
        "--nftables",
        dest="has_nftables",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="limit what one address may send to them (default: no)",
    )
    return parser


def collect(options: argparse.Namespace, default_source: Path) -> Answers:
    """Return the answers: from flags first, then from the last run, then from the machine."""
    answers = read_last()
    given = {
        field.name: value
        for field in fields(Answers)
        if (value := getattr(options, field.name, None)) is not None
    }
    answers = replace(answers, **given)
    for name, flag in _NEVER_EMPTY.items():
        if given.get(name) == "":
            raise InstallError(f"{flag} is empty.", "Leave it out, or give it a value.")
    if "source" not in given:
        answers = replace(answers, source=str(default_source))
    answers = replace(
        answers,
        name=answers.name or find_name(),
        # A real game does not answer on loopback; the simulated one does.
        players_address=answers.players_address
        or ("127.0.0.1" if answers.game == "simulator" else find_address()),
        python=answers.python or find_python(),
        source=_absolute(answers.source),
        wheels=_absolute(answers.wheels),
        certificate_file=_absolute(answers.certificate_file),
        key_file=_absolute(answers.key_file),
    )
    require_valid(answers)
    return answers


def require_valid(answers: Answers) -> None:
    """Raise `InstallError` for an answer that must be a mistake."""
    if not _NAME.fullmatch(answers.name) and not _is_address(answers.name):
        raise InstallError(
            f"--name is {answers.name!r}, but must be a host's name or address, such as panel.example.org."
        )
    if answers.database not in ("sqlite", "create") and not re.match(
        r"postgres(ql)?://", answers.database
    ):
        raise InstallError(
            "--database must be sqlite, create, or an address such as postgres://user:password@host/name."
        )
    if not _is_address(answers.players_address):
        raise InstallError(
            f"--players-address is {answers.players_address!r}, but must be an IP address of this machine.",
            "This machine has no default route, so give the address that players reach it at.",
        )
    if not _USER.fullmatch(answers.admin):
        raise InstallError(
            f"--admin is {answers.admin!r}, but must be a user's name: letters, digits and . _ @ + -"
        )
    if answers.certificate == "files":
        for flag, path in (
            ("--certificate-file", answers.certificate_file),
            ("--key-file", answers.key_file),
        ):
            if not path or not Path(path).is_file():
                raise InstallError(
                    f"{flag} is {path!r}, and there is no such file.",
                    "--certificate files needs both.",
                )
    if answers.certificate == "certbot" and (_is_address(answers.name) or "." not in answers.name):
        raise InstallError(
            f"Let's Encrypt gives no certificate for {answers.name}.",
            "Give the name that the machine has in the public DNS: --name panel.example.org",
        )
    if answers.wheels and not Path(answers.wheels).is_dir():
        raise InstallError(f"--wheels is {answers.wheels!r}, and there is no such folder.")


def read_last() -> Answers:
    """Return the answers of the last run; the defaults if there was none. Raises `InstallError`."""
    try:
        document = json.loads(places.ANSWERS.read_bytes())
    except FileNotFoundError:
        return Answers()
    except PermissionError as error:
        raise InstallError(
            f"Saferoom was installed here, and only root can read the answers in {places.ANSWERS}.",
            "Put `sudo` before it. --dry-run shows what would be done.",
        ) from error
    except ValueError as error:
        raise _broken(str(error)) from error
    if not isinstance(document, dict):
        raise _broken("it is no object of JSON")
    kinds = {field.name: type(field.default) for field in fields(Answers)}
    known = {name: value for name, value in document.items() if name in kinds}
    for name, value in known.items():
        if not isinstance(value, kinds[name]) or "\0" in str(value):
            raise _broken(f"{name} is {value!r}")
    return Answers(**known)


def _broken(what: str) -> InstallError:
    return InstallError(
        f"The answers of the last run, in {places.ANSWERS}, are damaged: {what}.",
        "Mend the file; or remove it, and give the flags of the first installation again.",
    )


def as_json(answers: Answers) -> str:
    """Return the answers as they are saved: without the database's URL, which contains a password."""
    kept = asdict(answers)
    if kept["database"].startswith("postgres"):
        kept["database"] = "postgres://in-the-settings"
    # These are for one run only: the next one has its own source.
    kept |= {"source": "", "wheels": ""}
    return json.dumps(kept, indent=2) + "\n"


def find_name() -> str:
    """Return the machine's fully qualified name if it has one, else the address that others see."""
    name = socket.getfqdn().lower()
    if "." in name and not name.startswith("localhost") and _NAME.fullmatch(name):
        return name
    return find_address() or socket.gethostname().lower()


def find_address() -> str:
    """Return the address of the default route; empty if there is none. Sends nothing."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # of TEST-NET-1, RFC 5737
        except OSError:
            return ""
        return str(probe.getsockname()[0])


def find_python() -> str:
    """Return the path of the system's Python; it is checked when it is used."""
    path = "/usr/bin:/usr/local/bin"
    return shutil.which("python3", path=path) or "/usr/bin/python3"


def _absolute(text: str) -> str:
    """Return the absolute path of what exists; a git URL, or what is missing, unchanged."""
    return str(Path(text).resolve()) if text and Path(text).exists() else text


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return "%" not in text  # A zone, as in fe80::1%eth0, means something on this machine alone.


def parse_arguments(arguments: Sequence[str]) -> argparse.Namespace:
    """Return the flags; ends the program with a usage message for an unknown one."""
    return make_parser().parse_args(arguments)
