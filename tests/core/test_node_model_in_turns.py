"""One node, tried in every order, where each turn of the loop does the least that it may.

One member comes into step with a batch, one leaves an ended channel in a turn, and one session
joins a new channel. So every other thing happens between two turns, too. Sessions leave their own
channels at once: a question about one waits for the last of those turns, and the model does not.
"""

import pytest
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test

from hub.core.fanout import group, membership
from hub.core.recovery import pattern_subscribing
from hub.core.session import outbox_budget
from hub.core.time import heartbeats
from tests.core.test_node_model import PROFILE, OneNode

BOUNDS = [
    (membership, "_AT_ONCE"),
    (group, "COME_IN_AT_ONCE"),
    (pattern_subscribing, "LEFT_AT_ONCE"),
    (pattern_subscribing, "SLICE_SESSIONS"),
    (heartbeats, "BEATS_AT_ONCE"),
    (heartbeats, "CUTS_AT_ONCE"),
    (outbox_budget, "CLOSED_IN_A_LOOK"),
]


@pytest.mark.timeout(300)
def test_whatever_happens_between_two_turns_the_promise_holds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for module, bound in BOUNDS:
        monkeypatch.setattr(module, bound, 1)
    fewer = settings(PROFILE, max_examples=PROFILE.max_examples // 2)
    run_state_machine_as_test(OneNode, settings=fewer)
