"""Each command does what it says, or says why not."""

import pytest

from hub.core.commands import Authenticate, History, Ping, Publish
from hub.core.identity import Identity
from hub.core.options import ChannelOptions, Namespaces
from hub.core.ports import HistoryPage, PublishRequest, PublishResult
from hub.core.publication import Position
from hub.core.reading import MAX_HISTORY_BYTES
from hub.errors import BadRequestError, UnavailableError
from tests.core.small_node import Shape, SmallNode
from tests.core.subscribers import Subscriber
from tests.support.stream import Push

ANN = Identity(subject="ann", publisher="ann", subscribe=("a",), publish=("a",))


def one(reader: Subscriber) -> Push:
    (push,) = reader.read()
    return push


def error(push: Push) -> dict[str, object]:
    found = push["error"]
    assert isinstance(found, dict)
    return found


def test_a_ping_is_answered_with_its_id() -> None:
    reader = Subscriber(SmallNode())
    reader.node.do(reader.session, Ping("x"))
    assert one(reader) == {"op": "reply", "id": "x", "ok": {}}


def test_publishing_answers_with_the_position_and_reaches_subscribers() -> None:
    """The sender is the token's subject, whatever the command says."""
    node = SmallNode()
    reader, publisher = Subscriber(node, "a"), Subscriber(node, identity=ANN)
    node.do(publisher.session, Publish(1, "a", b'{"n":1}', key="k"))
    epoch = node.channels["a"].epoch
    assert one(publisher)["ok"] == {"channel": "a", "epoch": epoch, "offset": 1}
    message = one(reader)
    assert (message["data"], message["key"], message["from"]) == ({"n": 1}, "k", "ann")
    assert node.counters.publications == 1


def test_a_repeated_publish_gets_the_first_answer_and_says_so() -> None:
    node = SmallNode()
    publisher = Subscriber(node, identity=ANN)
    for _ in range(2):
        node.do(publisher.session, Publish(1, "a", b"1", idempotency_key="i"))
    first, second = (push["ok"] for push in publisher.read())
    assert isinstance(first, dict)
    assert second == first | {"duplicate": True}
    assert (node.counters.publications, node.counters.duplicates) == (1, 1)


@pytest.mark.parametrize("command", [Publish(1, "b", b"1"), History(1, "b")])
def test_without_a_grant_nothing_happens(command: Publish | History) -> None:
    node = SmallNode()
    reader = Subscriber(node, identity=ANN)
    node.do(reader.session, command)
    push = one(reader)
    assert (push["id"], error(push)["code"], error(push)["retryable"]) == (1, "forbidden", False)
    assert node.memory.names() == ()
    assert node.counters.command_errors == {"forbidden": 1}


def test_history_is_answered_with_publications_and_the_head() -> None:
    node = SmallNode(Shape(Namespaces(ChannelOptions(history_size=3))))
    places = [node.publish("a", b"%d" % n).position for n in range(5)]
    reader = Subscriber(node)
    node.do(reader.session, History(1, "a", since=places[2], limit=1))
    ok = one(reader)["ok"]
    assert isinstance(ok, dict)
    assert (ok["position"], ok["oldest"]) == (str(places[4]), 3)
    assert [(p["offset"], p["data"]) for p in ok["publications"]] == [(4, 3)]


def test_history_since_another_epoch_is_all_there_is() -> None:
    node = SmallNode()
    for _ in range(3):
        node.publish("a")
    reader = Subscriber(node)
    node.do(reader.session, History(1, "a", since=Position("before", 2)))
    ok = one(reader)["ok"]
    assert isinstance(ok, dict)
    assert [p["offset"] for p in ok["publications"]] == [1, 2, 3]


@pytest.mark.parametrize("limit", [0, -1, 1001])
async def test_a_limit_that_is_not_allowed_is_refused_with_both_bounds(limit: int) -> None:
    with pytest.raises(BadRequestError, match=f"limit is {limit}, allowed is 1 to 1000"):
        await SmallNode().reading.history("a", None, limit)


