"""A client has one connection for all: it moves without a break, renews tokens,
keeps a window, and ends."""

import asyncio
import contextlib
import ssl
from typing import NoReturn

import pytest

from hub_client import (
    ClientOptions,
    ClosedError,
    ConnectionState,
    HubClient,
    LoggedOutError,
    NotConnectedError,
    Position,
    ReconnectTiming,
    RejectedError,
    UnauthorizedError,
)
from hub_client.transport import unreachable
from hub_client.websocket import WebSocketDialer
from tests.clients.python.fakes import (
    DEADLINE_SECONDS,
    Peer,
    http_hub,
    message,
    problem,
    stay,
    websocket_hub,
    welcome,
)
from tests.support.waiting import eventually

QUICK = ReconnectTiming(base_seconds=0.01, cap_seconds=0.05, open_timeout_seconds=5)
OPTIONS = ClientOptions(timing=QUICK)
ONLY_WEBSOCKET = ("websocket",)


async def test_a_client_that_is_asked_to_leave_has_a_connection_at_every_moment() -> None:
    """The old one brings messages until the new one has proved itself, and a little longer."""
    dialled, proved = asyncio.Event(), asyncio.Event()
    states: list[ConnectionState] = []

    async def leaving(peer: Peer) -> None:
        await peer.push(welcome())
        await peer.start("e1:0")
        goodbye = {"op": "goodbye", "code": 1012, "reason": "draining"}
        await peer.push({**goodbye, "reconnect_within_ms": 1})
        await dialled.wait()
        await peer.push(message("a", 1))
        await proved.wait()
        await peer.push(message("a", 2), message("a", 3))
        await peer.socket.wait_closed()

    async def next_node(peer: Peer) -> None:
        dialled.set()
        await heard.wait()
        await peer.push(welcome())
        # History does not hold 2 any more, and the old connection still has it under way.
        assert (await peer.start("e1:1"))["since"] == "e1:1"
        gap = {"op": "gap", "channel": "a", "epoch": "e1", "reason": "expired"}
        await peer.push({**gap, "from": 2, "to": 2}, message("a", 3))
        proved.set()
        await peer.push(message("a", 4))
        await peer.socket.wait_closed()

    heard = asyncio.Event()
    options = ClientOptions(timing=QUICK, on_state=states.append)
    async with (
        asyncio.timeout(DEADLINE_SECONDS),
        websocket_hub(leaving, next_node) as fake,
        HubClient(fake.url, transports=ONLY_WEBSOCKET, options=options) as hub,
    ):
        items = hub.subscribe("a", gaps=True)
        got = [await anext(items)]
        heard.set()
        got += [await anext(items) for _ in range(3)]
    assert [item.position for item in got] == [Position("e1", offset) for offset in (1, 2, 3, 4)]
    assert [state.name for state in states] == ["connecting", "connected", "connected", "closed"]


async def test_a_client_that_is_closed_as_it_moves_leaves_neither_connection() -> None:
    """No task is left either: the older connection's would go on for two seconds."""
    before = asyncio.all_tasks()
    moved = asyncio.Event()
    ended: list[str] = []

    async def leaving(peer: Peer) -> None:
        await peer.push(welcome())
        goodbye = {"op": "goodbye", "code": 1012, "reason": "draining"}
        await peer.push({**goodbye, "reconnect_within_ms": 1})
        await peer.socket.wait_closed()
        ended.append("old")

    async def next_node(peer: Peer) -> None:
        await peer.push(welcome())
        await peer.socket.wait_closed()
        ended.append("new")

    def told(state: ConnectionState) -> None:
        states.append(state.name)
        if states.count("connected") == 2:
            moved.set()

    states: list[str] = []
    options = ClientOptions(timing=QUICK, on_state=told)
    async with asyncio.timeout(DEADLINE_SECONDS), websocket_hub(leaving, next_node) as fake:
        async with HubClient(fake.url, transports=ONLY_WEBSOCKET, options=options):
            await moved.wait()
        await eventually(lambda: sorted(ended) == ["new", "old"])
    await eventually(lambda: asyncio.all_tasks() <= before, what="the end of all tasks")


async def test_a_token_function_that_is_cancelled_while_it_connects_is_asked_again() -> None:
    """The cancellation is the application's, and not the end of the client."""
    asked = 0

    def token() -> str:
        nonlocal asked
        asked += 1
        if asked == 1:
            raise asyncio.CancelledError
        return "t0k"

    async with (
        websocket_hub(stay) as fake,
        HubClient(fake.url, token=token, transports=ONLY_WEBSOCKET, options=OPTIONS) as hub,
    ):
        await hub.wait_connected(timeout_seconds=DEADLINE_SECONDS)
    assert asked == 2


