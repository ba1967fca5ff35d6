"""The client works against a real hub behind bad proxies, with slow loops, tokens and presence."""

import asyncio
import time
from collections.abc import Iterator

import jwt
import pytest

from hub_client import (
    ClientOptions,
    CommandError,
    ConnectionState,
    FeedLimits,
    Gap,
    HubClient,
    Message,
    NotConnectedError,
    Outgoing,
    Presence,
    Published,
    Publisher,
    ReconnectTiming,
    Subscription,
    UnauthorizedError,
)
from tests.support.hub_process import HubProcess
from tests.support.proxies.swallowing import SwallowingProxy
from tests.support.waiting import eventually

DEADLINE_SECONDS = 40.0
TIMING = ReconnectTiming(base_seconds=0.05, cap_seconds=0.3)
# A transport that says nothing is left after so long; one that works must be quicker.
IMPATIENT = ReconnectTiming(base_seconds=0.05, cap_seconds=0.3, open_timeout_seconds=4)
OPTIONS = ClientOptions(timing=TIMING)
TRANSPORTS = ["websocket", "sse", "poll"]
LEEWAY_SECONDS = 0.5
SIGNING = "a-signing-key-of-more-than-32-bytes!"


@pytest.fixture(scope="module")
def hub() -> Iterator[HubProcess]:
    with HubProcess(HUB_HISTORY_SIZE="500", HUB_PRESENCE="true") as process:
        yield process


def token(seconds: float, subject: str = "ann") -> str:
    claims = {"sub": subject, "exp": time.time() + seconds, "hub": {"subscribe": ["*"]}}
    return jwt.encode(claims, SIGNING, algorithm="HS256")


@pytest.mark.parametrize("swallows", ["to_hub", "to_browser"])
async def test_a_proxy_that_swallows_frames_is_noticed_and_left_for_sse(
    hub: HubProcess, swallows: str
) -> None:
    """The handshake works and nothing after it: a numbered stream still arrives complete."""
    states: list[ConnectionState] = []
    options = ClientOptions(timing=IMPATIENT, on_state=states.append)
    async with SwallowingProxy(hub.port, **{swallows: True}) as proxy:
        async with HubClient(proxy.url, options=options) as client, Publisher(hub.url) as publisher:
            subscription = client.subscribe(f"swallowed:{swallows}", gaps=True)
            await subscription.wait_started(timeout_seconds=DEADLINE_SECONDS)
            await publisher.publish_many(
                Outgoing.of(f"swallowed:{swallows}", number) for number in range(50)
            )
            async with asyncio.timeout(DEADLINE_SECONDS):
                items = [await anext(subscription) for _ in range(50)]
    assert [item.data for item in items if isinstance(item, Message)] == [*range(50)]
    # Where SSE takes long to open, polling comes after it.
    assert [state.transport for state in states if state.name == "connected"][-1] in {"sse", "poll"}


