"""Saferoom's lines in SourceMod's `admins_simple.ini`, among the lines that people have written.

They stand between two comments. SourceMod reads the file line by line, up to 254 bytes each, and ends a line at
`//` outside quotes (its plugin admin-flatfile, `ReadSimpleUsers`).
"""

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from hostops.specs import SpecAdmin

NAME_CHARS = 48
"""The longest name in a comment: it keeps a line far below SourceMod's limit."""

_BEGIN = re.compile(rb"[ \t]*// >>> Saferoom\b[^\r\n]*")
_END = re.compile(rb"[ \t]*// <<< Saferoom\b[^\r\n]*")
_BASE = re.compile(rb"\(copy ([0-9a-f]{16})\)")
_OURS = re.compile(rb'[ \t]*"STEAM_[01]:[01]:\d{1,10}" "[a-z]{1,26}" // Saferoom\b[^\r\n]*')
_UNSAFE = re.compile(r"[^ !#-&(-.0-:<-\[\]-z|~]")
"""Replaced in names: quotes, slashes, semicolons, braces, backslashes, and everything beyond ASCII."""


@dataclass(frozen=True)
class Edited:
    """The file with Saferoom's lines, and sentences about parts that were not as Saferoom had written them."""

    text: bytes
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Parts:
    """A parsed file: people's lines before and after the block, and remarks about the block.

    `copied` is the digest of the text if this file began as a copy.
    """

    before: tuple[bytes, ...]
    after: tuple[bytes, ...]
    line_end: bytes = b"\n"
    copied: str = ""
    remarks: tuple[str, ...] = ()

    @property
    def text(self) -> bytes:
        """The lines that people wrote."""
        return b"".join((*self.before, *self.after))


def write_block(
    text: bytes | None, admins: Iterable[SpecAdmin], base: bytes | None = None
) -> Edited:
    """Return the file `text` with these admins in place of those that Saferoom wrote before.

    `base` is the file of the layers below. If there is no `text`, the result starts as a copy of the base. A
    file that still equals its copy is copied again when the base has changed. All other lines stay byte for
    byte. A block that lacks one of its comments, or has one twice, is replaced by a block at the end; lines
    that people wrote in it stay.
    """
    parts = _take_apart(text if text is not None else base or b"")
    if text is None or text == base:
        parts = replace(parts, copied=_digest(base or b""))
    elif base is not None and parts.copied == _digest(parts.text) != _digest(base):
        parts = replace(_take_apart(base), copied=_digest(base))
    end = parts.line_end
    before = b"".join(parts.before)
    if before and not before.endswith((b"\n", b"\r")):
        before += end
    lines = _block_lines(admins, parts.copied)
    block = b"".join(line.encode() + end for line in lines)
    return Edited(before + block + b"".join(parts.after), parts.remarks)


def _block_lines(admins: Iterable[SpecAdmin], copied: str) -> Sequence[str]:
    copy = f" (copy {copied})" if copied else ""
    return [
        f"// >>> Saferoom writes the lines from here to its next comment. Change them in the panel.{copy}",
        *(_to_line(admin) for admin in admins),
        "// <<< Saferoom",
    ]


def _to_line(admin: SpecAdmin) -> str:
    name = _UNSAFE.sub("_", admin.name)[:NAME_CHARS].strip()
    return f'"{admin.steam_id}" "{admin.flags}" // Saferoom{f": {name}" if name else ""}'


def _take_apart(text: bytes) -> _Parts:
    lines = text.splitlines(keepends=True)
    bare = [line.rstrip(b"\r\n") for line in lines]
    begins = [n for n, line in enumerate(bare) if _BEGIN.fullmatch(line)]
    ends = [n for n, line in enumerate(bare) if _END.fullmatch(line)]
    if not begins and not ends:
        is_crlf = bool(lines) and lines[0].endswith(b"\r\n")
        return _Parts(tuple(lines), (), b"\r\n" if is_crlf else b"\n")
    first = min((*begins, *ends))
    line_end = lines[first][len(bare[first]) :] or b"\n"
    found = _BASE.search(bare[begins[0]]) if begins else None
    copied = found[1].decode() if found else ""
    if len(begins) == len(ends) == 1 and begins[0] < ends[0]:
        inside = range(begins[0] + 1, ends[0])
        kept = tuple(lines[n] for n in inside if bare[n].strip() and not _OURS.fullmatch(bare[n]))
        remark = (
            f"admins_simple.ini: {len(kept)} line{'' if len(kept) == 1 else 's'} that Saferoom has not written "
            "stood between its two comments, and now stand before them."
        )
        before = (*lines[: begins[0]], *kept)
        after = tuple(lines[ends[0] + 1 :])
        return _Parts(before, after, line_end, copied, (remark,) if kept else ())
    marks = {*begins, *ends}
    rest = tuple(
        line for n, line in enumerate(lines) if n not in marks and not _OURS.fullmatch(bare[n])
    )
    remark = (
        f"admins_simple.ini: of the two comments around Saferoom’s lines it had {len(begins)} that begin and "
        f"{len(ends)} that end them. Its lines are rewritten at the end; all others stay."
    )
    return _Parts(rest, (), line_end, copied, (remark,))


def _digest(text: bytes) -> str:
    """Return a text's digest. Line ends at its end do not count, because one may be added."""
    return hashlib.sha256(text.rstrip(b"\r\n")).hexdigest()[:16]
