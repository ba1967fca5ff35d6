"""Grants cover a channel by its name or by a prefix."""

import pytest

from hub.core.identity import Identity, matches
from hub.errors import ForbiddenError


@pytest.mark.parametrize(
    ("pattern", "channel", "granted"),
    [
        ("prices", "prices", True),
        ("prices", "prices2", False),
        ("prices", "price", False),
        ("chat:*", "chat:42", True),
        ("chat:*", "chat:", True),
        ("chat:*", "chat", False),
        ("chat:*", "chatter", False),
        ("*", "anything", True),
        ("a*b", "axb", False),
        ("", "a", False),
    ],
)
def test_a_pattern_is_a_name_or_a_prefix(pattern: str, channel: str, granted: bool) -> None:
    """A star stands for something only at the end."""
    assert matches(pattern, channel) is granted


def test_subscribing_and_publishing_are_granted_apart() -> None:
    """Without a grant neither is allowed."""
    identity = Identity(subscribe=("a", "b:*"), publish=("c",))
    identity.check_subscribe("b:1")
    identity.check_publish("c")
    with pytest.raises(ForbiddenError, match="subscribe to 'c'"):
        identity.check_subscribe("c")
    with pytest.raises(ForbiddenError, match="publish on 'a'"):
        identity.check_publish("a")
    with pytest.raises(ForbiddenError):
        Identity().check_subscribe("a")


def test_only_operators_read_the_hubs_own_channels_and_nobody_publishes_on_them() -> None:
    """The grants do not matter: `*` is meant for the application's channels."""
    everything = Identity(subscribe=("*",), publish=("*",))
    operator = Identity(subscribe=("*",), publish=("*",), operator=True)
    assert not everything.may_subscribe("hub:stats")
    assert operator.may_subscribe("hub:stats")
    assert everything.may_subscribe("hubris")
    for identity in (everything, operator):
        with pytest.raises(ForbiddenError):
            identity.check_publish("hub:stats")
