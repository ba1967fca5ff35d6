"""Polling sessions as the class that answers `GET /poll` keeps them, on the whole core.

Clients here keep nothing but what an answer told them.
"""

import asyncio
import json
from dataclasses import replace
from typing import Any

import pytest

from hub.core.commands import PollRequest, Subscribe, Unsubscribe
from hub.core.identity import Identity
from hub.core.publication import Position
from hub.errors import ForbiddenError, NotFoundError, UnavailableError
from hub.transports.poll import PollTransport
from tests.core.node_truth import NAMESPACES
from tests.core.poll_guests import poll_sessions
from tests.core.small_node import Shape, SmallNode

Json = dict[str, Any]
ANYBODY = Identity(subscribe=("*",))
A, B = "long", "long:b"


class Hub:
    """A node whose loop turns beside the test's, and its polls."""

    def __init__(self, *, latent: bool = True, max_connections: int = 1000, **more: Any) -> None:
        self.node = SmallNode(
            Shape(NAMESPACES, latent=latent, max_connections=max_connections, **more)
        )
        self.polls = PollTransport(poll_sessions(self.node))

    async def turn(self, times: int = 50) -> None:
        """Let everything go on that can, a step at a time."""
        for _ in range(times):
            self.node.loop.turn()
            self.node.loop.step()
            await asyncio.sleep(0)

    def begin(self, request: PollRequest) -> "asyncio.Task[bytes]":
        return asyncio.ensure_future(self.polls.poll(request))

    async def answer(self, request: PollRequest) -> Json:
        """The answer to one poll, while the node does its work."""
        waiting = self.begin(request)
        while not waiting.done():
            await self.turn(1)
        told: Json = json.loads(waiting.result())
        return told

    @property
    def held(self) -> tuple[int, int]:
        """Sessions and channels of the node."""
        return len(self.node.registry.sessions), len(self.node.channels)


def ask(*channels: str, since: dict[str, str] | None = None, **more: Any) -> PollRequest:
    """A poll; `welcome` goes on with the session of that answer."""
    welcome: Json = more.pop("welcome", {})
    places = {name: Position.parse(text) for name, text in (since or {}).items()}
    request = PollRequest(
        channels=channels,
        since=places,
        last=None,
        wait_seconds=0.0,
        fill=True,
        connection=welcome.get("connection"),
        secret=welcome.get("secret"),
        session=False,
        identity=ANYBODY,
        address="192.0.2.1",
        user_agent="test",
    )
    return replace(request, **more)


def data(answer: Json, channel: str) -> list[Any]:
    return [p["data"] for p in answer["pushes"] if p["op"] == "message" and p["channel"] == channel]


def ops(answer: Json) -> list[str]:
    return [push["op"] for push in answer["pushes"]]


@pytest.mark.parametrize("says_all", [False, True], ids=["to the letter", "with its connection"])
async def test_two_channels_come_whole_to_who_passes_positions_on(says_all: bool) -> None:
    """They come in order, each once, and none starves, whichever channel has more."""
    hub = Hub()
    answer = await hub.answer(ask(A, B))
    assert answer["positions"].keys() == {A, B}
    seen: dict[str, list[Any]] = {A: [], B: []}
    for number in range(40):
        hub.node.publish(A, b"%d" % number)
        if number % 4 == 0:
            hub.node.publish(B, b"%d" % number)
        welcome = answer["welcome"] if says_all else {}
        answer = await hub.answer(ask(A, B, since=answer["positions"], welcome=welcome))
        assert answer["positions"].keys() == {A, B}
        for name in seen:
            seen[name] += data(answer, name)
    assert seen == {A: [*range(40)], B: [*range(0, 40, 4)]}


@pytest.mark.parametrize("says_all", [False, True], ids=["to the letter", "with its connection"])
async def test_a_channel_that_fills_every_answer_does_not_starve_another(says_all: bool) -> None:
    """Channels take turns, also where more comes than an answer takes."""
    hub = Hub()
    answer = await hub.answer(ask(A, B))
    hub.node.publish(B, b'"here"')
    for _ in range(30):
        for _ in range(10):
            hub.node.publish(A, b'"%b"' % (b"." * 500))
        welcome = answer["welcome"] if says_all else {}
        request = ask(A, B, since=answer["positions"], welcome=welcome, max_bytes=2000)
        answer = await hub.answer(request)
        if data(answer, B):
            return
    raise AssertionError("thirty answers, and nothing of the other channel")


