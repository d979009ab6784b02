"""A host gets files from the panel by HTTP: cut transfers are resumed, and nothing else passes for a file."""

import hashlib
import threading
from collections.abc import Callable, Iterator
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from hostops.blob_sources import TIMEOUT_SECONDS, FolderSource, HttpSource, NearestSource
from hostops.blobs import BlobFolder
from hostops.callbacks import Callbacks
from hostops.content import blob_fetching
from hostops.content.blob_fetching import WantedBlob, fetch_blobs
from hostops.errors import BlobSourceError, OperationCancelled
from hostops.specs import CancelToken
from tests.hostops.hosts import Output
from tests.ports import find_free_port
from tests.waiting import wait_until

CONTENT = bytes(range(256)) * 12_000
SHA256 = hashlib.sha256(CONTENT).hexdigest()
WANTED = WantedBlob(SHA256, len(CONTENT), len(CONTENT))

Answer = Callable[["Handler", int], None]


class Handler(BaseHTTPRequestHandler):
    """Answers the requests of a test one after the other; the last answer is repeated."""

    protocol_version = "HTTP/1.1"
    server: "FakePanel"

    def do_GET(self) -> None:
        """Answer the next request."""
        begin = int(self.headers.get("Range", "bytes=0-")[6:-1])
        answers = self.server.answers
        answer = answers[min(len(self.server.asked), len(answers) - 1)]
        self.server.asked.append((self.path, begin, self.client_address[1]))
        answer(self, begin)

    def begin(self, status: int, length: int, **headers: str) -> None:
        """Send the head of an answer."""
        self.send_response(status)
        self.send_header("Content-Length", str(length))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class FakePanel(ThreadingHTTPServer):
    """A panel that answers as it is told, on a port of its own."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers: list[Answer] = [give]
        self.asked: list[tuple[str, int, int]] = []
        self.release = threading.Event()

    @property
    def source(self) -> HttpSource:
        """The source from which a host gets files."""
        address = f"http://127.0.0.1:{self.server_port}"
        return HttpSource(address, lambda sha256: f"/blobs/{sha256}?signed=1")


def give(handler: Handler, begin: int, content: bytes = CONTENT) -> None:
    rest = content[begin:]
    if begin:
        place = f"bytes {begin}-{len(content) - 1}/{len(content)}"
        handler.begin(HTTPStatus.PARTIAL_CONTENT, len(rest), Content_Range=place)
    else:
        handler.begin(HTTPStatus.OK, len(rest))
    handler.wfile.write(rest)


def give_another(handler: Handler, begin: int) -> None:
    give(handler, begin, CONTENT[::-1])


def give_all(handler: Handler, _begin: int) -> None:
    give(handler, 0)


def give_too_much(handler: Handler, _begin: int) -> None:
    handler.begin(HTTPStatus.OK, len(CONTENT) + 1)
    handler.wfile.write(CONTENT + b"!")


def cut(handler: Handler, begin: int) -> None:
    handler.begin(HTTPStatus.OK, len(CONTENT))
    handler.wfile.write(CONTENT[begin:1_500_000])
    handler.close_connection = True


def stall(handler: Handler, begin: int) -> None:
    handler.begin(HTTPStatus.OK, len(CONTENT))
    handler.wfile.write(CONTENT[begin:100])
    handler.wfile.flush()
    handler.server.release.wait(30)
    handler.close_connection = True


def refuse(status: int, **headers: str) -> Answer:
    return lambda handler, _begin: handler.begin(status, 0, **headers)


@pytest.fixture
def panel() -> Iterator[FakePanel]:
    """Return a panel that answers by HTTP."""
    with FakePanel() as panel:
        thread = threading.Thread(target=panel.serve_forever, args=[0.01])
        thread.start()
        yield panel
        panel.release.set()
        panel.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retry without pauses."""
    monkeypatch.setattr(blob_fetching, "PAUSES_SECONDS", (0.0, 0.0))


def fetch(
    panel: FakePanel, folder: Path, *wanted: WantedBlob, callbacks: Callbacks | None = None
) -> None:
    fetch_blobs(panel.source, wanted or [WANTED], folder, "Fetching maps", callbacks or Callbacks())


def test_many_are_fetched_at_a_time_over_connections_that_are_used_again(
    panel: FakePanel, tmp_path: Path
) -> None:
    contents = {hashlib.sha256(b"%d" % number).hexdigest(): b"%d" % number for number in range(60)}
    panel.answers = [
        lambda handler, begin: give(handler, begin, contents[handler.path[7:].partition("?")[0]])
    ]
    wanted = [WantedBlob(sha256, len(one), len(one)) for sha256, one in contents.items()]
    fetch(panel, tmp_path, *wanted)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == contents
    assert {path for path, _, _ in panel.asked} == {f"/blobs/{one}?signed=1" for one in contents}
    assert len({port for _, _, port in panel.asked}) <= HttpSource.parallel


