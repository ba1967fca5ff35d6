"""The borders of the core: protocols of everything that it needs from outside.

`hub.brokers`, `hub.auth`, `hub.transports` and `hub.wire` implement them, and `hub.node.core` hands
the implementations in. The connection to a peer, which knows sessions, is in
`hub.core.session.link`.
"""

from array import array
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Protocol

from hub.core.identity import Identity
from hub.core.options import KIB
from hub.core.publication import Position, Publication
from hub.core.pushes import Change, Gap, Member, PresenceReset, Push
from hub.core.values import Struct
from hub.errors import HubError, UnauthorizedError

Monotonic = Callable[[], float]
"""Returns seconds from an arbitrary start, never backwards."""
Spawn = Callable[[Coroutine[object, object, None]], None]
"""Runs a coroutine in the node's task group; it handles its own errors."""
Defer = Callable[[Callable[[], None]], object]
"""Runs a callback in the event loop's next iteration."""
InTurn = Callable[[Callable[[], None], str], object]
"""Has a bounded piece of work done in a turn of this address (`hub.transports.turns.Lane.wait`)."""
NO_DESCRIPTOR = -1
"""Stands for a descriptor that must not be written to. No file has this number."""
OnOpen = Callable[[Position], None]
"""Called with the head of a channel before anything after it is delivered."""
PAGE_BYTES = 128 * KIB
"""Bytes of data in one page of history. A guess: more than a link takes at once, and little beside
the bytes that a broker connection carries before a publisher notices a delay."""
MAX_AGENT_CHARACTERS = 200
"""Characters of a user agent that are kept. A browser's has half as many; a peer may send
kilobytes."""


class WriteEach(Protocol):
    """Writes the same bytes to many sockets."""

    def __call__(
        self, descriptors: "array[int]", start: int, data: bytes
    ) -> tuple[int, int] | None:
        """Write `data` to these descriptors in turn, from the place `start` on, until one does not
        take all of it.

        Return that descriptor and the bytes that it took; None where all took all. A lost peer and
        `NO_DESCRIPTOR` swallow everything.
        """
        ...


class Dialect(Protocol):
    """A wire format. Pure: the same push gives the same bytes, shared by many sessions."""

    name: str
    max_channels: int
    """The number of channels that a session with this dialect may hold."""
    marks_positions: bool
    """Whether the hub sends the peer its positions. The session writes `encode_positions` at the
    end of a tick, where that makes a frame."""

    @property
    def several(self) -> "Dialect | None":
        """The dialect of a session from its second channel on; None for this one."""
        ...

    def __hash__(self) -> int:
        """Return the hash by which sessions are grouped."""
        ...

    def encode(self, push: Push, epoch: str) -> bytes:
        """Return a whole frame; `epoch` is that of the push's channel, "" for none."""
        ...

    def encode_positions(self, positions: Sequence[tuple[str, Position]]) -> bytes:
        """Return a frame with the session's position in every channel."""
        ...


class PublishRequest(Struct, frozen=True, gc=False, array_like=True):
    """A checked publication that a broker still has to number.

    `array_like`: where it is written in one piece, it is a list of its fields.
    """

    channel: str
    data: bytes
    """Valid JSON on one line (`hub.wire.payload.check_payload`)."""
    publisher: str
    """The scope of `idempotency_key`."""
    key: str | None = None
    sender: str | None = None
    skip_connection: str | None = None
    idempotency_key: str | None = None
    trace: str | None = None
    """W3C `traceparent` of the trace that it belongs to; None without a trace."""
    tags: bytes | None = None
    """As `hub.core.publication.Publication` has it; so have the next two."""
    marks: int = 0
    keep_ms: int | None = None

    @property
    def size_bytes(self) -> int:
        """The bytes of its data and tags, by which pages and queues are bounded."""
        return len(self.data) if self.tags is None else len(self.data) + len(self.tags)

    def numbered(self, channel: str, offset: int, time_ms: int) -> Publication:
        """Return the publication that it becomes. `channel` is the broker's copy of the name."""
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


