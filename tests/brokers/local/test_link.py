"""A worker's connection to the broker process: its calls, deadlines and ends, on a fake one."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable
from typing import Any, cast

import msgspec
import pytest
import structlog

from hub.brokers.local import frames, link
from hub.brokers.local.frames import Frames, Message
from hub.brokers.local.link import NoAnswerError, NotSentError, WorkerLink
from hub.core.counters import Counters
from hub.errors import BadRequestError, HubError
from tests.brokers.local.test_frames_between_workers import NotingTransport, frame
from tests.core.fakes import FakeClock

MIB = 1024 * 1024


class EndingTransport(NotingTransport):
    """Tells its protocol of the end at once."""

    def __init__(self, protocol: Frames) -> None:
        super().__init__()
        self.protocol = protocol

    def abort(self) -> None:
        super().abort()
        self.protocol.connection_lost(None)

    def close(self) -> None:
        super().close()
        self.protocol.connection_lost(None)


class FakeProcess:
    """The broker process: it says what a test has it say, and notes what it is sent."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.counters = Counters()
        self.connections: list[EndingTransport] = []
        self.refuses = False
        self.outdated: list[bool] = []
        self.logged = structlog.testing.CapturingLogger()
        self.link = WorkerLink(
            self._socket,
            tag="w1",
            clock=self.clock,
            log=structlog.wrap_logger(self.logged, processors=[]),
            counters=self.counters,
            on_outdated=lambda: self.outdated.append(self.link.is_up),
        )

    def _socket(self) -> socket.socket:
        if self.refuses:
            raise ConnectionRefusedError
        return cast("socket.socket", self)

    def setblocking(self, _flag: bool) -> None:
        """Does nothing, because the fake has no socket."""

    async def connected(self, made: Callable[[], Frames], **_: object) -> None:
        protocol = made()
        self.connections.append(EndingTransport(protocol))
        protocol.connection_made(cast("asyncio.Transport", self.connections[-1]))

    @property
    def heard(self) -> list[list[Any]]:
        """The messages of the newest connection."""
        found, data = [], bytes(self.connections[-1].written)
        while data:
            end = 4 + int.from_bytes(data[:4], "big")
            found += msgspec.msgpack.decode(data[4:end])
            data = data[end:]
        return found

    @property
    def events(self) -> list[str]:
        return [call.kwargs["event"] for call in self.logged.calls]

    def say(self, *messages: Message) -> None:
        self.connections[-1].protocol.data_received(frame(*messages))

    async def welcome(self) -> None:
        await turns()
        self.say((frames.WELCOME, frames.SHAPE))
        await turns()


async def turns() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


@pytest.fixture
async def process(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FakeProcess]:
    made = FakeProcess()
    loop = asyncio.get_running_loop()
    monkeypatch.setattr(loop, "create_unix_connection", made.connected)
    monkeypatch.setattr("hub.brokers.local.link._BACK_OFF_SECONDS", (0, 0))
    running = asyncio.create_task(made.link.run())
    await turns()
    yield made
    made.link.stop()
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running


def answers_of(process: FakeProcess, *message: object, size_bytes: int = 0) -> list[object]:
    """Makes a call and returns the list that gets its answer; it is empty while the call waits."""
    found: list[object] = []
    process.link.call(message, found.append, size_bytes)
    return found


async def test_a_worker_says_hello_and_asks_nothing_before_the_welcome(
    process: FakeProcess,
) -> None:
    assert process.heard == [[frames.HELLO, frames.SHAPE, "w1"]]
    process.link.send((frames.UNSUBSCRIBE, "a"))
    with pytest.raises(NotSentError, match="cannot be reached"):
        answers_of(process, frames.SUBSCRIBE, "a")
    await process.welcome()
    assert process.heard[1:] == [[frames.PING, 1]]
    assert process.link.is_up


async def test_another_layout_is_never_taken(process: FakeProcess) -> None:
    """The error is logged once, however often the process sends another layout."""
    for _ in range(2):
        process.say((frames.WELCOME, "another"))
    assert not process.link.is_up
    assert process.events == ["broker_process_of_another_version"]
    with pytest.raises(NotSentError, match="another version"):
        answers_of(process, frames.SUBSCRIBE, "a")


async def test_a_worker_is_told_once_that_the_process_has_become_another_version(
    process: FakeProcess,
) -> None:
    """One that has never been up is newer than the process, and starting it anew helps nobody."""
    process.say((frames.WELCOME, "older"))
    assert process.outdated == []
    assert "another version" in process.link.refusal
    process.connections[-1].abort()
    await turns()
    await process.welcome()
    assert process.link.refusal == ""
    for _ in range(2):
        process.connections[-1].abort()
        await turns()
        process.say((frames.WELCOME, "newer"))
    assert process.outdated == [False]
    assert not process.link.is_up