async def test_a_session_that_passes_all_positions_stays_one_and_gets_its_messages() -> None:
    """`session=true`, every channel and every position: more than it must say."""
    hub = Hub()
    first = await hub.answer(ask(A, B, session=True))
    assert ops(first) == ["subscribed", "subscribed"]
    answer, seen = first, []
    for number in range(5):
        hub.node.publish(A if number % 2 else B, b"%d" % number)
        request = ask(A, B, since=answer["positions"], welcome=first["welcome"], session=True)
        answer = await hub.answer(request)
        assert answer["welcome"]["connection"] == first["welcome"]["connection"]
        seen += data(answer, A) + data(answer, B)
    assert seen == [*range(5)]


@pytest.mark.parametrize("session", [False, True])
async def test_a_poll_that_resumes_with_every_position_is_answered_with_all_that_is_missing(
    session: bool,
) -> None:
    """Also by the first poll of a session, which has `subscribed` to tell."""
    hub = Hub()
    places = (await hub.answer(ask(A, B)))["positions"]
    for name in (A, B, A):
        hub.node.publish(name)
    answer = await hub.answer(ask(A, B, since=places, session=session))
    assert (len(data(answer, A)), len(data(answer, B))) == (2, 1)


async def test_an_answer_that_was_lost_loses_nothing_of_any_channel() -> None:
    """Each poll after a lost one begins where the peer is, in the channels it had not named too."""
    hub = Hub()
    first = await hub.answer(ask(A, B))
    hub.node.publish(B, b'"lost"')
    same = {"since": first["positions"], "welcome": first["welcome"]}
    lost = await hub.answer(ask(A, B, **same))
    assert data(lost, B) == ["lost"]
    again = await hub.answer(ask(A, B, **same))
    assert data(again, B) == ["lost"]
    assert again["positions"] == lost["positions"]


async def test_a_channel_not_named_after_a_lost_answer_goes_on_from_the_poll_before() -> None:
    """Never from the head: a peer that names one channel of two does not give up the other."""
    hub = Hub()
    first = await hub.answer(ask(A, B))
    hub.node.publish(A)
    hub.node.publish(B, b'"lost"')
    only_a = {A: first["positions"][A]}
    await hub.answer(ask(A, since=only_a, welcome=first["welcome"]))
    again = await hub.answer(ask(A, since=only_a, welcome=first["welcome"]))
    assert data(again, B) == ["lost"]
    assert again["positions"].keys() == {A, B}


async def test_the_channels_that_moved_are_the_last_in_the_positions() -> None:
    """A client whose URL has not room for all names these: they show whether an answer came."""
    hub = Hub()
    names = ["long:1", "long:2", "long:3"]
    first = await hub.answer(ask(*names))
    for name in names:
        hub.node.publish(name)
        answer = await hub.answer(ask(*names, since=first["positions"], welcome=first["welcome"]))
        assert [*answer["positions"]][-1] == name
        first = answer


async def test_the_positions_beside_a_goodbye_go_exactly_with_the_messages_before_it() -> None:
    """A client that resumes from there repeats nothing and misses nothing."""
    hub = Hub()
    first = await hub.answer(ask(A, B))
    waiting = hub.begin(
        ask(A, B, since=first["positions"], welcome=first["welcome"], wait_seconds=20.0)
    )
    await hub.turn()
    [session] = hub.node.registry.sessions.values()
    hub.node.publish(A, b"1")
    hub.node.loop.settle()
    session.close(1012, "draining", 1000)
    answer = json.loads(await waiting)
    assert ops(answer) == ["message", "goodbye"]
    hub.node.publish(A, b"2")
    hub.node.publish(B, b"3")
    after = await hub.answer(ask(A, B, since=answer["positions"]))
    assert (data(after, A), data(after, B)) == ([2], [3])


