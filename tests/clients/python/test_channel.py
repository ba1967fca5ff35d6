"""A subscription turns the pushes of its channel into items: `hub_client.channel`."""

import json

from hypothesis import given
from hypothesis import strategies as st

from hub_client.channel import PushSource, SubscribedChannel
from hub_client.frames import decode
from hub_client.messages import Gap, Item, Message, Position, State


class Place:
    """Channel `a` over one connection after another."""

    def __init__(
        self, *, since: Position | None = None, last: int | None = None, state: bool = False
    ) -> None:
        self.channel = SubscribedChannel("a", since=since, last=last, fill=False, state=state)
        self.source = PushSource({})

    def connect(self, start: Position) -> None:
        """Another connection begins and says where it starts."""
        self.channel.request()
        self.source = PushSource({})
        self.channel.subscribed(start, self.source)


def feed(place: Place, **push: object) -> tuple[Item, ...]:
    raw = json.dumps({"channel": "a", **push}).encode()
    return place.channel.push(decode(raw), raw, place.source)


def say(place: Place, offset: int) -> tuple[Item, ...]:
    return feed(place, op="message", offset=offset, data=offset)


def make(since: Position | None = None, epoch: str = "e1", offset: int = 0) -> Place:
    place = Place(since=since)
    place.connect(Position(epoch, offset))
    return place


def test_a_message_carries_the_epoch_of_its_subscription() -> None:
    """Messages have no epoch on the wire; the subscription supplies it."""
    (item,) = say(make(offset=4), 5)
    assert isinstance(item, Message)
    assert item.position == Position("e1", 5)


def test_a_message_that_came_before_is_dropped_and_counted() -> None:
    """The hub may repeat after a resume; the application sees each offset once."""
    place = make()
    say(place, 1)
    assert say(place, 1) == ()
    assert place.channel.duplicates == 1


def test_a_gap_moves_the_position_so_that_what_it_covers_is_not_asked_for() -> None:
    """After a gap to 9 a resume asks from 9, not from before the gap."""
    place = make()
    say(place, 1)
    (gap,) = feed(place, op="gap", epoch="e1", **{"from": 2, "to": 9}, reason="slow")
    assert isinstance(gap, Gap)
    assert (gap.first, gap.last, gap.missing, gap.reason) == (2, 9, 8, "slow")
    assert place.channel.request()["since"] == "e1:9"


def test_a_gap_never_names_what_was_already_delivered() -> None:
    """A gap that overlaps what came before is cut to what is really missing."""
    place = make()
    say(place, 5)
    (gap,) = feed(place, op="gap", epoch="e1", **{"from": 3, "to": 8}, reason="broker")
    assert isinstance(gap, Gap)
    assert (gap.first, gap.last) == (6, 8)
    assert feed(place, op="gap", epoch="e1", **{"from": 3, "to": 8}, reason="broker") == ()


def test_a_reset_forgets_offsets_and_lower_ones_of_the_new_epoch_are_delivered() -> None:
    """Offset 1 of the new epoch is new although offset 50 of the old one came before."""
    place = make(offset=49)
    say(place, 50)
    place.connect(Position("e2", 0))
    (gap,) = feed(place, op="gap", epoch="e2", position="e2:0", reason="reset")
    (item,) = say(place, 1)
    assert isinstance(gap, Gap)
    assert (gap.reason, gap.position, gap.missing) == ("reset", Position("e2", 0), 0)
    assert isinstance(item, Message)
    assert item.position == Position("e2", 1)


def test_a_cut_between_subscribed_and_its_reset_asks_again_from_the_old_position() -> None:
    """Otherwise the next resume would look complete and the reset would be lost silently."""
    place = make(offset=7)
    place.connect(Position("e2", 0))
    assert place.channel.request()["since"] == "e1:7"


def test_a_new_epoch_without_a_reset_is_announced_by_the_client() -> None:
    """Never silently: a message of an epoch nobody announced comes after a reset gap."""
    place = make(since=Position("e1", 7))
    place.connect(Position("e2", 3))
    gap, item = say(place, 4)
    assert isinstance(gap, Gap)
    assert json.loads(gap.frame)["position"] == "e2:3"
    assert isinstance(item, Message)


def test_messages_before_subscribed_belong_to_a_former_subscription() -> None:
    """Messages still under way after an unsubscribe are not those of the next subscribe."""
    place = Place(last=2)
    assert say(place, 9) == ()
    assert place.channel.request() == {"channel": "a", "fill": None, "last": 2}