@pytest.mark.parametrize("rest", [give, give_all])
def test_what_is_cut_goes_on_where_it_was(panel: FakePanel, tmp_path: Path, rest: Answer) -> None:
    panel.answers = [cut, refuse(HTTPStatus.SERVICE_UNAVAILABLE), rest]
    output = Output()
    fetch(panel, tmp_path, callbacks=Callbacks(output.on_line))
    assert (tmp_path / SHA256).read_bytes() == CONTENT
    assert [begin for _, begin, _ in panel.asked] == [0, 1_500_000, 1_500_000]
    assert "ended after 1,500,000 bytes" in output.errors()
    assert "answered HTTP 503 Service Unavailable. It is tried again" in output.errors()


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (refuse(HTTPStatus.NOT_FOUND), "does not give the file .* the same SECRETS_KEYS"),
        (refuse(HTTPStatus.FOUND, Location="/login"), "leads elsewhere .* set PANEL_URL"),
        (refuse(HTTPStatus.BAD_REQUEST), "answered HTTP 400"),
        (give_another, "has its size and is another one"),
        (give_too_much, "has more than its 3,072,000 bytes"),
    ],
)
def test_what_is_no_passing_fault_is_not_tried_again(
    panel: FakePanel, tmp_path: Path, answer: Answer, said: str
) -> None:
    panel.answers = [answer, give]
    with pytest.raises(BlobSourceError, match=said):
        fetch(panel, tmp_path)
    assert len(panel.asked) == 1


def test_a_panel_that_stays_away_is_asked_a_few_times(panel: FakePanel, tmp_path: Path) -> None:
    panel.answers = [refuse(HTTPStatus.BAD_GATEWAY)]
    with pytest.raises(BlobSourceError, match="answered HTTP 502"):
        fetch(panel, tmp_path)
    assert len(panel.asked) == 3
    nowhere = HttpSource(f"http://127.0.0.1:{find_free_port()}", lambda _: "/")
    with pytest.raises(BlobSourceError, match=r"The connection to the panel at .* failed: "):
        fetch_blobs(nowhere, [WANTED], tmp_path, "Fetching maps", Callbacks())


@pytest.mark.parametrize("size", [None, len(CONTENT)])
def test_a_cancel_ends_what_waits_for_a_silent_panel(
    panel: FakePanel, tmp_path: Path, size: int | None
) -> None:
    cancel = CancelToken()

    def cancel_and_stall(handler: Handler, begin: int) -> None:
        cancel.cancel()
        stall(handler, begin)

    panel.answers = [cancel_and_stall]

    wanted = WantedBlob(SHA256, len(CONTENT), size)
    callbacks = Callbacks(cancel=cancel)
    with pytest.raises(OperationCancelled):
        fetch(panel, tmp_path, wanted, callbacks=callbacks)
    # Sooner than the patience with a silent panel would end them.
    wait_until(lambda: not readers(), TIMEOUT_SECONDS / 2, "somebody still waits for the panel")


def readers() -> list[str]:
    names = [thread.name for thread in threading.enumerate()]
    return [name for name in names if name.startswith("blobs")]


def test_a_blob_of_unknown_size_is_begun_anew_when_it_is_cut(
    panel: FakePanel, tmp_path: Path
) -> None:
    panel.answers = [cut, give]
    fetch(panel, tmp_path, WantedBlob(SHA256, len(CONTENT)))
    assert (tmp_path / SHA256).read_bytes() == CONTENT
    assert [begin for _, begin, _ in panel.asked] == [0, 0]


def test_a_file_that_the_store_has_lost_is_told_with_its_folder(tmp_path: Path) -> None:
    source = FolderSource(tmp_path / "store")
    with pytest.raises(BlobSourceError, match=r"no longer in the store.*store \(CONTENT_ROOT\)"):
        fetch_blobs(source, [WANTED], tmp_path, "Fetching maps", Callbacks())


def test_what_a_folder_of_this_machine_lacks_is_asked_of_the_panel(
    panel: FakePanel, tmp_path: Path
) -> None:
    source = NearestSource(FolderSource(tmp_path / "store"), panel.source)
    here = b"what is here already"
    store = BlobFolder(tmp_path / "store")
    with store.adding():
        sha256 = store.add_bytes(here)
    folder = tmp_path / "fetched"
    folder.mkdir()
    wanted = [WANTED, WantedBlob(sha256, len(here), len(here))]
    fetched = fetch_blobs(source, wanted, folder, "Fetching maps", Callbacks())
    assert [path.read_bytes() for path, _ in fetched] == [CONTENT, here]
    assert [path for path, _, _ in panel.asked] == [f"/blobs/{SHA256}?signed=1"]
