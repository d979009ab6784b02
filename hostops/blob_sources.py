"""Where the files of overlays' versions come from: the panel's store as a folder, or the panel by HTTP."""

import contextlib
import http.client
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from http import HTTPStatus
from pathlib import Path
from urllib.parse import urlsplit

from hostops.blobs import BlobError, BlobFolder
from hostops.errors import BlobSourceError
from hostops.specs import Readable

TIMEOUT_SECONDS = 15.0
"""How long the panel may be silent: while connecting, after a request, and between two parts of an answer."""

_PARALLEL = 6
_SKIP_BYTES = 1024**2
_PASSING = frozenset(
    {
        HTTPStatus.TOO_MANY_REQUESTS,
        HTTPStatus.INTERNAL_SERVER_ERROR,
        HTTPStatus.BAD_GATEWAY,
        HTTPStatus.SERVICE_UNAVAILABLE,
        HTTPStatus.GATEWAY_TIMEOUT,
    }
)
"""The answers of a panel that is restarting or busy, or of the proxy in front of it."""

_FAULTS = (OSError, http.client.HTTPException)
"""What http.client raises when a transfer fails, including TLS errors."""


class FolderSource:
    """The panel's store itself, on the machine that has it."""

    parallel = 1

    def __init__(self, root: Path) -> None:
        self._store = BlobFolder(root)

    def __contains__(self, sha256: str) -> bool:
        try:
            return sha256 in self._store
        except OSError:  # This account may not enter some folder of it.
            return False

    def connect(self) -> "FolderSource":
        """Return itself: nothing is kept open."""
        return self

    @contextlib.contextmanager
    def open(self, sha256: str, offset: int = 0) -> Iterator[Readable]:
        """Open a blob of the store. Raises `BlobSourceError`, also while it is being read."""
        path = self._store.path_of(sha256)

        def explain(error: Exception) -> BlobSourceError:
            return BlobSourceError(f"{path} cannot be read: {error}.")

        try:
            file = self._store.open(sha256)
        except BlobError as error:
            raise BlobSourceError(
                f"{error} Its folder is {self._store.root} (CONTENT_ROOT). On any machine but the panel's, "
                "PANEL_URL has to be the panel's address."
            ) from None
        except OSError as error:
            raise explain(error) from error
        with file:
            file.seek(offset)
            yield _Reading(file, (OSError,), explain)

    def close(self) -> None:
        """Do nothing: reading from a disk ends by itself."""


class HttpSource:
    """The panel at `panel_url`, by addresses that `make_path` signs for one blob each.

    `make_path` takes a SHA-256 and returns a path below `panel_url`. TLS is verified, and no redirect is
    followed: the addresses are for the panel alone.
    """

    parallel = _PARALLEL

    def __init__(self, panel_url: str, make_path: Callable[[str], str]) -> None:
        self._panel_url = panel_url
        self._make_path = make_path

    def connect(self) -> "HttpReader":
        """Return a reader with its own connections."""
        return HttpReader(self._panel_url, self._make_path)


class NearestSource:
    """The panel's store for what this machine has of it, and the panel for everything else.

    Nothing marks a folder as the panel's store: another machine may have one at the same path. No mark is
    needed: the hash says what a blob is, wherever it comes from.
    """

    parallel = _PARALLEL

    def __init__(self, store: FolderSource, panel: HttpSource) -> None:
        self._store = store
        self._panel = panel

    def connect(self) -> "NearestReader":
        """Return a reader for both."""
        return NearestReader(self._store, self._panel.connect())


class NearestReader:
    """Reads from a store, or over connections to the panel."""

    def __init__(self, store: FolderSource, panel: "HttpReader") -> None:
        self._store = store
        self._panel = panel

    def open(self, sha256: str, offset: int = 0) -> contextlib.AbstractContextManager[Readable]:
        """Open a blob, wherever it is. Raises `BlobSourceError`, also while it is being read."""
        return (self._store if sha256 in self._store else self._panel).open(sha256, offset)

    def close(self) -> None:
        """End all connections."""
        self._panel.close()


