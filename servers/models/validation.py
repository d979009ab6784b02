"""The rules for names, launch arguments, config text and descriptions."""

from collections.abc import Callable, Sequence
from typing import TypeVar

from django.core.exceptions import ValidationError
from django.core.validators import RegexValidator
from django.db import models
from django.db.models import Q
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from hostops.specs import (
    NAME_PATTERN,
    ArgumentsError,
    ConfigError,
    find_ends,
    parse_arguments,
    require_config,
)

CONFIG_CHARS = 64 * 1024
"""The longest config. The engine's command buffer has 8 KiB: the rest leaves room for comments."""

DESCRIPTION_CHARS = 1_000
SENTENCES_SHOWN = 20

T = TypeVar("T")

validate_name = RegexValidator(
    rf"\A{NAME_PATTERN}\Z",
    gettext_lazy(
        "Use 1 to 32 lower-case letters, digits and dashes, starting with a letter or digit."
    ),
)


def validate_server_name(name: str) -> None:
    """Refuse names that are pages of the panel: /servers/new/ is where servers are made."""
    if name in {"new", "events"}:
        raise ValidationError(
            _("“%(name)s” is the address of a page of the panel. Choose another name.")
            % {"name": name}
        )


def validate_arguments(text: str) -> None:
    """Refuse launch arguments that the engine must not get, listing the first faults."""
    if faults := find_argument_faults(text):
        raise ValidationError(faults)


def find_argument_faults(text: str) -> list[str]:
    """Return the first faults of launch arguments, one sentence each, and how many more there are."""
    try:
        parse_arguments(text)
    except ArgumentsError as error:
        return shorten(error.faults)
    return []


def validate_config(text: str) -> None:
    """Refuse config text that the game cannot read, or that ends it, listing the first faults."""
    if faults := find_config_faults(text) or shorten(list(find_ends(text))):
        raise ValidationError(faults)


def find_config_faults(text: str) -> list[str]:
    """Return the first faults of a config, one sentence each, and how many more there are."""
    try:
        require_config(text)
    except ConfigError as error:
        return list(error.faults)
    return []


def shorten(found: Sequence[T], tell: Callable[[T], str] = str) -> list[str]:
    """Return a sentence for each of the first that were `found`, and one with the number of the others.

    A person can put thousands of them into one text, and then the page would have megabytes.
    """
    sentences = [tell(one) for one in found[:SENTENCES_SHOWN]]
    if more := len(found) - len(sentences):
        words = ngettext("And %(count)s more.", "And %(count)s more.", more)
        sentences.append(words % {"count": f"{more:,}"})
    return sentences


def require_length(text: str, most: int, *, stored: str) -> None:
    """Raise ValidationError for a text that is too long, unless it is already `stored`."""
    text = to_plain_lines(text)
    if len(text) > most and text != to_plain_lines(stored):
        raise ValidationError(
            _("Use at most %(most)s characters. This has %(count)s."),
            code="max_length",
            params={"most": f"{most:,}", "count": f"{len(text):,}"},
        )


def to_plain_lines(text: str) -> str:
    """Return a config as hosts have it: lines end with LF, and there are no blanks around the whole."""
    return text.replace("\r\n", "\n").strip()


def name_check(name: str) -> models.CheckConstraint:
    """Return the constraint that enforces the pattern on a `name` column in the database too."""
    return models.CheckConstraint(condition=Q(name__regex=rf"\A{NAME_PATTERN}\Z"), name=name)
