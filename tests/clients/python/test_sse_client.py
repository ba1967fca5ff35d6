"""The client where WebSockets are blocked, against a hub played by a script."""

import asyncio
from collections.abc import Callable, Mapping, Sequence

import pytest

from hub_client import (
    ClientOptions,
    CommandError,
    ConnectionLostError,
    ConnectionState,
    Gap,
    HubClient,
    Message,
    Position,
    ReconnectTiming,
    RejectedError,
    Subscription,
)
from hub_client.http_session import url_subscriptions
from hub_client.sse import EventParser
from hub_client.transport import DisconnectedError
from tests.clients.python.fakes import (
    DEADLINE_SECONDS,
    HttpAnswer,
    HttpRequest,
    event,
    http_hub,
    is_probe,
    json_answer,
    message,
    problem,
    proved,
    reset,
    subscribed,
    welcome,
)

OPTIONS = ClientOptions(timing=ReconnectTiming(0.01, 0.05, open_timeout_seconds=5))


Command = Callable[[HttpRequest], HttpAnswer]


class Streams:
    """A hub behind a proxy that blocks WebSockets: each `/sse` plays the next stream."""

    def __init__(self, *streams: Sequence[bytes | None], command: Command | None = None) -> None:
        self._streams = iter(streams)
        self.command = command
        self.open: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._later: Sequence[bytes | None] = ()

    def __call__(self, request: HttpRequest) -> HttpAnswer:
        if request.path == "/ws":
            return HttpAnswer(403, b"no upgrades here")
        if request.path == "/command":
            if is_probe(request.json):
                return self._prove()
            assert self.command is not None
            return self.command(request)
        self.open = asyncio.Queue()
        first, *self._later = next(self._streams, [event(welcome())])
        self.open.put_nowait(first)
        return HttpAnswer(stream=self.open)

    def _prove(self) -> HttpAnswer:
        """The rest of the stream follows: one that ends must not end before this."""
        answer = proved(self.open)
        for chunk in self._later:
            self.open.put_nowait(chunk)
        return answer


async def take(items: "Subscription[Message]", count: int) -> list[Message]:
    async with asyncio.timeout(DEADLINE_SECONDS):
        return [await anext(items) for _ in range(count)]


async def test_a_blocked_websocket_falls_back_to_sse_and_resumes_there() -> None:
    """403 to the handshake leads to /sse at once; after a cut `since` stands in its URL."""
    first = [event(welcome()), event(subscribed("a", "e1:0")), event(message("a", 1)), None]
    second = [
        event(welcome()),
        event(subscribed("a", "e1:1")),
        b": heartbeat\n\n",
        event(message("a", 1)) + event(message("a", 2)),
    ]
    states: list[ConnectionState] = []
    options = ClientOptions(timing=OPTIONS.timing, on_state=states.append)
    async with (
        http_hub(Streams(first, second)) as (url, requests),
        HubClient(url, token="t0k", options=options) as hub,
    ):
        items = await take(hub.subscribe("a", last=1), 2)
    streams = [request for request in requests if request.path == "/sse"]
    assert [item.offset for item in items] == [1, 2]
    assert [request.query for request in streams] == [
        {"channel": ["a"], "last": ["1"]},
        {"channel": ["a"], "since": ["a=e1:1"]},
    ]
    assert streams[0].headers["authorization"] == "Bearer t0k"
    assert {state.transport for state in states if state.name == "connected"} == {"sse"}


async def test_sse_shows_one_reset_when_the_epoch_changed() -> None:
    """The same promise as over WebSocket."""
    first = [event(welcome()), event(subscribed("a", "e1:0")), event(message("a", 1)), None]
    second = [
        event(welcome()),
        event(subscribed("a", "e2:0")),
        event(reset("a", "e2:0")),
        event(message("a", 1)),
    ]
    gaps: list[Gap] = []
    async with (
        http_hub(Streams(first, second)) as (url, _),
        HubClient(url, transports=("sse",), options=OPTIONS) as hub,
    ):
        items = await take(hub.subscribe("a", on_gap=gaps.append), 2)
    assert [gap.reason for gap in gaps] == ["reset"]
    assert [item.position for item in items] == [Position("e1", 1), Position("e2", 1)]


