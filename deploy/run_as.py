"""Runs Python with the settings, and as the account, of the panel's web or worker side.

`python -P -m deploy.run_as worker manage.py backup`, run by root or by that account. The environment overrides
the settings file, but root's environment is not passed on.
"""

import os
import pwd
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn

from deploy.installer import env_files
from deploy.installer.errors import InstallError
from hostops.command_ends import EXIT_USAGE, run_command

ACCOUNTS = {"web": "saferoom-web", "worker": "saferoom"}
SETTINGS_DIR = Path("/etc/saferoom")
# The same as in the worker's unit.
_DEFAULTS = {"HOST_ROOT": "/srv/saferoom/host", "HOST_DRIVER": "systemd"}
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def main(arguments: list[str]) -> NoReturn:
    """Replace this process. If that is not possible, end it with a message."""
    if len(arguments) < 2 or arguments[0] not in ACCOUNTS:
        print("Usage: deploy.run_as web|worker FILE|-m MODULE [ARGUMENT...]", file=sys.stderr)
        sys.exit(EXIT_USAGE)
    side, *rest = arguments
    try:
        account = pwd.getpwnam(ACCOUNTS[side])
    except KeyError:
        sys.exit(f"There is no account {ACCOUNTS[side]} on this machine: deploy/install makes it.")
    if os.geteuid() not in (0, account.pw_uid):
        sys.exit(
            f"This has to run as {account.pw_name} or root, and runs as the user {os.geteuid()}: "
            f"put `sudo` before it, or `sudo -u {account.pw_name}`."
        )
    path = SETTINGS_DIR / f"{side}.env"
    try:
        settings = env_files.read(path)
    except OSError as error:
        sys.exit(f"The settings in {path} cannot be read: {error.strerror}.")
    except InstallError as error:
        sys.exit(f"{error} {error.cure}".rstrip())
    inherited: Mapping[str, str] = os.environ
    if os.geteuid() == 0:
        inherited = {name: os.environ[name] for name in ("LANG", "TERM") if name in os.environ}
        become(account)
    environment = {
        "PATH": _PATH,
        "HOME": account.pw_dir,
        "USER": account.pw_name,
        "XDG_RUNTIME_DIR": f"/run/user/{account.pw_uid}",
        **_DEFAULTS,
        **settings,
        **inherited,
        "PYTHONPATH": str(Path(__file__).resolve().parents[1]),
    }
    os.umask(0o077)
    os.execve(sys.executable, [sys.executable, "-P", *rest], environment)  # noqa: S606


def become(account: pwd.struct_passwd) -> None:
    """Switch this process to `account`, for good. It keeps its working directory if the account may use it."""
    os.initgroups(account.pw_name, account.pw_gid)
    os.setgid(account.pw_gid)
    os.setuid(account.pw_uid)
    if not os.access(".", os.X_OK):
        os.chdir("/")


if __name__ == "__main__":
    sys.exit(run_command(lambda: main(sys.argv[1:])))
