"""The gate as it is deployed: gunicorn itself, with limits so low that a test can reach them."""

import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from time import monotonic
from typing import Self

import pytest
from django.contrib.auth.models import User

from tests.jobs.live.stream_server import Panel, Watcher, cookie_of
from tests.waiting import wait_until

pytestmark = pytest.mark.django_db(transaction=True)

LIMITS = {
    "CONNECTIONS_PER_ADDRESS": "20",
    "STREAMS_PER_ADDRESS": "5",
    "STREAMS_PER_PERSON": "3",
    "TRUSTED_PROXIES": "127.0.0.3",
}
PATIENCE = {"HEADER_SECONDS": "120", "BODY_IDLE_SECONDS": "120", "BODY_SECONDS": "120"}
"""More than a busy machine takes for a test about something else."""
HURRY = {"HEADER_SECONDS": "1", "BODY_IDLE_SECONDS": "1", "BODY_SECONDS": "3"}
MIB = 1024**2


@pytest.fixture(scope="module")
def panel(tmp_path_factory: pytest.TempPathFactory, django_db_setup: None) -> Iterator[Panel]:
    """Return a panel that answers; one for all tests, because none leaves anything in it."""
    panel = Panel(tmp_path_factory.mktemp("panel") / "var")
    panel.start(**LIMITS, **PATIENCE)
    yield panel
    panel.stop()


@pytest.fixture(scope="module")
def hurried_panel(
    tmp_path_factory: pytest.TempPathFactory, django_db_setup: None
) -> Iterator[Panel]:
    """Return an impatient panel."""
    panel = Panel(tmp_path_factory.mktemp("hurried") / "var")
    panel.start(**LIMITS, **HURRY)
    yield panel
    panel.stop()


class Connection:
    """A TCP connection to the panel, from an address of this machine."""

    def __init__(self, panel: Panel, address: str = "127.0.0.2") -> None:
        self.socket = socket.create_connection(
            ("127.0.0.1", panel.port), timeout=20, source_address=(address, 0)
        )

    def send(self, data: bytes) -> None:
        """Send raw bytes."""
        self.socket.sendall(data)

    def read(self) -> bytes:
        """Return what arrives until the panel ends the connection."""
        parts = []
        while part := self.socket.recv(65536):
            parts.append(part)
        return b"".join(parts)

    def read_head(self) -> bytes:
        """Return the answer as far as its headers."""
        data = b""
        while b"\r\n\r\n" not in data and (part := self.socket.recv(65536)):
            data += part
        return data

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()


