"""Publications that a broker answers later: under way together, and answered in their order."""

import pytest

from hub.core.command_queue import _BEGUN_AT_ONCE
from hub.core.commands import History, Ping, Publish
from hub.core.identity import Identity
from hub.core.options import ChannelOptions, Namespaces
from hub.core.ports import OnPublished, PublishRequest, PublishResult
from hub.core.publication import Position
from hub.core.pushes import Reply
from hub.errors import NotPublishedError
from tests.core.small_node import Shape, SmallNode, limits
from tests.core.subscribers import Subscriber

ANN = Identity(subject="ann", publisher="ann", subscribe=("a",), publish=("a",))


class Held:
    """A node whose broker answers publications when, and in the order in which, a test says."""

    def __init__(self, **changes: int) -> None:
        shape = Shape(
            Namespaces(ChannelOptions(history_size=10)), latent=True, limits=limits(**changes)
        )
        self.node = SmallNode(shape)
        self.asked: list[tuple[PublishRequest, OnPublished]] = []
        self.node.broker.publish_soon = self._take  # type: ignore[misc]
        self.publisher = Subscriber(self.node, identity=ANN)
        self._next = 0

    def _take(self, request: PublishRequest, on_done: OnPublished) -> None:
        self.asked.append((request, on_done))

    def send(self, *numbers: int, channel: str = "a") -> None:
        for number in numbers:
            command = Publish(number, channel, b"%d" % number)
            self.node.commands.submit(self.publisher.session, command)
        self.node.loop.settle()

    @property
    def sent(self) -> list[int]:
        """Returns the numbers that the broker was asked to publish."""
        return [int(request.data) for request, _ in self.asked]

    def answer(self, *places: int) -> None:
        for place in places:
            request, on_done = self.asked[place]
            on_done(PublishResult(Position("e", int(request.data))))
        self.node.loop.settle()

    def replies(self) -> list[object]:
        return [push["id"] for push in self.publisher.read()]


def test_a_publication_does_not_wait_for_the_answer_to_the_one_before() -> None:
    held = Held()
    held.send(1, 2, 3)
    assert held.sent == [1, 2, 3]
    assert held.replies() == []
    held.answer(0, 1, 2)
    assert held.replies() == [1, 2, 3]
    assert held.publisher.session.inbox is None


def test_replies_come_in_the_order_of_the_publications() -> None:
    """The order in which the broker answers does not matter."""
    held = Held()
    held.send(1, 2, 3)
    held.answer(1)
    held.answer(2)
    assert held.replies() == []
    held.answer(0)
    assert held.replies() == [1, 2, 3]


def test_replies_of_one_turn_leave_in_one_write() -> None:
    held = Held()
    held.send(*range(10))
    before = held.publisher.link.writes
    held.answer(*range(10))
    assert held.replies() == list(range(10))
    assert held.publisher.link.writes == before + 1


def test_another_command_waits_for_all_publications_before_it_and_those_behind_for_it() -> None:
    held = Held()
    held.send(1, 2)
    held.node.commands.submit(held.publisher.session, Ping(3))
    held.send(4)
    assert held.sent == [1, 2]
    held.answer(0)
    assert held.replies() == [1]
    held.answer(1)
    assert held.replies() == [2, 3]
    assert held.sent == [1, 2, 4]
    held.answer(2)
    assert held.replies() == [4]
    assert held.publisher.session.inbox is None


def test_a_history_behind_a_publication_has_it() -> None:
    """The broker answers a while later, and the history that it gives has them all."""
    node = SmallNode(Shape(Namespaces(ChannelOptions(history_size=10)), latent=True))
    publisher = Subscriber(node, identity=ANN)
    for number in range(3):
        node.commands.submit(publisher.session, Publish(number, "a", b"%d" % number))
    node.do(publisher.session, History("all", "a"))
    *first, last = publisher.read()
    assert [push["id"] for push in first] == [0, 1, 2]
    ok = last["ok"]
    assert isinstance(ok, dict)
    assert [each["data"] for each in ok["publications"]] == [0, 1, 2]


