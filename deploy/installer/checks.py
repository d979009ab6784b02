"""Checks whether what was installed works: as a browser, as a monitor, and with the host's own doctor."""

import http.client
import json
import socket
import ssl
import time
from pathlib import Path

from deploy.installer import places
from deploy.installer.answers import Answers
from deploy.installer.errors import InstallError
from deploy.installer.machine import Machine

_PATIENCE_SECONDS = 60.0
_PAUSE_SECONDS = 0.2
_CODES_OF_DOCTOR = (0, 1, 3)
"""All well, a fault, a warning: its document says which."""


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=15)
        self._path = path

    def connect(self) -> None:
        """Connect to the socket instead of a port."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def wait_until_healthy(token: str) -> None:
    """Wait until the panel is healthy. Raises `InstallError` with what it says instead."""
    said = "it was not asked"
    until = time.monotonic() + _PATIENCE_SECONDS
    while time.monotonic() < until:
        try:
            status, body = _ask(UnixConnection(places.SOCKET), "localhost", "/healthz", token)
        except OSError as error:
            said = f"{places.SOCKET}: {error.strerror or error}"
        else:
            if status == http.client.OK:
                return
            said = _reason(status, body)
        time.sleep(_PAUSE_SECONDS)
    raise InstallError(
        f"The panel is not well after {_PATIENCE_SECONDS:g} s: {said}",
        "Look at `journalctl -u saferoom-web` and at the worker's log: `journalctl _UID=$(id -u saferoom)`.",
    )


def require_proxy(answers: Answers) -> None:
    """Raise `InstallError` unless nginx passes requests on to the panel, under the name that browsers use."""
    context = ssl.create_default_context()
    # Whether browsers trust the certificate is not checked here; and the name may resolve elsewhere.
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    host = f"[{answers.name}]" if ":" in answers.name else answers.name
    said = "no answer"
    until = time.monotonic() + 10  # A reload takes nginx a moment.
    while time.monotonic() < until:
        try:
            status, _ = _ask(
                http.client.HTTPSConnection("127.0.0.1", timeout=15, context=context),
                host,
                "/livez",
                "",
            )
        except OSError as error:
            said = str(error)
        else:
            if status == http.client.OK:
                return
            said = f"it answers {status}"
        time.sleep(_PAUSE_SECONDS)
    raise InstallError(
        f"nginx does not lead to the panel: https://{host}/livez from this machine: {said}",
        "Look at /var/log/nginx/error.log. Another site may listen for that name.",
    )


def run_doctor(machine: Machine) -> list[str]:
    """Return the warnings of the host's doctor, in its own words.

    Raises `InstallError` if something would keep servers from running.
    """
    doctor = (places.COMMANDS_DIR / "l4d2ctl", "doctor", "--json")
    document = json.loads(machine.ask(*doctor, codes=_CODES_OF_DOCTOR))
    notes = [_describe(finding) for finding in document if finding["severity"] == "warning"]
    faults = [_describe(finding) for finding in document if finding["severity"] == "fault"]
    if faults:
        raise InstallError(
            "The panel runs, but this host cannot run game servers:\n" + "\n".join(faults),
            "Mend it, and run deploy/install again, or `l4d2ctl doctor`.",
        )
    return notes


def _describe(finding: dict[str, str]) -> str:
    cure = f"\n    → {finding['cure']}" if finding["cure"] else ""
    return f"    {finding['subject']}: {finding['text']}{cure}"


def _reason(status: int, body: bytes) -> str:
    try:
        return str(json.loads(body)["reason"])
    except (ValueError, KeyError, TypeError):
        return f"it answers {status}"


def _ask(
    connection: http.client.HTTPConnection, host: str, path: str, token: str
) -> tuple[int, bytes]:
    headers = {"Host": host, "Connection": "close", "X-Forwarded-Proto": "https"}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    try:
        connection.request("GET", path, headers=headers)
        response = connection.getresponse()
        return response.status, response.read()
    except http.client.HTTPException as error:
        raise OSError(repr(error)) from error
    finally:
        connection.close()
