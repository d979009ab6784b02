"""What is said of changes of map: what a server is told, and what came of it."""

from django.core.exceptions import ValidationError

from hostops.specs import put_map
from servers.map_choices import MapChoice, MapChoices
from servers.models import MapChange, MapChangeState, Server

FIRST_MAP = "c1m1_hotel"
"""Dead Center's first chapter."""
_FELL_BACK = " That is the map that the game falls back to if another one does not come up."


def map_command(server: Server, choice: MapChoice) -> str:
    """Return what makes a running server play a chapter in a mode.

    `changelevel` takes everybody along and keeps the mode. Only `map` can set another one, and whoever is on
    has to come back; it is used too where the server has not told which mode it is in.
    """
    if server.map and server.mode == choice.mode:
        return f"changelevel {choice.map}"
    return f"map {choice.map} {choice.mode}"


def save_next_start(server: Server, choice: MapChoice | None) -> None:
    """Store in a server's own launch arguments what it starts with; nothing without a choice.

    To be called in a transaction, with the row locked. Raises ValidationError, and stores nothing, if it could
    not be started with that.
    """
    before = set(server.spec_faults)
    name, mode = (choice.map, choice.mode) if choice else ("", "")
    server.arguments = put_map(server.arguments, name, mode)
    if faults := [fault for fault in server.spec_faults if fault not in before]:
        raise ValidationError(faults)
    server.save(update_fields=["arguments", "updated_at"])


def tell_outcome(change: MapChange, choices: MapChoices) -> str:
    """Return in words what came of a change, by what its server says and by nothing else."""
    wanted = choices.describe(change.map, change.mode)
    said = choices.describe(change.said_map, change.said_mode) if change.said_map else "no map"
    remark = change.command.remark.strip()
    match change.state:
        case MapChangeState.ASKED:
            return f"Told to play {wanted}. What it plays is looked at until it does."
        case MapChangeState.PLAYING if change.mode and not change.said_mode:
            return f"Now playing {said}. It does not tell in which mode."
        case MapChangeState.PLAYING:
            return f"Now playing {said}."
        case MapChangeState.NOT_SENT:
            return f"It was not told to play {wanted}: {remark or 'the command could not be sent.'}"
        case MapChangeState.OVERTAKEN:
            return f"It was told to play {wanted}, and then something else."
        case MapChangeState.UNKNOWN:
            return (
                f"It was told to play {wanted}. Whether it does is not known: it does not answer. Its console "
                "says more."
            )
    is_first = change.said_map.lower() == FIRST_MAP and change.map != FIRST_MAP
    answer = " ".join(change.command.answer.split())[:300]
    return (
        f"It does not play {wanted}. It says that it plays {said}."
        f"{_FELL_BACK if is_first else ''}{f' It answered: {answer}' if answer else ''}"
    )
