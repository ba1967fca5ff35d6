"""Publications on their way into the history file: those that wait, and those of one commit.

Waiting publications are bounded in number and bytes; each has a ticket that tells its publisher the
outcome. Offsets are given out when a commit is put together, and only one commit is under way at a
time. So a commit that fails has given nothing out: its publications are as if they had never come.
No I/O, no clock.
"""

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from functools import partial

from hub.brokers.idempotency import IdempotencyKeys, lasting_content, scope_of
from hub.brokers.memory import MemoryBroker
from hub.brokers.memory_history import ChannelLog
from hub.brokers.sqlite.layout import Commit, cut, record
from hub.brokers.state_rows import StateRows
from hub.core.options import MIB
from hub.core.ports import PublishRequest, PublishResult
from hub.core.publication import REMOVES, Publication
from hub.errors import ConflictError, HubError, NotPublishedError, UnavailableError

# Bounds beside the commit under way: seconds of the fastest intake.
MAX_WAITING_BYTES = 32 * MIB
MAX_WAITING = 100_000

Outcome = PublishResult | HubError
Settled = Callable[[Outcome], None]


class WaitingPublication:
    """A publication that waits, and the call that tells its publisher the outcome."""

    __slots__ = ("request", "settle")

    def __init__(self, request: PublishRequest, settle: Settled) -> None:
        self.request = request
        self.settle = settle


class OutcomeCollector:
    """Publications whose publisher waits for all of them together."""

    __slots__ = ("_left", "_on_settled", "_outcomes")

    def __init__(self, count: int, on_settled: Callable[[Sequence[Outcome]], None]) -> None:
        self._left = count
        self._on_settled = on_settled
        self._outcomes: list[Outcome | None] = [None] * count

    def settle(self, place: int, outcome: Outcome) -> None:
        self._outcomes[place] = outcome
        self._left -= 1
        if not self._left:
            self._on_settled([each for each in self._outcomes if each is not None])


class Waiting:
    """Tickets in the order they came; one per broker."""

    def __init__(self) -> None:
        self.bytes = 0
        """Bytes of payload that wait."""
        self._tickets: deque[WaitingPublication] = deque()

    def __len__(self) -> int:
        return len(self._tickets)

    def refusal(self, count: int, size: int) -> NotPublishedError | None:
        """Return why so many more of this size may not wait; None where they may, as the first
        may."""
        if not self._tickets or (
            self.bytes + size <= MAX_WAITING_BYTES and len(self._tickets) + count <= MAX_WAITING
        ):
            return None
        return NotPublishedError(
            f"{len(self._tickets):,} publications with {self.bytes:,} bytes wait to be written, "
            f"limits are {MAX_WAITING:,} and {MAX_WAITING_BYTES:,}"
        )

    def add(self, request: PublishRequest, on_settled: Settled) -> None:
        self._tickets.append(WaitingPublication(request, on_settled))
        self.bytes += len(request.data)

    def add_many(
        self,
        requests: Sequence[PublishRequest],
        size: int,
        on_settled: Callable[[Sequence[Outcome]], None],
    ) -> None:
        call = OutcomeCollector(len(requests), on_settled)
        self._tickets.extend(
            WaitingPublication(each, partial(call.settle, place))
            for place, each in enumerate(requests)
        )
        self.bytes += size

    def first(self) -> WaitingPublication:
        return self._tickets[0]

    def taken(self) -> None:
        """Drop the first ticket: a commit has taken it."""
        self.bytes -= len(self._tickets.popleft().request.data)

    def refuse(self, error: HubError) -> None:
        """Settle all tickets with `error`: none of them will be written."""
        tickets = tuple(self._tickets)
        self._tickets.clear()
        self.bytes = 0
        for ticket in tickets:
            ticket.settle(error)


class StoredLog:
    """A channel as the file knows it."""

    __slots__ = ("id", "log", "oldest")

    def __init__(self, id_: int, log: ChannelLog, oldest: int) -> None:
        self.id = id_
        self.log = log
        self.oldest = oldest
        """The first offset that the file holds; `log.offset + 1` where it holds none."""

    @property
    def first(self) -> int:
        """The first offset that counts as held: the file deletes whole blocks, and a little
        later."""
        return max(self.oldest, self.log.offset - self.log.options.history_size + 1)


