"""The table of answers about a publication and a connection, and the facts that lead to each.

A case is a set of facts: the notes on the publication, the channel's timeline, the position of the
connection's subscription, and whether notes may be forgotten. The first row of `TABLE` whose facts
all hold has the answer. Rows with notes come first, then rows with the subscription's position.

Example: offset 7 was dropped from the outbox, and the subscription has gone on. The facts are
`dropped`, `sent` and `handed`. The row of `dropped` stands above those of `handed`, so the answer
is `dropped` and not `written`.

`hub.core.forensics.explaining` finds the facts of a case.
"""

from dataclasses import dataclass
from enum import StrEnum

from hub.core.forensics.noted import What


class Fate(StrEnum):
    """The fate of one publication on its way to one connection."""

    WRITTEN = "written"
    AS_ROW = "as_row"
    """The written rows of its channel contain it, or the row that replaced it."""
    QUEUED = "queued"
    DROPPED = "dropped"
    CONFLATED = "conflated"
    OWN = "own"
    FILTERED = "filtered"
    LOST = "lost"
    EXPIRED = "expired"
    NOT_SUBSCRIBED = "not_subscribed"
    FORBIDDEN = "forbidden"
    CLOSED = "closed"
    NOT_PUBLISHED = "not_published"
    UNKNOWN = "unknown"


class Fact(StrEnum):
    """A fact of a case, besides the notes (`What`)."""

    BEYOND_HEAD = "beyond head"
    """The channel has not come so far."""
    EPOCH_OVER = "epoch over"
    NO_CONNECTION = "no connection"
    GONE = "gone"
    """The connection has ended."""
    FORGOTTEN = "forgotten"
    """Notes of the time when it was sent may be forgotten."""
    LEFT_OUT = "left out"
    """The subscription's filter does not let it through."""
    PERHAPS_LEFT_OUT = "perhaps left out"
    """The subscription has a filter, and history no longer holds the publication."""
    AS_REMOVAL = "as a removal"
    """The filter left it out, and the subscription, which keeps rows, got its removal instead."""
    REPLACED = "replaced"
    """The newer publication of its key that replaced it is known."""
    UNTOLD = "untold"
    """The written offsets of a thinned range are not noted, and cannot be found."""
    IN_TURN = "in turn"
    """The publication was written as a part of a thinned range."""
    EVERY_SO_OFTEN = "every so often"
    """The subscription wants updates in an interval."""
    MATCHED = "matched a pattern"
    """The subscription came by a pattern."""
    NO_MATCH = "no match"
    """The connection has patterns, and none of them matches the channel."""
    AFTER_ROWS = "after rows"
    """The subscription began with rows."""
    NEVER_KEPT = "never kept"
    """The publication came with `"history":false`."""
    BRIEF = "brief"
    """The publication came with a shorter time in history than its channel's."""
    DOUBTFUL = "doubtful"
    """Two subscriptions were still owed it, and the notes do not tell which."""

    # Exactly one of these, from the channel's timeline.
    SENT = "sent"
    """The hub wrote the publication to live subscribers."""
    NEVER_CAME = "never came"
    """The hub announced the publication as lost to live subscribers."""
    NOBODY_HERE = "nobody here"
    """The publication came while no session of this node subscribed."""
    OUT_OF_REACH = "out of reach"

    # Exactly one of these, from the open subscription or the newest ended one.
    HANDED = "handed"
    """The subscription has passed it live."""
    READ = "read"
    """The subscription has passed it while reading history."""
    REPLAYING = "replaying"
    CONGESTED = "congested"
    HELD_BACK = "held back"
    """The subscription is live, and holds it back until its interval is over."""
    WAITING = "waiting"
    """The subscription is live, and has not come to it."""
    CLOSED_BEFORE = "closed before"
    RESET_BEFORE = "reset before"
    LEFT_BEFORE = "left before"
    ENDED_BEFORE = "ended before"
    """The channel had its last publication, and the subscription ended with it."""
    EXPELLED_BEFORE = "expelled before"
    BEGAN_AFTER = "began after"
    NEXT_EPOCH = "next epoch"
    """Its epoch has not come to this node yet."""
    NEVER_THERE = "never there"

    # At most one of these: the subscription was refused.
    NOT_GRANTED = "not granted"
    NOT_ADMITTED = "not admitted"
    """The subscription was refused for another reason than a missing grant."""


