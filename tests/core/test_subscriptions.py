"""A session's subscriptions: a dictionary in all but its size."""

import sys
from types import SimpleNamespace
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.core.session.subscription import Subscription
from hub.core.session.subscriptions import Subscriptions


def subscription(channel: str) -> Subscription:
    return cast("Subscription", SimpleNamespace(channel=SimpleNamespace(name=channel)))


_STEPS = st.lists(
    st.tuples(st.sampled_from(["set", "pop", "delete"]), st.sampled_from(["a", "b", "c"])),
    max_size=20,
)


@given(_STEPS)
def test_it_does_what_a_dictionary_does(steps: list[tuple[str, str]]) -> None:
    ours, theirs = Subscriptions(), dict[str, Subscription]()
    for step, name in steps:
        if step == "set":
            ours[name] = theirs[name] = subscription(name)
        elif step == "pop":
            assert ours.pop(name, None) is theirs.pop(name, None)
        elif name in theirs:
            del ours[name], theirs[name]
        else:
            with pytest.raises(KeyError):
                del ours[name]
        assert list(ours) == list(theirs)
        assert list(ours.values()) == list(theirs.values())
        assert list(ours.items()) == list(theirs.items())
        assert (len(ours), bool(ours)) == (len(theirs), bool(theirs))
        for each in "abc":
            assert (each in ours) == (each in theirs)
            assert ours.get(each) is theirs.get(each)
            assert ours.get(each, 0) is theirs.get(each, 0)
    with pytest.raises(KeyError):
        ours["unknown"]


def test_for_one_it_takes_a_third_of_a_dictionary() -> None:
    ours = Subscriptions()
    ours["a"] = subscription("a")
    assert sys.getsizeof(ours) * 3 < sys.getsizeof({"a": ours["a"]})
