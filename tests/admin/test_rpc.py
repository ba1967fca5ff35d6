"""A request is carried out where it belongs, and its answer or its error comes back as it is."""

import json
from typing import ClassVar

import pytest
import structlog

from hub.admin.drain import Closing, Shed, excess, rebalance
from hub.admin.requests import (
    HERE,
    AdminRequest,
    AtConnection,
    AtNode,
    AtTag,
    Everywhere,
    Handlers,
    Rights,
)
from hub.admin.rpc import AdminRpc, NoOtherNodes, by_name
from hub.admin.sessions import SendCommand
from hub.errors import (
    BadRequestError,
    ConflictError,
    HubError,
    NotFoundError,
    OutcomeUnknownError,
    UnavailableError,
)
from tests.admin.network import Network, node_record

A, B = "aaaaaaaa", "bbbbbbbb"


class WhoAreYou(AdminRequest[str | None], frozen=True, tag="who"):
    """Answers with the node's tag and what was asked."""

    text: str = ""


class Refuse(AdminRequest[None], frozen=True, tag="refuse"):
    fault: bool = False


class OnlyNew(AdminRequest[None], frozen=True, tag="only_new"):
    """No node but the first one knows it."""

    rights: ClassVar[Rights] = Rights.SESSION


def handlers(tag: str) -> Handlers:
    async def who(asked: WhoAreYou) -> str | None:
        return f"{tag} {asked.text}" if asked.text else None

    async def refuse(asked: Refuse) -> None:
        if asked.fault:
            raise ZeroDivisionError
        raise ConflictError("not now")

    async def command(asked: SendCommand) -> bytes:
        return tag.encode() + asked.raw

    return {WhoAreYou: who, Refuse: refuse, SendCommand: command}


async def two() -> tuple[Network, AdminRpc, AdminRpc]:
    async def only_new(_asked: OnlyNew) -> None: ...

    network = Network()
    first = await network.join(A, {**handlers(A), OnlyNew: only_new})
    return network, first, await network.join(B, handlers(B))


@pytest.mark.parametrize(
    ("at", "tag"),
    [
        (HERE, A),
        (AtConnection(f"{A}1"), A),
        (AtConnection(f"{B}1"), B),
        (AtConnection("short"), A),
        (AtConnection("--------1"), A),
        (AtConnection(""), A),
        (AtNode(A), A),
        (AtNode(B), B),
        (AtTag(B), B),
    ],
)
async def test_a_node_is_asked_by_what_is_known_of_it(at: AtConnection, tag: str) -> None:
    """A request for a connection whose name holds no node's tag is answered here."""
    _, first, _ = await two()
    assert await first.call(WhoAreYou("you"), at) == f"{tag} you"
    assert await first.call(WhoAreYou(), at) is None


async def test_a_node_that_is_alone_has_every_connection() -> None:
    """The form of the connection's id does not matter, because no other
    node can say more about it."""
    made = AdminRpc(
        tag=A,
        bus=NoOtherNodes(),
        handlers=handlers(A),
        record=lambda: node_record(A),
        log=structlog.get_logger(),
    )
    await made.start()
    assert made.holds(f"{B}1")
    assert await made.call(WhoAreYou("you"), AtConnection(f"{B}1")) == f"{A} you"
    assert (await made.call(WhoAreYou("all"), Everywhere())).by_tag == {A: f"{A} all"}
    with pytest.raises(NotFoundError):
        await made.call(WhoAreYou(), AtTag(B))
    await made.stop()


async def test_the_error_of_a_node_is_the_askers() -> None:
    """The error keeps its class and its words; a fault of the hub itself says nothing more."""
    _, first, _ = await two()
    for at in (HERE, AtTag(B)):
        with pytest.raises(ConflictError, match="not now"):
            await first.call(Refuse(), at)
    with pytest.raises(HubError, match="internal error") as failed:
        await first.call(Refuse(fault=True), AtTag(B))
    assert failed.value.code == "internal"


async def test_a_node_that_lives_no_more_is_not_found() -> None:
    network, first, _ = await two()
    network.gone.add(B)
    for at, why in (
        (AtTag(B), "lives no more"),
        (AtNode(B), "lives no more"),
        (AtConnection(f"{B}1"), "is not open"),
        (AtNode("nobody"), "no node 'nobody' lives"),
    ):
        with pytest.raises(NotFoundError, match=why):
            await first.call(WhoAreYou(), at)


async def test_a_node_that_does_not_answer_is_unavailable() -> None:
    network, first, _ = await two()
    network.silent.add(B)
    with pytest.raises(UnavailableError, match="cannot be asked: it does not answer"):
        await first.call(WhoAreYou(), AtTag(B))


