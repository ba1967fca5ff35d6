"""What operators ask of one node and do to it, by name, so that any node can pass it on.

The HTTP API and other nodes call `carry_out`; it answers with plain values. Who may is
decided by the node that the operator asked.
"""

import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass

from hub.admin.drain import Drainer
from hub.core.answers import Explanation, Question
from hub.core.closed import ClosedSession
from hub.core.engine import Engine
from hub.core.explaining import Explainer
from hub.core.journal import Journal
from hub.core.peers import Arguments, Told
from hub.core.ports import Broker
from hub.core.publication import Position
from hub.core.subscribing import Subscribing
from hub.errors import BadRequestError, HubError, NotFoundError

Operation = Callable[[Arguments], Awaitable[Told]]

MAX_CLOSED = 1000
MAX_WINDOW_SECONDS = 3600.0


@dataclass(frozen=True, slots=True)
class Windows:
    """How long what ends sessions takes where the operator does not say."""

    drain_seconds: float
    ready_delay_seconds: float


class Operations:
    """One per node; owned by the event loop."""

    def __init__(
        self,
        *,
        engine: Engine,
        journal: Journal,
        subscribing: Subscribing,
        broker: Broker,
        drainer: Drainer,
        windows: Windows,
    ) -> None:
        self._engine = engine
        self._journal = journal
        self._subscribing = subscribing
        self._broker = broker
        self._drainer = drainer
        self._windows = windows
        self._by_name: dict[str, Operation] = {
            "explain": self._explain,
            "closed": self._closed,
            "unsubscribe": self._unsubscribe,
            "drain": self._drain,
            "undrain": self._undrain,
            "shed": self._shed,
        }

    def also(self, name: str, operation: Operation) -> None:
        """Know one more operation, which another part of the node carries out."""
        self._by_name[name] = operation

    async def carry_out(self, name: str, arguments: Arguments) -> Told:
        """Do it, or raise the `HubError` that says why not."""
        if (operation := self._by_name.get(name)) is None:
            raise BadRequestError(f"this node does not know the operation {name[:40]!r}")
        return await operation(arguments)

    # -- asking ------------------------------------------------------------------------------

    async def _explain(self, arguments: Arguments) -> Told:
        """Why a connection did not get a publication; see `hub.core.explaining`."""
        connection, channel = _text(arguments, "connection"), _text(arguments, "channel")
        offset = _whole(arguments, "offset", least=1)
        newest = await self._newest(channel, offset)
        epoch = str(arguments.get("epoch") or newest.epoch)
        current = epoch == newest.epoch
        head = newest.offset if current else offset
        session = self._engine.sessions.get(connection)
        closed = None if session is not None else self._journal.closed.get(connection)
        question = Question(channel, epoch, offset, head, current)
        explained = Explainer(question, self._journal, session=session, closed=closed).explain()
        known = {"head": head} if current else {}
        return {"epoch": epoch, **known, **self._explained(explained)}

    async def _newest(self, channel: str, offset: int) -> Position:
        """The channel's head; where the broker is away, the one seen here, if it came so far."""
        try:
            return (await self._broker.history(channel, offset - 1, 1)).head
        except HubError:
            here = self._subscribing.channels.get(channel)
            if here is None or offset > here.offset:
                raise
            return here.head

    def _explained(self, explained: Explanation) -> Told:
        at, until = explained.at_seconds, explained.until_seconds
        return {
            "answer": explained.answer.value,
            "detail": explained.detail,
            "from_ms": None if at is None else self._wall_ms(at),
            "to_ms": None if until is None else self._wall_ms(until),
            "by": explained.by,
        }

    def _wall_ms(self, at_seconds: float) -> int:
        return int((time.time() - self._engine.clock() + at_seconds) * 1000)

    async def _closed(self, arguments: Arguments) -> Told:
        limit = _whole(arguments, "limit", least=1, most=MAX_CLOSED)
        subject = arguments.get("subject")
        wanted = None if subject is None else str(subject)
        return {"closed": [_ended(gone) for gone in self._journal.recently_closed(limit, wanted)]}

    # -- acting ------------------------------------------------------------------------------

    async def _unsubscribe(self, arguments: Arguments) -> Told:
        """Take a session out of a channel; the session is told."""
        connection, channel = _text(arguments, "connection"), _text(arguments, "channel")
        if (session := self._engine.sessions.get(connection)) is None:
            raise NotFoundError(f"connection {connection[:80]!r} is not open")
        if channel not in session.subscriptions:
            raise NotFoundError(f"connection {connection!r} is not subscribed to {channel[:200]!r}")
        self._subscribing.expel(session, channel, "unsubscribed by operator")
        return {}

    async def _drain(self, arguments: Arguments) -> Told:
        """Close all sessions and take no more until `undrain`; the process stays."""
        sessions = len(self._engine.sessions)
        window = self._window(arguments)
        self._drainer.begin_drain(
            ready_delay_seconds=self._windows.ready_delay_seconds, window_seconds=window
        )
        return {"closing": sessions, "window_seconds": window}

    async def _undrain(self, _arguments: Arguments) -> Told:
        await self._drainer.undo()
        return {"connections": len(self._engine.sessions)}

    async def _shed(self, arguments: Arguments) -> Told:
        """Ask some sessions to connect again."""
        count, window = _whole(arguments, "count", least=0), self._window(arguments)
        if count:
            self._drainer.begin_shedding(count, window_seconds=window)
        return {"closing": min(count, len(self._engine.sessions)), "window_seconds": window}

    def _window(self, arguments: Arguments) -> float:
        value = arguments.get("window_seconds")
        if value is None:
            return self._windows.drain_seconds
        # Python's `True` is a whole number too.
        number = value if isinstance(value, int | float) and value is not True else -1
        if not 0 <= number <= MAX_WINDOW_SECONDS:
            raise BadRequestError(f"window_seconds is not 0 to {MAX_WINDOW_SECONDS:g}")
        return float(number)


def _ended(gone: ClosedSession) -> Told:
    record = asdict(gone.record)
    del record["subscriptions"]
    return {**record, "closed_ms": gone.closed_ms, "code": int(gone.code), "reason": gone.reason}


def _text(arguments: Arguments, name: str) -> str:
    value = arguments.get(name)
    if not isinstance(value, str) or not value:
        raise BadRequestError(f"{name} is missing")
    return value


def _whole(arguments: Arguments, name: str, *, least: int, most: int = 2**53) -> int:
    value = arguments.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise BadRequestError(f"{name} is not a whole number of {least} to {most:,}")
    return value
