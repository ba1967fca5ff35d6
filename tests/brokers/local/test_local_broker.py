"""Workers on one broker process: one order, and what happens when the way to it breaks."""

import asyncio
import socket
from collections.abc import AsyncGenerator

import pytest

from hub.brokers.local import frames, link, server
from hub.brokers.local.workers import WorkerConnection
from hub.core.options import ChannelOptions, Namespaces
from hub.core.ports import PublishRequest, PublishResult
from hub.core.pushes import GapReason, PresenceReset
from hub.errors import (
    ConflictError,
    HubError,
    NotPublishedError,
    OutcomeUnknownError,
    UnavailableError,
)
from tests.brokers.local.rig import Machine, Worker, machine
from tests.support.waiting import eventually


@pytest.fixture
async def made() -> AsyncGenerator[Machine]:
    async with machine() as made:
        yield made


def offsets(worker: Worker) -> list[int]:
    return [publication.offset for publication in worker.delivered]


async def test_all_workers_see_one_order(made: Machine) -> None:
    """The order is the same whichever worker publishes, and each publication comes once."""
    workers = [await made.worker() for _ in range(3)]
    for worker in workers:
        await worker.subscribe("a")
    results = await asyncio.gather(*(workers[n % 3].publish(data=b"%d" % n) for n in range(300)))
    assert sorted(result.offset for result in results) == list(range(1, 301))
    await eventually(lambda: all(len(worker.delivered) == 300 for worker in workers))
    assert workers[0].delivered == workers[1].delivered == workers[2].delivered
    assert offsets(workers[0]) == list(range(1, 301))


async def test_a_publication_goes_only_to_workers_that_follow_its_channel(made: Machine) -> None:
    one, other = await made.worker(), await made.worker()
    await one.subscribe("a")
    await other.publish("a")
    await other.publish("b")
    await eventually(lambda: one.delivered)
    assert made.process.server.publications == 2
    assert [p.channel for p in one.delivered] == ["a"]
    assert other.counters.broker_received == 0


async def test_an_idempotency_key_holds_over_workers(made: Machine) -> None:
    one, other = await made.worker(), await made.worker()
    first = await one.publish(idempotency_key="i")
    again = await other.publish(idempotency_key="i")
    assert (again.position, again.duplicate) == (first.position, True)


async def test_publications_that_came_while_a_worker_was_cut_off_are_read(made: Machine) -> None:
    """They come in order, each once, and no gap is announced."""
    one, other = await made.worker("one"), await made.worker("other")
    await one.subscribe("long:a")
    await other.publish("long:a")
    await eventually(lambda: one.delivered)
    # Before the worker can notice.
    made.process.cut()
    await other.is_down()
    await other.is_up()
    await asyncio.gather(*(other.publish("long:a") for _ in range(400)))
    await eventually(lambda: len(one.delivered) == 401)
    assert offsets(one) == list(range(1, 402))
    assert (one.gaps, one.resets) == ([], [])


async def test_publications_that_history_has_not_are_announced(made: Machine) -> None:
    """The channel keeps five, ten came."""
    one, other = await made.worker("one"), await made.worker("other")
    await one.subscribe("a")
    await other.publish()
    await eventually(lambda: one.delivered)
    # Only this one stays away.
    one.link._connect = _refused
    one.link.reconnect()
    await one.is_down()
    for _ in range(10):
        await other.publish()
    one.link._connect = made.process.connect
    await eventually(lambda: len(one.delivered) == 6)
    assert offsets(one) == [1, *range(7, 12)]
    (gap,) = one.gaps
    assert (gap.first, gap.last, gap.reason) == (2, 6, GapReason.BROKER)


def _refused() -> socket.socket:
    raise ConnectionRefusedError


async def test_a_broker_process_that_began_anew_is_a_reset(made: Machine) -> None:
    """The reset comes first and then the publications of the new epoch,
    and no offset comes twice."""
    one, other = await made.worker("one"), await made.worker("other")
    before = await one.subscribe("a")
    await one.publish()
    made.process.die()
    await one.is_down()
    await other.is_down()
    one.link._connect = _refused
    made.process.begin()
    await other.is_up()
    for _ in range(3):
        await other.publish()
    one.link._connect = made.process.connect
    await eventually(lambda: len(one.delivered) == 4)
    ((channel, head),) = one.resets
    assert (channel, head.offset) == ("a", 0)
    assert head.epoch != before.epoch
    assert offsets(one) == [1, 1, 2, 3]
    assert (await one.publish()).position.epoch == head.epoch


