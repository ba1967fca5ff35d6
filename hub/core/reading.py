"""What is read of a channel without subscribing to it: history, a look back, rows of state.

For sessions, the HTTP API and the application in this process alike. Whether a reader may is
asked before.
"""

from hub.core.look_back import Found, LookBack, look_back
from hub.core.options import MIB, Namespaces
from hub.core.ports import Broker, HistoryPage, StatePage
from hub.core.publication import Position
from hub.errors import BadRequestError

MAX_HISTORY_LIMIT = 1000
# A history answer is one frame and leaves nothing else through while it is written.
MAX_HISTORY_BYTES = MIB


class Reading:
    """One per node; keeps nothing."""

    def __init__(self, broker: Broker, namespaces: Namespaces) -> None:
        self._broker = broker
        self._namespaces = namespaces

    async def history(self, channel: str, since: Position | None, limit: int) -> HistoryPage:
        """At most `limit` publications (1 to 1,000) and 1 MiB after `since`, oldest first.

        Without `since`, or when it belongs to another epoch, from the oldest that is held.
        """
        _check_limit(limit)
        after = 0 if since is None else since.offset
        page = await self._broker.history(channel, after, limit, max_bytes=MAX_HISTORY_BYTES)
        if since is not None and since.epoch != page.head.epoch and after:
            page = await self._broker.history(channel, 0, limit, max_bytes=MAX_HISTORY_BYTES)
        return await self._lengthened(channel, page, limit)

    async def look_back(self, channel: str, asked: LookBack) -> Found:
        """At most `limit` publications (1 to 1,000), from a moment on or backwards."""
        _check_limit(asked.limit)
        return await look_back(self._broker, channel, asked)

    async def clear_history(self, channel: str) -> None:
        """Let go of what was published before; raise what the broker raises."""
        await self._broker.clear(channel)

    async def _lengthened(self, channel: str, page: HistoryPage, limit: int) -> HistoryPage:
        """`page` and what follows it: a broker gives as much as it likes at a time.

        It ends before a hole, so that the next request shows it.
        """
        found = list(page.publications)
        room = MAX_HISTORY_BYTES - sum(len(publication.data) for publication in found)
        last, head = page.last, page.head
        while 0 < last < head.offset and len(found) < limit and room > 0:
            more = await self._broker.history(channel, last, limit - len(found), max_bytes=room)
            if more.head.epoch != head.epoch or more.oldest > last + 1 or not more.publications:
                break
            head = more.head
            for publication in more.publications:
                room -= len(publication.data)
                if room >= 0:
                    found.append(publication)
                    last = publication.offset
        return HistoryPage(head, page.oldest, tuple(found))

    def check_keyed(self, channel: str) -> None:
        """Raise `BadRequestError` where the channel's namespace keeps no state."""
        self._namespaces.options(channel).check_keyed(channel)

    async def state(self, channel: str, after: str, limit: int) -> StatePage:
        """At most `limit` rows with keys above `after`, and 1 MiB, in the order of their keys.

        With what follows the head of its answer they are what is so at any later position.
        """
        self.check_keyed(channel)
        page = await self._broker.state(channel, after, limit, max_bytes=MAX_HISTORY_BYTES)
        head, rows = page.head, list(page.rows)
        room = MAX_HISTORY_BYTES - sum(len(row.data) for row in rows)
        while page.next is not None and len(rows) < limit and room > 0:
            more = await self._broker.state(
                channel, page.next, limit - len(rows), upto=head.offset, max_bytes=room
            )
            if more.head.epoch != head.epoch:
                break
            page = more
            rows += page.rows
            room -= sum(len(row.data) for row in page.rows)
        return StatePage(head, tuple(rows), page.next, page.dropped)


def _check_limit(limit: int) -> None:
    if not 1 <= limit <= MAX_HISTORY_LIMIT:
        raise BadRequestError(f"limit is {limit}, allowed is 1 to {MAX_HISTORY_LIMIT}")


def history_ok(channel: str, page: HistoryPage) -> dict[str, object]:
    """A history answer as the wire shows it."""
    return {
        "channel": channel,
        "position": str(page.head),
        "oldest": page.oldest,
        "publications": page.publications,
    }


def look_back_ok(channel: str, found: Found) -> dict[str, object]:
    """The same of a look back: with whether all is there, and how to go on."""
    following = None if found.next is None else str(found.next)
    return {**history_ok(channel, found.page), "complete": found.complete, "next": following}
