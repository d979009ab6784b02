"""Who a row is looked up for, and the rules for names, launch arguments and config text."""

from django.contrib.auth.models import AbstractBaseUser, AnonymousUser
from django.core.exceptions import ValidationError
from django.core.validators import RegexValidator
from django.db import models
from django.db.models import Q

from hostops.specs import NAME_PATTERN, parse_arguments, require_config

User = AbstractBaseUser | AnonymousUser

validate_name = RegexValidator(
    rf"\A{NAME_PATTERN}\Z",
    "Use 1 to 32 lower-case letters, digits and dashes, starting with a letter or digit.",
)


def validate_server_name(name: str) -> None:
    """Refuse names that are pages of ours: /servers/new/ is where servers are made."""
    if name in {"new", "events"}:
        raise ValidationError(f"“{name}” is taken by a page of the panel. Choose another name.")


def validate_arguments(text: str) -> None:
    """Refuse launch arguments that cannot be split or that Saferoom sets itself."""
    try:
        parse_arguments(text)
    except ValueError as error:
        raise ValidationError(str(error)) from None


def validate_config(text: str) -> None:
    """Refuse config text that the game cannot read."""
    try:
        require_config(text)
    except ValueError as error:
        raise ValidationError(str(error)) from None


def name_check(name: str) -> models.CheckConstraint:
    """Return the constraint that holds a `name` column to the pattern, in the database too."""
    return models.CheckConstraint(condition=Q(name__regex=rf"\A{NAME_PATTERN}\Z"), name=name)