def request(line: str, **headers: str) -> bytes:
    """Return the head of a request."""
    lines = [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([f"{line} HTTP/1.1", "Host: localhost", *lines, "", ""]).encode()


def page_of(panel: Panel, address: str) -> bytes:
    """Return the answer to a page requested from `address`."""
    with Connection(panel, address) as connection:
        connection.send(request("GET /accounts/login/", Connection="close"))
        return connection.read()


def has_file_of(panel: Panel, least_bytes: int) -> bool:
    """Return whether the serving process has a file of that size open, even a deleted one."""
    sizes = [0]
    for path in Path(f"/proc/{panel.pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # It was closed meanwhile.
            sizes.append(path.stat().st_size)
    return max(sizes) >= least_bytes


def test_an_address_has_so_many_connections_and_others_have_theirs(panel: Panel) -> None:
    with ExitStack() as stack:
        for _ in range(20):
            stack.enter_context(Connection(panel)).send(b"GET / HTTP/1.1\r\n")
        refused = stack.enter_context(Connection(panel))
        refused.send(request("GET /accounts/login/"))
        answer = refused.read()
        assert answer.startswith(b"HTTP/1.1 429 ")
        assert b"retry-after: 10" in answer
        assert b"already has 20 open connections" in answer
        assert page_of(panel, "127.0.0.4").startswith(b"HTTP/1.1 200 ")
    wait_until(
        lambda: page_of(panel, "127.0.0.2").startswith(b"HTTP/1.1 200 "), 10, "still refused"
    )


def test_a_trusted_proxy_has_as_many_as_it_takes_and_speaks_for_each(
    panel: Panel, alice: User
) -> None:
    cookie = cookie_of(alice)
    with ExitStack() as stack:
        for _ in range(40):
            stack.enter_context(Connection(panel, "127.0.0.3"))

        def follow(client: str) -> bytes:
            connection = stack.enter_context(Connection(panel, "127.0.0.3"))
            connection.send(request("GET /events", Cookie=cookie, X_Forwarded_For=client))
            return connection.read_head()

        # From one address: first beyond Alice's own limit, and then beyond that of the address.
        heads = [follow("198.51.100.7") for _ in range(3)]
        assert all(head.startswith(b"HTTP/1.1 200 ") for head in heads)
        assert follow("203.0.113.9").startswith(b"HTTP/1.1 429 ")


def test_the_first_request_has_to_come_in_time(hurried_panel: Panel) -> None:
    with (
        Connection(hurried_panel) as silent,
        Connection(hurried_panel) as dripping,
        Connection(hurried_panel) as kept,
    ):
        stop = threading.Event()

        def drip() -> None:
            for byte in request("GET /accounts/login/"):
                if stop.wait(0.1):
                    return
                try:
                    dripping.send(bytes([byte]))
                except OSError:
                    return

        thread = threading.Thread(target=drip)
        thread.start()
        assert silent.read().startswith(b"HTTP/1.1 408 ")
        # Before all of it has arrived, or the answer would be a different one.
        assert dripping.read_head().startswith(b"HTTP/1.1 408 ")
        stop.set()
        thread.join()
        kept.socket.settimeout(5)
        assert kept.read().startswith(b"HTTP/1.1 408 ")


def test_a_stranger_puts_nothing_on_the_disk(panel: Panel) -> None:
    with Connection(panel) as declared:
        declared.send(request("POST /accounts/login/", Content_Length=str(600 * MIB)))
        assert declared.read_head().startswith(b"HTTP/1.1 413 ")
    with Connection(panel) as chunked:
        chunked.send(request("POST /servers/new/", Transfer_Encoding="chunked"))
        chunk = b"100000\r\n" + b"x" * MIB + b"\r\n"
        chunked.send(chunk * 3)
        assert not has_file_of(panel, MIB)
        chunked.send(chunk)
        assert chunked.read_head().startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize("path", ["/servers/new/", "/uploads/1/"])
def test_a_compressed_body_is_refused(panel: Panel, path: str) -> None:
    """gunicorn refuses encodings that it does not know, and the gate those that it does."""
    with Connection(panel) as connection:
        connection.send(request(f"POST {path}", Transfer_Encoding="gzip, chunked"))
        assert connection.read_head().startswith(b"HTTP/1.1 501 ")


@pytest.mark.parametrize("digits", [4300, 4301, 8000])
def test_a_length_of_thousands_of_digits_is_refused(panel: Panel, digits: int) -> None:
    with Connection(panel) as connection:
        connection.send(request("POST /accounts/login/", Content_Length="9" * digits))
        assert connection.read_head().startswith(b"HTTP/1.1 413 ")


def test_a_body_up_to_the_limit_stays_in_memory(panel: Panel) -> None:
    with Connection(panel) as connection:
        size = 3 * MIB
        connection.send(request("POST /servers/new/", Content_Length=str(size)))
        connection.send(b"x" * (size - 1))
        assert not has_file_of(panel, MIB)
        connection.send(b"x")
        # Whatever Django makes of it: it is Django that answers.
        assert connection.read_head().startswith(b"HTTP/1.1 403 ")


def test_a_silent_and_a_dripping_body_are_given_up(hurried_panel: Panel) -> None:
    with Connection(hurried_panel) as silent:
        silent.send(request("POST /servers/new/", Content_Length="100") + b"x")
        assert silent.read_head().startswith(b"HTTP/1.1 408 ")
    with Connection(hurried_panel) as dripping:
        dripping.send(request("POST /servers/new/", Content_Length="1000"))
        began = monotonic()
        dripping.socket.settimeout(0.2)
        head = b""
        while not head:
            dripping.send(b"x")
            try:
                head = dripping.read_head()
            except TimeoutError:
                continue
        assert head.startswith(b"HTTP/1.1 408 ")
        assert monotonic() - began > 2


def test_a_client_that_sends_all_before_it_reads_gets_the_answer(panel: Panel) -> None:
    with Connection(panel) as connection:
        connection.send(request("POST /servers/new/", Content_Length=str(5 * MIB)))
        connection.send(b"x" * 5 * MIB)
        assert connection.read_head().startswith(b"HTTP/1.1 413 ")


def test_a_person_has_so_many_streams_and_others_have_theirs(
    panel: Panel, alice: User, bob: User
) -> None:
    with ExitStack() as stack:

        def follow(person: User, address: str) -> bytes:
            connection = stack.enter_context(Connection(panel, address))
            connection.send(request("GET /events", Cookie=cookie_of(person)))
            return connection.read_head()

        heads = [follow(alice, "127.0.0.2") for _ in range(3)]
        assert all(head.startswith(b"HTTP/1.1 200 ") for head in heads)
        refused = follow(alice, "127.0.0.4")
        assert refused.startswith(b"HTTP/1.1 429 ")
        assert b"Retry-After: 10" in refused
        assert b"your limit of pages that follow this panel live (3)" in refused
        assert follow(bob, "127.0.0.2").startswith(b"HTTP/1.1 200 ")
    wait_until(lambda: is_let_in(panel, alice), 10, "Alice's streams still count")


def is_let_in(panel: Panel, person: User) -> bool:
    with Watcher(panel.port, "/events", cookie_of(person)).open() as response:
        return response.status == 200


def test_many_who_ask_at_one_moment_get_no_more_places_than_there_are(
    panel: Panel, alice: User
) -> None:
    cookie = cookie_of(alice)
    with ExitStack() as stack:
        addresses = [f"127.0.1.{number}" for number in range(1, 13)]
        connections = [stack.enter_context(Connection(panel, one)) for one in addresses]
        for connection in connections:
            connection.send(request("GET /events", Cookie=cookie))
        heads = [connection.read_head() for connection in connections]
    statuses = [int(head.split()[1]) for head in heads]
    assert sorted(statuses) == [200] * 3 + [429] * 9


def test_the_queue_of_connections_is_as_long_as_gunicorn_says(panel: Panel) -> None:
    def backlog() -> int:
        listening = subprocess.run(
            ["ss", "--listening", "--tcp", "--numeric", "--no-header", f"sport = :{panel.port}"],
            capture_output=True,
            text=True,
            check=True,
        )
        return int(listening.stdout.split()[2])

    longest = int(Path("/proc/sys/net/core/somaxconn").read_text())
    wait_until(lambda: backlog() == min(2048, longest), 10, "the queue is too short")


def test_worker_connections_means_what_it_says(tmp_path: Path, alice: User) -> None:
    panel = Panel(tmp_path / "var")
    panel.start(GUNICORN_CMD_ARGS="--worker-connections 30")
    try:
        with ExitStack() as stack:
            for number in range(30):
                stack.enter_context(Connection(panel, f"127.0.1.{number + 1}"))
            refused = stack.enter_context(Connection(panel, "127.0.2.1"))
            refused.send(request("GET /accounts/login/"))
            answer = refused.read()
            assert answer.startswith(b"HTTP/1.1 503 ")
            assert b"retry-after" in answer
    finally:
        panel.stop()