async def test_each_answer_goes_to_its_call_and_a_late_one_to_nobody(
    process: FakeProcess,
) -> None:
    await process.welcome()
    first, second = (answers_of(process, frames.SUBSCRIBE, name) for name in "ab")
    process.say((frames.HEAD, 3, "e", 2))
    assert (first, second) == ([], [[frames.HEAD, 3, "e", 2]])
    process.say((frames.REFUSED, 2, "bad_request", "why"), (frames.HEAD, 2, "e", 1))
    (refused,) = first
    assert isinstance(refused, BadRequestError)
    assert refused.message == "why"


async def test_a_call_is_given_up_after_five_seconds(process: FakeProcess) -> None:
    await process.welcome()
    process.say((frames.REFUSED, 1, "unavailable", "not the ping"))
    call = answers_of(process, frames.SUBSCRIBE, "a")
    process.clock.advance(4.99)
    process.link.sweep()
    assert call == []
    process.clock.advance(0.01)
    process.link.sweep()
    assert [type(each) for each in call] == [NoAnswerError]
    assert process.counters.broker_call_errors["no_answer"] == 1


@pytest.mark.parametrize(("welcomed", "seconds"), [(False, 10), (True, 8)])
async def test_a_process_that_says_nothing_is_left(
    process: FakeProcess, *, welcomed: bool, seconds: float
) -> None:
    """Another connection is made, and says hello."""
    if welcomed:
        await process.welcome()
    (connection,) = process.connections
    process.clock.advance(seconds)
    process.link.sweep()
    assert not connection.aborted
    process.clock.advance(0.01)
    process.link.sweep()
    assert connection.aborted
    await turns()
    assert len(process.connections) == 2
    assert process.heard[0][0] == frames.HELLO


async def test_a_process_that_is_there_is_asked_once_a_second(process: FakeProcess) -> None:
    await process.welcome()
    for wait, pings in ((0.99, 1), (0.01, 2), (0.5, 2)):
        process.clock.advance(wait)
        process.link.sweep()
        await turns()
        assert [kind for kind, *_ in process.heard].count(frames.PING) == pings


async def test_calls_that_wait_for_the_broker_process_are_bounded_in_number(
    process: FakeProcess,
) -> None:
    """The ping of the welcome is one of them."""
    await process.welcome()
    for _ in range(10_000 - 1):
        answers_of(process, frames.SUBSCRIBE, "a")
    with pytest.raises(NotSentError, match="10,000 calls"):
        answers_of(process, frames.SUBSCRIBE, "a")
    process.say((frames.HEAD, 2, "e", 1))
    answers_of(process, frames.SUBSCRIBE, "a")
    assert process.link.pending == 10_000


async def test_calls_that_wait_are_bounded_in_bytes_but_for_one_call_alone(
    process: FakeProcess,
) -> None:
    await process.welcome()
    answers_of(process, frames.PUBLISH, size_bytes=33 * MIB)
    with pytest.raises(NotSentError, match="34,603,008 bytes wait"):
        answers_of(process, frames.PUBLISH, size_bytes=1)
    process.say((frames.PUBLISHED, 2, "e", 1, False))
    answers_of(process, frames.PUBLISH, size_bytes=16 * MIB)
    answers_of(process, frames.PUBLISH, size_bytes=16 * MIB)
    with pytest.raises(NotSentError, match="33,554,432 bytes wait"):
        answers_of(process, frames.PUBLISH, size_bytes=1)


async def test_calls_under_way_at_the_end_may_have_been_done(process: FakeProcess) -> None:
    """Calls that last, too; those after the end were not sent."""
    await process.welcome()
    lasting: list[object] = []
    call = answers_of(process, frames.SUBSCRIBE, "a")
    process.link.call((frames.ASK, "w2", b"?", True), lasting.append, lasts=True)
    process.connections[0].abort()
    await turns()
    assert [type(each) for each in (*call, *lasting)] == [NoAnswerError] * 2
    with pytest.raises(NotSentError):
        answers_of(process, frames.SUBSCRIBE, "a")
    await process.welcome()
    assert process.link.is_up
    assert process.counters.broker_connects["commands"] == 2


