"""A channel is two epochs on before a member had its turn, and the member does not wait for it."""

from hub.core.commands import Subscribe, SubscribePattern, Unsubscribe
from hub.core.forensics.answers import Fate
from hub.core.forensics.question import Question
from hub.core.publication import Position
from tests.core.small_node import SmallNode
from tests.core.subscribers import Subscriber

LONG = b'"%0998d"' % 0


def two_epochs_on(node: SmallNode) -> list[Position]:
    """Return the heads of three epochs: the first was sent, and two more are still to be told."""
    node.publish("a")
    node.loop.settle()
    heads = [node.channels["a"].head]
    for count in (2, 1):
        node.begin_epoch("a")
        for _ in range(count):
            node.publish("a", LONG)
        heads.append(node.channels["a"].head)
    return heads


def test_a_member_that_leaves_is_known_to_have_got_each_epoch_and_nothing_later() -> None:
    node = SmallNode()
    stays, leaver = Subscriber(node, "a"), Subscriber(node, "a")
    heads = two_epochs_on(node)
    node.commands.submit(leaver.session, Unsubscribe(9, "a"))
    node.publish("a")
    node.loop.settle()
    fates = [
        [
            node.explain(reader.session, Question("a", head.epoch, offset, head.offset)).answer
            for head in (*heads, node.channels["a"].head)
            for offset in range(1, head.offset + 1)
        ]
        for reader in (stays, leaver)
    ]
    written, left = Fate.WRITTEN, Fate.NOT_SUBSCRIBED
    assert fates[0][:6] == [written] * 6
    assert fates[1] == [written] * 5 + [left]


def test_a_peer_that_took_the_first_of_two_resets_resumes_within_its_epoch() -> None:
    """A subscribe by name, of what its pattern brought, is answered behind what its channel had.

    Were its place one of the newest epoch, a peer that is cut now would miss what came first there.
    """
    node = SmallNode()
    reader = Subscriber(node)
    node.do(reader.session, SubscribePattern(1, "*"))
    Subscriber(node, "a")
    _, between, _ = two_epochs_on(node)
    reader.link.room = 500
    node.commands.submit(reader.session, Subscribe(2, "a"))
    assert reader.session.subscriptions["a"].resume_from == Position(between.epoch, 1)
