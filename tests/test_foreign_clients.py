"""Clients that others wrote: what they take for granted has to hold."""

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Iterator

import aiohttp
import httpx
import httpx_sse
import pytest
import websocket
from websockets.asyncio.client import connect
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory

from tests.support.hub_process import HubProcess
from tests.support.waiting import eventually, eventually_blocking
from tests.transports.peers import Json

TIMEOUT_SECONDS = 15
# Compressible, and above the size from which the hub compresses.
LARGE = {"text": "many words " * 500}


@pytest.fixture(scope="module")
def hub() -> Iterator[HubProcess]:
    with HubProcess(HUB_HEARTBEAT_SECONDS="0.5", HUB_PONG_TIMEOUT_SECONDS="5") as process:
        yield process


def publish(hub: HubProcess, channel: str, *data: object) -> None:
    for item in data:
        httpx.post(f"{hub.url}/api/publish/{channel}", json=item).raise_for_status()


def address(hub: HubProcess, channel: str) -> str:
    return f"{hub.ws_url}?channel={channel}"


# -- websockets ----------------------------------------------------------------------------


async def _next(socket: object, op: str) -> Json:
    """The next push named `op` of a `websockets` connection."""
    async with asyncio.timeout(TIMEOUT_SECONDS):
        while True:
            push: Json = json.loads(await socket.recv())  # type: ignore[attr-defined] # any version of it
            if push["op"] == op:
                return push


@pytest.mark.parametrize(
    "extensions",
    [
        [],
        [ClientPerMessageDeflateFactory()],
        [ClientPerMessageDeflateFactory(server_max_window_bits=9, client_max_window_bits=9)],
        [ClientPerMessageDeflateFactory(server_no_context_takeover=True)],
    ],
    ids=["plain", "default deflate", "small windows", "without context"],
)
async def test_websockets_reads_and_writes_with_every_compression(
    hub: HubProcess, channel: str, extensions: list[ClientPerMessageDeflateFactory]
) -> None:
    """Several large messages in a row: one with the wrong context would corrupt the next."""
    async with connect(address(hub, channel), compression=None, extensions=extensions) as socket:
        await _next(socket, "subscribed")
        for number in range(5):
            data = LARGE | {"n": number}
            sent = {"op": "publish", "id": number, "channel": channel, "data": data}
            await socket.send(json.dumps(sent))
            assert (await _next(socket, "message"))["data"] == data


async def test_subscribers_with_and_without_compression_share_a_channel(
    hub: HubProcess, channel: str
) -> None:
    async with (
        connect(address(hub, channel)) as packed,
        connect(address(hub, channel), compression=None) as plain,
    ):
        for socket in (packed, plain):
            await _next(socket, "subscribed")
        await asyncio.to_thread(publish, hub, channel, LARGE, "small", LARGE)
        for socket in (packed, plain):
            data = [(await _next(socket, "message"))["data"] for _ in range(3)]
            assert data == [LARGE, "small", LARGE]


async def test_websockets_sends_a_message_in_fragments(hub: HubProcess, channel: str) -> None:
    """With a ping between them, which RFC 6455 section 5.4 allows."""
    text = json.dumps({"op": "publish", "id": 1, "channel": channel, "data": LARGE})
    async with connect(address(hub, channel)) as socket:

        async def pieces() -> object:
            for at in range(0, len(text), 100):
                yield text[at : at + 100]
                if at == 1000:
                    await (await socket.ping())

        await socket.send(pieces())  # type: ignore[arg-type] # an async iterable of strings
        assert (await _next(socket, "message"))["data"] == LARGE


async def test_websockets_answers_pings_and_stays(hub: HubProcess, channel: str) -> None:
    """The hub measures the round trip; `/api/connections` shows it."""
    async with connect(address(hub, channel)) as socket, httpx.AsyncClient() as http:
        connection = (await _next(socket, "welcome"))["connection"]
        at = f"{hub.url}/api/connections/{connection}"
        await _next(socket, "heartbeat")
        await _next(socket, "heartbeat")

        async def round_trip() -> object:
            return next(v for k, v in (await http.get(at)).json().items() if "round_trip" in k)

        assert await eventually(round_trip, what="a measured round trip")


