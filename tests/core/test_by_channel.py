"""What a session has of its channels: a dictionary in all but its size."""

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.core.session.places import ByChannel

_STEPS = st.lists(
    st.tuples(
        st.sampled_from(["set", "default", "pop", "delete"]), st.sampled_from(["a", "b", "c"])
    ),
    max_size=20,
)


@given(_STEPS)
def test_it_does_what_a_dictionary_does(steps: list[tuple[str, str]]) -> None:
    ours, theirs = ByChannel[str](), dict[str, str]()
    for number, (step, name) in enumerate(steps):
        if step == "set":
            ours[name] = theirs[name] = f"{name}{number}"
        elif step == "default":
            assert ours.setdefault(name, "x") == theirs.setdefault(name, "x")
        elif step == "pop":
            assert ours.pop(name, None) == theirs.pop(name, None)
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
            assert ours.get(each) == theirs.get(each)
            assert ours.get(each, 0) == theirs.get(each, 0)
    with pytest.raises(KeyError):
        ours["unknown"]
    with pytest.raises(KeyError):
        ours.pop("unknown")


def test_for_one_it_takes_a_third_of_a_dictionary() -> None:
    ours = ByChannel[int]()
    ours["a"] = 1
    assert sys.getsizeof(ours) * 3 < sys.getsizeof({"a": ours["a"]})
