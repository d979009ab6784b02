"""How many streams an event loop has open or is about to open, in all and for each person."""

from collections import Counter


class OpenStreams:
    """Counts them. Its methods are called in the loop, so that between a look and a step nothing can happen."""

    def __init__(self) -> None:
        self.total = 0
        self._of_person: Counter[int] = Counter()

    def of_person(self, user_id: int) -> int:
        """Return how many streams one person has."""
        return self._of_person[user_id]

    def add(self, user_id: int) -> "StreamPlace":
        """Count one more of a person, until its place is left."""
        self.total += 1
        self._of_person[user_id] += 1
        return StreamPlace(self, user_id)

    def remove(self, user_id: int) -> None:
        """Count one less of a person."""
        self.total -= 1
        self._of_person[user_id] -= 1
        if not self._of_person[user_id]:
            del self._of_person[user_id]


class StreamPlace:
    """The place of one stream, taken before it begins: many may ask in the time that one takes to begin."""

    def __init__(self, open_streams: OpenStreams, user_id: int) -> None:
        self._open_streams = open_streams
        self._user_id = user_id
        self._is_left = False

    def leave(self) -> None:
        """Give the place to others; once is enough."""
        if not self._is_left:
            self._is_left = True
            self._open_streams.remove(self._user_id)
