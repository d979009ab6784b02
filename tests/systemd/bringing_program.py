"""A program: kim uploads an archive to a new overlay of an installed panel, and reads a file of it back.

    python -m tests.systemd.bringing_program PASSWORD

It runs on the installed machine, and needs only the standard library. It prints the content of the file.
"""

import base64
import io
import json
import sys
import zipfile
from http import HTTPStatus

from tests.systemd.installed_browser import Browser
from tests.waiting import wait_until

CFG = b"sv_consistency 0\n"
PATH = "left4dead2/cfg/mine.cfg"
PAD_BYTES = 3 * 1024**2
"""More than nginx accepts as a body elsewhere."""
CUT = 1024**2
VERSION_SECONDS = 60


def make_archive() -> bytes:
    """Return a ZIP with a config and something large."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr(PATH, CFG)
        archive.writestr("left4dead2/sound/long.wav", bytes(PAD_BYTES))
    return packed.getvalue()


def send(browser: Browser, upload: dict[str, str], archive: bytes) -> None:
    """Send an archive by tus, in two requests."""
    name = base64.b64encode(b"mine.zip").decode()
    tus = {"Tus-Resumable": "1.0.0"}
    length = {"Upload-Length": str(len(archive)), "Upload-Metadata": f"path {name}"}
    made = browser.send("POST", upload["parts_url"], b"", tus | length)
    require(made.read(), made.status, HTTPStatus.CREATED)
    location = made.headers["Location"]
    for start, part in ((0, archive[:CUT]), (CUT, archive[CUT:])):
        headers = {"Content-Type": "application/offset+octet-stream", "Upload-Offset": str(start)}
        taken = browser.send("PATCH", location, part, tus | headers)
        require(taken.read(), taken.status, HTTPStatus.NO_CONTENT)


def require(body: bytes, status: int, wanted: int) -> bytes:
    """Return an answer's body; end the program if it is a different answer."""
    if status != wanted:
        raise SystemExit(f"answered {status} in place of {wanted}: {body.decode()}")
    return body


def main() -> None:
    """Upload it, wait for the version, read it back."""
    browser = Browser()
    browser.sign_in("kim", sys.argv[1])
    page = browser.post("/overlays/new/", name="brought", description="")
    asks_json = {"Accept": "application/json", "X-CSRFToken": browser.token}
    answer = browser.send("POST", f"{page}uploads/", b"", asks_json)
    upload = json.loads(require(answer.read(), answer.status, HTTPStatus.CREATED))
    send(browser, upload, make_archive())
    browser.post(upload["finish_url"])
    version = f"{page}versions/1/"
    wait_until(
        lambda: version in browser.ask("GET", page).read().decode(),
        VERSION_SECONDS,
        "no version is made",
    )
    file = browser.ask("GET", f"{version}download/?path={PATH}")
    print(require(file.read(), file.status, HTTPStatus.OK).decode())


if __name__ == "__main__":
    main()
