"""Publications are batched into requests, and a caller who leaves early harms no other."""

import asyncio
from contextlib import suppress

import pytest

from hub_client import (
    Batching,
    NotPublishedError,
    OutcomeUnknownError,
    Outgoing,
    Published,
    Publisher,
    PublisherOptions,
    PublishError,
    PublishRefusedError,
    PublishRetry,
)
from tests.benchmarks.publish_cost import CountingSelector
from tests.clients.python.fakes import (
    DEADLINE_SECONDS,
    HttpAnswer,
    HttpRequest,
    answers_all,
    http_hub,
    problem,
)

QUICK = PublisherOptions(PublishRetry(for_seconds=5, base_seconds=0.01, cap_seconds=0.02))


async def test_publications_of_tasks_at_once_travel_in_one_request_in_their_order() -> None:
    """Ten tasks, one request, and each task its own answer."""
    async with (
        http_hub(answers_all) as (url, requests),
        Publisher(url) as publisher,
    ):
        results = await asyncio.gather(*(publisher.publish("a", n) for n in range(1, 11)))
    assert [[item["data"] for item in request.json] for request in requests] == [[*range(1, 11)]]
    assert [result.position.offset for result in results] == [*range(1, 11)]


async def test_publications_that_come_while_all_connections_are_busy_travel_together_next() -> None:
    """One connection: the first goes alone, the others wait and share the second request."""
    arrived, go = asyncio.Event(), asyncio.Event()

    async def slow(request: HttpRequest) -> HttpAnswer:
        arrived.set()
        await go.wait()
        return answers_all(request)

    async with (
        http_hub(slow) as (url, requests),
        Publisher(url, options=PublisherOptions(max_connections=1)) as publisher,
    ):
        first = asyncio.create_task(publisher.publish("a", 1))
        await arrived.wait()
        rest = [asyncio.create_task(publisher.publish("a", n)) for n in (2, 3, 4)]
        await asyncio.sleep(0)
        go.set()
        await asyncio.gather(first, *rest)
    assert [[item["data"] for item in request.json] for request in requests] == [[1], [2, 3, 4]]


async def test_a_list_of_any_length_goes_out_in_requests_of_bounded_size() -> None:
    """`publish_many` takes a generator; no request is over the limits in items and bytes."""
    options = PublisherOptions(batching=Batching(max_items=100, max_bytes=8_000))
    async with (
        http_hub(answers_all) as (url, requests),
        Publisher(url, options=options) as publisher,
    ):
        outcomes = await publisher.publish_many(Outgoing.of("a", n) for n in range(250))
    assert [item.position.offset for item in outcomes if isinstance(item, Published)] == [
        *range(250)
    ]
    assert max(len(request.json) for request in requests) <= 100
    assert max(len(request.body) for request in requests) <= 8_000
    assert [item["data"] for request in requests for item in request.json] == [*range(250)]


async def test_a_bad_publication_does_not_take_its_neighbours_with_it() -> None:
    """The hub refuses a whole request for one item: the others are published all the same."""

    def fussy(request: HttpRequest) -> HttpAnswer:
        if any(item["data"] == 5 for item in request.json):
            return problem(400, "bad_request")
        return answers_all(request)

    async with http_hub(fussy) as (url, _), Publisher(url, options=QUICK) as publisher:
        outcomes = await publisher.publish_many(Outgoing.of("a", n) for n in range(8))
    assert [isinstance(item, Published) for item in outcomes] == [n != 5 for n in range(8)]
    assert isinstance(outcomes[5], PublishRefusedError)


async def test_a_cancelled_call_that_was_not_sent_does_not_happen() -> None:
    """The call is taken out of the queue, and the hub never sees it."""
    options = PublisherOptions(batching=Batching(max_wait_seconds=60))
    async with (
        http_hub(answers_all) as (url, requests),
        Publisher(url, options=options) as publisher,
    ):
        call = asyncio.create_task(publisher.publish("a", 1))
        await asyncio.sleep(0)
        call.cancel()
        await asyncio.wait([call])
    assert call.cancelled()
    assert requests == []


async def test_a_cancelled_call_does_not_take_those_that_travel_with_it() -> None:
    """Two in one request, one gives up: the other gets its answer."""
    arrived, go = asyncio.Event(), asyncio.Event()

    async def slow(request: HttpRequest) -> HttpAnswer:
        arrived.set()
        await go.wait()
        return answers_all(request)

    async with http_hub(slow) as (url, _), Publisher(url) as publisher:
        kept, given_up = (asyncio.create_task(publisher.publish("a", n)) for n in (1, 2))
        await arrived.wait()
        given_up.cancel()
        go.set()
        assert (await kept).position.offset == 1
    assert given_up.cancelled()


async def test_leaving_normally_waits_for_publications_of_other_tasks() -> None:
    """`async with` ends when what was asked for has its outcome."""
    async with http_hub(answers_all) as (url, requests):
        async with Publisher(url) as publisher:
            call = asyncio.create_task(publisher.publish("a", 1))
            await asyncio.sleep(0)
        assert call.done()
        assert (await call).position.offset == 1
        with pytest.raises(NotPublishedError, match="closed"):
            await publisher.publish("a", 2)
    assert len(requests) == 1


