"""Checks whether a running game server uses the passwords that it was given."""

import re
import time
from concurrent.futures import Future, ThreadPoolExecutor, wait

from hostops.query import rcon
from hostops.specs import CANCEL_LOOK_SECONDS, CancelToken

SECONDS = 3.0
"""How long the check may take altogether."""

_TRIES = 3
"""The engine bans an address after 5 wrong passwords within 30 s (`sv_rcon_minfailures`)."""

_PAUSE_SECONDS = 0.8
_VALUE = re.compile(r'^"sv_password" = "(.*?)"(?:\s|$)', re.MULTILINE)
_CURE = (
    "Another config sets it after Saferoom; look at the files that its configs execute and at those of its "
    "plugins, and take that line out."
)


def find_fault(
    address: str, port: int, rcon_password: str, join_password: str, cancel: CancelToken
) -> str:
    """Return which password does not work, or why that is unknown, in sentences without the password.

    Empty if both work, or if it was cancelled; an empty join password is not checked. Takes at most `SECONDS`,
    because a server may still be about to read its config.
    """
    until = time.monotonic() + SECONDS
    fault = ""
    executor = ThreadPoolExecutor(1, "ask-passwords")
    try:
        for try_number in range(_TRIES):
            if try_number and cancel.wait(_PAUSE_SECONDS):
                return ""
            if (seconds := until - time.monotonic()) <= 0:
                break
            # In a separate thread, because sockets ignore `cancel`.
            asked = executor.submit(
                rcon.execute, address, port, rcon_password, "sv_password", seconds
            )
            while not wait([asked], CANCEL_LOOK_SECONDS).done:
                if cancel.is_cancelled:
                    return ""
            if not (fault := _judge(asked, join_password)):
                return ""
        return fault
    finally:
        executor.shutdown(wait=False)


def _judge(asked: Future[str], join_password: str) -> str:
    try:
        answer = asked.result()
    except rcon.PasswordRefusedError:
        return f"The server does not take the RCON password that Saferoom gave it. {_CURE}"
    except rcon.RconError as error:
        return f"Whether the server has the passwords that Saferoom gave it is not known. {error}"
    if not join_password:
        return ""
    if (match := _VALUE.search(answer)) is None:
        return "The server did not say what its sv_password is: look into its console."
    if match[1] != join_password:
        return f"The server has another join password (sv_password) than Saferoom gave it. {_CURE}"
    return ""