async def test_commands_travel_by_post_with_the_welcomes_secret() -> None:
    """A second channel is subscribed by /command; the stream says where it starts."""
    streams = Streams([event(welcome()), event(subscribed("a", "e1:0"))])

    def command(request: HttpRequest) -> HttpAnswer:
        assert request.query == {"connection": ["c1"]}
        assert request.headers["authorization"] == "Bearer s3cret"
        asked = request.json
        if asked["op"] == "subscribe":
            for push in (subscribed("b", "e7:0"), message("b", 1)):
                streams.open.put_nowait(event(push))
            ok: dict[str, object] = {"channel": "b", "position": "e7:0"}
        else:
            ok = {"channel": "b", "epoch": "e7", "offset": 2}
        return json_answer({"op": "reply", "id": asked["id"], "ok": ok})

    streams.command = command
    async with (
        http_hub(streams) as (url, _),
        HubClient(url, transports=("sse",), options=OPTIONS) as hub,
    ):
        first = hub.subscribe("a")
        await first.wait_started()
        (item,) = await take(hub.subscribe("b"), 1)
        published = await hub.publish("b", {"x": 1})
    assert item.position == Position("e7", 1)
    assert published.position == Position("e7", 2)


async def test_a_command_refused_by_http_status_is_an_error_of_that_command() -> None:
    """A problem document in answer to /command becomes the command's error."""

    def command(_: HttpRequest) -> HttpAnswer:
        return problem(413, "too_large")

    streams = Streams([event(welcome())], command=command)
    async with (
        http_hub(streams) as (url, _),
        HubClient(url, transports=("sse",), options=OPTIONS) as hub,
    ):
        subscription = hub.subscribe("a")
        with pytest.raises(CommandError, match="too_large"):
            await hub.publish("b", "x")
        subscription.close()


async def test_a_command_answered_by_what_is_no_hub_costs_the_connection_only() -> None:
    """A captive portal's page in place of a reply: unknown outcome, then everything goes on."""
    first = [event(welcome()), event(subscribed("a", "e1:0"))]
    second = [event(welcome()), event(subscribed("a", "e1:0")), event(message("a", 1))]
    streams = Streams(first, second, command=lambda _: HttpAnswer(200, b"<html>log in</html>"))
    async with (
        http_hub(streams) as (url, _),
        HubClient(url, transports=("sse",), options=OPTIONS) as hub,
    ):
        subscription = hub.subscribe("a")
        await subscription.wait_started()
        with pytest.raises(ConnectionLostError):
            await hub.publish("a", "x")
        (item,) = await take(subscription, 1)
    assert item.offset == 1


async def test_a_body_without_end_in_place_of_a_stream_is_not_read_to_its_end() -> None:
    """Something on the way answers with anything but events: the next transport's turn."""

    def endless(request: HttpRequest) -> HttpAnswer:
        if request.path == "/sse":
            return HttpAnswer(403, b"x" * 100, {"Content-Length": "1000000000"}, bare=True)
        return problem(403, "forbidden")

    async with (
        http_hub(endless) as (url, _),
        HubClient(url, transports=("websocket", "sse"), options=OPTIONS) as hub,
    ):
        with pytest.raises(RejectedError, match="xxx"):
            await take(hub.subscribe("a"), 1)


async def test_a_hub_that_says_when_to_come_back_is_not_asked_before() -> None:
    """Retry-After in answer to the handshake, and jitter on top of it."""
    states: asyncio.Queue[ConnectionState] = asyncio.Queue()
    options = ClientOptions(timing=OPTIONS.timing, on_state=states.put_nowait)
    busy = HttpAnswer(503, b"full", {"Retry-After": "7"})
    async with http_hub(lambda _: busy) as (url, _):
        async with HubClient(url, transports=("sse",), options=options) as hub:
            subscription = hub.subscribe("a")
            async with asyncio.timeout(DEADLINE_SECONDS):
                while (state := await states.get()).name != "waiting":
                    pass
            subscription.close()
    assert state.retry_in_seconds is not None
    assert state.retry_in_seconds >= 7


