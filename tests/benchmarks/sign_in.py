"""`script/bench sign_in`: what strangers can do to the others, on the real panel with its usual settings.

A flood of sign-ins, a huge body, half-open connections, a dripping body, three hundred streams of one person.
Meanwhile somebody else, in a separate process, opens a page again and again. All share one machine.
"""

import argparse
import asyncio
import http.client
import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import tempfile
import urllib.parse
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from pathlib import Path
from time import monotonic, sleep

from tests.benchmarks.streams import Row, note, print_table
from tests.endtoend.panel import PASSWORD, PROJECT_DIR
from tests.ports import find_free_port
from tests.waiting import wait_until

MIB = 1024**2
PAUSE_SECONDS = 0.02
VISITOR = "127.0.0.9"


class Site:
    """The panel as `script/server` runs it."""

    def __init__(self, var_dir: Path) -> None:
        self.port = find_free_port()
        self._process = subprocess.Popen(
            [sys.executable, "manage.py", "serve"],
            cwd=PROJECT_DIR,
            env=os.environ
            | {
                "VAR_DIR": str(var_dir),
                "PORT": str(self.port),
                "SECRET_KEY": "only-for-this-benchmark",
                "GAME_SOURCE": "simulator",
                "SAFEROOM_ADMIN_PASSWORD": PASSWORD,
            },
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        wait_until(self._answers, 120, "the panel does not answer")
        self.web_pid = self.find_web()

    def _answers(self) -> bool:
        try:
            return ask(self.port, "GET", "/healthz").status == 200
        except OSError:
            return False

    def find_web(self) -> int:
        """Return the pid of the process that serves: gunicorn's child."""
        (arbiter,) = (
            pid for pid in children_of(self._process.pid) if "gunicorn" in command_of(pid)
        )
        return children_of(arbiter)[0]

    def stop(self) -> None:
        """End it."""
        self._process.terminate()
        self._process.wait(60)


def children_of(pid: int) -> list[int]:
    """Return the children of a process."""
    return [int(text) for text in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def command_of(pid: int) -> str:
    """Return the command line of a process."""
    return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")


def ask(
    port: int,
    method: str,
    path: str,
    body: str | None = None,
    *,
    address: str = "127.0.0.1",
    **headers: str,
) -> http.client.HTTPResponse:
    """Send one request; return the response, read."""
    web = http.client.HTTPConnection("127.0.0.1", port, timeout=120, source_address=(address, 0))
    web.request(
        method, path, body, {name.replace("_", "-"): value for name, value in headers.items()}
    )
    response = web.getresponse()
    response.read()
    web.close()
    return response


def cookie_in(response: http.client.HTTPResponse, name: str) -> str:
    """Return a cookie that an answer sets."""
    for header in response.headers.get_all("Set-Cookie") or ():
        if header.startswith(f"{name}="):
            return header.partition(";")[0].partition("=")[2]
    raise RuntimeError(f"the answer {response.status} sets no cookie {name}")


def form_of(token: str, password: str) -> str:
    """Return the form by which the admin signs in."""
    form = {"username": "admin", "password": password, "csrfmiddlewaretoken": token}
    return urllib.parse.urlencode(form)


def sign_in(port: int) -> str:
    """Return the cookie of a session of the admin."""
    token = cookie_in(ask(port, "GET", "/accounts/login/"), "csrftoken")
    answer = ask(
        port,
        "POST",
        "/accounts/login/",
        form_of(token, PASSWORD),
        Cookie=f"csrftoken={token}",
        Content_Type="application/x-www-form-urlencoded",
    )
    return f"sessionid={cookie_in(answer, 'sessionid')}"


def visit(port: int, cookie: str, ending: Connection) -> None:
    """Open the list of servers again and again, until told to end; then send how long each took."""
    ask(port, "GET", "/servers/", address=VISITOR, Cookie=cookie)
    ending.send("ready")
    times = []
    while not ending.poll():
        began = monotonic()
        try:
            status = ask(port, "GET", "/servers/", address=VISITOR, Cookie=cookie).status
        except (OSError, http.client.HTTPException):
            status = 0  # No answer at all: counts as refused.
        times.append((status, monotonic() - began))
        sleep(PAUSE_SECONDS)
    ending.send(times)


class Watch:
    """What happens to the web process during an attack."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self.threads = 0
        self.memory_mib = 0.0
        self.file_mib = 0.0

    async def look(self) -> None:
        """Keep the highest figures until cancelled."""
        with suppress(OSError):  # The process has ended: `web restarted` reports that.
            while True:
                self._look_once()
                await asyncio.sleep(0.1)

    def _look_once(self) -> None:
        text = Path(f"/proc/{self._pid}/status").read_text()
        status = dict(line.split(":\t", 1) for line in text.splitlines())
        self.threads = max(self.threads, int(status["Threads"]))
        self.memory_mib = max(self.memory_mib, int(status["VmRSS"].split()[0]) / 1024)
        self.file_mib = max(self.file_mib, self._temporary_files() / MIB)

    def _temporary_files(self) -> int:
        """Return the bytes of files that are deleted and still open: Django keeps large bodies that way."""
        size = 0
        for descriptor in Path(f"/proc/{self._pid}/fd").iterdir():
            with suppress(FileNotFoundError):  # It was closed meanwhile.
                if str(descriptor.readlink()).endswith(" (deleted)"):
                    size += descriptor.stat().st_size
        return size


@contextmanager
def visitor(port: int, cookie: str) -> Iterator[list[tuple[int, float]]]:
    """Have somebody open pages during the block; what they saw is in the list afterwards."""
    seen: list[tuple[int, float]] = []
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(
        target=visit, args=(port, cookie, theirs)
    )
    process.start()
    ours.recv()
    yield seen
    ours.send(None)
    seen += ours.recv()
    process.join()


def measure(site: Site, cookie: str, what: str, attack: Callable[[], Awaitable[str]]) -> Row:
    """Measure one attack, which returns its outcome in words."""
    watch = Watch(site.web_pid)

    async def run() -> tuple[str, float]:
        looking = asyncio.create_task(watch.look())
        began = monotonic()
        outcome = await attack()
        took = monotonic() - began
        await asyncio.sleep(1)  # What it leaves behind shows even if it is over at once.
        looking.cancel()
        return outcome, took

    with visitor(site.port, cookie) as seen:
        outcome, took = asyncio.run(run())
    times = sorted(seconds for _, seconds in seen)
    return {
        "what": what,
        "outcome": outcome,
        "seconds": round(took, 1),
        "others' pages": len(times),
        "median ms": round(times[len(times) // 2] * 1000),
        "worst ms": round(times[-1] * 1000),
        "refused": sum(status != 200 for status, _ in seen),
        "threads": watch.threads,
        "RSS MiB": round(watch.memory_mib),
        "on disk MiB": round(watch.file_mib),
        "web restarted": "no" if site.find_web() == site.web_pid else "yes",
    }


async def read_status(reader: asyncio.StreamReader) -> str:
    """Return the status of an answer, or what happened instead of one."""
    try:
        line = await reader.readline()
    except OSError:
        return "reset"
    return line.split()[1].decode() if line else "closed"


async def exchange(port: int, address: str, request: bytes) -> tuple[str, float]:
    """Send one request; return the status and after how many seconds it came."""
    began = monotonic()
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(address, 0))
    except OSError:
        return "not connected", monotonic() - began
    writer.write(request)
    status = await read_status(reader)
    writer.close()
    return status, monotonic() - began


def describe(answers: list[tuple[str, float]]) -> str:
    """Return how often each status came, and when it came last."""
    counts = Counter(status for status, _ in answers)
    last = {status: max(s for one, s in answers if one == status) for status in counts}
    return ", ".join(
        f"{count} × {status} by {last[status]:.1f} s" for status, count in counts.items()
    )


async def flood_sign_in(port: int, addresses: list[str]) -> str:
    """Try wrong passwords, one from each of `addresses`, all at once."""
    token = "a" * 32
    form = form_of(token, "wrong")
    request = (
        "POST /accounts/login/ HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
        f"Cookie: csrftoken={token}\r\nContent-Type: application/x-www-form-urlencoded\r\n"
        f"Content-Length: {len(form)}\r\n\r\n{form}"
    ).encode()
    return describe(await asyncio.gather(*(exchange(port, one, request) for one in addresses)))


async def send_huge_body(port: int, *, is_declared: bool) -> str:
    """Send 600 MiB as a stranger, as far as they are accepted; with a length, or in chunks."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    framing = f"Content-Length: {600 * MIB}" if is_declared else "Transfer-Encoding: chunked"
    writer.write(f"POST /accounts/login/ HTTP/1.1\r\nHost: localhost\r\n{framing}\r\n\r\n".encode())
    part = b"x" * MIB
    sent = 0
    answer = asyncio.create_task(read_status(reader))
    try:
        while sent < 600 and not answer.done():
            writer.write(part if is_declared else b"100000\r\n" + part + b"\r\n")
            await writer.drain()
            sent += 1
        if not is_declared and not answer.done():
            writer.write(b"0\r\n\r\n")
    except OSError:
        pass  # It was cut off; the answer can be read all the same.
    status = await answer
    writer.close()
    return f"{status} after {sent} MiB"


async def open_halfway(port: int, count: int) -> str:
    """Open connections from two addresses, and send half a request head over each."""
    answers: Counter[str] = Counter()
    room = asyncio.Semaphore(500)

    async def one(address: str) -> None:
        async with room:
            try:
                reader, writer = await asyncio.open_connection(
                    "127.0.0.1", port, local_addr=(address, 0)
                )
            except OSError:
                answers["not connected"] += 1
                return
            writer.write(b"GET / HTTP/1.1\r\nHost:")
        try:
            async with asyncio.timeout(30):
                answers[await read_status(reader)] += 1
        except TimeoutError:
            answers["open for 30 s"] += 1
        writer.close()

    await asyncio.gather(*(one(f"127.0.0.{1 + number % 2}") for number in range(count)))
    return ", ".join(f"{number} × {status}" for status, number in answers.items())


async def drip(port: int, longest_seconds: float) -> str:
    """Send a body one byte every two seconds."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"POST /x/ HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n")
    answer = asyncio.create_task(read_status(reader))
    began = monotonic()
    while not answer.done() and monotonic() - began < longest_seconds:
        writer.write(b"x")
        await asyncio.wait([answer], timeout=2)
    if not answer.done():
        answer.cancel()
        return f"open after {longest_seconds:g} s"
    return f"{answer.result()} after {monotonic() - began:.0f} s"


async def open_streams(port: int, cookie: str, count: int) -> str:
    """Follow everything in this many pages of one person, from ten addresses, for five seconds."""
    request = f"GET /events HTTP/1.1\r\nHost: localhost\r\nCookie: {cookie}\r\n\r\n".encode()
    statuses: Counter[str] = Counter()
    writers = []

    async def one(address: str) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(address, 0))
        writers.append(writer)
        writer.write(request)
        statuses[await read_status(reader)] += 1

    await asyncio.gather(*(one(f"127.0.2.{1 + number % 10}") for number in range(count)))
    await asyncio.sleep(5)
    for writer in writers:
        writer.close()
    return ", ".join(f"{number} × {status}" for status, number in statuses.items())


async def do_nothing() -> str:
    """Leave the others alone for a while."""
    await asyncio.sleep(5)
    return "–"


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument(
        "parts", nargs="*", help="only the attacks whose names contain one of these"
    )
    parser.add_argument("--attempts", type=int, default=200, help="sign-ins at one time")
    parser.add_argument("--half-open", type=int, default=10_000, help="connections at one time")
    parser.add_argument("--drip-seconds", type=float, default=150, help="when to give a drip up")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))  # So that nothing is left behind.
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    attempts, crowd = options.attempts, [f"127.1.0.{n + 1}" for n in range(options.attempts)]
    with tempfile.TemporaryDirectory(prefix="saferoom-bench-") as folder:
        site = Site(Path(folder))
        port = site.port
        try:
            cookie = sign_in(port)
            attacks: dict[str, Callable[[], Awaitable[str]]] = {
                "nothing": do_nothing,
                f"{attempts} sign-ins, one address": lambda: flood_sign_in(
                    port, ["127.0.0.2"] * attempts
                ),
                f"{attempts} sign-ins, as many addresses": lambda: flood_sign_in(port, crowd),
                "600 MiB, by length": lambda: send_huge_body(port, is_declared=True),
                "600 MiB, in chunks": lambda: send_huge_body(port, is_declared=False),
                f"{options.half_open} half-open": lambda: open_halfway(port, options.half_open),
                "a body that drips": lambda: drip(port, options.drip_seconds),
                "300 streams of one person": lambda: open_streams(port, cookie, 300),
            }
            rows = [
                note(measure(site, cookie, what, attack))
                for what, attack in attacks.items()
                if not options.parts or any(part in what for part in options.parts)
            ]
        finally:
            site.stop()
    print_table("Strangers", rows)


if __name__ == "__main__":
    main()
