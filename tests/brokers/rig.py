"""A broker and the node below it, as far as the contract sees them."""

from collections.abc import Callable

from hub.core.ports import PAGE_BYTES, DirectoryBroker, HistoryPage, PublishRequest, PublishResult
from hub.core.publication import Position, Publication
from hub.core.pushes import Change, Gap, PresenceReset
from tests.core.fakes import FakeClock


class Rig:
    """Notes what the broker hands down; see `hub.core.ports.Downstream`."""

    broker: DirectoryBroker
    forget: Callable[[str], object]
    """Has the broker lose a channel, as a restart does: its epoch has ended."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.delivered: list[Publication] = []
        self.heads: list[Position] = []
        self.gaps: list[Gap] = []
        self.resets: list[tuple[str, Position]] = []
        self.announced: list[Change | PresenceReset] = []
        self.appearances: list[str] = []

    def deliver(self, publication: Publication) -> None:
        self.delivered.append(publication)

    def lost(self, gap: Gap) -> None:
        self.gaps.append(gap)

    def reset(self, channel: str, head: Position) -> None:
        self.resets.append((channel, head))

    def announce(self, channel: str, change: Change | PresenceReset) -> None:
        self.announced.append(change)

    def appeared(self, name: str) -> None:
        self.appearances.append(name)

    def missed(self) -> None:
        """A test of it uses a listener of its own."""

    async def subscribe(self, channel: str) -> Position:
        await self.broker.subscribe(channel, self.heads.append)
        return self.heads[-1]

    async def publish(
        self,
        channel: str = "a",
        data: bytes = b"1",
        *,
        publisher: str = "backend",
        key: str | None = None,
        idempotency_key: str | None = None,
        marks: int = 0,
        tags: bytes | None = None,
        keep_ms: int | None = None,
    ) -> PublishResult:
        return await self.broker.publish(
            PublishRequest(
                channel,
                data,
                publisher,
                key=key,
                idempotency_key=idempotency_key,
                marks=marks,
                tags=tags,
                keep_ms=keep_ms,
            )
        )

    async def rows(self, channel: str, *, limit: int = 100) -> dict[str, tuple[int, bytes]]:
        """Offset and data by key, read page by page as of the first one's position."""
        found: dict[str, tuple[int, bytes]] = {}
        after, upto = "", None
        while True:
            page = await self.broker.state(channel, after, limit, upto=upto)
            assert len(page.rows) <= limit
            found |= {str(row.key): (row.offset, row.data) for row in page.rows}
            upto = page.head.offset if upto is None else upto
            if page.next is None:
                assert list(found) == sorted(found)
                return found
            assert page.next > after
            after = page.next

    async def history(
        self,
        channel: str = "a",
        after: int = 0,
        limit: int = 100,
        *,
        max_bytes: int = PAGE_BYTES,
    ) -> HistoryPage:
        return await self.broker.history(channel, after, limit, max_bytes=max_bytes)

    async def offsets(self, channel: str = "a", after: int = 0, limit: int = 100) -> list[int]:
        page = await self.history(channel, after, limit)
        return [publication.offset for publication in page.publications]