async def test_a_goodbye_that_forbids_to_return_counts_as_a_close_code() -> None:
    """SSE has no close frame: the goodbye's 4401 is the verdict when the stream ends."""
    goodbye = {"op": "goodbye", "code": 4401, "reason": "token expired"}
    async with (
        http_hub(Streams([event(welcome()), event(goodbye), None])) as (url, requests),
        HubClient(url, transports=("sse",), options=OPTIONS) as hub,
    ):
        with pytest.raises(RejectedError, match="token expired"):
            await take(hub.subscribe("a"), 1)
    assert [request.path for request in requests].count("/sse") == 1


async def test_when_every_transport_is_refused_the_client_says_so_and_stops() -> None:
    """403 on all is the hub's word, not a proxy's opinion of WebSockets."""
    async with (
        http_hub(lambda _: problem(403, "forbidden")) as (url, requests),
        HubClient(url, options=OPTIONS) as hub,
    ):
        with pytest.raises(RejectedError, match="forbidden"):
            await take(hub.subscribe("a"), 1)
    asked = [(request.path, "channel" in request.query) for request in requests]
    # Over HTTP once more without the channel, which may be all that is refused.
    over_http = [(path, named) for path in ("/sse", "/poll") for named in (True, False)]
    assert asked == [("/ws", False), *over_http]


def test_events_cut_anywhere_are_read_the_same() -> None:
    """Chunks do not matter; comments and id-only blocks are signs of life."""
    text = b'id: e1:1\nevent: gap\ndata: {"a":1}\n\n: heartbeat\n\nid: a=e1:1\n\nretry: 5\n\n'
    whole = EventParser(max_event_bytes=1000).feed(text)
    parser = EventParser(max_event_bytes=1000)
    pieces = [frame for index in range(len(text)) for frame in parser.feed(text[index : index + 1])]
    assert whole == pieces
    assert [frame for frame in whole if frame] == [b'{"a":1}']
    assert whole.count(b"") >= 3


def test_an_event_over_the_limit_ends_the_connection_for_good() -> None:
    """Coming back would only bring the same event again: the close code forbids it."""
    with pytest.raises(DisconnectedError) as raised:
        EventParser(max_event_bytes=10).feed(b"data: " + b"x" * 20)
    assert raised.value.code == 1009


@pytest.mark.parametrize("end", [b"\n\n", b"\r\n\r\n"])
@pytest.mark.parametrize("lines", [1, 3])
@pytest.mark.parametrize("step", [1, 7, 1000])
def test_an_event_is_read_up_to_its_limit_however_it_comes(
    step: int, lines: int, end: bytes
) -> None:
    """Whole, in pieces and byte by byte; the name of the field is no part of it."""

    def read(size: int) -> list[bytes]:
        first = size // lines
        parts = [first] * (lines - 1) + [size - (first + 1) * (lines - 1)]
        between = end[: len(end) // 2]
        stream = between.join(b"data: " + b"x" * part for part in parts) + end
        parser = EventParser(max_event_bytes=300)
        pieces = [stream[at : at + step] for at in range(0, len(stream), step)]
        return [frame for piece in pieces for frame in parser.feed(piece)]

    (event,) = read(300)
    assert len(event) == 300
    with pytest.raises(DisconnectedError, match=r"over 300 bytes \(max_frame_bytes\)"):
        read(301)


def test_an_event_without_end_of_empty_lines_is_over_the_limit_too() -> None:
    parser = EventParser(max_event_bytes=10)
    parser.feed(b"data:\n" * 11)
    with pytest.raises(DisconnectedError):
        parser.feed(b"data:\n")


def test_a_url_holds_only_channels_that_agree_and_fit() -> None:
    """A channel with another `last` or `fill`, or one too many for the URL, is
    subscribed to by command."""
    long = [{"channel": f"{number}:" + "x" * 190} for number in range(40)]
    wanted: list[Mapping[str, object]] = [
        {"channel": "a+b", "since": "e1:3", "fill": None},
        {"channel": "c", "last": 5, "fill": None},
        {"channel": "d", "fill": None},
        *long,
    ]
    channels, query = url_subscriptions(tuple(wanted))
    assert channels[:2] == ["a+b", "d"]
    assert query.startswith("channel=a%2Bb&since=a%2Bb=e1:3&channel=d&")
    assert 3 < len(channels) < 32
    assert len(query) <= 3000