class StoredLogs:
    """All channels that the file knows, by id.

    A channel that is forgotten and comes again gets another id, so that its old blocks are not
    taken for its new ones.
    """

    def __init__(self, next_id: int) -> None:
        self._next_id = next_id
        self._by_id: dict[int, StoredLog] = {}
        self._by_log: dict[ChannelLog, StoredLog] = {}

    def add(self, log: ChannelLog, *, id_: int | None = None, oldest: int = 1) -> StoredLog:
        if id_ is None:
            id_, self._next_id = self._next_id, self._next_id + 1
        stored = self._by_id[id_] = self._by_log[log] = StoredLog(id_, log, oldest)
        log.stored = oldest <= log.offset
        if log.rows is not None and log.rows.gone is None:
            log.rows.gone = []
        return stored

    def find(self, log: ChannelLog) -> StoredLog | None:
        return self._by_log.get(log)

    def by_id(self, id_: int) -> StoredLog | None:
        return self._by_id.get(id_)

    def forget(self, log: ChannelLog) -> StoredLog | None:
        if (stored := self._by_log.pop(log, None)) is not None:
            del self._by_id[stored.id]
        return stored


class _Numbered:
    """A publication with its number."""

    __slots__ = ("publication", "repeats", "ticket")

    def __init__(self, ticket: WaitingPublication, publication: Publication) -> None:
        self.ticket = ticket
        self.publication = publication
        self.repeats: Sequence[WaitingPublication] = ()
        """Tickets under the same idempotency key, which came before this publication was
        written."""