async def test_a_token_function_that_fails_is_asked_once_for_each_attempt() -> None:
    """The number of transports does not matter, and a back-off follows."""
    states: list[ConnectionState] = []
    asked = 0

    def token() -> str:
        nonlocal asked
        asked += 1
        raise OSError("the login server is away")

    options = ClientOptions(timing=QUICK, on_state=states.append)
    async with HubClient("http://127.0.0.1:1", token=token, options=options):
        await eventually(lambda: asked >= 3)
    assert asked == len([state for state in states if state.name == "connecting"])
    assert "login server is away" in states[1].detail


async def test_a_refused_token_is_asked_for_once_more_over_all_transports() -> None:
    """401 is the hub's word: no other transport is tried with it."""
    asked = 0

    def token() -> str:
        nonlocal asked
        asked += 1
        return f"t{asked}"

    async with (
        http_hub(lambda _: problem(401, "unauthorized")) as (url, _),
        HubClient(url, token=token, options=OPTIONS) as hub,
    ):
        with pytest.raises(UnauthorizedError):
            await asyncio.wait_for(anext(hub.subscribe("a")), DEADLINE_SECONDS)
    assert asked == 2


async def test_a_token_function_may_say_that_there_will_be_none_any_more() -> None:
    """Iterations and commands raise what it raised, and nobody is asked again."""
    asked = 0

    async def token() -> str:
        nonlocal asked
        asked += 1
        raise LoggedOutError("ann has left")

    async with websocket_hub(stay) as fake, HubClient(fake.url, token=token) as hub:
        with pytest.raises(LoggedOutError, match="ann has left") as raised:
            await asyncio.wait_for(anext(hub.subscribe("a")), DEADLINE_SECONDS)
        with pytest.raises(LoggedOutError):
            await hub.publish("a", 1)
    assert (raised.value.code, asked, fake.connections) == ("logged_out", 1, 0)


async def test_a_token_function_may_say_so_while_the_client_is_connected() -> None:
    """The connection ends when the token does."""
    answers = iter(["t0k"])

    def token() -> str:
        with contextlib.suppress(StopIteration):
            return next(answers)
        raise LoggedOutError

    async def script(peer: Peer) -> None:
        await peer.push(welcome())
        await peer.start("e1:0")
        await peer.push({"op": "expiring", "in_seconds": 30})
        await peer.socket.wait_closed()

    async with (
        websocket_hub(script) as fake,
        HubClient(fake.url, token=token, transports=ONLY_WEBSOCKET, options=OPTIONS) as hub,
    ):
        with pytest.raises(LoggedOutError):
            await asyncio.wait_for(anext(hub.subscribe("a")), DEADLINE_SECONDS)
    assert fake.connections == 1


async def test_a_client_that_was_closed_connects_again_with_its_subscriptions() -> None:
    """They go on from the last message that the application got; a subscription
    that it closed stays closed."""
    asked: list[object] = []

    async def first(peer: Peer) -> None:
        await peer.push(welcome())
        await peer.start("e1:0")
        await peer.push(message("a", 1))
        await peer.start("e1:0")
        await peer.socket.wait_closed()

    async def second(peer: Peer) -> None:
        await peer.push(welcome())
        command = await peer.start("e1:1")
        asked.append((command["channel"], command["since"]))
        await peer.push(message("a", 2))
        await peer.socket.wait_closed()

    async with asyncio.timeout(DEADLINE_SECONDS), websocket_hub(first, second) as fake:
        hub = HubClient(fake.url, transports=ONLY_WEBSOCKET, options=OPTIONS)
        hub.connect()
        items = hub.subscribe("a")
        assert (await anext(items)).offset == 1
        given_up = hub.subscribe("b")
        await given_up.wait_started()
        await hub.close()
        assert [item async for item in items] == []
        with pytest.raises(ClosedError):
            await hub.ping()
        given_up.close()
        hub.connect()
        with pytest.raises(ClosedError, match="open already"):
            hub.connect()
        assert (await anext(items)).offset == 2
        await hub.close()
    assert asked == [("a", "e1:1")]


async def test_after_a_refusal_for_good_it_connects_again_when_it_is_told_to() -> None:
    """After a login, for example, the same subscription goes on."""

    async def refuse(peer: Peer) -> None:
        await peer.socket.close(4401, "expired")

    async def take(peer: Peer) -> None:
        await peer.push(welcome())
        await peer.start("e1:0")
        await peer.push(message("a", 1))
        await peer.socket.wait_closed()

    async with (
        asyncio.timeout(DEADLINE_SECONDS),
        websocket_hub(refuse, take) as fake,
        HubClient(fake.url, transports=ONLY_WEBSOCKET, options=OPTIONS) as hub,
    ):
        items = hub.subscribe("a")
        with pytest.raises(UnauthorizedError):
            await anext(items)
        hub.connect()
        assert (await anext(items)).offset == 1


