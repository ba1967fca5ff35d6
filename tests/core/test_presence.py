"""Members join once, leave once, and may reload in between."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from hub.core.commands import ListMembers, PresenceUpdate, Subscribe
from hub.core.fanout import presence
from hub.core.fanout.presence import MAX_PAGE_BYTES, page_of
from hub.core.identity import Identity
from hub.core.options import ChannelOptions, Namespaces
from hub.core.pushes import Member
from tests.core.small_node import ANYTHING, Shape, SmallNode, limits
from tests.core.subscribers import Subscriber
from tests.support.stream import Push

HERE = Namespaces(ChannelOptions(presence=True))
LEAVE_DELAY_SECONDS = 5


def person(subject: str) -> Identity:
    return Identity(subscribe=("*",), publish=("*",), subject=subject)


def node_with_presence(**changes: int) -> SmallNode:
    return SmallNode(Shape(HERE, limits=limits(**changes), leave_delay_seconds=LEAVE_DELAY_SECONDS))


def changes(watcher: Subscriber) -> list[tuple[object, object]]:
    watcher.node.loop.settle()
    return [
        (push["op"], member["id"])
        for push in watcher.read()
        if isinstance(member := push.get("member"), dict)
    ]


def test_the_first_session_of_a_subject_is_its_join_and_the_last_its_leave() -> None:
    """Other sessions that come and go in between make no join and no leave."""
    node = node_with_presence()
    watcher = Subscriber(node, "a")
    first, second = (Subscriber(node, "a", identity=person("ann")) for _ in range(2))
    assert changes(watcher) == [("join", "ann")]
    first.unsubscribe("a")
    assert changes(watcher) == []
    second.unsubscribe("a")
    assert changes(watcher) == [("leave", "ann")]


def test_an_anonymous_member_is_its_connection() -> None:
    """An anonymous member cannot come back, so its leave is announced at once."""
    node = node_with_presence()
    watcher = Subscriber(node, "a")
    other = Subscriber(node, "a")
    assert changes(watcher) == [("join", other.session.id)]
    other.session.lost(1006, "gone")
    assert changes(watcher) == [("leave", other.session.id)]


def test_a_reload_is_no_leave_and_join() -> None:
    """A subject may reconnect for five seconds."""
    node = node_with_presence()
    watcher = Subscriber(node, "a")
    before = Subscriber(node, "a", identity=person("ann"))
    changes(watcher)
    before.session.lost(1006, "gone")
    node.wait(LEAVE_DELAY_SECONDS - 1)
    after = Subscriber(node, "a", identity=person("ann"))
    node.wait(10 * LEAVE_DELAY_SECONDS)
    assert changes(watcher) == []
    after.session.lost(1006, "gone")
    node.wait(LEAVE_DELAY_SECONDS - 1)
    assert changes(watcher) == []
    node.wait(1.1)
    assert changes(watcher) == [("leave", "ann")]


def test_members_are_listed_in_the_order_they_came() -> None:
    node = node_with_presence()
    for name in ("ann", "bob"):
        Subscriber(node, "a", identity=person(name))
    assert [member.id for member in node.members("a")] == ["ann", "bob"]
    assert not node.members("b")


def test_presence_is_refused_where_it_is_off() -> None:
    """An empty list would be a lie."""
    node = SmallNode()
    reader = Subscriber(node, "a")
    node.do(reader.session, ListMembers(9, "a"))
    (reply,) = reader.read()
    assert isinstance(reply["error"], dict)
    assert reply["error"]["message"] == "presence is off for 'a'"


def test_another_subject_is_another_member() -> None:
    """An anonymous session that authenticates leaves and joins under its name."""
    node = node_with_presence()
    watcher, guest = Subscriber(node, "a"), Subscriber(node, "a")
    changes(watcher)
    node.presence_commands.change_identity(guest.session, person("ann"))
    assert changes(watcher) == [("leave", guest.session.id), ("join", "ann")]
    node.presence_commands.change_identity(guest.session, person("ann"))
    assert changes(watcher) == []


def test_a_join_stands_in_the_channels_order() -> None:
    """The join comes between the messages around it."""
    node = node_with_presence()
    watcher = Subscriber(node, "a")
    node.publish("a")
    node.open(identity=ANYTHING)
    other = Subscriber(node)
    other.subscribe("a")
    node.publish("a")
    node.loop.settle()
    assert [push["op"] for push in watcher.read()][-3:] == ["message", "join", "message"]


def test_joins_that_an_outbox_dropped_are_announced_as_lost() -> None:
    """A view built from pushes has to be asked for again."""
    node = node_with_presence(outbox_max_messages=2)
    watcher = Subscriber(node, "a")
    node.loop.settle()
    watcher.read()
    watcher.block()
    for name in "vwxyz":
        Subscriber(node, "a", identity=person(name))
        node.loop.settle()
    pushes: list[Push] = watcher.drain()
    assert [push["op"] for push in pushes] == ["join", "presence_reset", "join", "join"]
    assert node.counters.presence_dropped == 2


@pytest.mark.parametrize("fill", [False, True])
def test_joins_that_pass_during_a_replay_are_announced_as_lost(fill: bool) -> None:
    """History has no joins, so a peer that reads it is told to ask again when it is live."""
    node = node_with_presence()
    place = node.publish("a").position
    node.publish("a")
    reader = Subscriber(node, "b")
    reader.block()
    reader.publish("b", 1)
    reader.subscribe("a", since=place, fill=fill)
    Subscriber(node, "a", identity=person("ann"))
    node.loop.settle()
    pushes = [push["op"] for push in reader.drain() if push.get("channel") == "a"]
    assert pushes == ["message", "presence_reset"]


def test_members_are_answered_in_pages_that_leave_nobody_out() -> None:
    """No member is left out, whichever members come or go meanwhile; many members come in
    pages also without a limit."""
    node = node_with_presence()
    for number in range(25):
        Subscriber(node, "a", identity=person(f"p{number:02}"))
    node.loop.settle()
    reader = Subscriber(node)
    found: list[object] = []
    after: str | None = None
    for _ in range(10):
        node.do(reader.session, ListMembers(1, "a", 7, after))
        (reply,) = reader.read()
        ok = reply["ok"]
        assert isinstance(ok, dict)
        assert len(ok["members"]) <= 7
        found += [member["id"] for member in ok["members"]]
        after = ok.get("next")
        Subscriber(node, "a", identity=person(f"a{len(found):02}"))
        if after is None:
            break
    assert found == [f"p{number:02}" for number in range(25)]


@pytest.mark.parametrize("limit", [0, -1, 1001])
def test_a_limit_of_members_that_is_not_allowed_is_refused(limit: int) -> None:
    node = node_with_presence()
    reader = Subscriber(node, "a")
    node.do(reader.session, ListMembers(1, "a", limit))
    error = reader.read()[-1]["error"]
    assert isinstance(error, dict)
    assert error["message"] == f"limit is {limit}, allowed is 1 to 1000"


def test_an_answer_about_members_is_bounded_in_number_and_bytes() -> None:
    """An answer without a limit is bounded too, and the peer asks for the
    rest after the last member."""
    crowd = [Member(f"{number:04}", "c", "s") for number in range(2500)]
    seen: list[Member] = []
    after = None
    while True:
        page, after = page_of(crowd, None, after)
        assert len(page) <= 1000
        seen += page
        if after is None:
            break
    assert seen == crowd
    long = [Member(f"{number:03}" + "x" * 60_000, "c") for number in range(20)]
    page, after = page_of(long, None, None)
    assert len(page) == MAX_PAGE_BYTES // 60_050
    assert after == page[-1].id
    assert page_of(crowd[:1000][::-1], None, None) == (crowd[:1000][::-1], None)


@pytest.mark.parametrize("limit", [None, 1, 7, 1000])
async def test_a_page_of_very_many_members_is_chosen_in_turns(
    limit: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sorting 50,000 members took 30 ms; the pages are the same in turns."""
    looked: list[int] = []
    whole = page_of

    def counts(members: Sequence[Member], *asked: Any) -> tuple[Sequence[Member], str | None]:
        looked.append(len(members))
        return whole(members, *asked)

    monkeypatch.setattr(presence, "page_of", counts)
    crowd = [Member(f"{number * 7919 % 5003:04}", "c", "s") for number in range(5003)]
    for after in (None, "0000", "2500", "4995", "9"):
        turns = 0

        async def other_work() -> None:
            nonlocal turns
            while True:
                await asyncio.sleep(0)
                turns += 1

        other = asyncio.create_task(other_work())
        page = await presence.page_in_turns(crowd, limit, after)
        other.cancel()
        assert page == whole(crowd, limit, after)
        assert turns >= 2
    assert max(looked) <= (limit or 1000) + 1


