"""The library's functions as Python calls: Redis' answers to values of the core."""

from collections.abc import Sequence

from hub.brokers.redis.commands import Commands
from hub.brokers.redis.failures import CallError
from hub.brokers.redis.messages import Message, decode
from hub.brokers.redis.options import RedisOptions
from hub.brokers.redis.tracking import Page
from hub.core.options import Namespaces
from hub.core.publication import Position


class Reading:
    """Asks for heads and pages. Raises `CallError`."""

    def __init__(
        self,
        *,
        commands: Commands,
        namespaces: Namespaces,
        options: RedisOptions,
        line_keys: Sequence[str],
    ) -> None:
        self._commands = commands
        self._namespaces = namespaces
        self._options = options
        self._line_keys = line_keys

    def settings(self, channel: str) -> str:
        return self._options.settings(self._namespaces.options(channel))

    def _names(self, channel: str) -> tuple[str, ...]:
        keys = self._options.keys
        return (keys.meta(channel), keys.log(channel), *self._line_keys)

    async def head(self, channel: str, seen: Position) -> Position:
        """The newest offset given out; the channel's life is renewed.

        `seen` is where this node stands, so that a Redis that knows less, or was left, begins a
        new epoch.
        """
        arguments = (self.settings(channel), seen.epoch, seen.offset)
        answer = await self._commands.run_function("open", self._names(channel), arguments)
        match answer:
            case [bytes() as epoch, int() as offset]:
                return Position(epoch.decode(), offset)
        raise CallError(f"not a head: {answer!r:.100}")

    async def page(
        self, channel: str, after: int, limit: int, max_bytes: int, *, seen: str | None = None
    ) -> Page:
        """What is held after `after`: at most `limit` messages of `max_bytes`, or one.

        A channel that nobody used gets an epoch only where this node listens to it: then `seen` is
        the epoch that it is in.
        """
        arguments: tuple[str | int, ...] = (self.settings(channel), after, limit, max_bytes)
        if seen is not None:
            arguments += ("1", seen)
        answer = await self._commands.run_function("page", self._names(channel), arguments)
        match answer:
            case [
                bytes() as epoch,
                int() as offset,
                int() as oldest,
                list() as entries,
                int() as complete,
            ]:
                head = Position(epoch.decode(), offset)
                messages = self._messages(channel, head.epoch, entries)
                return Page(head, oldest, messages, complete=complete == 1)
        raise CallError(f"not a page: {answer!r:.100}")

    def _messages(self, channel: str, epoch: str, entries: Sequence[bytes]) -> list[Message]:
        """Entries are flat: ID, message, ID, message; the ID tells the offset in any case."""
        limit = self._options.max_message_bytes
        messages: list[Message] = []
        for identifier, raw in zip(entries[::2], entries[1::2], strict=True):
            offset = int(identifier.partition(b"-")[0])
            message = decode(channel, raw, max_message_bytes=limit)
            if message is None or (message.epoch, message.offset) != (epoch, offset):
                message = Message(epoch, offset, None, len(raw))
            messages.append(message)
        return messages
