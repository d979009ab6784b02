"""`script/bench content`: a large file, and many small ones, from a client on this machine to a version.

For comparison, what `cp` and `sync`, or `unzip` and `sync`, take for the same bytes. `--mib` makes the large
file smaller than 2 GiB.
"""

import argparse
import asyncio
import base64
import http.client
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from time import monotonic

from tests.benchmarks.sign_in import Site, Watch, cookie_in, sign_in
from tests.benchmarks.streams import Row, note, print_table
from tests.endtoend.panel import PASSWORD, PROJECT_DIR
from tests.waiting import wait_until

MIB = 1024**2
FILES = 3_400
FILE_BYTES = 4_000
AT_ONCE = 3
JOB_SECONDS = 900
PAGE = "/overlays/bench/uploads/"


class Uploader:
    """The admin, who uploads files to an overlay as a browser does."""

    def __init__(self, site: Site) -> None:
        self._port = site.port
        self.origin = f"http://127.0.0.1:{site.port}"
        self._cookie = sign_in(site.port)
        token = cookie_in(self.ask("GET", PAGE), "csrftoken")
        self._cookie += f"; csrftoken={token}"
        self._token = token

    def ask(
        self, method: str, path: str, body: object = None, **headers: str
    ) -> http.client.HTTPResponse:
        """Send one request over a connection of its own; return the response, read into `text`."""
        web = http.client.HTTPConnection("127.0.0.1", self._port, timeout=300, blocksize=MIB)
        given = {"Cookie": self._cookie, "Origin": self.origin, "Tus-Resumable": "1.0.0"}
        given |= {name.replace("_", "-"): value for name, value in headers.items()}
        web.request(method, path, body, given)  # type: ignore[arg-type] # A file, or bytes.
        response = web.getresponse()
        response.text = response.read().decode()  # type: ignore[attr-defined]
        web.close()
        if response.status >= 400:
            raise RuntimeError(f"{method} {path}: {response.status} {response.text}")  # type: ignore[attr-defined]
        return response

    def post(self, path: str) -> dict[str, str]:
        """Post a form without fields; return the answer that a script gets."""
        answer = self.ask("POST", path, b"", Accept="application/json", X_CSRFToken=self._token)
        told: dict[str, str] = json.loads(answer.text)  # type: ignore[attr-defined]
        return told

    def send(
        self, address: str, path: str, file: io.BufferedIOBase, size: int, **more: str
    ) -> None:
        """Send one file in one part: small ones with the request that makes it."""
        metadata = {"path": path, **more}
        told = {
            "Upload_Length": str(size),
            "Upload_Metadata": ",".join(
                f"{key} {base64.b64encode(value.encode()).decode()}"
                for key, value in metadata.items()
            ),
        }
        body = {"Content_Type": "application/offset+octet-stream", "Content_Length": str(size)}
        if size <= MIB:
            self.ask("POST", address, file.read(), **told, **body)
            return
        part = self.ask("POST", address, b"", **told).headers["Location"]
        self.ask("PATCH", part, file, Upload_Offset="0", **body)

    def make_version(self, finish_url: str) -> None:
        """Have a version made of an upload, and wait for it."""
        self.post(finish_url)
        wait_until(self._is_done, JOB_SECONDS, "no version is made")

    def _is_done(self) -> bool:
        answer = self.ask("GET", "/jobs/?state=active")
        return "Unpack upload" not in answer.text  # type: ignore[attr-defined]


def measure(site: Site, what: str, work: Callable[[], object]) -> Row:
    """Time some work, and measure how much memory it takes in the web process."""
    watch = Watch(site.web_pid)

    async def run() -> float:
        looking = asyncio.create_task(watch.look())
        await asyncio.sleep(0.3)
        before = watch.memory_mib
        watch.memory_mib = 0.0
        began = monotonic()
        await asyncio.to_thread(work)
        took = monotonic() - began
        looking.cancel()
        with suppress(asyncio.CancelledError):
            await looking
        watch.memory_mib -= before
        return took

    took = asyncio.run(run())
    return note(
        {"what": what, "seconds": round(took, 2), "web RSS + MiB": round(watch.memory_mib, 1)}
    )


def copy_and_sync(source: Path, target: Path) -> Row:
    """Time what the disk and the kernel take for the same bytes."""
    subprocess.run(["sync"], check=True)
    began = monotonic()
    subprocess.run(["cp", source, target], check=True)
    subprocess.run(["sync", "-f", target], check=True)
    row: Row = {"what": "cp and sync", "seconds": round(monotonic() - began, 2)}
    target.unlink()
    return note(row)


def make_large(path: Path, mib: int) -> None:
    """Write a file that no file system can compress."""
    with path.open("wb") as file:
        for _ in range(mib):
            file.write(os.urandom(MIB))


