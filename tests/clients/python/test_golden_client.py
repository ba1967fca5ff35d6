"""The Python client against the golden files: what it sends, and what it makes of what comes.

The hub's own tests read the same files (`tests/wire/test_golden.py`), so neither side can change
a name alone.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from hub_client import (
    ClientOptions,
    CommandError,
    ConnectionState,
    Gap,
    HistoryPage,
    HubClient,
    Member,
    Message,
    Position,
    Presence,
    Published,
    ReconnectTiming,
    State,
)
from tests.clients.python.fakes import (
    DEADLINE_SECONDS,
    HttpAnswer,
    HttpRequest,
    Json,
    Peer,
    http_hub,
    is_probe,
    json_answer,
    proved,
    websocket_hub,
)
from tests.support.golden import golden, golden_case

OF_A_CHANNEL = {"message", "gap", "state", "join", "leave", "update", "presence_reset"}
PUSHES = [case for case in golden("pushes") if case["wire"]["op"] in OF_A_CHANNEL]
TIMING = ReconnectTiming(base_seconds=0.01, cap_seconds=0.05, open_timeout_seconds=5)


def client(url: str, transport: str = "websocket", token: object = None) -> HubClient:
    options = ClientOptions(timing=TIMING)
    return HubClient(url, transports=(transport,), options=options, token=token)  # type: ignore[arg-type]  # a test's callable


def without_id(wire: Json) -> Json:
    return {name: value for name, value in wire.items() if name != "id"}


def reply_to(command: Json, name: str | None = None) -> Json:
    """The golden reply of this name, or of the command's op."""
    of = f"{command['op']}, a pattern" if "pattern" in command else command["op"]
    return {**golden_case("replies", name or of)["wire"], "id": command["id"]}


def row(message: Message) -> Json:
    """A row of a state under the names of the wire."""
    fields: Json = {"key": message.key, "offset": message.offset, "time": message.time_ms}
    fields |= {"from": message.sender, "tags": message.tags, "data": message.data}
    return {name: value for name, value in fields.items() if value is not None}


def on_the_wire(item: Message | Gap | Presence | State) -> Json:
    """Returns the item that the application got, under the names of the wire."""
    fields: Json
    body: Json
    match item:
        case Message():
            op, fields = "message", {"offset": item.offset, "time": item.time_ms}
            fields |= {"key": item.key, "from": item.sender, "tags": item.tags}
            fields |= {"remove": item.remove or None, "end": item.end or None}
            body = {"data": item.data}
        case Gap(reason="reset"):
            op, fields, body = "gap", {"position": str(item.position)}, {"reason": "reset"}
            fields["epoch"] = item.epoch
        case Gap():
            op, fields = "gap", {"epoch": item.epoch, "from": item.first, "to": item.last}
            if item.unsequenced:
                fields = {"epoch": item.epoch, "unsequenced": item.unsequenced}
            body = {"reason": item.reason}
        case State():
            op, fields = "state", {"position": str(item.position), "dropped": item.dropped or None}
            body = {"rows": [row(each) for each in item.rows], "more": item.more}
        case Presence():
            op, fields, body = item.change, {"member": member_fields(item.member)}, {}
    given = {name: value for name, value in fields.items() if value is not None}
    return {"op": op, "channel": item.channel, **given, **body}


def member_fields(member: Member | None) -> Json | None:
    if member is None:
        return None
    fields: Json = {"id": member.id, "connection": member.connection, "sub": member.subject}
    fields["data"] = member.data
    return {name: value for name, value in fields.items() if value is not None}


async def test_golden_pushes_reach_the_application_with_every_field() -> None:
    """Over WebSocket, in the order of the file."""

    async def script(peer: Peer) -> None:
        await peer.push(golden_case("pushes", "welcome")["wire"])
        await peer.push(reply_to(await peer.command()))
        await peer.push(*(case["wire"] for case in PUSHES))
        await peer.socket.wait_closed()

    async with websocket_hub(script) as fake, client(fake.url) as hub:
        items = hub.subscribe("prices", gaps=True, presence=True)
        async with asyncio.timeout(DEADLINE_SECONDS):
            came = [on_the_wire(await anext(items)) for _ in PUSHES]
    assert came == [case["wire"] for case in PUSHES]


