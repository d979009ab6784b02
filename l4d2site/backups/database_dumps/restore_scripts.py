"""Executes the scripts of pg_restore in an open transaction. psql would need one of its own."""

import re
from pathlib import Path

from django.db import connection

from jobs.database import driver

_RESTRICT, _UNRESTRICT = b"\\restrict ", b"\\unrestrict "
"""How the two lines for psql begin in pg_restore's scripts, which end with the same key."""
_AS_ANY_BYTES = b"SET client_encoding = 'SQL_ASCII';\n"
"""In the script of a database that takes any bytes. With this, COPY takes them into any other one too."""
_AS_UTF8 = b"SET client_encoding = 'UTF8';\n"
_TEXT = re.compile(rb"""'[^']*'|"[^"]*"|--[^\n]*|\$(\w*)\$.*?\$\1\$""", re.DOTALL)
"""Texts, names and comments in such a script. A quotation mark in one is doubled: one ends, another begins."""
_OPEN_TEXT = re.compile(rb"""['"]|\$\w*\$""")


def execute_script(path: Path) -> None:
    """Execute a script in the open transaction."""
    lines: list[bytes] = []
    key = b""
    takes_any_bytes = connection.connection.info.parameter_status("server_encoding") == "SQL_ASCII"
    with path.open("rb") as script, driver().Cursor(connection.connection) as cursor:
        for line in script:
            if not key and line.startswith(_RESTRICT):
                key = line.removeprefix(_RESTRICT)
            if line == _AS_ANY_BYTES and not takes_any_bytes:
                lines.append(_AS_UTF8)
                takes_any_bytes = True  # The next one is part of a text.
            elif not (key and line in (_RESTRICT + key, _UNRESTRICT + key)):
                lines.append(line)
            if not line.endswith(b" FROM stdin;\n"):
                continue
            statements = b"".join(lines)
            if (begin := _find_copy(statements)) is not None:
                cursor.execute(statements[:begin], prepare=False)
                with cursor.copy(statements[begin:]) as copy:
                    while (row := script.readline()) not in (b"\\.\n", b""):
                        copy.write(row)
                lines.clear()
        cursor.execute(b"".join(lines), prepare=False)


def _find_copy(statements: bytes) -> int | None:
    """Return where a COPY begins that is the last statement; None if what looks like one is part of a text."""
    code = _TEXT.sub(lambda text: b" " * len(text[0]), statements)
    if _OPEN_TEXT.search(code):
        return None
    begin = code.rfind(b"\nCOPY ")
    return None if begin < 0 else begin + 1