class PublishResult(Struct, frozen=True, gc=False):
    """The answer to a publish request."""

    position: Position
    """The position of the publication."""
    duplicate: bool = False
    """Whether the idempotency key was used before, so that this is the first answer again."""

    @property
    def epoch(self) -> str:
        return self.position.epoch

    @property
    def offset(self) -> int:
        return self.position.offset


class HistoryPage(Struct, frozen=True):
    """A range of one channel's history, oldest first."""

    head: Position
    """The newest offset assigned so far."""
    oldest: int
    """The first offset that history still holds; `head.offset + 1` when it holds none."""
    publications: tuple[Publication, ...]
    invalid: tuple[int, ...] = ()
    """Offsets in the range that history holds and cannot deliver. All other missing offsets have
    expired, or were not to be kept."""

    @property
    def last(self) -> int:
        """The offset of its last publication; 0 without any."""
        return self.publications[-1].offset if self.publications else 0


class StatePage(Struct, frozen=True):
    """Rows of a channel's state, in the order of their keys (by code points)."""

    head: Position
    """The newest offset assigned when it was read."""
    rows: tuple[Publication, ...]
    next: str | None
    """The key after which the next page begins; None for the last page."""
    dropped: int = 0
    """Rows of this epoch that were dropped at a bound, or that the disk of a file has changed."""


PublishNow = Callable[[PublishRequest], PublishResult]
OnPublished = Callable[[PublishResult | HubError], None]
PublishSoon = Callable[[PublishRequest, OnPublished], None]
PublishManyNow = Callable[[Sequence[PublishRequest]], Sequence[PublishResult | HubError]]
PublishMany = Callable[
    [Sequence[PublishRequest]], Coroutine[Any, Any, Sequence["PublishResult | HubError"]]
]


class Downstream(Protocol):
    """Takes a broker's deliveries in the channels that the node subscribes to."""

    def deliver(self, publication: Publication) -> None:
        """Take the next publication of its channel, in offset order."""
        ...

    def lost(self, gap: Gap) -> None:
        """Take a range that will not come. The next publication follows `gap.last`."""
        ...

    def reset(self, channel: str, head: Position) -> None:
        """Go on in another epoch of the channel, after `head`."""
        ...

    def announce(self, channel: str, change: Change | PresenceReset) -> None:
        """Take a change of members on any node, or that changes were lost."""
        ...


