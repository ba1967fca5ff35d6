"""The borders of the core: what it needs from the outside, as protocols.

Adapters in `hub.transports`, `hub.brokers`, `hub.auth` and `hub.wire` have these shapes;
`hub.node.core` hands them in. The way to a peer is `hub.core.session.link`, which knows sessions.
"""

from array import array
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Protocol

from hub.core.identity import Identity
from hub.core.options import KIB
from hub.core.publication import Position, Publication
from hub.core.pushes import Change, Gap, Member, PresenceReset, Push
from hub.core.values import value
from hub.errors import HubError, UnauthorizedError

Monotonic = Callable[[], float]
"""Seconds from an arbitrary start, never backwards."""
Spawn = Callable[[Coroutine[object, object, None]], None]
"""Runs a coroutine in the node's task group; it handles its own errors."""
Defer = Callable[[Callable[[], None]], object]
"""Runs a callback in the event loop's next iteration."""
NO_DESCRIPTOR = -1
"""In the place of a descriptor that must not be written to; no file has this number."""
OnOpen = Callable[[Position], None]
"""Takes the head of a channel, before anything that follows it is delivered."""
PAGE_BYTES = 128 * KIB
"""Of data in one page of history. A guess: more than a link takes at once, and little beside
what a connection to a broker carries in the time that a publisher notices."""
MAX_AGENT_CHARACTERS = 200
"""Of a user agent that are kept: a browser's has half as many, and a peer may send kilobytes."""


class WriteEach(Protocol):
    """Writes the same bytes to many sockets."""

    def __call__(
        self, descriptors: "array[int]", start: int, stop: int, data: bytes
    ) -> tuple[int, int] | None:
        """Write `data` to these descriptors in turn, until one does not take all of it.

        Returns that descriptor and how many bytes it took; None where all took all. A lost peer
        swallows everything, and so does `NO_DESCRIPTOR`.
        """
        ...


class Dialect(Protocol):
    """A wire format. Pure: the same push gives the same bytes, shared by many sessions."""

    name: str
    max_channels: int
    """How many channels one session may hold in it."""
    marks_positions: bool
    """Whether the peer resumes from positions that it is told: the session writes
    `encode_positions` at the end of a tick, where that makes a frame."""

    @property
    def several(self) -> "Dialect | None":
        """What a session speaks from its second channel on; None for the same."""
        ...

    def __hash__(self) -> int:
        """Sessions are grouped by it."""
        ...

    def encode(self, push: Push, epoch: str) -> bytes:
        """A whole frame; `epoch` is that of the push's channel ("" where it has none)."""
        ...

    def encode_positions(self, positions: Sequence[tuple[str, Position]]) -> bytes:
        """A frame that tells how far the session is in every channel."""
        ...


@value(frozen=True, slots=True)
class PublishRequest:
    channel: str
    data: bytes
    """Valid JSON on one line (`hub.wire.payload.check_payload`)."""
    publisher: str
    """Scope of `idempotency_key`."""
    key: str | None = None
    sender: str | None = None
    skip_connection: str | None = None
    idempotency_key: str | None = None
    trace: str | None = None
    """W3C `traceparent` of what it is a part of; None where nothing traces it."""
    tags: bytes | None = None
    """As in `hub.core.publication.Publication`, ..."""
    marks: int = 0
    """... so are these, ..."""
    keep_ms: int | None = None
    """... and so is this."""

    def numbered(self, channel: str, offset: int, time_ms: int) -> Publication:
        """The publication that it becomes; `channel` is its own, as the broker holds the name."""
        return Publication(
            channel,
            offset,
            self.data,
            time_ms,
            self.key,
            self.sender,
            self.skip_connection,
            self.trace,
            self.tags,
            self.marks,
            self.keep_ms,
        )


