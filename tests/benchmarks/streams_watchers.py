"""Many watchers of one stream in one process. Reads orders from stdin, and answers each with a line of JSON."""

import asyncio
import json
import re
import sys
from array import array
from time import time
from typing import Any

STAMP = re.compile(rb"T=(\d+\.\d+)")
CONNECTING_AT_ONCE = 50


class Watcher(asyncio.Protocol):
    """One connection: counts lines, and notes the age of those that say when they were written."""

    def __init__(self, request: bytes, ages: "array[float]") -> None:
        self._request = request
        self._ages = ages
        self._rest = b""
        self.lines = 0
        self.answered = asyncio.get_running_loop().create_future()
        self.is_lost = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask for the stream."""
        assert isinstance(transport, asyncio.Transport)
        transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        """Take what came."""
        now = time()
        if not self.answered.done():
            status = int(data.split(b" ", 2)[1])
            if status == 200:
                self.answered.set_result(None)
            else:
                self.answered.set_exception(RuntimeError(f"status {status}"))
        data = self._rest + data
        end = data.rfind(b"\n") + 1
        self._rest = data[end:]
        whole = data[:end]
        self.lines += whole.count(b"id: ")
        if b"T=" in whole:
            self._ages.extend(now - float(stamp) for stamp in STAMP.findall(whole))

    def connection_lost(self, _error: Exception | None) -> None:
        """Note that it is over."""
        self.is_lost = True
        if not self.answered.done():
            self.answered.set_exception(RuntimeError("the server closed the connection"))


async def connect(port: int, request: bytes, count: int, ages: "array[float]") -> list[Watcher]:
    """Return this many watchers, each of which has been answered."""
    loop = asyncio.get_running_loop()
    room = asyncio.Semaphore(CONNECTING_AT_ONCE)

    async def connect_one() -> Watcher:
        async with room:
            _, watcher = await loop.create_connection(
                lambda: Watcher(request, ages), "127.0.0.1", port
            )
            await asyncio.wait_for(watcher.answered, 60)
            return watcher

    return await asyncio.gather(*(connect_one() for _ in range(count)))


def percentile(values: list[float], part: float) -> float:
    """Return the value that `part` of them are below."""
    return values[min(int(len(values) * part), len(values) - 1)] if values else float("nan")


async def main(port: int, path: str, cookie: str, count: int) -> None:
    """Connect, then obey."""
    # HTTP/1.0, so that no chunk length appears in the middle of a line.
    request = f"GET {path} HTTP/1.0\r\nHost: localhost\r\nCookie: {cookie}\r\n\r\n".encode()
    ages: array[float] = array("d")
    watchers = await connect(port, request, count, ages)
    answer({"ready": len(watchers)})
    loop = asyncio.get_running_loop()
    while order := (await loop.run_in_executor(None, sys.stdin.readline)).strip():
        if order == "report":
            values = sorted(ages)
            answer(
                {
                    "median": percentile(values, 0.5),
                    "p99": percentile(values, 0.99),
                    "seen": len(values),
                    "fewest": min(watcher.lines for watcher in watchers),
                    "lost": sum(watcher.is_lost for watcher in watchers),
                }
            )
            del ages[:]


def answer(values: dict[str, Any]) -> None:
    """Print the answer to an order."""
    print(json.dumps(values), flush=True)


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4])))
