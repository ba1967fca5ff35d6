"""A peer is let in or refused over any transport, and its session begins in one write."""

import asyncio
import tracemalloc
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import cast

import jwt
import orjson
import pytest

import hub
from hub.auth.policy import Policy
from hub.core.options import Namespaces
from hub.core.session.session import Session
from hub.errors import (
    HubError,
    UnavailableError,
    UpgradeRequiredError,
)
from hub.transports.admission import UrlRules
from hub.transports.opening import Dialects, Judged, Openings
from hub.transports.request import Verdict
from hub.transports.turns import Turns
from hub.transports.websocket import WebSocketConnection
from hub.transports.websocket_options import WebSocketOptions
from hub.wire.sse import SeveralSseDialect, SseDialect
from hub.wire.websocket import TextDialect, WebSocketDialect
from tests.core.fakes import FakeLink
from tests.core.small_node import SmallNode
from tests.core.streams import read_lines
from tests.transports.wired import NotingTransport, ping

KEY = "k" * 32
UPGRADE = {
    "host": "localhost",
    "upgrade": "websocket",
    "connection": "Upgrade",
    "sec-websocket-version": "13",
    "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==",
}


@dataclass
class Head:
    query: bytes = b"channel=news"
    headers: dict[str, str] = field(default_factory=lambda: dict(UPGRADE))
    has_waited: bool = False
    verdict: Verdict | None = None
    judged: Judged | None = None


class Door:
    """Openings over the core on fakes, and a peer's transport."""

    def __init__(self, *, keys: Sequence[str] = (), origins: Sequence[str] = ()) -> None:
        self.node = SmallNode()
        several = SeveralSseDialect()
        self.refusals: list[tuple[str, str]] = []
        self.openings = Openings(
            registry=self.node.registry,
            policy=Policy(token_keys=keys, origins=origins, clock=self.node.clock.wall),
            dialects=Dialects(
                lru_cache(lambda bits: WebSocketDialect(window_bits=bits)),
                TextDialect(),
                SseDialect(several),
                several,
            ),
            websocket=WebSocketOptions(
                registry=self.node.registry,
                heartbeats=self.node.heartbeats,
                deadlines=self.node.deadlines,
                turns=Turns(self.node.clock),
                max_message_bytes=65536,
                message_timeout_seconds=30,
            ),
            max_subscriptions=3,
            rules=UrlRules(Namespaces(), max_patterns=2),
            deflate=True,
            on_refused=lambda error, _, address: self.refusals.append((error.code, address)),
        )
        self.transport = NotingTransport()

    def websocket(self, head: Head | None = None, rest: bytes = b"") -> Session:
        transport = cast("asyncio.Transport", self.transport)
        connection = self.openings.websocket(
            head or Head(), transport, address="192.0.2.7", rest=rest
        )
        assert isinstance(connection, WebSocketConnection)
        assert connection.session is not None
        return connection.session

    def farewell(self, head: Head) -> bytes:
        """Return the last bytes to a peer that is refused behind its handshake."""
        transport = cast("asyncio.Transport", self.transport)
        farewell = self.openings.websocket(head, transport, address="192.0.2.7")
        assert isinstance(farewell, bytes)
        assert self.transport.protocol is None
        assert not self.node.registry.sessions
        return farewell

    def sse(self, head: Head | None = None) -> Session:
        transport = cast("asyncio.Transport", self.transport)
        connection = self.openings.sse(
            head or Head(headers={"host": "localhost"}), transport, address="192.0.2.7"
        )
        assert connection.session is not None
        return connection.session

    def token(self, **claims: object) -> str:
        return jwt.encode({"sub": "ann", "hub": {"subscribe": ["*"]}} | claims, KEY, "HS256")

    def ops(self) -> list[str]:
        """Of the frames of a WebSocket behind the handshake."""
        return ops_of(b"".join(self.transport.writes))


def ops_of(answer: bytes) -> list[str]:
    """Return the operations of the frames behind a handshake's answer."""
    data = answer.partition(b"\r\n\r\n")[2]
    found = []
    while data:
        length, at = data[1], 2
        if length == 126:
            length, at = int.from_bytes(data[2:4]), 4
        if data[0] == 0x81:
            found.append(orjson.loads(data[at : at + length])["op"])
        data = data[at + length :]
    return found


async def test_a_websocket_with_a_subscription_begins_in_one_write() -> None:
    """Handshake, welcome, subscribed and the first page of history, without a task."""
    door = Door()
    door.node.publish("news")
    session = door.websocket(Head(b"channel=news&last=1"))
    assert len(door.transport.writes) == 1
    assert door.transport.writes[0].startswith(b"HTTP/1.1 101 ")
    assert door.ops() == ["welcome", "subscribed", "message"]
    assert not door.node.loop.tasks
    assert session.subscriptions["news"].live
    assert session.link.address == "192.0.2.7"
    assert door.transport.protocol is cast("object", session.link)


async def test_an_event_stream_with_a_subscription_begins_in_one_write() -> None:
    door = Door()
    session = door.sse()
    (written,) = door.transport.writes
    head, _, stream = written.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 ")
    assert stream.startswith(b"retry: 1000\nevent: welcome\n")
    assert b"event: subscribed\n" in stream
    assert not door.node.loop.tasks
    assert session.dialect.name == "sse"


async def test_commands_behind_the_handshake_are_worked_off() -> None:
    door = Door()
    door.websocket(rest=ping(1))
    assert door.ops() == ["welcome", "subscribed", "reply"]


