"""A connection has to prove itself: what passes a welcome and nothing else is not used."""

import asyncio
from collections.abc import Sequence

from hub_client import ClientOptions, ConnectionState, HubClient, Message, ReconnectTiming
from tests.clients.python.fakes import (
    DEADLINE_SECONDS,
    PROVED,
    HttpAnswer,
    HttpRequest,
    Json,
    event,
    http_hub,
    is_probe,
    json_answer,
    message,
    problem,
    proved,
    subscribed,
    welcome,
)

# A heartbeat takes longer than a test waits: only the probe can find out.
HEARTBEAT_SECONDS = 10 * DEADLINE_SECONDS
TIMING = ReconnectTiming(0.01, 0.05)
# Of a stream that is held back; a poll that works must be quicker.
IMPATIENT = ReconnectTiming(0.01, 0.05, open_timeout_seconds=2)


def polled(*pushes: Json, at: str) -> HttpAnswer:
    told = {"pushes": pushes, "positions": {"a": at}, "welcome": welcome(HEARTBEAT_SECONDS)}
    return json_answer(told)


class HalfOpen:
    """Server-sent events beginning with a welcome, and polls that work.

    Args:
        begins: what the stream brings after the welcome, whatever is asked for.
        answer: how a POST is answered while there is only the stream.
        stream: whether the answer to a probe stands in the stream.
    """

    def __init__(
        self, *, begins: Sequence[Json] = (), answer: HttpAnswer | None = None, stream: bool = False
    ) -> None:
        self._begins = begins
        self._answer = answer or json_answer(PROVED)
        self._stream = stream
        self._open: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._polls = iter([polled(subscribed("a", "e1:0"), message("a", 1), at="e1:1")])

    def __call__(self, request: HttpRequest) -> HttpAnswer:
        if request.path == "/command":
            if self._stream and is_probe(request.json):
                return proved(self._open)
            return self._answer
        if request.path == "/poll":
            return next(self._polls, HttpAnswer(stream=asyncio.Queue()))
        for push in (welcome(HEARTBEAT_SECONDS), *self._begins):
            self._open.put_nowait(event(push))
        return HttpAnswer(stream=self._open)


async def first_message(answer: HalfOpen, timing: ReconnectTiming) -> tuple[Message, str]:
    """Returns the first message and the transport over which it came."""
    states: list[ConnectionState] = []
    options = ClientOptions(timing=timing, on_state=states.append)
    async with (
        http_hub(answer) as (url, _),
        HubClient(url, transports=("sse", "poll"), options=options) as hub,
    ):
        async with asyncio.timeout(DEADLINE_SECONDS):
            item = await anext(hub.subscribe("a"))
    return item, [state.transport for state in states if state.name == "connected"][-1]


async def test_a_stream_held_back_after_its_welcome_is_left_before_a_heartbeat_is_missed() -> None:
    """Commands are answered, and the stream brings none of it: polling does."""
    item, transport = await first_message(HalfOpen(), IMPATIENT)
    assert (item.offset, transport) == (1, "poll")


async def test_a_stream_whose_commands_are_forbidden_on_the_way_is_left_at_once() -> None:
    """Some proxies allow a GET and no POST. Whoever polls may at least read."""
    forbidden = HttpAnswer(403, b"no POST here")
    patient = ReconnectTiming(0.01, 0.05, open_timeout_seconds=10 * DEADLINE_SECONDS)
    item, transport = await first_message(HalfOpen(answer=forbidden), patient)
    assert (item.offset, transport) == (1, "poll")


async def test_a_hub_that_puts_the_probe_off_is_asked_again_by_the_same_transport() -> None:
    """429 is no block on the way: after the back-off the stream has its next chance."""
    busy = iter([problem(429, "rate_limited", retryable=True)])

    class Busy(HalfOpen):
        def __call__(self, request: HttpRequest) -> HttpAnswer:
            put_off = next(busy, None) if request.path == "/command" else None
            return put_off or super().__call__(request)

    hub = Busy(begins=[subscribed("a", "e1:0"), message("a", 7)], stream=True)
    item, transport = await first_message(hub, TIMING)
    assert (item.offset, transport) == (7, "sse")


async def test_messages_before_the_proof_reach_the_application_first_and_in_order() -> None:
    """A subscription of the URL begins with the stream, before the ping is answered."""
    before = [subscribed("a", "e1:0"), *(message("a", offset) for offset in range(1, 4))]
    async with (
        http_hub(HalfOpen(begins=before, stream=True)) as (url, _),
        HubClient(url, transports=("sse",), options=ClientOptions(timing=TIMING)) as hub,
    ):
        subscription = hub.subscribe("a")
        async with asyncio.timeout(DEADLINE_SECONDS):
            items = [await anext(subscription) for _ in range(3)]
    assert [item.offset for item in items] == [1, 2, 3]
