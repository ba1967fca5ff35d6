"""Each bound of what the application behind the hub is asked, answers and is told."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, cast

import orjson
import pytest
import structlog

from hub.core.counters import Counters
from hub.hooks import asking, telling
from hub.hooks.answers import HookAnswer, Remembered, read_answer
from hub.hooks.calling import Caller, HookError
from hub.hooks.spans import Spans
from hub.hooks.telling import EventSender

KIB = 1024


# -- answers -----------------------------------------------------------------------------------


def test_the_application_names_a_subject_of_1_to_255_characters() -> None:
    assert read_answer(orjson.dumps({"allow": True, "sub": "é" * 255})).sub == "é" * 255
    for sub in ("", "é" * 256):
        with pytest.raises(ValueError, match="sub must be 1 to 255 characters"):
            read_answer(orjson.dumps({"allow": True, "sub": sub}))


@pytest.mark.parametrize(("seconds", "taken"), [(0.001, True), (0, False), (-1, False)])
def test_an_answer_expires_after_more_than_no_time(seconds: float, taken: bool) -> None:
    body = orjson.dumps({"allow": True, "expires_in_seconds": seconds})
    if taken:
        assert read_answer(body).expires_in_seconds == seconds
        return
    with pytest.raises(ValueError, match="must be a number above 0"):
        read_answer(body)


def test_of_a_reason_200_characters_are_kept() -> None:
    for length in (200, 201):
        read = read_answer(orjson.dumps({"allow": False, "reason": "é" * length}))
        assert read.reason == "é" * 200


def remembered(count: int, size: int) -> Remembered:
    answers = Remembered(60, lambda: 0.0)
    for number in range(count):
        answers.take(number.to_bytes(16), HookAnswer(True, size=size - 516))
    return answers


def test_10000_answers_and_16_mib_of_them_are_remembered() -> None:
    """The oldest goes first."""
    for count in (10_000, 10_001):
        answers = remembered(count, 600)
        assert len(answers) == 10_000
        assert (answers.find((0).to_bytes(16)) is None) is (count == 10_001)
    for more, kept in ((0, 256), (1, 255)):
        answers = remembered(255, 64 * KIB)
        answers.take(b"last", HookAnswer(True, size=64 * KIB - 504 + more))
        assert (len(answers), answers.bytes) == (kept, kept * 64 * KIB + more)


def test_an_answer_is_remembered_for_less_than_its_time() -> None:
    now = 0.0
    answers = Remembered(60, lambda: now)
    answers.take(b"q", HookAnswer(True, expires_in_seconds=10))
    for at, known in ((9.9, True), (10, False)):
        now = at
        assert (answers.find(b"q") is not None) is known


# -- calls -------------------------------------------------------------------------------------


class FakeAnswer:
    """An answer of a library's client, in parts."""

    status_code = 200

    def __init__(self, *parts: bytes) -> None:
        self._parts = parts

    async def aiter_raw(self) -> AsyncIterator[bytes]:
        for part in self._parts:
            yield part


class FakeClient:
    def __init__(self, answer: FakeAnswer, gate: asyncio.Event | None = None) -> None:
        self._answer = answer
        self._gate = gate
        self.asked = 0

    @asynccontextmanager
    async def stream(self, *_request: object, **_fields: object) -> AsyncIterator[FakeAnswer]:
        self.asked += 1
        if self._gate is not None:
            await self._gate.wait()
        yield self._answer


def caller(answer: FakeAnswer, gate: asyncio.Event | None = None) -> Caller:
    made = Caller("http://127.0.0.1:9/", timeout_seconds=3600, connections=1)
    made._client = cast("Any", FakeClient(answer, gate))
    return made


async def test_an_answer_has_up_to_64_kib_and_a_thousand_parts() -> None:
    limit = 64 * KIB
    at = FakeAnswer(b"x" * (limit - 1), b"x"), FakeAnswer(*[b"x"] * 1000)
    for answer in at:
        status, body = await caller(answer).post(b"{}", {})
        assert (status, len(body)) in {(200, limit), (200, 1000)}
    beyond = {
        "answer is longer than 65,536 bytes": FakeAnswer(b"x" * limit, b"x"),
        "answer is in more than 1,000 parts": FakeAnswer(*[b"x"] * 1001),
    }
    for why, answer in beyond.items():
        with pytest.raises(HookError, match=why) as refused:
            await caller(answer).post(b"{}", {})
        assert refused.value.outcome == "too_large"


