"""How names of files are written on pages: people upload them, and may have made them to deceive."""

from django import template

register = template.Library()


@register.filter
def visible(name: str) -> str:
    r"""Return a name with what cannot be seen written as `\u202e`, such as marks that turn its direction."""
    return "".join(
        character if character.isprintable() else f"\\u{ord(character):04x}" for character in name
    )


@register.filter
def file_name(path: str) -> str:
    """Return the last name of a path."""
    return path.rpartition("/")[2]
