"""Signs SteamCMD in to an account that owns the game, once: SteamCMD then saves the login itself."""

import re
from dataclasses import replace

from hostops.callbacks import Callbacks
from hostops.errors import HostError
from hostops.specs import SteamAccount
from hostops.steam.run_output import Output
from hostops.steam.steam_guard import AskCode, SteamGuard
from hostops.steam.steamcmd import Run, SteamCmd

_SIGNED_IN = re.compile(r"Waiting for user info\.\.\. *OK|to Steam Public\.\.\. *OK")


class _Login(Output):
    """Notices a successful login."""

    is_signed_in = False

    def take_line(self, stream: str, line: str) -> None:
        """Handle one line."""
        super().take_line(stream, line)
        self.is_signed_in = self.is_signed_in or _SIGNED_IN.search(line) is not None


def sign_in(tool: SteamCmd, lock: int, ask_code: AskCode, callbacks: Callbacks) -> None:
    """Sign in with the account's password, and check that SteamCMD can now sign in without it.

    `lock` is the descriptor of the lock on SteamCMD's home. Raises CommandError or HostError, with an
    explanation.
    """
    account = tool.account
    if account is None:
        raise HostError(
            "No Steam account is named: set STEAM_ACCOUNT to the one that owns the game."
        )
    callbacks.stage("Signing in to Steam")
    guard = SteamGuard(account.name, ask_code, callbacks)
    while True:
        output, ended = _log_in(tool, lock, callbacks, guard)
        if output.is_signed_in and not ended.exit_code:
            break
        if not guard.asks_again:
            raise ended.failure()
    callbacks.stage("Checking the saved login")
    saved = replace(tool, account=SteamAccount(account.name))
    output, ended = _log_in(saved, lock, callbacks, None)
    if not output.is_signed_in or ended.exit_code:
        raise HostError(
            f"SteamCMD signed {account.name} in, but did not keep the login: jobs need STEAM_PASSWORD_FILE as "
            f"well, and may ask for codes. {output.quoted}".strip()
        )
    callbacks.say(
        f"SteamCMD keeps the login of {account.name}: with STEAM_ACCOUNT={account.name} and no password, "
        "installs use it."
    )


def _log_in(
    tool: SteamCmd, lock: int, callbacks: Callbacks, guard: SteamGuard | None
) -> tuple[_Login, Run]:
    account = tool.account or SteamAccount("anonymous")
    output = _Login(callbacks, account.password)
    commands = (("login", account.name), ("quit",))
    password = account.password
    ended = tool.run_commands(commands, lock, output, callbacks, password=password, guard=guard)
    return output, ended