class Times(StrEnum):
    """The source of an answer's times."""

    NONE = "none"
    NOTE = "note"
    SENDING = "sending"
    END = "end"
    """The end of the subscription."""
    TURN = "turn"
    """The release of the thinned range that contains it."""
    REFUSAL = "refusal"


@dataclass(frozen=True, slots=True)
class AnswerRow:
    """A row of the table of answers."""

    facts: frozenset[Fact | What]
    """All of them must hold."""
    answer: Fate
    detail: str
    times: Times


def _row(
    *facts: Fact | What, answer: Fate, detail: str = "", times: Times = Times.NONE
) -> AnswerRow:
    return AnswerRow(frozenset(facts), answer, detail, times)


_FORGOTTEN = "out of reach: what was noted then is forgotten"
_ROW_GONE = (
    "the filter of its subscription leaves it out: {filter}; as the subscription keeps rows, the"
    " peer was told that its row is gone"
)
_NEVER_CAME = "it never came to this node; announced as `{lost}`"
TABLE = (
    # The question itself.
    _row(Fact.BEYOND_HEAD, answer=Fate.NOT_PUBLISHED,
         detail="the newest of {channel} is {head} in epoch {epoch}"),
    _row(Fact.NO_CONNECTION, answer=Fate.UNKNOWN,
         detail="no connection of that name is open, or among those that are remembered"),
    # Notes on it. A note on a range does not tell which offsets were left out of it, where the
    # notes on those may be forgotten.
    _row(Fact.DOUBTFUL, answer=Fate.UNKNOWN, detail=_FORGOTTEN),
    _row(What.OWN, answer=Fate.OWN, times=Times.NOTE,
         detail="its own publication, which it asked not to get back (echo: false)"),
    _row(What.RESET, answer=Fate.LOST, times=Times.NOTE,
         detail="a new epoch began, and its `reset` went on behind it"),
    _row(What.EXPIRED, Fact.NEVER_KEPT, answer=Fate.EXPIRED, times=Times.NOTE,
         detail="it was published with `history: false`, so history never held it; announced as a"
         " gap `expired`"),
    _row(What.EXPIRED, Fact.BRIEF, answer=Fate.EXPIRED, times=Times.NOTE,
         detail="it was published to be in history for {kept_seconds:g} s only, which were over;"
         " announced as a gap `expired`"),
    _row(What.EXPIRED, answer=Fate.EXPIRED, times=Times.NOTE,
         detail="history no longer held it; announced as a gap `expired`"),
    _row(What.INVALID, answer=Fate.LOST, times=Times.NOTE,
         detail="it was no valid publication, or the disk of the history file has changed it;"
         " announced as a gap `invalid`"),
    _row(What.ROWS, answer=Fate.AS_ROW, times=Times.NOTE,
         detail="history no longer held it, so rows were written anew: those as of offset {by}"
         " stand for it"),
    _row(Fact.LEFT_OUT, answer=Fate.FILTERED,
         detail="the filter of its subscription leaves it out: {filter}"),
    _row(What.DROPPED, answer=Fate.DROPPED, times=Times.NOTE,
         detail="dropped because the peer read too slowly (policy {policy})"),
    _row(What.CONFLATED, answer=Fate.CONFLATED, times=Times.NOTE,
         detail="a newer one with the same key replaced it while it waited"),
    _row(What.THINNED, Fact.UNTOLD, answer=Fate.UNKNOWN,
         detail="the subscriber asked for at most one of each key per {every_ms} ms; which of these"
         " gave way to a newer one is not noted one by one"),
    _row(What.THINNED, Fact.REPLACED, answer=Fate.CONFLATED, times=Times.NOTE,
         detail="the subscriber asked for at most one per {every_ms} ms; this one was replaced by"
         " offset {by}"),
    _row(What.THINNED, answer=Fate.CONFLATED, times=Times.NOTE,
         detail="the subscriber asked for at most one of each key per {every_ms} ms; a newer one"
         " with the same key, up to offset {until}, replaced this one"),
    _row(What.UNSENT, Fact.FORGOTTEN, answer=Fate.UNKNOWN, detail=_FORGOTTEN),
    _row(What.UNSENT, answer=Fate.CLOSED, times=Times.NOTE,
         detail="the connection ended while it waited in the outbox"),
    _row(What.REPLAYED, Fact.FORGOTTEN, answer=Fate.UNKNOWN, detail=_FORGOTTEN),
    _row(What.REPLAYED, Fact.AS_REMOVAL, answer=Fate.FILTERED, times=Times.NOTE,
         detail=_ROW_GONE),
    _row(What.REPLAYED, answer=Fate.WRITTEN, times=Times.NOTE, detail="written from history"),
    _row(What.LATE, Fact.FORGOTTEN, answer=Fate.UNKNOWN, detail=_FORGOTTEN),
    # It may have been lost, which is forgotten with the timeline.
    _row(What.LATE, Fact.OUT_OF_REACH, answer=Fate.UNKNOWN, detail=_FORGOTTEN),
    _row(What.LATE, Fact.NEVER_CAME, answer=Fate.LOST, detail=_NEVER_CAME),
    _row(What.LATE, Fact.AS_REMOVAL, answer=Fate.FILTERED, times=Times.NOTE, detail=_ROW_GONE),
    _row(What.LATE, answer=Fate.WRITTEN, times=Times.NOTE,
         detail="written from the outbox: its peer took no more at first"),
    # No notes: the position of the subscription.
    _row(Fact.EPOCH_OVER, Fact.OUT_OF_REACH, answer=Fate.UNKNOWN,
         detail="that epoch is over, and this node does not remember that it came so far"),
    _row(Fact.HANDED, Fact.FORGOTTEN, answer=Fate.UNKNOWN, detail=_FORGOTTEN),
    _row(Fact.HANDED, Fact.IN_TURN, Fact.AS_REMOVAL, answer=Fate.FILTERED, times=Times.TURN,
         detail=_ROW_GONE),
    _row(Fact.HANDED, Fact.IN_TURN, answer=Fate.WRITTEN, times=Times.TURN,
         detail="written when its turn came: the subscriber asked for at most one per"
         " {every_ms} ms"),
    _row(Fact.HANDED, Fact.NEVER_CAME, answer=Fate.LOST, detail=_NEVER_CAME),
    _row(Fact.HANDED, Fact.SENT, Fact.AS_REMOVAL, answer=Fate.FILTERED, times=Times.SENDING,
         detail=_ROW_GONE),
    _row(Fact.HANDED, Fact.SENT, Fact.EVERY_SO_OFTEN, answer=Fate.WRITTEN, times=Times.SENDING,
         detail="written to its connection when it came, or up to {every_ms} ms later, as it"
         " asked"),
    _row(Fact.HANDED, Fact.SENT, answer=Fate.WRITTEN, times=Times.SENDING,
         detail="written to its connection when it came"),
    _row(Fact.HANDED, answer=Fate.UNKNOWN, detail=_FORGOTTEN),
    # Reading from history is always noted. Without a note it is forgotten.
    _row(Fact.READ, answer=Fate.UNKNOWN, detail=_FORGOTTEN),
    _row(Fact.REPLAYING, answer=Fate.QUEUED,
         detail="history is being read to it as fast as it takes it"),
    _row(Fact.CONGESTED, answer=Fate.QUEUED,
         detail="it waits in the outbox: the peer takes no more now"),
    _row(Fact.HELD_BACK, answer=Fate.QUEUED,
         detail="it waits for its turn, or has given way to a newer one: the subscriber asked for"
         " at most one per {every_ms} ms"),
    _row(Fact.WAITING, answer=Fate.QUEUED, detail="it has not come to this node yet"),
    _row(Fact.NEXT_EPOCH, answer=Fate.QUEUED,
         detail="its new epoch has not come to this node yet"),
    # The channel may have been joined again by a subscription that is forgotten.
    _row(Fact.CLOSED_BEFORE, Fact.FORGOTTEN, answer=Fate.UNKNOWN, detail=_FORGOTTEN),
    _row(Fact.CLOSED_BEFORE, answer=Fate.CLOSED, times=Times.END,
         detail="the connection ended before: {code} {reason}"),
    _row(Fact.RESET_BEFORE, Fact.FORGOTTEN, answer=Fate.UNKNOWN, detail=_FORGOTTEN),
    _row(Fact.RESET_BEFORE, answer=Fate.DROPPED, times=Times.END,
         detail="a new epoch began before its turn; announced as `reset`"),
    _row(Fact.ENDED_BEFORE, Fact.FORGOTTEN, answer=Fate.UNKNOWN, detail=_FORGOTTEN),
    _row(Fact.ENDED_BEFORE, answer=Fate.NOT_SUBSCRIBED, times=Times.END,
         detail="{left_after} was the last of its channel, and its subscription ended with that;"
         " whoever subscribes anew gets what came later"),
    _row(Fact.EXPELLED_BEFORE, Fact.FORGOTTEN, answer=Fate.UNKNOWN, detail=_FORGOTTEN),
    _row(Fact.EXPELLED_BEFORE, answer=Fate.NOT_SUBSCRIBED, times=Times.END,
         detail="it was taken out of the channel after {left_after}: {how}"),
    _row(Fact.LEFT_BEFORE, Fact.FORGOTTEN, answer=Fate.UNKNOWN, detail=_FORGOTTEN),
    _row(Fact.LEFT_BEFORE, answer=Fate.NOT_SUBSCRIBED, times=Times.END,
         detail="it had left the channel after {left_after}"),
    # No known subscription covers it.
    _row(Fact.NOT_GRANTED, answer=Fate.FORBIDDEN, times=Times.REFUSAL,
         detail="its subscription was refused: {refusal}"),
    _row(Fact.NOT_ADMITTED, answer=Fate.NOT_SUBSCRIBED, times=Times.REFUSAL,
         detail="its subscription was refused: {refusal}"),
    _row(Fact.FORGOTTEN, answer=Fate.UNKNOWN, detail=_FORGOTTEN),
    _row(Fact.BEGAN_AFTER, Fact.AFTER_ROWS, answer=Fate.AS_ROW,
         detail="its subscription began with the rows as of offset {began_after}: this one is a row"
         " there, unless a newer one with its key had replaced it or taken it away by then"),
    _row(Fact.BEGAN_AFTER, Fact.MATCHED, answer=Fate.NOT_SUBSCRIBED,
         detail="its pattern {pattern} matches the channel, and brings it since {began_after}"),
    _row(Fact.BEGAN_AFTER, answer=Fate.NOT_SUBSCRIBED,
         detail="its subscription began after {began_after}"),
    # The end of a handshake without a grant.
    _row(Fact.GONE, answer=Fate.NOT_SUBSCRIBED,
         detail="it was not subscribed to the channel then; it has ended: {code} {reason}"),
    _row(Fact.NO_MATCH, answer=Fate.NOT_SUBSCRIBED,
         detail="it was not subscribed to the channel then, and none of its patterns matches it:"
         " {patterns}"),
    _row(answer=Fate.NOT_SUBSCRIBED, detail="it was not subscribed to the channel then"),
)  # fmt: skip

RESERVATIONS = (
    (Fact.PERHAPS_LEFT_OUT, "unless the filter of its subscription left it out: {filter}"),
    (Fact.AS_REMOVAL, "as the removal of its row, because the filter leaves it out: {filter}"),
)
"""Texts that follow an answer of `OWED` where the fact holds."""
OWED = frozenset({
    Fate.WRITTEN, Fate.AS_ROW, Fate.QUEUED, Fate.CONFLATED, Fate.DROPPED,
})  # fmt: skip