def said(watcher: Subscriber) -> list[tuple[object, object]]:
    """Returns the changes of members that have data: the kind of change and the data."""
    watcher.node.loop.settle()
    members = [(push["op"], push.get("member")) for push in watcher.read()]
    return [(op, member.get("data")) for op, member in members if isinstance(member, dict)]


def enter(member: Subscriber, data: bytes | None) -> None:
    member.node.do(member.session, Subscribe(member.next_id(), "a", presence=data))


def say(member: Subscriber, data: bytes) -> None:
    member.node.do(member.session, PresenceUpdate(member.next_id(), "a", data))


def test_data_of_a_member_comes_with_its_join_its_updates_and_its_leave() -> None:
    """The list of members has the data too, and the same data again is no update."""
    node = node_with_presence()
    watcher = Subscriber(node, "a")
    member = Subscriber(node, identity=person("ann"))
    enter(member, b'{"mood":1}')
    assert said(watcher) == [("join", {"mood": 1})]
    for data in (b'{"mood":2}', b'{"mood":2}'):
        say(member, data)
    assert said(watcher) == [("update", {"mood": 2})]
    assert node.members("a")[-1].data == b'{"mood":2}'
    member.unsubscribe("a")
    assert said(watcher) == [("leave", {"mood": 2})]


