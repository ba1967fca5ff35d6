"""The publications of one commit: numbered, and applied once the commit is on the disk.

Offsets are given out when a commit is put together, and only one commit is under way at a time. So
a commit that fails has given nothing out: its publications are as if they had never come. No I/O,
no clock.
"""

from collections.abc import Iterable, Iterator, Sequence

from hub.brokers.idempotency import IdempotencyKeys, lasting_content, scope_of
from hub.brokers.memory import MemoryBroker
from hub.brokers.memory_history import ChannelLog
from hub.brokers.sqlite.intake import StoredLogs, WaitingPublication
from hub.brokers.sqlite.layout import Block, Commit, Placed, cut, record
from hub.core.ports import PublishRequest, PublishResult
from hub.core.publication import REMOVES, Publication
from hub.errors import ConflictError, UnavailableError

# Bounds of one commit in publications; in channels and rows of state; and in idempotency keys. Its
# content is moved into the file's tables in one step, which other commits may have to wait for.
# When a commit is written, its publications and those of the next one are a step of the loop:
# 5 ms with 2,000 of each, and 19 to 36 ms with 10,000 (measured).
MAX_COMMIT = 2_000
MAX_COMMIT_CHANGES = 500
MAX_COMMIT_KEYS = 2000


class _Numbered:
    """A publication with its number."""

    __slots__ = ("publication", "repeats", "ticket")

    def __init__(self, ticket: WaitingPublication, publication: Publication) -> None:
        self.ticket = ticket
        self.publication = publication
        self.repeats: Sequence[WaitingPublication] = ()
        """Tickets under the same idempotency key, which came before this publication was
        written."""


class _Data:
    """The bytes of a commit, and its blocks."""

    def __init__(self, taken_ms: int) -> None:
        self.blocks: list[Block] = []
        self.parts: list[bytes] = []
        self._taken_ms = taken_ms
        self._at = 1

    def put(self, publication: Publication) -> tuple[int, int]:
        """Add a publication; return its place and length."""
        return self._add(record(publication))

    def _add(self, raw: bytes) -> tuple[int, int]:
        at, length = self._at, len(raw)
        self.parts.append(raw)
        self._at = at + length
        return at, length

    def put_blocks(self, id_: int, publications: Sequence[Publication], ttl_ms: int) -> None:
        """Add blocks of consecutive publications of one channel."""
        taken_ms = self._taken_ms
        expires_ms = taken_ms + ttl_ms
        if len(publications) == 1 and publications[0].keep_ms != 0:
            # As most, where publications come one by one.
            only = publications[0]
            offset, size, place = only.offset, only.size_bytes, self._add(record(only))
            self.blocks.append((id_, offset, offset, taken_ms, expires_ms, size, *place))
            return
        kept = [each for each in publications if each.keep_ms != 0]
        for block in cut(kept) if kept else ():
            place = self._add(b"".join(map(record, block)))
            first, last, size = block[0].offset, block[-1].offset, sum(p.size_bytes for p in block)
            self.blocks.append((id_, first, last, taken_ms, expires_ms, size, *place))


class CommitGroup:
    """Numbers the publications of one commit, and collects what it writes.

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
        self._gone_rows = stored.gone_rows(MAX_COMMIT_CHANGES)
        """Rows that expired or had no room, and that this commit deletes from the file."""
        self.bytes = 0
        """Bytes of data and tags."""
        self._changes = 0
        """How many channels and rows it changes."""

    def __len__(self) -> int:
        return len(self._order)

    @property
    def has_gone_rows(self) -> bool:
        return bool(self._gone_rows)

    @property
    def full(self) -> bool:
        """Whether it takes no more; bytes aside."""
        return (
            len(self._order) >= MAX_COMMIT
            or self._changes >= MAX_COMMIT_CHANGES
            or len(self._made) >= MAX_COMMIT_KEYS
        )

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
            self._changes += 1
        numbered = _Numbered(
            ticket,
            request.numbered(log.name, log.offset + len(taken) + 1, self._time_ms),
        )
        taken.append(numbered)
        if log.rows is not None:
            self._changes += 1
        self._order.append((log, numbered))
        self.bytes += request.size_bytes
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
        rows: list[Placed] = []
        # Rows of the file are deleted before those of the commit are written.
        removed = list(self._gone_rows)
        data = _Data(self._taken_ms)
        for log, taken in self._numbered.items():
            id_ = (self._stored.find(log) or self._stored.add(log)).id
            last = taken[-1].publication.offset
            channels.append((id_, log.name, log.epoch, last, self._taken_ms))
            if log.rows is not None:
                rows += [
                    (id_, row.key or "", row.offset, self._taken_ms, *data.put(row))
                    for row in self._changed_rows(id_, taken, removed)
                ]
            if log.keeps:
                # Publications that history would not keep anyway are not written.
                kept = [each.publication for each in taken[-log.options.history_size :]]
                data.put_blocks(id_, kept, int(log.options.history_ttl_seconds * 1000))
        return Commit(
            commits=commits,
            clock_ms=self._taken_ms,
            channels=channels,
            blocks=data.blocks,
            made=self._made,
            rows=rows,
            removed=removed,
            gone=gone,
            ended=tuple(ended),
            data=b"".join(data.parts),
        )

    @staticmethod
    def _changed_rows(
        id_: int, taken: Sequence[_Numbered], removed: list[tuple[int, str]]
    ) -> Iterator[Publication]:
        """Yield the rows that come or change; add those that go to `removed`."""
        for row in {each.publication.key: each.publication for each in taken}.values():
            if (key := row.key) is None:
                continue
            if row.marks & REMOVES:
                removed.append((id_, key))
            else:
                yield row

    def apply(self) -> None:
        """Deliver the publications and settle their tickets: the commit is written."""
        self._stored.deleted_rows(self._gone_rows)
        for log, taken in self._numbered.items():
            log.pinned = False
            if (stored := self._stored.find(log)) is None:
                continue
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

    def fail(self) -> Iterator[WaitingPublication]:
        """Return all tickets: the commit is not written, or may not be."""
        self.release()
        return (
            ticket for _, numbered in self._order for ticket in (numbered.ticket, *numbered.repeats)
        )

    def release(self) -> None:
        """Allow the memory broker to forget its channels again."""
        for log in self._numbered:
            log.pinned = False
            self._memory.place(log)


def _scope(request: PublishRequest) -> tuple[str, str, str]:
    return request.publisher, request.channel, request.idempotency_key or ""
