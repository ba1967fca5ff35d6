"""An operator sees what a subject received and missed, over all its connections."""

from typing import Any

from msgspec import to_builtins

from hub.admin.explain_subject import ExplainSubject, explain_subject
from hub.admin.subject_here import MAX_VISITS, SubjectExplaining
from hub.core.identity import Identity
from hub.core.options import ChannelOptions, Namespaces
from tests.admin.network import Network
from tests.core.small_node import Shape, SmallNode, limits
from tests.core.subscribers import Subscriber

ADA = Identity(subject="ada", subscribe=("orders", "news"), publish=("*",))
BOB = Identity(subject="bob", subscribe=("*",), publish=("*",))


class Town:
    """Two nodes on a bus, each with a broker of its own; the first one is asked."""

    def __init__(self) -> None:
        self.network = Network()
        self.nodes = {"one": self._node(), "two": self._node()}

    def _node(self) -> SmallNode:
        keeps = Namespaces(ChannelOptions(history_size=5), {})
        return SmallNode(Shape(keeps, limits=limits(outbox_max_messages=3)))

    @property
    def node(self) -> SmallNode:
        return self.nodes["one"]

    async def ask(self, **asked: Any) -> dict[str, Any]:
        rpcs = []
        for tag, node in self.nodes.items():
            made = SubjectExplaining(node.evidence())
            rpcs.append(await self.network.join(tag, made.handlers()))
        told = await explain_subject(rpcs[0], ExplainSubject(**asked))
        plain: dict[str, Any] = to_builtins(told)
        return plain


def line(told: dict[str, Any]) -> list[tuple[str, int | None, int | None]]:
    return [(each["what"], each.get("first"), each.get("last")) for each in told["events"]]


async def test_all_connections_of_a_subject_stand_on_one_line_of_time() -> None:
    """The line shows what the subject received, when it was cut off, what it missed and what it
    received after its return."""
    town = Town()
    node = town.node
    first = Subscriber(node, "orders", identity=ADA)
    others = Subscriber(node, "orders", identity=BOB)
    node.clock.advance(1)
    others.publish("orders", 3)
    node.clock.advance(1)
    first.session.lost(1006, "cut")
    node.clock.advance(1)
    others.publish("orders", 2)
    node.clock.advance(1)
    second = Subscriber(node, "orders", identity=ADA)
    node.clock.advance(1)
    others.publish("orders", 1)
    told = await town.ask(subject="ada")
    assert [each["connection"] for each in told["connections"]] == [
        first.session.id,
        second.session.id,
    ]
    assert line(told) == [
        ("opened", None, None),
        ("subscribed", None, None),
        ("written", 1, 3),
        ("closed", None, None),
        ("absent", 4, 5),
        ("opened", None, None),
        ("subscribed", None, None),
        ("written", 6, 6),
    ]
    absent = told["events"][4]
    assert f"{first.session.id} had ended: 1006 cut" in absent["detail"]
    assert f"{second.session.id} began after 5" in absent["detail"]
    times = [each["at_ms"] for each in told["events"]]
    assert times == sorted(times)
    assert told["complete"]


async def test_a_publication_is_answered_over_all_connections_of_the_subject() -> None:
    """The connection that says most decides: a publication that one
    connection got was not missed."""
    town = Town()
    node = town.node
    cut = Subscriber(node, "orders", identity=ADA)
    cut.block()
    others = Subscriber(node, "orders", identity=BOB)
    others.publish("orders", 8)
    dropped = (await town.ask(subject="ada", channel="orders", offset=3))["explained"]
    assert (dropped["answer"], dropped["head"]) == ("dropped", 8)
    assert "drop_oldest" in dropped["detail"]
    stays = Subscriber(node, "orders", identity=ADA)
    others.publish("orders", 1)
    told = await town.ask(subject="ada", channel="orders", offset=9)
    assert told["explained"]["answer"] == "written"
    assert told["connection"] == stays.session.id
    by_connection = {
        each["connection"]: each["explained"]["answer"] for each in told["connections"]
    }
    assert by_connection == {cut.session.id: "queued", stays.session.id: "written"}


async def test_an_answer_for_a_time_between_two_connections_names_both() -> None:
    """Nobody was there for it: the answer is no connection's alone."""
    town = Town()
    node = town.node
    first = Subscriber(node, "orders", identity=ADA)
    others = Subscriber(node, "orders", identity=BOB)
    others.publish("orders", 1)
    first.session.lost(1006, "cut")
    others.publish("orders", 1)
    told = await town.ask(subject="ada", channel="orders", offset=2)
    assert told["explained"]["answer"] == "not_subscribed"
    assert "no connection of this subject has subscribed since" in told["explained"]["detail"]
    Subscriber(node, "orders", identity=ADA)
    told = await town.ask(subject="ada", channel="orders", offset=2)
    assert told["connection"] is None
    assert "began after 2" in told["explained"]["detail"]


async def test_a_publication_before_all_notes_may_have_been_got_at_a_node_that_is_gone() -> None:
    """Such as before a deploy: its notes went with it, and the answer says so."""
    town = Town()
    Subscriber(town.node, "orders", identity=BOB).publish("orders", 1)
    Subscriber(town.node, "orders", identity=ADA)
    told = await town.ask(subject="ada", channel="orders", offset=1)
    assert told["explained"]["answer"] == "not_subscribed"
    assert told["explained"]["detail"].endswith("a node noted that has stopped since is not known")