# -- aiohttp -------------------------------------------------------------------------------


@pytest.mark.parametrize("compress", [0, 15])
async def test_aiohttp_subscribes_and_publishes(
    hub: HubProcess, channel: str, compress: int
) -> None:
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(address(hub, channel), compress=compress) as socket,
    ):

        async def next_(op: str) -> Json:
            while True:
                push: Json = await socket.receive_json(timeout=TIMEOUT_SECONDS)
                if push["op"] == op:
                    return push

        assert (await next_("welcome"))["node"] == "test-node"
        await next_("subscribed")
        await socket.send_json({"op": "publish", "id": 1, "channel": channel, "data": LARGE})
        assert (await next_("message"))["data"] == LARGE
        await socket.close()
        assert socket.close_code == 1000


async def test_aiohttp_publishes_over_http(hub: HubProcess, channel: str) -> None:
    """Its connections are kept alive and reused."""
    async with aiohttp.ClientSession() as session:
        for number in range(1, 4):
            url = f"{hub.url}/api/publish/{channel}"
            async with session.post(url, json={"n": number}) as answer:
                assert (await answer.json())["offset"] == number


# -- websocket-client ----------------------------------------------------------------------


def test_websocket_client_runs_in_a_thread(hub: HubProcess, channel: str) -> None:
    """Its callbacks see every message, and its close is answered."""
    came: list[Json] = []
    codes: list[int] = []

    def on_message(app: websocket.WebSocketApp, text: str) -> None:
        came.append(json.loads(text))
        if came[-1].get("data") == "end":
            app.close()

    app = websocket.WebSocketApp(
        address(hub, channel),
        on_message=on_message,
        on_close=lambda _, code, reason: codes.append(code),
    )
    thread = threading.Thread(target=app.run_forever)
    thread.start()
    try:
        eventually_blocking(lambda: any(push["op"] == "subscribed" for push in came))
        publish(hub, channel, 1, LARGE, "end")
    finally:
        thread.join(TIMEOUT_SECONDS)
    assert not thread.is_alive()
    assert [push["data"] for push in came if push["op"] == "message"] == [1, LARGE, "end"]
    assert len(codes) == 1


def test_websocket_client_asks_for_history(hub: HubProcess, channel: str) -> None:
    publish(hub, channel, "a", "b")
    socket = websocket.create_connection(hub.ws_url, timeout=TIMEOUT_SECONDS)
    try:
        socket.send(json.dumps({"op": "history", "id": "h", "channel": channel}))
        while (reply := json.loads(socket.recv()))["op"] != "reply":
            pass
        assert [item["data"] for item in reply["ok"]["publications"]] == ["a", "b"]
    finally:
        socket.close()


# -- httpx-sse -----------------------------------------------------------------------------


async def _with_data(source: httpx_sse.EventSource) -> AsyncIterator[httpx_sse.ServerSentEvent]:
    """Its events but those of blocks without data, which by the standard are none."""
    async for event in source.aiter_sse():
        if event.data:
            yield event


async def test_httpx_sse_reads_events_and_resumes(hub: HubProcess, channel: str) -> None:
    """By the ids it keeps, as the standard says."""
    params = {"channel": channel}
    async with httpx.AsyncClient(base_url=hub.url, timeout=TIMEOUT_SECONDS) as http:
        async with httpx_sse.aconnect_sse(http, "GET", "/sse", params=params) as source:
            events = _with_data(source)
            assert (await anext(events)).event == "welcome"
            assert (await anext(events)).event == "subscribed"
            await asyncio.to_thread(publish, hub, channel, 1, 2)
            first, second = await anext(events), await anext(events)
            assert [event.json()["data"] for event in (first, second)] == [1, 2]
            assert first.event == "message"
        await asyncio.to_thread(publish, hub, channel, 3)
        headers = {"Last-Event-ID": first.id}
        async with httpx_sse.aconnect_sse(
            http, "GET", "/sse", params=params, headers=headers
        ) as source:
            events = _with_data(source)
            while (event := await anext(events)).event != "message":
                pass
            assert [event.json()["data"], (await anext(events)).json()["data"]] == [2, 3]