async def test_a_command_without_a_connection_surely_did_not_happen_and_says_where_and_why() -> (
    None
):
    """Port 1 of this machine: nobody listens there. A password in a URL is told to nobody."""
    states: list[ConnectionState] = []
    timing = ReconnectTiming(base_seconds=60, cap_seconds=60)
    options = ClientOptions(timing=timing, command_timeout_seconds=0.5, on_state=states.append)
    away = r"no connection to http://127.0.0.1:1 \(.*Connect.*is a hub running there\?\)"
    async with HubClient("http://ann:s3cret@127.0.0.1:1", options=options) as client:
        await eventually(lambda: "waiting" in {state.name for state in states})
        with pytest.raises(NotConnectedError, match=f"^{away} in 0.5 seconds; publish was not"):
            await client.publish("a", 1)
        with pytest.raises(TimeoutError, match=f"^{away} in 0.1 seconds$"):
            await client.wait_connected(timeout_seconds=0.1)
        with pytest.raises(TimeoutError, match=f"^no subscription to 'a' in 0.1 seconds: {away}$"):
            await client.subscribe("a").wait_started(timeout_seconds=0.1)


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_client_without_subscriptions_may_publish_and_subscribe_later(
    hub: HubProcess, transport: str
) -> None:
    """A session may begin without a channel, over HTTP as well."""
    channel = f"late:{transport}"
    async with HubClient(hub.url, transports=(transport,), options=OPTIONS) as client:
        published = await client.publish(channel, 1)
        assert published.position.offset == 1
        subscription = client.subscribe(channel, last=1)
        async with asyncio.timeout(DEADLINE_SECONDS):
            assert (await anext(subscription)).data == 1


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_channel_that_is_refused_leaves_the_others_alone(
    hub: HubProcess, transport: str
) -> None:
    """The other channels go on also if they stand in one URL, which is refused as a whole."""
    good = f"good:{transport}"
    async with HubClient(hub.url, transports=(transport,), options=OPTIONS) as client:
        bad, subscription = client.subscribe("no channel!"), client.subscribe(good)
        async with asyncio.timeout(DEADLINE_SECONDS):
            with pytest.raises(CommandError, match="'no channel!' is not allowed"):
                await anext(bad)
            await subscription.wait_started()
            await client.publish(good, 1)
            assert (await anext(subscription)).data == 1


async def every_item(subscription: "Subscription[Message | Gap]", last: int) -> list[object]:
    """Offsets and ranges until offset `last`, in order; reads slower than the hub writes."""
    seen: list[object] = []
    async for item in subscription:
        assert subscription.statistics().waiting <= LIMITS.max_items
        if isinstance(item, Gap):
            seen += range(item.first, item.last + 1)
        else:
            seen.append(item.offset)
        if seen and seen[-1] == last:
            break
        await asyncio.sleep(0)
    return seen


LIMITS = FeedLimits(max_items=20)


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_loop_that_stands_still_keeps_the_queue_bounded_and_hears_of_every_loss(
    hub: HubProcess, transport: str
) -> None:
    """30 MB are published meanwhile: here wait 20 messages, and every offset is accounted for."""
    channel, payload = f"flood:{transport}", "x" * 10_000
    options = ClientOptions(timing=TIMING, feed=LIMITS)
    async with (
        HubClient(hub.url, transports=(transport,), options=options) as client,
        Publisher(hub.url) as publisher,
    ):
        subscription = client.subscribe(channel, gaps=True)
        await subscription.wait_started(timeout_seconds=DEADLINE_SECONDS)
        outcomes = await publisher.publish_many(Outgoing.of(channel, payload) for _ in range(3000))
        assert all(isinstance(outcome, Published) for outcome in outcomes)
        assert subscription.statistics().waiting <= LIMITS.max_items
        async with asyncio.timeout(DEADLINE_SECONDS):
            seen = await every_item(subscription, last=3000)
    assert seen == [*range(1, 3001)]


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_with_fill_a_slow_loop_gets_everything_that_history_holds(
    hub: HubProcess, transport: str
) -> None:
    """4 MB wait for a loop that stands still, four times its outbox: no gap, all in order."""
    channel, payload = f"filled:{transport}", "x" * 10_000
    options = ClientOptions(timing=TIMING, feed=LIMITS)
    async with (
        HubClient(hub.url, transports=(transport,), options=options) as client,
        Publisher(hub.url) as publisher,
    ):
        subscription = client.subscribe(channel, gaps=True, fill=True)
        await subscription.wait_started(timeout_seconds=DEADLINE_SECONDS)
        await publisher.publish_many(Outgoing.of(channel, payload) for _ in range(400))
        async with asyncio.timeout(DEADLINE_SECONDS):
            items = [await anext(subscription) for _ in range(400)]
    assert [item.offset for item in items if isinstance(item, Message)] == [*range(1, 401)]


