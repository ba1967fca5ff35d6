"""Publications that a subject got and missed, over all its connections on all nodes, in order of
time.

Each node sends its notes: the subject's connections (`Visit`), their subscriptions
(`HeldSubscription`), and the fate of publications on the way to them, stretch by stretch
(`Moment`). The node that was asked puts these parts in one order (`explain_subject`), and adds the
publications for which no connection was there.

Example: ada's first connection got orders 1 to 10 and broke, her second began after 12. The answer
is: opened, subscribed, 1 to 10 written, closed, 11 to 12 absent, opened, subscribed.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, UnsetType

from hub.admin.explain import Explained
from hub.admin.requests import Admin, AdminRequest, Everywhere
from hub.core.forensics.answers import Fate
from hub.core.publication import Position

MAX_MOMENTS = 1000
"""Moments of one node's part, the newest; some 250 bytes each."""
# From the answer that tells most to the one that tells least. `unknown` stands above mere absence.
_WEIGHT = {
    answer: place
    for place, answer in enumerate(
        (
            Fate.NOT_PUBLISHED,
            Fate.WRITTEN,
            Fate.OWN,
            Fate.AS_ROW,
            Fate.QUEUED,
            Fate.FILTERED,
            Fate.CONFLATED,
            Fate.DROPPED,
            Fate.LOST,
            Fate.EXPIRED,
            Fate.UNKNOWN,
            Fate.FORBIDDEN,
            Fate.CLOSED,
            Fate.NOT_SUBSCRIBED,
        )
    )
}
ABSENT = "absent"
_NODES_GONE = "what a node noted that has stopped since is not known"
# The order of moments in the same millisecond.
_ORDER = {"opened": 0, "subscribed": 1, "left": 3, "closed": 4, ABSENT: 5}


class Visit(msgspec.Struct, frozen=True, kw_only=True):
    """A connection of the subject."""

    connection: str
    node: str
    transport: str
    address: str
    user_agent: str
    opened_ms: int
    closed_ms: int | None = None
    """None while it is open."""
    code: int | None = None
    reason: str = ""
    complete: bool = True
    """Whether all notes of it are kept."""
    explained: Explained | UnsetType = UNSET
    """The answer for the publication in question."""