class CommitGroup:
    """One commit.

    Args:
        time_ms: milliseconds since 1970 UTC, for its publications.
        taken_ms: the same moment by the clock that ages history.
    """

    def __init__(
        self,
        memory: MemoryBroker,
        keys: IdempotencyKeys,
        stored: StoredLogs,
        *,
        time_ms: int,
        taken_ms: int,
        keys_expire_ms: int,
    ) -> None:
        self._memory = memory
        self._keys = keys
        self._stored = stored
        self._time_ms = time_ms
        self._taken_ms = taken_ms
        self._keys_expire_ms = keys_expire_ms
        self._numbered: dict[ChannelLog, list[_Numbered]] = {}
        self._order: list[tuple[ChannelLog, _Numbered]] = []
        self._keyed: dict[tuple[str, str, str], _Numbered] = {}
        self._made: list[tuple[str, str, int, int, str, int]] = []
        self._gone_rows: list[tuple[StateRows, tuple[str, int]]] = []
        """Rows that expired or had no room, and that this commit deletes from the file."""
        self.bytes = 0
        """Bytes of payload."""

    def __len__(self) -> int:
        return len(self._order)

    def take(self, ticket: WaitingPublication) -> bool:
        """Number the publication, or settle it; return False where the next commit has to take
        it."""
        request, memory = ticket.request, self._memory
        try:
            log = memory.log(request.channel)
        except UnavailableError as error:
            # This very commit may hold all channels there is room for.
            if self._order:
                return False
            ticket.settle(error)
            return True
        try:
            if request.idempotency_key is not None and self._is_answered(ticket, log):
                return True
        except ConflictError as error:
            memory.place(log)
            ticket.settle(error)
            return True
        if (taken := self._numbered.get(log)) is None:
            taken = self._numbered[log] = []
            log.pinned = True
            memory.place(log)
        numbered = _Numbered(
            ticket,
            request.numbered(log.name, log.offset + len(taken) + 1, self._time_ms),
        )
        taken.append(numbered)
        self._order.append((log, numbered))
        self.bytes += len(request.data)
        if request.idempotency_key is not None:
            self._remember(request, log, numbered)
        return True

    def _is_answered(self, ticket: WaitingPublication, log: ChannelLog) -> bool:
        """Return whether its key was used before, in the file or in this commit."""
        request = ticket.request
        made = self._keys.find(request, epoch=log.epoch)
        if made is not None:
            self._memory.place(log)
            ticket.settle(made)
            return True
        first = self._keyed.get(_scope(request))
        if first is None:
            return False
        asked = first.ticket.request
        if (asked.data, asked.key) != (request.data, request.key):
            raise ConflictError(
                f"idempotency key {request.idempotency_key!r} was used with other data"
            )
        first.repeats = (*first.repeats, ticket)
        return True

    def _remember(self, request: PublishRequest, log: ChannelLog, numbered: _Numbered) -> None:
        assert request.idempotency_key is not None  # noqa: S101 - the caller has looked
        self._keyed[_scope(request)] = numbered
        scope = scope_of(request.channel, request.idempotency_key).hex()
        self._made.append(
            (
                request.publisher, scope, lasting_content(request), self._keys_expire_ms,
                log.epoch, numbered.publication.offset,
            )
        )  # fmt: skip

    def commit(
        self, commits: int, *, gone: Sequence[int] = (), ended: Iterable[tuple[int, int]] = ()
    ) -> Commit:
        """Return the commit for the file."""
        channels: list[tuple[int, str, str, int, int]] = []
        blocks: list[tuple[int, int, int, int, int, int, int, int]] = []
        parts: list[bytes] = []
        rows: list[tuple[int, str, int, int, int, int]] = []
        removed: list[tuple[int, str]] = []
        at = 1
        for log, taken in self._numbered.items():
            stored = self._stored.find(log) or self._stored.add(log)
            last = taken[-1].publication.offset
            channels.append((stored.id, log.name, log.epoch, last, self._taken_ms))
            if log.rows is not None:
                changed = {each.publication.key: each.publication for each in taken}
                for gone_key, offset in log.rows.gone or ():
                    # A row that was published again since is there as it is now.
                    if not log.rows.has(gone_key) and gone_key not in changed:
                        removed.append((stored.id, gone_key))
                    self._gone_rows.append((log.rows, (gone_key, offset)))
                for row in changed.values():
                    if (key := row.key) is None:
                        continue
                    if row.marks & REMOVES:
                        removed.append((stored.id, key))
                        continue
                    raw = record(row)
                    rows.append((stored.id, key, row.offset, self._taken_ms, at, len(raw)))
                    parts.append(raw)
                    at += len(raw)
            if not log.keeps:
                continue
            expires_ms = self._taken_ms + int(log.options.history_ttl_seconds * 1000)
            # Publications that history would not keep anyway are not written.
            kept = [each.publication for each in taken[-log.options.history_size :]]
            kept = [each for each in kept if each.keep_ms != 0]
            for block in cut(kept) if kept else ():
                raw = b"".join(map(record, block))
                size = sum(len(each.data) for each in block)
                blocks.append(
                    (
                        stored.id, block[0].offset, block[-1].offset, self._taken_ms, expires_ms,
                        size, at, len(raw),
                    )
                )  # fmt: skip
                parts.append(raw)
                at += len(raw)
        return Commit(
            commits=commits,
            clock_ms=self._taken_ms,
            channels=channels,
            blocks=blocks,
            made=self._made,
            rows=rows,
            removed=removed,
            gone=gone,
            ended=tuple(ended),
            data=b"".join(parts),
        )

    def apply(self) -> Sequence[StoredLog]:
        """Deliver the publications and settle their tickets: the commit is written.

        Returns the channels that it went to.
        """
        for rows, told in self._gone_rows:
            if rows.gone is not None and told in rows.gone:
                rows.gone.remove(told)
        went_to = []
        for log, taken in self._numbered.items():
            log.pinned = False
            if (stored := self._stored.find(log)) is None:
                continue
            went_to.append(stored)
            last = taken[-1].publication.offset
            if not log.keeps:
                stored.oldest = last + 1
            elif stored.oldest > log.offset:
                stored.oldest = max(log.offset + 1, last - log.options.history_size + 1)
            log.stored = log.keeps
        for log, numbered in self._order:
            if self._memory.find(log.name) is not log:
                continue  # a failed commit that stands after all, of a channel forgotten since
            position = self._memory.take(log, numbered.publication, numbered.ticket.request)
            numbered.ticket.settle(PublishResult(position))
            for repeat in numbered.repeats:
                repeat.settle(PublishResult(position, duplicate=True))
        return went_to

    def fail(self, error: HubError) -> None:
        """Settle all tickets with `error`: the commit is not written, or may not be."""
        self.release()
        for _, numbered in self._order:
            for ticket in (numbered.ticket, *numbered.repeats):
                ticket.settle(error)

    def release(self) -> None:
        """Allow the memory broker to forget its channels again."""
        for log in self._numbered:
            log.pinned = False
            self._memory.place(log)


def _scope(request: PublishRequest) -> tuple[str, str, str]:
    return request.publisher, request.channel, request.idempotency_key or ""
