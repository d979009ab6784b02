"""Remembers which addresses have recently failed to sign in.

It is kept in memory: a restart forgets it, and counting writes nothing to the database.
"""

import logging
from collections import OrderedDict, deque
from collections.abc import Callable
from time import monotonic
from typing import NamedTuple

logger = logging.getLogger(__name__)

WINDOW_SECONDS = 300.0


class Failure(NamedTuple):
    """A failed attempt, at a time of the monotonic clock."""

    at: float
    account: str


class Failures:
    """Counts failures by address, and by account and address, over the last `WINDOW_SECONDS`.

    Never by account alone, which would let a stranger lock a person out. Addresses are groups as
    `addresses.address_group` makes them.
    """

    def __init__(
        self, *, per_address: int, per_account: int, clock: Callable[[], float] = monotonic
    ) -> None:
        self._per_address = per_address
        self._per_account = per_account
        self._clock = clock
        # Ordered by the time of the last failure.
        self._of_address: OrderedDict[str, deque[Failure]] = OrderedDict()

    def __len__(self) -> int:
        """Return how many addresses are remembered."""
        return len(self._of_address)

    def add(self, address: str, account: str) -> None:
        """Count a failure."""
        failures = self._of_address.setdefault(address, deque())
        failures.append(Failure(self._clock(), account))
        self._of_address.move_to_end(address)
        self._forget_old()
        if self.wait_seconds(address, account):
            logger.warning("sign-in: %s has failed %s times", address, len(failures))

    def forgive(self, address: str, account: str) -> None:
        """Forget an account's failures from an address that has just sent the right password.

        Failures with other accounts stay: having an account is no licence to guess.
        """
        left = deque(one for one in self._of_address.get(address, ()) if one.account != account)
        if left:
            self._of_address[address] = left
        else:
            self._of_address.pop(address, None)

    def wait_seconds(self, address: str, account: str | None) -> float:
        """Return in how many seconds this account may be tried from this address; 0 for now.

        Without an account, only the address's own limit counts.
        """
        since = self._clock() - WINDOW_SECONDS
        recent = [one for one in self._of_address.get(address, ()) if one.at > since]
        with_account = [one for one in recent if one.account == account]  # None has no failures.
        frees_at = [
            failures[-limit].at
            for failures, limit in (
                (recent, self._per_address),
                (with_account, self._per_account),
            )
            if len(failures) >= limit
        ]
        return max(frees_at) - since if frees_at else 0.0

    def _forget_old(self) -> None:
        since = self._clock() - WINDOW_SECONDS
        while self._of_address:
            address, failures = next(iter(self._of_address.items()))
            if failures[-1].at > since:
                return
            del self._of_address[address]
