"""The headers of tus 1.0: what they say, or why they are invalid (tus.io/protocols/resumable-upload)."""

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus

from django.utils.translation import gettext as _

from l4d2site.gate.answers import RefusedError

VERSION = "1.0.0"
EXTENSIONS = "creation,creation-with-upload,termination,expiration"
BODY_TYPE = "application/offset+octet-stream"

MAX_PART_BYTES = 64 * 1024**3
MAX_METADATA_CHARS = 4096
MAX_DIGITS = 18
"""Any number with this many digits fits into the columns of the database."""


class TusRefusedError(RefusedError):
    """A request that the upload door refuses, in tus's terms: the answer names the version."""

    def __init__(
        self,
        status: HTTPStatus,
        text: str,
        *,
        offset: int | None = None,
        retry_seconds: float = 0,
        ends_connection: bool = False,
    ) -> None:
        super().__init__(status, text, retry_seconds=retry_seconds, ends_connection=ends_connection)
        self._offset = offset

    @property
    def extra_headers(self) -> list[tuple[bytes, bytes]]:
        """The headers of tus, with the right offset for a client that sent a wrong one."""
        headers = [(b"tus-resumable", VERSION.encode())]
        if self.status == HTTPStatus.PRECONDITION_FAILED:
            headers.append((b"tus-version", VERSION.encode()))
        if self._offset is not None:
            headers.append((b"upload-offset", b"%d" % self._offset))
        return headers


@dataclass(frozen=True)
class NewPart:
    """A file that is about to be sent."""

    path: str
    size: int
    modified_ms: int
    is_bundle: bool


def require_version(headers: Mapping[str, str]) -> None:
    """Refuse a client that speaks another version of tus, or names none."""
    said = headers.get("Tus-Resumable", "")
    if said != VERSION:
        raise TusRefusedError(
            HTTPStatus.PRECONDITION_FAILED,
            _("Files are taken by tus %(version)s: send the header Tus-Resumable: %(version)s.")
            % {"version": VERSION},
            ends_connection=True,
        )


def has_body_of_file(headers: Mapping[str, str]) -> bool:
    """Return whether the body consists of bytes of a file. Raises `RefusedError` for any other type."""
    said = headers.get("Content-Type", "")
    if said and said != BODY_TYPE:
        raise TusRefusedError(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            _("A file’s bytes come as %(type)s, not as %(said)r.")
            % {"type": BODY_TYPE, "said": said[:80]},
            ends_connection=True,
        )
    return bool(said)


def read_offset(headers: Mapping[str, str]) -> int:
    """Return the offset at which the bytes of the body belong."""
    return _read_number(headers, "Upload-Offset", MAX_PART_BYTES)


def read_new_part(headers: Mapping[str, str]) -> NewPart:
    """Return the file that a request is about to create."""
    if "Upload-Defer-Length" in headers:
        raise _malformed(_("A file’s size has to be known when it is begun: send Upload-Length."))
    size = _read_number(headers, "Upload-Length", MAX_PART_BYTES)
    metadata = _read_metadata(headers.get("Upload-Metadata", ""))
    path = metadata.get("path") or metadata.get("filename") or ""
    if not path:
        raise _malformed(_("Upload-Metadata has to name the file: path, and its name in Base64."))
    modified = metadata.get("modified", "0")
    if not _is_number(modified):
        raise _malformed(_("“modified” in Upload-Metadata is a time in milliseconds."))
    return NewPart(path, size, int(modified), "bundle" in metadata)


def _read_metadata(text: str) -> dict[str, str]:
    """Return the pairs of Upload-Metadata: a key, and after a space a value in Base64, if it has one."""
    if len(text) > MAX_METADATA_CHARS:
        raise _malformed(
            _("Upload-Metadata has more than %(most)s characters.")
            % {"most": f"{MAX_METADATA_CHARS:,}"}
        )
    pairs: dict[str, str] = {}
    for pair in filter(None, text.split(",")):
        key, _space, encoded = pair.strip().partition(" ")
        if not key or key in pairs:
            raise _malformed(_("Upload-Metadata has a key that is empty, or twice the same."))
        try:
            pairs[key] = base64.b64decode(encoded.strip(), validate=True).decode()
        except (binascii.Error, ValueError):
            raise _malformed(
                _("“%(key)s” in Upload-Metadata is no UTF-8 text in Base64.") % {"key": key[:40]}
            ) from None
    return pairs


def _read_number(headers: Mapping[str, str], name: str, most: int) -> int:
    text = headers.get(name, "")
    if not _is_number(text):
        raise _malformed(
            _("%(header)s has to be a whole number of bytes, and is %(said)r.")
            % {"header": name, "said": text[:40]}
        )
    if int(text) > most:
        raise TusRefusedError(
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            _("%(header)s is %(size)s: a file may have %(most)s bytes at most.")
            % {"header": name, "size": f"{int(text):,}", "most": f"{most:,}"},
            ends_connection=True,
        )
    return int(text)


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= MAX_DIGITS


def _malformed(text: str) -> TusRefusedError:
    return TusRefusedError(HTTPStatus.BAD_REQUEST, text, ends_connection=True)
