"""The publisher for threads, against an HTTP server played by a function, and after a fork."""

import asyncio
import json
import signal
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from hub_client import (
    Batching,
    NotPublishedError,
    OutcomeUnknownError,
    Outgoing,
    Published,
    PublisherOptions,
    PublishRefusedError,
    PublishRetry,
    SyncPublisher,
)
from hub_client.collector import PendingPublication
from hub_client.grouping import ThreadBatcher
from tests.clients.python.fakes import (
    Answer,
    HttpAnswer,
    HttpRequest,
    answers_all,
    http_hub,
    json_answer,
    problem,
)
from tests.support.waiting import eventually

QUICK = PublisherOptions(PublishRetry(for_seconds=5, base_seconds=0.01, cap_seconds=0.02))
BRIEF = PublisherOptions(PublishRetry(for_seconds=0.05, base_seconds=0.01, cap_seconds=0.02))


class Gate:
    """A hub that answers when the test says so."""

    def __init__(self) -> None:
        self.arrived = asyncio.Event()
        self.go = asyncio.Event()

    async def __call__(self, request: HttpRequest) -> HttpAnswer:
        self.arrived.set()
        await self.go.wait()
        return answers_all(request)


@asynccontextmanager
async def publisher(
    answer: Answer, options: PublisherOptions = QUICK
) -> AsyncIterator[tuple[SyncPublisher, list[HttpRequest]]]:
    async with http_hub(answer) as (url, requests):
        with SyncPublisher(url, key="k3y", options=options) as made:
            yield made, requests


async def test_a_publication_from_a_thread_says_where_it_stands() -> None:
    """The same request and the same answer as the asynchronous publisher's."""
    async with publisher(answers_all) as (made, requests):
        result = await asyncio.to_thread(made.publish, "a", 7, key="EURUSD")
    (item,) = requests[0].json
    assert isinstance(result, Published)
    assert (result.position.offset, item["key"], item["data"]) == (7, "EURUSD", 7)
    assert item["idempotency_key"]
    assert requests[0].headers["authorization"] == "Bearer k3y"


async def test_a_retry_from_a_thread_repeats_the_idempotency_key() -> None:
    """The first answer was lost: the second attempt carries the same key."""
    lost = iter([HttpAnswer(drop=True)])

    def answer(request: HttpRequest) -> HttpAnswer:
        return next(lost, None) or answers_all(request)

    async with publisher(answer) as (made, requests):
        await asyncio.to_thread(made.publish, "a", 7)
    keys = [request.json[0]["idempotency_key"] for request in requests]
    assert len(keys) == 2
    assert len(set(keys)) == 1


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (problem(403, "forbidden"), PublishRefusedError),
        (problem(503, "not_published", retryable=True), NotPublishedError),
        (problem(503, "outcome_unknown", retryable=True), OutcomeUnknownError),
        (HttpAnswer(drop=True), OutcomeUnknownError),
    ],
    ids=["refused", "not published", "unknown", "cut"],
)
async def test_each_kind_of_failure_has_its_error(
    answer: HttpAnswer, kind: type[Exception]
) -> None:
    """A caller that catches the error knows whether the publication happened."""
    async with publisher(lambda _: answer, BRIEF) as (made, _):
        with pytest.raises(kind):
            await asyncio.to_thread(made.publish, "a", 1)


async def test_an_answer_that_trickles_is_given_up_like_one_that_does_not_come() -> None:
    """Every byte in time and no end: the request as a whole has a limit."""
    options = PublisherOptions(PublishRetry(for_seconds=0, request_timeout_seconds=2))
    trickle: asyncio.Queue[bytes | None] = asyncio.Queue()

    async def drip() -> None:
        while True:
            trickle.put_nowait(b" ")
            await asyncio.sleep(0.02)

    async with publisher(lambda _: HttpAnswer(stream=trickle), options) as (made, _):
        dripping = asyncio.create_task(drip())
        try:
            with pytest.raises(OutcomeUnknownError, match="no answer in time"):
                await asyncio.to_thread(made.publish, "a", 1)
        finally:
            dripping.cancel()


async def test_publish_many_answers_for_each_item_and_never_raises() -> None:
    """One is refused, its neighbours are published."""
    refused = {"status": 403, "code": "forbidden", "detail": "no", "retryable": False}

    def answer(request: HttpRequest) -> HttpAnswer:
        results: list[object] = json.loads(answers_all(request).body)
        return json_answer([results[0], refused, results[2]], status=207)

    async with publisher(answer) as (made, _):
        items = [Outgoing.of("a", number) for number in range(3)]
        outcomes = await asyncio.to_thread(made.publish_many, items)
    assert [type(outcome) for outcome in outcomes] == [Published, PublishRefusedError, Published]


