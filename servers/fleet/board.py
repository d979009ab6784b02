"""The list of servers: which ones it shows, in which order, and what it says about each.

A page has `ROWS_PER_PAGE` servers and costs the same number of queries, however many there are.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlencode

from django.contrib.auth.models import User
from django.db.models import Count, Exists, F, OuterRef, Q, Subquery
from django.http import QueryDict
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from servers.config import find_waiting, name_parts
from servers.fleet.tags import count_tags, having_tag
from servers.models import (
    TAG_CHARS,
    UP_STATES,
    ActualState,
    Crash,
    Host,
    PlayerSession,
    Server,
    ServerQuerySet,
    ServerTag,
)
from servers.permissions import SERVER_OPERATION_VERBS, may

ROWS_PER_PAGE = 50
LONGEST_SEARCH = 100
TAGS_SHOWN = 50
"""An admin sees the tags of other people's servers, and there may be any number of them."""

SORTS = {
    "name": ("name",),
    "state": ("actual_state", "name"),
    "people": ("players", "name"),
    "map": ("map", "name"),
    "blueprint": ("blueprint__name", "name"),
}
"""The orders of the list; a leading `-` reverses them."""

FILTER_LABELS = {
    "": gettext_lazy("all"),
    "running": gettext_lazy("running"),
    "people": gettext_lazy("people on"),
    "stopped": gettext_lazy("stopped"),
    "crashed": gettext_lazy("crashed"),
    "busy": gettext_lazy("job waiting or running"),
    "older": gettext_lazy("older build"),
    "silent": gettext_lazy("not heard from"),
}


@dataclass(frozen=True)
class BoardQuery:
    """What an address asks of the list. Invalid parts are ignored."""

    text: str = ""
    state: str = ""
    tag: str = ""
    sort: str = "name"
    page: int = 1

    @classmethod
    def read(cls, query: QueryDict) -> "BoardQuery":
        """Parse the query of an address."""
        state, sort, page = (query.get(name, "") for name in ("state", "sort", "page"))
        return cls(
            query.get("q", "").replace("\0", "").strip()[:LONGEST_SEARCH],
            state if state in FILTER_LABELS else "",
            query.get("tag", "").replace("\0", "")[:TAG_CHARS],
            sort if sort.removeprefix("-") in SORTS else "name",
            max(int(page), 1) if page.isascii() and page.isdecimal() and len(page) < 7 else 1,
        )

    def url(self, **changes: str | int) -> str:
        """Return the query of the address that asks for this, with `changes`."""
        asked = {
            "q": self.text,
            "state": self.state,
            "tag": self.tag,
            "sort": self.sort,
            "page": self.page,
        }
        usual = {"sort": "name", "page": 1}
        said = {
            key: value for key, value in (asked | changes).items() if value != usual.get(key, "")
        }
        return f"?{urlencode(said)}" if said else "?"


@dataclass(frozen=True)
class Filter:
    """A link that shows some of the servers, with their number."""

    label: str
    url: str
    count: int
    is_current: bool


@dataclass(frozen=True)
class Column:
    """The head of a column; its link sorts by it."""

    label: str
    url: str
    direction: str
    """A value of `aria-sort`; empty if the list is not sorted by this column."""


@dataclass(frozen=True)
class Hint:
    """The one most important thing to know about a server."""

    kind: str
    text: str
    url: str = ""


@dataclass(frozen=True)
class RowAction:
    """A button of a row. While people are on, it first asks, offering `when_empty` and `now`."""

    operation: str
    label: str
    when_empty: str = ""
    now: str = ""


@dataclass(frozen=True)
class BoardRow:
    """A server as the list shows it. Values that the template uses several times are computed once here.

    `share` says whose server it is, if not one's own; `hint` is the most important fact; `job` is waiting or
    running.
    """

    server: Server
    url: str
    tags: list[Filter]
    actions: list[RowAction]
    share: str
    should_be: str
    hint: Hint | None
    job: Any
    has_people: bool
    """Whether the number of people on it is known."""
    has_listed_people: bool
    """Whether it does not answer, and somebody was on when it last did."""

    @property
    def asks(self) -> bool:
        """Whether people are, or may be, on who would be thrown off: then stopping it needs confirmation."""
        return self.has_listed_people or (self.has_people and bool(self.server.players))


