"""How file names are written on pages: they come from people, who may have made them to deceive."""

from django import template

register = template.Library()


@register.filter
def visible(name: str) -> str:
    r"""Return a name with invisible characters written as `\u202e`, such as marks that change its direction."""
    return "".join(
        character if character.isprintable() else f"\\u{ord(character):04x}" for character in name
    )


@register.filter
def file_name(path: str) -> str:
    """Return the last name of a path."""
    return path.rpartition("/")[2]