async def test_leaving_by_an_error_waits_for_nobody_and_says_what_is_known() -> None:
    """The outcome of a publication that was sent is unknown; one that was still
    queued was not published."""
    arrived = asyncio.Event()

    async def silent(_: HttpRequest) -> HttpAnswer:
        arrived.set()
        await asyncio.Event().wait()
        raise AssertionError

    async with http_hub(silent) as (url, _):
        publisher = Publisher(url, options=PublisherOptions(max_connections=1))
        with suppress(KeyError):
            async with publisher:
                sent = asyncio.create_task(publisher.publish("a", 1))
                await arrived.wait()
                queued = asyncio.create_task(publisher.publish("a", 2))
                await asyncio.sleep(0)
                raise KeyError
        with pytest.raises(OutcomeUnknownError):
            await sent
        with pytest.raises(NotPublishedError):
            await queued


async def test_a_publication_after_another_takes_three_turns_of_the_loop() -> None:
    """Sending, reading and going on take one turn of the loop each, and nothing else takes one.

    Counted where nobody else uses the loop, because a hub in it would take turns of its own.
    """
    number = 50
    async with http_hub(answers_all) as (url, _):
        turns = await asyncio.to_thread(_turns_of_a_loop, url, number)
    assert turns <= 3 * number


def _turns_of_a_loop(url: str, number: int) -> int:
    selector = CountingSelector()

    async def publish() -> int:
        async with Publisher(url) as publisher:
            await publisher.publish("a", 0)  # connects
            before = selector.turns
            for n in range(number):
                await publisher.publish("a", n)
            return selector.turns - before

    with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(selector)) as runner:
        return runner.run(publish())


async def test_leaving_by_an_error_gives_up_what_a_kept_connection_was_sent() -> None:
    """The publication may have happened, as one on a new connection may have."""
    arrived = asyncio.Event()

    async def once(request: HttpRequest) -> HttpAnswer:
        if request.json[0]["data"] == 1:
            return answers_all(request)
        arrived.set()
        await asyncio.Event().wait()
        raise AssertionError

    async with http_hub(once) as (url, _):
        with suppress(KeyError):
            async with Publisher(url) as publisher:
                await publisher.publish("a", 1)
                sent = asyncio.create_task(publisher.publish("a", 2))
                await arrived.wait()
                raise KeyError
        with pytest.raises(OutcomeUnknownError, match="interrupted"):
            await sent


async def test_two_that_close_a_publisher_both_wait_for_what_is_under_way() -> None:
    """Neither is left waiting for ever."""
    arrived, go = asyncio.Event(), asyncio.Event()

    async def slow(request: HttpRequest) -> HttpAnswer:
        arrived.set()
        await go.wait()
        return answers_all(request)

    async with http_hub(slow) as (url, _):
        publisher = Publisher(url)
        call = asyncio.create_task(publisher.publish("a", 1))
        await arrived.wait()
        closing = [asyncio.create_task(publisher.close()) for _ in range(2)]
        await asyncio.sleep(0)
        go.set()
        async with asyncio.timeout(DEADLINE_SECONDS):
            await asyncio.gather(*closing)
        assert (await call).position.offset == 1


async def test_more_than_may_wait_wait_for_their_turn() -> None:
    """Memory has a bound, and nobody is refused while the hub takes what there is."""
    options = PublisherOptions(batching=Batching(max_items=3, max_waiting_items=5))
    async with (
        http_hub(answers_all) as (url, requests),
        Publisher(url, options=options) as publisher,
    ):
        calls = [asyncio.create_task(publisher.publish("a", n)) for n in range(50)]
        most = 0
        while not all(call.done() for call in calls):
            most = max(most, len(publisher._collector))
            await asyncio.sleep(0)
    assert [(await call).position.offset for call in calls] == list(range(50))
    assert most <= 5
    assert max(len(request.json) for request in requests) == 3


async def test_a_full_window_waits_for_no_more_company() -> None:
    """Nobody else comes before something has left."""
    options = PublisherOptions(batching=Batching(max_waiting_items=2, max_wait_seconds=3600))
    async with http_hub(answers_all) as (url, _), Publisher(url, options=options) as publisher:
        async with asyncio.timeout(DEADLINE_SECONDS):
            calls = [asyncio.create_task(publisher.publish("a", n)) for n in (1, 2, 3)]
            assert [(await call).position.offset for call in calls[:2]] == [1, 2]
            # Closing waits for no company either: the third had its turn.
            await publisher.close()
            assert (await calls[2]).position.offset == 3


async def test_a_turn_is_given_up_where_the_hub_takes_nothing() -> None:
    """All that wait are given up in the same moment, and surely did not happen."""

    async def silent(_: HttpRequest) -> HttpAnswer:
        await asyncio.Event().wait()
        raise AssertionError

    retry = PublishRetry(for_seconds=0, request_timeout_seconds=0.2)
    options = PublisherOptions(retry=retry, batching=Batching(max_waiting_items=1), breaker=None)
    async with http_hub(silent) as (url, _), Publisher(url, options=options) as publisher:
        calls = (publisher.publish("a", n) for n in range(20))
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
    codes = [outcome.code for outcome in outcomes if isinstance(outcome, PublishError)]
    assert len(codes) == 20
    assert codes.count("overloaded") >= 16


@pytest.mark.parametrize("data", [b"", b'{"a":', b'1},{"channel":"b","data":2', b"1 2"])
def test_bytes_that_are_not_one_json_document_are_refused_before_they_travel(data: bytes) -> None:
    """A second document in the bytes would become a publication of its own."""
    with pytest.raises(ValueError, match="no JSON"):
        Outgoing("a", data)
