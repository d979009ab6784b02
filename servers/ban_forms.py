"""The forms by which people ban others: who, why, for how long, and where."""

from datetime import timedelta

from django import forms
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from servers.models import Ban, Server
from servers.models.bans import REASON_CHARS
from servers.steam_ids import read_ban_list, to_steam_id

HOUR, DAY, EVER, OWN = "hour", "day", "ever", "own"
LONGEST_MINUTES = 10 * 365 * 24 * 60
MAX_LIST_CHARS = 256 * 1024
MOST_BANS = 5_000
"""Of one owner, in force: each of their servers is told of them at each start."""


class BanForm(forms.Form):
    """Bans somebody on one server, or, for who may, on all servers of its owner."""

    steam_id = forms.CharField(
        label=gettext_lazy("Steam ID"),
        max_length=64,
        help_text=gettext_lazy(
            "As STEAM_1:0:12345, [U:1:24690], the long number, or the address of a profile with it."
        ),
    )
    reason = forms.CharField(
        required=False,
        max_length=REASON_CHARS,
        help_text=gettext_lazy("For those who run the servers."),
    )
    length = forms.ChoiceField(
        label=gettext_lazy("For how long"),
        choices=[(HOUR, "1 hour"), (DAY, "1 day"), (EVER, "for good"), (OWN, "so many minutes:")],
        initial=DAY,
    )
    minutes = forms.IntegerField(
        label="Minutes", required=False, min_value=1, max_value=LONGEST_MINUTES
    )
    where = forms.ChoiceField()

    def __init__(self, *args: object, server: Server, may_ban_everywhere: bool) -> None:
        super().__init__(*args)  # type: ignore[arg-type]
        self._server = server
        everywhere = [("all", f"on all servers of {server.owner}")] if may_ban_everywhere else []
        where: forms.ChoiceField = self.fields["where"]  # type: ignore[assignment]
        where.choices = [("server", f"on {server.name}"), *everywhere]

    def clean_steam_id(self) -> str:
        """Return the Steam id as the game has it."""
        steam_id = to_steam_id(self.cleaned_data["steam_id"])
        if steam_id is None:
            raise forms.ValidationError(_("That is no Steam ID: look at the examples."))
        return steam_id

    def clean(self) -> None:
        """Refuse an own length without minutes, and a ban beyond those that there may be."""
        has_minutes = self.cleaned_data.get("minutes") or self.has_error("minutes")
        if self.cleaned_data.get("length") == OWN and not has_minutes:
            self.add_error("minutes", _("Enter for how many minutes."))
        if find_room(self._server) < 1:
            raise forms.ValidationError(full_text(self._server))

    def make_ban(self, made_by_name: str) -> Ban:
        """Return the ban, not saved, that the valid form says."""
        said = self.cleaned_data
        minutes = {HOUR: 60, DAY: 24 * 60, EVER: 0, OWN: said["minutes"]}[said["length"]]
        known = self._server.player_sessions.filter(steam_id=said["steam_id"]).first()
        return make_ban(
            self._server,
            said["steam_id"],
            minutes,
            is_everywhere=said["where"] == "all",
            reason=said["reason"],
            name=known.name if known else "",
            made_by_name=made_by_name,
        )


class BanListForm(forms.Form):
    """Takes over a `banned_user.cfg`, for one server."""

    text = forms.CharField(
        label=gettext_lazy("Lines of banned_user.cfg"),
        max_length=MAX_LIST_CHARS,
        widget=forms.Textarea(attrs={"rows": 6, "spellcheck": "false"}),
    )

    def __init__(self, *args: object, server: Server) -> None:
        super().__init__(*args)  # type: ignore[arg-type]
        self._server = server

    def make_bans(self, made_by_name: str) -> tuple[list[Ban], int, int]:
        """Return the bans, not saved, that are new; how many there were already; how many lines are none."""
        of_server = Ban.objects.of_servers([self._server]).in_force()
        known = set(of_server.values_list("steam_id", flat=True))
        bans: list[Ban] = []
        already = unread = 0
        for entry in read_ban_list(self.cleaned_data["text"]):
            if entry is None or entry[1] > LONGEST_MINUTES:
                unread += 1
            elif entry[0] in known:
                already += 1
            else:
                known.add(entry[0])
                reason, by = _("From a list."), made_by_name
                bans.append(make_ban(self._server, *entry, reason=reason, made_by_name=by))
        return bans, already, unread


def make_ban(
    server: Server,
    steam_id: str,
    minutes: int,
    *,
    is_everywhere: bool = False,
    **fields: str,
) -> Ban:
    """Return a ban, not saved; 0 minutes is for good."""
    now = timezone.now()
    return Ban(
        owner_id=server.owner_id,
        server=None if is_everywhere else server,
        steam_id=steam_id,
        created_at=now,
        ends_at=now + timedelta(minutes=minutes) if minutes else None,
        **fields,
    )


def find_room(server: Server) -> int:
    """Return how many more bans the owner of a server may have in force."""
    return MOST_BANS - Ban.objects.in_force().filter(owner_id=server.owner_id).count()


def full_text(server: Server) -> str:
    """Return what to do where there are as many bans as may be."""
    text = _("%(owner)s has %(most)s bans in force, and there may be no more: lift some first.")
    return text % {"owner": server.owner, "most": f"{MOST_BANS:,}"}