async def test_golden_blocks_reach_the_application_over_server_sent_events() -> None:
    """The welcome's secret and connection are those that the commands are sent with."""
    blocks: asyncio.Queue[bytes | None] = asyncio.Queue()
    posted: list[HttpRequest] = []
    told = [case for case in PUSHES if "sse" in case]

    def answer(request: HttpRequest) -> HttpAnswer:
        if request.method == "POST":
            posted.append(request)
            if is_probe(request.json):
                return proved(blocks)
            return json_answer(reply_to(request.json))
        for block in (golden_case("pushes", name)["sse"] for name in ("welcome", "subscribed")):
            blocks.put_nowait(block.encode())
        for case in told:
            blocks.put_nowait(case["sse"].encode())
        return HttpAnswer(stream=blocks)

    async with http_hub(answer) as (url, requests), client(url, "sse") as hub:
        items = hub.subscribe("prices", gaps=True, presence=True)
        async with asyncio.timeout(DEADLINE_SECONDS):
            came = [on_the_wire(await anext(items)) for _ in told]
            members = await hub.presence("chat:42")
        blocks.put_nowait(None)
    welcome = golden_case("pushes", "welcome")["wire"]
    assert came == [case["wire"] for case in told]
    assert requests[0].path == "/sse"
    assert posted[0].query["connection"] == [welcome["connection"]]
    assert posted[0].headers["authorization"] == f"Bearer {welcome['secret']}"
    assert members[0] == Member("ada", "9f2c", "ada")


async def test_a_golden_answer_to_a_poll_reaches_the_application_and_the_next_poll_goes_on() -> (
    None
):
    """With the positions, the connection and the secret of the answer."""
    wire = golden_case("polls", "an answer of a session")["wire"]
    polls: asyncio.Queue[HttpRequest] = asyncio.Queue()

    def answer(request: HttpRequest) -> HttpAnswer:
        if request.method == "POST":
            return json_answer(reply_to(request.json))
        polls.put_nowait(request)
        again = polls.qsize() > 1
        return HttpAnswer(stream=asyncio.Queue()) if again else json_answer(wire)

    async with http_hub(answer) as (url, _), client(url, "poll") as hub:
        items = hub.subscribe("prices", since="k3f9:41", gaps=True)
        async with asyncio.timeout(DEADLINE_SECONDS):
            came = [on_the_wire(await anext(items)) for _ in range(2)]
            first, second = await polls.get(), await polls.get()
    assert came == [push for push in wire["pushes"] if push["op"] in OF_A_CHANNEL]
    assert first.query["since"] == ["prices=k3f9:41"]
    assert second.path == "/poll"
    assert second.query["since"] == [f"prices={wire['positions']['prices']}"]
    assert second.query["connection"] == [wire["welcome"]["connection"]]
    assert second.headers["authorization"] == f"Bearer {wire['welcome']['secret']}"


Ask = Callable[[HubClient], Awaitable[object]]


async def _subscribe(hub: HubClient, channel: str, **options: object) -> None:
    async with hub.subscribe(channel, **options) as items:  # type: ignore[call-overload]  # by name
        await items.wait_started()


async def _by_pattern(hub: HubClient, **options: Any) -> None:
    async with hub.subscribe_pattern("prices:*", **options) as items:
        await items.wait_started()


async def _publish_null(hub: HubClient) -> Published:
    return await hub.publish("prices", None, idempotency_key="0d9f1a")