# Who polls is present for two waits after the last one: nothing says that it has gone.
@pytest.mark.parametrize("transport", ["websocket", "sse"])
async def test_presence_tells_who_comes_and_who_goes(hub: HubProcess, transport: str) -> None:
    """Joins and leaves stand in the iteration, and `presence` answers who is there."""
    channel = f"room:{transport}"
    async with HubClient(hub.url, transports=(transport,), options=OPTIONS) as first:
        watching = first.subscribe(channel, presence=True)
        await watching.wait_started(timeout_seconds=DEADLINE_SECONDS)
        async with HubClient(hub.url, transports=(transport,), options=OPTIONS) as second:
            other = second.subscribe(channel)
            await other.wait_started(timeout_seconds=DEADLINE_SECONDS)
            assert len(await first.presence(channel)) == 2
        changes: list[str] = []
        async with asyncio.timeout(DEADLINE_SECONDS):
            async for push in watching:
                assert isinstance(push, Presence)
                changes.append(push.change)
                if push.change == "leave":
                    break
    assert changes[-2:] == ["join", "leave"]


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_token_is_renewed_before_it_ends_and_the_connection_lives_on(
    transport: str,
) -> None:
    """Each token lasts 6 seconds, and the stream outlives the first of them on one connection.

    A new one is asked for 4 seconds before the end, which is enough on a busy machine.
    """
    asked: list[float] = []
    states: list[ConnectionState] = []

    async def fresh() -> str:
        asked.append(time.time())
        return token(6)

    options = ClientOptions(timing=TIMING, on_state=states.append)
    with HubProcess(
        HUB_TOKEN_KEYS=SIGNING,
        HUB_TOKEN_LEEWAY_SECONDS=str(LEEWAY_SECONDS),
        HUB_EXPIRY_WARNING_SECONDS="4",
        HUB_PUBLISH_KEYS="k3y",
    ) as hub:
        async with (
            HubClient(hub.url, token=fresh, transports=(transport,), options=options) as client,
            Publisher(hub.url, key="k3y") as publisher,
        ):
            subscription = client.subscribe("a")
            await subscription.wait_started(timeout_seconds=DEADLINE_SECONDS)
            await eventually(lambda: len(asked) >= 4, seconds=DEADLINE_SECONDS)
            await eventually(lambda: time.time() > asked[0] + 6 + LEEWAY_SECONDS)
            await publisher.publish("a", "still here")
            async with asyncio.timeout(DEADLINE_SECONDS):
                assert (await anext(subscription)).data == "still here"
    assert [state.name for state in states].count("connected") == 1


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_token_that_has_not_begun_is_tried_until_it_has(transport: str) -> None:
    """The clock of the signer may be ahead by more than the hub's leeway."""
    states: list[ConnectionState] = []
    begins: list[float] = []

    def early() -> str:
        # Once it is asked for: what starts before takes its time.
        begins.append(begins[0] if begins else time.time() + 3)
        claims = {"nbf": begins[0], "hub": {"subscribe": ["a"]}}
        return jwt.encode(claims, SIGNING, algorithm="HS256")

    options = ClientOptions(timing=TIMING, on_state=states.append)
    with HubProcess(HUB_TOKEN_KEYS=SIGNING, HUB_TOKEN_LEEWAY_SECONDS=str(LEEWAY_SECONDS)) as hub:
        async with HubClient(
            hub.url, token=early, transports=(transport,), options=options
        ) as client:
            await client.subscribe("a").wait_started(timeout_seconds=DEADLINE_SECONDS)
    assert "waiting" in [state.name for state in states]


async def test_a_token_that_ends_and_cannot_be_renewed_ends_the_iteration_by_name() -> None:
    """A constant token: after its end there is no coming back, and the loop says why."""
    with HubProcess(HUB_TOKEN_KEYS=SIGNING) as hub:
        async with HubClient(hub.url, token=token(2), options=OPTIONS) as client:
            with pytest.raises(UnauthorizedError):
                async with asyncio.timeout(DEADLINE_SECONDS):
                    await anext(client.subscribe("a"))