def test_an_unsequenced_message_is_always_delivered_and_moves_nothing() -> None:
    """Plain Redis PUBLISH has no offset: it is no duplicate and no position."""
    place = make(offset=3)
    (item,) = feed(place, op="message", data="x")
    (gap,) = feed(place, op="gap", epoch="e1", unsequenced=4, reason="slow")
    assert isinstance(item, Message)
    assert item.position is None
    assert isinstance(gap, Gap)
    assert (gap.unsequenced, gap.missing) == (4, 0)
    assert place.channel.position == Position("e1", 3)


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 30), st.integers(0, 5)), max_size=40))
def test_offsets_only_rise_whatever_is_repeated(
    pushes: list[tuple[bool, int, int]],
) -> None:
    """Within an epoch, what is delivered covers each offset at most once and in order."""
    place = make()
    reached = 0
    for is_gap, offset, length in pushes:
        if is_gap:
            span = {"from": offset, "to": offset + length}
            items = feed(place, op="gap", epoch="e1", reason="slow", **span)
        else:
            items = say(place, offset)
        for item in items:
            assert isinstance(item, Message | Gap)
            first = item.first if isinstance(item, Gap) else item.offset
            assert first is not None
            assert first > reached
            reached = item.position.offset if item.position else reached


class Two(Place):
    """Channel `a` at e1:5 over a connection, and a newer one that resumes there."""

    def __init__(self) -> None:
        super().__init__()
        self.connect(Position("e1", 5))
        self.older = self.source
        self.channel.request()
        self.source = PushSource({}, newer=True)
        self.channel.subscribed(Position("e1", 5), self.source)
        self.older = PushSource(self.older.epochs, first=False)

    def old(self, **push: object) -> tuple[Item, ...]:
        raw = json.dumps({"channel": "a", **push}).encode()
        return self.channel.push(decode(raw), raw, self.older)


def test_of_two_connections_one_tells_what_has_no_offset() -> None:
    """Plain Redis PUBLISH, joins and leaves would come twice otherwise."""
    place = Two()
    member = {"id": "ann", "connection": "c7"}
    for push in ({"op": "message", "data": 1}, {"op": "join", "member": member}):
        assert place.old(**push) == ()
        assert len(feed(place, **push)) == 1


def test_a_reset_that_two_connections_tell_is_told_once() -> None:
    """The new epoch continues from there, whichever connection brings it first."""
    place = Two()
    told = {"op": "gap", "epoch": "e2", "position": "e2:0", "reason": "reset"}
    assert [str(item.position) for item in feed(place, **told)] == ["e2:0"]  # type: ignore[union-attr]  # a gap
    assert len(say(place, 1)) == 1
    assert place.old(op="message", offset=6, data=6) == ()
    assert place.old(**told) == ()
    assert place.old(op="message", offset=1, data=1) == ()
    assert len(say(place, 2)) == 1


def test_a_newer_connection_that_starts_further_on_lacks_what_is_between() -> None:
    """The older connection may still bring the missing messages, and those that it
    does not bring are a gap."""
    place = Place()
    place.connect(Position("e1", 5))
    older, newer = place.source, PushSource({}, newer=True)
    place.channel.request()
    place.source = newer
    assert place.channel.subscribed(Position("e1", 7), newer) == ()
    assert say(place, 8) == ()
    place.source = older
    assert len(say(place, 6)) == 1
    gap, item = place.channel.release(everything=True)
    assert isinstance(gap, Gap)
    assert (gap.first, gap.last, gap.reason) == (7, 7, "expired")
    assert isinstance(item, Message)
    assert item.offset == 8


def rows(place: Place, at: str, *keys: str) -> tuple[Item, ...]:
    found = [{"key": key, "offset": n, "time": 1, "data": n} for n, key in enumerate(keys, 1)]
    return feed(place, op="state", position=at, rows=found, more=False)


def test_a_table_lacks_nothing_where_a_newer_connection_starts_further_on() -> None:
    """The rows that follow hold what lies between, so neither a gap nor a message waits for the
    older connection."""
    place = Place(state=True)
    place.connect(Position("e1", 5))
    rows(place, "e1:5", "x")
    newer = PushSource({}, newer=True)
    place.channel.request()
    assert place.channel.subscribed(Position("e1", 7), newer) == ()
    place.source = newer
    (table,) = rows(place, "e1:7", "x", "y")
    assert isinstance(table, State)
    assert [row.key for row in table.rows] == ["x", "y"]
    (item,) = say(place, 8)
    assert isinstance(item, Message)
    assert place.channel.release(everything=True) == ()