ASKED: dict[str, Ask] = {
    "subscribe, resuming and filling gaps": lambda hub: _subscribe(
        hub, "prices", since="k3f9:41", fill=True
    ),
    "subscribe, the newest first": lambda hub: _subscribe(hub, "chat:42", last=50),
    "subscribe to what has some tags": lambda hub: _subscribe(
        hub, "games", filter={"league": "nba"}
    ),
    "subscribe, rows of a keyed channel first": lambda hub: _subscribe(hub, "prices", state=True),
    "unsubscribe": lambda hub: _subscribe(hub, "prices"),
    "subscribe to a pattern": lambda hub: _by_pattern(
        hub, last=1, fill=True, filter={"league": "nba"}
    ),
    "subscribe to a pattern, resuming": lambda hub: _by_pattern(
        hub, since={"prices:eur": "k3f9:41"}
    ),
    "unsubscribe from a pattern": _by_pattern,
    "publish, not back to me": lambda hub: hub.publish(
        "prices", {"eur": 1.08}, key="EURUSD", echo=False
    ),
    "publish, repeatable": _publish_null,
    "publish with tags, the last of its channel, which takes a row away": lambda hub: hub.publish(
        "prices", 1, key="EURUSD", tags={"desk": "fx"}, remove=True, end=True
    ),
    "publish what history holds for a minute, at most": lambda hub: hub.publish(
        "prices", 1, ttl_seconds=60
    ),
    "publish what history does not hold": lambda hub: hub.publish("prices", 1, history=False),
    "history": lambda hub: hub.history("prices", since="k3f9:40", limit=2),
    "history, from a moment on": lambda hub: hub.history("prices", from_time=1764000000000),
    "history, backwards": lambda hub: hub.history(
        "prices", from_time="2025-11-24T16:00:00Z", reverse=True, limit=2
    ),
    "presence": lambda hub: hub.presence("chat:42"),
    "presence, how many": lambda hub: hub.presence_count("chat:42"),
    "subscribe, saying something of oneself": lambda hub: _subscribe(
        hub, "chat:42", presence_data={"mood": "fine"}
    ),
    "subscribe, now and then": lambda hub: _subscribe(hub, "prices", every_ms=500),
    "presence_update": lambda hub: hub.presence_update("chat:42", {"mood": "busy"}),
    "ping": lambda hub: hub.ping(),
}
# The client asks these by itself: a test is below, and in test_subscriptions.
BY_ITSELF = {"authenticate", "presence, the next page"}


def test_each_golden_command_is_one_that_the_client_sends() -> None:
    """A new one has to be given a method, or to stand here with a reason."""
    assert {case["name"] for case in golden("commands")} == set(ASKED) | BY_ITSELF


@pytest.mark.parametrize("name", ASKED)
async def test_a_method_sends_the_golden_command(name: str) -> None:
    """Field by field; only the id is the client's own."""
    expected = golden_case("commands", name)["wire"]
    got: asyncio.Future[Json] = asyncio.get_running_loop().create_future()

    async def script(peer: Peer) -> None:
        await peer.push(golden_case("pushes", "welcome")["wire"])
        while not got.done():
            command = await peer.any_command()
            if command["op"] == expected["op"]:
                got.set_result(command)
            await peer.push(reply_to(command))
        await peer.socket.wait_closed()

    async with websocket_hub(script) as fake, client(fake.url) as hub:
        async with asyncio.timeout(DEADLINE_SECONDS):
            await ASKED[name](hub)
            command = await got
    assert without_id(command) == without_id(expected)


async def test_at_the_golden_warning_the_client_authenticates_by_the_golden_command() -> None:
    """With the token that it is given then."""
    expected = golden_case("commands", "authenticate")["wire"]
    tokens = iter(["first", expected["token"]])

    async def script(peer: Peer) -> None:
        await peer.push(golden_case("pushes", "welcome")["wire"])
        await peer.push(golden_case("pushes", "expiring")["wire"])
        command = await peer.command("authenticate")
        await peer.push(reply_to(command))
        got.set_result(command)
        await peer.socket.wait_closed()

    got: asyncio.Future[Json] = asyncio.get_running_loop().create_future()
    async with websocket_hub(script) as fake, client(fake.url, token=lambda: next(tokens)):
        async with asyncio.timeout(DEADLINE_SECONDS):
            command = await got
    assert without_id(command) == without_id(expected)


async def answered(name: str, ask: Ask) -> object:
    """Returns what a method of the client makes of the golden reply of this name."""

    async def script(peer: Peer) -> None:
        await peer.push(golden_case("pushes", "welcome")["wire"])
        command = await peer.any_command()
        await peer.push(reply_to(command, name))
        await peer.socket.wait_closed()

    async with websocket_hub(script) as fake, client(fake.url) as hub:
        async with asyncio.timeout(DEADLINE_SECONDS):
            return await ask(hub)


