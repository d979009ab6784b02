"""Seals a stream with a passphrase, piece by piece, so that a backup may be larger than memory.

Each piece is encrypted and authenticated by AES-256-GCM. Its nonce counts the pieces and marks the last one, so
missing, swapped or truncated pieces are detected, as in STREAM (Hoang, Reyhanitabar, Rogaway, Vizár 2015). The
key is derived from the passphrase by scrypt, with a different salt for each archive.
"""

import hashlib
import io
import os
import struct
from typing import BinaryIO

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

MAGIC = b"saferoom-sealed-1\n"
PIECE_BYTES = 1024**2
_SALT_BYTES = 16
_TAG_BYTES = 16
# 64 MiB and about a fifth of a second for each guess.
_SCRYPT = {"n": 2**16, "r": 8, "p": 1, "maxmem": 128 * 1024**2}


class SealError(Exception):
    """An archive cannot be opened; the text says why."""


class SealingWriter(io.RawIOBase):
    """A binary file that seals its data into `target`, which it does not close."""

    def __init__(self, target: BinaryIO, passphrase: str) -> None:
        salt = os.urandom(_SALT_BYTES)
        self._target = target
        self._header = MAGIC + salt
        self._cipher = AESGCM(_derive(passphrase, salt))
        self._pending = bytearray()
        self._count = 0
        target.write(self._header)

    def writable(self) -> bool:
        """Return True."""
        return True

    def write(self, data: bytes) -> int:  # type: ignore[override]
        """Take `data`. A piece is sealed once it is certain not to be the last."""
        self._pending += data
        while len(self._pending) > PIECE_BYTES:
            self._seal(bytes(self._pending[:PIECE_BYTES]), is_last=False)
            del self._pending[:PIECE_BYTES]
        return len(data)

    def close(self) -> None:
        """Seal the last piece. Without this call the archive counts as truncated."""
        if not self.closed:
            self._seal(bytes(self._pending), is_last=True)
        super().close()

    def _seal(self, piece: bytes, *, is_last: bool) -> None:
        self._target.write(self._cipher.encrypt(_nonce(self._count, is_last), piece, self._header))
        self._count += 1


class SealedReader(io.RawIOBase):
    """A binary file that decrypts what `SealingWriter` wrote. Raises `SealError` for anything else."""

    def __init__(self, source: BinaryIO, passphrase: str) -> None:
        self._source = source
        self._header = source.read(len(MAGIC) + _SALT_BYTES)
        if not self._header.startswith(MAGIC):
            raise SealError("This is no sealed backup.")
        self._cipher = AESGCM(_derive(passphrase, self._header[len(MAGIC) :]))
        self._count = 0
        self._opened = memoryview(b"")
        self._next = source.read(PIECE_BYTES + _TAG_BYTES)

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: object) -> int:
        """Fill `buffer` with the next bytes; return 0 at the end."""
        view = memoryview(buffer)  # type: ignore[arg-type]
        while not self._opened and self._next:
            self._open_next()
        count = min(len(view), len(self._opened))
        view[:count] = self._opened[:count]
        self._opened = self._opened[count:]
        return count

    def _open_next(self) -> None:
        sealed, self._next = self._next, self._source.read(PIECE_BYTES + _TAG_BYTES)
        try:
            piece = self._cipher.decrypt(_nonce(self._count, not self._next), sealed, self._header)
        except InvalidTag:
            raise SealError(
                "The passphrase is another one, or the file was damaged."
                if self._count == 0
                else "The file was damaged, or cut off."
            ) from None
        self._opened = memoryview(piece)
        self._count += 1


def is_sealed(path: os.PathLike[str]) -> bool:
    """Return whether a file begins like a sealed archive."""
    with open(path, "rb") as file:  # noqa: PTH123 - any kind of path
        return file.read(len(MAGIC)) == MAGIC


def _nonce(count: int, is_last: bool) -> bytes:
    return struct.pack(">QI", count, int(is_last))


def _derive(passphrase: str, salt: bytes) -> bytes:
    return hashlib.scrypt(passphrase.encode(), salt=salt, dklen=32, **_SCRYPT)