async def test_threads_that_come_while_the_connection_is_busy_share_the_next_request() -> None:
    """One connection: the first thread sends alone, one of the others for all of them."""
    gate = Gate()
    async with publisher(gate, PublisherOptions(max_connections=1)) as (made, requests):
        first = asyncio.create_task(asyncio.to_thread(made.publish, "a", 1))
        await gate.arrived.wait()
        group = made._process.group
        rest = [asyncio.create_task(asyncio.to_thread(made.publish, "a", n)) for n in range(2, 6)]
        await eventually(lambda: len(group._collector) == 4)
        gate.go.set()
        results = await asyncio.gather(first, *rest)
    assert [result.position.offset for result in results] == [1, 2, 3, 4, 5]
    assert [len(request.json) for request in requests] == [1, 4]


async def test_threads_wait_for_company_no_longer_than_until_a_request_is_full() -> None:
    """Four threads, four items to a request, an hour to wait: it goes out when it is full."""
    batching = Batching(max_items=4, max_wait_seconds=3600)
    async with publisher(answers_all, PublisherOptions(batching=batching)) as (made, requests):
        calls = (asyncio.to_thread(made.publish, "a", number) for number in range(4))
        await asyncio.gather(*calls)
    assert [len(request.json) for request in requests] == [4]


async def test_closing_ends_a_retry_under_way_in_another_thread() -> None:
    """Nobody waits half a minute for the end of a process."""
    async with publisher(
        lambda _: problem(503, "outcome_unknown", retryable=True),
        PublisherOptions(PublishRetry(for_seconds=3600, base_seconds=3600, cap_seconds=3600)),
    ) as (made, requests):
        call = asyncio.create_task(asyncio.to_thread(made.publish, "a", 1))
        await eventually(lambda: len(requests) == 1)
        await asyncio.to_thread(made.close)
        with pytest.raises(OutcomeUnknownError):
            await call
        with pytest.raises(NotPublishedError, match="closed"):
            made.publish("a", 2)


class SoftTimeLimitError(Exception):
    """The error that a signal handler raises at any moment, as Celery's does."""


def test_an_exception_in_the_thread_that_sends_does_not_leave_the_others_waiting() -> None:
    """They hear that nobody knows what became of their publications."""
    taken, both = threading.Event(), threading.Event()

    def deliver(items: "list[Outgoing]", settle: object) -> None:
        taken.set()
        assert both.wait(10)
        unknown = [OutcomeUnknownError("x", "x", idempotency_key="k") for _ in items]
        assert callable(settle)
        settle(tuple(unknown))
        raise SoftTimeLimitError

    batching = Batching(max_items=2, max_wait_seconds=3600)
    group = ThreadBatcher(batching, deliver, max_senders=1, patience_seconds=10)
    outcomes: list[object] = []

    def call() -> None:
        try:
            outcomes.append(group.publish(Outgoing.of("a", 1)))
        except SoftTimeLimitError as error:
            outcomes.append(error)

    threads = [threading.Thread(target=call) for _ in range(2)]
    for thread in threads:
        thread.start()
    assert taken.wait(10)
    both.set()
    for thread in threads:
        thread.join(10)
    kinds = {type(outcome) for outcome in outcomes}
    assert kinds == {SoftTimeLimitError, OutcomeUnknownError}


def test_a_sender_that_never_comes_back_is_given_up() -> None:
    """Every wait has an end, and the outcome of the publications that the
    sender had taken is unknown."""
    group = ThreadBatcher(
        Batching(), lambda _items, _settle: None, max_senders=1, patience_seconds=0.01
    )
    lost = PendingPublication(Outgoing.of("a", 1))
    lost.taken = True
    assert group._turn(lost) == []
    assert isinstance(group.publish(Outgoing.of("a", 1)), OutcomeUnknownError)


INTERRUPTED = """
import signal, sys
from hub_client import PublisherOptions, SyncPublisher

class SoftTimeLimit(Exception): ...

def interrupt(*_): raise SoftTimeLimit

signal.signal(signal.SIGUSR1, interrupt)
publisher = SyncPublisher(sys.argv[1], options=PublisherOptions(max_connections=1))
try:
    publisher.publish("a", 1)
except SoftTimeLimit:
    print("interrupted", publisher.publish("a", 2).position.offset, flush=True)
"""


async def test_a_signal_in_the_middle_of_a_call_leaves_the_publisher_usable() -> None:
    """As Celery's soft time limit does; the next call gets an answer of its own."""
    gate = Gate()
    async with http_hub(gate) as (url, _):
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", INTERRUPTED, url), stdout=asyncio.subprocess.PIPE
        )
        await gate.arrived.wait()
        process.send_signal(signal.SIGUSR1)
        gate.go.set()
        async with asyncio.timeout(30):
            said, _ = await process.communicate()
    assert said.split() == [b"interrupted", b"2"]
