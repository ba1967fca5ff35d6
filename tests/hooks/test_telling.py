"""A real node tells a real small application of events; signatures are checked by the standard."""

import asyncio
import base64
import hashlib
import hmac
from collections.abc import AsyncIterator
from typing import Any

import pytest
import structlog

from hub import Hub, Settings
from hub.core.counters import Counters
from hub.hooks import telling
from hub.hooks.calling import Caller
from hub.hooks.spans import Spans
from hub.hooks.telling import EventSender
from tests.support.application import Answer, Application, Asked, says
from tests.transports.peers import Query, WebSocketPeer, http_client

KEY = b"0123456789abcdef01234567"
SECRET = f"whsec_{base64.b64encode(KEY).decode()}"
ALL = frozenset({"a", "b"})


@pytest.fixture
async def app() -> AsyncIterator[Application]:
    async with Application() as app:
        yield app


def check_signature(asked: Asked, key: bytes) -> None:
    """As the specification says, without any code of the hub's."""
    id_, at = asked.headers["webhook-id"], asked.headers["webhook-timestamp"]
    signed = id_.encode() + b"." + at.encode() + b"." + asked.body
    version, made = asked.headers["webhook-signature"].split(",")
    assert version == "v1"
    assert base64.b64decode(made) == hmac.digest(key, signed, hashlib.sha256)


def events(app: Application) -> list[Any]:
    return [event for asked in app.asked for event in asked.json["events"]]


def event_sender(app: Application, secret: bytes = KEY) -> EventSender:
    """One that does not wait between attempts."""

    async def at_once(_seconds: float) -> None:
        await asyncio.sleep(0)

    return EventSender(
        Caller(app.url, timeout_seconds=5),
        events=ALL,
        secret=secret,
        node="n",
        wall_clock=lambda: 1_000_000.0,
        counters=Counters(),
        log=structlog.get_logger(),
        sleep=at_once,
    )


async def test_data_that_a_member_shows_is_told_with_it(app: Application, channel: str) -> None:
    """As it is when it comes, and when it goes."""
    settings = Settings(
        port=0, drain_seconds=0, webhook_url=app.url, presence=True, leave_delay_seconds=0
    )
    async with Hub(settings) as hub:
        async with WebSocketPeer(hub.url, Query(), {}) as peer:
            shown = {"data": {"n": 12345678901234567890}}
            await peer.command(op="subscribe", channel=channel, presence=shown)
            await peer.command(op="presence_update", channel=channel, data=["later"])
        await app.until(lambda: any(each["type"] == "member.left" for each in events(app)))
    told = {each["type"]: each for each in events(app)}
    assert told["member.joined"]["data"] == {"n": 12345678901234567890}
    assert told["member.left"]["data"] == ["later"]
    assert "data" not in told["session.opened"]


async def test_an_application_is_told_what_happened(app: Application, channel: str) -> None:
    """Sessions, channels and members, from the first to the last of each."""
    settings = Settings(
        port=0,
        drain_seconds=0,
        webhook_url=app.url,
        webhook_secret=SECRET,
        presence=True,
        leave_delay_seconds=0,
    )
    async with Hub(settings) as hub:
        async with (
            WebSocketPeer(hub.url, Query(channel), {}) as one,
            WebSocketPeer(hub.url, Query(channel), {}) as two,
        ):
            connections = {one.welcome["connection"], two.welcome["connection"]}
        await app.until(lambda: any(each["type"] == "channel.vacated" for each in events(app)))
    for asked in app.asked:
        check_signature(asked, KEY)
    told = events(app)
    assert len({each["node"] for each in told}) == 1
    kinds = [each["type"] for each in told]
    for once in ("channel.occupied", "channel.vacated"):
        assert [each["channel"] for each in told if each["type"] == once] == [channel]
    for twice in ("member.joined", "member.left", "session.opened", "session.closed"):
        assert kinds.count(twice) == 2, kinds
        assert {each["connection"] for each in told if each["type"] == twice} == connections
    closed = next(each for each in told if each["type"] == "session.closed")
    assert (closed["transport"], closed["address"]) == ("websocket", "127.0.0.1")
    assert isinstance(closed["code"], int)


