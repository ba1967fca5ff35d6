"""The broker process' end of its connections, on transports that only note."""

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any, cast

import msgspec
import pytest
import structlog

from hub.brokers.local import frames, server
from hub.brokers.local.frames import Frames, Message
from hub.brokers.local.server import BrokerServer
from hub.brokers.local.workers import COME_BACK_SECONDS
from hub.core.ports import Downstream, OnOpen, PublishRequest
from hub.core.publication import Position
from hub.core.pushes import Gap, GapReason, Member
from hub.errors import HubError, UnavailableError
from tests.brokers.local.rig import memory_broker
from tests.brokers.local.test_frames_between_workers import NotingTransport, frame
from tests.brokers.local.test_link import turns
from tests.core.fakes import FakeClock


class Transport(NotingTransport):
    """Tells its protocol of the end in the next turn of the loop, as a real one does."""

    def __init__(self, protocol: Frames) -> None:
        super().__init__()
        self._protocol = protocol

    def abort(self) -> None:
        super().abort()
        asyncio.get_running_loop().call_soon(self._protocol.connection_lost, None)

    def close(self) -> None:
        super().close()
        asyncio.get_running_loop().call_soon(self._protocol.connection_lost, None)


class Peer:
    """A worker's end, as the broker process sees it."""

    def __init__(self, process: BrokerServer, tag: str = "") -> None:
        self.frames = process.protocol()
        self.transport = Transport(self.frames)
        self.frames.connection_made(cast("asyncio.Transport", self.transport))
        self._read = 0
        if tag:
            self.say((frames.HELLO, frames.SHAPE, tag))

    def say(self, *messages: Message) -> None:
        self.frames.data_received(frame(*messages))

    async def end(self) -> None:
        self.transport.abort()
        await turns()

    async def heard(self) -> list[Any]:
        """Returns the messages that came since the last call."""
        await turns()
        found, data = [], bytes(self.transport.written[self._read :])
        self._read = len(self.transport.written)
        while data:
            end = 4 + int.from_bytes(data[:4], "big")
            found += msgspec.msgpack.decode(data[4:end])
            data = data[end:]
        return found


class Process:
    """One that serves a memory broker; with `slow` a broker whose answers wait."""

    def __init__(self, *, workers: int = 0, slow: bool = False) -> None:
        self.clock = FakeClock()
        self.logged = structlog.testing.CapturingLogger()
        self.tasks: set[asyncio.Task[None]] = set()
        self.let = asyncio.Event()
        self.raises: BaseException | None = None
        self.subscribed: list[str] = []
        self.unsubscribed: list[str] = []

        def make(downstream: Downstream) -> Any:
            self.memory = memory_broker(downstream, self.clock)
            self._note_subscriptions()
            if slow:
                self.memory.answers_at_once = False
            return self.memory

        self.server = BrokerServer(
            make,
            clock=self.clock,
            spawn=self._spawn,
            log=structlog.wrap_logger(self.logged, processors=[]),
            workers=workers,
        )

    def _note_subscriptions(self) -> None:
        subscribe, unsubscribe = self.memory.subscribe, self.memory.unsubscribe

        async def subscribing(channel: str, on_open: OnOpen) -> None:
            if not self.memory.answers_at_once:
                await self.let.wait()
            if self.raises is not None:
                raise self.raises
            self.subscribed.append(channel)
            await subscribe(channel, on_open)

        def unsubscribing(channel: str) -> None:
            self.unsubscribed.append(channel)
            unsubscribe(channel)

        self.memory.subscribe = subscribing  # type: ignore[method-assign]
        self.memory.unsubscribe = unsubscribing  # type: ignore[method-assign]

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def peer(self, tag: str) -> Peer:
        """One that has said hello, and heard the welcome."""
        made = Peer(self.server, tag)
        assert await made.heard() == [[frames.WELCOME, frames.SHAPE]]
        return made

    def publish(self, channel: str, data: bytes = b"1", **more: Any) -> None:
        self.memory.publish_now(PublishRequest(channel, data, "p", **more))

    @property
    def events(self) -> list[str]:
        return [call.kwargs["event"] for call in self.logged.calls]


@pytest.fixture
async def process() -> Process:
    return Process()