async def test_a_reset_that_did_not_fit_into_an_answer_is_told_by_the_next() -> None:
    """The position stays in the epoch that ended until then."""
    hub = Hub()
    first = await hub.answer(ask(A, B))
    for _ in range(3):
        hub.node.publish(B, b'"%b"' % (b"." * 500))
    hub.node.begin_epoch(A)
    told: list[str] = []
    answer = first
    while "gap" not in told:
        before = answer["positions"][A]
        request = ask(A, B, since=answer["positions"], welcome=first["welcome"], max_bytes=100)
        answer = await hub.answer(request)
        told = ops(answer)
        assert (answer["positions"][A] == before) == ("gap" not in told)


# -- a peer that has gone -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("session", "turns"), [(False, 0), (False, 1), (False, 2), (False, 50), (True, 0), (True, 1)]
)
async def test_a_first_poll_whose_peer_has_gone_leaves_nothing(session: bool, turns: int) -> None:
    """Nobody was told the session's name, so nobody can go on with it."""
    hub = Hub()
    waiting = [
        hub.begin(ask(A, f"long:{n}", session=session, wait_seconds=30.0)) for n in range(300)
    ]
    await hub.turn(turns)
    for each in waiting:
        each.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    hub.node.loop.settle()
    assert hub.held == (0, 0)
    assert hub.node.counters.polls_abandoned == (300 if turns else 0)


async def test_a_peer_that_was_told_its_session_may_come_back_for_a_while() -> None:
    """With what came for the poll that went without an answer; then the session ends."""
    hub = Hub()
    first = await hub.answer(ask(A, B))
    same = {"since": first["positions"], "welcome": first["welcome"]}
    waiting = hub.begin(ask(A, B, **same, wait_seconds=30.0))
    await hub.turn()
    hub.node.publish(A, b"1")
    hub.node.loop.settle()
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert hub.held == (1, 2)
    back = await hub.answer(ask(A, B, **same))
    assert data(back, A) == [1]
    assert back["welcome"] == first["welcome"]
    waiting = hub.begin(
        ask(A, B, since=back["positions"], welcome=first["welcome"], wait_seconds=30.0)
    )
    await hub.turn()
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    hub.node.wait(11)
    assert hub.held == (0, 0)
    with pytest.raises(NotFoundError):
        await hub.answer(ask(A, B, **same))


async def test_sessions_between_two_polls_are_bounded() -> None:
    """A client that polls without `connection` leaves a session behind with every
    answer; the oldest go first."""
    hub = Hub(max_connections=100)
    told = [await hub.answer(ask(A)) for _ in range(60)]
    assert hub.held == (25, 1)
    assert hub.node.counters.polls_evicted == 35
    assert told[-1]["welcome"]["connection"] in hub.node.registry.sessions


async def test_at_the_bound_of_connections_nobody_asks_the_broker() -> None:
    """A poll is refused at once, and those that nobody went on with give way to the next one."""
    hub = Hub(max_connections=3)
    await hub.answer(ask(A))
    for _ in range(2):
        hub.node.open()
    answer = await hub.answer(ask(A))
    assert answer["welcome"]["connection"] in hub.node.registry.sessions
    kept = await hub.answer(ask(A, since=answer["positions"], welcome=answer["welcome"]))
    calls: list[str] = []
    hub.node.broker.subscribe = lambda *asked: calls.append(str(asked))  # type: ignore[method-assign,assignment] # must not be called
    for _ in range(20):
        with pytest.raises(UnavailableError):
            await hub.answer(ask("long:x"))
    assert calls == []
    assert kept["welcome"]["connection"] in hub.node.registry.sessions


# -- what polls hold together ----------------------------------------------------------------------


async def test_messages_that_waiting_polls_hold_are_counted_and_bounded_for_all_together() -> None:
    """At the bound a poll is answered with what it has; the rest comes with the next, none lost."""
    hub = Hub(outbox_total_bytes=5000)
    budget = hub.node.outbox_budget
    polls = [await hub.answer(ask(A)) for _ in range(8)]
    assert budget.total_bytes == 0
    for number in range(20):
        hub.node.publish(A, b'"%d%b"' % (number % 10, b"." * 500))
    seen: list[list[Any]] = [[] for _ in polls]
    while any(len(data) < 20 for data in seen):
        waiting = [
            hub.begin(ask(A, since=told["positions"], welcome=told["welcome"])) for told in polls
        ]
        while not all(poll.done() for poll in waiting):
            await hub.turn(1)
            assert budget.polled_bytes <= 5000
        polls = [json.loads(poll.result()) for poll in waiting]
        for got, told in zip(seen, polls, strict=True):
            got += [text[0] for text in data(told, A)]
            assert ops(told) == ["message"] * len(ops(told))
    assert seen == [[str(number % 10) for number in range(20)]] * 8
    assert budget.polled_bytes == 0


