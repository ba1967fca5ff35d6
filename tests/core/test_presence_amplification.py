"""Coming and going costs the others little, and at the end everybody is told right."""

import random

import pytest

from hub.core.commands import ListMembers, Subscribe, Unsubscribe
from hub.core.fanout.open_changes import MAX_BYTES
from hub.core.fanout.presence import MAX_CHANGES, WINDOW_SECONDS
from hub.core.identity import Identity
from hub.core.options import ChannelOptions, Namespaces
from tests.core.small_node import Shape, SmallNode
from tests.core.subscribers import Subscriber
from tests.support.stream import Push

HERE = Namespaces(ChannelOptions(presence=True))
NAMED = "a"


def person(subject: str) -> Identity:
    return Identity(subscribe=("*",), publish=("*",), subject=subject)


def changes(watcher: Subscriber) -> list[tuple[object, object]]:
    watcher.node.loop.settle()
    return [
        (push["op"], member["id"])
        for push in watcher.read()
        if isinstance(member := push.get("member"), dict)
    ]


def come_and_go(member: Subscriber, times: int) -> None:
    """A session comes and goes in one write of its peer, before the loop turns."""
    for _ in range(times):
        member.node.commands.submit(member.session, Subscribe(1, NAMED))
        member.node.commands.submit(member.session, Unsubscribe(2, NAMED))


def test_joins_and_leaves_of_one_member_within_a_tick_cancel_out() -> None:
    """Nothing is written to any session, however many joins and leaves there are."""
    node = SmallNode(Shape(HERE))
    watchers = [Subscriber(node, NAMED) for _ in range(20)]
    member = Subscriber(node, identity=person("ann"))
    for watcher in watchers:
        changes(watcher)
    come_and_go(member, 500)
    assert all(changes(watcher) == [] for watcher in watchers)
    node.wait(WINDOW_SECONDS * 3)
    assert all(changes(watcher) == [] for watcher in watchers)
    member.subscribe(NAMED)
    node.wait(WINDOW_SECONDS)
    assert all(changes(watcher) == [("join", "ann")] for watcher in watchers)


def test_a_member_that_leaves_and_is_back_within_a_tick_was_never_gone() -> None:
    node = SmallNode(Shape(HERE))
    watcher = Subscriber(node, NAMED)
    member = Subscriber(node, NAMED, identity=person("ann"))
    assert changes(watcher) == [("join", "ann")]
    node.commands.submit(member.session, Unsubscribe(1, NAMED))
    node.commands.submit(member.session, Subscribe(2, NAMED))
    assert changes(watcher) == []
    assert [m.id for m in node.members(NAMED)][-1] == "ann"