async def test_calls_that_fail_with_their_connection_fail_in_turns_and_in_order(
    process: FakeProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    """10,000 publishers that were answered in one step took a fifth of a second.

    The next connection is made behind the last of them: none is taken for a call of that one.
    """
    monkeypatch.setattr(link, "FAILED_AT_ONCE", 3)
    await process.welcome()
    failed: list[int] = []
    for number in range(10):
        process.link.call((frames.PUBLISH,), lambda _, number=number: failed.append(number))  # type: ignore[misc]
    process.connections[0].abort()
    before, by_turn = 0, []
    while len(process.connections) == 1:
        await asyncio.sleep(0)
        by_turn.append(len(failed) - before)
        before = len(failed)
    assert failed == list(range(10))
    assert max(by_turn) <= 3


async def test_calls_that_are_given_up_together_fail_in_turns_and_in_order(
    process: FakeProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A broker process that stands still has all publications of a moment under way."""
    monkeypatch.setattr(link, "FAILED_AT_ONCE", 3)
    await process.welcome()
    process.say((frames.REFUSED, 1, "unavailable", "not the ping"))
    failed: list[int] = []
    for number in range(10):
        process.link.call((frames.PUBLISH,), lambda _, number=number: failed.append(number))  # type: ignore[misc]
    process.clock.advance(5)
    later = answers_of(process, frames.SUBSCRIBE, "a")
    process.link.sweep()
    by_turn = [len(failed)]
    while len(failed) < 10 and len(by_turn) < 10:
        process.link.sweep()  # finds a sweep under way
        await asyncio.sleep(0)
        by_turn.append(len(failed))
    assert by_turn == [3, 6, 9, 10]
    assert failed == list(range(10))
    assert later == []


async def test_a_call_that_lasts_is_forgotten_by_its_caller(process: FakeProcess) -> None:
    await process.welcome()
    found: list[Message | HubError] = []
    number = process.link.call((frames.ASK, "w2", b"?", True), found.append, 1, lasts=True)
    assert process.link.forget(number)
    assert not process.link.forget(number)
    process.say((frames.ANSWERED, number, b"!"))
    assert found == []


async def test_a_worker_that_stops_sends_what_it_has(process: FakeProcess) -> None:
    await process.welcome()
    process.link.send((frames.UNSUBSCRIBE, "a"))
    process.link.stop()
    assert process.heard[-1] == [frames.UNSUBSCRIBE, "a"]
    await turns()
    assert len(process.connections) == 1


async def test_bytes_that_were_under_way_at_the_end_take_no_room_behind_it(
    process: FakeProcess,
) -> None:
    """Bytes of a call that its caller has forgotten take no room either."""
    await process.welcome()
    answers_of(process, frames.PUBLISH, size_bytes=33 * MIB)
    process.connections[0].abort()
    await turns()
    await process.welcome()
    found: list[Message | HubError] = []
    number = process.link.call((frames.ASK, "w2", b"?"), found.append, 33 * MIB, lasts=True)
    process.link.forget(number)
    for _ in range(2):
        answers_of(process, frames.PUBLISH, size_bytes=16 * MIB)


async def test_a_fault_of_one_caller_keeps_neither_the_others_nor_the_next_connection(
    process: FakeProcess,
) -> None:
    """Without this the worker did not come back to its broker process."""
    await process.welcome()

    def faulty(_: Message | HubError) -> None:
        raise RuntimeError("a fault")

    process.link.call((frames.HISTORY, "a", 0, 1, 1), faulty)
    call = answers_of(process, frames.HISTORY)
    process.connections[0].abort()
    await turns()
    assert [type(each) for each in call] == [NoAnswerError]
    await process.welcome()
    assert process.link.is_up


async def test_a_fault_of_one_caller_keeps_neither_the_connection_nor_the_next_message(
    process: FakeProcess,
) -> None:
    """Without this the caller's fault ended the connection, and the outcome of all
    other calls was unknown."""
    await process.welcome()

    def faulty(_: Message | HubError) -> None:
        raise RuntimeError("a fault")

    number = process.link.call((frames.HISTORY, "a", 0, 1, 1), faulty)
    other = answers_of(process, frames.HISTORY)
    process.say((frames.PAGE, number), (frames.PAGE, number + 1))
    assert other == [[frames.PAGE, number + 1]]
    assert "broker_call_failed" in process.events


async def test_calls_one_behind_the_other_leave_as_one(process: FakeProcess) -> None:
    """Nothing overtakes what was sent between two of them, and each turn has its own."""
    await process.welcome()
    ping = process.link.pending
    process.link.call((frames.PUBLISH, [b"1"]), lambda _: None, 1)
    assert process.link.join(frames.PUBLISH, b"2")
    assert not process.link.join(frames.HISTORY, b"3")
    process.link.send((frames.UNSUBSCRIBE, "a"))
    assert not process.link.join(frames.PUBLISH, b"3")
    process.link.call((frames.PUBLISH, [b"3"]), lambda _: None, 1)
    assert process.link.pending == ping + 3
    await turns()
    assert not process.link.join(frames.PUBLISH, b"4")
    sent = process.heard[-3:]
    assert [(each[0], each[-1]) for each in sent] == [
        (frames.PUBLISH, [b"1", b"2"]),
        (frames.UNSUBSCRIBE, "a"),
        (frames.PUBLISH, [b"3"]),
    ]
    process.say((frames.PUBLISHED, sent[0][1], []))
    assert process.link.pending == ping + 1


async def test_calls_that_leave_as_one_are_bounded_as_those_that_leave_alone(
    process: FakeProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Calls that leave as one have the same bounds in number and in bytes, and a
    bound on how many are one."""
    monkeypatch.setattr(link, "MAX_CALLS", 5)
    monkeypatch.setattr(link, "MAX_CALL_BYTES", 100)
    monkeypatch.setattr(link, "JOINED_AT_MOST", 3)
    await process.welcome()
    process.say((frames.REFUSED, 1, "unavailable", "not the ping"))
    process.link.call((frames.PUBLISH, [b"1"]), lambda _: None, 1)
    assert [process.link.join(frames.PUBLISH, b"2") for _ in range(3)] == [True, True, False]
    process.link.call((frames.PUBLISH, [b"1"]), lambda _: None, 1)
    with pytest.raises(NotSentError, match="4 bytes wait"):
        process.link.join(frames.PUBLISH, b"3" * 97)
    assert process.link.join(frames.PUBLISH, b"3")
    with pytest.raises(NotSentError, match="5 calls"):
        process.link.join(frames.PUBLISH, b"4")
    await turns()
    process.say((frames.PUBLISHED, 2, []), (frames.PUBLISHED, 3, []))
    assert process.link.pending == 0
    answers_of(process, frames.HISTORY, size_bytes=101)


async def test_calls_that_left_as_one_count_each_where_they_fail(
    process: FakeProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A joined call counts each of its publications, so a turn fails no
    more of them than its bound."""
    monkeypatch.setattr(link, "FAILED_AT_ONCE", 4)
    await process.welcome()
    process.say((frames.REFUSED, 1, "unavailable", "not the ping"))
    failed: list[object] = []
    for _ in range(3):
        process.link.call((frames.PUBLISH, [b"1"]), failed.append, 1)
        process.link.join(frames.PUBLISH, b"2")
    process.clock.advance(5)
    process.link.sweep()
    assert len(failed) == 2
    await turns()
    assert len(failed) == 3
    assert process.counters.broker_call_errors["no_answer"] == 6


async def test_a_process_that_says_anything_is_kept(process: FakeProcess) -> None:
    """Each message counts, not pongs alone."""
    await process.welcome()
    for _ in range(5):
        process.clock.advance(7.9)
        process.say((frames.RESET, "a", "e", 1))
        process.link.sweep()
    assert not process.connections[0].aborted


async def test_a_connection_that_is_made_late_has_its_time(process: FakeProcess) -> None:
    """The process was away for longer than it may be silent."""
    await process.welcome()
    process.refuses = True
    process.connections[0].abort()
    await turns()
    process.clock.advance(60)
    process.refuses = False
    await turns()
    process.link.sweep()
    assert len(process.connections) == 2
    assert not process.connections[1].aborted


async def test_a_process_that_was_there_is_tried_again_soon(
    process: FakeProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The waits before it came do not count; a process that accepts no
    worker is tried less often."""
    waits: list[float] = []
    sleep = asyncio.sleep

    async def wait(seconds: float) -> None:
        if seconds:
            waits.append(seconds)
        await sleep(0)

    monkeypatch.setattr("hub.brokers.local.link._BACK_OFF_SECONDS", (0.02, 0.5))
    process.link.stop()
    await turns()
    process.link._stopping = False
    monkeypatch.setattr("hub.brokers.local.link.asyncio.sleep", wait)
    process.refuses = True
    running = asyncio.create_task(process.link.run())
    while len(waits) < 7:
        await sleep(0)
    assert waits[:7] == [0.02, 0.04, 0.08, 0.16, 0.32, 0.5, 0.5]
    process.refuses = False
    await turns()
    await process.welcome()
    waits.clear()
    process.connections[-1].abort()
    while not waits:
        await sleep(0)
    assert waits[0] == 0.02
    process.link.stop()
    await running