def request(channel: str, data: bytes = b"1", **more: Any) -> bytes:
    return frames.written(PublishRequest(channel, data, "p", **more))


def member(name: str) -> tuple[Any, ...]:
    return frames.member_fields(Member(name, f"c-{name}", name))


# -- hello ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "first", [(frames.HELLO, "0-other", "w1"), (frames.PING, frames.SHAPE, "w1")]
)
async def test_a_worker_that_says_another_hello_is_heard_no_further(
    process: Process, first: Message
) -> None:
    """The messages behind the hello in the same frame are not handled, and the log says
    why the worker was cut off."""
    peer = Peer(process.server)
    peer.say(first, (frames.PUBLISH, 1, [request("a")]))
    assert await peer.heard() == [[frames.WELCOME, frames.SHAPE]]
    assert peer.transport.closing
    assert process.server.publications == 0
    assert process.events == ["worker_of_another_version"]
    assert process.server.connections == 0


async def test_words_behind_the_hello_are_heard(process: Process) -> None:
    peer = Peer(process.server)
    peer.say((frames.HELLO, frames.SHAPE, "w1"), (frames.PING, 7))
    welcome, pong = await peer.heard()
    assert (welcome[0], pong[:2]) == (frames.WELCOME, [frames.PONG, 7])
    assert process.events == ["worker_connected"]


async def test_a_kind_of_message_that_is_not_known_is_passed_over(process: Process) -> None:
    one = await process.peer("w1")
    one.say((99, "what"), (frames.PING, 1))
    assert [each[0] for each in await one.heard()] == [frames.PONG]


async def test_a_worker_that_connects_again_is_served_there(process: Process) -> None:
    """The older connection is cut, and its end is not the worker's."""
    older = await process.peer("w1")
    older.say((frames.SUBSCRIBE, 1, "a"), (frames.RECORD, b"record"))
    newer, other = await process.peer("w1"), await process.peer("w2")
    assert older.transport.aborted
    assert "worker_gone" not in process.events
    assert process.unsubscribed == ["a"]
    other.say((frames.OTHERS, 1), (frames.ASK, 2, "w1", b"?", False))
    assert (await other.heard())[0] == [frames.OTHERS_ARE, 1, {"w1": b"record"}]
    assert await newer.heard() == [[frames.ASKED, "w2", 2, b"?", False]]


# -- calls of the broker ---------------------------------------------------------------------------


@pytest.mark.parametrize("slow", [False, True])
async def test_each_call_has_its_answer_with_its_number(slow: bool) -> None:
    """Whether the served broker answers at once or not."""
    process = Process(slow=slow)
    one = await process.peer("w1")
    one.say((frames.PUBLISH, 3, [request("a", idempotency_key="k")]))
    ((kind, number, ((epoch, offset, duplicate),)),) = await one.heard()
    assert (kind, number, offset, duplicate) == (frames.PUBLISHED, 3, 1, False)
    one.say((frames.PUBLISH, 4, [request("a", idempotency_key="k")]))
    assert await one.heard() == [[frames.PUBLISHED, 4, [[epoch, 1, True]]]]
    one.say((frames.PUBLISH, 5, [request("a", b"2", idempotency_key="k")]))
    ((kind, number, ((code, why),)),) = await one.heard()
    assert (kind, number, code) == (frames.PUBLISHED, 5, "conflict")
    assert why
    many = [request("a", b"2"), request("a", b"3", idempotency_key="k"), request("b")]
    one.say((frames.PUBLISH, 6, many))
    ((kind, number, outcomes),) = await one.heard()
    assert (kind, number) == (frames.PUBLISHED, 6)
    assert outcomes[0] == [epoch, 2, False]
    assert outcomes[1][0] == "conflict"
    assert outcomes[2][1:] == [1, False]
    assert process.server.publications == 6
    one.say((frames.HISTORY, 7, "a", 1, 10, 1000))
    ((*page, found),) = await one.heard()
    assert page == [frames.PAGE, 7, epoch, 2, 1, []]
    assert [p.data for p in map(frames.read_publication, found)] == [b"2"]
    one.say((frames.CLEAR, 8, "a"), (frames.HISTORY, 9, "a", 0, 10, 1000))
    cleared, page = await one.heard()
    assert cleared == [frames.CLEARED, 8]
    assert page[-1] == []


