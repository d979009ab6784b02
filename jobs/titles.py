"""What a job does to what, in words: “Install the game on local”, “Start alpha as it was”."""

from django.utils.translation import gettext_lazy

OF_THE_GAME = gettext_lazy("%(operation)s on %(subject)s")
OF_ITS_FILES = gettext_lazy("%(operation)s of %(subject)s")

TITLES = {
    "install": OF_THE_GAME,
    "rollback": OF_THE_GAME,
    "check": OF_THE_GAME,
    "unpack": gettext_lazy("%(operation)s for %(subject)s"),
    "initialize": OF_ITS_FILES,
    "delete": OF_ITS_FILES,
}
"""By operation, if its label needs a word before what it is about."""

OF_A_SERVER = gettext_lazy("%(operation)s %(subject)s")
AS_IT_WAS = gettext_lazy("%(operation)s %(subject)s as it was")


def split_title(operation: str, label: str, *, as_it_was: bool) -> tuple[str, str]:
    """Return what a job's title says before the name of what it is about, and after it."""
    title = str(AS_IT_WAS if as_it_was else TITLES.get(operation, OF_A_SERVER))
    before, _, after = title.replace("%(operation)s", label).partition("%(subject)s")
    return before, after