def test_a_refusal_is_answered_in_its_place() -> None:
    """Without a grant the broker is not asked."""
    held = Held()
    held.send(1)
    held.send(2, channel="b")
    held.send(3)
    assert held.sent == [1, 3]
    assert held.replies() == []
    held.answer(0, 1)
    one, two, three = held.publisher.read()
    assert (one["id"], three["id"]) == (1, 3)
    error = two["error"]
    assert isinstance(error, dict)
    assert error["code"] == "forbidden"
    assert held.node.counters.command_errors == {"forbidden": 1}


def test_a_refusal_alone_is_answered_and_leaves_nothing_behind() -> None:
    held = Held()
    held.send(2, channel="b")
    assert held.replies() == [2]
    assert held.publisher.session.inbox is None


def test_an_error_of_the_broker_is_the_answer_to_its_publication_alone() -> None:
    held = Held()
    held.send(1, 2)
    held.asked[0][1](NotPublishedError("not published: away"))
    held.answer(1)
    first, second = held.publisher.read()
    error = first["error"]
    assert isinstance(error, dict)
    assert (error["code"], error["retryable"]) == ("not_published", True)
    assert second["ok"] == {"channel": "a", "epoch": "e", "offset": 2}


def test_a_fault_is_answered_with_a_neutral_error() -> None:
    held = Held()

    def fails(request: PublishRequest, on_done: OnPublished) -> None:
        raise RuntimeError("secret")

    held.node.broker.publish_soon = fails  # type: ignore[misc]
    held.send(1)
    (reply,) = held.publisher.read()
    assert reply["error"] == {"code": "internal", "message": "internal error", "retryable": False}
    assert [str(fault) for fault in held.node.faults] == ["secret"]


def test_a_session_that_ends_gets_no_replies_and_what_waits_is_dropped() -> None:
    held = Held()
    held.send(1, 2)
    held.node.commands.submit(held.publisher.session, Ping(3))
    held.send(4)
    held.publisher.session.close(4000, "over")
    before = len(held.publisher.link.received)
    held.answer(0, 1)
    assert held.sent == [1, 2]
    assert len(held.publisher.link.received) == before
    assert held.publisher.session.inbox is None


@pytest.mark.parametrize("most", [3, 2 * _BEGUN_AT_ONCE + 1])
def test_a_publisher_is_not_read_from_while_as_many_are_under_way_as_may_wait(most: int) -> None:
    held = Held(inbox_max_commands=most)
    held.send(*range(most - 1))
    assert held.publisher.link.reading
    held.send(most - 1)
    assert not held.publisher.link.reading
    held.answer(*range(most - 1))
    assert not held.publisher.link.reading
    held.answer(most - 1)
    assert held.publisher.link.reading
    assert held.replies() == list(range(most))


def test_publications_under_way_count_by_their_bytes() -> None:
    held = Held(inbox_max_bytes=4)
    held.send(10)
    assert held.publisher.link.reading
    held.send(11)
    assert not held.publisher.link.reading


def test_a_bounded_number_of_waiting_publications_goes_to_the_broker_in_one_step() -> None:
    """The others follow when those are answered."""
    held = Held()
    session, count = held.publisher.session, _BEGUN_AT_ONCE + 5
    held.send(0)
    held.node.commands.submit(session, Ping("p"))
    held.send(*range(1, count + 1))
    held.answer(0)
    assert held.sent == list(range(_BEGUN_AT_ONCE + 1))
    held.answer(*range(1, _BEGUN_AT_ONCE + 1))
    assert held.sent == list(range(count + 1))
    held.answer(*range(_BEGUN_AT_ONCE + 1, count + 1))
    assert held.replies() == [0, "p", *range(1, count + 1)]


def test_replies_that_go_another_way_are_in_order_too() -> None:
    held = Held()
    replies: list[Reply] = []
    for number in (1, 2):
        command = Publish(number, "a", b"%d" % number)
        held.node.commands.submit(held.publisher.session, command, replies.append)
    held.answer(1)
    assert replies == []
    held.answer(0)
    assert [reply.id for reply in replies] == [1, 2]
    assert held.replies() == []