async def test_golden_replies_become_the_values_they_hold() -> None:
    """They become a publication's position, history's messages and the members."""
    published = await answered("publish, repeated", ASKED["publish, repeatable"])
    assert published == Published("prices", Position("k3f9", 42), duplicate=True)
    page = await answered("history", ASKED["history"])
    assert isinstance(page, HistoryPage)
    assert (page.channel, page.position, page.oldest) == ("prices", Position("k3f9", 42), 41)
    listed = golden_case("replies", "history")["wire"]["ok"]["publications"]
    came = [without_op(on_the_wire(message)) for message in page.messages]
    assert came == listed
    assert page.next is None
    backwards = await answered("history, backwards", ASKED["history, backwards"])
    assert isinstance(backwards, HistoryPage)
    assert [message.offset for message in backwards.messages] == [42, 41]
    assert backwards.next == Position("k3f9", 41)
    members = await answered("presence", ASKED["presence"])
    assert members == (Member("ada", "9f2c", "ada"), Member("77aa", "77aa"))


def without_op(wire: Json) -> Json:
    return {name: value for name, value in wire.items() if name not in {"op", "channel"}}


@pytest.mark.parametrize("name", ["refused", "refused for now"])
async def test_a_golden_error_becomes_one_with_its_code(name: str) -> None:
    """Code, message and whether it may succeed later."""
    error = golden_case("replies", name)["wire"]["error"]
    with pytest.raises(Exception, match=error["message"]) as caught:
        await answered(name, ASKED["publish, repeatable"])
    assert (caught.value.code, caught.value.retryable) == (error["code"], error["retryable"])  # type: ignore[attr-defined]  # compared here


def test_each_golden_push_is_one_that_the_client_understands() -> None:
    """A new one has to be given a meaning here: the client ignores what it does not know."""
    understood = OF_A_CHANNEL | {"welcome", "subscribed", "unsubscribed"}
    understood |= {"heartbeat", "expiring", "goodbye"}
    assert {case["wire"]["op"] for case in golden("pushes")} == understood


async def test_the_golden_end_of_a_subscription_ends_the_iteration_with_its_reason() -> None:
    """The other subscriptions go on, and nothing is asked for again."""
    wire = golden_case("pushes", "unsubscribed")["wire"]

    async def script(peer: Peer) -> None:
        await peer.push(golden_case("pushes", "welcome")["wire"])
        await peer.push(reply_to(await peer.command()), wire)
        await peer.push(reply_to(await peer.command("ping")))
        await peer.socket.wait_closed()

    async with websocket_hub(script) as fake, client(fake.url) as hub:
        async with asyncio.timeout(DEADLINE_SECONDS):
            with pytest.raises(CommandError, match=wire["reason"]) as caught:
                await anext(hub.subscribe(wire["channel"]))
            await hub.ping()
    assert caught.value.code == "unsubscribed"


async def test_data_that_the_application_gives_with_its_yes_is_handed_on() -> None:
    """With the connection, and with each subscription."""
    states: list[ConnectionState] = []
    name = "with what the application gives"

    async def script(peer: Peer) -> None:
        await peer.push(golden_case("pushes", f"welcome, {name}")["wire"])
        await peer.push(reply_to(await peer.command(), f"subscribe, {name}"))
        await peer.socket.wait_closed()

    async with websocket_hub(script) as fake:
        options = ClientOptions(timing=TIMING, on_state=states.append)
        async with HubClient(fake.url, transports=("websocket",), options=options) as hub:
            assert hub.data is None
            prices = hub.subscribe("prices")
            await prices.wait_started()
            assert prices.data == {"title": "Prices"}
            assert hub.data == {"plan": "pro"}
    assert [state.data for state in states if state.name == "connected"] == [{"plan": "pro"}]


async def test_the_same_over_server_sent_events() -> None:
    blocks: asyncio.Queue[bytes | None] = asyncio.Queue()
    name = "with what the application gives"

    def answer(request: HttpRequest) -> HttpAnswer:
        if request.method == "POST":
            return proved(blocks) if is_probe(request.json) else json_answer({})
        for block in (f"welcome, {name}", f"subscribed, {name}"):
            blocks.put_nowait(golden_case("pushes", block)["sse"].encode())
        return HttpAnswer(stream=blocks)

    async with http_hub(answer) as (url, _), client(url, "sse") as hub:
        prices = hub.subscribe("prices")
        await prices.wait_started()
        assert (prices.data, hub.data) == ({"title": "Prices"}, {"plan": "pro"})
        blocks.put_nowait(None)
