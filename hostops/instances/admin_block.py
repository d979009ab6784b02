"""The lines of SourceMod's `admins_simple.ini` that Saferoom writes, among those that people have written.

They stand between two comments. SourceMod reads the file line by line, 254 bytes of each, and cuts a line at
`//` outside of quotes (its plugin admin-flatfile, `ReadSimpleUsers`).
"""

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from hostops.specs import SpecAdmin

NAME_CHARS = 48
"""Of a name in a comment: with it a line stays far below what SourceMod reads of one."""

_BEGIN = re.compile(rb"[ \t]*// >>> Saferoom\b[^\r\n]*")
_END = re.compile(rb"[ \t]*// <<< Saferoom\b[^\r\n]*")
_BASE = re.compile(rb"\(copy ([0-9a-f]{16})\)")
_OURS = re.compile(rb'[ \t]*"STEAM_[01]:[01]:\d{1,10}" "[a-z]{1,26}" // Saferoom\b[^\r\n]*')
_UNSAFE = re.compile(r"[^ !#-&(-.0-:<-\[\]-z|~]")
"""What a name in the file does without: quotes, slashes, semicolons, braces, backslashes, all beyond ASCII."""


@dataclass(frozen=True)
class Edited:
    """A file with the lines of Saferoom, and in sentences what was found to be other than they were written."""

    text: bytes
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Parts:
    """A file taken apart: what is people's before and after the block, and what is said of the block.

    `copied` is the digest of the text that this file began as a copy of.
    """

    before: tuple[bytes, ...]
    after: tuple[bytes, ...]
    line_end: bytes = b"\n"
    copied: str = ""
    remarks: tuple[str, ...] = ()

    @property
    def text(self) -> bytes:
        """What is people's."""
        return b"".join((*self.before, *self.after))


def write_block(
    text: bytes | None, admins: Iterable[SpecAdmin], base: bytes | None = None
) -> Edited:
    """Return the file `text` with these admins in the place of those that Saferoom wrote before.

    `base` is the file of the layers below. Without a `text` it begins as a copy of that; and one that is such a
    copy still, of a base that has changed, begins anew. All other lines stay byte for byte. A block that lacks
    one of its comments, or has one twice, is replaced by one at the end; what people wrote in it stays.
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
        f"{len(ends)} that end them. Its lines are written anew at the end; all others stay."
    )
    return _Parts(rest, (), line_end, copied, (remark,))


def _digest(text: bytes) -> str:
    """Return by what a text is known again; line ends at its end do not count, as one may be added."""
    return hashlib.sha256(text.rstrip(b"\r\n")).hexdigest()[:16]
