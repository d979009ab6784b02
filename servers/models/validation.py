"""The rules for names, launch arguments and config text."""

from django.core.exceptions import ValidationError
from django.core.validators import RegexValidator
from django.db import models
from django.db.models import Q
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from hostops.specs import NAME_PATTERN, ArgumentsError, ConfigError, parse_arguments, require_config

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
    """Refuse launch arguments that the engine must not get, listing all faults."""
    if faults := find_argument_faults(text):
        raise ValidationError(faults)


def find_argument_faults(text: str) -> list[str]:
    """Return the faults of launch arguments, one sentence each."""
    try:
        parse_arguments(text)
    except ArgumentsError as error:
        return [str(fault) for fault in error.faults]
    return []


def validate_config(text: str) -> None:
    """Refuse config text that the game cannot read, listing all faults."""
    if faults := find_config_faults(text):
        raise ValidationError(faults)


def find_config_faults(text: str) -> list[str]:
    """Return the faults of a config, one sentence each."""
    try:
        require_config(text)
    except ConfigError as error:
        return list(error.faults)
    return []


def to_plain_lines(text: str) -> str:
    """Return a config as hosts have it: LF at the end of lines, and no blanks around the whole."""
    return text.replace("\r\n", "\n").strip()


def name_check(name: str) -> models.CheckConstraint:
    """Return the constraint that enforces the pattern on a `name` column in the database too."""
    return models.CheckConstraint(condition=Q(name__regex=rf"\A{NAME_PATTERN}\Z"), name=name)
