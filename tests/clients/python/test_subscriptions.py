"""Subscriptions and commands of one client share a connection and do not harm each other."""

import asyncio

import pytest

from hub_client import (
    AlreadySubscribedError,
    ClientOptions,
    ClosedError,
    CommandError,
    ConnectionLostError,
    FeedLimits,
    HubClient,
    Message,
    Position,
    Subscription,
)
from tests.clients.python.fakes import (
    DEADLINE_SECONDS,
    ONLY_WEBSOCKET,
    QUICK,
    Peer,
    message,
    started,
    stay,
    take,
    websocket_hub,
    welcome,
)
from tests.clients.python.fakes import (
    websocket_client as client,
)


async def test_a_refused_subscription_fails_alone_and_the_others_live_on() -> None:
    """An error reply to one subscribe is raised by that iteration only."""

    async def script(peer: Peer) -> None:
        await peer.push(welcome())
        for _ in range(2):
            command = await peer.command()
            if command["channel"] == "secret":
                error = {"code": "forbidden", "message": "no grant", "retryable": False}
                await peer.push({"op": "reply", "id": command["id"], "error": error})
            else:
                await peer.push(started(command, "e1:0"), message("open", 1))
        await peer.socket.wait_closed()

    async with websocket_hub(script) as fake, client(fake.url) as hub:
        allowed, refused = hub.subscribe("open"), hub.subscribe("secret")
        with pytest.raises(CommandError, match="no grant") as raised:
            await take(refused, 1)
        assert len(await take(allowed, 1)) == 1
    assert raised.value.code == "forbidden"


async def test_a_slow_application_stops_the_reading_and_loses_nothing() -> None:
    """With room for 5 items no more than those and what is in flight are read ahead."""

    async def script(peer: Peer) -> None:
        await peer.push(welcome())
        await peer.start("e1:0")
        await peer.push(*(message("a", offset) for offset in range(1, 201)))
        await peer.socket.wait_closed()

    limits = FeedLimits(max_items=5)
    async with websocket_hub(script) as fake, client(fake.url, feed=limits) as hub:
        subscription = hub.subscribe("a")
        waiting = 0
        seen: list[int | None] = []
        for _ in range(200):
            (item,) = await take(subscription, 1)
            seen.append(item.offset)
            await asyncio.sleep(0)
            waiting = max(waiting, subscription.statistics().waiting)
    assert seen == list(range(1, 201))
    assert waiting <= 5


async def test_a_command_inside_a_loop_with_a_full_queue_does_not_wait_for_itself() -> None:
    """While a reply is awaited, reading goes on past the limit."""

    async def script(peer: Peer) -> None:
        await peer.push(welcome())
        await peer.start("e1:0")
        await peer.push(*(message("a", offset) for offset in range(1, 11)))
        ping = await peer.command("ping")
        await peer.push({"op": "reply", "id": ping["id"], "ok": {}})
        await peer.socket.wait_closed()

    limits = FeedLimits(max_items=2)
    async with websocket_hub(script) as fake, client(fake.url, feed=limits) as hub:
        subscription = hub.subscribe("a")
        await take(subscription, 1)
        assert await hub.ping() >= 0
        assert len(await take(subscription, 9)) == 9


async def test_cancelling_the_wait_for_a_message_loses_nothing() -> None:
    """A time-out around `anext` leaves the iteration as it was."""
    go = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.push(welcome())
        await peer.start("e1:0")
        await go.wait()
        await peer.push(message("a", 1))
        await peer.socket.wait_closed()

    async with websocket_hub(script) as fake, client(fake.url) as hub:
        subscription = hub.subscribe("a")
        waiting = asyncio.create_task(take(subscription, 1))
        await subscription.wait_started()
        waiting.cancel()
        await asyncio.wait([waiting])
        go.set()
        (item,) = await take(subscription, 1)
    assert item.offset == 1


async def test_leaving_the_loop_unsubscribes_and_the_channel_can_be_subscribed_again() -> None:
    """`break` is all it takes; nobody has to close anything."""

    async def script(peer: Peer) -> None:
        await peer.push(welcome())
        await peer.start("e1:0")
        await peer.push(message("a", 1))
        await peer.command("unsubscribe")
        # Still under way when the hub read the unsubscribe: not for the next subscription.
        await peer.push(message("a", 2))
        await peer.start("e1:2")
        await peer.push(message("a", 3))
        await peer.socket.wait_closed()

    async with websocket_hub(script) as fake, client(fake.url) as hub:
        async for item in hub.subscribe("a"):
            assert item.offset == 1
            break
        (later,) = await take(hub.subscribe("a"), 1)
    assert later.offset == 3