async def test_more_commands_than_the_window_wait_for_their_turn() -> None:
    """Never more are under way than the hub queues, and none fails."""
    most = 0

    async def script(peer: Peer) -> None:
        nonlocal most
        await peer.push(welcome())
        waiting = [await peer.command("publish") for _ in range(256)]
        assert peer.unread == 0
        for number in range(1, 2001):
            command = waiting.pop(0)
            ok = {"channel": "a", "epoch": "e1", "offset": number}
            await peer.push({"op": "reply", "id": command["id"], "ok": ok})
            if number + len(waiting) < 2000:
                waiting.append(await peer.command("publish"))
            most = max(most, len(waiting) + peer.unread)
        await peer.socket.wait_closed()

    async with (
        websocket_hub(script) as fake,
        HubClient(fake.url, transports=ONLY_WEBSOCKET, options=OPTIONS) as hub,
    ):
        published = await asyncio.gather(*(hub.publish("a", n) for n in range(2000)))
    assert [each.position.offset for each in published] == list(range(1, 2001))
    assert most <= 256


async def test_a_command_behind_others_has_its_time_from_the_reply_before_its_own() -> None:
    """Over SSE and polling commands go one after the other: the last of a window waits long."""

    async def script(peer: Peer) -> None:
        await peer.push(welcome())
        for number in range(4):
            command = await peer.command("publish")
            await asyncio.sleep(0.8)
            ok = {"channel": "a", "epoch": "e1", "offset": number + 1}
            await peer.push({"op": "reply", "id": command["id"], "ok": ok})
        await peer.socket.wait_closed()

    options = ClientOptions(timing=QUICK, command_timeout_seconds=3.0)
    async with (
        websocket_hub(script) as fake,
        HubClient(fake.url, transports=ONLY_WEBSOCKET, options=options) as hub,
    ):
        await hub.wait_connected(timeout_seconds=DEADLINE_SECONDS)
        published = await asyncio.gather(*(hub.publish("a", n) for n in range(4)))
    assert [each.position.offset for each in published] == [1, 2, 3, 4]


async def test_commands_that_wait_for_a_turn_are_given_up_where_nothing_is_answered() -> None:
    """All of them are given up in the time of one, and not one window after another."""
    options = ClientOptions(timing=QUICK, command_timeout_seconds=0.3)
    async with HubClient("http://127.0.0.1:1", options=options) as hub:
        async with asyncio.timeout(DEADLINE_SECONDS):
            outcomes = await asyncio.gather(
                *(hub.publish("a", n) for n in range(40 * 256)), return_exceptions=True
            )
    assert {type(outcome) for outcome in outcomes} == {NotConnectedError}


async def test_a_command_that_was_not_sent_goes_by_the_next_connection() -> None:
    """Only what was sent has an unknown outcome."""

    async def first(peer: Peer) -> None:
        await peer.socket.close(1012)

    async def second(peer: Peer) -> None:
        await peer.push(welcome())
        command = await peer.command("publish")
        ok = {"channel": "a", "epoch": "e1", "offset": 1}
        await peer.push({"op": "reply", "id": command["id"], "ok": ok})
        await peer.socket.wait_closed()

    async with (
        asyncio.timeout(DEADLINE_SECONDS),
        websocket_hub(first, second) as fake,
        HubClient(fake.url, transports=ONLY_WEBSOCKET, options=OPTIONS) as hub,
    ):
        published = await hub.publish("a", 1)
    assert fake.connections == 2
    assert published.position == Position("e1", 1)


@pytest.mark.parametrize("connected_before", [False, True])
async def test_a_certificate_that_is_not_trusted_ends_a_client_that_never_trusted_it(
    connected_before: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client that was connected before keeps trying, because an expired
    certificate will be renewed."""
    said = "[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: certificate has expired"
    troubles: list[str] = []
    connected = asyncio.Event()

    async def expired(*_: object) -> NoReturn:
        raise unreachable(ssl.SSLCertVerificationError(1, said))

    async def cut(peer: Peer) -> None:
        await peer.push(welcome())
        await connected.wait()
        monkeypatch.setattr(WebSocketDialer, "dial", expired)
        peer.socket.transport.abort()

    async def renewed(peer: Peer) -> None:
        await peer.push(welcome())
        await peer.start("e1:0")
        await peer.socket.wait_closed()

    def told(state: ConnectionState) -> None:
        if state.name == "connected":
            connected.set()
        if "not trusted (certificate has expired)" in state.detail:
            troubles.append(state.name)
        if len(troubles) == 3:
            monkeypatch.undo()

    if not connected_before:
        monkeypatch.setattr(WebSocketDialer, "dial", expired)
    options = ClientOptions(timing=QUICK, on_state=told)
    async with (
        asyncio.timeout(DEADLINE_SECONDS),
        websocket_hub(*([cut] if connected_before else []), renewed) as fake,
        HubClient(fake.url, transports=ONLY_WEBSOCKET, options=options) as hub,
    ):
        messages = hub.subscribe("a")
        if connected_before:
            await messages.wait_started(timeout_seconds=DEADLINE_SECONDS)
            assert troubles == ["waiting"] * 3
        else:
            with pytest.raises(RejectedError, match="the hub needs a new one") as raised:
                await anext(messages)
            assert (raised.value.code, raised.value.close_code) == ("untrusted_certificate", 1015)