async def test_a_broker_that_takes_several_at_once_gets_them_together_and_once() -> None:
    process = Process(slow=True)
    one, taken = await process.peer("w1"), []

    async def publish_many(requests: Sequence[PublishRequest]) -> Sequence[Any]:
        taken.append(len(requests))
        return [process.memory.publish_now(each) for each in requests]

    process.memory.publish_many = publish_many  # type: ignore[assignment]
    one.say((frames.PUBLISH, 1, [request("a"), request("a")]))
    ((_, _, outcomes),) = await one.heard()
    assert (taken, [each[1] for each in outcomes]) == ([2], [1, 2])


async def test_the_served_broker_has_its_housekeeping(process: Process) -> None:
    """Else nothing of its history would ever expire."""
    swept: list[int] = []
    process.memory.sweep = lambda: swept.append(1)  # type: ignore[method-assign]
    process.server.tick()
    assert swept == [1]


async def test_rows_of_state_are_paged(process: Process) -> None:
    one = await process.peer("w1")
    for key in "xyz":
        process.publish("table:a", key=key)
    one.say((frames.STATE, 1, "table:a", "", 2, None, 1000))
    ((kind, number, _, offset, following, dropped, rows),) = await one.heard()
    assert (kind, number, offset, following, dropped) == (frames.ROWS, 1, 3, "y", 0)
    assert len(rows) == 2
    one.say((frames.STATE, 2, "table:a", "y", 2, 3, 1000))
    ((*_, following, _, rows),) = await one.heard()
    assert (following, len(rows)) == (None, 1)


async def test_the_figures_and_troubles_of_the_broker_come_with_each_pong(
    process: Process,
) -> None:
    one = await process.peer("w1")
    process.publish("table:a", key="x")
    process.memory.problems = lambda: ("the disk is full",)  # type: ignore[method-assign]
    one.say((frames.PING, 5))
    (pong,) = await one.heard()
    told = process.memory.record()
    assert pong == [
        frames.PONG, 5, told.history_bytes, told.history_limit_bytes, 1, told.state_row_bytes,
        ["the disk is full"],
    ]  # fmt: skip
    assert told.history_bytes > 0 < told.state_row_bytes


@pytest.mark.parametrize(
    ("raised", "code", "why"),
    [
        (UnavailableError("the disk is away"), "unavailable", "the disk is away"),
        (ZeroDivisionError("a secret"), "internal", "internal error"),
    ],
)
async def test_a_call_that_fails_is_refused_and_the_process_goes_on(
    process: Process, raised: BaseException, code: str, why: str
) -> None:
    """The worker is told a hub error; any other exception is logged, and the worker
    is told a neutral reason."""

    async def fail(*_: Any, **__: Any) -> None:
        raise raised

    one = await process.peer("w1")
    process.memory.history = fail  # type: ignore[method-assign, assignment]
    one.say((frames.HISTORY, 7, "a", 1, 10, 1000), (frames.PUBLISH, 8, [request("a")]))
    refused, published = await one.heard()
    assert refused == [frames.REFUSED, 7, code, why]
    assert published[:2] == [frames.PUBLISHED, 8]
    assert ("broker_call_failed" in process.events) is not isinstance(raised, HubError)


