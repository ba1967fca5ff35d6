"""The broker over Redis: implements `hub.core.ports.Broker`.

Translates between the core and the layers below: every error that leaves this module is a
`HubError`.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from hashlib import blake2b

from structlog.typing import FilteringBoundLogger

from hub.brokers.idempotency import said_beside
from hub.brokers.redis.channels.messages import envelope
from hub.brokers.redis.directory import RedisDirectory
from hub.brokers.redis.link.outcomes import (
    Answer,
    RedisCallError,
    RedisNoAnswerError,
    RedisNotSentError,
    RefusedError,
    public_reason,
)
from hub.brokers.redis.options import RedisOptions, ShardContext
from hub.brokers.redis.shard import Shard, ShardStatistics
from hub.brokers.redis.topology.topology import make_topology
from hub.brokers.tracker import HoldBudget, TrackerState, once_reached
from hub.core.counters import Counters
from hub.core.node_records import BrokerRecord
from hub.core.options import Namespaces, is_kept, is_reserved
from hub.core.ports import (
    PAGE_BYTES,
    Appearances,
    Downstream,
    HistoryPage,
    Monotonic,
    OnOpen,
    OnPublished,
    PublishRequest,
    PublishResult,
    Spawn,
    StatePage,
)
from hub.core.publication import Position
from hub.errors import (
    ConflictError,
    HubError,
    NotPublishedError,
    OutcomeUnknownError,
    UnavailableError,
)


class RedisBroker:
    """The way of a node to the others. `start` before, `stop` after use.

    Args:
        url: see `hub.brokers.redis.link.urls`.
        downstream: gets each publication of a subscribed channel once and in order, and every
            range that is lost.
        clock: monotonic, seconds.
        wall_clock: seconds since 1970 UTC; for unsequenced publications alone, as Redis tells
            the time of all others, one clock for all nodes.
        spawn: runs what works in the background until `stop`.

    Raises:
        SettingsError: `url` names no Redis.
    """

    answers_at_once = False
    publish_now = None
    publish_many_now = None
    publish_many = None

    def __init__(  # noqa: PLR0913 - what every broker is offered, and a URL
        self,
        *,
        url: str,
        downstream: Downstream,
        namespaces: Namespaces,
        clock: Monotonic,
        wall_clock: Callable[[], float],
        spawn: Spawn,
        log: FilteringBoundLogger,
        options: RedisOptions | None = None,
        counters: Counters | None = None,
    ) -> None:
        options, counters = options or RedisOptions(), counters or Counters()
        self._hold_budget = HoldBudget(
            channel_messages=options.hold_messages,
            channel_bytes=options.hold_bytes,
            total_bytes=options.hold_total_bytes,
            counters=counters,
        )
        context = ShardContext(
            namespaces,
            options,
            downstream,
            clock,
            wall_clock,
            spawn,
            log,
            counters,
            self._hold_budget,
        )
        self._keys = options.keys
        self._namespaces = namespaces
        self._topology = make_topology(url, context)
        self._directory = RedisDirectory(
            shard=self.shard,
            shards=self.shards,
            options=options,
            clock=clock,
            spawn=spawn,
            log=log,
        )

    def shard(self, channel: str) -> Shard:
        """Return the shard of a channel."""
        return self._topology.shard(channel)

    def shards(self) -> Sequence[Shard]:
        """Return the shards, one per server."""
        return self._topology.shards()

    async def start(self) -> None:
        """Begin to connect; while Redis is away this returns too, and `problems` says so."""
        await self._topology.start()

    async def stop(self) -> None:
        await self._directory.stop()
        await self._topology.stop()

    def problems(self) -> Sequence[str]:
        """Return why the node should get no traffic; empty when it should."""
        problems = [shard.problem() for shard in self.shards()]
        return tuple(problem for problem in problems if problem is not None)

    def impaired(self) -> Sequence[str]:
        """Return the faults in spite of which the node should get traffic; empty without any."""
        impaired = [shard.impaired() for shard in self.shards()]
        return tuple(each for each in impaired if each is not None)

    def away(self) -> Sequence[str]:
        """Return servers that cannot be reached now, each with the reason."""
        return tuple(why for shard in self.shards() if (why := shard.away()))

    def statistics(self) -> Sequence[ShardStatistics]:
        """Return the statistics of each server."""
        return [shard.statistics() for shard in self.shards()]

    def record(self) -> BrokerRecord:
        """Return the figures of all servers together."""
        shards = self.statistics()
        round_trips = (shard.canary_round_trip_seconds or 0.0 for shard in shards)
        return BrokerRecord(
            servers=len(shards),
            refusing_servers=sum(shard.refusing for shard in shards),
            deaf_servers=sum(shard.deaf for shard in shards),
            unwritable_servers=sum(shard.unwritable for shard in shards),
            canary_age_seconds=max((shard.canary_age_seconds for shard in shards), default=0.0),
            canary_round_trip_seconds=max(round_trips, default=0.0),
            pending_calls=sum(shard.pending_calls for shard in shards),
            filling_channels=sum(shard.filling for shard in shards),
            held_bytes=self._hold_budget.bytes,
            held_limit_bytes=self._hold_budget.total_bytes,
            versions=Counter(shard.server_version for shard in shards if shard.server_version),
        )

    # -- hub.core.ports.Broker ---------------------------------------------------------------

    async def publish(self, request: PublishRequest) -> PublishResult:
        """Number, keep and send; calls of one node keep their order.

        Raises:
            ConflictError: the idempotency key was used with other data.
            NotPublishedError: Redis did not take it; publishing again is safe.
            OutcomeUnknownError: it was sent, and no answer came.
        """
        try:
            answer = await self._publish(request)
        except RedisCallError as error:
            raise _publish_error(error) from None
        return _published(request, answer)

    def publish_soon(self, request: PublishRequest, on_done: OnPublished) -> None:
        """Publish like `publish`, without a task for each."""

        def answered(answer: Answer) -> None:
            outcome: PublishResult | HubError
            try:
                outcome = _published(request, answer.result())
            except RedisCallError as error:
                outcome = _publish_error(error)
            except HubError as error:
                outcome = error
            on_done(outcome)

        try:
            self._publish(request).add_done_callback(answered)
        except RedisCallError as error:
            raise _publish_error(error) from None

    def _publish(self, request: PublishRequest) -> Answer:
        """Have Redis number, keep and send a publication."""
        shard, keys = self.shard(request.channel), self._keys
        names = shard.history.names(request.channel)
        digest: bytes | str = ""
        if request.idempotency_key is not None:
            once = keys.once(request.channel, request.publisher, request.idempotency_key)
            names = (*names, once)
            digest = _digest(request)
        settings = shard.history.settings(request.channel)
        traced: tuple[str | int, ...] = () if request.trace is None else (request.trace,)
        if request.keep_ms is not None:
            traced = (request.trace or "", request.keep_ms)
        arguments = (request.data, envelope(request), digest, settings, *traced)
        passes = is_reserved(request.channel) and not is_kept(request.channel)
        return shard.calls.run_function("tell" if passes else "publish", names, arguments)

    async def subscribe(self, channel: str, on_open: OnOpen) -> None:
        """Deliver the channel from now on; raise `UnavailableError` when Redis is away."""
        try:
            await self.shard(channel).channels.subscribe(channel, on_open)
        except RedisCallError as error:
            raise UnavailableError(
                f"cannot subscribe to {channel!r}: {public_reason(error)}"
            ) from None
        except TimeoutError:
            raise UnavailableError(f"cannot subscribe to {channel!r}: Redis is too slow") from None

    def unsubscribe(self, channel: str) -> None:
        self.shard(channel).channels.unsubscribe(channel)

    # -- hub.core.ports.Directory ------------------------------------------------------------

    def follow(self, appearances: Appearances) -> None:
        """See `hub.brokers.redis.directory`."""
        self._directory.follow(appearances)

    def unfollow(self) -> None:
        self._directory.unfollow()

    async def matching(self, pattern: str, most: int) -> Sequence[str]:
        """Raise `UnavailableError` when Redis is away."""
        return await self._directory.matching(pattern, most)

    def expect(self, channels: Sequence[str]) -> None:
        """Have the channels subscribed to in one round trip for all, not one for each."""
        for channel in channels:
            try:
                self.shard(channel).channels.expect(channel)
            except RedisCallError:
                return  # The subscriber's own call tells why.

    # -- history and rows --------------------------------------------------------------------

    async def history(
        self, channel: str, after: int, limit: int, *, max_bytes: int = PAGE_BYTES
    ) -> HistoryPage:
        """Return a page of `PAGE_BYTES` at most; raise `UnavailableError` when Redis is away.

        A publication that is no JSON or too large is left out.
        """
        return await once_reached(
            lambda: self._page(channel, after, limit, min(max_bytes, PAGE_BYTES)),
            lambda: self.shard(channel).channels.tracker(channel),
            what=f"history of {channel!r}",
            catch_up=lambda tracker: self.shard(channel).poke(tracker),
        )

    async def state(
        self,
        channel: str,
        after: str,
        limit: int,
        *,
        upto: int | None = None,
        max_bytes: int = PAGE_BYTES,
    ) -> StatePage:
        """Return a page of `PAGE_BYTES` at most; raise `UnavailableError` when Redis is away."""
        if not self._namespaces.options(channel).keyed:
            page = await self.history(channel, 0, 1)
            return StatePage(page.head, (), None)
        return await once_reached(
            lambda: self._rows(channel, after, limit, min(max_bytes, PAGE_BYTES), upto),
            lambda: self.shard(channel).channels.tracker(channel),
            what=f"state of {channel!r}",
            catch_up=lambda tracker: self.shard(channel).poke(tracker),
        )

    async def clear(self, channel: str) -> None:
        """Raise `UnavailableError` when Redis is away."""
        shard, keys = self.shard(channel), self._keys
        names = (keys.meta(channel), keys.log(channel))
        try:
            await shard.calls.run_function("clear", names, ())
        except RedisCallError as error:
            raise UnavailableError(f"history is not cleared: {public_reason(error)}") from None

    async def _page(self, channel: str, after: int, limit: int, max_bytes: int) -> HistoryPage:
        shard = self.shard(channel)
        invalid: list[int] = []
        try:
            while True:
                async with shard.reads:
                    page = await shard.history.page(channel, after, limit, max_bytes)
                invalid += [m.offset for m in page.messages if m.publication is None]
                if page.complete or any(m.publication for m in page.messages):
                    break
                after = page.messages[-1].offset
        except RedisCallError as error:
            raise UnavailableError(f"no history of {channel!r}: {public_reason(error)}") from None
        found = tuple(m.publication for m in page.messages if m.publication is not None)
        return HistoryPage(page.head, page.oldest, found, tuple(invalid))

    async def _rows(
        self, channel: str, after: str, limit: int, max_bytes: int, upto: int | None
    ) -> StatePage:
        shard = self.shard(channel)
        try:
            async with shard.reads:
                return await shard.history.rows(channel, after, limit, max_bytes, upto)
        except RedisCallError as error:
            raise UnavailableError(f"no state of {channel!r}: {public_reason(error)}") from None

    # -- this node's knowledge ---------------------------------------------------------------

    def names(self) -> Sequence[str]:
        """Return the channels this node listens to."""
        return tuple(t.channel for shard in self.shards() for t in shard.channels.trackers())

    def held(self, channel: str) -> tuple[Position, int | None] | None:
        """Return this node's position in a channel; None where it does not listen.

        Only Redis knows how much history holds.
        """
        tracker = self.shard(channel).channels.tracker(channel)
        if tracker is None or tracker.state is TrackerState.OPENING:
            return None
        return tracker.position, None

    def rows_held(self, channel: str) -> tuple[int, int] | None:  # noqa: ARG002 - as others have it
        """Return None: only Redis knows."""
        return None

    def sweep(self) -> None:
        """Do nothing: Redis forgets by itself, every key has a TTL."""


def _digest(request: PublishRequest) -> bytes:
    content = request.data + b"\0" + (request.key or "").encode() + said_beside(request)
    return blake2b(content, digest_size=16).hexdigest().encode()


def _published(request: PublishRequest, answer: object) -> PublishResult:
    match answer:
        case [bytes() as epoch, int() as offset, int() as duplicate]:
            return PublishResult(Position(epoch.decode(), offset), duplicate=duplicate == 1)
        case [b"conflict"]:
            key = request.idempotency_key
            raise ConflictError(f"idempotency key {key!r} was used with other data")
    raise OutcomeUnknownError(f"Redis answered {answer!r:.100}")


def _publish_error(error: RedisCallError) -> NotPublishedError | OutcomeUnknownError:
    """See the table in `hub.brokers.redis.link.outcomes`."""
    reason = public_reason(error)
    nothing_done = isinstance(error, RefusedError) and error.nothing_done
    if nothing_done or isinstance(error, RedisNotSentError):
        return NotPublishedError(f"not published: {reason}")
    if isinstance(error, RedisNoAnswerError):
        return OutcomeUnknownError(f"it is not known whether it was published: {reason}")
    return OutcomeUnknownError(f"Redis failed while publishing: {reason}")