class HttpReader:
    """Connections to the panel; each is reused once its answer has been read to the end."""

    def __init__(self, panel_url: str, make_path: Callable[[str], str]) -> None:
        self._panel_url = panel_url
        self._make_path = make_path
        self._lock = threading.Lock()
        self._idle: list[http.client.HTTPConnection] = []
        self._all: set[http.client.HTTPConnection] = set()
        self._is_closed = False

    @contextlib.contextmanager
    def open(self, sha256: str, offset: int = 0) -> Iterator[Readable]:
        """Request a blob from the panel. Raises `BlobSourceError`, also while it is being read."""
        connection, is_used = self._take()
        try:
            try:
                response = self._ask(connection, sha256, offset, is_used=is_used)
            except _FAULTS as error:
                raise self._explain(error) from error
            self._require_found(response, offset)
            reading = _Reading(response, _FAULTS, self._explain)
            if response.status == HTTPStatus.OK:
                _skip(reading, offset)
            yield reading
            if response.isclosed():
                self._give_back(connection)
        finally:
            self._drop(connection)

    def close(self) -> None:
        """End all connections, so that nobody keeps waiting for one."""
        with self._lock:
            self._is_closed = True
            idle, self._idle = self._idle, []
            used = self._all.difference(idle)
        for connection in idle:
            connection.close()
        for connection in used:
            # Not `close`: a thread reading from a socket would not notice. After this it closes the socket
            # itself.
            if (sock := connection.sock) is not None:
                with contextlib.suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)

    def _take(self) -> tuple[http.client.HTTPConnection, bool]:
        """Return a connection, and whether it has been used before."""
        with self._lock:
            if self._is_closed:
                raise BlobSourceError("The panel is no longer asked.")
            if self._idle:
                return self._idle.pop(), True
            address = urlsplit(self._panel_url)
            kind = (
                http.client.HTTPSConnection
                if address.scheme == "https"
                else http.client.HTTPConnection
            )
            connection = kind(address.hostname or "", address.port, timeout=TIMEOUT_SECONDS)
            self._all.add(connection)
            return connection, False

    def _give_back(self, connection: http.client.HTTPConnection) -> None:
        with self._lock:
            if not self._is_closed:
                self._idle.append(connection)

    def _drop(self, connection: http.client.HTTPConnection) -> None:
        """Close a connection that was not given back."""
        with self._lock:
            if connection in self._idle:
                return
            self._all.discard(connection)
        connection.close()

    def _ask(
        self, connection: http.client.HTTPConnection, sha256: str, offset: int, *, is_used: bool
    ) -> http.client.HTTPResponse:
        headers = {"Range": f"bytes={offset}-"} if offset else {}
        try:
            connection.request("GET", self._make_path(sha256), headers=headers)
            if self._is_closed:  # It may have connected since.
                raise BlobSourceError("The panel is no longer asked.")
            return connection.getresponse()
        except _FAULTS:
            if not is_used:
                raise
        # The panel ends idle connections, and may just have done so.
        connection.close()
        return self._ask(connection, sha256, offset, is_used=False)

    def _require_found(self, response: http.client.HTTPResponse, offset: int) -> None:
        """Raise `BlobSourceError` for any answer except the blob, or its rest."""
        status = response.status
        if status == HTTPStatus.OK:
            return
        if status == HTTPStatus.PARTIAL_CONTENT:
            if (response.getheader("Content-Range") or "").startswith(f"bytes {offset}-"):
                return
            raise BlobSourceError(
                f"The panel at {self._panel_url} gave another part of the file than it was asked for."
            )
        if status == HTTPStatus.NOT_FOUND:
            raise BlobSourceError(
                f"The panel at {self._panel_url} does not give the file (HTTP 404). Either its store has it no "
                "more, or it does not trust this worker: both need the same SECRETS_KEYS, and clocks that "
                "differ by less than an hour, and PANEL_URL has to lead to this worker's panel."
            )
        if 300 <= status < 400:
            raise BlobSourceError(
                f"The panel at {self._panel_url} leads elsewhere (HTTP {status}, to "
                f"{(response.getheader('Location') or 'nowhere')[:200]!r}): set PANEL_URL to the address that "
                "it really has."
            )
        raise BlobSourceError(
            f"The panel at {self._panel_url} answered HTTP {status} {response.reason}.",
            is_passing=status in _PASSING,
        )

    def _explain(self, error: Exception) -> BlobSourceError:
        if isinstance(error, ssl.SSLCertVerificationError):
            return BlobSourceError(
                f"The certificate of {self._panel_url} is not trusted here: {error.verify_message}. Look "
                "whether PANEL_URL is right, and who signed the certificate."
            )
        said = getattr(error, "strerror", None) or str(error) or type(error).__name__
        return BlobSourceError(
            f"The connection to the panel at {self._panel_url} failed: {said}.", is_passing=True
        )


class _Reading:
    """Reads, and explains errors of reading; errors in what was read are for the caller."""

    def __init__(
        self,
        source: Readable,
        faults: tuple[type[Exception], ...],
        explain: Callable[[Exception], BlobSourceError],
    ) -> None:
        self._source = source
        self._faults = faults
        self._explain = explain

    def read(self, size: int, /) -> bytes:
        """Return at most `size` of the next bytes. Raises `BlobSourceError`."""
        try:
            return self._source.read(size)
        except self._faults as error:
            raise self._explain(error) from error


def _skip(response: Readable, size: int) -> None:
    """Read past bytes that are there already, in an answer that starts from the beginning all the same."""
    while size > 0 and (part := response.read(min(size, _SKIP_BYTES))):
        size -= len(part)