async def test_only_the_events_of_the_setting_are_told(app: Application, channel: str) -> None:
    settings = Settings(
        port=0, drain_seconds=0, webhook_url=app.url, webhook_events="channel.occupied"
    )
    async with Hub(settings) as hub, WebSocketPeer(hub.url, Query(channel), {}):
        await app.until(lambda: bool(app.asked))
        async with http_client(base_url=hub.url) as http:
            page = (await http.get("/metrics")).text
    assert {each["type"] for each in events(app)} == {"channel.occupied"}
    assert 'hub_webhook_events_total{outcome="delivered"}' in page
    assert "webhook-signature" not in app.asked[0].headers


async def test_events_that_still_wait_are_told_when_the_node_stops(
    app: Application, channel: str
) -> None:
    settings = Settings(port=0, drain_seconds=0, webhook_url=app.url)
    async with Hub(settings) as hub, WebSocketPeer(hub.url, Query(channel), {}):
        pass
    assert "session.closed" in [each["type"] for each in events(app)]


async def test_events_that_come_together_are_one_request(app: Application) -> None:
    told = event_sender(app)
    for number in range(700):
        told.tell("a", {"number": number})
    told.tell("unwanted", {})
    told.start()
    await app.until(lambda: len(app.asked) == 2)
    await told.stop()
    assert [each["number"] for each in events(app)] == list(range(700))
    assert told.waiting_bytes == 0


async def test_an_event_that_is_not_taken_is_sent_again_under_its_name(app: Application) -> None:
    answers = iter([(500, b""), (400, b""), (302, b""), says()])

    async def at_last(_asked: Asked) -> Answer:
        return next(answers)

    app.answer = at_last
    told = event_sender(app)
    told.tell("a", {})
    told.start()
    await app.until(lambda: len(app.asked) == 4)
    await told.stop()
    assert len({asked.headers["webhook-id"] for asked in app.asked}) == 1
    assert len({asked.body for asked in app.asked}) == 1
    for asked in app.asked:
        check_signature(asked, KEY)
    assert told._counters.webhook_events["delivered"] == 1
    assert told._counters.webhook_failures == 3


async def test_an_event_that_nobody_takes_is_given_up_counted_and_logged(
    app: Application, capsys: pytest.CaptureFixture[str]
) -> None:
    async def never(asked: Asked) -> Answer:
        return (500, b"") if b'"first"' in asked.body else says()

    app.answer = never
    told = event_sender(app)
    told.start()
    told.tell("a", {"which": "first"})
    await app.until(lambda: len(app.asked) == 8)
    told.tell("a", {"which": "second"})
    await app.until(lambda: b"second" in app.asked[-1].body)
    await told.stop()
    assert len(app.asked) == 8 + 1
    assert told._counters.webhook_events == {"given_up": 1, "delivered": 1}
    assert "webhook_events_lost" in capsys.readouterr().out


async def test_events_that_wait_are_bounded_in_bytes(
    app: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(telling, "MAX_WAITING_BYTES", 1000)
    told = event_sender(app)
    for _ in range(100):
        told.tell("a", {"x": "y" * 50})
    assert told.waiting_bytes <= 1000
    kept = len(told._waiting)
    await told.stop()
    assert told._counters.webhook_events == {"dropped": 100 - kept, "delivered": kept}


def test_a_moment_is_held_from_begin_to_end() -> None:
    now = 0.0
    spans = Spans(lambda: now)
    now = 10.0
    assert spans.begin("a") == 10.0
    assert spans.begin("a") is None
    assert [spans.held("a", at) for at in (9.0, 10.0, 11.0)] == [False, False, True]
    now = 20.0
    assert spans.end("a") == 20.0
    assert spans.end("a") is None
    assert [spans.held("a", at) for at in (10.0, 15.0, 20.0, 25.0)] == [False, True, False, False]
    for second in range(1000):
        now = 100.0 + second
        spans.begin("b")
        now += 0.5
        spans.end("b")
    assert not spans.held("a", 15.0)
    assert len(spans._order) <= 62