async def test_a_second_subscription_to_the_same_channel_is_refused_by_the_client() -> None:
    """One connection holds a channel once."""
    async with websocket_hub(stay) as fake, client(fake.url) as hub:
        kept = hub.subscribe("a")
        with pytest.raises(AlreadySubscribedError, match="'a'"):
            hub.subscribe("a")
        kept.close()


async def test_history_presence_and_publish_answer_with_typed_values() -> None:
    """Each command's `ok` becomes a frozen value."""

    async def script(peer: Peer) -> None:
        await peer.push(welcome())
        command = await peer.command("history")
        assert (command["since"], command["limit"]) == ("e1:3", 2)
        publications = [{"offset": 4, "data": [1], "time": 9, "from": "ann"}]
        ok: dict[str, object] = {"channel": "a", "position": "e1:4", "oldest": 2}
        await reply(peer, command, {**ok, "publications": publications})
        member = {"id": "ann", "connection": "c9", "sub": "ann"}
        page: dict[str, object] = {"channel": "a", "members": [member], "next": "ann"}
        await reply(peer, await peer.command("presence"), page)
        command = await peer.command("presence")
        assert command["after"] == "ann"
        last = {"id": "bob", "connection": "c8"}
        await reply(peer, command, {"channel": "a", "members": [last]})
        command = await peer.command("publish")
        assert (command["data"], command["echo"]) == (None, False)
        await reply(peer, command, {"channel": "a", "epoch": "e1", "offset": 5})
        await peer.socket.wait_closed()

    async with websocket_hub(script) as fake, client(fake.url) as hub:
        page = await hub.history("a", since="e1:3", limit=2)
        members = await hub.presence("a")
        published = await hub.publish("a", None, echo=False)
    assert (page.position, page.oldest) == (Position("e1", 4), 2)
    assert [(item.data, item.sender, item.time_ms) for item in page.messages] == [([1], "ann", 9)]
    assert [(member.id, member.subject) for member in members] == [("ann", "ann"), ("bob", None)]
    assert published.position == Position("e1", 5)


async def test_a_command_under_way_when_the_connection_ends_says_its_outcome_is_unknown() -> None:
    """Nothing is retried behind the application's back."""

    async def script(peer: Peer) -> None:
        await peer.push(welcome())
        await peer.command("publish")
        await peer.socket.close(1012)

    async with websocket_hub(script) as fake, client(fake.url) as hub:
        with pytest.raises(ConnectionLostError):
            await hub.publish("a", 1)


async def test_a_client_that_was_not_entered_says_so() -> None:
    """The mistake has a message instead of a wait for ever."""
    hub = HubClient("http://127.0.0.1:1")
    with pytest.raises(ClosedError, match="async with"):
        hub.subscribe("a")


async def test_iterations_end_quietly_when_the_client_is_closed() -> None:
    """Leaving `async with` ends loops in other tasks without an error."""
    async with websocket_hub(stay) as fake:
        async with client(fake.url) as hub:
            subscription = hub.subscribe("a")
            job = asyncio.create_task(collect(subscription))
            await hub.wait_connected()
        async with asyncio.timeout(DEADLINE_SECONDS):
            assert await job == []


async def collect(subscription: "Subscription[Message]") -> list[Message]:
    return [item async for item in subscription]


async def reply(peer: Peer, command: dict[str, object], ok: dict[str, object]) -> None:
    await peer.push({"op": "reply", "id": command["id"], "ok": ok})


async def test_a_token_function_that_is_cancelled_costs_the_connection_and_not_the_client() -> None:
    """The cancellation inside the token function does not close the client."""
    asked = 0

    async def token() -> str:
        nonlocal asked
        asked += 1
        if asked == 2:
            raise asyncio.CancelledError
        return "t0k"

    async def first(peer: Peer) -> None:
        await peer.push(welcome())
        await peer.start("e1:0")
        await peer.push({"op": "expiring", "in_seconds": 30})
        await peer.socket.wait_closed()

    async def second(peer: Peer) -> None:
        await peer.push(welcome())
        await peer.start("e1:0")
        await peer.push(message("a", 1))
        await peer.socket.wait_closed()

    options = ClientOptions(timing=QUICK)
    async with (
        websocket_hub(first, second) as fake,
        HubClient(fake.url, token=token, transports=ONLY_WEBSOCKET, options=options) as hub,
    ):
        (item,) = await take(hub.subscribe("a"), 1)
    assert item.offset == 1
