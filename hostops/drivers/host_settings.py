"""How the game servers of one host are run: what `hostops.host.Host` was made with."""

from dataclasses import dataclass

from hostops.layout import HostLayout
from hostops.linux.process import minimal_environment
from hostops.linux.sockets import LOOPBACK, find_own_address


@dataclass(frozen=True)
class HostSettings:
    """What starting, stopping and querying servers need to know of their host (`hostops.host.Host`)."""

    layout: HostLayout
    is_simulated: bool
    given_address: str
    start_timeout_seconds: float
    stop_timeout_seconds: float
    allow_unboxed: bool
    min_free_bytes: int

    @property
    def query_address(self) -> str:
        """The address for querying servers that listen on every address."""
        if self.given_address:
            return self.given_address
        # Looked up each time: the machine may get its address after this program started, and later another.
        return LOOPBACK if self.is_simulated else find_own_address()

    @property
    def environment(self) -> dict[str, str]:
        """The environment of game servers and of SteamCMD."""
        extra = {"SAFEROOM_SIMULATOR": str(self.layout.simulator_path)} if self.is_simulated else {}
        return minimal_environment(self.layout.home_dir, extra)
