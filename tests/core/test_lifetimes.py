"""A session ends when its token does, or at an age of its own, and is warned before."""

from dataclasses import replace

import pytest

from hub.core.commands import Authenticate
from hub.core.identity import Identity
from hub.core.pushes import Reply
from tests.core.fakes import WALL_START_SECONDS
from tests.core.small_node import ANYTHING, Shape, SmallNode
from tests.core.subscribers import Subscriber


def lifetimes(node: SmallNode, readers: list[Subscriber], seconds: int) -> list[int]:
    """Returns in order the seconds after which the sessions ended."""
    ended: dict[str, int] = {}
    for second in range(seconds):
        node.clock.advance(1)
        node.deadlines.tick(node.clock())
        for reader in readers:
            if reader.session.closing:
                ended.setdefault(reader.session.id, second + 1)
    return sorted(ended.values())


def test_connections_that_came_together_do_not_leave_together() -> None:
    """Their ends are spread between four and six fifths of the age, and each is told why."""
    node = SmallNode(Shape(max_age_seconds=100))
    readers = [Subscriber(node, "a") for _ in range(200)]
    ages = lifetimes(node, readers, 130)
    assert len(ages) == 200
    assert 80 <= ages[0] < 90
    assert 110 < ages[-1] <= 121
    assert max(ages.count(age) for age in ages) < 25
    goodbye = readers[0].read()[-1]
    assert (goodbye["op"], goodbye["code"], goodbye["reason"]) == ("goodbye", 1012, "max_age")
    assert goodbye["reconnect_within_ms"] == 1000


def test_without_an_age_they_stay() -> None:
    """No deadline is kept for any of the sessions."""
    node = SmallNode()
    readers = [Subscriber(node, "a") for _ in range(20)]
    assert len(node.deadlines) == 0
    assert lifetimes(node, readers, 500) == []


def test_a_session_that_has_gone_leaves_no_deadline_behind() -> None:
    """The deadline of an ended session lets go of it."""
    node = SmallNode(Shape(max_age_seconds=100))
    reader = Subscriber(node, "a")
    reader.session.lost(1006, "cut")
    assert node.registry._aging._due == {}


def expiring(node: SmallNode, seconds: float) -> Identity:
    return replace(ANYTHING, subject="ann", expires_at=node.clock.wall() + seconds)


def test_a_session_is_warned_before_its_token_ends_and_ends_with_it() -> None:
    """The warning comes 30 s before the end, and the session ends with 4401."""
    node = SmallNode()
    reader = Subscriber(node, identity=expiring(node, 100))
    node.wait(69)
    assert reader.read() == []
    node.wait(2)
    assert reader.read() == [{"op": "expiring", "in_seconds": 29}]
    node.wait(28)
    assert not reader.session.closing
    node.wait(2)
    assert reader.read()[-1]["code"] == 4401


def test_a_refreshed_token_begins_its_time_anew() -> None:
    """The old one's end does not end the session."""
    node = SmallNode()
    reader = Subscriber(node, identity=expiring(node, 100))
    node.wait(80)
    node.policy.known["new"] = expiring(node, 100)
    reader.read()
    node.do(reader.session, Authenticate(1, "new"))
    assert reader.read()[0]["ok"] == {"expires_in_seconds": 100}
    node.wait(75)
    assert not reader.session.closing
    node.wait(30)
    assert reader.session.closing


def test_a_short_token_is_warned_of_halfway_so_that_authenticating_does_not_go_in_circles() -> None:
    """A peer that answers each warning with the same token is warned
    less than ten times in 28 s."""
    node = SmallNode()
    node.policy.known["same"] = identity = expiring(node, 28)
    reader = Subscriber(node, identity=identity)
    node.wait(13)
    assert reader.read() == []
    warned: list[object] = []
    for _ in range(200):
        node.wait(0.1)
        left = [push["in_seconds"] for push in reader.read() if push["op"] == "expiring"]
        warned += left
        if any(left):
            node.do(reader.session, Authenticate(1, "same"))
    assert reader.session.closing
    assert warned[:3] == [14, 7, 3]
    assert len(warned) < 10


def test_a_token_that_ends_during_a_stall_ends_its_session_all_the_same() -> None:
    """The warning comes late then, and the end right behind it."""
    node = SmallNode()
    reader = Subscriber(node, identity=expiring(node, 100))
    node.wait(500)
    node.wait(0.2)
    assert reader.session.closing
    assert node.clock.wall() > WALL_START_SECONDS


def test_a_session_that_authenticates_while_it_ends_is_let_go_of_all_the_same() -> None:
    """The reply goes to a caller of `POST /command` that is still there."""
    node = SmallNode()
    reader = Subscriber(node, identity=expiring(node, 100))
    node.policy.known["new"] = expiring(node, 100)
    waiting = len(node.deadlines)
    replies: list[Reply] = []
    reader.session.lost(1006, "gone")
    node.commands.submit(reader.session, Authenticate(1, "new"), replies.append)
    node.loop.settle()
    assert replies[0].ok == {"expires_in_seconds": 100}
    assert len(node.deadlines) == waiting


@pytest.mark.parametrize("ends", [1e18, 1e300, 1.7976931348623157e308, float("inf")])
def test_a_token_that_ends_after_the_world_makes_a_session_like_any_other(ends: float) -> None:
    """Such a session opens, authenticates, gets its reply, and closes without a fault."""
    node = SmallNode()
    identity = replace(ANYTHING, subject="ann", expires_at=ends)
    reader = Subscriber(node, identity=identity)
    node.policy.known["long"] = identity
    node.do(reader.session, Authenticate(1, "long"))
    (reply,) = reader.read()
    left = reply["ok"]["expires_in_seconds"]
    assert 1e9 < left < 2**53
    assert not node.faults
    reader.session.lost(1006, "gone")
    assert not node.registry.sessions
    node.wait(0.1)
    assert len(node.deadlines) == 0


@pytest.mark.parametrize("jump_seconds", [-86400, 86400])
def test_a_wall_clock_that_is_set_moves_no_sessions_end(jump_seconds: float) -> None:
    """How long the token holds was asked when it was shown."""
    node = SmallNode()
    reader = Subscriber(node, identity=expiring(node, 100))
    reader.read()
    node.clock.wall_jump_seconds = jump_seconds
    node.wait(71)
    assert reader.read() == [{"op": "expiring", "in_seconds": 29}]
    node.wait(28)
    assert not reader.session.closing
    node.wait(2)
    assert reader.session.closing