async def test_a_history_answer_is_bounded_in_bytes() -> None:
    """The page holds fewer publications than were asked for, but at least one."""
    node = SmallNode()
    for _ in range(30):
        node.publish("a", b'"%b"' % (b"x" * 60_000))
    page = await node.reading.history("a", None, 100)
    assert len(page.publications) == MAX_HISTORY_BYTES // 60_002
    for _ in range(30):
        tags = b'{"a":"%b"}' % (b"x" * 60_000)
        node.request(PublishRequest("tagged", b"1", "backend", tags=tags))
    page = await node.reading.history("tagged", None, 100)
    assert len(page.publications) == MAX_HISTORY_BYTES // 60_009
    node.publish("big", b'"%b"' % (b"x" * MAX_HISTORY_BYTES))
    assert len((await node.reading.history("big", None, 5)).publications) == 1


async def test_a_history_answer_is_put_together_from_what_a_broker_gives_at_a_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The publications come in order, up to the limit or the bytes, and
    end where one is missing."""
    node = SmallNode(Shape(Namespaces(ChannelOptions(history_size=50))))
    for number in range(60):
        node.publish("a", b'"%059998d"' % number)
    read, pages = node.memory.history, []

    async def history(channel: str, after: int, limit: int, *, max_bytes: int) -> HistoryPage:
        page = await read(channel, after, min(limit, 4), max_bytes=min(max_bytes, 200_000))
        pages.append(page)
        if len(pages) == 9:
            # Somebody publishes much meanwhile.
            for _ in range(20):
                node.publish("a")
        return page

    monkeypatch.setattr(node.memory, "history", history)
    first = await node.reading.history("a", None, 7)
    assert [publication.offset for publication in first.publications] == list(range(11, 18))
    assert first.oldest == 11
    full = await node.reading.history("a", Position(first.head.epoch, 17), 1000)
    offsets = [publication.offset for publication in full.publications]
    assert offsets == list(range(18, 18 + MAX_HISTORY_BYTES // 60_000))
    assert full.oldest == 11
    trimmed = await node.reading.history("a", None, 1000)
    offsets = [publication.offset for publication in trimmed.publications]
    assert offsets == list(range(offsets[0], offsets[0] + len(offsets)))


async def test_publishing_is_refused_while_too_much_waits_to_be_written() -> None:
    """The error gives the numbers, and says that the publication can be tried again."""
    node = SmallNode(Shape(max_backlog_bytes=100))
    reader = Subscriber(node, "a")
    node.publish("a", b'"%b"' % (b"x" * 200))
    node.do(reader.session, Ping(1))
    node.publish("a", b'"%b"' % (b"x" * 200))
    publisher = Subscriber(node)
    node.publish("a", b'"%b"' % (b"x" * 200))
    node.commands.submit(publisher.session, Publish(1, "a", b"1"))
    node.loop.step()
    push = one(publisher)
    assert error(push)["code"] == "unavailable"
    assert "limit is 100" in str(error(push)["message"])
    assert node.counters.publish_errors == {UnavailableError.code: 1}
    node.loop.settle()
    node.do(publisher.session, Publish(2, "a", b"1"))
    assert "ok" in one(publisher)


def test_many_are_not_published_in_one_call_where_the_bound_may_come_between_two() -> None:
    """They are published one by one then, so that only the one above the bound is refused."""
    node = SmallNode(Shape(max_backlog_bytes=100))
    Subscriber(node, "a")
    data = b'"%b"' % (b"x" * 58)
    handler, asked = node.publishing, PublishRequest("a", data, "backend")
    assert handler.publish_many_now([asked, asked]) is None
    assert node.counters.publications == 0
    outcomes = handler.publish_many_now([asked])
    assert outcomes is not None
    assert [isinstance(each, PublishResult) for each in outcomes] == [True]
    assert node.counters.publications == 1


def test_a_new_token_replaces_the_old() -> None:
    """The new token must have the same subject, and must cover all that is subscribed to."""
    node = SmallNode()
    reader = Subscriber(node, "a", identity=ANN)
    wider = Identity(subject="ann", subscribe=("a", "b"))
    node.policy.known = {
        "wider": wider,
        "narrow": Identity(subject="ann", subscribe=("b",)),
        "bob": Identity(subject="bob", subscribe=("*",)),
    }
    codes = []
    for token in ("narrow", "bob", "unknown"):
        node.do(reader.session, Authenticate(1, token))
        codes.append(error(one(reader))["code"])
    assert codes == ["forbidden", "forbidden", "unauthorized"]
    assert reader.session.identity is ANN
    node.do(reader.session, Authenticate(1, "wider"))
    assert one(reader)["ok"] == {"expires_in_seconds": None}
    assert reader.session.identity is wider
