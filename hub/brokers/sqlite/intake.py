"""Publications that wait to be written, and the channels that the file knows.

Waiting publications are bounded in number and bytes; each has a ticket that tells its publisher the
outcome. No I/O, no clock.
"""

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import islice

from hub.brokers.memory_history import ChannelLog
from hub.core.eager import NEXT_TURN
from hub.core.options import MIB
from hub.core.ports import PublishRequest, PublishResult
from hub.errors import HubError, NotPublishedError

# Bounds beside the commit under way: seconds of the fastest intake.
MAX_WAITING_BYTES = 32 * MIB
MAX_WAITING = 100_000
# Publications that are refused in one turn of the loop: some 5 us each, with the answer (a guess).
REFUSED_AT_ONCE = 500

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
        """Bytes of data and tags that wait."""
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
        self.bytes += request.size_bytes

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
        self.bytes -= self._tickets.popleft().request.size_bytes

    def all(self) -> Iterable[WaitingPublication]:
        """Return all tickets, which wait no more: none of them will be written."""
        tickets, self._tickets, self.bytes = self._tickets, deque(), 0
        return tickets


async def refuse(tickets: Iterable[WaitingPublication], error: HubError) -> None:
    """Settle all tickets with `error`, in turns."""
    left = deque(tickets)
    try:
        while left:
            for _ in range(min(REFUSED_AT_ONCE, len(left))):
                left.popleft().settle(error)
            if left:
                await NEXT_TURN
    finally:
        # The node may be stopping. Each caller gets its answer all the same.
        for ticket in left:
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

    def forget(self, through: int) -> None:
        """Note that the file has nothing up to this offset."""
        self.oldest = max(self.oldest, through + 1)
        self.log.stored = self.oldest <= self.log.offset


class StoredLogs:
    """All channels that the file knows, by id.

    A channel that is forgotten and comes again gets another id, so that its old blocks are not
    taken for its new ones.
    """

    def __init__(self, next_id: int) -> None:
        self._next_id = next_id
        self._by_id: dict[int, StoredLog] = {}
        self._by_log: dict[ChannelLog, StoredLog] = {}
        self._gone_rows: dict[tuple[int, str], None] = {}
        """Channels and keys of rows that memory has dropped, and the file may have."""

    def add(self, log: ChannelLog, *, id_: int | None = None, oldest: int = 1) -> StoredLog:
        if id_ is None:
            id_, self._next_id = self._next_id, self._next_id + 1
        stored = self._by_id[id_] = self._by_log[log] = StoredLog(id_, log, oldest)
        log.stored = oldest <= log.offset
        if log.rows is not None:
            log.rows.on_gone = partial(self._row_gone, id_)
        return stored

    def find(self, log: ChannelLog) -> StoredLog | None:
        return self._by_log.get(log)

    def by_id(self, id_: int) -> StoredLog | None:
        return self._by_id.get(id_)

    def forget(self, log: ChannelLog) -> StoredLog | None:
        if (stored := self._by_log.pop(log, None)) is not None:
            del self._by_id[stored.id]
        return stored

    def _row_gone(self, id_: int, key: str) -> None:
        self._gone_rows[id_, key] = None

    @property
    def has_gone_rows(self) -> bool:
        return bool(self._gone_rows)

    def gone_rows(self, most: int) -> Sequence[tuple[int, str]]:
        """Return some rows that are to be deleted from the file; `deleted_rows` follows.

        To be called while no commit is under way: a row that is in memory is in the file then.
        """
        found: list[tuple[int, str]] = []
        if not self._gone_rows:
            # An iterator would pass over all places of rows that were here before.
            return found
        for id_, key in tuple(islice(self._gone_rows, most)):
            stored = self._by_id.get(id_)
            if stored is None or stored.log.rows is None or stored.log.rows.has(key):
                del self._gone_rows[id_, key]
            else:
                found.append((id_, key))
        return found

    def deleted_rows(self, rows: Iterable[tuple[int, str]]) -> None:
        """Note that these rows are deleted: the commit is written."""
        for row in rows:
            self._gone_rows.pop(row, None)