def make_bundle() -> bytes:
    """Return a tar of many small files, as a browser makes it."""
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as archive:
        for number in range(FILES):
            entry = tarfile.TarInfo(f"left4dead2/cfg/{number % 60}/{number}.cfg")
            entry.size = FILE_BYTES
            archive.addfile(entry, io.BytesIO(os.urandom(FILE_BYTES)))
    return target.getvalue()


def run_all(site: Site, folder: Path, mib: int) -> list[Row]:
    """Measure everything; the large file is on disk twice at most."""
    uploader = Uploader(site)
    large = folder / "large.vpk"
    make_large(large, mib)
    rows = [copy_and_sync(large, folder / "copy")]
    upload = uploader.post(PAGE)

    def send_large() -> None:
        with large.open("rb") as file:
            uploader.send(upload["parts_url"], "large.vpk", file, large.stat().st_size)

    rows.append(measure(site, f"{mib} MiB by tus, one request", send_large))
    finish = upload["finish_url"]
    rows.append(measure(site, "a version of it", lambda: uploader.make_version(finish)))
    bundled, single = uploader.post(PAGE), uploader.post(PAGE)
    bundle = make_bundle()
    rows.append(
        measure(
            site,
            f"{FILES:,} small files in one",
            lambda: uploader.send(
                bundled["parts_url"], "small.tar", io.BytesIO(bundle), len(bundle), bundle="1"
            ),
        )
    )
    finish_bundle = bundled["finish_url"]
    rows.append(measure(site, "a version of them", lambda: uploader.make_version(finish_bundle)))

    rows += run_archive(site, uploader, folder / "pack.zip")

    def send_one(number: int) -> None:
        content = io.BytesIO(os.urandom(FILE_BYTES))
        uploader.send(single["parts_url"], f"left4dead2/cfg/{number}.cfg", content, FILE_BYTES)

    def send_each() -> None:
        with ThreadPoolExecutor(AT_ONCE) as threads:
            list(threads.map(send_one, range(FILES)))

    rows.append(measure(site, f"{FILES:,} small files, a request each", send_each))
    return rows


def run_archive(site: Site, uploader: Uploader, path: Path) -> list[Row]:
    """Measure an archive of many small files, and beside it what `unzip` takes for it."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(FILES):
            archive.writestr(f"left4dead2/scripts/{number % 60}/{number}.nut", make_text(number))
    rows = [unzip_and_sync(path, path.parent / "unzipped")] if shutil.which("unzip") else []
    upload = uploader.post(PAGE)

    def send_and_unpack() -> None:
        with path.open("rb") as file:
            uploader.send(upload["parts_url"], path.name, file, path.stat().st_size)
        uploader.make_version(upload["finish_url"])

    what = f"a zip of {FILES:,} files by tus, and a version of it"
    return [*rows, measure(site, what, send_and_unpack)]


def make_text(number: int) -> bytes:
    """Return a text that an archive compresses to half its size."""
    return os.urandom(FILE_BYTES // 2).hex().encode() + str(number).encode()


def unzip_and_sync(archive: Path, target: Path) -> Row:
    """Time what unpacking takes without hashes, limits or a version."""
    subprocess.run(["sync"], check=True)
    began = monotonic()
    subprocess.run(["unzip", "-q", archive, "-d", target], check=True)
    subprocess.run(["sync", "-f", target], check=True)
    row: Row = {"what": "unzip and sync", "seconds": round(monotonic() - began, 2)}
    shutil.rmtree(target)
    return note(row)


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(prog="script/bench content")
    parser.add_argument("--mib", type=int, default=2048, help="how large the large file is")
    mib: int = parser.parse_args().mib
    with tempfile.TemporaryDirectory(prefix="saferoom-content-", dir="/var/tmp") as name:
        var_dir = Path(name, "var")
        site = Site(var_dir)
        try:
            make_overlay(var_dir)
            rows = run_all(site, Path(name), mib)
        finally:
            site.stop()
    print_table("Uploads", rows)


def make_overlay(var_dir: Path) -> None:
    """Make the overlay that files are uploaded to."""
    subprocess.run(
        [
            *(sys.executable, "manage.py", "shell", "-c"),
            "from servers.models import Overlay; Overlay.objects.create(name='bench', is_host_folder=True)",
        ],
        cwd=PROJECT_DIR,
        env=os.environ
        | {
            "VAR_DIR": str(var_dir),
            "SECRET_KEY": "only-for-this-benchmark",
            "SAFEROOM_ADMIN_PASSWORD": PASSWORD,
        },
        check=True,
        stdout=subprocess.DEVNULL,
    )


if __name__ == "__main__":
    main()