async def test_names_come_in_pages_of_one_list(
    process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A channel that appears between two pages is in the next list."""
    monkeypatch.setattr(server, "NAMES_AT_ONCE", 2)
    one = await process.peer("w1")
    for name in "abc":
        process.publish(name)
    one.say((frames.NAMES, 1, 0))
    (first,) = await one.heard()
    assert [each[0] for each in first[2]] == ["a", "b"]
    assert first[3] == 2
    process.publish("d")
    one.say((frames.NAMES, 2, first[3]))
    (second,) = await one.heard()
    assert ([each[0] for each in second[2]], second[3]) == (["c"], 0)
    one.say((frames.NAMES, 3, 0), (frames.NAMES, 4, 2))
    assert [each[3] for each in await one.heard()] == [2, 0]
    (_, epoch, offset, held, rows) = second[2][0]
    assert (Position(epoch, offset), held, rows) == (*process.memory.held("c"), None)  # type: ignore[misc]


# -- channels --------------------------------------------------------------------------------------


async def test_a_publication_goes_once_to_each_worker_that_follows_its_channel(
    process: Process,
) -> None:
    """The publication stands in front of the publisher's answer, in the same frame."""
    one, two, three = [await process.peer(tag) for tag in ("w1", "w2", "w3")]
    for peer in (one, two):
        peer.say((frames.SUBSCRIBE, 1, "a"))
        ((kind, number, _, offset),) = await peer.heard()
        assert (kind, number, offset) == (frames.HEAD, 1, 0)
    assert process.subscribed == ["a"]
    writes = one.transport.writes
    one.say((frames.PUBLISH, 2, [request("a"), request("b")]), (frames.PUBLISH, 3, [request("b")]))
    mine, theirs = await one.heard(), await two.heard()
    assert [each[0] for each in mine] == [frames.DELIVER, frames.PUBLISHED, frames.PUBLISHED]
    (publication,) = map(frames.read_publication, mine[0][1])
    assert (publication.channel, publication.offset, publication.data) == ("a", 1, b"1")
    assert theirs == mine[:1]
    assert one.transport.writes == writes + 1
    assert await three.heard() == []
    three.say((frames.SUBSCRIBE, 1, "a"))
    ((_, _, _, offset),) = await three.heard()
    assert offset == 1


async def test_a_channel_is_left_with_its_last_worker(process: Process) -> None:
    """A worker leaves a channel by its word, or when its connection ends."""
    one, two = await process.peer("w1"), await process.peer("w2")
    for peer in (one, two):
        peer.say((frames.SUBSCRIBE, 1, "a"), (frames.SUBSCRIBE, 2, "b"))
    one.say((frames.UNSUBSCRIBE, "a"))
    one.say((frames.UNSUBSCRIBE, "never"))
    assert process.unsubscribed == []
    assert sorted(len(each.channels) for each in process.server._workers) == [1, 2]
    await two.end()
    assert process.unsubscribed == ["a"]
    await one.end()
    assert process.unsubscribed == ["a", "b"]
    assert process.server.connections == 0
    process.publish("a")


async def test_workers_that_wait_for_a_channel_s_head_get_it_together() -> None:
    """One that has left the channel meanwhile, or has ended, does not; one alone leaves it."""
    process = Process(slow=True)
    one, two, three = [await process.peer(tag) for tag in ("w1", "w2", "w3")]
    for peer in (one, two, three):
        peer.say((frames.SUBSCRIBE, 1, "a"))
    two.say((frames.UNSUBSCRIBE, "a"))
    await three.end()
    one.say((frames.SUBSCRIBE, 2, "alone"), (frames.UNSUBSCRIBE, "alone"))
    process.let.set()
    assert [each[:2] for each in await one.heard()] == [[frames.HEAD, 1]]
    assert await two.heard() == []
    assert (sorted(process.subscribed), process.unsubscribed) == (["a", "alone"], ["alone"])
    process.publish("a")
    assert [each[0] for each in await one.heard()] == [frames.DELIVER]
    assert await two.heard() == []
    one.say((frames.UNSUBSCRIBE, "a"))
    assert process.unsubscribed == ["alone", "a"]


async def test_a_channel_that_cannot_be_followed_is_refused_to_all_who_wait() -> None:
    """Both workers get the error, and the next request tries again."""
    process = Process(slow=True)
    one, two = await process.peer("w1"), await process.peer("w2")
    process.raises = UnavailableError("full")
    one.say((frames.SUBSCRIBE, 1, "a"))
    two.say((frames.SUBSCRIBE, 2, "a"))
    process.let.set()
    assert await one.heard() == [[frames.REFUSED, 1, "unavailable", "full"]]
    assert await two.heard() == [[frames.REFUSED, 2, "unavailable", "full"]]
    process.raises = None
    one.say((frames.SUBSCRIBE, 3, "a"))
    assert [each[:2] for each in await one.heard()] == [[frames.HEAD, 3]]


async def test_a_loss_after_which_the_broker_began_anew_is_told_to_all_followers(
    process: Process,
) -> None:
    """A head that is asked for then is behind it."""
    one, two = await process.peer("w1"), await process.peer("w2")
    one.say((frames.SUBSCRIBE, 1, "a"))
    await one.heard()
    downstream = process.server._channels
    downstream.lost(Gap("a", "e", 1, 7, GapReason.BROKER, 2))
    downstream.lost(Gap("unheard", "e", 1, 7, GapReason.BROKER))
    assert await one.heard() == [[frames.LOST, "a", "e", 1, 7, "broker", 2]]
    two.say((frames.SUBSCRIBE, 1, "a"))
    assert await two.heard() == [[frames.HEAD, 1, "e", 7]]
    downstream.lost(Gap("a", "e", 2, 3, GapReason.BROKER))
    two.say((frames.UNSUBSCRIBE, "a"), (frames.SUBSCRIBE, 2, "a"))
    assert await two.heard() == [
        [frames.LOST, "a", "e", 2, 3, "broker", 0], [frames.HEAD, 2, "e", 7]
    ]  # fmt: skip
    await one.heard()
    downstream.reset("a", Position("f", 3))
    downstream.reset("unheard", Position("f", 3))
    for peer in (one, two):
        assert await peer.heard() == [[frames.RESET, "a", "f", 3]]
    two.say((frames.UNSUBSCRIBE, "a"), (frames.SUBSCRIBE, 2, "a"))
    assert await two.heard() == [[frames.HEAD, 2, "f", 3]]


async def test_channels_that_appear_are_told_to_those_who_follow_them(process: Process) -> None:
    one, two = await process.peer("w1"), await process.peer("w2")
    one.say((frames.FOLLOW,))
    two.say((frames.FOLLOW,))
    process.publish("a")
    process.server.missed()
    for peer in (one, two):
        assert await peer.heard() == [[frames.APPEARED, "a"], [frames.MISSED]]
    one.say((frames.MATCH, 1, "*", 9))
    assert await one.heard() == [[frames.MATCHING, 1, ["a"]]]
    one.say((frames.UNFOLLOW,))
    process.publish("b")
    assert (await one.heard(), await two.heard()) == ([], [[frames.APPEARED, "b"]])
    await two.end()
    assert process.memory._directory._appearances is None


async def test_a_worker_that_takes_nothing_is_cut_off(
    process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bytes of a page count as much as those of a publication; the others go on."""
    monkeypatch.setattr(frames, "_FULL_BYTES", 1 << 30)
    one, two = await process.peer("w1"), await process.peer("w2")
    one.say((frames.SUBSCRIBE, 1, "a"))
    await one.heard()
    process.publish("a", b'"' + b"x" * 998 + b'"')
    written = one.frames.waiting_bytes - frames.MESSAGE_BYTES
    assert 1000 < written < 1050
    two.say((frames.HISTORY, 1, "a", 0, 10, 10_000))
    assert two.frames.waiting_bytes == written + frames.MESSAGE_BYTES
    await turns()
    one.frames._max_waiting_bytes = 5000
    one.transport.unsent = 5001
    process.publish("a")
    await turns()
    assert one.transport.aborted
    assert process.server.connections == 1


# -- workers and their members ---------------------------------------------------------------------


async def test_members_of_all_workers_are_told_in_the_order_they_came(process: Process) -> None:
    one, two = await process.peer("w1"), await process.peer("w2")
    one.say((frames.SUBSCRIBE, 1, "a"), (frames.CHANGE, "a", True, *member("ada")))
    two.say((frames.PRESENT, "a", [member("bob"), member("cy")]))
    two.say((frames.CHANGE, "a", False, *member("cy")), (frames.MEMBERS, 7, "a", 0, 0))
    assert await two.heard() == [[frames.MEMBERS_ARE, 7, [[*member("ada")], [*member("bob")]], 0]]
    assert [each[1:3] for each in await one.heard() if each[0] == frames.ANNOUNCE] == [
        ["a", "Join"], ["a", "Join"], ["a", "Join"], ["a", "Leave"]
    ]  # fmt: skip


async def test_a_question_goes_to_its_worker_and_its_answer_back(process: Process) -> None:
    """An answer comes once, and one that nobody waits for goes nowhere."""
    one, two = await process.peer("w1"), await process.peer("w2")
    one.say((frames.ASK, 5, "w2", b"?", True), (frames.ASK, 6, "nobody", b"?", False))
    assert await two.heard() == [[frames.ASKED, "w1", 5, b"?", True]]
    assert await one.heard() == [[frames.ANSWERED, 6, None]]
    for _ in range(2):
        two.say((frames.ANSWER, "w1", 5, b"!"))
    assert await one.heard() == [[frames.ANSWERED, 5, b"!"]]
    one.say((frames.ASK, 7, "w2", b"?", True), (frames.GIVE_UP, 7), (frames.GIVE_UP, 7))
    assert await two.heard() == [
        [frames.ASKED, "w1", 7, b"?", True], [frames.GIVEN_UP, "w1", 7]
    ]  # fmt: skip
    two.say((frames.ANSWER, "w1", 7, b"!"))
    assert await one.heard() == []


async def test_a_question_ends_with_either_worker(process: Process) -> None:
    """The one that asks hears that the other is gone; the one that is to answer need not."""
    one, two, three = [await process.peer(tag) for tag in ("w1", "w2", "w3")]
    one.say((frames.ASK, 5, "w2", b"?", True))
    three.say((frames.ASK, 6, "w1", b"?", True))
    await one.heard()
    await two.end()
    assert await one.heard() == [[frames.ANSWERED, 5, None]]
    await three.end()
    assert await one.heard() == [[frames.GIVEN_UP, "w3", 6]]
    assert process.server._nodes._asked == {}


async def test_a_worker_that_was_gone_for_a_moment_has_its_record_all_the_time(
    process: Process,
) -> None:
    """A list over all nodes would lack its part, without a word."""
    one, two = await process.peer("w1"), await process.peer("w2")
    two.say((frames.RECORD, b"two"))
    await two.end()
    await process.peer("w2")
    one.say((frames.OTHERS, 1))
    assert await one.heard() == [[frames.OTHERS_ARE, 1, {"w2": b"two"}]]
    process.clock.advance(server.LEASE_SECONDS)
    process.server.tick()
    one.say((frames.OTHERS, 2))
    assert await one.heard() == [[frames.OTHERS_ARE, 2, {"w2": b"two"}]]


@pytest.mark.parametrize("last", [(frames.TOLD_ALL,), (frames.RECORD, b"two")])
async def test_a_process_that_has_just_begun_says_nothing_of_all_before_all_have_come(
    last: Message,
) -> None:
    """Half of the workers of the process before it would pass for all of them."""
    process = Process(workers=2)
    one = await process.peer("w1")
    one.say((frames.RECORD, b"one"), (frames.TOLD_ALL,), (frames.CHANGE, "a", True, *member("ada")))
    one.say((frames.OTHERS, 1), (frames.MEMBERS, 2, "a", 0, 0))
    process.server.tick()
    ((kind, number, code, _),) = await one.heard()
    assert (kind, number, code) == (frames.REFUSED, 1, "unavailable")
    two = await process.peer("w2")
    words = {(frames.TOLD_ALL,), (frames.RECORD, b"two")} - {last}
    two.say((frames.PRESENT, "a", [member("bob")]), *words)
    process.server.tick()
    assert await one.heard() == []
    two.say(last)
    process.server.tick()
    assert await one.heard() == [[frames.MEMBERS_ARE, 2, [[*member("ada")], [*member("bob")]], 0]]
    one.say((frames.OTHERS, 3))
    assert await one.heard() == [[frames.OTHERS_ARE, 3, {"w2": b"two"}]]
    await two.end()
    one.say((frames.OTHERS, 4))
    assert await one.heard() == [[frames.OTHERS_ARE, 4, {}]]


async def test_a_worker_that_does_not_come_is_not_waited_for_longer() -> None:
    process = Process(workers=2)
    one = await process.peer("w1")
    assert process.server.is_quiet()
    one.say((frames.RECORD, b"one"), (frames.TOLD_ALL,), (frames.MEMBERS, 2, "a", 0, 0))
    assert not process.server.is_quiet()
    process.clock.advance(COME_BACK_SECONDS - 0.1)
    process.server.tick()
    assert await one.heard() == []
    process.clock.advance(0.1)
    process.server.tick()
    assert process.server.is_quiet()
    assert await one.heard() == [[frames.MEMBERS_ARE, 2, [], 0]]
    one.say((frames.OTHERS, 3))
    assert await one.heard() == [[frames.OTHERS_ARE, 3, {}]]
