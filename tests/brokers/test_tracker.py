"""The per-channel state machine: by example, and against a model of Redis and pub/sub."""

from collections import deque
from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from hub.brokers.tracker import (
    HoldBudget,
    SequencedMessage,
    Step,
    Tracker,
    TrackerPage,
    TrackerState,
)
from hub.core.counters import Counters
from hub.core.options import MIB
from hub.core.publication import Position, Publication
from hub.core.pushes import Gap, GapReason
from tests.brokers.redis.nodes import Stream

CHANNEL = "c"


def message(epoch: str, offset: int, *, valid: bool = True) -> SequencedMessage:
    publication = Publication(CHANNEL, offset, f"{epoch}:{offset}".encode(), 0) if valid else None
    return SequencedMessage(epoch, offset, publication, 10)


def room(
    messages: int = 1000, total_bytes: int = MIB, counters: Counters | None = None
) -> HoldBudget:
    return HoldBudget(
        channel_messages=messages,
        channel_bytes=MIB,
        total_bytes=total_bytes,
        counters=counters or Counters(),
    )


def live_at(epoch: str, offset: int, *, hold: int = 1000) -> Tracker:
    tracker = Tracker(CHANNEL, room(hold))
    tracker.open(Position(epoch, offset))
    assert not tracker.release()
    return tracker


def page(
    head: Position, messages: Sequence[SequencedMessage], *, complete: bool = True
) -> TrackerPage:
    oldest = messages[0].offset if messages else head.offset + 1
    return TrackerPage(head, oldest, messages, complete)


def state(tracker: Tracker) -> TrackerState:
    """Its state now; a type checker believes that an attribute stays as it was found."""
    return tracker.state


def shown(steps: Sequence[Step]) -> list[str]:
    """Steps in short: `a:3`, `gap 4-5`, `reset b:0`."""
    texts = []
    for step in steps:
        match step:
            case Publication():
                texts.append(step.data.decode())
            case Gap():
                texts.append(f"{step.reason.value} {step.first}-{step.last}")
            case Position():
                texts.append(f"reset {step}")
    return texts


def test_next_message_is_delivered_and_repeats_are_dropped() -> None:
    tracker = live_at("a", 3)
    assert shown(tracker.receive(message("a", 4))) == ["a:4"]
    assert not tracker.receive(message("a", 4))
    assert not tracker.receive(message("a", 2))
    assert (state(tracker), tracker.duplicates) == (TrackerState.LIVE, 2)


def test_messages_before_the_head_is_known_wait_for_it() -> None:
    tracker = Tracker(CHANNEL, room())
    for offset in (4, 5, 6):
        assert not tracker.receive(message("a", offset))
    tracker.open(Position("a", 4))
    assert shown(tracker.release()) == ["a:5", "a:6"]
    assert state(tracker) is TrackerState.LIVE


def test_hole_is_filled_from_the_page_and_the_rest_of_it_announced() -> None:
    tracker = live_at("a", 1)
    assert not tracker.receive(message("a", 6))
    assert state(tracker) is TrackerState.FILLING
    assert tracker.ask() == 1
    held = [message("a", offset) for offset in (4, 5, 6)]
    steps = tracker.on_page(page(Position("a", 6), held))
    assert shown(steps) == ["broker 2-3", "a:4", "a:5", "a:6"]
    assert state(tracker) is TrackerState.LIVE


def test_hole_that_opened_after_the_page_was_asked_for_needs_another() -> None:
    tracker = live_at("a", 1)
    tracker.receive(message("a", 3))
    tracker.ask()
    tracker.receive(message("a", 6))
    steps = tracker.on_page(page(Position("a", 3), [message("a", 2), message("a", 3)]))
    assert shown(steps) == ["a:2", "a:3"]
    assert state(tracker) is TrackerState.FILLING
    assert tracker.ask() == 3
    assert shown(tracker.on_page(page(Position("a", 6), []))) == ["broker 4-5", "a:6"]


