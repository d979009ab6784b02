"""The command buffer of the simulated server, and how its console splits text: as the engine does it.

What is not known of Left 4 Dead 2's own branch is the worst of the Source SDK's (`Cbuf_AddText`,
`CCommandBuffer`, `CCommand::Tokenize`): a text takes room with its comments, and what has none left is lost.
"""

import re
from collections import deque
from collections.abc import Callable, Iterator

BUFFER_BYTES = 8192
MAX_COMMAND_BYTES = 510
MAX_LINE_BYTES = 1023
"""Of a cfg file. What a longer line has behind that is a line of its own, even inside quotes."""
MAX_WORDS = 64
"""Of a command, its name among them."""

BREAKS = frozenset("{}()':")
"""Outside of quotes each of these is a word of its own."""
NO_BREAKS: frozenset[str] = frozenset()

_BLANKS = " \t\n\v\f\r"
_LINE_END = re.compile(r"[^\t\x20-\x7f]")

OVERFLOW = "Cbuf_AddText: buffer overflow"
TOO_MANY_WORDS = (
    "CCommand::Tokenize: Encountered command which overflows the argument buffer.. Clamping!"
)


class Entry:
    """A command that waits, and the room that it takes. `is_end` marks the end of a cfg file."""

    def __init__(
        self,
        command: str = "",
        size: int = 0,
        *,
        is_command_line: bool = False,
        is_end: bool = False,
    ) -> None:
        self.command = command
        self.size = size
        self.is_command_line = is_command_line
        self.is_end = is_end


class CommandBuffer:
    """Commands in the order in which they are carried out."""

    def __init__(self, print_line: Callable[[str], None]) -> None:
        self._print = print_line
        self._entries: deque[Entry] = deque()

    def add(self, text: str, *, is_command_line: bool = False) -> None:
        """Add text behind everything that waits."""
        self._entries.extend(self._read(text, is_command_line=is_command_line))
        self._drop_what_does_not_fit()

    def insert(self, text: str) -> Entry:
        """Put text before everything that waits, as `exec` does; return what marks its end."""
        end = Entry(is_end=True)
        self._entries.extendleft(reversed([*self._read(text), end]))
        self._drop_what_does_not_fit()
        return end

    def take_until(self, end: Entry | None = None) -> Iterator[Entry]:
        """Take out and yield the commands up to this mark, or all; what is put in meanwhile, too."""
        while self._entries:
            entry = self._entries.popleft()
            if entry is end:
                return
            if not entry.is_end:
                yield entry

    def _read(self, text: str, *, is_command_line: bool = False) -> Iterator[Entry]:
        """Yield the commands of a text, but nothing from one on that is too long."""
        for line in text.split("\n"):
            commands = split_commands(line)
            # The separators and the comment take room as well; they are counted with the last command.
            extra = len(_to_bytes(line)) + 1 - sum(len(_to_bytes(one)) for one in commands)
            for number, command in enumerate(commands, start=1):
                size = len(_to_bytes(command.strip()))
                if size > MAX_COMMAND_BYTES:
                    self._print(f"WARNING: Command too long... ignoring!\n{command.strip()}")
                    self._print(OVERFLOW)
                    return
                room = len(_to_bytes(command)) + (extra if number == len(commands) else 0)
                yield Entry(command, room, is_command_line=is_command_line)

    def _drop_what_does_not_fit(self) -> None:
        room = BUFFER_BYTES
        kept: list[Entry] = []
        is_full = False
        for entry in self._entries:
            room -= entry.size
            is_full = is_full or room < 0
            if entry.is_end or not is_full:
                kept.append(entry)
        if is_full:
            self._print(OVERFLOW)
            self._entries = deque(kept)


def split_commands(line: str) -> list[str]:
    """Split a line at each semicolon outside of quotes, up to a `//` outside of quotes."""
    commands = [""]
    is_quoted = False
    for position, character in enumerate(line):
        if character == '"':
            is_quoted = not is_quoted
        if not is_quoted and line.startswith("//", position):
            break
        if not is_quoted and character == ";":
            commands.append("")
        else:
            commands[-1] += character
    return commands


def next_word(text: str, breaks: frozenset[str] = BREAKS) -> tuple[str, str]:
    """Return the first word of `text`, and the rest. There is no way to escape a quote.

    Where there are `breaks`, each byte that is not ASCII ends a word and begins the next one.
    """
    text = text.strip(_BLANKS)
    first = _to_bytes(text[:1])
    if text.startswith('"'):
        word, _, rest = text[1:].partition('"')
    elif text and text[0] in breaks:
        word, rest = text[0], text[1:]
    elif breaks and len(first) > 1:
        word, rest = _to_text(first[:1]), _to_text(first[1:]) + text[1:]
    else:
        ends = (
            number
            for number, one in enumerate(text)
            if number and (one <= " " or one == '"' or one in breaks or (breaks and one > "~"))
        )
        end = next(ends, len(text))
        word, rest = text[:end], text[end:]
    return word, rest.strip(_BLANKS)


def split_words(text: str, breaks: frozenset[str] = BREAKS) -> list[str]:
    """Split a command's arguments into words; quotes keep a word together."""
    words: list[str] = []
    while text.strip(_BLANKS):
        word, text = next_word(text, breaks)
        words.append(word)
    return words


def readable_text(content: bytes) -> str:
    """Return a cfg file as the game sees it: it is lost at the first byte that is not ASCII, or is NUL.

    A line ends at each control character except a tab, and after `MAX_LINE_BYTES`.
    """
    end = next((n for n, byte in enumerate(content) if byte > 127 or not byte), len(content))
    lines = _LINE_END.split(content[:end].decode("ascii"))
    return "\n".join(
        line[start : start + MAX_LINE_BYTES]
        for line in lines
        for start in range(0, max(len(line), 1), MAX_LINE_BYTES)
    )


def _to_bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _to_text(content: bytes) -> str:
    return content.decode("utf-8", "surrogateescape")
