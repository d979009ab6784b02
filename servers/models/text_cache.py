"""A cache for what is computed from texts that people write; it keeps few results for long texts."""

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
    """Return the total length of the texts among arguments, including those in tuples."""
    count = 0
    for one in args:
        if isinstance(one, str):
            count += len(one)
        elif isinstance(one, tuple):
            count += count_characters(one)
    return count