def test_head_beyond_what_arrived_is_no_loss_until_it_is_confirmed() -> None:
    tracker = live_at("a", 1)
    tracker.receive(message("a", 3))
    tracker.ask()
    # Redis is at 9 already; 4 to 9 are still on their way here, and it keeps none.
    assert shown(tracker.on_page(page(Position("a", 9), []))) == ["broker 2-2", "a:3"]
    assert state(tracker) is TrackerState.LIVE
    tracker.confirm(Position("a", 9))
    assert state(tracker) is TrackerState.FILLING
    tracker.ask()
    assert shown(tracker.on_page(page(Position("a", 9), []))) == ["broker 4-9"]


def test_pages_follow_each_other_until_the_hole_is_closed() -> None:
    tracker = live_at("a", 0)
    tracker.receive(message("a", 5))
    tracker.ask()
    first = page(Position("a", 5), [message("a", 1), message("a", 2)], complete=False)
    assert shown(tracker.on_page(first)) == ["a:1", "a:2"]
    assert tracker.ask() == 2
    rest = page(Position("a", 5), [message("a", 3), message("a", 4)])
    assert shown(tracker.on_page(rest)) == ["a:3", "a:4", "a:5"]


def test_message_of_another_epoch_waits_for_what_redis_says() -> None:
    tracker = live_at("a", 7)
    assert not tracker.receive(message("b", 2))
    tracker.ask()
    new = page(Position("b", 2), [message("b", 1), message("b", 2)])
    assert shown(tracker.on_page(new)) == ["reset b:0"]
    assert tracker.ask() == 0
    assert shown(tracker.on_page(new)) == ["b:1", "b:2"]
    assert state(tracker) is TrackerState.LIVE


def test_new_epoch_without_history_begins_before_what_arrived() -> None:
    tracker = live_at("a", 7)
    tracker.receive(message("b", 3))
    tracker.ask()
    assert shown(tracker.on_page(page(Position("b", 5), []))) == ["reset b:2"]
    tracker.ask()
    assert shown(tracker.on_page(page(Position("b", 5), []))) == ["b:3"]
    assert shown(tracker.receive(message("b", 4))) == ["b:4"]


def test_late_message_of_an_epoch_that_was_left_changes_nothing() -> None:
    tracker = live_at("b", 2)
    tracker.receive(message("a", 8))
    tracker.ask()
    assert not tracker.on_page(page(Position("b", 2), []))
    assert (state(tracker), tracker.position) == (TrackerState.LIVE, Position("b", 2))


def test_page_that_is_older_than_a_new_epoch_does_not_send_it_back() -> None:
    tracker = live_at("a", 1)
    tracker.receive(message("a", 3))
    tracker.ask()
    tracker.receive(message("b", 1))
    steps = tracker.on_page(page(Position("a", 3), [message("a", 2), message("a", 3)]))
    assert shown(steps) == ["a:2", "a:3"]
    assert state(tracker) is TrackerState.FILLING, "what came since then has to be asked about"
    tracker.ask()
    assert shown(tracker.on_page(page(Position("b", 1), [message("b", 1)]))) == ["reset b:0"]


def test_a_publication_that_cannot_be_delivered_is_a_gap_of_its_own() -> None:
    tracker = live_at("a", 0)
    assert shown(tracker.receive(message("a", 1, valid=False))) == ["invalid 1-1"]
    assert shown(tracker.receive(message("a", 2))) == ["a:2"]


def test_more_than_may_wait_is_read_from_history_instead() -> None:
    tracker = live_at("a", 0, hold=2)
    for offset in range(2, 9):
        tracker.receive(message("a", offset))
    tracker.ask()
    everything = [message("a", offset) for offset in range(1, 9)]
    steps = tracker.on_page(page(Position("a", 8), everything))
    assert shown(steps) == [f"a:{offset}" for offset in range(1, 9)]
    assert state(tracker) is TrackerState.LIVE


