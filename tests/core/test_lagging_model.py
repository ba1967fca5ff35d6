"""One node of several, tried in every order: `test_node_model` behind a pub/sub that lags.

History is ahead of the node, so are subscribers who come from other nodes; what is lost on the
way is filled from history or announced to those who have not got it.
"""

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import rule, run_state_machine_as_test

from tests.core import test_node_model
from tests.core.examples import names, peers
from tests.core.lagging_node import LaggingNode
from tests.core.test_node_model import PROFILE, OneNode


class OneOfSeveral(OneNode):
    """The steps that the model can take on one node and on the way to it."""

    node: LaggingNode

    def __init__(self) -> None:
        super().__init__()
        self.patch.setattr(test_node_model, "SmallNode", LaggingNode)

    @rule(name=names, count=st.integers(1, 5))
    def arrive(self, name: int, count: int) -> None:
        self.node.arrive(self.names[name], count)

    @rule(name=names, index=st.integers(0, 5))
    def lose_on_its_way(self, name: int, index: int) -> None:
        self.node.lose(self.names[name], index)

    @rule(name=names)
    def lose_all_on_its_way(self, name: int) -> None:
        for index in range(5):
            self.node.lose(self.names[name], index)

    @rule(peer=peers, name=names, back=st.integers(0, 2))
    def come_from_another_node(self, peer: int, name: int, back: int) -> None:
        """Which was further than this one: a resume from near history's head."""
        self.reconnect(peer)
        self.subscribe_since(peer, name, back, 1, fill=False)

    @rule(name=names)
    def compare(self, name: int) -> None:
        self.node.catch_up(self.names[name])

    @rule(name=names)
    def arrive_and_settle(self, name: int) -> None:
        """Delivers all that is on its way, as when nothing lags."""
        self.node.catch_up(self.names[name])
        self.node.loop.settle()

    def everything_arrives_or_was_announced(self) -> None:
        for _ in range(4):
            self.node.loop.settle()
            for name in self.names:
                self.node.catch_up(name)
            self.node.loop.settle()
            for peer in self.peers:
                peer.link.drain()
        super().everything_arrives_or_was_announced()


# Four seconds of CPU; a busy machine has taken two minutes for them.
@pytest.mark.timeout(300)
def test_whatever_lags_or_is_lost_every_message_arrives_or_its_loss_is_announced() -> None:
    """The promise of clients/PROTOCOL.md holds at the seam between history and pub/sub."""
    run_state_machine_as_test(OneOfSeveral, settings=PROFILE)