@pytest.mark.parametrize("end", ["lease", "closed", "closed and left"])
async def test_messages_that_an_abandoned_poll_holds_are_counted_until_its_session_ends(
    end: str,
) -> None:
    """The peer may come back for the messages; a peer that does not is
    forgotten with all that it held."""
    hub = Hub()
    budget = hub.node.outbox_budget
    first = await hub.answer(ask(A))
    [session] = hub.node.registry.sessions.values()
    for number in range(3):
        hub.node.publish(A, b"%d" % number)
    poll = hub.begin(ask(A, since=first["positions"], welcome=first["welcome"], wait_seconds=60.0))
    while not budget.polled_bytes:
        await hub.turn(1)
    if end == "closed and left":
        session.close(1000, "test")
    poll.cancel()
    with pytest.raises(asyncio.CancelledError):
        await poll
    assert bool(budget.polled_bytes) is (end != "closed and left")
    if end == "closed":
        session.close(1000, "test")
    hub.node.wait(11.0)
    assert budget.total_bytes == 0
    assert not hub.node.registry.sessions


# -- more than it must say ------------------------------------------------------------------------


async def test_a_channel_that_a_client_names_besides_is_subscribed() -> None:
    """From the position that it names."""
    hub = Hub()
    place = str(hub.node.publish(B).position)
    hub.node.publish(B, b"2")
    first = await hub.answer(ask(A))
    since = first["positions"] | {B: place}
    answer = await hub.answer(ask(A, B, since=since, welcome=first["welcome"]))
    assert data(answer, B) == [2]
    assert answer["positions"].keys() == {A, B}
    assert answer["welcome"] == first["welcome"]


async def test_a_channel_that_a_session_has_left_is_not_taken_up_by_naming_it() -> None:
    """An operator's word, or a command, holds until the peer asks by a command."""
    hub = Hub()
    first = await hub.answer(ask(A, B))
    [session] = hub.node.registry.sessions.values()
    hub.node.do(session, Unsubscribe(1, B))
    for _ in range(2):
        first = await hub.answer(ask(A, B, since=first["positions"], welcome=first["welcome"]))
        assert session.subscriptions.keys() == {A}


async def test_a_session_keeps_no_names_that_nobody_names_any_more() -> None:
    """However many channels it was in, one after the other, and although each was answered."""
    hub = Hub()
    first = await hub.answer(ask(A))
    [session] = hub.node.registry.sessions.values()
    last = first
    for number in range(20):
        name = f"{A}:{number}"
        hub.node.do(session, Subscribe(1, name, None, None))
        last = await hub.answer(ask(A, since=last["positions"], welcome=first["welcome"]))
        assert name in last["positions"]
        hub.node.do(session, Unsubscribe(2, name))
    polling = hub.polls._sessions._find(ask(A, since=last["positions"], welcome=first["welcome"]))
    assert polling is not None
    assert polling.ever == {A}


async def test_a_channel_that_was_left_long_ago_is_taken_up_by_naming_it_anew() -> None:
    """The polls between did not name it, so the peer knew that it had left it."""
    hub = Hub()
    last = await hub.answer(ask(A, B))
    welcome = last["welcome"]
    [session] = hub.node.registry.sessions.values()
    hub.node.do(session, Unsubscribe(1, B))
    since = last["positions"]
    for names, held in (((A, B), {A}), ((A,), {A}), ((A, B), {A, B})):
        last = await hub.answer(ask(*names, since=since, welcome=welcome))
        since = last["positions"]
        assert session.subscriptions.keys() == held


async def test_a_channel_that_it_may_not_read_ends_no_session() -> None:
    hub = Hub()
    only = Identity(subscribe=(A,))
    first = await hub.answer(ask(A, identity=only))
    same = {"since": first["positions"], "welcome": first["welcome"]}
    with pytest.raises(ForbiddenError):
        await hub.answer(ask(A, B, **same))
    assert (await hub.answer(ask(A, **same)))["welcome"] == first["welcome"]
