"""Bans, kicks and keys that are taken out concern many sessions, which are handled in turns."""

import asyncio
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import pytest
import structlog

from hub.admin.bans import AccessLog, SetStanding
from hub.admin.connections import DisconnectSubject, SubjectHandlers, UnsubscribeSubject
from hub.auth.bans import StandingKind
from hub.core.commands import Subscribe
from hub.core.each_session import ACT_COST, TURN_COST, each_session
from hub.core.identity import Identity
from hub.core.session.session import Session
from hub.node.access import end_without_key
from tests.core.small_node import Shape, SmallNode

AT_ONCE = TURN_COST // ACT_COST
COUNT = 3 * AT_ONCE + 2
ANN = Identity(subject="ann", subscribe=("*",))
BOB = Identity(subject="bob", subscribe=("*",))


def a_node(count: int = COUNT) -> SmallNode:
    """Makes a node with sessions of ann, and one of bob."""
    node = SmallNode(Shape(max_connections=10**6))
    for number in range(count + 1):
        session, _ = node.open(identity=BOB if number == 1 else ANN)
        node.commands.submit(session, Subscribe(None, "a"))
    node.loop.settle()
    return node


def of_ann(node: SmallNode) -> list[Session]:
    return [each for each in node.registry.sessions.values() if each.identity is ANN]


async def in_turns(work: Awaitable[object], left: Callable[[], int]) -> tuple[object, list[int]]:
    """Return the result of the work, and how many sessions it acted on in each turn."""
    running, before, found = asyncio.ensure_future(work), left(), []
    while not running.done():
        await asyncio.sleep(0)
        found.append(before - left())
        before = left()
    return running.result(), found


@pytest.mark.parametrize("asked", ["disconnect", "unsubscribe"])
async def test_an_operator_acts_on_many_connections_of_a_subject_in_turns(asked: str) -> None:
    """10,000 closes in one step took half a second. The answer comes behind the last of them."""
    node = a_node()
    handlers = SubjectHandlers(node.registry, node.membership).handlers()

    def left() -> int:
        return sum("a" in each.subscriptions for each in of_ann(node))

    request = (
        DisconnectSubject("ann", 4403, "out")
        if asked == "disconnect"
        else UnsubscribeSubject("ann", "a")
    )
    told, turns = await in_turns(handlers[type(request)](request), left)
    assert (told, left()) == (COUNT, 0)
    assert max(turns) == AT_ONCE
    [bob] = [each for each in node.registry.sessions.values() if each.identity is BOB]
    assert "a" in bob.subscriptions


async def test_a_ban_ends_many_sessions_in_turns_and_is_answered_behind_them() -> None:
    """The ban holds at every door from the first moment."""
    node = a_node()
    node.loop.spawn = lambda work: asyncio.ensure_future(work)  # type: ignore[assignment,method-assign]
    node.registry.spawn = node.loop.spawn
    log = AccessLog(None, lambda: node.registry, now_ms=lambda: 1000, log=structlog.get_logger())
    ban = SetStanding(StandingKind.BAN, "ann", 60.0, "spam")
    with structlog.testing.capture_logs() as lines:
        _, turns = await in_turns(log.handlers()[SetStanding](ban), lambda: len(of_ann(node)))
    assert not of_ann(node)
    assert max(turns) == AT_ONCE
    assert [e["sessions_closed"] for e in lines if e["event"] == "access_changed"] == [COUNT]


async def test_sessions_of_a_key_that_is_taken_out_end_in_turns() -> None:
    node = a_node()
    policy: Any = SimpleNamespace(still_holds=lambda identity: identity is not ANN)
    told, turns = await in_turns(end_without_key(node.registry, policy), lambda: len(of_ann(node)))
    assert (told, of_ann(node)) == (COUNT, [])
    assert max(turns) == AT_ONCE


async def test_a_turn_looks_at_a_bounded_number_of_sessions() -> None:
    """The bound holds also if none of the sessions is concerned."""
    looked: list[Session] = []
    node = SmallNode()
    some = [node.open()[0] for _ in range(3)]
    node.registry.sessions = {str(n): some[n % 3] for n in range(2 * TURN_COST + 1)}

    def look(session: Session) -> bool:
        looked.append(session)
        return False

    told, turns = await in_turns(each_session(node.registry, look), lambda: -len(looked))
    assert told == 0
    assert [each for each in turns if each] == [TURN_COST, TURN_COST, 1]


async def test_a_session_that_ends_or_comes_between_two_turns_is_left_out() -> None:
    """A session that ended needs no action, and one that comes was judged at the door."""
    node = a_node()
    acted: list[Session] = []

    def act(session: Session) -> bool:
        acted.append(session)
        if len(acted) == 1:
            last.close(1000, "by itself")
            node.open(identity=ANN)
        return True

    last = of_ann(node)[-1]
    before = list(node.registry.sessions.values())
    assert await each_session(node.registry, act) == COUNT
    assert acted == before[:-1]


async def test_a_fault_with_one_session_ends_that_one_alone() -> None:
    """The others must not stay because one cannot be told."""
    node = a_node()
    bad = of_ann(node)[3]

    def act(session: Session) -> bool:
        if session is bad:
            raise RuntimeError("as no session should be")
        session.close(4403, "out")
        return True

    assert await each_session(node.registry, act) == COUNT
    assert not node.registry.sessions
    assert [str(fault) for fault in node.faults] == ["as no session should be"]
