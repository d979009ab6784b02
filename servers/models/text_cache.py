"""A cache of what is found out about texts that people write, which holds few results of long ones."""

from collections.abc import Callable
from functools import lru_cache, wraps
from typing import ParamSpec, TypeVar

LONG_CHARS = 8 * 1024
LONG_KEPT = 64
"""A cache keeps its arguments: thousands of the longest configs would be hundreds of megabytes."""

P = ParamSpec("P")
T = TypeVar("T")


def cache_of_texts(maxsize: int) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Cache the latest results of a function, up to `maxsize`, and `LONG_KEPT` of long arguments."""

    def decorate(function: Callable[P, T]) -> Callable[P, T]:
        of_short = lru_cache(maxsize)(function)
        of_long = lru_cache(LONG_KEPT)(function)

        @wraps(function)
        def look_up(*args: P.args, **kwargs: P.kwargs) -> T:
            is_long = count_characters(args) > LONG_CHARS
            return (of_long if is_long else of_short)(*args, **kwargs)  # type: ignore[arg-type]

        return look_up

    return decorate


def count_characters(args: tuple[object, ...]) -> int:
    """Return how long the texts among arguments are, those in tuples too."""
    count = 0
    for one in args:
        if isinstance(one, str):
            count += len(one)
        elif isinstance(one, tuple):
            count += count_characters(one)
    return count
