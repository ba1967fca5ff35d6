"""A node lists and describes its connections, and closes or unsubscribes them for an operator."""

import asyncio
from typing import Any

import pytest

from hub.admin.connections import (
    ConnectionHandlers,
    Disconnect,
    GetConnection,
    ListClosed,
    ListConnections,
    UnsubscribeConnection,
    list_closed,
    list_connections,
)
from hub.admin.listing import Query
from hub.core.records import columns
from hub.errors import NotFoundError
from tests.admin.network import Network
from tests.core.small_node import SmallNode
from tests.core.subscribers import Subscriber


class Rig:
    """A node with connections of its own."""

    def __init__(self) -> None:
        self.node = SmallNode()
        made = ConnectionHandlers(self.node.registry, self.node.membership, self.node.journal)
        self.handlers = made.handlers()

    async def ask(self, request: Any) -> Any:
        return await self.handlers[type(request)](request)


@pytest.fixture
def rig() -> Rig:
    return Rig()


async def test_a_connection_is_told_with_its_subscriptions(rig: Rig) -> None:
    reader = Subscriber(rig.node, "a")
    reader.publish("a", 2)
    told = await rig.ask(GetConnection(reader.session.id))
    assert (told.connection, told.node, told.sent) == (reader.session.id, "node-1", 2)
    [subscription] = told.subscriptions
    assert (subscription.channel, subscription.position.offset) == ("a", 2)
    assert (subscription.state, subscription.outbox_messages) == ("live", 0)


async def test_a_connection_that_is_taken_out_of_a_channel_is_told(rig: Rig) -> None:
    """The connection stays open; a connection that is not subscribed to the channel is
    answered with not found."""
    reader = Subscriber(rig.node, "a")
    await rig.ask(UnsubscribeConnection(reader.session.id, "a"))
    rig.node.loop.settle()
    assert not reader.session.subscriptions
    assert b"unsubscribed by operator" in bytes(reader.link.received)
    with pytest.raises(NotFoundError, match="is not subscribed to 'a'"):
        await rig.ask(UnsubscribeConnection(reader.session.id, "a"))


async def test_a_connection_is_closed_with_the_operators_code(rig: Rig) -> None:
    reader = Subscriber(rig.node, "a")
    await rig.ask(Disconnect(reader.session.id, 4403, "out"))
    assert reader.link.closed == (4403, "out")


@pytest.mark.parametrize(
    "request_",
    [GetConnection("none"), Disconnect("none", 4403, ""), UnsubscribeConnection("none", "a")],
    ids=lambda request: str(request.tag()),
)
async def test_a_connection_that_is_not_open_is_not_found(rig: Rig, request_: Any) -> None:
    with pytest.raises(NotFoundError, match="connection 'none' is not open"):
        await rig.ask(request_)


async def test_a_list_of_many_connections_lets_others_run_in_between(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A list is made in slices, and two lists are made one after the other, so that many
    operators cannot hold the loop."""
    monkeypatch.setattr("hub.admin.connections._SLICE_SESSIONS", 10)
    for _ in range(55):
        rig.node.open()
    query = Query(sort="connection", limit=5)
    both = [asyncio.create_task(rig.ask(ListConnections(query))) for _ in range(2)]
    turns = 0
    while not all(task.done() for task in both):
        turns += 1
        await asyncio.sleep(0)
    assert turns >= 2 * 6
    for task in both:
        part = task.result()
        assert (len(part.rows), part.total, part.more) == (5, 55, True)


async def test_connections_of_all_nodes_make_one_page() -> None:
    """Ended connections make one page too, and a node that is missing is named."""
    network = Network()
    rigs = {tag: Rig() for tag in ("one", "two")}
    rpcs = [await network.join(tag, rig.handlers) for tag, rig in rigs.items()]
    for rig in rigs.values():
        rig.node.open()
        session, _ = rig.node.open()
        session.lost(1006, "gone")
        rig.node.clock.advance(1)
    page = await list_connections(rpcs[0], Query(sort="connection"))
    assert (page.total, page.more, page.complete) == (2, False, True)
    ended = await list_closed(rpcs[0], limit=5)
    assert [(row["code"], row["reason"]) for row in ended.records] == [(1006, "gone")] * 2
    assert "subscriptions" not in ended.records[0]
    network.silent.add("two")
    assert (await list_closed(rpcs[0], limit=5)).unanswered == ("two",)
    of_one = await list_connections(rpcs[0], Query(sort="connection"), "one")
    assert (of_one.total, of_one.complete) == (1, True)
    network.away = True
    assert not (await list_connections(rpcs[0], Query(sort="connection"))).complete
    own = await list_closed(rpcs[0], limit=5)
    assert (len(own.records), own.complete) == (1, False)


async def test_ended_connections_are_told_the_newest_first(rig: Rig) -> None:
    for number in range(3):
        session, _ = rig.node.open()
        session.lost(1006, f"visit {number}")
        rig.node.clock.advance(1)
    query = Query(sort="closed_ms", descending=True, limit=2)
    part = await rig.ask(ListClosed(query))
    assert [row.record["reason"] for row in part.rows] == ["visit 2", "visit 1"]
    assert (part.total, part.more) == (3, True)


def test_every_column_says_how_it_is_read() -> None:
    """A field without that would be missing from records in silence."""
    from hub.core.records import ChannelRecord, SessionRecord

    for record in (SessionRecord, ChannelRecord):
        assert all(callable(column.read) for column in columns(record).values())