def test_of_two_connections_of_a_subject_what_was_said_last_counts() -> None:
    """The last data stays after the connection that said it has gone, and a connection
    without data changes nothing."""
    node = node_with_presence()
    watcher = Subscriber(node, "a")
    first, second, silent = (Subscriber(node, identity=person("ann")) for _ in range(3))
    enter(first, b"1")
    enter(second, b"2")
    enter(silent, None)
    assert said(watcher) == [("join", 1), ("update", 2)]
    say(first, b"3")
    first.unsubscribe("a")
    assert said(watcher) == [("update", 3)]
    assert [member.data for member in node.members("a") if member.subject] == [b"3"]


def test_updates_within_a_tick_are_one() -> None:
    """A join brings the newest of them; where the member left, they were never there."""
    node = node_with_presence()
    watcher = Subscriber(node, "a")
    member = Subscriber(node, identity=person("ann"))
    submit = node.commands.submit
    submit(member.session, Subscribe(1, "a", presence=b"1"))
    submit(member.session, PresenceUpdate(2, "a", b"2"))
    assert said(watcher) == [("join", 2)]
    for data in (b"3", b"4"):
        submit(member.session, PresenceUpdate(3, "a", data))
    told = said(watcher)
    node.wait(2)
    assert [*told, *said(watcher)] == [("update", 4)]
    submit(member.session, PresenceUpdate(4, "a", b"5"))
    member.unsubscribe("a")
    node.wait(2)
    assert said(watcher) in ([("leave", 5)], [("leave", 4)])


def test_a_member_that_talks_all_the_time_is_told_of_now_and_then_and_at_the_end_as_it_is() -> None:
    node = node_with_presence()
    watcher = Subscriber(node, "a")
    member = Subscriber(node, identity=person("ann"))
    enter(member, b"0")
    told = said(watcher)
    for number in range(1, 1001):
        say(member, b"%d" % number)
        told += said(watcher)
        node.wait(0.01)
    node.wait(2)
    told += said(watcher)
    assert len(told) <= 5 * 12
    assert told[-1] == ("update", 1000)
    numbers = [data for _, data in told]
    assert numbers == sorted(numbers, key=lambda data: int(str(data)))


def test_only_a_member_says_something_of_itself() -> None:
    """A session that is not subscribed is refused, and so is one where presence is off."""
    node = node_with_presence()
    stranger = Subscriber(node)
    say(stranger, b"1")
    (reply,) = stranger.read()
    assert isinstance(reply["error"], dict)
    assert reply["error"]["message"] == "not subscribed to 'a'"
    other = Subscriber(SmallNode())
    enter(other, b"1")
    (reply,) = other.read()
    assert isinstance(reply["error"], dict)
    assert reply["error"]["message"] == "presence is off for 'a'"


def test_members_are_counted_without_a_list() -> None:
    node = node_with_presence()
    reader = Subscriber(node, "a", identity=person("ann"))
    node.do(reader.session, ListMembers(9, "a", count=True))
    (reply,) = [push for push in reader.read() if push["op"] == "reply"]
    assert reply["ok"] == {"channel": "a", "count": 1}


def test_a_member_that_becomes_somebody_else_keeps_its_data() -> None:
    node = node_with_presence()
    member = Subscriber(node)
    enter(member, b"1")
    node.presence_commands.change_identity(member.session, person("ann"))
    assert [(each.id, each.data) for each in node.members("a")] == [("ann", b"1")]


def test_an_observer_that_goes_changes_nothing_for_the_member_of_its_subject() -> None:
    """The member may be away for a moment, and leaves once."""
    node = node_with_presence()
    watcher = Subscriber(node, "a")
    looking = Subscriber(node, "a", identity=replace(person("ann"), observer=True))
    member = Subscriber(node, "a", identity=person("ann"))
    changes(watcher)
    member.session.lost(1006, "gone")
    node.wait(LEAVE_DELAY_SECONDS - 1)
    looking.session.lost(1006, "gone")
    node.wait(1.1)
    assert changes(watcher) == [("leave", "ann")]
    node.wait(LEAVE_DELAY_SECONDS)
    assert changes(watcher) == []