@pytest.mark.parametrize("how", ["websocket", "sse", "websocket_over", "sse_over"])
@pytest.mark.parametrize("why", ["full", "draining"])
async def test_a_peer_that_is_refused_at_the_door_costs_nothing(how: str, why: str) -> None:
    """Nothing is written, and the transport is the caller's still."""
    door = Door()
    head = Head()
    if why == "full":
        registry = door.node.registry
        registry._options = replace(registry._options, max_connections=0)
    else:
        door.node.registry.draining = True
    way = door.transport if how in ("websocket", "sse") else FakeLink(door.node.loop.defer)
    arguments = {"address": ""} if how in ("websocket", "sse") else {}
    with pytest.raises(UnavailableError):
        getattr(door.openings, how)(head, way, **arguments)
    assert not door.node.registry.sessions
    assert door.transport.writes == []
    assert door.transport.protocol is None


async def test_a_request_that_is_no_handshake_is_refused_before_a_session() -> None:
    door = Door()
    with pytest.raises(UpgradeRequiredError):
        door.websocket(Head(headers={"host": "localhost"}))
    assert door.transport.protocol is None


@pytest.mark.parametrize(
    ("query", "code"),
    [
        (b"channel=a%20b", 4400),
        (b"channel=a&channel=b&channel=c&channel=d", 4400),
        (b"channel=news&token=x.y.z", 4401),
    ],
)
async def test_a_wrong_url_of_a_websocket_is_told_by_a_close_code_without_a_session(
    query: bytes, code: int
) -> None:
    """A browser cannot read the status of a refused handshake. It is counted and noted."""
    door = Door()
    farewell = door.farewell(Head(query))
    assert farewell.startswith(b"HTTP/1.1 101 ")
    assert ops_of(farewell) == ["goodbye"]
    assert b"\x88" in farewell
    assert code.to_bytes(2) in farewell
    counters = door.node.counters
    assert (counters.opened["websocket"], counters.closed[str(code)]) == (1, 1)
    assert [address for _, address in door.refusals] == ["192.0.2.7"]


async def test_a_wrong_url_of_an_event_stream_is_raised() -> None:
    door = Door()
    for query in (b"", b"channel=a%20b", b"channel=a&token=x.y.z"):
        with pytest.raises(HubError):
            door.sse(Head(query, {"host": "localhost"}))
    assert door.transport.protocol is None


@pytest.mark.parametrize("where", ["query", "header", "subprotocol", "both"])
async def test_a_token_may_come_in_three_ways(where: str) -> None:
    """In a header, in the URL, or as a subprotocol, which is the only one that a page's
    WebSocket can set and no log shows."""
    door = Door(keys=[KEY])
    token = door.token()
    head = Head()
    if where in ("query", "both"):
        head.query += b"&token=" + token.encode()
    if where in ("subprotocol", "both"):
        head.headers["sec-websocket-protocol"] = f"hub, bearer.{token}"
    if where == "header":
        head.headers["authorization"] = f"Bearer {token}"
    session = door.websocket(head)
    assert not session.closing
    assert session.identity.subject == "ann"
    answered = b"\r\nSec-WebSocket-Protocol: hub\r\n" in door.transport.writes[0]
    assert answered == (where in ("subprotocol", "both"))


async def test_two_different_tokens_are_refused() -> None:
    door = Door(keys=[KEY])
    head = Head(b"channel=news&token=" + door.token().encode())
    head.headers["sec-websocket-protocol"] = f"hub, bearer.{door.token(sub='bob')}"
    assert ops_of(door.farewell(head)) == ["goodbye"]


async def test_over_somebody_elses_server_the_same_is_said() -> None:
    """By the same rules; the server makes head and frames."""
    door = Door()
    link = FakeLink(door.node.loop.defer)
    door.openings.websocket_over(Head(), link)
    assert [push["op"] for push in read_lines(link.received)] == ["welcome", "subscribed"]
    link = FakeLink(door.node.loop.defer)
    door.openings.websocket_over(Head(b"channel=a%20b"), link)
    assert [push["op"] for push in read_lines(link.received)] == ["goodbye"]
    link = FakeLink(door.node.loop.defer, transport="sse")
    door.openings.sse_over(Head(), link)
    assert link.received.startswith(b"event: welcome\n")


# Measured: 880 and 970. Of these, 45 are room to spare in the slots of heartbeats, which have four
# sessions each here. 118 are for ways in which a session may differ from others: its
# group, place and count there (24), filter, state, pace, patterns, meter and what history does not
# hold (8 each), and a second table, in which a subscription stands until its channel's first batch
# (46, with room to spare).
@pytest.mark.parametrize(("way", "most"), [("websocket", 905), ("sse", 990)])
async def test_heap_bytes_of_an_idle_session_are_bounded(way: str, most: int) -> None:
    """Of the hub's own objects, with one subscription; a process' size tells little of it, because
    the first thousands fill what the start has left free."""
    door, count = Door(), 400
    for _ in range(100):
        door.transport = NotingTransport()
        getattr(door, way)()
    tracemalloc.start()
    before = tracemalloc.take_snapshot()
    for _ in range(count):
        door.transport = NotingTransport()
        getattr(door, way)()
        door.transport.writes.clear()
    after = tracemalloc.take_snapshot()
    tracemalloc.stop()
    ours = [tracemalloc.Filter(inclusive=True, filename_pattern=f"{Path(hub.__file__).parent}/*")]
    grown = after.filter_traces(ours).compare_to(before.filter_traces(ours), "filename")
    assert 500 < sum(each.size_diff for each in grown) / count < most