async def test_2000_calls_wait_for_the_application_and_no_more() -> None:
    gate = asyncio.Event()
    asked = caller(FakeAnswer(b"{}"), gate)
    calls = [asyncio.create_task(asked.post(b"{}", {})) for _ in range(2000)]
    await asyncio.sleep(0)
    with pytest.raises(HookError, match="2,000 calls wait") as refused:
        await asked.post(b"{}", {})
    assert refused.value.outcome == "busy"
    gate.set()
    assert len(await asyncio.gather(*calls)) == 2000
    assert (await asked.post(b"{}", {}))[0] == 200


async def test_64_calls_are_under_way_at_once() -> None:
    gate = asyncio.Event()
    made = Caller("http://127.0.0.1:9/", timeout_seconds=3600)
    client = FakeClient(FakeAnswer(b"{}"), gate)
    made._client = cast("Any", client)
    calls = [asyncio.create_task(made.post(b"{}", {})) for _ in range(66)]
    for _ in range(5):
        await asyncio.sleep(0)
    assert client.asked == 64
    gate.set()
    await asyncio.gather(*calls)
    assert client.asked == 66


def test_the_application_is_told_4096_characters_of_a_header() -> None:
    for length in (4096, 4097):
        assert asking._passed_headers({"cookie": "c" * length, "x": "y"}) == {"cookie": "c" * 4096}


# -- events ------------------------------------------------------------------------------------


class Taking:
    """Takes all events; notes the bodies."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []

    async def post(
        self, body: bytes, _headers: Mapping[str, str], *, whole: object = ()
    ) -> tuple[int, bytes]:
        del whole
        self.bodies.append(body)
        return 200, b""

    async def close(self) -> None:
        """Nothing to close."""


def event_sender() -> tuple[EventSender, Taking]:
    taking = Taking()
    made = EventSender(
        cast("Any", taking),
        events=frozenset({"a"}),
        secret=b"",
        node="n",
        wall_clock=lambda: 1_000_000.0,
        counters=Counters(),
        log=structlog.wrap_logger(structlog.testing.CapturingLogger(), processors=[]),
    )
    return made, taking


def size_of_event(more: int) -> int:
    told, _ = event_sender()
    told.tell("a", {"x": "y" * more})
    return told.waiting_bytes


async def test_a_batch_has_up_to_500_events() -> None:
    for events, batches in ((500, [500]), (501, [500, 1])):
        told, taking = event_sender()
        for _ in range(events):
            told.tell("a", {})
        await told.stop()
        assert [len(orjson.loads(body)["events"]) for body in taking.bodies] == batches


async def test_a_batch_ends_with_the_event_that_makes_it_256_kib() -> None:
    bare = size_of_event(0)
    for size, batches in ((256 * KIB - 1, [2]), (256 * KIB, [1, 1])):
        told, taking = event_sender()
        told.tell("a", {"x": "y" * (size - bare)})
        told.tell("a", {})
        await told.stop()
        assert [len(orjson.loads(body)["events"]) for body in taking.bodies] == batches


async def test_16_mib_of_events_wait_and_the_next_is_dropped_and_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert telling.MAX_WAITING_BYTES == 16 * KIB * KIB
    limit = 2 * size_of_event(100)
    monkeypatch.setattr(telling, "MAX_WAITING_BYTES", limit)
    for size, outcome in ((100, {"delivered": 2}), (101, {"dropped": 1, "delivered": 1})):
        told, _ = event_sender()
        told.tell("a", {"x": "y" * 100})
        told.tell("a", {"x": "y" * size})
        assert told.waiting_bytes <= limit
        await told.stop()
        assert told._counters.webhook_events == outcome


def test_ended_spans_are_known_for_a_minute_and_100000_of_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 0.0
    spans = Spans(lambda: now)
    for name in ("a", "b"):
        spans.begin(name)
    now = 1.0
    spans.end("a")
    now = 61.0
    spans.end("b")
    assert spans.held("a", 0.5)
    spans.begin("c")
    now = 61.5
    spans.end("c")
    assert not spans.held("a", 0.5)
    monkeypatch.setattr("hub.hooks.spans._MAX_ENDED", 2)
    assert spans.held("b", 0.5)
    spans.begin("d")
    spans.end("d")
    assert not spans.held("b", 0.5)
    assert spans.held("c", 61.2)