class Moment(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An entry of the line of time."""

    what: str
    """`opened`, `subscribed`, `left`, `refused`, `closed`, `absent`, or an answer."""
    connection: str
    at_ms: int | None = None
    to_ms: int | None = None
    channel: str | None = None
    epoch: str | None = None
    first: int | None = None
    last: int | None = None
    detail: str = ""


class HeldSubscription(msgspec.Struct, frozen=True, kw_only=True):
    """A subscription of the subject."""

    connection: str
    channel: str
    epoch: str
    first: int
    last: int | None
    from_ms: int
    to_ms: int | None
    how: str


class SubjectPart(msgspec.Struct, frozen=True, kw_only=True):
    """The part that one node remembers."""

    visits: tuple[Visit, ...] = ()
    moments: tuple[Moment, ...] = ()
    held: tuple[HeldSubscription, ...] = ()
    heads: dict[str, Position] = {}
    """Heads of the channels in question, where the broker answers."""
    more: bool = False
    """Whether the node remembers more than this."""


class ExplainSubject(AdminRequest[SubjectPart], frozen=True, kw_only=True, tag="explain_subject"):
    """Asks a node what the subject's connections there got and missed.

    It names one channel or none for all, a stretch of time or none, and maybe one publication.
    """

    subject: str
    channel: str | None = None
    offset: Annotated[int, Meta(ge=1)] | None = None
    epoch: str | None = None
    from_ms: int | None = None
    to_ms: int | None = None

    def fitting(self, answer: SubjectPart) -> SubjectPart:
        """Return the newest moments: operators ask about those first."""
        moments = sorted(answer.moments, key=_at)[-MAX_MOMENTS:]
        cut = len(moments) < len(answer.moments)
        return msgspec.structs.replace(answer, moments=tuple(moments), more=answer.more or cut)


# -- over all nodes --------------------------------------------------------------------------------


class SubjectExplained(msgspec.Struct, frozen=True, kw_only=True):
    """The answer of all nodes together."""

    connections: tuple[Visit, ...]
    """Connections in the order in which they opened."""
    events: tuple[Moment, ...]
    """The line of time, oldest first."""
    explained: Explained | UnsetType = UNSET
    """The answer for the publication in question, of the connection that tells most."""
    connection: str | UnsetType | None = UNSET
    """The connection that the answer is about; None where no connection was there for the
    publication."""
    more: bool
    """Whether the nodes remember more than this."""
    complete: bool
    """Whether every node has answered."""
    unanswered: tuple[str, ...]


async def explain_subject(admin: Admin, asked: ExplainSubject) -> SubjectExplained:
    """Return what the subject got and missed, as far as the nodes that answer remember."""
    answers = await admin.call(asked, Everywhere())
    parts = list(answers.by_tag.values())
    visits = _once(chain.from_iterable(part.visits for part in parts))
    held = [each for part in parts for each in part.held]
    heads: dict[str, Position] = {}
    for part in parts:
        for channel, head in part.heads.items():
            heads[channel] = max(heads.get(channel, head), head, key=lambda each: each.offset)
    more = any(part.more for part in parts)
    # A connection that was not looked at, that is at a silent node, or of which notes are
    # forgotten, may have been there.
    whole = answers.complete and not more and all(each.complete for each in visits)
    by_name = {each.connection: each for each in visits}
    absences = list(_absences(held, heads, by_name, asked)) if whole else []
    moments = sorted(chain(*(part.moments for part in parts), absences), key=_at)
    explained, connection = _verdict(asked, visits, absences, all_seen=whole)
    return SubjectExplained(
        connections=tuple(visits),
        events=tuple(moments),
        explained=explained,
        connection=connection,
        more=more,
        complete=answers.complete,
        unanswered=answers.unanswered,
    )


def _once(visits: Iterable[Visit]) -> list[Visit]:
    """Return each connection once: two processes may have read the same file."""
    by_name = {each.connection: each for each in visits}
    return sorted(by_name.values(), key=lambda each: each.opened_ms)


def _at(moment: Moment) -> tuple[float, int]:
    """Return the sort key of a moment; one without a time is last. `closed` follows the others."""
    at = moment.at_ms if moment.at_ms is not None else moment.to_ms
    return float("inf") if at is None else at, _ORDER.get(moment.what, 2)


def _absences(
    held: Sequence[HeldSubscription],
    heads: dict[str, Position],
    visits: dict[str, Visit],
    asked: ExplainSubject,
) -> Iterator[Moment]:
    """Yield the stretches without a subscribed connection of the subject, channel by channel."""
    by_place: dict[tuple[str, str], list[HeldSubscription]] = defaultdict(list)
    for each in held:
        by_place[each.channel, each.epoch].append(each)
    for (channel, epoch), places in by_place.items():
        head = heads.get(channel)
        newest = head.offset if head is not None and head.epoch == epoch else None
        for before, first, last, after in _holes(places, newest):
            since, until = before.to_ms, None if after is None else after.from_ms
            if _outside(asked, since, until):
                continue
            yield Moment(
                what=ABSENT,
                connection=before.connection,
                at_ms=since,
                to_ms=until,
                channel=channel,
                epoch=epoch,
                first=first,
                last=last,
                detail=_why_absent(before, after, visits.get(before.connection)),
            )


def _holes(
    places: Sequence[HeldSubscription], newest: int | None
) -> Iterator[tuple[HeldSubscription, int, int, HeldSubscription | None]]:
    """Yield the last subscription before, the offsets, and the first subscription after."""
    ordered = sorted(places, key=lambda each: (each.first, each.from_ms))
    before = ordered[0]
    for each in ordered[1:]:
        if before.last is None:
            return
        if each.first > before.last + 1:
            yield before, before.last + 1, each.first - 1, each
        if each.last is None or each.last >= before.last:
            before = each
    if before.last is not None and newest is not None and newest > before.last:
        yield before, before.last + 1, newest, None


def _why_absent(
    before: HeldSubscription, after: HeldSubscription | None, visit: Visit | None
) -> str:
    if before.how == "closed" and visit is not None and visit.code is not None:
        ended = f"{before.connection} had ended: {visit.code} {visit.reason}".strip()
    elif before.how == "reset":
        ended = f"a new epoch had begun for {before.connection}"
    else:
        ended = f"{before.connection} had left the channel"
    then = (
        "no connection of this subject has subscribed since"
        if after is None
        else f"{after.connection} began after {after.first - 1}"
    )
    return f"{ended}; {then}"


def _outside(asked: ExplainSubject, since_ms: int | None, until_ms: int | None) -> bool:
    late = asked.to_ms is not None and since_ms is not None and since_ms > asked.to_ms
    early = asked.from_ms is not None and until_ms is not None and until_ms < asked.from_ms
    return late or early


def _verdict(
    asked: ExplainSubject,
    visits: Sequence[Visit],
    absences: Sequence[Moment],
    *,
    all_seen: bool,
) -> tuple[Explained | UnsetType, str | UnsetType | None]:
    """Return the connections' answer that tells most, and the connection."""
    if asked.offset is None:
        return UNSET, UNSET
    told = [(each.explained, each.connection) for each in visits if each.explained is not UNSET]
    if not told:
        nobody = "no connection of this subject is open, or among those that are remembered"
        return Explained(answer=Fate.UNKNOWN.value, detail=nobody), None
    best, connection = min(told, key=lambda pair: _WEIGHT[Fate(pair[0].answer)])
    weak = {Fate.CLOSED.value, Fate.NOT_SUBSCRIBED.value}
    if best.answer in weak and not all_seen:
        many = (
            "a connection that was not looked at, or of which a part is not known, may have got it"
        )
        return Explained(answer=Fate.UNKNOWN.value, detail=many), None
    for absence in absences:
        first, last = absence.first or 0, absence.last or 0
        if best.answer in weak and absence.epoch == best.epoch and first <= asked.offset <= last:
            found = Explained(
                answer=Fate.NOT_SUBSCRIBED.value,
                detail=absence.detail,
                epoch=best.epoch,
                head=best.head,
                from_ms=absence.at_ms,
                to_ms=absence.to_ms,
            )
            return found, None
    if best.answer in weak:
        # For example the node before a deploy, where no notes are on disk.
        best = msgspec.structs.replace(best, detail=f"{best.detail}; {_NODES_GONE}")
    return best, connection