@value(frozen=True, slots=True)
class PublishResult:
    position: Position
    """Of the publication."""
    duplicate: bool = False
    """The idempotency key was seen before: this is the first answer again."""

    @property
    def epoch(self) -> str:
        return self.position.epoch

    @property
    def offset(self) -> int:
        return self.position.offset


@value(frozen=True, slots=True)
class HistoryPage:
    """A stretch of one channel's history, oldest first."""

    head: Position
    """The newest offset given out so far."""
    oldest: int
    """The first offset history still holds; `head.offset + 1` when it holds none."""
    publications: tuple[Publication, ...]
    invalid: tuple[int, ...] = ()
    """Offsets among them of what is held and cannot be delivered; all others that are missing have
    expired, or were not to be kept."""

    @property
    def last(self) -> int:
        """The offset of its last publication; 0 where it has none."""
        return self.publications[-1].offset if self.publications else 0


@value(frozen=True, slots=True)
class StatePage:
    """Rows of a channel's state, in the order of their keys (by code points)."""

    head: Position
    """The newest offset given out when it was read."""
    rows: tuple[Publication, ...]
    next: str | None
    """The key after which to ask for more; None where nothing follows."""
    dropped: int = 0
    """Rows of this epoch that went for want of room: by number of keys, or bytes."""


PublishNow = Callable[[PublishRequest], PublishResult]
OnPublished = Callable[[PublishResult | HubError], None]
PublishSoon = Callable[[PublishRequest, OnPublished], None]
PublishManyNow = Callable[[Sequence[PublishRequest]], Sequence[PublishResult | HubError]]
PublishMany = Callable[
    [Sequence[PublishRequest]], Coroutine[Any, Any, Sequence["PublishResult | HubError"]]
]


class Downstream(Protocol):
    """Where a broker hands over what comes in the channels that the node subscribes to."""

    def deliver(self, publication: Publication) -> None:
        """The next publication of its channel, in offset order."""
        ...

    def lost(self, gap: Gap) -> None:
        """A range of a channel that will not come; the next publication follows `gap.last`."""
        ...

    def reset(self, channel: str, head: Position) -> None:
        """The channel goes on in another epoch, after `head`."""
        ...

    def announce(self, channel: str, change: Change | PresenceReset) -> None:
        """Somebody came or went, on whatever node; or it is not known any more who did."""
        ...


class Broker(Protocol):
    """Carries publications between nodes and keeps history. Raises only `HubError`."""

    @property
    def answers_at_once(self) -> bool:
        """Whether calls seldom wait and never need a task before they do (`hub.core.eager`)."""
        ...

    async def publish(self, request: PublishRequest) -> PublishResult:
        """Number, keep and deliver; raise `NotPublishedError` or `OutcomeUnknownError`."""
        ...

    @property
    def publish_now(self) -> PublishNow | None:
        """`publish` as a plain call, where nothing in it ever waits; None where something may."""
        ...

    @property
    def publish_soon(self) -> PublishSoon | None:
        """`publish` with a call back in place of a coroutine, which costs a task and a future less.

        It calls back once, after it has returned, or raises and does not. In order with `publish`.
        None where `publish_now` does as well, or where the broker has only coroutines.
        """
        ...

    @property
    def publish_many_now(self) -> PublishManyNow | None:
        """`publish_now` for each in their order, with what it returns or raises; only beside it,
        and None where one by one costs no more."""
        ...

    @property
    def publish_many(self) -> PublishMany | None:
        """`publish` of several in their order, each with its result or why there is none; None
        where they are as well published one by one."""
        ...

    async def subscribe(self, channel: str, on_open: OnOpen) -> None:
        """Deliver the channel's publications from now on.

        `on_open` gets the head before the first of them; where several callers wait for the
        same channel, only one of theirs is called.
        """
        ...

    def unsubscribe(self, channel: str) -> None:
        """No session of this node needs the channel now. Returns at once."""
        ...

    async def history(
        self, channel: str, after: int, limit: int, *, max_bytes: int = PAGE_BYTES
    ) -> HistoryPage:
        """At most `limit` publications with offsets above `after`, and `max_bytes` of their data.

        A broker may return fewer, but at least one where it holds any, however large. Reading
        makes nothing: the position of a channel that nobody used is as true as one can be that
        is not kept (`expired` or `reset` is announced to who resumes from it and missed some).
        """
        ...

    async def state(
        self,
        channel: str,
        after: str,
        limit: int,
        *,
        upto: int | None = None,
        max_bytes: int = PAGE_BYTES,
    ) -> StatePage:
        """At most `limit` rows of a keyed channel with keys above `after` ("": all), and
        `max_bytes` of their data; fewer at a broker's liking, but it goes on from `next`.

        With `upto`, an offset, only rows that were there then and have not changed since. So
        pages that are read one after another with the first one's head, and the publications
        after it, are together the state at any later position: what changed meanwhile is among
        the publications.
        """
        ...

    async def clear(self, channel: str) -> None:
        """Hold nothing of the channel that was published before; its numbers go on.

        A reader that resumes from before gets `expired`. A channel that is not known is left alone.
        """
        ...