async def test_rows_of_an_epoch_that_a_worker_has_not_reached_wait_until_it_has(
    made: Machine,
) -> None:
    """A session that began with such rows would be set back, as with pages of history."""
    one = await made.worker()
    before = await one.subscribe("table:a")
    made.process.die()
    await one.is_down()
    made.process.begin()
    while not one.link.is_up:
        await asyncio.sleep(0)
    page = await one.local.state("table:a", "", 10)
    assert page.head.epoch != before.epoch
    assert [head for _, head in one.resets] == [page.head]


async def test_without_a_broker_process_nothing_is_published_and_that_is_known(
    made: Machine,
) -> None:
    one = await made.worker()
    made.process.die()
    await one.is_down()
    with pytest.raises(NotPublishedError):
        await one.publish()
    with pytest.raises(UnavailableError):
        await one.subscribe("b")
    with pytest.raises(UnavailableError):
        await one.history("b")
    assert one.local.problems() == ("the broker process cannot be reached",)
    made.process.begin()
    await one.is_up()
    await one.publish()
    assert one.local.problems() == ()


async def test_a_publication_that_was_sent_and_not_answered_may_have_been_published(
    made: Machine,
) -> None:
    one = await made.worker()
    publishing = asyncio.create_task(one.publish())
    await asyncio.sleep(0)
    assert one.link.pending == 1
    made.process.die()
    with pytest.raises(OutcomeUnknownError):
        await publishing


async def test_a_call_that_is_not_answered_in_time_fails(made: Machine) -> None:
    """The deadline is counted by the worker's clock; a late answer is dropped."""
    one = await made.worker()
    one.link._handlers[frames.PUBLISHED] = lambda _: None  # never seen
    publishing = asyncio.create_task(one.publish())
    await eventually(lambda: made.process.server.publications == 1)
    made.process.clock.advance(link.CALL_SECONDS + 0.1)
    one.local.sweep()
    with pytest.raises(OutcomeUnknownError):
        await publishing


async def test_a_broker_process_that_stands_still_is_left(made: Machine) -> None:
    """The worker says that it is not ready, and makes its connection anew."""
    one = await made.worker()
    connects = one.counters.broker_connects["commands"]
    one.link._on_messages = lambda _messages: None  # type: ignore[assignment, method-assign]  # deaf
    made.process.clock.advance(link.DEAF_SECONDS + 1)
    assert "silent" in one.local.problems()[0]
    del one.link._on_messages
    one.local.sweep()
    await eventually(lambda: one.counters.broker_connects["commands"] == connects + 1)
    assert one.local.problems() == ()


