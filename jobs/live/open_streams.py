"""Counts the streams that an event loop has open or is about to open, in all and per person."""

from collections import Counter


class OpenStreams:
    """The counts. All calls come from the loop, so nothing happens between checking and changing a count."""

    def __init__(self) -> None:
        self.total = 0
        self._of_person: Counter[int] = Counter()

    def of_person(self, user_id: int) -> int:
        """Return the number of one person's streams."""
        return self._of_person[user_id]

    def add(self, user_id: int) -> "StreamPlace":
        """Count one more stream of a person, until its place is left."""
        self.total += 1
        self._of_person[user_id] += 1
        return StreamPlace(self, user_id)

    def remove(self, user_id: int) -> None:
        """Count one stream of a person less."""
        self.total -= 1
        self._of_person[user_id] -= 1
        if not self._of_person[user_id]:
            del self._of_person[user_id]


class StreamPlace:
    """The place of one stream, taken before it begins: in the time that takes, many others may be requested."""

    def __init__(self, open_streams: OpenStreams, user_id: int) -> None:
        self._open_streams = open_streams
        self._user_id = user_id
        self._is_left = False

    def leave(self) -> None:
        """Free the place; further calls do nothing."""
        if not self._is_left:
            self._is_left = True
            self._open_streams.remove(self._user_id)
