"""The wording of changes of map: what a server is told, and how it turned out."""

from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from hostops.specs import put_map
from servers.content.map_choices import MapChoice, MapChoices
from servers.models import MapChange, MapChangeState, Server

FIRST_MAP = "c1m1_hotel"
"""The first chapter of Dead Center."""
_FELL_BACK = gettext_lazy("The game falls back to that map when another one fails to load.")


def map_command(server: Server, choice: MapChoice) -> str:
    """Return the command that makes a running server play a chapter in a mode.

    `changelevel` takes everybody along and keeps the mode. Only `map` can set another mode, but then
    everybody has to reconnect; it is also used if the server has not reported which mode it is in.
    """
    if server.map and server.mode == choice.mode:
        return f"changelevel {choice.map}"
    return f"map {choice.map} {choice.mode}"


def save_next_start(server: Server, choice: MapChoice | None) -> None:
    """Store in a server's own launch arguments what it starts with; without a choice, remove that.

    Call it in a transaction, with the row locked. If the server could not be started with it, raises
    ValidationError and stores nothing.
    """
    before = set(server.spec_faults)
    name, mode = (choice.map, choice.mode) if choice else ("", "")
    server.arguments = put_map(server.arguments, name, mode)
    if faults := [fault for fault in server.spec_faults if fault not in before]:
        raise ValidationError(faults)
    server.save(update_fields=["arguments", "updated_at"])


def tell_outcome(change: MapChange, choices: MapChoices, *, is_history: bool = False) -> str:
    """Return in words how a change turned out, judging only by what its server said.

    It does not say what the server plays now: that may be something else again.
    """
    wanted = choices.describe(change.map, change.mode)
    said = choices.describe(change.said_map, change.said_mode) if change.said_map else _("no map")
    names = {"wanted": wanted, "said": said}
    if is_history:
        return _("It was told to play %(wanted)s.") % names
    match change.state:
        case MapChangeState.ASKED:
            return _("Told to play %(wanted)s. The panel keeps checking until it does.") % names
        case MapChangeState.PLAYING if change.mode and not change.said_mode:
            return _("It changed to %(said)s. It does not say in which mode.") % names
        case MapChangeState.PLAYING:
            return _("It changed to %(said)s.") % names
        case MapChangeState.NOT_SENT:
            remark = change.command.remark.strip() or _("the command could not be sent.")
            names["why"] = remark
            return _("The command to play %(wanted)s was not sent: %(why)s") % names
        case MapChangeState.OVERTAKEN:
            return _("It was told to play %(wanted)s, then something else.") % names
        case MapChangeState.UNKNOWN:
            return (
                _(
                    "It was told to play %(wanted)s, but it does not answer, so the panel cannot "
                    "tell whether it does. Look at its console."
                )
                % names
            )
    sentences = [_("It is not playing %(wanted)s. It says it is playing %(said)s.") % names]
    if change.said_map.lower() == FIRST_MAP and change.map != FIRST_MAP:
        sentences.append(str(_FELL_BACK))
    if answer := " ".join(change.command.answer.split())[:300]:
        sentences.append(_("It answered: %(answer)s") % {"answer": answer})
    return " ".join(sentences)
