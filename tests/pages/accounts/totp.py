"""An authenticator app (RFC 6238), independent of the product's own arithmetic."""

import base64
import hashlib
import hmac
import time

from tests.waiting import wait_until


def code_of(secret: str, at: float | None = None) -> str:
    """Return the code that an app shows for `secret`, now or at another time."""
    counter = int((time.time() if at is None else at) // 30)
    digest = hmac.digest(base64.b32decode(secret), counter.to_bytes(8, "big"), hashlib.sha1)
    offset = digest[-1] & 15
    return f"{(int.from_bytes(digest[offset : offset + 4], 'big') & 0x7FFFFFFF) % 10**6:06}"


def fresh_code_of(secret: str) -> str:
    """Return the current code, once it is valid for long enough to be typed into a page."""
    wait_until(lambda: time.time() % 30 < 22, 10, "no new code begins")
    return code_of(secret)