@pytest.mark.parametrize(
    ("command", "error"),
    [
        ({"op": "publish", "id": 1, "channel": "a", "data": 1}, OutcomeUnknownError),
        ({"op": "ping", "id": 1}, UnavailableError),
        ({"op": "publish", "id": 1}, UnavailableError),
    ],
)
async def test_a_publish_without_an_answer_may_have_been_made(
    command: dict[str, object], error: type[HubError]
) -> None:
    """The error is `outcome_unknown`, so that nobody repeats the publication as if it had
    failed; other commands can be repeated."""
    network, first, _ = await two()
    asked = SendCommand(f"{B}1", "right", json.dumps(command).encode())
    network.silent.add(B)
    with pytest.raises(error) as silent:
        await first.call(asked, AtConnection(asked.connection))
    assert type(silent.value) is error
    network.away = True
    with pytest.raises(UnavailableError, match="Redis is away"):
        await first.call(asked, AtConnection(asked.connection))


async def test_all_nodes_are_asked_at_once() -> None:
    """A silent one is named; one that has just ended is none; an own error is an error."""
    network, first, _ = await two()
    await network.join("cccccccc", handlers("c"))
    await network.join("dddddddd", handlers("d"))
    network.silent.add("cccccccc")
    network.gone.add("dddddddd")
    answers = await first.call(WhoAreYou("all"), Everywhere())
    assert answers.by_tag == {A: f"{A} all", B: f"{B} all"}
    assert (answers.unanswered, answers.unknown, answers.complete) == (("cccccccc",), None, False)
    of_one = await first.call(WhoAreYou("all"), Everywhere(B))
    assert (of_one.by_tag, of_one.complete) == ({B: f"{B} all"}, True)
    with pytest.raises(ConflictError):
        await first.call(Refuse(), Everywhere())


async def test_where_the_others_are_not_known_this_node_answers_alone() -> None:
    """The answer says that it is not complete. What is asked of itself needs nobody."""
    network, first, _ = await two()
    network.away = True
    answers = await first.call(WhoAreYou("all"), Everywhere())
    assert (answers.by_tag, answers.complete) == ({A: f"{A} all"}, False)
    assert isinstance(answers.unknown, UnavailableError)
    assert await first.call(WhoAreYou("me")) == f"{A} me"
    with pytest.raises(UnavailableError):
        await first.nodes()


async def test_a_request_that_a_node_does_not_know_is_refused_at_once() -> None:
    """A newer node asks; the older one must not keep it waiting."""
    network, first, _ = await two()
    with pytest.raises(BadRequestError, match="does not know"):
        await first.call(OnlyNew(), AtTag(B))
    for nonsense in (b"", b"\xc1", b"{}", b"x" * 1000):
        assert b"bad_request" in await network.serving[B](nonsense)


async def test_an_answer_that_cannot_be_read_is_none() -> None:
    network, first, _ = await two()

    async def nonsense(_question: bytes) -> bytes:
        return b"\xc1"

    network.serving[B] = nonsense
    with pytest.raises(UnavailableError, match="cannot be read"):
        await first.call(WhoAreYou(), AtTag(B))


async def test_nodes_are_shown_by_name() -> None:
    _, first, second = await two()
    assert await first.nodes() == await second.nodes()
    assert [record.node for record in by_name(await second.nodes())] == [A, B]


# -- rebalance -------------------------------------------------------------------------------------


def test_a_share_is_even_and_a_little_above_it_is_left_alone() -> None:
    nodes = {tag: node_record(tag, connections=n) for tag, n in (("a", 90), ("b", 30), ("c", 61))}
    assert excess(nodes) == {"a": 29, "b": 0, "c": 0}
    assert excess({}) == {}


async def test_a_rebalance_asks_every_node_that_stays_for_what_is_too_much() -> None:
    """A node that drains is left out; one that does not answer closes nothing that is known."""
    network, asked = Network(), []

    def node(tag: str) -> Handlers:
        async def shed(request: Shed) -> Closing:
            asked.append((tag, request.count, request.window_seconds))
            return Closing(closing=request.count, window_seconds=3.0)

        return {Shed: shed}

    first = await network.join("a", node("a"), connections=10)
    await network.join("b", node("b"), connections=0)
    await network.join("c", node("c"), connections=0)
    await network.join("d", node("d"), connections=50, draining=True)
    network.silent.add("c")
    assert await rebalance(first, 3.0) == [
        {"node": "a", "connections": 10, "closing": 6},
        {"node": "b", "connections": 0, "closing": 0},
        {"node": "c", "connections": 0, "closing": None},
    ]
    assert sorted(asked) == [("a", 6, 3.0), ("b", 0, 3.0)]


async def test_a_node_answers_for_itself_where_the_others_are_not_known() -> None:
    """The node can be asked by its name too, and still lists what the others said last."""
    network, first, _ = await two()
    await first.nodes()
    network.away = True
    assert await first.call(WhoAreYou("here"), AtNode(A)) == f"{A} here"
    with pytest.raises(UnavailableError):
        await first.call(WhoAreYou("there"), AtNode(B))
    with pytest.raises(UnavailableError):
        await first.nodes()
    assert set(first.last_known()) == {A, B}
