"""Answers SteamCMD's request for a Steam Guard code at a login. It reports a wrong code and asks again.

The prompts are from reports of SteamCMD's users; each is at the end of the output, without a line end. A code
is typed at SteamCMD's terminal, which does not echo it, and masked wherever else it appears.
"""

import re
from collections.abc import Callable

from hostops.callbacks import Callbacks
from hostops.errors import HostError
from hostops.specs import STEAM_GUARD_CODE, STEAM_GUARD_STAGE
from hostops.steam.run_output import Output

AskCode = Callable[[], str | None]
"""Asks people for a code and waits for it; None if nobody enters one. May raise OperationCancelled."""

MAX_CODES = 3
"""How many codes are tried: after more, Steam refuses all logins from the address for a while."""

_CODE_PROMPT = re.compile(r"(?i)(?:steam guard|two-factor|authenticator) code: *$")
_PASSWORD_PROMPT = re.compile(r"(?i)password: *$")
_CONFIRMATION = re.compile(r"(?i)confirm the login in the steam mobile app")
_REFUSED = re.compile(r"(?i)invalid login auth code|two-?factor ?code ?mismatch")


class SteamGuard:
    """Handles the codes for one account's SteamCMD, in one run or in several consecutive ones."""

    def __init__(self, account_name: str, ask_code: AskCode, callbacks: Callbacks) -> None:
        self._account_name = account_name
        self._ask_code = ask_code
        self._callbacks = callbacks
        self._codes = 0
        self._was_refused = False

    @property
    def asks_again(self) -> bool:
        """Whether Steam refused a code in the last run, and another one may be tried."""
        return self._was_refused and self._codes < MAX_CODES

    def hear(self, line: str) -> None:
        """Note what a complete line says about the login."""
        if _REFUSED.search(line):
            self._was_refused = True
            self._callbacks.warn("Steam refused that code.")
        elif _CONFIRMATION.search(line):
            self._callbacks.stage("Waiting for a confirmation in the Steam app")
            self._callbacks.say(
                f"Confirm the login of {self._account_name} in the Steam app on its owner's phone."
            )

    def answer(self, prompt: str, output: Output) -> str | None:
        """Return what to type at a prompt, or None if it is no prompt. Waits for the person with the code.

        Raises HostError if nobody enters one, or if SteamCMD asks for a password, which nobody is asked for
        here.
        """
        if _PASSWORD_PROMPT.search(prompt):
            raise HostError(
                f"SteamCMD asks for the password of {self._account_name}, of which it keeps no login here: run "
                "`l4d2ctl steam-login` on the host once."
            )
        if not _CODE_PROMPT.search(prompt):
            return None
        if self._codes >= MAX_CODES:
            raise HostError(
                f"Steam refused {MAX_CODES} codes: wait some minutes, then install again with a new one."
            )
        self._codes += 1
        self._was_refused = False
        self._callbacks.say(f"Steam asks for a Steam Guard code of {self._account_name}.")
        self._callbacks.stage(STEAM_GUARD_STAGE)
        code = (self._ask_code() or "").strip().upper()
        if not code:
            raise HostError(
                f"Steam asked for a Steam Guard code of {self._account_name}, and nobody entered one in time: "
                "install again with its phone or mailbox at hand, or run `l4d2ctl steam-login` on the host."
            )
        if not STEAM_GUARD_CODE.fullmatch(code):
            raise HostError("That is no Steam Guard code: it has five letters and digits.")
        output.hide(code)
        self._callbacks.stage("Signing in to Steam")
        return code
