"""Signs of life: pushes for everybody, pings where there are some, and the end of the dead."""

from itertools import pairwise

import pytest

from hub.core.commands import Publish
from hub.core.session.session import Session
from hub.core.time import heartbeats
from hub.core.time.deadlines import AwakeClock
from tests.core.fakes import FakeLink
from tests.core.small_node import Shape, SmallNode, limits
from tests.core.subscribers import Subscriber

STEP_SECONDS = 0.05
INTERVAL_SECONDS, TIMEOUT_SECONDS = 25, 10
# From when on a pong is late.
LATE_SECONDS = 0.5
# As `FakeLink` makes them; nothing else that it is sent has such a byte.
PING = b"\x89"


def run(node: SmallNode, seconds: float) -> None:
    """Let time pass as the event loop does."""
    for _ in range(round(seconds / STEP_SECONDS)):
        node.clock.advance(STEP_SECONDS)
        node.deadlines.tick(node.clock())
        node.heartbeats.tick()
        node.loop.settle()


def pinged(node: SmallNode, *, acknowledged: int = 0) -> tuple[Session, FakeLink]:
    """A session whose ping is just due; its kernel has `acknowledged` bytes by then."""
    session, link = node.open(answers_pings=True)
    link.acknowledged = acknowledged
    while PING not in link.received:
        run(node, STEP_SECONDS)
    return session, link


def test_every_session_gets_a_heartbeat_in_each_interval() -> None:
    """A browser cannot see pings, so it is a push; never further apart than was said."""
    node = SmallNode()
    readers = [Subscriber(node, transport="sse") for _ in range(40)]
    heard: dict[int, list[float]] = {n: [node.clock()] for n in range(40)}
    for _ in range(round(80 / STEP_SECONDS)):
        run(node, STEP_SECONDS)
        for number, reader in enumerate(readers):
            heard[number] += [node.clock() for push in reader.read() if push["op"] == "heartbeat"]
    for times in heard.values():
        spans = [late - early for early, late in pairwise(times)]
        assert len(spans) >= 3
        assert max(spans) <= INTERVAL_SECONDS + 2 * STEP_SECONDS


def test_heartbeats_are_spread_over_the_interval() -> None:
    """The sessions do not all have their heartbeat at the same moment."""
    node = SmallNode()
    slots = {node.open()[0].beat_slot for _ in range(200)}
    assert len(slots) > 50


def test_few_moments_have_all_heartbeats_of_an_interval() -> None:
    """A heartbeat beside others of the same moment costs less; at most a few hundredths of all
    sessions share a moment."""
    node = SmallNode(Shape(max_connections=2000))
    links = [node.open(answers_pings=True)[1] for _ in range(1000)]
    beaten: list[int] = []
    for _ in range(round(INTERVAL_SECONDS / STEP_SECONDS)):
        before = sum(PING in link.received for link in links)
        run(node, STEP_SECONDS)
        beaten.append(sum(PING in link.received for link in links) - before)
    moments = [count for count in beaten if count]
    assert len(moments) <= 126
    assert max(moments) <= 40


def test_a_pong_measures_the_round_trip() -> None:
    node = SmallNode()
    session, _ = pinged(node)
    node.clock.advance(0.25)
    node.heartbeats.pong(session)
    assert session.round_trip_seconds == pytest.approx(0.25)
    assert sum(node.counters.heartbeat_round_trip.buckets) == 1


def test_a_pong_nobody_asked_for_counts_for_nothing() -> None:
    node = SmallNode()
    session, _ = node.open(answers_pings=True)
    node.heartbeats.pong(session)
    assert session.round_trip_seconds is None


def test_a_peer_that_misses_its_pong_is_closed_with_4504() -> None:
    """The peer is closed although its kernel took the ping."""
    node = SmallNode()
    session, link = pinged(node)
    run(node, TIMEOUT_SECONDS - 1)
    assert not session.closing
    run(node, 2)
    assert link.closed is not None
    assert link.closed[0] == 4504
    assert node.counters.closed == {"4504": 1}


def test_a_peer_that_answers_lives_on() -> None:
    node = SmallNode()
    session, _ = pinged(node)
    for _ in range(20):
        node.heartbeats.pong(session)
        run(node, 5)
    assert not session.closing


def test_a_peer_that_takes_nothing_is_cut_although_no_ping_could_be_written() -> None:
    """The deadline runs from when the ping was due, however full the buffers are."""
    node = SmallNode()
    reader = Subscriber(node, "a", transport="sse")
    reader.block()
    reader.publish("a", 3)
    run(node, INTERVAL_SECONDS + TIMEOUT_SECONDS + 1)
    assert reader.link.aborted
    assert node.counters.closed == {"4504": 1}