@dataclass(frozen=True)
class Board:
    """The list as one page shows it. `total` counts all visible servers, `count` those that match."""

    rows: list[BoardRow]
    query: BoardQuery
    filters: list[Filter]
    tags: list[Filter]
    columns: list[Column]
    total: int
    count: int

    @property
    def page_count(self) -> int:
        """How many pages the matching servers fill."""
        return max(1, -(-self.count // ROWS_PER_PAGE))

    @property
    def previous_url(self) -> str:
        """The address of the previous page; empty on the first one."""
        return self.query.url(page=self.query.page - 1) if self.query.page > 1 else ""

    @property
    def next_url(self) -> str:
        """The address of the next page; empty on the last one."""
        has_next = self.query.page < self.page_count
        return self.query.url(page=self.query.page + 1) if has_next else ""


def read_board(user: User, query: BoardQuery) -> Board:
    """Return the list of the servers that `user` may see, as `query` asks for it. About a dozen queries."""
    visible = Server.objects.visible_to(user)
    searched = search(visible, query.text)
    conditions = make_conditions()
    tags = list_tags(query, searched.filter(conditions[query.state]))
    found = searched.filter(pk__in=having_tag(query.tag)) if query.tag else searched
    counts = found.order_by().aggregate(
        **{f"in_{name}": Count("pk", filter=one) for name, one in conditions.items()}
    )
    total = visible.count() if query.text or query.tag else counts["in_"]
    matching = found.filter(conditions[query.state])
    count = counts[f"in_{query.state}"]
    last_page = max(1, -(-count // ROWS_PER_PAGE))
    query = replace(query, page=min(query.page, last_page))
    start = (query.page - 1) * ROWS_PER_PAGE
    # Only their ids first, so that the rest of a row is fetched only for the rows shown.
    ids = list(
        sort(matching, query.sort).values_list("pk", flat=True)[start : start + ROWS_PER_PAGE]
    )
    filters = [
        Filter(str(label), query.url(state=name, page=1), counts[f"in_{name}"], name == query.state)
        for name, label in FILTER_LABELS.items()
        if counts[f"in_{name}"] or name in ("", query.state)
    ]
    rows = read_rows(user, ids, query)
    return Board(rows, query, filters, tags, list_columns(query), total, count)


def find_matching(user: User, query: BoardQuery, most: int) -> list[str]:
    """Return the names of the servers on all pages of the list, `most` of them. Costs two queries."""
    found = search(Server.objects.visible_to(user), query.text)
    if query.tag:
        found = found.filter(pk__in=having_tag(query.tag))
    matching = found.filter(make_conditions()[query.state])
    return list(sort(matching, query.sort).values_list("name", flat=True)[:most])


def list_tags(query: BoardQuery, servers: ServerQuerySet) -> list[Filter]:
    """Return the tags of `servers` by name, always including the requested one. Costs one query."""
    counts = dict(count_tags(servers)[:TAGS_SHOWN])
    if query.tag:
        counts.setdefault(query.tag, 0)
    return [to_tag_filter(query, name, counts[name]) for name in sorted(counts, key=str.casefold)]


def to_tag_filter(query: BoardQuery, name: str, count: int = 0) -> Filter:
    """Return the link that shows the servers with a tag, or, for the requested tag, all of them again."""
    is_current = name == query.tag
    return Filter(name, query.url(tag="" if is_current else name, page=1), count, is_current)


def search(servers: ServerQuerySet, text: str) -> ServerQuerySet:
    """Return those of `servers` where each word occurs in a name: their own, or that of something they use."""
    for word in text.split():
        found = Q(name__icontains=word) | Q(map__icontains=word)
        found |= Q(blueprint__name__icontains=word) | Q(host__name__icontains=word)
        found |= Q(owner__username__icontains=word)
        tagged = ServerTag.objects.filter(name__icontains=word).order_by()
        found |= Q(pk__in=tagged.values("server_id"))
        if word.isascii() and word.isdecimal() and len(word) < 6:
            found |= Q(port=int(word))
        servers = servers.filter(found)
    return servers


def make_conditions() -> dict[str, Q]:
    """Return the condition of each filter. Costs one query, for the hosts that are silent."""
    # `jobs` depends on this package, not the other way round. Its models and rules are reached by relations.
    workers: Any = Host.workers.rel.related_model
    jobs: Any = Server.jobs.rel.related_model
    of_host = workers.objects.filter(host=OuterRef("pk"))
    silent = list(
        Host.objects.order_by()
        .filter(Exists(of_host), ~Exists(of_host.alive()))
        .values_list("pk", flat=True)
    )
    is_silent = Q(host__in=silent)
    # A lookup for each server in the index of unfinished jobs, of which there may be many more than servers.
    busy = jobs.objects.active().order_by().filter(server=OuterRef("pk"))
    return {
        "": Q(),
        "running": Q(actual_state__in=UP_STATES) & ~is_silent,
        "people": Q(actual_state=ActualState.RUNNING, players__gt=0) & ~is_silent,
        "stopped": Q(actual_state__in=(ActualState.STOPPED, ActualState.ABSENT)) & ~is_silent,
        "crashed": Q(actual_state=ActualState.CRASHED) & ~is_silent,
        "busy": Q(Exists(busy)),
        "older": runs_older_build(),
        "silent": is_silent,
    }


def runs_older_build() -> Q:
    """Return the condition that a server runs a different build than its next start would use."""
    is_known = ~Q(running_build_id="") & ~Q(host__build_id="")
    return Q(actual_state__in=UP_STATES) & is_known & ~Q(running_build_id=F("host__build_id"))


def sort(servers: ServerQuerySet, by: str) -> ServerQuerySet:
    """Return `servers` in the order named `by`; unknown values come last."""
    first, *rest = SORTS[by.removeprefix("-")]
    field = F(first)
    order = field.desc(nulls_last=True) if by.startswith("-") else field.asc(nulls_last=True)
    return servers.order_by(order, *rest)


def list_columns(query: BoardQuery) -> list[Column]:
    """Return the heads of the sortable columns, in order."""
    labels = {
        "name": _("Name"),
        "state": _("State"),
        "people": _("Players"),
        "map": _("Map"),
        "blueprint": _("Blueprint"),
    }
    columns = []
    for name, label in labels.items():
        # People who sort by people want the full servers first.
        first, second = ("-people", "people") if name == "people" else (name, f"-{name}")
        url = query.url(sort=second if query.sort == first else first, page=1)
        direction = ""
        if query.sort.removeprefix("-") == name:
            direction = "descending" if query.sort.startswith("-") else "ascending"
        columns.append(Column(label, url, direction))
    return columns


def read_rows(user: User, ids: list[int], query: BoardQuery) -> list[BoardRow]:
    """Return the rows of these servers, which `user` may see, in this order."""
    newest_crash = Crash.objects.filter(server=OuterRef("pk")).order_by("-at", "-id")
    found = Server.objects.filter(pk__in=ids).defer("config_chain").with_role_of(user)
    rows = found.with_heartbeat().with_latest_job(ids)
    # Fetches the few hosts, blueprints and owners once each: a join would rebuild them for every row.
    rows = rows.select_related("deferred_action")
    rows = rows.prefetch_related("host", "blueprint", "owner", "tags")
    by_id = {
        server.pk: server
        for server in rows.annotate(crash_signal=Subquery(newest_crash.values("exit_signal")[:1]))
    }
    servers = [by_id[pk] for pk in ids if pk in by_id]
    waiting = find_waiting(servers)
    names = {tag.name for server in servers for tag in server.tags.all()}
    tags = {name: to_tag_filter(query, name) for name in names}
    actions = list_actions()
    listed = find_listed_people(servers)
    return [
        make_row(
            one,
            name_parts(waiting.get(one.pk, ())),
            user=user,
            tags=tags,
            actions=actions,
            has_listed_people=one.pk in listed,
        )
        for one in servers
    ]


def find_listed_people(servers: Iterable[Server]) -> set[int]:
    """Return which of these run and do not answer while people are listed. At most one query."""
    unanswering = [
        server.pk
        for server in servers
        if server.actual_state == ActualState.RUNNING
        and server.players is None
        and not server.not_heard_of_since
    ]
    sessions = PlayerSession.objects.open().filter(server__in=unanswering)
    return set(sessions.values_list("server_id", flat=True))


def make_row(
    server: Server,
    waiting: str,
    *,
    user: User,
    tags: Mapping[str, Filter],
    actions: Sequence[RowAction],
    has_listed_people: bool,
) -> BoardRow:
    """Return the row of a server that `read_rows` has fetched with everything needed.

    `waiting` is, in words, what a restart would apply; empty if nothing.
    """
    fetched: Mapping[str, Any] = vars(server)
    newest = next(iter(fetched["latest_jobs"]), None)
    operations = set(server.operations)
    if not server.is_up:
        operations.discard("restart")
    if server.is_down:
        operations.discard("stop")
    verbs = SERVER_OPERATION_VERBS
    return BoardRow(
        server,
        server.get_absolute_url(),
        [tags[tag.name] for tag in server.tags.all()],
        [
            action
            for action in actions
            if action.operation in operations and may(user, verbs[action.operation], server)
        ],
        describe_share(user, server),
        server.should_be_words,
        find_hint(server, newest, waiting),
        newest if newest and newest.is_active else None,
        server.has_known_players,
        has_listed_people,
    )


def list_actions() -> list[RowAction]:
    """Return the buttons that a row may have, in order."""
    return [
        RowAction("start", _("Start")),
        RowAction("restart", _("Restart"), _("Restart when empty"), _("Restart now")),
        RowAction("stop", _("Stop"), _("Stop when empty"), _("Stop now")),
    ]


def describe_share(user: User, server: Server) -> str:
    """Return, in words, whose server it is and the role of `user`; empty for their own server."""
    if server.owner_id == user.pk:
        return ""
    role = server.role_of(user)
    if role is None:
        return _("of %(owner)s") % {"owner": server.owner}
    return _("owned by %(owner)s; you are its %(role)s") % {
        "owner": server.owner,
        "role": role.label,
    }


def has_overcome(server: Server, job: Any) -> bool:
    """Return whether a server came up after the end of its failed start, so that nothing is to be done."""
    if not (job.is_start and server.is_up and job.finished_at and server.actual_state_at):
        return False
    return bool(server.actual_state_at > job.finished_at)


def find_hint(server: Server, job: Any, waiting: str) -> Hint | None:
    """Return the most important thing to know about a server: problems first, then what can wait."""
    if server.actual_state == ActualState.CRASHED and not server.not_heard_of_since:
        signal = vars(server)["crash_signal"]
        text = _("crashed with %(signal)s") % {"signal": signal} if signal else server.last_error
        return Hint("bad", text or _("crashed"), f"{server.get_absolute_url()}crashes/")
    if job and job.state == "failed" and not has_overcome(server, job):
        text = _("%(operation)s failed") % {"operation": job.operation_label}
        return Hint("bad", f"{text}: {job.error}" if job.error else text, job.get_absolute_url())
    if server.spec_faults:
        return Hint("bad", _("cannot be started as it is"), server.get_absolute_url())
    deferred = getattr(server, "deferred_action", None)
    if deferred and deferred.is_waiting:
        words = {"operation": deferred.operation_label, "people": server.people_words}
        return Hint("wait", _("%(operation)s when empty: %(people)s") % words)
    if waiting:
        return Hint("wait", _("restart to apply: %(parts)s") % {"parts": waiting})
    if server.host.is_draining:
        return Hint("quiet", _("host %(host)s is being drained") % {"host": server.host.name})
    return None