class World:
    """A Redis, the pub/sub connection of one node, and the tracker of its channel."""

    def __init__(self, *, history: int, page_size: int, hold: int) -> None:
        self.history, self.page_size = history, page_size
        self.epoch, self.offset = 0, 0
        self.log: deque[int] = deque(maxlen=history)
        self.wire: deque[SequencedMessage] = deque()
        self.lost: set[Position] = set()
        self.room = room(hold)
        self.tracker = Tracker(CHANNEL, self.room)
        self.hold = hold
        self.stream = Stream()
        self.asked: TrackerPage | None = None
        self.head_on_its_way: Position | None = None
        self.tracker.open(self.head)
        self.stream.open(self.head)

    @property
    def head(self) -> Position:
        return Position(f"e{self.epoch}", self.offset)

    def act(self, steps: Sequence[Step]) -> None:
        for step in steps:
            if isinstance(step, Publication):
                assert step.data == f"{self.tracker_epoch}:{step.offset}".encode()
            if isinstance(step, Gap):
                self.check_gap(step)
            if isinstance(step, Position):
                self.tracker_epoch = step.epoch
            self.stream.add(step)

    tracker_epoch = "e0"

    def check_gap(self, gap: Gap) -> None:
        """Nothing is given up that is on its way, or that the page just read has."""
        assert gap.reason is GapReason.BROKER
        kept = {m.offset for m in self.asked.messages} if self.asked else set()
        for offset in range(gap.first, gap.last + 1):
            assert offset not in kept
            assert Position(gap.epoch, offset) in self.lost or self.hold < 1000

    # -- what may happen, in any order -------------------------------------------------------

    def publish(self) -> None:
        self.offset += 1
        self.log.append(self.offset)
        self.wire.append(message(self.head.epoch, self.offset))

    def lose(self) -> None:
        if self.wire:
            gone = self.wire.popleft()
            self.lost.add(Position(gone.epoch, gone.offset))

    def arrive(self) -> None:
        if self.wire:
            self.act(self.tracker.receive(self.wire.popleft()))

    def restart(self) -> None:
        self.epoch += 1
        self.offset = 0
        self.log.clear()

    def ask(self) -> None:
        if self.tracker.state is not TrackerState.FILLING or self.asked:
            return
        after = self.tracker.ask()
        later = [offset for offset in self.log if offset > after]
        found = [message(self.head.epoch, offset) for offset in later[: self.page_size]]
        oldest = self.log[0] if self.log else self.offset + 1
        self.asked = TrackerPage(self.head, oldest, found, complete=len(found) < self.page_size)

    def answer(self) -> None:
        if self.asked is not None:
            self.act(self.tracker.on_page(self.asked))
            self.asked = None

    def compare(self) -> None:
        self.head_on_its_way = self.head

    def confirm(self) -> None:
        """The barrier: what was on the wire when the head was read has arrived."""
        if self.head_on_its_way is None:
            return
        head, self.head_on_its_way = self.head_on_its_way, None
        while self.wire:
            self.arrive()
        self.tracker.confirm(head)

    def settle(self) -> None:
        """Let everything come to rest."""
        for _ in range(3):
            self.compare()
            self.confirm()
            for _ in range(500):
                self.ask()
                self.answer()
        assert self.tracker.state is TrackerState.LIVE
        assert self.tracker.position == self.head == self.stream.head
        assert self.room.bytes == 0, "nothing waits any more"


ACTIONS = ("publish", "publish", "arrive", "arrive", "arrive", "lose", "ask", "answer")
RARE = ("restart", "compare", "confirm")


@settings(max_examples=5 * settings().max_examples)
@given(
    actions=st.lists(st.sampled_from(ACTIONS * 3 + RARE), max_size=120),
    history=st.sampled_from([0, 1, 3, 1000]),
    page_size=st.sampled_from([1, 2, 100]),
    hold=st.sampled_from([0, 2, 1000]),
)
def test_whatever_happens_the_stream_has_no_silent_hole_and_no_needless_gap(
    actions: list[str], history: int, page_size: int, hold: int
) -> None:
    """`Stream` checks order, repeats and silent holes; `World.check_gap` that gaps are true."""
    world = World(history=history, page_size=page_size, hold=hold)
    for action in actions:
        getattr(world, action)()
    world.settle()
    if history == 1000:
        assert not world.stream.gaps, "history had it all"
    if "restart" not in actions and "lose" not in actions and hold == 1000:
        assert len(world.stream.data) == actions.count("publish")
        assert not world.stream.gaps