async def test_calls_are_bounded_in_bytes(made: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A publication above the bound is refused and does not reach the history."""
    monkeypatch.setattr(link, "MAX_CALL_BYTES", 1000)
    one = await made.worker()
    results = await asyncio.gather(
        *(one.publish(data=b'"' + b"x" * 298 + b'"') for _ in range(5)), return_exceptions=True
    )
    assert [isinstance(result, NotPublishedError) for result in results] == [
        False, False, False, True, True
    ]  # fmt: skip
    assert (await one.history()).head.offset == 3
    await one.publish()


async def test_a_worker_that_takes_nothing_is_cut_off_and_reads_it_later(
    made: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The broker process holds a bounded number of bytes for a worker,
    so it cuts off a slow one."""
    one, other = await made.worker("one"), await made.worker("other")
    await one.subscribe("long:a")
    await eventually(lambda: len(made.process.server._channels._channels) == 1)
    (reader,) = made.process.server._channels._channels["long:a"].workers
    reader.frames._max_waiting_bytes = 100_000
    transport = one.link._frames._transport  # type: ignore[union-attr]
    transport.pause_reading()  # type: ignore[union-attr]
    data = b'"' + b"x" * 20_000 + b'"'
    for _ in range(100):
        await other.publish("long:a", data)
    transport.resume_reading()  # type: ignore[union-attr]
    await eventually(lambda: len(one.delivered) == 100)
    assert one.counters.broker_connects["commands"] == 2
    assert offsets(one) == list(range(1, 101))
    assert one.gaps == []


async def test_a_peer_of_another_version_is_refused(made: Machine) -> None:
    """Two versions would lose fields that only one of them knows, so the
    worker and the process part."""
    lost = asyncio.Event()
    said: list[frames.Message] = []
    peer = frames.Frames(on_messages=said.extend, on_lost=lost.set)
    end = made.process.connect()
    end.setblocking(False)
    await asyncio.get_running_loop().create_connection(lambda: peer, sock=end)
    peer.send((frames.HELLO, "0-other", "tag"))
    await asyncio.wait_for(lost.wait(), 30)
    assert said == [[frames.WELCOME, frames.SHAPE]]
    worker = await made.worker()
    worker.link._welcomed((frames.WELCOME, "0-other"))
    assert "another version" in worker.local.problems()[0]


async def test_an_unsubscribed_channel_is_followed_no_more(made: Machine) -> None:
    """The broker process does not follow it for the worker either, and the
    channel's offsets go on."""
    one = await made.worker()
    await one.subscribe("a")
    one.local.unsubscribe("a")
    assert (await one.publish()).offset == 1
    assert one.delivered == []
    await eventually(lambda: not made.process.server._channels._channels)
    assert (await one.subscribe("a")).offset == 1


async def test_presence_is_asked_for_again_after_a_cut(made: Machine) -> None:
    """Joins and leaves have no offsets."""
    one = await made.worker()
    one.local._followed._namespaces = Namespaces(ChannelOptions(presence=True))
    await one.subscribe("a")
    made.process.cut()
    await one.is_down()
    await eventually(lambda: one.announced == [PresenceReset("a")])


async def test_a_worker_learns_of_all_channels_when_it_looks(made: Machine) -> None:
    """One answer cannot name them all, and the worker forgets afterwards what it learned."""
    one, other = await made.worker(), await made.worker()
    await one.subscribe("followed")
    for number in range(60):
        await other.publish(f"quiet.{number}")
    assert one.local.names() == ("followed",)
    await one.local.look()
    assert len(one.local.names()) == 61
    held = one.local.held("quiet.7")
    assert held is not None
    assert (held[0].offset, held[1]) == (1, 1)
    made.process.clock.advance(10)
    one.local.sweep()
    assert one.local.names() == ("followed",)


async def test_names_come_in_pages(made: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "NAMES_AT_ONCE", 7)
    one = await made.worker()
    for number in range(50):
        await one.publish(f"c{number}")
    await one.local.look()
    assert len(one.local.names()) == 50


async def test_a_fault_that_keeps_the_broker_from_working_is_every_worker_s_problem(
    made: Machine,
) -> None:
    """A full disk is such a fault."""
    one = await made.worker()
    made.process.memory.problems = lambda: ("the disk is full",)  # type: ignore[method-assign]
    made.process.clock.advance(link.PING_SECONDS + 0.1)
    one.local.sweep()
    await eventually(lambda: one.local.problems() == ("the disk is full",))


async def test_several_publications_are_one_call_and_each_has_its_outcome(made: Machine) -> None:
    """The outcomes come in order, also if one of the publications is refused."""
    one = await made.worker()
    await one.subscribe("a")
    requests = [
        PublishRequest("a", b"1", "p", idempotency_key="i"),
        PublishRequest("a", b"2", "p", idempotency_key="i"),
        PublishRequest("a", b"3", "p"),
        PublishRequest("a", b"1", "p", idempotency_key="i"),
    ]
    first, refused, third, again = await one.local.publish_many(requests)
    assert isinstance(first, PublishResult)
    assert isinstance(third, PublishResult)
    assert isinstance(again, PublishResult)
    assert isinstance(refused, ConflictError)
    assert (first.offset, third.offset, again.offset, again.duplicate) == (1, 2, 1, True)
    assert [p.data for p in one.delivered] == [b"1", b"3"]


async def test_publications_of_a_worker_in_one_turn_are_one_call(made: Machine) -> None:
    """Single publications and arrays: in their order, and each has its own outcome."""
    one, other = await made.worker(), await made.worker()
    await other.subscribe("a")
    before, heard = sum(one.counters.broker_calls.buckets), frames_heard(made, frames.PUBLISH)
    outcomes: list[PublishResult | HubError] = []
    publish = one.local.publish_soon
    publish(PublishRequest("a", b"1", "p", idempotency_key="i"), outcomes.append)
    publish(PublishRequest("b", b"2", "p"), outcomes.append)
    array = asyncio.ensure_future(one.local.publish_many([PublishRequest("a", b"3", "p")] * 2))
    await asyncio.sleep(0)
    publish(PublishRequest("a", b"4", "p", idempotency_key="i"), outcomes.append)
    publish(PublishRequest("a", b"5", "p"), outcomes.append)
    third, fourth = await array
    first, second, refused, last = outcomes
    for outcome, offset in ((first, 1), (second, 1), (third, 2), (fourth, 3), (last, 4)):
        assert isinstance(outcome, PublishResult)
        assert outcome.offset == offset
    assert isinstance(refused, ConflictError)
    await eventually(lambda: len(other.delivered) == 4)
    assert [p.data for p in other.delivered] == [b"1", b"3", b"3", b"5"]
    assert len(heard) <= 3
    assert sum(one.counters.broker_calls.buckets) - before == 5


def frames_heard(made: Machine, kind: int) -> list[frames.Message]:
    """The messages of a kind that the broker process gets from now on."""
    heard: list[frames.Message] = []
    handlers = made.process.server._handlers
    handle = handlers[kind]

    def note(worker: WorkerConnection, message: frames.Message) -> None:
        heard.append(message)
        handle(worker, message)

    handlers[kind] = note
    return heard


async def test_a_fault_of_one_publisher_keeps_no_other_from_its_outcome(made: Machine) -> None:
    """Each publisher that left together with the faulty one is told its outcome."""
    one = await made.worker()

    def faulty(_: PublishResult | HubError) -> None:
        raise RuntimeError("a fault")

    outcomes: list[PublishResult | HubError] = []
    for on_done in (outcomes.append, faulty, outcomes.append):
        one.local.publish_soon(PublishRequest("a", b"1", "p"), on_done)
    made.process.die()
    await eventually(lambda: len(outcomes) == 2)
    assert [type(outcome) for outcome in outcomes] == [OutcomeUnknownError] * 2
    assert outcomes[0] is not outcomes[1]


async def test_several_publications_without_an_answer_are_all_unknown(made: Machine) -> None:
    one = await made.worker()
    publishing = asyncio.create_task(one.local.publish_many([PublishRequest("a", b"1", "p")] * 3))
    await asyncio.sleep(0)
    made.process.die()
    assert [type(outcome) for outcome in await publishing] == [OutcomeUnknownError] * 3
    await one.is_down()
    outcomes = await one.local.publish_many([PublishRequest("a", b"1", "p")] * 2)
    assert [type(outcome) for outcome in outcomes] == [NotPublishedError] * 2


async def test_a_call_larger_than_all_bounds_is_taken_where_it_is_alone(
    made: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Settings bound a message, and a bound of this room must not forbid what they allow."""
    monkeypatch.setattr(link, "MAX_CALL_BYTES", 1000)
    one = await made.worker()
    assert (await one.publish(data=b'"' + b"x" * 5000 + b'"')).offset == 1


async def test_more_channels_than_calls_may_wait_are_followed_again(
    made: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reconnect asks for all of them at once."""
    one, other = await made.worker("one"), await made.worker("other")
    names = [f"long:{number}" for number in range(20)]
    for name in names:
        await one.subscribe(name)
    monkeypatch.setattr(link, "MAX_CALLS", 5)
    made.process.cut()
    await one.is_down()
    await one.is_up()
    await other.is_up()
    for name in names:
        await other.publish(name)
    await eventually(lambda: len(one.delivered) == 20)
    assert one.gaps == []