def test_a_slow_peer_is_not_dead() -> None:
    """A slow peer gets its whole time again as long as its transport drains."""
    node = SmallNode()
    reader = Subscriber(node, "a", transport="sse")
    for _ in range(30):
        reader.block()
        reader.publish("a", 1)
        run(node, 4)
        reader.drain()
        reader.block()
        reader.publish("a", 1)
    assert not reader.session.closing


def test_a_peer_whose_kernel_acknowledges_is_not_dead() -> None:
    """Bytes move, although the transport's buffer never became empty."""
    node = SmallNode()
    reader = Subscriber(node, "a", transport="sse")
    reader.link.acknowledged = 1
    reader.block()
    reader.publish("a", 3)
    for _ in range(30):
        run(node, 4)
        reader.link.acknowledged += 1
    assert not reader.session.closing
    run(node, INTERVAL_SECONDS + 2 * TIMEOUT_SECONDS)
    assert reader.session.closing


def test_a_peer_that_reads_slowly_behind_a_full_kernel_is_not_dead() -> None:
    """Its ping waits in this side's kernel although the session is writable."""
    node = SmallNode()
    session, link = pinged(node)
    link.unsent = 1
    run(node, LATE_SECONDS + STEP_SECONDS)
    for _ in range(10):
        link.acknowledged += 1
        run(node, TIMEOUT_SECONDS)
    assert not session.closing


def test_the_kernel_is_asked_only_where_a_pong_is_late() -> None:
    """Asking for each connection at each ping would take an eighth of what
    an idle connection costs."""
    node = SmallNode()
    session, link = pinged(node)
    run(node, LATE_SECONDS / 2)
    node.heartbeats.pong(session)
    run(node, INTERVAL_SECONDS / 2)
    assert link.asked_of_kernel == 0
    while len(link.received.split(PING)) < 3:
        run(node, STEP_SECONDS)
    run(node, LATE_SECONDS + STEP_SECONDS)
    assert link.asked_of_kernel == 1


def test_of_a_peer_that_takes_nothing_the_kernel_is_asked_at_once() -> None:
    """Bytes that the peer acknowledges after a sign of life is due are a sign of life."""
    node = SmallNode()
    reader = Subscriber(node, "a", transport="sse")
    reader.block()
    reader.publish("a", 3)
    while not reader.link.asked_of_kernel:
        run(node, STEP_SECONDS)
    reader.link.acknowledged += 1
    run(node, TIMEOUT_SECONDS + 1)
    assert not reader.session.closing


@pytest.mark.parametrize(("unsent", "moves"), [(0, 1), (1, 0)])
def test_a_kernel_with_room_or_without_progress_is_no_sign_of_life(unsent: int, moves: int) -> None:
    node = SmallNode()
    session, link = pinged(node)
    link.unsent = unsent
    link.acknowledged += moves
    run(node, TIMEOUT_SECONDS + 1)
    assert session.closing


def test_bytes_acknowledged_before_the_ping_are_no_sign_of_life() -> None:
    node = SmallNode()
    session, link = pinged(node, acknowledged=5000)
    link.unsent = 1
    run(node, TIMEOUT_SECONDS + 1)
    assert session.closing


def test_a_stall_of_the_loop_does_not_beat_anybody_twice() -> None:
    node = SmallNode()
    reader = Subscriber(node, transport="sse")
    run(node, 1)
    reader.read()
    node.clock.advance(10 * INTERVAL_SECONDS)
    node.heartbeats.tick()
    assert [push["op"] for push in reader.read()] == ["heartbeat"]


def test_a_session_that_ended_is_not_beaten_or_cut() -> None:
    """The wheel does not hold the session either."""
    node = SmallNode()
    session, link = pinged(node)
    session.lost(1006, "gone")
    before = bytes(link.received)
    run(node, 3 * INTERVAL_SECONDS)
    assert link.received == before
    assert node.counters.closed == {"1006": 1}


def test_a_peer_that_is_not_read_from_is_not_silent() -> None:
    """The peer's pong stands behind commands that the hub has not taken yet; a dead
    peer is cut off after that."""
    node = SmallNode()
    session, link = pinged(node)
    link.pause_reading()
    run(node, 5 * TIMEOUT_SECONDS)
    assert not session.closing
    link.resume_reading()
    run(node, TIMEOUT_SECONDS + 1)
    assert session.closing
    assert link.closed == (4504, "no sign of life for 10 seconds")