def test_a_member_that_comes_and_goes_for_long_is_told_of_now_and_then() -> None:
    """A few times at once, and then once for each window: a thousand times are a handful."""
    node = SmallNode(Shape(HERE))
    watcher, member = Subscriber(node, NAMED), Subscriber(node, identity=person("ann"))
    changes(watcher)
    told: list[tuple[object, object]] = []
    for _ in range(1000):
        member.subscribe(NAMED)
        told += changes(watcher)
        member.unsubscribe(NAMED)
        told += changes(watcher)
        node.wait(0.01)
    assert len(told) <= (MAX_CHANGES + 1) * (10 / WINDOW_SECONDS + 1)
    node.wait(WINDOW_SECONDS * 2)
    told += changes(watcher)
    assert told[::2] == [("join", "ann")] * (len(told) // 2)
    assert told[1::2] == [("leave", "ann")] * (len(told) // 2)
    assert node.presence._channels[NAMED].keys() == {watcher.session.id}
    Subscriber(node, NAMED)
    assert len(node.presence._left) <= 1


def test_a_watcher_told_of_a_member_in_between_is_told_that_it_left() -> None:
    """A reply is ahead of the batch: what it said must not be undone in silence."""
    node = SmallNode(Shape(HERE))
    watcher = Subscriber(node, NAMED)
    member = Subscriber(node, identity=person("ann"))
    changes(watcher)
    node.commands.submit(member.session, Subscribe(1, NAMED))
    node.commands.submit(watcher.session, ListMembers(2, NAMED))
    node.commands.submit(member.session, Unsubscribe(3, NAMED))
    node.loop.settle()
    ops = [push["op"] for push in watcher.read()]
    assert ops == ["reply", "join", "leave"]


def test_members_that_come_all_at_once_are_one_notice_to_ask() -> None:
    """A batch has so many bytes of joins and leaves at most."""
    node = SmallNode(Shape(HERE))
    watcher = Subscriber(node, NAMED)
    changes(watcher)
    crowd = [Subscriber(node, identity=person(f"member-{n:04}")) for n in range(1000)]
    watcher.read()
    before = len(watcher.link.received)
    for member in crowd:
        node.commands.submit(member.session, Subscribe(1, NAMED))
    node.loop.settle()
    assert len(watcher.link.received) - before <= MAX_BYTES
    assert [push["op"] for push in watcher.read()] == ["presence_reset"]
    assert node.counters.presence_dropped == 1000
    node.do(watcher.session, ListMembers(9, NAMED))
    assert len(node.members(NAMED)) == 1001
    crowd[0].unsubscribe(NAMED)
    assert ("leave", "member-0000") in changes(watcher)


class View:
    """The members that a peer knows from a reply and from pushes."""

    def __init__(self, subscriber: Subscriber) -> None:
        self.subscriber = subscriber
        self.members: set[object] | None = None

    def feed(self, pushes: list[Push]) -> None:
        for push in pushes:
            member = push.get("member")
            ok = push.get("ok")
            if isinstance(ok, dict) and "members" in ok:
                self.members = {each["id"] for each in ok["members"]}
            elif push["op"] == "presence_reset":
                self.members = None
            elif isinstance(member, dict) and self.members is not None:
                if push["op"] == "join":
                    self.members.add(member["id"])
                else:
                    self.members.discard(member["id"])

    def ask(self) -> None:
        self.subscriber.node.commands.submit(self.subscriber.session, ListMembers(1, NAMED))


def newcomer(node: SmallNode, chance: random.Random) -> Subscriber:
    return Subscriber(node, identity=person(f"p{chance.randrange(4)}"))


def do_something(
    node: SmallNode, chance: random.Random, crowd: list[Subscriber], views: list[View]
) -> None:
    """Does one random thing, before or after the loop turns."""
    place = chance.randrange(len(crowd))
    session = crowd[place].session
    match chance.randrange(9):
        case 0:
            node.loop.turn()
        case 1:
            node.wait(chance.choice((0.05, 0.3, 1.1)))
        case 2:
            chance.choice(views).ask()
        case 3:
            node.publish(NAMED)
        case 4:
            session.lost(1006, "gone")
            crowd[place] = newcomer(node, chance)
        case _ if NAMED in session.subscriptions:
            node.commands.submit(session, Unsubscribe(1, NAMED))
        case _:
            node.commands.submit(session, Subscribe(1, NAMED))


@pytest.mark.parametrize("seed", range(12))
def test_at_the_end_everybody_knows_who_is_there(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All members are known at the end, whatever came and went, in whatever ticks, and
    whenever they were asked for."""
    monkeypatch.setattr("hub.core.fanout.open_changes.MAX_BYTES", 900 if seed % 2 else MAX_BYTES)
    chance = random.Random(seed)
    node = SmallNode(Shape(HERE, leave_delay_seconds=chance.choice((0, 2))))
    views = [View(Subscriber(node, NAMED)) for _ in range(3)]
    for view in views:
        view.ask()
    crowd = [newcomer(node, chance) for _ in range(8)]
    for _ in range(400):
        do_something(node, chance, crowd, views)
        for view in views:
            view.feed(view.subscriber.read())
    node.wait(WINDOW_SECONDS * 3)
    for view in views:
        view.feed(view.subscriber.read())
        if view.members is None:
            view.ask()
            node.loop.settle()
            view.feed(view.subscriber.read())
        assert view.members == {member.id for member in node.members(NAMED)}
    there = {s.identity.subject or s.id for s in node.registry.sessions.values()
             if NAMED in s.subscriptions}  # fmt: skip
    assert there == {member.id for member in node.members(NAMED)}
