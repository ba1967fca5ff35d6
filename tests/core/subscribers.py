"""One subscriber of a small node, for tests that follow a story step by step."""

from hub.core.commands import Ping, Subscribe, Unsubscribe
from hub.core.identity import Identity
from hub.core.ports import Dialect
from hub.core.publication import Position
from tests.core.small_node import ANYTHING, TEXT, SmallNode
from tests.core.streams import Read, read_lines
from tests.support.stream import Push


class Subscriber:
    """Connected and subscribed; `read` gives what came since the last call."""

    def __init__(
        self,
        node: SmallNode,
        *channels: str,
        identity: Identity = ANYTHING,
        dialect: Dialect = TEXT,
        read: Read = read_lines,
        transport: str = "websocket",
        plain: bool = True,
    ) -> None:
        self.node = node
        self.session, self.link = node.open(
            identity=identity, dialect=dialect, transport=transport, plain=plain
        )
        self._read = read
        self._seen = 0
        self._ids = 0
        for channel in channels:
            self.subscribe(channel)
        self.read()

    def read(self) -> list[Push]:
        rest = bytearray(self.link.received[self._seen :])
        self._seen = len(self.link.received)
        pushes = self._read(rest)
        self._seen -= len(rest)
        return pushes

    def block(self) -> None:
        """The peer takes nothing more."""
        self.link.room = 0

    def drain(self) -> list[Push]:
        """The peer takes everything again; returns the pushes that came."""
        for _ in range(3):
            self.link.drain()
            self.node.loop.settle()
        return self.read()

    def publish(self, channel: str, count: int, key: str | None = None) -> None:
        """Publishes as a backend does; each call is one batch."""
        for _ in range(count):
            self.node.publish(channel, b"1", key)
        self.node.loop.settle()

    def next_id(self) -> int:
        self._ids += 1
        return self._ids

    def subscribe(
        self,
        channel: str,
        *,
        since: Position | None = None,
        last: int | None = None,
        fill: bool = False,
    ) -> None:
        self.node.do(self.session, Subscribe(self.next_id(), channel, since, last, fill))

    def unsubscribe(self, channel: str) -> None:
        self.node.do(self.session, Unsubscribe(self.next_id(), channel))

    def ping(self) -> None:
        self.node.do(self.session, Ping(self.next_id()))