async def test_a_stretch_of_time_leaves_out_what_happened_before_and_after() -> None:
    """Connections that were open in it are named, whatever happened in it."""
    town = Town()
    node = town.node
    reader = Subscriber(node, "orders", identity=ADA)
    for _ in range(3):
        node.clock.advance(60)
        reader.publish("orders", 2)
    begin = node.clock.wall() - 90
    told = await town.ask(subject="ada", from_ms=int(begin * 1000), to_ms=int((begin + 60) * 1000))
    assert line(told) == [("written", 3, 4)]
    assert len(told["connections"]) == 1
    early = await town.ask(subject="ada", to_ms=int((begin - 3600) * 1000))
    assert (early["connections"], early["events"]) == ((), ())


async def test_losses_stand_between_what_was_written() -> None:
    """Drops, a refusal and what history brought, each with why."""
    town = Town()
    node = town.node
    reader = Subscriber(node, identity=ADA)
    reader.subscribe("secrets")
    reader.publish("orders", 7)
    reader.subscribe("orders", last=10)
    node.clock.advance(1)
    reader.publish("orders", 1)
    reader.block()
    node.clock.advance(1)
    reader.publish("orders", 6)
    node.clock.advance(2)
    reader.drain()
    told = await town.ask(subject="ada", channel="orders")
    found = [each for each in line(told) if each[1]]
    assert found == [
        ("written", 3, 7),
        ("written", 8, 9),
        ("dropped", 10, 11),
        ("written", 12, 14),
    ]
    refused = await town.ask(subject="ada", channel="secrets")
    assert [each["what"] for each in refused["events"]] == ["opened", "refused"]


async def test_each_node_tells_its_own_and_a_silent_one_is_named() -> None:
    """A part that is missing is said to be missing."""
    town = Town()
    for node in town.nodes.values():
        reader = Subscriber(node, "orders", identity=ADA)
        reader.publish("orders", 1)
    told = await town.ask(subject="ada", channel="orders")
    assert len(told["connections"]) == 2
    town.network.silent.add("two")
    told = await town.ask(subject="ada", channel="orders")
    assert (len(told["connections"]), told["complete"]) == (1, False)
    assert told["unanswered"] == ("two",)
    # The silent node may have had a connection that got the next one.
    for node in town.nodes.values():
        for session in list(node.registry.sessions.values()):
            session.lost(1006, "cut")
        node.publish("orders")
    told = await town.ask(subject="ada", channel="orders", offset=2)
    assert told["explained"]["answer"] == "unknown"
    assert "absent" not in {each["what"] for each in told["events"]}


async def test_a_subject_that_nobody_remembers_is_unknown() -> None:
    """Never a guess, and nothing of others."""
    town = Town()
    Subscriber(town.node, "orders", identity=BOB).publish("orders", 1)
    told = await town.ask(subject="ada", channel="orders", offset=1)
    assert not told["connections"]
    assert told["explained"]["answer"] == "unknown"


async def test_every_stretch_agrees_with_what_is_said_of_each_of_its_offsets() -> None:
    """A line of time is made of answers, not of guesses between them."""
    town = Town()
    node = town.node
    reader = Subscriber(node, "orders", identity=ADA)
    for turn in range(6):
        reader.publish("orders", 1 + turn)
        reader.block()
        node.clock.advance(1)
        reader.publish("orders", 5)
        node.clock.advance(1)
        reader.drain()
        if turn == 3:
            reader.unsubscribe("orders")
            reader.publish("orders", 2)
            reader.subscribe("orders")
    told = await town.ask(subject="ada", channel="orders")
    stretches = [each for each in told["events"] if each.get("first") and each["what"] != "absent"]
    assert len(stretches) > 10
    for each in stretches:
        for offset in range(each["first"], each["last"] + 1):
            one = await town.ask(subject="ada", channel="orders", offset=offset)
            assert one["explained"]["answer"] == each["what"], offset


async def test_of_many_connections_the_one_that_got_it_is_found() -> None:
    """The answer is right however many connections came after it; if not all could be looked at,
    nobody says that the subject missed it."""
    town = Town()
    node = town.node
    Subscriber(node, "orders", identity=BOB)
    first = Subscriber(node, "orders", identity=ADA)
    first.publish("orders", 1)
    for _ in range(MAX_VISITS + 5):
        node.clock.advance(1)
        Subscriber(node, "orders", identity=ADA).session.lost(1006, "cut")
    first.session.lost(1006, "cut")
    first.publish("orders", 1)
    told = await town.ask(subject="ada", channel="orders", offset=1)
    assert (told["explained"]["answer"], told["connection"]) == ("written", first.session.id)
    assert (len(told["connections"]), told["more"]) == (MAX_VISITS, True)
    told = await town.ask(subject="ada", channel="orders", offset=2)
    assert told["explained"]["answer"] == "unknown"
    assert "absent" not in {each["what"] for each in told["events"]}