class Appearances(Protocol):
    """Where a broker tells which channels come to be."""

    def appeared(self, name: str) -> None:
        """A channel has its first publication: told before that is delivered, or soon after it.

        So is one that follows the last one (`ENDS`). Repeating it is harmless.
        """
        ...

    def missed(self) -> None:
        """Channels may have appeared, or go on behind their ends, that nobody was told of.

        `Directory.matching` knows them.
        """
        ...


class Directory(Protocol):
    """Which channels there are."""

    def follow(self, appearances: Appearances) -> None:
        """Tell of each channel that is published in for the first time from now on.

        Returns at once; harmless when repeated.
        """
        ...

    def unfollow(self) -> None:
        """Tell of no more channels. Returns at once."""
        ...

    async def matching(self, pattern: str, most: int) -> Sequence[str]:
        """At most so many channels that were published in and that a checked pattern matches.

        Only while it is followed: what appears between the call and its end is told, and may be in
        the answer as well. Raises `HubError` where it cannot be known.
        """
        ...

    def expect(self, channels: Sequence[str]) -> None:
        """These will be subscribed to at once, one after another: begin with all of them."""
        ...


class DirectoryBroker(Broker, Directory, Protocol):
    """A broker that also tells which channels there are."""


class Roster(Protocol):
    """The members of channels, on any node. Raises only `HubError`."""

    @property
    def lag_seconds(self) -> float:
        """How long after `members` answered, `announce` may still bring what it knew of."""
        ...

    def change(self, channel: str, change: Change) -> None:
        """This node has the first session of a member, or has lost its last. Returns at once.

        `Downstream.announce` gets it where it is the first or last on any node.
        """
        ...

    async def members(self, channel: str) -> Sequence[Member]:
        """In the order they came."""
        ...


class UndecidedError(UnauthorizedError):
    """Whether credentials hold has to be asked elsewhere: await `wait`, and judge them again.

    A caller that cannot wait, or has waited once, takes it for a refusal that may be tried again.
    `wait` comes to an end by itself, needs no task of its own before it first waits, and raises
    nothing.
    """

    def __init__(
        self,
        message: str,
        wait: Callable[[], Coroutine[object, object, None]],
        *,
        decides: bool = False,
    ) -> None:
        """`decides`: what is decided by the wait is known for good behind it, so that it may be
        waited for also by who has waited for something else."""
        super().__init__(message, holds_in_seconds=1, refusal="undecided")
        self.wait = wait
        self.decides = decides

    def may_wait(self, *, has_waited: bool) -> bool:
        """Whether to wait, for who has waited or has not."""
        return self.decides or not has_waited


class Policy(Protocol):
    """What the registry asks `hub.auth`."""

    def authenticate(self, token: str) -> Identity:
        """Raise `UnauthorizedError` unless the token holds now."""
        ...