class Broker(Protocol):
    """Carries publications between nodes and keeps history. Raises only `HubError`."""

    @property
    def answers_at_once(self) -> bool:
        """Whether calls seldom wait, and never need a task before they wait (`hub.core.eager`)."""
        ...

    async def publish(self, request: PublishRequest) -> PublishResult:
        """Number, keep and deliver; raise `NotPublishedError` or `OutcomeUnknownError`."""
        ...

    @property
    def publish_now(self) -> PublishNow | None:
        """`publish` as a plain call, where it never waits; None where it may."""
        ...

    @property
    def publish_soon(self) -> PublishSoon | None:
        """`publish` with a callback instead of a coroutine, which saves a task and a future.

        The call either raises, or calls back once after it has returned. It keeps the order with
        `publish`. None where `publish_now` does as well, or the broker has only coroutines.
        """
        ...

    @property
    def publish_many_now(self) -> PublishManyNow | None:
        """`publish_now` of several in their order, with the result or the error of each.

        None without `publish_now`, and where single calls cost no more.
        """
        ...

    @property
    def publish_many(self) -> PublishMany | None:
        """`publish` of several in their order, with the result or the error of each.

        None where single calls cost no more.
        """
        ...

    async def subscribe(self, channel: str, on_open: OnOpen) -> None:
        """Deliver the channel's publications from now on.

        `on_open` gets the head before the first of them. Where several callers wait for the same
        channel, only one of their callbacks is called.
        """
        ...

    def unsubscribe(self, channel: str) -> None:
        """Stop delivering a channel that no session of this node needs now. Returns at once."""
        ...

    async def history(
        self, channel: str, after: int, limit: int, *, max_bytes: int = PAGE_BYTES
    ) -> HistoryPage:
        """Read at most `limit` publications with offsets above `after`, and `max_bytes` of data.

        A broker may return fewer, but at least one where it holds any, however large. Reading does
        not make a channel. So the position of an unused channel is not kept, and a peer that
        resumes from it and missed something gets `expired` or `reset`.
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
        """Read at most `limit` rows of a keyed channel with keys above `after`, "" for all.

        Their data has at most `max_bytes`. A broker may return fewer; the next page begins after
        `StatePage.next`.

        With the offset `upto`, read only rows that existed then and have not changed since. So
        pages that are read one after another with the head of the first one, and the publications
        after that head, together make the state at any later position. A row that changed
        meanwhile is among the publications.
        """
        ...

    async def clear(self, channel: str) -> None:
        """Delete the channel's history. Its offsets go on.

        A reader that resumes from before gets `expired`. An unknown channel is left alone.
        """
        ...


class Appearances(Protocol):
    """Takes a broker's reports of new channels."""

    def appeared(self, name: str) -> None:
        """Take note of a channel's first publication, or its first after the last one (`ENDS`).

        The call comes before that publication is delivered, or soon after it. Repeated calls are
        harmless.
        """
        ...

    def missed(self) -> None:
        """Take note that channels may have appeared, or gone on after their ends, unreported.

        `Directory.matching` returns them.
        """
        ...


class Directory(Protocol):
    """The names of existing channels."""

    def follow(self, appearances: Appearances) -> None:
        """Report each channel that has its first publication from now on.

        Returns at once; harmless when repeated.
        """
        ...

    def unfollow(self) -> None:
        """Report no more channels. Returns at once."""
        ...

    async def matching(self, pattern: str, most: int) -> Sequence[str]:
        """Return at most `most` channels with publications that a checked pattern matches.

        Call it only after `follow`. A channel that appears during the call is reported, and may be
        in the answer too. Raises `HubError` where the answer is unknown.
        """
        ...

    def expect(self, channels: Sequence[str]) -> None:
        """Prepare for subscriptions to all of these channels, which come next one by one."""
        ...


class DirectoryBroker(Broker, Directory, Protocol):
    """A broker that also knows the names of channels."""


class Roster(Protocol):
    """The members of channels, on any node. Raises only `HubError`."""

    @property
    def lag_seconds(self) -> float:
        """Seconds after an answer of `members` in which changes may come that it has already."""
        ...

    def change(self, channel: str, change: Change) -> None:
        """Take a member's first or last session on this node. Returns at once.

        `Downstream.announce` gets the change where it is the first or last on any node.
        """
        ...

    async def members(self, channel: str) -> Sequence[Member]:
        """Return the members in the order they came."""
        ...


class UndecidedError(UnauthorizedError):
    """Credentials that need an answer from elsewhere: await `wait`, and check them again.

    A caller that cannot wait, or has waited once, treats this as a refusal that may be retried.
    `wait` ends by itself, needs no task before it first waits, and does not raise.
    """

    def __init__(
        self,
        message: str,
        wait: Callable[[], Coroutine[object, object, None]],
        *,
        decides: bool = False,
    ) -> None:
        """Make the error.

        Args:
            decides: whether the wait decides for good. A caller that has waited for something else
                may wait for it too.
        """
        super().__init__(message, holds_in_seconds=1, refusal="undecided")
        self.wait = wait
        self.decides = decides

    def may_wait(self, *, has_waited: bool) -> bool:
        """Return whether a caller may wait that has waited, or has not."""
        return self.decides or not has_waited


class TokenPolicy(Protocol):
    """The policy of `hub.auth`, as far as the core calls it."""

    def authenticate(self, token: str) -> Identity:
        """Return the token's identity; raise `UnauthorizedError` unless it is valid now."""
        ...