def test_a_peer_that_is_read_from_again_has_its_whole_time() -> None:
    """Bytes that the peer sent before are still unread when it is next judged."""
    node = SmallNode(Shape(limits=limits(inbox_max_commands=2), latent=True))
    session, link = pinged(node)
    for number in range(4):
        node.commands.submit(session, Publish(number, "a", b"1"))
    assert not link.reading
    run_only_time(node, TIMEOUT_SECONDS - 1)
    node.loop.settle()
    assert link.reading
    run(node, 2)
    assert not session.closing
    node.heartbeats.pong(session)
    run(node, TIMEOUT_SECONDS)
    assert not session.closing


def run_only_time(node: SmallNode, seconds: float) -> None:
    """Let time pass while the broker answers nobody."""
    for _ in range(round(seconds / STEP_SECONDS)):
        node.clock.advance(STEP_SECONDS)
        node.heartbeats.tick()


def test_a_stall_of_the_node_is_no_silence_of_its_peers() -> None:
    """A peer that answered during the stall is read first; one that did not is
    cut off after its own time."""
    node = SmallNode()
    awake = AwakeClock(node.clock)
    node.heartbeats._awake = awake
    (answers, first), (silent, second) = (node.open(answers_pings=True) for _ in range(2))

    def tick(seconds: float) -> None:
        for _ in range(round(seconds / STEP_SECONDS)):
            node.clock.advance(STEP_SECONDS)
            if awake.tick():
                node.heartbeats.tick()

    # Both are pinged in the same moment.
    node.heartbeats.remove(silent)
    silent.beat_slot = answers.beat_slot
    node.heartbeats._slots[silent.beat_slot].add(silent)
    while not (PING in first.received and PING in second.received):
        tick(STEP_SECONDS)
    tick(1)
    node.clock.advance(600)
    if awake.tick():
        node.heartbeats.tick()
    assert not answers.closing
    assert not silent.closing
    node.heartbeats.pong(answers)
    tick(TIMEOUT_SECONDS - 2)
    assert not silent.closing
    tick(2)
    assert silent.closing
    assert not answers.closing


def all_in_one_slot(node: SmallNode, count: int) -> list[tuple[Session, FakeLink]]:
    """Sessions whose pings are due together, and have just been sent."""
    found = [node.open(answers_pings=True) for _ in range(count)]
    for session, _ in found:
        node.heartbeats.remove(session)
        session.beat_slot = found[0][0].beat_slot
        node.heartbeats._slots[session.beat_slot].add(session)
    return found


def test_the_heartbeats_of_a_slot_are_sent_in_turns_and_their_pongs_are_due_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Behind a stall all slots are due: 50,000 heartbeats were one step of a quarter of a second.

    A session that ends before its turn gets none, and is awaited no more.
    """
    monkeypatch.setattr(heartbeats, "BEATS_AT_ONCE", 4)
    node = SmallNode()
    found = all_in_one_slot(node, 10)

    def beaten() -> list[Session]:
        return [session for session, link in found if PING in link.received]

    while not beaten():
        node.clock.advance(STEP_SECONDS)
        node.heartbeats.tick()
    assert len(beaten()) == 4
    ended = next(session for session, _ in found if session not in beaten())
    ended.close(1000, "by itself")
    due = node.clock()
    node.clock.advance(1)
    counts = [4]
    while node.loop.callbacks:
        node.loop.turn()
        counts.append(len(beaten()))
    assert counts[-1] == 9
    assert max(late - early for early, late in pairwise(counts)) <= 4
    assert {ping.due_seconds for ping in node.heartbeats._awaited.values()} == {due}
    assert ended not in node.heartbeats._awaited


def test_silent_peers_are_cut_in_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a failure of the network all of them are due together; a peer that
    answers before its turn stays."""
    monkeypatch.setattr(heartbeats, "CUTS_AT_ONCE", 4)
    node = SmallNode()
    found = all_in_one_slot(node, 10)
    while not all(PING in link.received for _, link in found):
        run(node, STEP_SECONDS)

    def cut() -> int:
        return sum(session.closing for session, _ in found)

    while not cut():
        node.clock.advance(STEP_SECONDS)
        node.heartbeats.tick()
    assert cut() == 4
    answers = next(session for session, _ in found if not session.closing)
    node.heartbeats.pong(answers)
    counts = [4]
    while node.loop.callbacks:
        node.loop.turn()
        counts.append(cut())
    assert counts[-1] == 9
    assert max(late - early for early, late in pairwise(counts)) <= 4
    assert not answers.closing
